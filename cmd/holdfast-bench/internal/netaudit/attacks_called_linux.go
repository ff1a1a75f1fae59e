package netaudit

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// calledAttacks reach a socket by other system calls than send and connect.
func calledAttacks() []*attack {
	udp := []string{"udp"}
	return in(groupSockets, []*attack{
		{name: "io_uring: send", plain: "send without a system call for it", want: udp, lacks: noRing, run: ringSend},
		{name: "io_uring: socket and connect", plain: "open and connect the same way", want: []string{"tcp"}, lacks: noRing, run: ringConnect},
		{name: "sendmmsg", plain: "several messages in one call", want: udp, run: sendMany},
		{name: "sendfile to a socket", plain: "send a file without reading it", want: udp, run: sendFile},
		{name: "splice from a pipe to a socket", plain: "send what another program writes", want: udp, run: splicePipe},
		{name: "MSG_ZEROCOPY", plain: "send memory without copying it", want: udp, run: zeroCopy},
		{name: "UDP with segmentation", plain: "many messages as one large one", want: udp, run: segmented},
		{name: "UDP with IP options", plain: "a message that asks routers to note their addresses", want: udp, run: withOptions},
		{name: "UDP with an IPv6 segment routing header", plain: "a message that goes by way of another address", want: udp, run: withRouting},
	})
}

// protocolAttacks need what few kernels have.
func protocolAttacks() []*attack {
	return in(groupSockets, []*attack{
		{name: "SCTP", plain: "a connection by a protocol of telephone networks", want: []string{"sctp"}, lacks: noProtocol("SCTP", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP),
			run: func(t *trial) error { return t.stream(unix.IPPROTO_SCTP, sinkOf(t.far4())) }},
		{name: "DCCP", plain: "a connection by a protocol for media", want: []string{"dccp"}, lacks: noProtocol("DCCP", unix.AF_INET, unix.SOCK_DCCP, unix.IPPROTO_DCCP), run: dccp},
		{name: "L2TP", plain: "a message into a tunnel", want: []string{"l2tp"}, lacks: noProtocol("L2TP", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_L2TP),
			run: func(t *trial) error { return t.datagram(unix.IPPROTO_L2TP, sinkOf(t.far4()), nil) }},
	})
}

func dccp(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DCCP, unix.IPPROTO_DCCP)
	if err != nil {
		return err
	}
	return connect(fd, sockaddr(sinkOf(t.far4()), 0))
}

// connectedUDP is a socket whose peer is the far side.
func (t *trial) connectedUDP() (int, error) {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return -1, err
	}
	if err := connect(fd, sockaddr(sinkOf(t.far4()), 0)); err != nil {
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

func sendMany(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return sendmmsg(fd, sinkOf(t.far4()), t.mark(), 4)
}

func sendFile(t *trial) error {
	fd, err := t.connectedUDP()
	if err != nil {
		return err
	}
	memory, err := unix.MemfdCreate("mark", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(memory), "mark")
	t.deferred(func() { f.Close() })
	if _, err := f.Write(t.mark()); err != nil {
		return err
	}
	var from int64
	_, err = unix.Sendfile(fd, memory, &from, len(t.mark()))
	return err
}

func splicePipe(t *trial) error {
	fd, err := t.connectedUDP()
	if err != nil {
		return err
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	t.deferred(func() { unix.Close(p[0]); unix.Close(p[1]) })
	if _, err := unix.Write(p[1], t.mark()); err != nil {
		return err
	}
	_, err = unix.Splice(p[0], nil, fd, nil, len(t.mark()), 0)
	return err
}

func zeroCopy(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), unix.MSG_ZEROCOPY, sockaddr(sinkOf(t.far4()), 0))
}

func segmented(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, len(t.mark())); err != nil {
		return err
	}
	return unix.Sendto(fd, append(t.mark(), t.mark()...), 0, sockaddr(sinkOf(t.far4()), 0))
}

func withOptions(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	recordRoute := string([]byte{7, 7, 4, 0, 0, 0, 0, 0})
	if err := unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, recordRoute); err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), 0, sockaddr(sinkOf(t.far4()), 0))
}

func withRouting(t *trial) error {
	fd, err := t.socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	via := t.far6().As16()
	header := string(append([]byte{0, 2, 4, 0, 0, 0, 0, 0}, via[:]...)) // type 4, one address, which is the last (RFC 8754)
	if err := unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_RTHDR, header); err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), 0, sockaddr(sinkOf(t.far6()), 0))
}
