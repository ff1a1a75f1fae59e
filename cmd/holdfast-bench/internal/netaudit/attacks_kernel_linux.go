package netaudit

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

var oneDown = []linkPlan{{down: true}}

// raiseOwn sets the attack's own link up, as a service that manages links does.
func raiseOwn(_ *board, t *trial) error { return up(t.own("")) }

// kernelAttacks are frames that no program sends: hands bring a link up, or change it.
func kernelAttacks() []*attack {
	return in(groupKernel, []*attack{
		{name: "router solicitation as a link comes up", plain: "the system itself asks for a router", want: []string{"rs"}, links: oneDown, conf: []string{"ipv6.conf.%s.forwarding=0", "ipv6.conf.%s.router_solicitation_delay=0"}, hand: raiseOwn},
		{name: "MLD report as a link comes up", plain: "the system itself joins its groups", want: []string{"mld"}, links: oneDown, hand: raiseOwn},
		{name: "duplicate address detection", plain: "the system itself asks whether its address is taken", want: []string{"ns"}, links: oneDown, conf: []string{"ipv6.conf.%s.accept_dad=1", "ipv6.conf.%s.dad_transmits=1"}, hand: raiseOwn},
		{name: "gratuitous ARP as a link comes up", plain: "the system itself tells everybody its address", want: []string{"arp-gratuitous"}, links: oneDown, hand: func(b *board, t *trial) error {
			if err := address(t.own(""), netip.PrefixFrom(wire.Own4(t.id, 1), 24)); err != nil {
				return err
			}
			return up(t.own(""))
		}},
		{name: "unsolicited neighbour advertisement", plain: "the same over IPv6", want: []string{"na"}, links: one, conf: []string{"ipv6.conf.%s.ndisc_notify=1"}, hand: changeMAC},
		{name: "neighbour asked for on order", plain: "the system asks for an address because it is told to", root: true, want: []string{"arp-request"}, run: askNeighbour},
		{name: "address from a router's advertisement", plain: "the far side offers an address, the system takes it and says so", want: []string{"ns"}, links: one, conf: []string{"ipv6.conf.%s.forwarding=0", "ipv6.conf.%s.accept_dad=1", "ipv6.conf.%s.dad_transmits=1"}, far: routerAdvertisement},
		{name: "bridge that looks for loops", plain: "a bridge tells other bridges about itself", root: true, want: []string{"llc"}, links: one, bare: true, run: spanningTree},
	})
}

func changeMAC(_ *board, t *trial) error {
	return change(t.own(""), func(l netlink.Link) error {
		return netlink.LinkSetHardwareAddr(l, net.HardwareAddr{0x02, 0x77, 0, 0, 1, byte(t.id)})
	})
}

func askNeighbour(t *trial) error {
	index, err := linkIndex(sharedLink)
	if err != nil {
		return err
	}
	return netlink.NeighAdd(&netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V4, State: netlink.NUD_NONE, Flags: netlink.NTF_USE, IP: wire.New4(t.id).AsSlice()})
}

// routerAdvertisement (RFC 4861) offers a prefix.
func routerAdvertisement(id int) []sent {
	from, to := netip.MustParseAddr("fe80::88"), netip.MustParseAddr("ff02::1")
	body := []byte{64, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0}
	prefix := netip.AddrFrom16([16]byte{0xfd, 0x7a, 7: byte(id)}).As16()
	option := append([]byte{3, 4, 64, 0xc0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0}, prefix[:]...)
	p := wire.IPHops(from, to, wire.ProtoICMPv6, 255, wire.ICMP(from, to, wire.Router, 0, append(body, option...)))
	return []sent{{ownFar(id, ""), wire.Ether(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, wire.FarMAC, wire.TypeIPv6, p)}}
}

func spanningTree(t *trial) error {
	name := t.virtual("s")
	on := uint32(1)
	if err := t.addLink(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return err
	}
	if err := setBridge(name, "stp_state", on); err != nil {
		return err
	}
	if err := t.enslave(t.own(""), name); err != nil {
		return err
	}
	return up(name)
}

