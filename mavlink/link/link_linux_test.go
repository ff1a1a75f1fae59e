package link_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/mavlink/link"
	"holdfast/mavlink/serial/serialtest"
)

const baud = 921600

// patience is far above what any step takes, so that a hang fails and a loaded machine does not.
const patience = 30 * time.Second

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		device, kind string
		err          error
	}{
		{"/dev/serial0", link.KindSerial, nil},
		{"ttyAMA0", link.KindSerial, nil},
		{"./odd:name", link.KindSerial, nil},
		{"/dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.1:1.0-port0", link.KindSerial, nil},
		{"tcp:127.0.0.1:5760", link.KindTCP, nil},
		{"tcp:127.9.8.7:1", link.KindTCP, nil},
		{"tcp:[::1]:65535", link.KindTCP, nil},
		{"tcp:[::ffff:127.0.0.1]:5760", link.KindTCP, nil},
		{"udp:127.0.0.1:14550", link.KindUDP, nil},
		{"file:/var/log/raw.bin", link.KindFile, nil},
		{"file:a:b", link.KindFile, nil},
		{"", "", link.ErrDevice},
		{":", "", link.ErrDevice},
		{"file:", "", link.ErrDevice},
		{"a\x00b", "", link.ErrDevice},
		{"serial:/dev/ttyS0", "", link.ErrDevice},
		{"serial:x", "", link.ErrDevice},
		{"http://127.0.0.1:80", "", link.ErrDevice},
		{"TCP:127.0.0.1:5760", "", link.ErrDevice},
		{"tcpin:127.0.0.1:5760", "", link.ErrDevice},
		{"tcp:", "", link.ErrAddress},
		{"tcp:localhost:5760", "", link.ErrAddress},
		{"udp:example.org:14550", "", link.ErrAddress},
		{"tcp:127.0.0.1", "", link.ErrAddress},
		{"tcp:127.0.0.1:", "", link.ErrAddress},
		{"tcp:127.0.0.1:0", "", link.ErrAddress},
		{"tcp:127.0.0.1:65536", "", link.ErrAddress},
		{"tcp:127.0.0.1:-1", "", link.ErrAddress},
		{"tcp:127.0.0.1:http", "", link.ErrAddress},
		{"tcp:127.1:5760", "", link.ErrAddress},
		{"tcp::5760", "", link.ErrAddress},
		{"tcp:::1:5760", "", link.ErrAddress},
		{"tcp:[::1%lo]:5760", "", link.ErrAddress},
		{"tcp: 127.0.0.1:5760", "", link.ErrAddress},
		{"tcp:192.168.1.2:5760", "", link.ErrNotLoopback},
		{"udp:0.0.0.0:14550", "", link.ErrNotLoopback},
		{"udp:[::]:14550", "", link.ErrNotLoopback},
		{"tcp:[fe80::1]:5760", "", link.ErrNotLoopback},
		{"tcp:[::ffff:10.0.0.1]:5760", "", link.ErrNotLoopback},
	} {
		kind, err := link.Kind(tc.device)
		if kind != tc.kind || !errors.Is(err, tc.err) {
			t.Errorf("Kind(%q) = %q, %v; want %q, %v", tc.device, kind, err, tc.kind, tc.err)
		}
		if err := link.Check(tc.device); !errors.Is(err, tc.err) {
			t.Errorf("Check(%q) = %v, want %v", tc.device, err, tc.err)
		}
		if tc.err == nil {
			continue
		}
		if s, err := link.Open(tc.device, baud); s != nil || !errors.Is(err, tc.err) {
			t.Errorf("Open(%q) = %v, %v; want %v", tc.device, s, err, tc.err)
		}
	}
}

// FuzzCheck: whatever the string, a device that passes is one of the four kinds, and an address
// that passes is on loopback by the word of another parser.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"/dev/serial0", "tcp:127.0.0.1:5760", "udp:[::1]:1", "file:x", "tcp:[::ffff:127.0.0.1]:1", "tcp:10.0.0.1:1", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, device string) {
		kind, err := link.Kind(device)
		if err != nil {
			if kind != "" || !strings.Contains(err.Error(), "device ") {
				t.Fatalf("%q, %v", kind, err)
			}
			return
		}
		switch kind {
		case link.KindSerial, link.KindFile:
		case link.KindTCP, link.KindUDP:
			host, _, err := net.SplitHostPort(device[len("tcp:"):])
			if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
				t.Fatalf("%q passed: %v, %v", device, ip, err)
			}
		default:
			t.Fatalf("kind %q", kind)
		}
	})
}

func open(t *testing.T, device string) link.Source {
	t.Helper()
	s, err := link.Open(device, baud)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// readN reads n bytes, at most step at a time.
func readN(t *testing.T, s link.Source, n, step int) []byte {
	t.Helper()
	b := make([]byte, n)
	for have := 0; have < n; {
		m, err := s.Read(b[have:min(have+step, n)], patience)
		if err != nil {
			t.Fatalf("after %d bytes: %v", have, err)
		}
		have += m
	}
	return b
}

func numbered(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8)
	}
	return b
}

// wakes checks that Close ends a blocked Read and what both say afterwards.
func wakes(t *testing.T, s link.Source) {
	t.Helper()
	var reader sync.WaitGroup
	var err error
	reader.Go(func() { _, err = s.Read(make([]byte, 8), patience) })
	cerr := s.Close()
	reader.Wait()
	if cerr != nil || !errors.Is(err, os.ErrClosed) {
		t.Fatalf("close %v, read %v", cerr, err)
	}
	isClosed(t, s)
}

