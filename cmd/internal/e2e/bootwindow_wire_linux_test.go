package e2e_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A wire is the far side of one network adapter of a guest: a socket of the test's, no interface of
// this machine's. QEMU hands over each frame that the guest sends, with its length before it
// (4 bytes, big endian), and takes frames the same way. Nothing is filtered: what is counted is
// every frame, of every kind.
type wire struct {
	name   string
	listen net.Listener
	far    *hostile
	send   chan []byte

	mu   sync.Mutex
	seen []seen
	err  error
	conn net.Conn
	done sync.WaitGroup
}

// seen is a frame that left the guest.
type seen struct {
	wire  string
	at    time.Time
	frame []byte
}

func (s seen) String() string {
	return fmt.Sprintf("%s %s, %d bytes: %s", s.wire, describe(s.frame), len(s.frame), hex.EncodeToString(s.frame[:min(len(s.frame), 64)]))
}

// newWire listens for QEMU. n is the number of the network on it.
func newWire(t testing.TB, dir, name string, n byte) *wire {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{name: name, listen: l, far: newHostile(n), send: make(chan []byte, 256)}
	w.done.Go(w.run)
	t.Cleanup(w.close)
	return w
}

func (w *wire) close() {
	w.listen.Close()
	w.mu.Lock()
	if w.conn != nil {
		w.conn.Close()
	}
	w.mu.Unlock()
	w.done.Wait()
}

// run serves the one connection that there is.
func (w *wire) run() {
	conn, err := w.listen.Accept()
	if err != nil {
		return
	}
	w.mu.Lock()
	w.conn = conn
	w.mu.Unlock()
	stop := make(chan struct{})
	w.done.Go(func() { w.speak(conn, stop) })
	err = w.read(bufio.NewReader(conn))
	close(stop)
	w.mu.Lock()
	defer w.mu.Unlock()
	// A machine that ends with frames of ours unread resets the socket; what it sent is read before that.
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
		w.err = err
	}
}

// read notes frames until the guest is gone, and has the hostile network answer them.
func (w *wire) read(r io.Reader) error {
	for {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return err
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(r, frame); err != nil {
			return err
		}
		w.mu.Lock()
		w.seen = append(w.seen, seen{w.name, time.Now(), frame})
		w.mu.Unlock()
		w.post(w.far.answer(frame))
	}
}

// post hands frames to the guest; where it takes none, as from a link that is down, they are gone.
func (w *wire) post(frames [][]byte) {
	for _, f := range frames {
		select {
		case w.send <- f:
		default:
		}
	}
}

// provokeEvery is how often the hostile network asks for something.
const provokeEvery = 250 * time.Millisecond

// speak writes to the guest, unasked and in answer.
func (w *wire) speak(conn net.Conn, stop <-chan struct{}) {
	tick := time.NewTicker(provokeEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			w.post(w.far.provoke())
		case f := <-w.send:
			if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(f))), f...)); err != nil {
				return
			}
		}
	}
}

// frames returns what has left the guest since a moment.
func (w *wire) frames(t testing.TB, since time.Time) (out []seen) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		t.Errorf("the far side of %s broke: what it counted is void: %v", w.name, w.err)
	}
	for _, s := range w.seen {
		if !s.at.Before(since) {
			out = append(out, s)
		}
	}
	return out
}

// describe names a frame: its EtherType, and what it carries where that is common.
func describe(f []byte) string {
	if len(f) < 14 {
		return "short"
	}
	switch kind := binary.BigEndian.Uint16(f[12:]); kind {
	case etherIPv4:
		return "IPv4 " + describeIPv4(f[14:])
	case etherARP:
		return "ARP"
	case etherIPv6:
		return "IPv6 " + describeIPv6(f[14:])
	case 0x88CC:
		return "LLDP"
	case 0x88B5:
		return "raw frame of exfil"
	default:
		return fmt.Sprintf("EtherType %#04x", kind)
	}
}

func describeIPv4(p []byte) string {
	if len(p) < 20 || len(p) < int(p[0]&15)*4 {
		return "short"
	}
	return describeInner(p[9], p[int(p[0]&15)*4:]) + " to " + net.IP(p[16:20]).String()
}

// describeIPv6 looks behind the hop-by-hop header, which MLD has.
func describeIPv6(p []byte) string {
	if len(p) < 40 {
		return "short"
	}
	next, rest, to := p[6], p[40:], " to "+net.IP(p[24:40]).String()
	if next == 0 && len(rest) >= 8 && len(rest) >= 8+int(rest[1])*8 {
		next, rest = rest[0], rest[8+int(rest[1])*8:]
	}
	return describeInner(next, rest) + to
}

// describeInner names what protocol number p carries.
func describeInner(p byte, rest []byte) string {
	if len(rest) < 4 {
		return fmt.Sprintf("protocol %d", p)
	}
	port := binary.BigEndian.Uint16(rest[2:])
	switch {
	case p == protocolUDP && port == 67:
		return "DHCP"
	case p == protocolUDP:
		return fmt.Sprintf("UDP port %d", port)
	case p == 6:
		return fmt.Sprintf("TCP port %d", port)
	case p == 1:
		return fmt.Sprintf("ICMP type %d", rest[0])
	case p == 2:
		return "IGMP"
	case p == protocolICMPv6:
		return describeICMPv6(rest[0])
	default:
		return fmt.Sprintf("protocol %d", p)
	}
}

func describeICMPv6(kind byte) string {
	names := map[byte]string{128: "echo", 129: "echo reply", 133: "RS", 135: "ND", 136: "ND answer", 143: "MLD"}
	if n := names[kind]; n != "" {
		return n
	}
	return fmt.Sprintf("ICMPv6 type %d", kind)
}
