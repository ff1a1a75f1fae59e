package e2e_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Numbers of the protocols that the hostile network speaks: RFC 791, 826, 2131, 4443, 4861, 8200.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86DD

	protocolICMP   = 1
	protocolUDP    = 17
	protocolICMPv6 = 58

	dhcpDiscover, dhcpOffer, dhcpRequest, dhcpAck = 1, 2, 3, 5

	icmpv6Echo, icmpv6RouterAdvert, icmpv6NeighborAsk, icmpv6NeighborTell = 128, 134, 135, 136
)

var (
	broadcast    = []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	allNodesMAC  = []byte{0x33, 0x33, 0, 0, 0, 1}
	allNodes     = netip.MustParseAddr("ff02::1").AsSlice()
	everybody    = netip.MustParseAddr("255.255.255.255").AsSlice()
	hostileLocal = netip.MustParseAddr("fe80::66").AsSlice()
)

// hostile is a network that wants the guest to talk: it gives addresses to who asks and to who
// does not, names itself the way out, and asks all that is there to answer.
type hostile struct {
	mac        []byte
	own, guest []byte // IPv4
	prefix     []byte // IPv6, 8 bytes
}

// newHostile makes network number n.
func newHostile(n byte) *hostile {
	return &hostile{
		mac: []byte{2, 0, 0, 0, 0x66, n}, own: []byte{10, 66, n, 1}, guest: []byte{10, 66, n, 2},
		prefix: []byte{0xFD, 0x66, 0, 0, 0, 0, 0, n},
	}
}

// provoke is what it says unasked: router advertisement, pings to all, ARP and ND for the
// address that the guest has or would have.
func (h *hostile) provoke() [][]byte {
	ping := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	binary.BigEndian.PutUint16(ping[2:], checksum(ping))
	return [][]byte{
		h.advert(),
		h.icmpv6(allNodesMAC, allNodes, []byte{icmpv6Echo, 0, 0, 0, 0, 1, 0, 1}),
		h.ipv4(broadcast, everybody, protocolICMP, ping),
		h.arp(1, broadcast, make([]byte, 6), h.guest),
	}
}

// answer is what it says to a frame of the guest's.
func (h *hostile) answer(f []byte) [][]byte {
	if len(f) < 14 {
		return nil
	}
	switch p := f[14:]; binary.BigEndian.Uint16(f[12:]) {
	case etherARP:
		return h.answerARP(p)
	case etherIPv4:
		if len(p) >= 28 && p[9] == protocolUDP && binary.BigEndian.Uint16(p[22:]) == 67 {
			return h.answerDHCP(p[28:])
		}
	case etherIPv6:
		if len(p) >= 64 && p[6] == protocolICMPv6 && p[40] == icmpv6NeighborAsk {
			return h.answerND(f[6:12], p[8:24], p[48:64])
		}
	}
	return nil
}

// answerARP says "that is me" for every address but the guest's own, so that all it sends arrives here.
func (h *hostile) answerARP(p []byte) [][]byte {
	if len(p) < 28 || p[7] != 1 || bytes.Equal(p[14:18], make([]byte, 4)) || bytes.Equal(p[14:18], p[24:28]) || bytes.Equal(p[24:28], h.guest) {
		return nil
	}
	reply := h.arp(2, p[8:14], p[8:14], p[14:18])
	copy(reply[28:32], p[24:28])
	return [][]byte{reply}
}

// answerND does the same for IPv6; a guest that asks whether its own address is free is let be.
func (h *hostile) answerND(mac, from, target []byte) [][]byte {
	if bytes.Equal(from, make([]byte, 16)) {
		return nil
	}
	tell := slices.Concat([]byte{icmpv6NeighborTell, 0, 0, 0, 0xE0, 0, 0, 0}, target, []byte{2, 1}, h.mac)
	return [][]byte{h.icmpv6(mac, from, tell)}
}

// answerDHCP gives the guest its address.
func (h *hostile) answerDHCP(p []byte) [][]byte {
	if len(p) < 240 || p[0] != 1 {
		return nil
	}
	kind, reply := dhcpKind(p[240:]), byte(dhcpOffer)
	switch kind {
	case dhcpDiscover:
	case dhcpRequest:
		reply = dhcpAck
	default:
		return nil
	}
	m := make([]byte, 240)
	copy(m, []byte{2, 1, 6, 0})
	copy(m[4:8], p[4:8])     // transaction
	copy(m[16:], h.guest)    // yiaddr
	copy(m[28:44], p[28:44]) // chaddr
	copy(m[236:], p[236:240])
	m = append(m, 53, 1, reply, 51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0)
	for _, option := range []byte{54, 3, 6} { // server, router, name server
		m = append(append(m, option, 4), h.own...)
	}
	m = append(m, 255)
	udp := binary.BigEndian.AppendUint16([]byte{0, 67, 0, 68}, uint16(8+len(m)))
	udp = append(append(udp, 0, 0), m...) // no checksum: IPv4 allows that
	return [][]byte{h.ipv4(p[28:34], everybody, protocolUDP, udp)}
}

// dhcpKind finds option 53.
func dhcpKind(options []byte) byte {
	for len(options) >= 3 && options[0] != 255 {
		if options[0] == 53 {
			return options[2]
		}
		if options[0] == 0 {
			options = options[1:]
			continue
		}
		options = options[min(len(options), 2+int(options[1])):]
	}
	return 0
}

// advert is a router advertisement: this is the way out, and a prefix to make an address of.
func (h *hostile) advert() []byte {
	m := []byte{icmpv6RouterAdvert, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	m = append(append(m, 1, 1), h.mac...)                                 // source link-layer address
	m = append(m, 3, 4, 64, 0xC0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0) // prefix, on link, autonomous
	m = append(append(m, h.prefix...), make([]byte, 8)...)
	return h.icmpv6(allNodesMAC, allNodes, m)
}

func (h *hostile) ether(to []byte, kind uint16, p []byte) []byte {
	return slices.Concat(to, h.mac, binary.BigEndian.AppendUint16(nil, kind), p)
}

func (h *hostile) arp(operation byte, to, targetMAC, target []byte) []byte {
	return h.ether(to, etherARP, slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, operation}, h.mac, h.own, targetMAC, target))
}

func (h *hostile) ipv4(mac, to []byte, protocol byte, p []byte) []byte {
	head := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(head[2:], uint16(20+len(p)))
	head = append(append(head, h.own...), to...)
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	return h.ether(mac, etherIPv4, append(head, p...))
}

// icmpv6 sends from the link-local address, with hop limit 255 as ND wants it.
func (h *hostile) icmpv6(mac, to, p []byte) []byte {
	p = slices.Clone(p)
	head := []byte{0x60, 0, 0, 0, 0, byte(len(p)), protocolICMPv6, 255}
	head = append(append(head, hostileLocal...), to...)
	pseudo := slices.Concat(head[8:40], []byte{0, 0, 0, byte(len(p)), 0, 0, 0, protocolICMPv6}, p)
	binary.BigEndian.PutUint16(p[2:], checksum(pseudo))
	return h.ether(mac, etherIPv6, append(head, p...))
}

// checksum is the Internet's (RFC 1071).
func checksum(p []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	if len(p)%2 == 1 {
		sum += uint32(p[len(p)-1]) << 8
	}
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	return ^uint16(sum)
}
