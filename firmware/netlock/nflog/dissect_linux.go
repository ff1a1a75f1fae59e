package nflog

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxHeaders bounds tags of a frame and extension headers of IPv6.
const maxHeaders = 8

// ethTypeMin is the least ethertype; less is a length (IEEE 802.3).
const ethTypeMin = 0x600

// dissect reads addresses and protocol from the payload. It begins with the header of IPv4, IPv6
// or ARP, the frame's header beside it. At egress of netdev it is the whole frame, and at output
// of arp too: there the frame is made before it is judged.
func (r *report) dissect(family byte) {
	switch family {
	case unix.NFPROTO_IPV4:
		r.kind = unix.ETH_P_IP
	case unix.NFPROTO_IPV6:
		r.kind = unix.ETH_P_IPV6
	case unix.NFPROTO_ARP:
		r.kind = unix.ETH_P_ARP
		r.unframe(r.Hook == "output")
	default:
		r.unframe(r.Hook == "egress")
	}
	switch r.kind {
	case unix.ETH_P_IP:
		r.ip4(r.payload)
	case unix.ETH_P_IPV6:
		r.ip6(r.payload)
	case unix.ETH_P_ARP:
		r.arp(r.payload)
	default:
		r.Protocol = fmt.Sprintf("0x%04x", r.kind)
	}
}

// unframe reads the frame's header, which whole tells to be in the payload, if the link has any.
func (r *report) unframe(whole bool) {
	if p := r.payload; whole && len(p) >= 14 {
		inside := binary.BigEndian.Uint16(p[12:])
		if r.kind == 0 { // older kernels leave it to the sender
			r.kind = inside
		}
		// The kernel's own numbers below ethTypeMin stand for frames with a length there.
		if inside == r.kind || r.kind < ethTypeMin {
			r.header, r.payload = p[:14], p[14:]
		}
	}
	if h := r.header; len(h) >= 14 {
		r.Destination, r.Source = net.HardwareAddr(h[:6]).String(), net.HardwareAddr(h[6:12]).String()
	}
	r.untag()
}

// untag takes VLAN tags off.
func (r *report) untag() {
	for range maxHeaders {
		if r.kind != unix.ETH_P_8021Q && r.kind != unix.ETH_P_8021AD || len(r.payload) < 4 {
			return
		}
		r.kind, r.payload = binary.BigEndian.Uint16(r.payload[2:]), r.payload[4:]
	}
}

func (r *report) arp(p []byte) {
	r.Protocol = "arp"
	// Ethernet and IPv4, RFC 826.
	if len(p) >= 28 && p[4] == 6 && p[5] == 4 && binary.BigEndian.Uint16(p[2:]) == unix.ETH_P_IP {
		r.Source = netip.AddrFrom4([4]byte(p[14:])).String()
		r.Destination = netip.AddrFrom4([4]byte(p[24:])).String()
	}
}

func (r *report) ip4(p []byte) {
	r.Protocol = "ipv4"
	if len(p) < 20 || p[0]>>4 != 4 {
		return
	}
	size := int(p[0]&15) * 4
	next := p[min(max(size, 20), len(p)):]
	if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 {
		next = nil // a later fragment
	}
	r.transport(p[9], netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:])), next)
}

func (r *report) ip6(p []byte) {
	r.Protocol = "ipv6"
	if len(p) < 40 || p[0]>>4 != 6 {
		return
	}
	proto, next := skipExtensions(p[6], p[40:])
	r.transport(proto, netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:])), next)
}

// skipExtensions goes over extension headers (RFC 8200, section 4). It returns the protocol
// and its header, or nil where the report does not hold it.
func skipExtensions(proto byte, p []byte) (byte, []byte) {
	for range maxHeaders {
		size := 0
		switch proto {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			size = 8
			if len(p) >= 2 {
				size += int(p[1]) * 8
			}
		case unix.IPPROTO_AH:
			size = 8
			if len(p) >= 2 {
				size += int(p[1]) * 4
			}
		case unix.IPPROTO_FRAGMENT:
			size = 8
		default:
			return proto, p
		}
		if len(p) < size {
			return proto, nil
		}
		later := proto == unix.IPPROTO_FRAGMENT && binary.BigEndian.Uint16(p[2:])&^7 != 0
		proto, p = p[0], p[size:]
		if later {
			return proto, nil
		}
	}
	return proto, nil
}

// protocols that have a name; ported ones begin with two ports.
var protocols = map[byte]string{
	unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_IGMP: "igmp", unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp",
	unix.IPPROTO_DCCP: "dccp", unix.IPPROTO_IPV6: "ipv6", unix.IPPROTO_GRE: "gre", unix.IPPROTO_ESP: "esp",
	unix.IPPROTO_AH: "ah", unix.IPPROTO_ICMPV6: "icmpv6", unix.IPPROTO_IPIP: "ipip", unix.IPPROTO_SCTP: "sctp",
	unix.IPPROTO_UDPLITE: "udplite",
}

func ported(proto byte) bool {
	switch proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP:
		return true
	}
	return false
}

func (r *report) transport(proto byte, from, to netip.Addr, p []byte) {
	var ok bool
	if r.Protocol, ok = protocols[proto]; !ok {
		r.Protocol = "ip " + strconv.Itoa(int(proto))
	}
	r.Source, r.Destination = from.String(), to.String()
	if ported(proto) && len(p) >= 4 {
		r.Source = netip.AddrPortFrom(from, binary.BigEndian.Uint16(p)).String()
		r.Destination = netip.AddrPortFrom(to, binary.BigEndian.Uint16(p[2:])).String()
	}
}
