package wire_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

const id = 42

// frames are what the audit sends and what kernels answer, with what Decode must say.
var frames = []struct {
	name   string
	frame  []byte
	tagged bool
	kind   string
	types  string
	id     int
}{
	{"udp with a mark", ether(wire.TypeIPv4, wire.UDP(board4(4000), netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 53), wire.Mark(id))), false, "udp", "0x0800", id},
	{"udp to an address of the plan", ether(wire.TypeIPv4, wire.UDP(board4(4000), netip.AddrPortFrom(wire.Far4(id), 53), nil)), false, "udp", "0x0800", id},
	{"udp to nobody", ether(wire.TypeIPv4, wire.UDP(board4(4000), netip.MustParseAddrPort("192.0.2.1:53"), nil)), false, "udp", "0x0800", 0},
	{"udp over IPv6", ether(wire.TypeIPv6, wire.UDP(board6(4000), netip.AddrPortFrom(wire.Far6(id), 53), nil)), false, "udp", "0x86dd", id},
	{"forwarded", ether(wire.TypeIPv6, wire.UDP(board6(4000), netip.AddrPortFrom(wire.Beyond6(id), 53), nil)), false, "udp", "0x86dd", id},
	{"syn", ether(wire.TypeIPv4, wire.SYN(board4(4000), netip.AddrPortFrom(wire.Far4(id), 1))), false, "tcp", "0x0800", id},
	{"arp request", ether(wire.TypeARP, wire.ARP(wire.ARPRequest, wire.BoardMAC, wire.Board4, make(net.HardwareAddr, 6), wire.New4(id))), false, "arp-request", "0x0806", id},
	{"arp reply", ether(wire.TypeARP, wire.ARP(wire.ARPReply, wire.BoardMAC, wire.Board4, wire.FarMAC, wire.Far4(id))), false, "arp-reply", "0x0806", id},
	{"arp gratuitous", ether(wire.TypeARP, wire.ARP(wire.ARPRequest, wire.BoardMAC, wire.New4(id), make(net.HardwareAddr, 6), wire.New4(id))), false, "arp-gratuitous", "0x0806", id},
	{"arp, short", ether(wire.TypeARP, []byte{0, 1}), false, "arp-short", "0x0806", 0},
	{"ping", ether(wire.TypeIPv4, wire.IP(wire.Board4, wire.Far4(id), wire.ProtoICMP, wire.ICMP(wire.Board4, wire.Far4(id), wire.Echo4, 0, make([]byte, 4)))), false, "icmp-echo", "0x0800", id},
	{"ping over IPv6", ether(wire.TypeIPv6, wire.IP(wire.Board6, wire.Far6(id), wire.ProtoICMPv6, wire.ICMP(wire.Board6, wire.Far6(id), wire.Echo6, 0, make([]byte, 4)))), false, "icmp6-echo", "0x86dd", id},
	{"solicitation", ether(wire.TypeIPv6, solicit(wire.New6(id))), false, "ns", "0x86dd", id},
	{"mld report", ether(wire.TypeIPv6, report6(wire.Group6(id))), false, "mld", "0x86dd", id},
	{"igmp report", ether(wire.TypeIPv4, report4(wire.Group4(id))), false, "igmp", "0x0800", id},
	{"mark behind a protocol nobody knows", ether(wire.TypeIPv4, wire.IP(wire.Board4, netip.MustParseAddr("192.0.2.1"), wire.ProtoPrivate, wire.Mark(7))), false, "ip-253", "0x0800", 7},
	{"private ethertype by its address", wire.Ether(wire.MAC(id), wire.BoardMAC, wire.TypePrivate, nil), false, "0x88b5", "0x88b5", id},
	{"802.3 with a length", wire.Ether(wire.Broadcast, wire.BoardMAC, 3, []byte{0x42, 0x42, 3}), false, "llc", "802.3", 0},
	{"vlan tag in the frame", wire.Ether(wire.MAC(id), wire.BoardMAC, wire.TypeVLAN, []byte{0, 7, 8, 0}), false, "vlan", "0x8100", id},
	{"vlan tag taken off", ether(wire.TypeIPv4, nil), true, "vlan", "0x8100", 0},
	{"shorter than a header", []byte{1, 2, 3}, false, "short", "none", 0},
	{"mark with a number out of range", ether(wire.TypePrivate, []byte("HOLDFAST-WAY-OUT-999")), false, "0x88b5", "0x88b5", 0},
	{"mark cut off", ether(wire.TypePrivate, []byte("HOLDFAST-WAY-OUT-4")), false, "0x88b5", "0x88b5", 0},
}

