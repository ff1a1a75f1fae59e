package nft_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/nft"
)

var layers = []string{nft.LayerInet, nft.LayerARP, nft.LayerBridge, nft.LayerNetdev}

// ways out of link eth0, which has 10.9.1.1 and fd09:1::1.
var ways = []struct {
	name string
	send func() error
	eth  uint16 // ethertype of the frame that arrives, without its tag
	raw  bool   // passes the families inet and arp: only netdev chains at egress see it
}{
	{"UDP", func() error { return sendUDP("10.9.1.2:9") }, 0x0800, false},
	{"UDP over IPv6", func() error { return sendUDP("[fd09:1::2]:9") }, 0x86dd, false},
	{"broadcast", func() error { return sendUDP("10.9.1.255:9") }, 0x0800, false},
	{"multicast", func() error { return sendUDP("224.0.0.251:5353") }, 0x0800, false},
	{"multicast over IPv6", func() error { return sendUDP("[ff02::fb%eth0]:5353") }, 0x86dd, false},
	{"fragments", func() error { return sendBytes("10.9.1.2:9", 4000) }, 0x0800, false},
	{"ping", func() error { return sendRaw(unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}) }, 0x0800, false},
	{"raw IP of protocol 253", func() error { return sendRaw(253, make([]byte, 20)) }, 0x0800, false},
	{"ARP by the kernel", askNeighbour, 0x0806, false},
	{"ARP by a packet socket", func() error { return sendFrame("eth0", frame(0x0806, arp...)) }, 0x0806, true},
	{"a frame of its own", func() error { return sendFrame("eth0", frame(0x88b5)) }, 0x88b5, true},
	{"a tagged frame", func() error { return sendFrame("eth0", frame(0x8100, 0, 7, 0x88, 0xb5)) }, 0x88b5, true},
	{"IPv4 by a packet socket", func() error { return sendFrame("eth0", frame(0x0800, 0x45)) }, 0x0800, true},
}

var neighbours atomic.Int32

// askNeighbour sends to an address that was not asked for yet: the kernel asks again after a
// second only.
func askNeighbour() error {
	return sendUDP(fmt.Sprintf("10.9.1.%d:9", 10+neighbours.Add(1)%240))
}

var arp = []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 9, 1, 1, 0, 0, 0, 0, 0, 0, 10, 9, 1, 99}

func sendUDP(to string) error { return sendBytes(to, 9) }

func sendBytes(to string, n int) error {
	a, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return err
	}
	if i, err := net.InterfaceByName(a.Zone); err == nil {
		a.Zone = strconv.Itoa(i.Index) // package net keeps the index of a name for a minute
	}
	family := "udp4"
	if a.IP.To4() == nil {
		family = "udp6"
	}
	c, err := net.ListenUDP(family, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if a.IP.IsMulticast() && family == "udp4" {
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		_ = raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInet4Addr(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, [4]byte{10, 9, 1, 1})
		})
		if err != nil {
			return err
		}
	}
	_, err = c.WriteTo(make([]byte, n), a)
	return err
}

func sendRaw(proto int, p []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 9, 1, 2}})
}

// TestShut: unlocked each way out arrives, locked none does, and a local program hears of it.
func TestShut(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	for _, w := range ways {
		before := f.frames(w.eth)
		waitFor(t, w.name+" while unlocked", func() bool { return w.send() == nil && f.frames(w.eth) > before })
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			ts := tables(t, nft.Config{Group: 9}, v.lack)
			must(t, ts.SetLinks([]string{"lo", "eth0", "eth0"}))
			must(t, ts.Apply())
			nothingLeaves(t, f, ts.Support().Egress == nil)
			verifyAll(t, ts)
			loopbackPasses(t)
		})
	}
}

// nothingLeaves tries all ways out. Without egress chains, packet sockets get through: other
// layers of the lock are for them.
func nothingLeaves(t *testing.T, f *far, egress bool) {
	t.Helper()
	before := f.frames()
	for _, w := range ways {
		if err := w.send(); !w.raw && w.eth != 0x0806 && !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v, want %v", w.name, err, unix.EPERM)
		}
		if n := f.frames() - before; n != 0 && (egress || !w.raw) {
			t.Errorf("%s: %d frames arrived", w.name, n)
		}
		before = f.frames()
	}
}

// waitFor polls: a real kernel device delivers when it likes.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

func loopbackPasses(t testing.TB) {
	t.Helper()
	for _, host := range []string{"127.0.0.1", "::1", "10.9.1.1"} {
		for _, try := range []func(string) error{echoTCP, echoUDP} {
			if err := try(net.JoinHostPort(host, "0")); err != nil {
				t.Errorf("loopback: %v", err)
			}
		}
	}
}

