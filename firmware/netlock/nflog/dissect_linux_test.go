package nflog_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/nflog"
)

// attribute numbers of NFULA_*, as the kernel's header has them.
func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// message is the data of a report.
func message(t testing.TB, family byte, as ...netlink.Attribute) []byte {
	t.Helper()
	p, err := netlink.MarshalAttributes(as)
	must(t, err)
	return append([]byte{family, 0, 0, group}, p...)
}

func packetHeader(kind uint16) netlink.Attribute {
	return netlink.Attribute{Type: 1, Data: append(be16(kind), 3, 0)}
}

func prefix(s string) netlink.Attribute {
	return netlink.Attribute{Type: 10, Data: append([]byte(s), 0)}
}

func payload(t testing.TB, s string) netlink.Attribute {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	must(t, err)
	return netlink.Attribute{Type: 9, Data: p}
}

const (
	ip4From = "0a090101"
	ip4To   = "0a090102"
	ip6From = "fd090001000000000000000000000001"
	ip6To   = "fd090001000000000000000000000002"
	ethHead = "ffffffffffff 020000000009 "
	udpHead = "c000 1388 0008 0000"
)

// parsed are payloads of a family with what they say.
var parsed = []struct {
	name     string
	family   byte
	kind     uint16 // ethertype beside the payload
	hook     string
	payload  string
	protocol string
	to       string
}{
	{"UDP", unix.NFPROTO_IPV4, 0x0800, "output", "4500001c 00010000 4011 0000" + ip4From + ip4To + udpHead, "udp", "10.9.1.2:5000"},
	{"TCP", unix.NFPROTO_IPV4, 0, "output", "4500001c 00014000 4006 0000" + ip4From + ip4To + "c0001388", "tcp", "10.9.1.2:5000"},
	{"IP options", unix.NFPROTO_IPV4, 0, "output", "46000020 00010000 4011 0000" + ip4From + ip4To + "94040000" + udpHead, "udp", "10.9.1.2:5000"},
	{"a later fragment", unix.NFPROTO_IPV4, 0, "output", "4500001c 000100b9 4011 0000" + ip4From + ip4To + udpHead, "udp", "10.9.1.2"},
	{"a first fragment", unix.NFPROTO_IPV4, 0, "output", "4500001c 00012000 4011 0000" + ip4From + ip4To + udpHead, "udp", "10.9.1.2:5000"},
	{"ports cut off", unix.NFPROTO_IPV4, 0, "output", "4500001c 00010000 4011 0000" + ip4From + ip4To + "c000", "udp", "10.9.1.2"},
	{"ICMP", unix.NFPROTO_IPV4, 0, "output", "4500001c 00010000 4001 0000" + ip4From + ip4To + "0800f7ff", "icmp", "10.9.1.2"},
	{"IGMP", unix.NFPROTO_IPV4, 0, "output", "4500001c 00010000 0102 0000" + ip4From + "e0000016", "igmp", "224.0.0.22"},
	{"protocol 253", unix.NFPROTO_IPV4, 0, "output", "4500001c 00010000 40fd 0000" + ip4From + ip4To, "ip 253", "10.9.1.2"},
	{"UDP-Lite", unix.NFPROTO_IPV4, 0, "output", "4500001c 00010000 4088 0000" + ip4From + ip4To + udpHead, "udplite", "10.9.1.2:5000"},
	{"IPv4 cut off", unix.NFPROTO_IPV4, 0, "output", "4500001c 0001", "ipv4", ""},
	{"not IPv4", unix.NFPROTO_IPV4, 0, "output", "6500001c 00010000 4011 0000" + ip4From + ip4To, "ipv4", ""},
	{"UDP, IPv6", unix.NFPROTO_IPV6, 0, "output", "60000000 0008 11 40" + ip6From + ip6To + udpHead, "udp", "[fd09:1::2]:5000"},
	{"ICMPv6", unix.NFPROTO_IPV6, 0, "output", "60000000 0008 3a ff" + ip6From + ip6To + "85000000", "icmpv6", "fd09:1::2"},
	{"hop by hop, MLD", unix.NFPROTO_IPV6, 0, "output", "60000000 0010 00 01" + ip6From + ip6To + "3a00050200000100 8f000000", "icmpv6", "fd09:1::2"},
	{"three extensions", unix.NFPROTO_IPV6, 0, "output", "60000000 0020 00 40" + ip6From + ip6To +
		"2b00000000000000 3c00000000000000 1100000000000000" + udpHead, "udp", "[fd09:1::2]:5000"},
	{"authenticated", unix.NFPROTO_IPV6, 0, "output", "60000000 0020 33 40" + ip6From + ip6To +
		"1101 0000 00000001 00000001" + udpHead, "udp", "[fd09:1::2]:5000"},
	{"a first fragment, IPv6", unix.NFPROTO_IPV6, 0, "output", "60000000 0010 2c 40" + ip6From + ip6To + "1100000100000007" + udpHead, "udp", "[fd09:1::2]:5000"},
	{"a later fragment, IPv6", unix.NFPROTO_IPV6, 0, "output", "60000000 0010 2c 40" + ip6From + ip6To + "1100000800000007" + udpHead, "udp", "fd09:1::2"},
	{"an endless chain", unix.NFPROTO_IPV6, 0, "output", "60000000 0050 00 40" + ip6From + ip6To + strings.Repeat("0000000000000000", 10), "ip 0", "fd09:1::2"},
	{"extensions cut off", unix.NFPROTO_IPV6, 0, "output", "60000000 0010 00 01" + ip6From + ip6To + "3a05", "ip 0", "fd09:1::2"},
	{"ARP out", unix.NFPROTO_ARP, 0x0806, "output", ethHead + "0806 0001 0800 06 04 0001 020000000009" + ip4From + "000000000000 0a090163", "arp", "10.9.1.99"},
	{"ARP in", unix.NFPROTO_ARP, 0x0806, "input", "0001 0800 06 04 0001 020000000009" + ip4From + "000000000000 0a090163", "arp", "10.9.1.99"},
	{"ARP cut off", unix.NFPROTO_ARP, 0x0806, "output", "0001 0800", "arp", ""},
	{"a frame at egress", unix.NFPROTO_NETDEV, 0x88b5, "egress", ethHead + "88b5 00000000", "0x88b5", "ff:ff:ff:ff:ff:ff"},
	{"UDP at egress", unix.NFPROTO_NETDEV, 0x0800, "egress", ethHead + "0800 4500001c 00010000 4011 0000" + ip4From + ip4To + udpHead, "udp", "10.9.1.2:5000"},
	{"UDP at egress of a link without frames", unix.NFPROTO_NETDEV, 0x0800, "egress", "4500001c 00010000 4011 0000" + ip4From + ip4To + udpHead, "udp", "10.9.1.2:5000"},
	{"two tags at egress", unix.NFPROTO_NETDEV, 0x88a8, "egress", ethHead + "88a8 0007 8100 0008 86dd 60000000 0008 11 40" + ip6From + ip6To + udpHead, "udp", "[fd09:1::2]:5000"},
	{"a length for a type at egress", unix.NFPROTO_NETDEV, 0x0004, "egress", "0180c2000000 020000000009 0026 4242 03", "0x0004", "01:80:c2:00:00:00"},
	{"a type left out at egress", unix.NFPROTO_NETDEV, 0, "egress", ethHead + "88b5 00000000", "0x88b5", "ff:ff:ff:ff:ff:ff"},
	{"UDP at ingress", unix.NFPROTO_NETDEV, 0x0800, "ingress", "4500001c 00010000 4011 0000" + ip4From + ip4To + udpHead, "udp", "10.9.1.2:5000"},
	{"a bridge", unix.NFPROTO_BRIDGE, 0x86dd, "forward", "60000000 0008 11 40" + ip6From + ip6To + udpHead, "udp", "[fd09:1::2]:5000"},
	{"nothing", unix.NFPROTO_BRIDGE, 0, "forward", "", "0x0000", ""},
}

