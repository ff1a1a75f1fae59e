package netaudit

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// forwardAttacks use the board as a way from one link to another. The far side sends on one and
// sees it come out of the other.
func forwardAttacks() []*attack {
	udp := []string{"udp"}
	return in(groupForward, []*attack{
		{name: "forwarding, IPv4", plain: "the far side sends through the board to a second network", want: udp, far: func(id int) []sent {
			return datagram(wire.UDP(fromFar4(id), sinkOf(wire.Beyond4(id)), wire.Mark(id)))
		}},
		{name: "forwarding, IPv6", plain: "the same over IPv6", want: udp, far: func(id int) []sent {
			return datagram(wire.UDP(fromFar6(id), sinkOf(wire.Beyond6(id)), wire.Mark(id)))
		}},
		{name: "time exceeded while forwarding", plain: "the far side finds out the path, as traceroute does", want: []string{"icmp-time-exceeded"}, far: func(id int) []sent {
			return datagram(wire.IPHops(wire.Far4(id), wire.Beyond4(id), wire.ProtoUDP, 1, make([]byte, 16)))
		}},
		{name: "forwarding with a changed sender (NAT)", plain: "the same, with the board as the sender, as routers at home do", root: true, want: udp, links: one, run: masquerade, far: func(id int) []sent {
			d := wire.UDP(netip.AddrPortFrom(wire.Far4(id), 4000), sinkOf(wire.Own4(id, 2)), wire.Mark(id))
			return datagram(d)
		}},
		{name: "destination changed (DNAT) from loopback", plain: "a program sends to itself, and a rule sends it on to the far side", root: true, want: udp, run: divert},
		{name: "routing by rule", plain: "a program picks another way than the usual one", root: true, want: udp, links: one, run: policyRoute},
		{name: "ARP reply for others", plain: "the far side asks for an address behind the board", want: []string{"arp-reply"}, links: one, conf: []string{"ipv4.conf.%s.proxy_arp=1", "ipv4.neigh.%s.proxy_delay=0"}, far: func(id int) []sent {
			p := wire.ARP(wire.ARPRequest, wire.FarMAC, wire.Own4(id, 2), make(net.HardwareAddr, 6), wire.Beyond4(id))
			return []sent{{ownFar(id, ""), wire.Ether(wire.Broadcast, wire.FarMAC, wire.TypeARP, p)}}
		}},
		{name: "bridge between two links", plain: "a frame goes in at one link and out at another", root: true, want: []string{"0x88b5"}, links: []linkPlan{{suffix: "a"}, {suffix: "b"}}, bare: true, run: bridgeLinks, before: bridgeLinks, far: func(id int) []sent {
			return []sent{{ownFar(id, "a"), wire.Ether(wire.Broadcast, wire.FarMAC, wire.TypePrivate, wire.Mark(id))}}
		}},
	})
}

// masquerade adds a table of its own that gives what is forwarded the board's address.
func masquerade(t *trial) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.virtual("n")})
	chain := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname(t.own(""))},
		&expr.Masq{},
	}})
	return c.Flush()
}

func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

// divert sends what is for a port on loopback to the far side.
func divert(t *trial) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.virtual("n")})
	chain := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	port := []byte{byte(openPort(t.id) >> 8), byte(openPort(t.id))}
	to := t.far4().As4()
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: port},
		&expr.Immediate{Register: 1, Data: to[:]},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}})
	if err := c.Flush(); err != nil {
		return err
	}
	if err := sysctl("ipv4.conf.all.route_localnet", "1"); err != nil {
		return err
	}
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: wire.Board4.As4()}); err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), 0, &unix.SockaddrInet4{Port: int(openPort(t.id)), Addr: [4]byte{127, 0, 0, 1}})
}

// policyRoute sends by a table of its own, picked by a mark of the socket.
func policyRoute(t *trial) error {
	index, err := linkIndex(t.own(""))
	if err != nil {
		return err
	}
	table := 10000 + t.id
	to := netip.PrefixFrom(t.far4(), 32)
	if err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(to), LinkIndex: index, Table: table, Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	if err := neighbour(index, t.far4(), wire.FarMAC); err != nil {
		return err
	}
	rule := netlink.NewRule()
	rule.Mark, rule.Table, rule.Family = uint32(table), table, netlink.FAMILY_V4
	if err := netlink.RuleAdd(rule); err != nil {
		return err
	}
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, table); err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), 0, sockaddr(sinkOf(t.far4()), 0))
}

// bridgeLinks joins the attack's two links. It is tried before the lock and under it.
func bridgeLinks(t *trial) error {
	name := t.virtual("b")
	if _, err := linkIndex(name); err != nil {
		if err := t.addLink(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
			return err
		}
	}
	for _, port := range []string{t.own("a"), t.own("b")} {
		if err := t.enslave(port, name); err != nil {
			return err
		}
	}
	return up(name)
}
