package wire

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
)

// The audit's address plan. Each way out has a number, 1 to MaxID, and all that it sends carries
// it: in the payload where there is one, else in an address. So a frame tells whose it is.

// MaxID is the highest number of a way out.
const MaxID = 249

// markText begins the mark; three digits follow.
const markText = "HOLDFAST-WAY-OUT-"

// Mark is the payload of way out id.
func Mark(id int) []byte { return fmt.Appendf(nil, "%s%03d", markText, id) }

// Board addresses on the link that ways out share, its networks, and the far side's Ethernet address there.
var (
	Board4    = netip.MustParseAddr("10.77.0.1")
	Board6    = netip.MustParseAddr("fd77::1")
	Net4      = netip.MustParsePrefix("10.77.0.0/16")
	Net6      = netip.MustParsePrefix("fd77::/64")
	BoardMAC  = net.HardwareAddr{0x02, 0x66, 0, 0, 0, 1}
	FarMAC    = net.HardwareAddr{0x02, 0x88, 0, 0, 0, 1}
	Directed4 = netip.MustParseAddr("10.77.255.255")
)

// Far4 and Far6 are the far side's addresses for way out id; the board knows their Ethernet address.
func Far4(id int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 1, byte(id)}) }

// Far6 is Far4 for IPv6.
func Far6(id int) netip.Addr { return far6(1, id) }

// New4 and New6 are addresses of the far side that the board has to ask for.
func New4(id int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 3, byte(id)}) }

// New6 is New4 for IPv6.
func New6(id int) netip.Addr { return far6(3, id) }

// Own4 and Own6 are the board's (host 1) and the far side's (host 2) addresses on a link that belongs to one way out.
func Own4(id, host int) netip.Addr { return netip.AddrFrom4([4]byte{10, 78, byte(id), byte(host)}) }

// Own6 is Own4 for IPv6.
func Own6(id, host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0x78, 0, 0, 0, 0, 0, byte(id), 15: byte(host)})
}

// Beyond4 and Beyond6 are addresses behind the second link, where the board forwards to.
func Beyond4(id int) netip.Addr { return netip.AddrFrom4([4]byte{10, 79, 1, byte(id)}) }

// Beyond6 is Beyond4 for IPv6.
func Beyond6(id int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0x79, 13: 1, 15: byte(id)})
}

// Group4 and Group6 are multicast groups.
func Group4(id int) netip.Addr { return netip.AddrFrom4([4]byte{239, 77, 1, byte(id)}) }

// Group6 is Group4 for IPv6.
func Group6(id int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xff, 0x15, 10: 0, 11: 0x77, 13: 1, 15: byte(id)})
}

// MAC is an Ethernet address.
func MAC(id int) net.HardwareAddr { return net.HardwareAddr{0x02, 0x77, 0, 0, 0, byte(id)} }

func far6(host, id int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0x77, 13: byte(host), 15: byte(id)})
}

// marked finds a mark in p.
func marked(p []byte) int {
	_, rest, ok := bytes.Cut(p, []byte(markText))
	if !ok || len(rest) < 3 {
		return 0
	}
	id := 0
	for _, c := range rest[:3] {
		if c < '0' || c > '9' {
			return 0
		}
		id = id*10 + int(c-'0')
	}
	return valid(id)
}

func valid(id int) int {
	if id < 1 || id > MaxID {
		return 0
	}
	return id
}

// owner tells whose address a is.
func owner(a netip.Addr) int {
	b := a.As16()
	tail := int(b[15])
	switch {
	case a.Is4() && bytes.HasPrefix(b[12:], []byte{10, 77}) && (b[14] == 1 || b[14] == 3),
		a.Is4() && bytes.HasPrefix(b[12:], []byte{239, 77, 1}),
		a.Is4() && bytes.HasPrefix(b[12:], []byte{10, 79, 1}):
		return valid(tail)
	case a == Far6(tail), a == New6(tail), a == Group6(tail), a == Beyond6(tail):
		return valid(tail)
	case a.Is4() && bytes.HasPrefix(b[12:], []byte{10, 78}):
		return valid(int(b[14]))
	case a == Own6(int(b[7]), tail):
		return valid(int(b[7]))
	}
	return 0
}

// ownerMAC tells whose Ethernet address a is. Those of the groups of an address are the group's.
func ownerMAC(a net.HardwareAddr) int {
	if bytes.Equal(a[:5], MAC(0)[:5]) {
		return valid(int(a[5]))
	}
	return 0
}