func TestParse(t *testing.T) {
	for _, c := range parsed {
		p, _, err := nflog.Parse(message(t, c.family, packetHeader(c.kind), prefix("holdfast nft-inet "+c.hook), payload(t, c.payload)))
		if err != nil || p.Protocol != c.protocol || p.Destination != c.to || p.Layer != "nft-inet" || p.Hook != c.hook || p.UID != -1 {
			t.Errorf("%s: %+v %v, want %s to %q", c.name, p, err, c.protocol, c.to)
		}
	}
}

func TestParseAttributes(t *testing.T) {
	port := netlink.Attribute{Type: 6, Data: be32(7)}
	p, link, err := nflog.Parse(message(t, unix.NFPROTO_BRIDGE, packetHeader(0x88b5), netlink.Attribute{Type: 4, Data: be32(3)}, port,
		netlink.Attribute{Type: 5, Data: be32(9)}, netlink.Attribute{Type: 11, Data: be32(1000)},
		netlink.Attribute{Type: 16, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x88, 0xb5}}, prefix("somebody's own")))
	if err != nil || link != 7 || p.UID != 1000 || p.Layer != "" || p.Destination != "01:02:03:04:05:06" || p.Source != "07:08:09:0a:0b:0c" {
		t.Errorf("%+v by link %d, %v", p, link, err)
	}
	for _, bad := range [][]byte{nil, {2, 0, 0}, {2, 0, 0, 0, 1}, {2, 0, 0, 0, 200, 0, 1, 0}, {2, 0, 0, 0, 5, 0, 11, 0, 1, 0, 0, 0}} {
		if _, _, err := nflog.Parse(bad); !errors.Is(err, nflog.ErrBad) {
			t.Errorf("% x: %v", bad, err)
		}
	}
}

// FuzzParse: whatever a report holds, it is read or refused, and Bytes tells what it held.
func FuzzParse(f *testing.F) {
	for _, c := range parsed {
		f.Add(message(f, c.family, packetHeader(c.kind), prefix("holdfast nft-netdev "+c.hook), payload(f, c.payload)))
	}
	f.Add(message(f, unix.NFPROTO_NETDEV, packetHeader(0x8100), netlink.Attribute{Type: 16, Data: make([]byte, 14)}, netlink.Attribute{Type: 12, Data: be32(1)}))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, _, err := nflog.Parse(p)
		if err == nil && (got.Bytes > len(p) || got.Protocol == "" || got.UID < -1) {
			t.Errorf("%+v of %d bytes", got, len(p))
		}
	})
}
