package bpf_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// payload is what every attack tries to get out.
const payload = "holdfast test payload"

// An attack sends to an address. It returns the kernel's error.
type attack func(to netip.AddrPort) error

var attacks = map[string]attack{
	"tcp connect":       func(to netip.AddrPort) error { return connect(unix.SOCK_STREAM, 0, to) },
	"mptcp connect":     func(to netip.AddrPort) error { return connect(unix.SOCK_STREAM, unix.IPPROTO_MPTCP, to) },
	"sctp connect":      func(to netip.AddrPort) error { return connect(unix.SOCK_STREAM, unix.IPPROTO_SCTP, to) },
	"dccp connect":      func(to netip.AddrPort) error { return connect(unix.SOCK_DCCP, unix.IPPROTO_DCCP, to) },
	"udp connect":       func(to netip.AddrPort) error { return connect(unix.SOCK_DGRAM, 0, to) },
	"udplite connect":   func(to netip.AddrPort) error { return connect(unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, to) },
	"udp sendto":        func(to netip.AddrPort) error { return sendto(unix.SOCK_DGRAM, 0, to, 0) },
	"udp sendmsg":       sendmsg,
	"udp sendmmsg":      sendmmsg,
	"tcp fast open":     func(to netip.AddrPort) error { return sendto(unix.SOCK_STREAM, 0, to, unix.MSG_FASTOPEN) },
	"ping socket":       ping,
	"raw socket":        raw,
	"io_uring connect":  ringConnect,
	"source route":      sourceRoute,
	"bind":              bind,
	"flood":             flood,
	"10000 in a second": tenThousand,
	"keep":              keep,
	"wait":              wait,
	"got":               got,
}

// attacker makes attacks: each line is a name, a tab and an address. The answer is "sent" or the
// error's name.
func attacker(string) (func(string) string, func()) {
	return func(line string) string {
		name, to, _ := strings.Cut(line, "\t")
		f := attacks[name]
		if local := locals[name]; local != nil {
			return errorName(local())
		}
		addr, err := netip.ParseAddrPort(to)
		if f == nil || err != nil {
			return "no such attack"
		}
		return errorName(f(addr))
	}, func() {}
}

func errorName(err error) string {
	var no unix.Errno
	switch {
	case err == nil:
		return "sent"
	case errors.As(err, &no):
		return unix.ErrnoName(no)
	}
	return err.Error()
}

func sockaddr(to netip.AddrPort) (family int, sa unix.Sockaddr) {
	if to.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

// open makes a socket for an address and hands it to f.
func open(to netip.AddrPort, typ, proto int, f func(fd int, sa unix.Sockaddr) error) error {
	family, sa := sockaddr(to)
	fd, err := unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if typ == unix.SOCK_DGRAM && to.Addr().Is4() {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return err
		}
	}
	err = f(fd, sa)
	if errors.Is(err, unix.EINPROGRESS) {
		return nil // the first frame is out
	}
	return err
}

func connect(typ, proto int, to netip.AddrPort) error {
	return open(to, typ, proto, func(fd int, sa unix.Sockaddr) error {
		if err := unix.Connect(fd, sa); err != nil || typ != unix.SOCK_DGRAM {
			return err
		}
		_, err := unix.Write(fd, []byte(payload))
		return err
	})
}

func sendto(typ, proto int, to netip.AddrPort, flags int) error {
	return open(to, typ, proto, func(fd int, sa unix.Sockaddr) error {
		return unix.Sendto(fd, []byte(payload), flags, sa)
	})
}

func sendmsg(to netip.AddrPort) error {
	return open(to, unix.SOCK_DGRAM, 0, func(fd int, sa unix.Sockaddr) error {
		return unix.Sendmsg(fd, []byte(payload), nil, sa, 0)
	})
}

// sendmmsg sends two datagrams by one call, to an IPv4 address.
func sendmmsg(to netip.AddrPort) error {
	return open(to, unix.SOCK_DGRAM, 0, func(fd int, _ unix.Sockaddr) error {
		raw := inet4(to)
		data := []byte(payload)
		iov := unix.Iovec{Base: &data[0]}
		iov.SetLen(len(data))
		type mmsghdr struct {
			unix.Msghdr
			n uint32
		}
		var all [2]mmsghdr
		for i := range all {
			all[i].Name, all[i].Namelen = (*byte)(unsafe.Pointer(&raw)), unix.SizeofSockaddrInet4
			all[i].Iov = &iov
			all[i].SetIovlen(1)
		}
		_, _, no := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&all[0])), uintptr(len(all)), 0, 0, 0)
		if no != 0 {
			return no
		}
		return nil
	})
}

