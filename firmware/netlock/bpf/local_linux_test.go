package bpf_test

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// locals is what programs of one board do among themselves. It must go on.
var locals = map[string]func() error{
	"udp pair on 0.0.0.0":      func() error { return pair("udp4", "0.0.0.0:14540", "127.0.0.1:14540") },
	"udp pair on 127.0.0.1":    func() error { return pair("udp4", "127.0.0.1:0", "") },
	"udp pair on 127.8.9.10":   func() error { return pair("udp4", "127.8.9.10:0", "") },
	"udp pair on ::1":          func() error { return pair("udp6", "[::1]:0", "") },
	"udp pair on ::":           func() error { return pair("udp6", "[::]:14541", "[::1]:14541") },
	"udp pair to 0.0.0.0":      func() error { return pair("udp4", "0.0.0.0:14542", "0.0.0.0:14542") },
	"udp pair, mapped address": mappedPair,
	"tcp to 127.0.0.1":         func() error { return stream("tcp4", "127.0.0.1:0") },
	"tcp to ::1":               func() error { return stream("tcp6", "[::1]:0") },
	"tcp to 0.0.0.0":           func() error { return stream("tcp", "0.0.0.0:0") },
	"group on loopback":        groupOnLoopback,
	"unix pair": func() error {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Close(fds[0]), unix.Close(fds[1]))
	},
	"netlink": func() error { _, err := net.Interfaces(); return err },
}

// patience is for what happens at once, on a machine that is busy.
const patience = 20 * time.Second

// pair is two programs as MAVSDK and an autopilot's simulator: one waits at a port, the other one
// begins, and both send.
func pair(network, listen, to string) error {
	at, err := net.ResolveUDPAddr(network, listen)
	if err != nil {
		return err
	}
	waits, err := net.ListenUDP(network, at)
	if err != nil {
		return err
	}
	defer waits.Close()
	if to == "" {
		to = waits.LocalAddr().String()
	}
	dest, err := net.ResolveUDPAddr(network, to)
	if err != nil {
		return err
	}
	begins, err := net.ListenUDP(network, nil)
	if err != nil {
		return err
	}
	defer begins.Close()
	if _, err := begins.WriteTo([]byte(payload), dest); err != nil {
		return err
	}
	from, err := receive(waits)
	if err != nil {
		return err
	}
	if _, err := waits.WriteTo([]byte(payload), from); err != nil {
		return err
	}
	_, err = receive(begins)
	return err
}

func receive(c *net.UDPConn) (net.Addr, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	buf := make([]byte, 100)
	n, from, err := c.ReadFrom(buf)
	if err == nil && string(buf[:n]) != payload {
		err = fmt.Errorf("received %q", buf[:n])
	}
	return from, err
}

// mappedPair sends to ::ffff:127.0.0.1, once connected and once not.
func mappedPair() error {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer c.Close()
	to := &unix.SockaddrInet6{Port: c.LocalAddr().(*net.UDPAddr).Port, Addr: [16]byte{10: 0xff, 0xff, 127, 0, 0, 1}}
	for _, connected := range []bool{false, true} {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if connected {
			if err := unix.Connect(fd, to); err != nil {
				return err
			}
			_, err = unix.Write(fd, []byte(payload))
		} else {
			err = unix.Sendto(fd, []byte(payload), 0, to)
		}
		if err != nil {
			return err
		}
		if _, err := receive(c); err != nil {
			return err
		}
	}
	return nil
}

func stream(network, listen string) error {
	l, err := net.Listen(network, listen)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.DialTimeout(network, l.Addr().String(), patience)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Write([]byte(payload)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, len(payload)))
	return err
}

// groupOnLoopback is how programs of one board find each other by multicast: the group is joined
// on lo, and the sender is bound to loopback.
func groupOnLoopback() error {
	group := [4]byte{239, 255, 0, 1}
	waits, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4zero})
	if err != nil {
		return err
	}
	defer waits.Close()
	raw, err := waits.SyscallConn()
	if err != nil {
		return err
	}
	var join error
	if err := raw.Control(func(fd uintptr) {
		join = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group, Ifindex: 1})
	}); err != nil || join != nil {
		return errors.Join(err, join)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: waits.LocalAddr().(*net.UDPAddr).Port, Addr: group}
	if err := unix.Sendto(fd, []byte(payload), 0, to); err != nil {
		return err
	}
	_, err = receive(waits)
	return err
}