func isClosed(t *testing.T, s link.Source) {
	t.Helper()
	if n, err := s.Read(make([]byte, 8), 0); n != 0 || err != os.ErrClosed {
		t.Fatalf("read after close: %d, %v", n, err)
	}
	if err := s.Close(); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("second close: %v", err)
	}
}

func closes(t *testing.T, s link.Source) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	isClosed(t, s)
}

func silent(t *testing.T, s link.Source) {
	t.Helper()
	for _, wait := range []time.Duration{-1, 0, 2 * time.Millisecond} {
		if n, err := s.Read(make([]byte, 8), wait); n != 0 || err != link.ErrSilent {
			t.Fatalf("wait %v: %d, %v", wait, n, err)
		}
	}
}

func TestSerial(t *testing.T) {
	line, err := serialtest.NewPty(filepath.Join(t.TempDir(), "fc"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	s := open(t, line.Slave())
	silent(t, s)
	if _, err := link.Open(line.Slave(), baud); !errors.Is(err, link.ErrBusy) {
		t.Fatalf("second: %v", err)
	}
	if s, err := link.Open(line.Slave(), 7); !errors.Is(err, link.ErrBaud) || s != nil {
		t.Fatalf("rate: %v, %v", s, err)
	}
	want := numbered(3000)
	if _, err := line.Write(want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readN(t, s, len(want), 512), want) {
		t.Fatal("bytes differ")
	}
	if !s.HoldsBack() {
		t.Error("a pseudo-terminal holds back")
	}
	wakes(t, s)
}

func listen(t *testing.T) (*net.TCPListener, string) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, "tcp:" + l.Addr().String()
}

func TestTCP(t *testing.T) {
	l, device := listen(t)
	s := open(t, device)
	peer, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	silent(t, s)
	want := numbered(1 << 20)
	go func() {
		peer.Write(want)
		peer.Close()
	}()
	if !bytes.Equal(readN(t, s, len(want), 4096), want) {
		t.Fatal("bytes differ")
	}
	for range 2 {
		if n, err := s.Read(make([]byte, 8), patience); n != 0 || err != link.ErrHangup {
			t.Fatalf("peer closed: %d, %v", n, err)
		}
	}
	if _, ok := s.LineErrors(); ok || !s.HoldsBack() {
		t.Error("tcp counts no line errors, and holds back")
	}
}

func TestTCPReset(t *testing.T) {
	l, device := listen(t)
	s := open(t, device)
	peer, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(peer.SetLinger(0), peer.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(make([]byte, 8), patience); n != 0 || err != link.ErrHangup {
		t.Fatalf("reset: %d, %v", n, err)
	}
}

func TestTCPCloseWakes(t *testing.T) {
	_, device := listen(t)
	wakes(t, open(t, device))
}

func TestTCPNobodyListens(t *testing.T) {
	l, device := listen(t)
	l.Close()
	if _, err := link.Open(device, baud); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
}

// openUDP opens a source on a free port and a socket that sends to it.
func openUDP(t *testing.T) (link.Source, string, net.Conn) {
	t.Helper()
	probe, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := probe.LocalAddr().String()
	probe.Close()
	s := open(t, "udp:"+addr)
	peer, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return s, addr, peer
}

func TestUDP(t *testing.T) {
	for _, step := range []int{1, 7, 100, 1 << 16} {
		s, addr, peer := openUDP(t)
		silent(t, s)
		var want []byte
		for _, n := range []int{1, 0, 280, 65507, 3, 0, 1000} {
			b := numbered(n)
			if _, err := peer.Write(b); err != nil {
				t.Fatal(err)
			}
			want = append(want, b...)
		}
		if got := readN(t, s, len(want), step); !bytes.Equal(got, want) {
			t.Fatalf("step %d: bytes differ", step)
		}
		silent(t, s)
		if _, ok := s.LineErrors(); ok || s.HoldsBack() {
			t.Error("udp counts no line errors, and holds nothing back")
		}
		if _, err := link.Open("udp:"+addr, baud); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("second: %v", err)
		}
		if _, err := peer.Write([]byte("half read")); err != nil {
			t.Fatal(err)
		}
		readN(t, s, 4, 4)
		closes(t, s) // with half a datagram in hand
	}
}

func TestUDPCloseWakes(t *testing.T) {
	s, _, _ := openUDP(t)
	wakes(t, s)
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw:1.bin")
	want := numbered(100000)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, "file:"+path)
	if !bytes.Equal(readN(t, s, len(want), 4096), want) {
		t.Fatal("bytes differ")
	}
	atEnd := func() {
		t.Helper()
		if n, err := s.Read(make([]byte, 8), patience); n != 0 || err != io.EOF {
			t.Fatalf("at the end: %d, %v", n, err)
		}
	}
	atEnd()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("more")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	atEnd() // the end is final
	if _, ok := s.LineErrors(); ok || !s.HoldsBack() {
		t.Error("a file counts no line errors, and holds back")
	}
	closes(t, s)
}

func TestFileRefusals(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		filepath.Join(dir, "gone"): fs.ErrNotExist,
		dir:                        link.ErrNotFile,
		fifo:                       link.ErrNotFile,
		"/dev/zero":                link.ErrNotFile,
	} {
		if s, err := link.Open("file:"+path, baud); !errors.Is(err, want) || s != nil {
			t.Errorf("%s: %v, %v; want %v", path, s, err, want)
		}
	}
}
