package bpf_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/bpf"
	"holdfast/firmware/netlock/nstest"
)

// wire is a link of the test's own namespace with a far side. Everything that is not loopback is
// routed to it. The sniffer is behind all that can drop a frame, right before the driver, and has
// seen a frame when the call that sends it returns: so what it has not seen by then did not leave.
type wire struct {
	near, far int // indices
	sniffer   int
}

// outside is where attacks lead: behind a gateway on the far side.
var (
	outside4  = netip.MustParseAddrPort("198.51.100.7:4443")
	outside6  = netip.MustParseAddrPort("[2001:db8:1::7]:4443")
	outside46 = netip.MustParseAddrPort("[::ffff:198.51.100.7]:4443")
	group4    = netip.MustParseAddrPort("239.1.2.3:4443")
	everyone  = netip.MustParseAddrPort("255.255.255.255:4443")
)

func newWire(t testing.TB) *wire {
	t.Helper()
	nstest.Need(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	// A ping socket is something that an ordinary user may have.
	must(os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 65535"), 0))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "near"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		t.Skipf("no pair of links here: %v", err)
	}
	near, err := netlink.LinkByName("near")
	must(err)
	far, err := netlink.LinkByName("far")
	must(err)
	t.Cleanup(func() { must(netlink.LinkDel(near)) })
	must(netlink.LinkSetUp(near))
	must(netlink.LinkSetUp(far))
	w := &wire{near: near.Attrs().Index, far: far.Attrs().Index}
	for own, gateway := range map[string]string{"192.0.2.1/24": "192.0.2.2", "2001:db8::1/64": "2001:db8::2"} {
		a, err := netlink.ParseAddr(own)
		must(err)
		a.Flags = unix.IFA_F_NODAD
		must(netlink.AddrAdd(near, a))
		ip := net.ParseIP(gateway)
		must(netlink.NeighAdd(&netlink.Neigh{LinkIndex: w.near, IP: ip, HardwareAddr: far.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT}))
		must(netlink.RouteAdd(&netlink.Route{LinkIndex: w.near, Gw: ip}))
	}
	w.sniffer = packetSocket(t, w.near)
	// The kernel starts a link some time after it was set up, and drops frames until then.
	eventually(t, "the link does not start", func() bool { return w.passes(t) })
	return w
}

// eventually calls ok until it is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// packetSocket opens a socket that sees every frame of a link. It is not in the test's cgroup.
func packetSocket(t testing.TB, ifindex int) int {
	t.Helper()
	all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: ifindex}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// markerType is an EtherType for experiments (IEEE 802).
const markerType = 0x88b5

// passes tells whether a frame leaves that is past all sockets of IP.
func (w *wire) passes(t testing.TB) bool {
	t.Helper()
	fd := packetSocket(t, w.near)
	frame := append(bytes.Repeat([]byte{0xff}, 6), 2, 0, 0, 0, 0, 1)
	frame = binary.BigEndian.AppendUint16(frame, markerType)
	frame = append(frame, make([]byte, 46)...)
	w.drain()
	// ENOBUFS: it was dropped.
	if _, err := unix.Write(fd, frame); err != nil && err != unix.ENOBUFS {
		t.Fatal(err)
	}
	passed := false
	w.frames(func(frame []byte) {
		passed = passed || binary.BigEndian.Uint16(frame[12:]) == markerType
	})
	return passed
}

// left returns how many frames for an address left since it was last called.
func (w *wire) left(to netip.Addr) (n int) {
	w.frames(func(frame []byte) {
		if bytes.Contains(frame[14:], to.Unmap().AsSlice()) {
			n++
		}
	})
	return n
}

// frames hands over what the sniffer saw.
func (w *wire) frames(f func([]byte)) {
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(w.sniffer, buf)
		if err != nil {
			return
		}
		if n > 14 {
			f(buf[:n])
		}
	}
}

// datagramFromOutside puts a UDP datagram for the near side on the wire.
func (w *wire) datagramFromOutside(t testing.TB, port uint16) {
	t.Helper()
	near, err := net.InterfaceByIndex(w.near)
	if err != nil {
		t.Fatal(err)
	}
	frame := append([]byte(near.HardwareAddr), 2, 0, 0, 0, 0, 1, 8, 0)
	ip := []byte{0x45, 0, 0, byte(28 + len(payload)), 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1}
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	frame = append(frame, ip...)
	frame = binary.BigEndian.AppendUint16(frame, 9)
	frame = binary.BigEndian.AppendUint16(frame, port)
	frame = append(frame, 0, byte(8+len(payload)), 0, 0)
	if _, err := unix.Write(packetSocket(t, w.far), append(frame, payload...)); err != nil {
		t.Fatal(err)
	}
}

// checksum is that of an IP header.
func checksum(p []byte) uint16 {
	var sum uint32
	for i := 0; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	sum = sum&0xffff + sum>>16
	return ^uint16(sum + sum>>16)
}

// drain forgets what the sniffer saw.
func (w *wire) drain() { w.frames(func([]byte) {}) }

// log collects events.
type log struct {
	mu     sync.Mutex
	events []bpf.Event
	more   chan struct{}
}

func newLog() *log { return &log{more: make(chan struct{}, 1)} }

func (l *log) add(e bpf.Event) {
	l.mu.Lock()
	l.events = append(l.events, e)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// wait returns the events when ok says that they are all, and forgets them.
func (l *log) wait(t testing.TB, ok func([]bpf.Event) bool) []bpf.Event {
	t.Helper()
	for end := time.After(patience); ; {
		l.mu.Lock()
		events := l.events
		if ok(events) {
			l.events = nil
			l.mu.Unlock()
			return events
		}
		l.mu.Unlock()
		select {
		case <-l.more:
		case <-end:
			t.Fatalf("not all events came: %+v", events)
		}
	}
}

func count(events []bpf.Event) (n int64) {
	for _, e := range events {
		n += e.Count
	}
	return n
}

func atLeast(n int) func([]bpf.Event) bool {
	return func(e []bpf.Event) bool { return len(e) >= n }
}

// only is how many events of a hook a link's own traffic does not count among: IPv6 sends by
// itself.
func only(events []bpf.Event, keep func(bpf.Event) bool) []bpf.Event {
	var left []bpf.Event
	for _, e := range events {
		if keep(e) {
			left = append(left, e)
		}
	}
	return left
}

func bootNow(t testing.TB) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}
