package netaudit

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// sinkOf is the far side's open port on a.
func sinkOf(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, sinkPort) }

func groupTo(to string, port uint16) func(*trial) error {
	return func(t *trial) error { return t.multicast(netip.AddrPortFrom(netip.MustParseAddr(to), port)) }
}

// socketAttacks need nothing but a socket.
func socketAttacks() []*attack {
	udp, tcp := []string{"udp"}, []string{"tcp"}
	return in(groupSockets, []*attack{
		{name: "TCP, IPv4", plain: "open a connection, as a browser does", want: tcp, run: func(t *trial) error { return t.stream(0, sinkOf(t.far4())) }},
		{name: "TCP, IPv6", plain: "the same over IPv6", want: tcp, run: func(t *trial) error { return t.stream(0, sinkOf(t.far6())) }},
		{name: "TCP to an IPv4 address in IPv6 form", plain: "the same with an address written in the newer form", want: tcp, run: mappedTCP},
		{name: "TCP Fast Open", plain: "send with the first packet of a connection", want: tcp, run: fastOpen},
		{name: "Multipath TCP", plain: "a connection over several links at once", want: tcp, run: func(t *trial) error { return t.stream(unix.IPPROTO_MPTCP, sinkOf(t.far4())) },
			lacks: noProtocol("Multipath TCP", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)},
		{name: "UDP, IPv4", plain: "send a single message", want: udp, run: func(t *trial) error { return t.udp(sinkOf(t.far4()), nil) }},
		{name: "UDP, IPv6", plain: "the same over IPv6", want: udp, run: func(t *trial) error { return t.udp(sinkOf(t.far6()), nil) }},
		{name: "UDP bound to a link", plain: "a message through a link that the program names", want: udp, run: boundUDP},
		{name: "UDP-Lite, IPv4", plain: "a relative of UDP that many firewalls forget", want: []string{"udplite"}, lacks: noProtocol("UDP-Lite", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE),
			run: func(t *trial) error { return t.datagram(unix.IPPROTO_UDPLITE, sinkOf(t.far4()), nil) }},
		{name: "UDP-Lite, IPv6", plain: "the same over IPv6", want: []string{"udplite"}, lacks: noProtocol("UDP-Lite", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE),
			run: func(t *trial) error { return t.datagram(unix.IPPROTO_UDPLITE, sinkOf(t.far6()), nil) }},
		{name: "DNS query by UDP", plain: "hide data in the name of a computer that is looked up", want: udp, run: func(t *trial) error { return t.udp(netip.AddrPortFrom(t.far4(), 53), dnsQuery(t.id)) }},
		{name: "DNS query by TCP", plain: "the same over a connection", want: tcp, run: func(t *trial) error { return t.stream(0, netip.AddrPortFrom(t.far4(), 53)) }},
		{name: "NTP", plain: "ask for the time", want: udp, run: func(t *trial) error { return t.udp(netip.AddrPortFrom(t.far4(), 123), nil) }},
		{name: "ping socket, IPv4", plain: "ping with data in it", want: []string{"icmp-echo"}, run: func(t *trial) error { return t.ping(t.far4()) }},
		{name: "ping socket, IPv6", plain: "the same over IPv6", want: []string{"icmp6-echo"}, run: func(t *trial) error { return t.ping(t.far6()) }},
		{name: "mDNS, IPv4", plain: "announce a name to everybody nearby", want: udp, run: groupTo("224.0.0.251", 5353)},
		{name: "mDNS, IPv6", plain: "the same over IPv6", want: udp, run: groupTo("ff02::fb", 5353)},
		{name: "LLMNR", plain: "look up a name nearby, as Windows does", want: udp, run: groupTo("224.0.0.252", 5355)},
		{name: "SSDP", plain: "look for devices nearby", want: udp, run: groupTo("239.255.255.250", 1900)},
		{name: "DHCPv6 solicit", plain: "ask for an address", want: udp, run: groupTo("ff02::1:2", 547)},
		{name: "multicast, IPv4", plain: "send to all members of a group", want: udp, run: func(t *trial) error { return t.multicast(sinkOf(wire.Group4(t.id))) }},
		{name: "multicast, IPv6", plain: "the same over IPv6", want: udp, run: func(t *trial) error { return t.multicast(sinkOf(wire.Group6(t.id))) }},
		{name: "join a group, IGMP", plain: "become a member of a group: the system tells the router", want: []string{"igmp"}, run: joinGroup4},
		{name: "join a group, MLD", plain: "the same over IPv6", want: []string{"mld"}, run: joinGroup6},
		{name: "broadcast to the network", plain: "send to everybody on the link", want: udp, run: func(t *trial) error { return t.broadcast(wire.Directed4) }},
		{name: "broadcast to all", plain: "the same with the address that needs no network", want: udp, run: func(t *trial) error { return t.broadcast(netip.MustParseAddr("255.255.255.255")) }},
		{name: "ARP by sending to a new address", plain: "send to an address that must be asked for: the question itself carries it", want: []string{"arp-request"}, run: func(t *trial) error { return t.udp(sinkOf(wire.New4(t.id)), nil) }},
		{name: "neighbour solicitation by sending to a new address", plain: "the same over IPv6", want: []string{"ns"}, run: func(t *trial) error { return t.udp(sinkOf(wire.New6(t.id)), nil) }},
	})
}

