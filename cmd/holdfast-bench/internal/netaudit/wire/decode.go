package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// Frame is what a frame tells of itself.
type Frame struct {
	// Kind is the most exact name that the audit has for it: "tcp", "tcp-rst", "udp", "arp-request", "mld",
	// "0x88b5" (an ethertype), "llc" (IEEE 802.3 with a length), "ip-253" (a protocol).
	Kind string
	// EtherType is that of the outermost header, "0x0800"; "802.3" where there is a length.
	EtherType string
	// ID is the way out that it belongs to; 0: none that the frame tells of.
	ID int
}

// Decode tells what a frame is. tagged: the kernel had taken an 802.1Q tag off it. It never
// fails: what it cannot read has a kind as well.
func Decode(p []byte, tagged bool) Frame {
	if len(p) < etherLen {
		return Frame{Kind: "short", EtherType: "none", ID: marked(p)}
	}
	t := binary.BigEndian.Uint16(p[12:])
	f := Frame{ID: marked(p)}
	var about []netip.Addr
	switch {
	case tagged || t == TypeVLAN:
		f.Kind, f.EtherType = "vlan", etherType(TypeVLAN)
	case t < 0x0600:
		f.Kind, f.EtherType = "llc", "802.3"
	default:
		f.EtherType = etherType(t)
		f.Kind, about = network(t, p[etherLen:])
	}
	for _, a := range about {
		if f.ID == 0 {
			f.ID = owner(a)
		}
	}
	if f.ID == 0 {
		f.ID = ownerMAC(net.HardwareAddr(p[:6]))
	}
	return f
}

func etherType(t uint16) string { return fmt.Sprintf("0x%04x", t) }

// network names what follows the Ethernet header and returns the addresses it is about.
func network(t uint16, p []byte) (string, []netip.Addr) {
	switch t {
	case TypeARP:
		return arp(p)
	case TypeIPv4:
		return internet4(p)
	case TypeIPv6:
		return internet6(p)
	case TypeMACsec:
		return "macsec", nil
	}
	return etherType(t), nil
}

func arp(p []byte) (string, []netip.Addr) {
	if len(p) < arpLen {
		return "arp-short", nil
	}
	target := netip.AddrFrom4([4]byte(p[24:28]))
	sender := netip.AddrFrom4([4]byte(p[14:18]))
	switch {
	case target == sender:
		return "arp-gratuitous", []netip.Addr{target}
	case binary.BigEndian.Uint16(p[6:]) == ARPReply:
		return "arp-reply", []netip.Addr{target}
	}
	return "arp-request", []netip.Addr{target}
}

func internet4(p []byte) (string, []netip.Addr) {
	if len(p) < ip4Len {
		return "ip-short", nil
	}
	n := int(p[0]&15) * 4
	dst := netip.AddrFrom4([4]byte(p[16:20]))
	if n < ip4Len || len(p) < n {
		return "ip-short", []netip.Addr{dst}
	}
	if p[9] == ProtoIGMP {
		return "igmp", append(igmp(p[n:]), dst)
	}
	return transport(p[9], p[n:]), []netip.Addr{dst}
}

// igmp returns the groups of a report.
func igmp(p []byte) (groups []netip.Addr) {
	if len(p) < 8 {
		return nil
	}
	if p[0] != 0x22 { // before version 3 there is one
		return []netip.Addr{netip.AddrFrom4([4]byte(p[4:8]))}
	}
	return records(p[8:], 4)
}

// records reads the group records of IGMPv3 (addresses of 4 bytes) and MLDv2 (16).
func records(p []byte, size int) (groups []netip.Addr) {
	for len(p) >= 4+size {
		group, _ := netip.AddrFromSlice(p[4 : 4+size]) // 4 or 16 bytes
		groups = append(groups, group)
		n := 4 + size + int(binary.BigEndian.Uint16(p[2:]))*size + int(p[1])*4
		p = p[min(n, len(p)):]
	}
	return groups
}

func internet6(p []byte) (string, []netip.Addr) {
	if len(p) < ip6Len {
		return "ip6-short", nil
	}
	dst := netip.AddrFrom16([16]byte(p[24:40]))
	proto, rest := p[6], p[ip6Len:]
	// Extension headers whose length is told in 8 bytes: hop-by-hop, routing, destination.
	for (proto == 0 || proto == 43 || proto == 60) && len(rest) >= 8 && len(rest) >= int(rest[1])*8+8 {
		proto, rest = rest[0], rest[int(rest[1])*8+8:]
	}
	if proto == ProtoICMPv6 {
		kind, about := icmp6(rest)
		return kind, append(about, dst)
	}
	return transport(proto, rest), []netip.Addr{dst}
}

func icmp6(p []byte) (string, []netip.Addr) {
	if len(p) < 8 {
		return "icmp6-short", nil
	}
	switch p[0] {
	case 1:
		return "icmp6-unreachable", nil
	case 128:
		return "icmp6-echo", nil
	case 129:
		return "icmp6-echo-reply", nil
	case 131:
		return "mld", target6(p)
	case 133:
		return "rs", nil
	case Solicit:
		return "ns", target6(p)
	case Advertise:
		return "na", nil
	case 143:
		return "mld", records(p[8:], 16)
	}
	return fmt.Sprintf("icmp6-%d", p[0]), nil
}

func target6(p []byte) []netip.Addr {
	if len(p) < 24 {
		return nil
	}
	return []netip.Addr{netip.AddrFrom16([16]byte(p[8:24]))}
}

// names of protocols that have one name whatever they carry.
var protocols = map[byte]string{
	ProtoIPIP: "ipip", ProtoUDP: "udp", ProtoDCCP: "dccp", ProtoIPv6: "sit", ProtoGRE: "gre",
	ProtoL2TP: "l2tp", ProtoSCTP: "sctp", ProtoUDPLite: "udplite",
}

func transport(proto byte, p []byte) string {
	if name, ok := protocols[proto]; ok {
		return name
	}
	switch {
	case proto == ProtoTCP && len(p) >= tcpLen:
		return tcp(p[13])
	case proto == ProtoICMP && len(p) >= 4:
		return icmp4(p[0])
	}
	return fmt.Sprintf("ip-%d", proto)
}

func tcp(flags byte) string {
	switch {
	case flags&4 != 0:
		return "tcp-rst"
	case flags&0x12 == 0x12:
		return "tcp-syn-ack"
	}
	return "tcp"
}

func icmp4(kind byte) string {
	switch kind {
	case 0:
		return "icmp-echo-reply"
	case 3:
		return "icmp-unreachable"
	case Echo4:
		return "icmp-echo"
	case 11:
		return "icmp-time-exceeded"
	}
	return fmt.Sprintf("icmp-%d", kind)
}
