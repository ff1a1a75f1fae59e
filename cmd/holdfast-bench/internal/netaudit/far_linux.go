package netaudit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// farSide is the process at the other end of all links: it takes what comes, counts it, and
// sends what attacks want sent.
type farSide struct {
	sniff *sniffer
	raw   int // a packet socket to send by

	mu     sync.Mutex
	raised map[string]bool // links that are up and know their way
	keep   []io.Closer     // programs of links, for as long as the process lives
}

// runFar serves until in ends.
func runFar(in io.Reader, out io.Writer) error {
	if err := enter(); err != nil {
		return err
	}
	if err := farNetwork(); err != nil {
		return err
	}
	s, err := newSniffer()
	if err != nil {
		return err
	}
	f := &farSide{sniff: s, raised: map[string]bool{}}
	if f.raw, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := f.watch(); err != nil {
		return err
	}
	broken := make(chan error, 3)
	go func() { broken <- s.run() }()
	if err := listen(broken); err != nil {
		return err
	}
	go func() { broken <- serve(in, out, f.handle) }()
	return <-broken
}

// farNetwork makes the far side answer at all its addresses.
func farNetwork() error {
	if err := sysctls("ipv4.conf.all.rp_filter=0", "ipv4.conf.default.rp_filter=0", "ipv6.conf.all.accept_dad=0", "ipv6.conf.default.accept_dad=0",
		"ipv6.conf.default.router_solicitations=0"); err != nil {
		return err
	}
	if err := up("lo"); err != nil {
		return err
	}
	for _, p := range []string{"10.77.1.0/24", "10.77.3.0/24", "fd77::1:0/112", "fd77::3:0/112", "10.79.1.0/24", "fd79::1:0/112"} {
		if err := local(netip.MustParsePrefix(p)); err != nil {
			return fmt.Errorf("far side's addresses %s: %w", p, err)
		}
	}
	return nil
}

// watch sets each link up as it comes: the far side never is what stops a frame.
func (f *farSide) watch() error {
	updates := make(chan netlink.LinkUpdate, 256)
	if err := netlink.LinkSubscribe(updates, nil); err != nil {
		return err
	}
	go func() {
		for u := range updates {
			a := u.Attrs()
			if u.Header.Type != unix.RTM_NEWLINK || a.Flags&net.FlagLoopback != 0 {
				continue
			}
			f.sniff.know(a.Index, a.Name)
			if a.RawFlags&unix.IFF_UP == 0 {
				f.raise(a.Index, a.Name)
			}
		}
	}()
	return nil
}

func (f *farSide) raise(index int, name string) {
	receiveOffload(name)
	if strings.HasSuffix(name, driverSuffix) {
		if l, err := passAll(index); err == nil { // without BPF nothing is sent from the driver either
			f.keep = append(f.keep, l)
		}
	}
	_ = netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}) // a link that is gone again is no fault
	switch name {
	case sharedFar:
		_ = f.reach(index, name, netip.PrefixFrom(wire.Board4, 32), netip.PrefixFrom(wire.Board6, 128))
	case secondFar:
		_ = f.reach(index, name, netip.PrefixFrom(secondBoard4.Addr(), 32), netip.PrefixFrom(secondBoard6.Addr(), 128))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.raised[name] = true
}

// reach tells the far side where the board is.
func (f *farSide) reach(index int, name string, all ...netip.Prefix) error {
	for _, p := range all {
		if err := route(p, name); err != nil {
			return err
		}
		if err := neighbour(index, p.Addr(), wire.BoardMAC); err != nil {
			return err
		}
	}
	return nil
}

// listen takes TCP and UDP at sinkPort and says nothing.
func listen(broken chan<- error) error {
	at := fmt.Sprintf(":%d", sinkPort)
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				broken <- err
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c) // ends with the connection
				c.Close()
			}()
		}
	}()
	go func() {
		p := make([]byte, 2048)
		for {
			if _, _, err := udp.ReadFrom(p); err != nil {
				broken <- err
				return
			}
		}
	}()
	return nil
}

func (f *farSide) handle(q request) answer {
	switch q.Op {
	case "ready":
		return failed(f.ready(q.Names, time.Duration(q.Millis)*time.Millisecond))
	case "send":
		return failed(f.send(q.Frames))
	case "wait":
		return f.wait(q)
	case "report", "reset":
		seen, lost, err := f.sniff.report(q.Op == "reset")
		a := failed(err)
		a.Seen, a.Lost = seen, lost
		return a
	}
	return answer{Err: "unknown: " + q.Op}
}

func (f *farSide) wait(q request) (a answer) {
	all := make([]wanted, len(q.IDs))
	for i, id := range q.IDs {
		all[i] = wanted{id: id, kinds: q.Kinds[i]}
		if len(q.Names) > i {
			all[i].link = q.Names[i]
		}
	}
	for _, i := range f.sniff.wait(all, time.Duration(q.Millis)*time.Millisecond) {
		a.Arrived = append(a.Arrived, q.IDs[i])
	}
	return a
}

// ready waits until the links are there and up.
func (f *farSide) ready(names []string, limit time.Duration) error {
	for end := time.Now().Add(limit); ; pause() {
		f.mu.Lock()
		missing := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return f.raised[n] })
		f.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("links that do not come up: %s", strings.Join(missing, " "))
		}
	}
}

func (f *farSide) send(all []sent) error {
	for _, s := range all {
		index, err := linkIndex(s.Link)
		if err != nil {
			return err
		}
		err = unix.Sendto(f.raw, s.Frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6})
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ENETDOWN) { // these: the board's end is down
			return fmt.Errorf("send on %s: %w", s.Link, err)
		}
	}
	return nil
}

// pause is between two looks at what the kernel does not announce.
func pause() { time.Sleep(2 * time.Millisecond) }

// enter makes the mounts of a process in namespaces of its own its own, and refuses any other.
func enter() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("not the first process of a PID namespace: %w", os.ErrInvalid)
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	if len(links) == 0 || links[0].Name != "lo" {
		return fmt.Errorf("no loopback: %w", os.ErrInvalid)
	}
	for _, l := range links[1:] {
		if !fallback(l.Name) {
			return fmt.Errorf("%s is not a link of a namespace of our own: %w", l.Name, os.ErrInvalid)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return errors.Join(unix.Mount("proc", "/proc", "proc", 0, ""), unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"), mountSys())
}

// fallback links are those that some kernels make in each new namespace.
func fallback(name string) bool {
	return slices.Contains([]string{"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}, name)
}