// in puts attacks into a group.
func in(group string, all []*attack) []*attack {
	for _, a := range all {
		a.group = group
	}
	return all
}

// asRoot marks attacks that an ordinary user cannot do.
func asRoot(all []*attack) []*attack {
	for _, a := range all {
		a.root = true
	}
	return all
}

func mappedTCP(t *trial) error {
	fd, err := t.socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return connect(fd, &unix.SockaddrInet6{Port: sinkPort, Addr: t.far4().As16()})
}

func fastOpen(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), unix.MSG_FASTOPEN, sockaddr(sinkOf(t.far4()), 0))
}

func boundUDP(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.BindToDevice(fd, sharedLink); err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), 0, sockaddr(sinkOf(t.far4()), 0))
}

// dnsQuery asks for the mark as a host's name (RFC 1035).
func dnsQuery(id int) []byte {
	p := binary.BigEndian.AppendUint16(nil, uint16(id))
	p = append(p, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	for _, label := range []string{string(wire.Mark(id)), "example"} {
		p = append(append(p, byte(len(label))), label...)
	}
	return append(p, 0, 0, 1, 0, 1)
}

// ping sends an echo request by a socket that needs no powers.
func (t *trial) ping(to netip.Addr) error {
	kind, proto := byte(wire.Echo4), unix.IPPROTO_ICMP
	if to.Is6() {
		kind, proto = wire.Echo6, unix.IPPROTO_ICMPV6
	}
	fd, err := t.socket(domain(to), unix.SOCK_DGRAM, proto)
	if err != nil {
		return err
	}
	message := wire.ICMP(to, to, kind, 0, wire.EchoBody(0, 1, t.mark()))
	return unix.Sendto(fd, message, 0, sockaddr(netip.AddrPortFrom(to, 0), 0))
}

func joinGroup4(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	index, err := linkIndex(sharedLink)
	if err != nil {
		return err
	}
	return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
		&unix.IPMreqn{Multiaddr: wire.Group4(t.id).As4(), Ifindex: int32(index)})
}

func joinGroup6(t *trial) error {
	fd, err := t.socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	index, err := linkIndex(sharedLink)
	if err != nil {
		return err
	}
	return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
		&unix.IPv6Mreq{Multiaddr: wire.Group6(t.id).As16(), Interface: uint32(index)})
}

func (t *trial) broadcast(to netip.Addr) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return err
	}
	if err := unix.BindToDevice(fd, sharedLink); err != nil {
		return fmt.Errorf("bind to the link: %w", err)
	}
	return unix.Sendto(fd, t.mark(), 0, sockaddr(netip.AddrPortFrom(to, sinkPort), 0))
}
