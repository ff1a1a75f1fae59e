package nflog_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/nflog"
	"holdfast/firmware/netlock/nft"
	"holdfast/firmware/netlock/nstest"
)

// roleEnv makes the test binary a program of another user that sends.
const roleEnv = "HOLDFAST_NFLOG_SEND"

func TestMain(m *testing.M) {
	if to := os.Getenv(roleEnv); to != "" {
		_ = sendUDP(to) // refused
		os.Exit(0)
	}
	if slices.Contains(os.Args, "-test.fuzzworker") {
		os.Exit(m.Run()) // it talks by inherited files, and needs no namespace
	}
	nstest.Main(m)
}

const group = 17

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func setUp(t testing.TB, name string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
}

// locked makes a pair of links, eth0 with addresses and its other end, and the lock.
func locked(t testing.TB) (*nft.Tables, *nflog.Reader) {
	t.Helper()
	nstest.Need(t)
	r, err := nflog.Listen(group)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	ts, err := nft.New(nft.Config{Group: group})
	must(t, err)
	if err := ts.Support().Log; err != nil {
		t.Skip(err)
	}
	setUp(t, "lo")
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"}))
	must(t, ts.SetLinks([]string{"eth0", "peer0"}))
	must(t, ts.Apply())
	t.Cleanup(func() {
		l, err := netlink.LinkByName("eth0")
		must(t, err)
		must(t, netlink.LinkDel(l))
		must(t, ts.Remove())
		must(t, ts.Close())
	})
	setUp(t, "eth0")
	setUp(t, "peer0")
	l, err := netlink.LinkByName("eth0")
	must(t, err)
	for _, s := range []string{"10.9.1.1/24", "fd09:1::1/64"} {
		a, err := netlink.ParseAddr(s)
		must(t, err)
		a.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrAdd(l, a))
	}
	return ts, r
}

func sendUDP(to string) error {
	c, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("out"))
	return err
}

func ping() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 9, 1, 2}})
}

var arp = []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 9, 1, 1, 0, 0, 0, 0, 0, 0, 10, 9, 1, 99}

func frame(kind uint16, payload ...byte) []byte {
	p := append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9}, byte(kind>>8), byte(kind))
	return append(append(p, payload...), make([]byte, 40)...)
}

func sendFrame(p []byte) error {
	i, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, p, 0, &unix.SockaddrLinklayer{Ifindex: i.Index})
}

func sendAs(uid uint32, to string) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+to)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

// refusals: what is sent, and what must be reported of it.
var refusals = []struct {
	name string
	send func() error
	want nflog.Packet
}{
	{"UDP", func() error { return sendUDP("10.9.1.2:5000") },
		nflog.Packet{Layer: nft.LayerInet, Hook: "output", UID: 0, Protocol: "udp", Destination: "10.9.1.2:5000"}},
	{"UDP over IPv6", func() error { return sendUDP("[fd09:1::2]:5001") },
		nflog.Packet{Layer: nft.LayerInet, Hook: "output", UID: 0, Protocol: "udp", Destination: "[fd09:1::2]:5001"}},
	{"UDP of another user", func() error { return sendAs(4711, "10.9.1.2:5002") },
		nflog.Packet{Layer: nft.LayerInet, Hook: "output", UID: 4711, Protocol: "udp", Destination: "10.9.1.2:5002"}},
	{"ping", ping,
		nflog.Packet{Layer: nft.LayerInet, Hook: "output", UID: 0, Protocol: "icmp", Destination: "10.9.1.2"}},
	{"ARP by a packet socket", func() error { return sendFrame(frame(0x0806, arp...)) },
		nflog.Packet{Layer: nft.LayerNetdev, Hook: "egress", UID: 0, Protocol: "arp", Destination: "10.9.1.99"}},
	{"a frame of its own", func() error { return sendFrame(frame(0x88b5)) },
		nflog.Packet{Layer: nft.LayerNetdev, Hook: "egress", UID: 0, Protocol: "0x88b5", Destination: "ff:ff:ff:ff:ff:ff"}},
	{"a tagged frame", func() error { return sendFrame(frame(0x8100, 0, 7, 0x88, 0xb6)) },
		nflog.Packet{Layer: nft.LayerNetdev, Hook: "egress", UID: 0, Protocol: "0x88b6", Destination: "ff:ff:ff:ff:ff:ff"}},
	{"a neighbour of IPv6 by the kernel", func() error { return addAddress("fd09:1::7/64") },
		nflog.Packet{Layer: nft.LayerInet, Hook: "output", UID: -1, Protocol: "icmpv6", Destination: "ff02::1:ff00:7"}},
	{"a group of IPv6 joined, by the kernel", func() error { return addAddress("fd09:1::8/64") },
		nflog.Packet{Layer: nft.LayerInet, Hook: "output", UID: -1, Protocol: "icmpv6", Destination: "ff02::16"}},
	{"ARP by the kernel", announce,
		nflog.Packet{Layer: nft.LayerARP, Hook: "output", UID: -1, Protocol: "arp", Destination: "10.9.1.1"}},
}