func inet4(to netip.AddrPort) unix.RawSockaddrInet4 {
	raw := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	port := binary.BigEndian.AppendUint16(nil, to.Port())
	raw.Port = binary.NativeEndian.Uint16(port)
	return raw
}

// echo is an ICMP echo request with the payload; its checksum is the kernel's matter (ping
// sockets) or left at 0 (raw ones).
func echo() []byte { return append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, payload...) }

func ping(to netip.AddrPort) error {
	return open(to, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, func(fd int, sa unix.Sockaddr) error {
		return unix.Sendto(fd, echo(), 0, sa)
	})
}

func raw(to netip.AddrPort) error {
	return open(to, unix.SOCK_RAW, unix.IPPROTO_ICMP, func(fd int, sa unix.Sockaddr) error {
		return unix.Sendto(fd, echo(), 0, sa)
	})
}

// sourceRoute sends to loopback, by way of the address: a loose source route.
func sourceRoute(to netip.AddrPort) error {
	return open(to, unix.SOCK_DGRAM, 0, func(fd int, _ unix.Sockaddr) error {
		a := to.Addr().As4()
		option := []byte{1, 131, 7, 4, a[0], a[1], a[2], a[3]}
		if err := unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string(option)); err != nil {
			return err
		}
		return unix.Sendto(fd, []byte(payload), 0, &unix.SockaddrInet4{Port: int(to.Port()), Addr: [4]byte{127, 0, 0, 1}})
	})
}

// bind binds to an address.
func bind(to netip.AddrPort) error {
	return open(to, unix.SOCK_DGRAM, 0, unix.Bind)
}

// flooded is how often flood tries.
const flooded = 5000

func flood(to netip.AddrPort) error {
	return open(to, unix.SOCK_DGRAM, 0, func(fd int, sa unix.Sockaddr) (err error) {
		for range flooded {
			err = unix.Sendto(fd, []byte(payload), 0, sa)
		}
		return err
	})
}

// tenThousand tries ten times each millisecond, for a second.
func tenThousand(to netip.AddrPort) error {
	return open(to, unix.SOCK_DGRAM, 0, func(fd int, sa unix.Sockaddr) (err error) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for start, n := time.Now(), 0; n < 10000; <-tick.C {
			for ; n < min(10000, 10*int(time.Since(start)/time.Millisecond)); n++ {
				err = unix.Sendto(fd, []byte(payload), 0, sa)
			}
		}
		return err
	})
}

// kept are sockets that stay open between attacks.
var kept = map[string]int{}

// keep connects at the first call and sends by the same socket at each.
func keep(to netip.AddrPort) error {
	fd, ok := kept[to.String()]
	if !ok {
		family, sa := sockaddr(to)
		var err error
		if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.Connect(fd, sa); err != nil {
			return err
		}
		kept[to.String()] = fd
	}
	_, err := unix.Write(fd, []byte(payload))
	return err
}

// wait opens a socket that receives; got tells what it received.
func wait(at netip.AddrPort) error {
	family, sa := sockaddr(at)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	kept["wait"] = fd
	return unix.Bind(fd, sa)
}

func got(netip.AddrPort) error {
	_, err := unix.Read(kept["wait"], make([]byte, 100))
	return err
}

// prober tries to send until stdin ends, as fast as it can, or as often as asked: each line is an
// address; the first starts it, and the answer to the second is how often it tried and how often
// that was not refused.
func prober(args string) (func(string) string, func()) {
	var to netip.AddrPort
	stop, done := make(chan struct{}), make(chan string, 1)
	return func(line string) string {
		if line == "stop" {
			close(stop)
			return <-done
		}
		to = netip.MustParseAddrPort(line)
		go func() { done <- probe(to, args, stop) }()
		return "started"
	}, func() {}
}

func probe(to netip.AddrPort, how string, stop chan struct{}) string {
	tried, passed := 0, 0
	_, sa := sockaddr(to)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	for {
		select {
		case <-stop:
			return fmt.Sprint(tried, " ", passed)
		default:
		}
		var err error
		if how == "connect" {
			err = unix.Connect(fd, sa)
		} else {
			err = unix.Sendto(fd, []byte(payload), 0, sa)
		}
		tried++
		if !errors.Is(err, unix.EPERM) {
			passed++
		}
	}
}
