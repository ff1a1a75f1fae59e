// Package wire builds the Ethernet frames that the network audit sends, and tells what a frame
// is that arrived on the far side, and whose.
//
// Headers are those of IEEE 802.3, ARP (RFC 826), IPv4 (RFC 791), IPv6 (RFC 8200), UDP (RFC 768),
// ICMP (RFC 792, RFC 4443), IGMP (RFC 3376) and MLD (RFC 3810). It reassembles nothing, follows no connection and
// checks no checksum: a frame that is broken has left the board all the same.
package wire

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Ethertypes.
const (
	TypeIPv4    = 0x0800
	TypeARP     = 0x0806
	TypeVLAN    = 0x8100
	TypeIPv6    = 0x86dd
	TypePPPoE   = 0x8863 // discovery
	TypeEAPOL   = 0x888e
	TypeLLDP    = 0x88cc
	TypeMACsec  = 0x88e5
	TypePrivate = 0x88b5 // IEEE 802: local experimental
)

// IP protocols.
const (
	ProtoICMP    = 1
	ProtoIGMP    = 2
	ProtoIPIP    = 4
	ProtoTCP     = 6
	ProtoUDP     = 17
	ProtoDCCP    = 33
	ProtoIPv6    = 41
	ProtoGRE     = 47
	ProtoICMPv6  = 58
	ProtoL2TP    = 115
	ProtoSCTP    = 132
	ProtoUDPLite = 136
	ProtoPrivate = 253 // RFC 3692
)

const (
	etherLen = 14
	arpLen   = 28
	ip4Len   = 20
	ip6Len   = 40
	udpLen   = 8
	tcpLen   = 20
	hopLimit = 64
)

// Broadcast is the Ethernet address of everybody.
var Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Ether puts a header before payload.
func Ether(dst, src net.HardwareAddr, etherType uint16, payload []byte) []byte {
	p := make([]byte, 0, etherLen+len(payload))
	p = append(append(p, dst[:6]...), src[:6]...)
	p = binary.BigEndian.AppendUint16(p, etherType)
	return append(p, payload...)
}

// ARP operations.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is a message that asks or tells whose address target is. Both addresses are IPv4.
func ARP(op uint16, senderMAC net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) []byte {
	p := make([]byte, 0, arpLen)
	p = append(p, 0, 1, 0x08, 0, 6, 4)
	p = binary.BigEndian.AppendUint16(p, op)
	p = append(append(p, senderMAC[:6]...), sender.AsSlice()...)
	return append(append(p, targetMAC[:6]...), target.AsSlice()...)
}

// IP puts the header before payload that the addresses' family wants.
func IP(src, dst netip.Addr, proto byte, payload []byte) []byte {
	return IPHops(src, dst, proto, hopLimit, payload)
}

// IPHops is IP with a hop limit of the caller's.
func IPHops(src, dst netip.Addr, proto, hops byte, payload []byte) []byte {
	if dst.Is4() {
		return ip4(src, dst, proto, hops, payload)
	}
	p := make([]byte, ip6Len, ip6Len+len(payload))
	p[0] = 6 << 4
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	p[6], p[7] = proto, hops
	copy(p[8:], src.AsSlice())
	copy(p[24:], dst.AsSlice())
	return append(p, payload...)
}

func ip4(src, dst netip.Addr, proto, hops byte, payload []byte) []byte {
	p := make([]byte, ip4Len, ip4Len+len(payload))
	p[0] = 4<<4 | ip4Len/4
	binary.BigEndian.PutUint16(p[2:], uint16(ip4Len+len(payload)))
	p[8], p[9] = hops, proto
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(p[10:], Checksum(0, p))
	return append(p, payload...)
}

// UDP is a whole IP datagram.
func UDP(src, dst netip.AddrPort, payload []byte) []byte {
	p := make([]byte, udpLen, udpLen+len(payload))
	binary.BigEndian.PutUint16(p[0:], src.Port())
	binary.BigEndian.PutUint16(p[2:], dst.Port())
	binary.BigEndian.PutUint16(p[4:], uint16(udpLen+len(payload)))
	p = append(p, payload...)
	sum := Checksum(pseudo(src.Addr(), dst.Addr(), ProtoUDP, len(p)), p)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(p[6:], sum)
	return IP(src.Addr(), dst.Addr(), ProtoUDP, p)
}

// SYN is a whole IP datagram that opens a TCP connection.
func SYN(src, dst netip.AddrPort) []byte {
	p := make([]byte, tcpLen)
	binary.BigEndian.PutUint16(p[0:], src.Port())
	binary.BigEndian.PutUint16(p[2:], dst.Port())
	p[12], p[13] = tcpLen/4<<4, 2
	binary.BigEndian.PutUint16(p[14:], 1024)
	binary.BigEndian.PutUint16(p[16:], Checksum(pseudo(src.Addr(), dst.Addr(), ProtoTCP, len(p)), p))
	return IP(src.Addr(), dst.Addr(), ProtoTCP, p)
}

// ICMP types that the audit sends or knows.
const (
	Echo4     = 8
	MLDQuery  = 130
	Echo6     = 128
	Solicit   = 135 // neighbour
	Advertise = 136 // neighbour
	Router    = 134 // advertisement
)

// ICMP is a message without IP header: kind and code, then body. It has a checksum of its family's kind, for which
// ICMPv6 needs the addresses.
func ICMP(src, dst netip.Addr, kind, code byte, body []byte) []byte {
	p := append([]byte{kind, code, 0, 0}, body...)
	sum := uint32(0)
	if dst.Is6() {
		sum = pseudo(src, dst, ProtoICMPv6, len(p))
	}
	binary.BigEndian.PutUint16(p[2:], Checksum(sum, p))
	return p
}

// EchoBody is what follows the checksum of an echo request.
func EchoBody(id, seq uint16, data []byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, id)
	return append(binary.BigEndian.AppendUint16(p, seq), data...)
}

// Checksum is the Internet checksum (RFC 1071) of p on top of sum.
func Checksum(sum uint32, p []byte) uint16 {
	for ; len(p) >= 2; p = p[2:] {
		sum += uint32(binary.BigEndian.Uint16(p))
	}
	if len(p) == 1 {
		sum += uint32(p[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudo sums the pseudo header of RFC 768 and RFC 8200.
func pseudo(src, dst netip.Addr, proto byte, length int) uint32 {
	sum := uint32(proto) + uint32(length)
	for _, a := range [][]byte{src.AsSlice(), dst.AsSlice()} {
		for ; len(a) >= 2; a = a[2:] {
			sum += uint32(binary.BigEndian.Uint16(a))
		}
	}
	return sum
}
