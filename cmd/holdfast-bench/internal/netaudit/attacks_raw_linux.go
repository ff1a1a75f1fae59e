package netaudit

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// rawAttacks are IP datagrams that programs with CAP_NET_RAW make themselves.
func rawAttacks() []*attack {
	return asRoot(in(groupRaw, []*attack{
		{name: "raw ICMP echo", plain: "ping by a socket for administrators", want: []string{"icmp-echo"}, run: func(t *trial) error {
			return t.rawSend(unix.IPPROTO_ICMP, t.far4(), wire.ICMP(wire.Board4, t.far4(), wire.Echo4, 0, wire.EchoBody(1, 1, t.mark())))
		}},
		{name: "raw ICMPv6 echo", plain: "the same over IPv6", want: []string{"icmp6-echo"}, run: func(t *trial) error {
			return t.rawSend(unix.IPPROTO_ICMPV6, t.far6(), wire.ICMP(wire.Board6, t.far6(), wire.Echo6, 0, wire.EchoBody(1, 1, t.mark())))
		}},
		{name: "raw IPv4 with its own header", plain: "a message with a false sender", want: []string{"udp"}, run: func(t *trial) error {
			forged := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 4000)
			return t.rawSend(unix.IPPROTO_RAW, t.far4(), wire.UDP(forged, sinkOf(t.far4()), t.mark()))
		}},
		{name: "raw IPv4, unknown protocol", plain: "a message of a kind that no firewall has a name for", want: []string{"ip-253"}, run: func(t *trial) error { return t.rawSend(wire.ProtoPrivate, t.far4(), t.mark()) }},
		{name: "raw IPv6, unknown protocol", plain: "the same over IPv6", want: []string{"ip-253"}, run: func(t *trial) error { return t.rawSend(wire.ProtoPrivate, t.far6(), t.mark()) }},
		{name: "raw IPv6 with its own header", plain: "a message with a false sender over IPv6", want: []string{"udp"}, run: func(t *trial) error {
			forged := netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), 4000)
			return t.rawSend(unix.IPPROTO_RAW, t.far6(), wire.UDP(forged, sinkOf(t.far6()), t.mark()))
		}},
		{name: "raw router solicitation", plain: "ask for a router", want: []string{"rs"}, run: rawSolicit},
		{name: "raw GRE", plain: "a tunnel's message, made by hand", want: []string{"gre"}, run: func(t *trial) error {
			return t.rawSend(wire.ProtoGRE, t.far4(), append([]byte{0, 0, 8, 0}, t.datagram4()...))
		}},
		{name: "raw IP in IP", plain: "a message inside a message", want: []string{"ipip"}, run: func(t *trial) error { return t.rawSend(wire.ProtoIPIP, t.far4(), t.datagram4()) }},
		{name: "raw IPv6 in IPv4", plain: "an IPv6 message inside an IPv4 one", want: []string{"sit"}, run: func(t *trial) error {
			from := netip.AddrPortFrom(wire.Board6, 4000)
			return t.rawSend(wire.ProtoIPv6, t.far4(), wire.UDP(from, sinkOf(t.far6()), t.mark()))
		}},
	}))
}

func (t *trial) rawSend(proto int, to netip.Addr, p []byte) error {
	fd, err := t.socket(domain(to), unix.SOCK_RAW, proto)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, p, 0, sockaddr(netip.AddrPortFrom(to, 0), 0))
}

// rawSolicit carries the mark as an option of a kind that nobody knows.
func rawSolicit(t *trial) error {
	to := netip.MustParseAddr("ff02::2")
	fd, err := t.socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	index, err := linkIndex(sharedLink)
	if err != nil {
		return err
	}
	option := append([]byte{253, 3}, t.mark()...)
	p := wire.ICMP(wire.Board6, to, 133, 0, append(make([]byte, 4), append(option, 0, 0)...))
	return unix.Sendto(fd, p, 0, sockaddr(netip.AddrPortFrom(to, 0), index))
}