// replyAttacks are answers: the far side asks, and the board's kernel would tell.
func replyAttacks() []*attack {
	return in(groupReplies, []*attack{
		{name: "ARP reply", plain: "the far side asks for the board's address", want: []string{"arp-reply"}, far: func(id int) []sent {
			return shared(wire.Broadcast, wire.TypeARP, wire.ARP(wire.ARPRequest, wire.FarMAC, wire.Far4(id), make(net.HardwareAddr, 6), wire.Board4))
		}},
		{name: "neighbour advertisement", plain: "the same over IPv6", want: []string{"na"}, far: solicitation},
		{name: "ping reply, IPv4", plain: "the far side pings the board", want: []string{"icmp-echo-reply"}, far: func(id int) []sent { return echo(wire.Far4(id), wire.Board4, id) }},
		{name: "ping reply, IPv6", plain: "the same over IPv6", want: []string{"icmp6-echo-reply"}, far: func(id int) []sent { return echo(wire.Far6(id), wire.Board6, id) }},
		{name: "TCP refusal", plain: "the far side knocks at a closed door", want: []string{"tcp-rst"}, far: func(id int) []sent { return datagram(wire.SYN(fromFar4(id), netip.AddrPortFrom(wire.Board4, 1))) }},
		{name: "TCP refusal, IPv6", plain: "the same over IPv6", want: []string{"tcp-rst"}, far: func(id int) []sent { return datagram(wire.SYN(fromFar6(id), netip.AddrPortFrom(wire.Board6, 1))) }},
		{name: "TCP acceptance", plain: "a program on the board waits for connections, the far side opens one", want: []string{"tcp-syn-ack"}, before: listenTCP, far: func(id int) []sent {
			return datagram(wire.SYN(fromFar4(id), netip.AddrPortFrom(wire.Board4, openPort(id))))
		}},
		{name: "UDP refusal", plain: "the far side sends to a closed door", want: []string{"icmp-unreachable"}, far: func(id int) []sent { return datagram(wire.UDP(fromFar4(id), netip.AddrPortFrom(wire.Board4, 2), nil)) }},
		{name: "UDP refusal, IPv6", plain: "the same over IPv6", want: []string{"icmp6-unreachable"}, far: func(id int) []sent { return datagram(wire.UDP(fromFar6(id), netip.AddrPortFrom(wire.Board6, 2), nil)) }},
		{name: "refusal of an unknown protocol", plain: "the far side sends what the board has no program for", want: []string{"icmp-unreachable"}, far: func(id int) []sent { return datagram(wire.IP(wire.Far4(id), wire.Board4, wire.ProtoPrivate+1, nil)) }},
		{name: "IGMP report on a query", plain: "the far side asks which groups the board is in", want: []string{"igmp"}, links: one, before: joinOwn, far: igmpQuery},
	})
}

// shared wraps what the far side sends on the shared link.
func shared(dst net.HardwareAddr, etherType uint16, p []byte) []sent {
	return []sent{{sharedFar, wire.Ether(dst, wire.FarMAC, etherType, p)}}
}

// datagram sends a whole IP datagram to the board.
func datagram(p []byte) []sent {
	t := uint16(wire.TypeIPv4)
	if p[0]>>4 == 6 {
		t = wire.TypeIPv6
	}
	return shared(wire.BoardMAC, t, p)
}

func fromFar4(id int) netip.AddrPort { return netip.AddrPortFrom(wire.Far4(id), 4000) }
func fromFar6(id int) netip.AddrPort { return netip.AddrPortFrom(wire.Far6(id), 4000) }

func echo(from, to netip.Addr, id int) []sent {
	kind, proto := byte(wire.Echo4), byte(wire.ProtoICMP)
	if to.Is6() {
		kind, proto = wire.Echo6, wire.ProtoICMPv6
	}
	return datagram(wire.IP(from, to, proto, wire.ICMP(from, to, kind, 0, wire.EchoBody(9, uint16(id), wire.Mark(id)))))
}

func solicitation(id int) []sent {
	from, target := wire.Far6(id), wire.Board6.As16()
	body := append(make([]byte, 4), target[:]...)
	body = append(append(body, 1, 1), wire.FarMAC...)
	p := wire.IPHops(from, wire.Board6, wire.ProtoICMPv6, 255, wire.ICMP(from, wire.Board6, wire.Solicit, 0, body))
	return shared(wire.BoardMAC, wire.TypeIPv6, p)
}

// openPort is where a program of the board waits for the far side.
func openPort(id int) uint16 { return uint16(20000 + id) }

func listenTCP(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(openPort(t.id))}); err != nil {
		return err
	}
	return unix.Listen(fd, 4)
}

func joinOwn(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	index, err := linkIndex(t.own(""))
	if err != nil {
		return err
	}
	return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: wire.Group4(t.id).As4(), Ifindex: int32(index)})
}

// igmpQuery is a general query, version 3, to be answered within 0.1 s.
func igmpQuery(id int) []sent {
	p := []byte{0x11, 1, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0}
	sum := wire.Checksum(0, p)
	p[2], p[3] = byte(sum>>8), byte(sum)
	to := netip.MustParseAddr("224.0.0.1")
	d := wire.IPHops(wire.Own4(id, 2), to, wire.ProtoIGMP, 1, p)
	return []sent{{ownFar(id, ""), wire.Ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, wire.FarMAC, wire.TypeIPv4, d)}}
}
