package nflog_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mnl "github.com/mdlayher/netlink"
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
	{"a neighbour of IPv6, asked by a ticket's ping", nil,
		nflog.Packet{Layer: nft.LayerInet, Hook: "output", UID: -1, Protocol: "icmpv6", Destination: "ff02::2"}},
}
