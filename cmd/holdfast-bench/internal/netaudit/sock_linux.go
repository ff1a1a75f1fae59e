package netaudit

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// socket opens one that is closed with the trial. It does not block: see await.
func (t *trial) socket(domain, kind, proto int) (int, error) {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	t.deferred(func() { unix.Close(fd) })
	return fd, nil
}

// sockaddr makes a system's address; link (an index) is for addresses that need one.
func sockaddr(a netip.AddrPort, link int) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: uint32(link)}
}

// domain is the address family's.
func domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// await waits for events on fd, no longer than patience.
func await(fd int, events int16) error {
	deadline := time.Now().Add(patience)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errSilence
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(p, int(left.Milliseconds())+1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n > 0:
			return nil
		}
	}
}

// errSilence: nothing came back. It is what a drop looks like from inside.
var errSilence = errors.New("no answer")

// connect waits for the connection, and tells what became of it.
func connect(fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	if err := await(fd, unix.POLLOUT); err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// udp sends the mark, or what is given.
func (t *trial) udp(to netip.AddrPort, payload []byte) error {
	return t.datagram(unix.IPPROTO_UDP, to, payload)
}

func (t *trial) datagram(proto int, to netip.AddrPort, payload []byte) error {
	fd, err := t.socket(domain(to.Addr()), unix.SOCK_DGRAM, proto)
	if err != nil {
		return err
	}
	if payload == nil {
		payload = t.mark()
	}
	return unix.Sendto(fd, payload, 0, sockaddr(to, 0))
}

// stream connects and writes the mark.
func (t *trial) stream(proto int, to netip.AddrPort) error {
	fd, err := t.socket(domain(to.Addr()), unix.SOCK_STREAM, proto)
	if err != nil {
		return err
	}
	if err := connect(fd, sockaddr(to, 0)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_, err = unix.Write(fd, t.mark())
	return err
}

// multicast sends the mark to a group on the shared link.
func (t *trial) multicast(to netip.AddrPort) error {
	fd, err := t.socket(domain(to.Addr()), unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	index, err := linkIndex(sharedLink)
	if err != nil {
		return err
	}
	if to.Addr().Is4() {
		err = unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)})
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index)
	}
	if err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), 0, sockaddr(to, index))
}

// noProtocol tells whether the kernel has a kind of socket: lacks wants it so.
func noProtocol(name string, domain, kind, proto int) func() string {
	return func() string {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
		if err == nil {
			unix.Close(fd)
			return ""
		}
		for _, absent := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ESOCKTNOSUPPORT, unix.ENOPROTOOPT, unix.ENOSYS} {
			if errors.Is(err, absent) {
				return "the kernel has no " + name
			}
		}
		return ""
	}
}