// announce makes the kernel tell its neighbours of a new MAC.
func announce() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/eth0/arp_notify", []byte("1"), 0); err != nil {
		return err
	}
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 77})
}

// addAddress makes the kernel ask who has the address.
func addAddress(s string) error {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/eth0/router_solicitation_delay", []byte("0"), 0); err != nil {
		return err
	}
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(s)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, a)
}

// TestReports: each refused packet is reported with what there is to know, and soon.
func TestReports(t *testing.T) {
	_, r := locked(t)
	packets := make(chan nflog.Packet, 1000)
	go func() {
		defer close(packets)
		for {
			p, err := r.Read()
			if err != nil {
				return
			}
			packets <- p
		}
	}()
	for _, c := range refusals {
		before := now(t)
		if err := c.send(); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("%s: %v", c.name, err)
		}
		got, ok := await(packets, c.want)
		if !ok {
			t.Errorf("%s was not reported", c.name)
			continue
		}
		t.Logf("%-38s %6d µs after it was begun: %+v", c.name, got.Usec-before, got)
		if got.Usec < before || got.Bytes == 0 {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	must(t, r.Close())
	for range packets {
	}
	if n := r.Lost(); n != 0 {
		t.Errorf("%d reports lost", n)
	}
}

// await takes reports until one is as wanted.
func await(packets <-chan nflog.Packet, want nflog.Packet) (nflog.Packet, bool) {
	end := time.After(3 * time.Second)
	for {
		select {
		case p, ok := <-packets:
			if !ok {
				return p, false
			}
			same := p
			same.Usec, same.Bytes, same.Source = 0, 0, ""
			want.Link = "eth0"
			if same == want {
				return p, true
			}
		case <-end:
			return nflog.Packet{}, false
		}
	}
}

func now(t testing.TB) int64 {
	t.Helper()
	var ts unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts))
	return ts.Nano() / 1000
}

// TestFlood: of a flood all packets are counted and few reported, the first ones.
func TestFlood(t *testing.T) {
	ts, r := locked(t)
	c, err := net.Dial("udp4", "10.9.1.2:6000")
	must(t, err)
	defer c.Close()
	before, err := ts.Counters()
	must(t, err)
	begin := time.Now()
	const n = 20000
	for range n {
		if _, err := c.Write([]byte("x")); !errors.Is(err, unix.EPERM) {
			t.Fatal(err)
		}
	}
	took := time.Since(begin)
	after, err := ts.Counters()
	must(t, err)
	if got := after[nft.LayerInet] - before[nft.LayerInet]; got < n || got > n+50 {
		t.Errorf("%d packets counted, %d sent", got, n)
	}
	_ = sendFrame(frame(0x88b7)) // refused; another chain reports it, as the last one
	reported := 0
	for {
		p, err := r.Read()
		must(t, err)
		if p.Protocol == "0x88b7" {
			break
		}
		if p.Destination == "10.9.1.2:6000" {
			reported++
		}
	}
	most := int(64 * (took/time.Second + 3))
	if reported == 0 || reported > most {
		t.Errorf("%d of %d packets reported in %v, want 1 to %d", reported, n, took, most)
	}
	t.Logf("%d packets in %v, %d reported", n, took, reported)
}

// TestListen: one Reader a group; Close ends Read.
func TestListen(t *testing.T) {
	nstest.Need(t)
	r, err := nflog.Listen(group)
	must(t, err)
	if _, err := nflog.Listen(group); !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EPERM) {
		t.Errorf("a second reader of the group: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.Read(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	})
	must(t, r.Close())
	wg.Wait()
	r, err = nflog.Listen(group)
	must(t, err)
	must(t, r.Close())
}