func ether(etherType uint16, p []byte) []byte {
	return wire.Ether(wire.FarMAC, wire.BoardMAC, etherType, p)
}
func board4(port uint16) netip.AddrPort { return netip.AddrPortFrom(wire.Board4, port) }
func board6(port uint16) netip.AddrPort { return netip.AddrPortFrom(wire.Board6, port) }

func solicit(target netip.Addr) []byte {
	to := netip.MustParseAddr("ff02::1:ff00:1")
	a := target.As16()
	return wire.IPHops(wire.Board6, to, wire.ProtoICMPv6, 255, wire.ICMP(wire.Board6, to, wire.Solicit, 0, append(make([]byte, 4), a[:]...)))
}

// report6 is an MLDv2 report behind a hop-by-hop header, as Linux sends it.
func report6(group netip.Addr) []byte {
	to, a := netip.MustParseAddr("ff02::16"), group.As16()
	body := append([]byte{0, 0, 0, 1, 4, 0, 0, 0}, a[:]...)
	p := append([]byte{wire.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}, wire.ICMP(wire.Board6, to, 143, 0, body)...)
	return wire.IPHops(wire.Board6, to, 0, 1, p)
}

func report4(group netip.Addr) []byte {
	a := group.As4()
	p := append([]byte{0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0}, a[:]...)
	return wire.IPHops(wire.Board4, netip.MustParseAddr("224.0.0.22"), wire.ProtoIGMP, 1, p)
}

func TestDecode(t *testing.T) {
	for _, c := range frames {
		f := wire.Decode(c.frame, c.tagged)
		if f.Kind != c.kind || f.EtherType != c.types || f.ID != c.id {
			t.Errorf("%s: %q %q of %d, want %q %q of %d", c.name, f.Kind, f.EtherType, f.ID, c.kind, c.types, c.id)
		}
	}
}

// TestPlan: every address of every number tells whose it is, and no other's.
func TestPlan(t *testing.T) {
	for n := 1; n <= wire.MaxID; n++ {
		for _, a := range []netip.Addr{wire.Far4(n), wire.New4(n), wire.Beyond4(n), wire.Group4(n), wire.Own4(n, 1), wire.Own4(n, 2), wire.Far6(n), wire.New6(n), wire.Beyond6(n), wire.Group6(n), wire.Own6(n, 1), wire.Own6(n, 2)} {
			from, etherType := wire.Board4, uint16(wire.TypeIPv4)
			if a.Is6() {
				from, etherType = wire.Board6, wire.TypeIPv6
			}
			if f := wire.Decode(ether(etherType, wire.IP(from, a, wire.ProtoPrivate, nil)), false); f.ID != n {
				t.Fatalf("%s belongs to %d, must be %d", a, f.ID, n)
			}
		}
		if f := wire.Decode(wire.Ether(wire.MAC(n), wire.BoardMAC, wire.TypePrivate, wire.Mark(n)), false); f.ID != n {
			t.Fatalf("the mark of %d tells %d", n, f.ID)
		}
	}
	for _, a := range []netip.Addr{wire.Board4, wire.Directed4, netip.MustParseAddr("10.77.1.0"), netip.MustParseAddr("127.0.0.1")} {
		if f := wire.Decode(ether(wire.TypeIPv4, wire.IP(wire.Board4, a, 1, nil)), false); f.ID != 0 {
			t.Errorf("%s belongs to %d", a, f.ID)
		}
	}
}

// TestChecksums: what is summed with its checksum in place gives 0.
func TestChecksums(t *testing.T) {
	d := wire.UDP(board4(1), netip.AddrPortFrom(wire.Far4(1), 2), []byte("odd"))
	if sum := wire.Checksum(0, d[:20]); sum != 0 {
		t.Errorf("IPv4 header: %#x", sum)
	}
	pseudo := bytes.Join([][]byte{d[12:20], {0, wire.ProtoUDP}, d[24:26], d[20:]}, nil)
	if sum := wire.Checksum(0, pseudo); sum != 0 {
		t.Errorf("UDP: %#x", sum)
	}
	m := wire.ICMP(wire.Board4, wire.Far4(1), wire.Echo4, 0, wire.EchoBody(1, 2, []byte("data")))
	if sum := wire.Checksum(0, m); sum != 0 {
		t.Errorf("ICMP: %#x", sum)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range frames {
		f.Add(c.frame, c.tagged)
	}
	f.Fuzz(func(t *testing.T, p []byte, tagged bool) {
		got := wire.Decode(p, tagged)
		if got.Kind == "" || got.EtherType == "" || got.ID < 0 || got.ID > wire.MaxID {
			t.Errorf("%+v of %x", got, p)
		}
	})
}