// packetAttacks are whole frames.
func packetAttacks() []*attack {
	other := []string{"0x88b5"}
	return asRoot(in(groupRaw, []*attack{
		{name: "packet socket, IPv4 frame", plain: "hand a finished frame to the network card", want: []string{"udp"}, run: func(t *trial) error { return t.packet(t.frame4()) }},
		{name: "packet socket, unknown ethertype", plain: "a frame that is no Internet traffic at all", want: other, run: func(t *trial) error { return t.packet(t.private(wire.MAC(t.id))) }},
		{name: "packet socket, header by the kernel", plain: "the same, addressed by the system", want: other, run: cooked},
		{name: "packet socket past the queue", plain: "a frame that goes around the sending queue", want: other, run: bypass},
		{name: "packet socket, ring in memory", plain: "frames put into memory that the system empties", want: other, run: txRing},
		{name: "packet socket with a header for segmentation", plain: "a frame as virtual machines send it", want: []string{"udp"}, run: vnetHeader},
		{name: "AF_XDP", plain: "frames put where only the network driver looks", want: other, links: one, run: xdpSend, lacks: noProtocol("AF_XDP", unix.AF_XDP, unix.SOCK_RAW, 0)},
		{name: "ARP request, forged", plain: "look for other computers", want: []string{"arp-request"}, run: func(t *trial) error {
			return t.packet(wire.Ether(wire.Broadcast, wire.BoardMAC, wire.TypeARP, wire.ARP(wire.ARPRequest, wire.BoardMAC, wire.Board4, make(net.HardwareAddr, 6), wire.New4(t.id))))
		}},
		{name: "ARP, gratuitous, forged", plain: "tell everybody a false address", want: []string{"arp-gratuitous"}, run: func(t *trial) error {
			return t.packet(wire.Ether(wire.Broadcast, wire.BoardMAC, wire.TypeARP, wire.ARP(wire.ARPReply, wire.BoardMAC, wire.New4(t.id), wire.BoardMAC, wire.New4(t.id))))
		}},
		{name: "DHCP discover", plain: "ask for an address before there is one", want: []string{"udp"}, run: dhcp},
		{name: "LLDP", plain: "tell the switch who is there", want: []string{"0x88cc"}, run: func(t *trial) error {
			return t.packet(wire.Ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0x0e}, wire.BoardMAC, wire.TypeLLDP, t.mark()))
		}},
		{name: "EAPOL", plain: "begin to log in to a network", want: []string{"0x888e"}, run: func(t *trial) error {
			return t.packet(wire.Ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 3}, wire.BoardMAC, wire.TypeEAPOL, t.mark()))
		}},
		{name: "PPPoE discovery", plain: "look for an Internet provider", want: []string{"0x8863"}, run: func(t *trial) error {
			return t.packet(wire.Ether(wire.Broadcast, wire.BoardMAC, wire.TypePPPoE, t.mark()))
		}},
		{name: "802.1Q frame", plain: "a frame for a virtual network", want: []string{"vlan"}, run: func(t *trial) error {
			inner := wire.Ether(wire.FarMAC, wire.BoardMAC, wire.TypeIPv4, t.datagram4())
			return t.packet(wire.Ether(wire.FarMAC, wire.BoardMAC, wire.TypeVLAN, append([]byte{0, 7}, inner[12:]...)))
		}},
		{name: "802.3 frame with a length", plain: "a frame of the oldest form, as switches use among themselves", want: []string{"llc"}, run: func(t *trial) error {
			body := append([]byte{0x42, 0x42, 3}, t.mark()...)
			return t.packet(wire.Ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, wire.BoardMAC, uint16(len(body)), body))
		}},
		{name: "MACsec frame", plain: "an encrypted frame", want: []string{"macsec"}, run: func(t *trial) error {
			return t.packet(wire.Ether(wire.FarMAC, wire.BoardMAC, wire.TypeMACsec, t.mark()))
		}},
	}))
}

// packetSocket is one for whole frames on a link.
func (t *trial) packetSocket(kind int, link string) (fd, index int, err error) {
	if index, err = linkIndex(link); err != nil {
		return -1, 0, err
	}
	fd, err = t.socket(unix.AF_PACKET, kind, 0)
	return fd, index, err
}

func (t *trial) packet(frame []byte) error { return t.packetOn(sharedLink, frame) }

func (t *trial) packetOn(link string, frame []byte) error {
	fd, index, err := t.packetSocket(unix.SOCK_RAW, link)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6})
}

func cooked(t *trial) error {
	fd, index, err := t.packetSocket(unix.SOCK_DGRAM, sharedLink)
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Protocol: htons(wire.TypePrivate)}
	copy(to.Addr[:], wire.MAC(t.id))
	return unix.Sendto(fd, t.mark(), 0, to)
}

func bypass(t *trial) error {
	fd, index, err := t.packetSocket(unix.SOCK_RAW, sharedLink)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return err
	}
	return unix.Sendto(fd, t.private(wire.MAC(t.id)), 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6})
}

// Layout of a frame in the ring (packet_mmap in the kernel's documentation, version 2).
const (
	ringVersion  = 1 // TPACKET_V2
	ringBlock    = 4096
	ringFrame    = 2048
	ringHeader   = 32
	ringRequest  = 1 // TP_STATUS_SEND_REQUEST
	ringLenField = 4
)

func txRing(t *trial) error {
	fd, index, err := t.packetSocket(unix.SOCK_RAW, sharedLink)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, ringVersion); err != nil {
		return err
	}
	shape := unix.TpacketReq{Block_size: ringBlock, Block_nr: 1, Frame_size: ringFrame, Frame_nr: ringBlock / ringFrame}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_TX_RING, &shape); err != nil {
		return err
	}
	memory, err := unix.Mmap(fd, 0, ringBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	t.deferred(func() { _ = unix.Munmap(memory) })
	frame := t.private(wire.MAC(t.id))
	copy(memory[ringHeader:], frame)
	*(*uint32)(unsafe.Pointer(&memory[ringLenField])) = uint32(len(frame))
	*(*uint32)(unsafe.Pointer(&memory[0])) = ringRequest
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: 0}); err != nil {
		return err
	}
	return unix.Sendto(fd, nil, unix.MSG_DONTWAIT, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6})
}

func vnetHeader(t *trial) error {
	fd, index, err := t.packetSocket(unix.SOCK_RAW, sharedLink)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return err
	}
	header := make([]byte, 10) // virtio_net_hdr: nothing to be done
	return unix.Sendto(fd, append(header, t.frame4()...), 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6})
}

// dhcp is a DISCOVER (RFC 2131) whose host name is the mark.
func dhcp(t *trial) error {
	p := make([]byte, 236, 300)
	p[0], p[1], p[2] = 1, 1, 6
	copy(p[28:], wire.MAC(t.id))
	p = append(p, 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 12, byte(len(t.mark())))
	p = append(append(p, t.mark()...), 255)
	from, to := netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67")
	if err := t.packet(wire.Ether(wire.Broadcast, wire.BoardMAC, wire.TypeIPv4, wire.UDP(from, to, p))); err != nil {
		return fmt.Errorf("discover: %w", err)
	}
	return nil
}