func echoTCP(addr string) error {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil // no link with that address in this test
	}
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func echoUDP(addr string) error {
	l, err := net.ListenPacket("udp", addr)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.Close()
	if err := sendBytes(l.LocalAddr().String(), 3000); err != nil {
		return err
	}
	if err := l.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, _, err = l.ReadFrom(make([]byte, 4000))
	return err
}

// TestIncoming: nothing from outside gets in, and it is counted by the first layer that sees it.
func TestIncoming(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	l, err := net.ListenPacket("udp4", "10.9.1.1:4242")
	must(t, err)
	defer l.Close()
	in := hex.EncodeToString(incoming(t))
	waitFor(t, "a packet while unlocked", func() bool {
		f.do("send peth0 %s", in)
		return received(t, l)
	})
	for _, v := range variants[:4] {
		t.Run(v.name, func(t *testing.T) {
			ts := tables(t, nft.Config{Group: 9}, v.lack)
			must(t, ts.SetLinks([]string{"eth0"}))
			must(t, ts.Apply())
			counted := func(layer string) {
				t.Helper()
				before := counters(t, ts)[layer]
				f.do("send peth0 %s", in)
				waitFor(t, "a count of "+layer, func() bool { return counters(t, ts)[layer] > before })
			}
			counted(nft.LayerNetdev)
			must(t, ts.SetLinks(nil))
			if ts.Support().EveryLink == nil {
				counted(nft.LayerNetdev)
			} else {
				counted(nft.LayerInet) // without chains of the link, the next layer
			}
			if received(t, l) {
				t.Error("a packet came in")
			}
		})
	}
}

func received(t testing.TB, l net.PacketConn) bool {
	t.Helper()
	must(t, l.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, _, err := l.ReadFrom(make([]byte, 100))
	return err == nil
}

// incoming is a UDP packet to 10.9.1.1:4242 as a frame.
func incoming(t testing.TB) []byte {
	i, err := net.InterfaceByName("eth0")
	must(t, err)
	ip := []byte{0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 1, 2, 10, 9, 1, 1}
	var sum uint32
	for n := 0; n < len(ip); n += 2 {
		sum += uint32(ip[n])<<8 | uint32(ip[n+1])
	}
	sum = ^(sum&0xffff + sum>>16)
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	udp := append([]byte{0x10, 0x92, 0x10, 0x92, 0, 12, 0, 0}, "ping"...)
	p := append(append([]byte{}, i.HardwareAddr...), 2, 0, 0, 0, 0, 2, 8, 0)
	return append(append(p, ip...), udp...)
}

func counters(t testing.TB, ts *nft.Tables) map[string]uint64 {
	t.Helper()
	c, err := ts.Counters()
	must(t, err)
	return c
}

// TestCounters: each refused packet counts, also beyond what is reported, and none twice.
func TestCounters(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	for _, v := range variants[:4] {
		t.Run(v.name, func(t *testing.T) {
			ts := tables(t, nft.Config{Group: 9}, v.lack)
			must(t, ts.SetLinks([]string{"eth0"}))
			must(t, ts.Apply())
			if c := counters(t, ts); c[nft.LayerARP] != 0 {
				t.Errorf("at first %v", c)
			}
			const n = 5000
			c, err := net.Dial("udp4", "10.9.1.2:9")
			must(t, err)
			defer c.Close()
			before := counters(t, ts)[nft.LayerInet]
			for i := range n {
				if _, err := c.Write([]byte("x")); !errors.Is(err, unix.EPERM) {
					t.Fatal(err)
				}
				if i == n/2 {
					must(t, ts.Apply()) // neither loses nor doubles
				}
			}
			// IPv6 of the link may add a packet or two of its own.
			if got := counters(t, ts)[nft.LayerInet] - before; got < n || got > n+20 {
				t.Errorf("%d packets counted, %d sent", got, n)
			}
			if ts.Support().Egress == nil {
				before := counters(t, ts)[nft.LayerNetdev]
				for range 10 {
					_ = sendFrame("eth0", frame(0x88b5)) // refused
				}
				if got := counters(t, ts)[nft.LayerNetdev] - before; got != 10 {
					t.Errorf("%d frames counted, 10 sent", got)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	ts := tables(b, nft.Config{Group: 9}, func(*nft.Support) {})
	must(b, ts.Apply())
	for b.Loop() {
		for _, l := range layers {
			must(b, ts.Verify(l))
		}
	}
}

// BenchmarkSetLinks: a link more and a link less.
func BenchmarkSetLinks(b *testing.B) {
	for _, v := range variants[:2] {
		b.Run(v.name, func(b *testing.B) {
			f := startFar(b)
			f.bare("eth0")
			ts := tables(b, nft.Config{Group: 9}, v.lack)
			must(b, ts.Apply())
			for b.Loop() {
				must(b, ts.SetLinks([]string{"eth0"}))
				must(b, ts.SetLinks(nil))
			}
		})
	}
}
