package serial_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/mavlink/serial"
	"holdfast/mavlink/serial/serialtest"
)

const baud = 921600

// patience is far above what any step takes, so that a hang fails and a loaded machine does not.
const patience = 30 * time.Second

func newPty(t testing.TB) *serialtest.Pty {
	t.Helper()
	p, err := serialtest.NewPty("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func openPort(t testing.TB, device string) *serial.Port {
	t.Helper()
	p, err := serial.Open(device, baud)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// sample is n bytes that have every value; a third are such as a cooked terminal acts on.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	special := []byte{0x00, 0x03, 0x04, 0x0d, 0x11, 0x13, 0x1a, 0xff}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
		if i%3 == 0 {
			b[i] = special[r.IntN(len(special))]
		}
	}
	return b
}

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	dangling := filepath.Join(dir, "dangling")
	if err := errors.Join(os.WriteFile(file, []byte("kept"), 0o600), os.Symlink(filepath.Join(dir, "gone"), dangling)); err != nil {
		t.Fatal(err)
	}
	line := newPty(t)
	for _, tc := range []struct {
		name, device string
		baud         int
		want         error
	}{
		{"odd rate", line.Slave(), 123456, serial.ErrBaud},
		{"rate zero", line.Slave(), 0, serial.ErrBaud},
		{"negative rate", line.Slave(), -9600, serial.ErrBaud},
		{"missing", filepath.Join(dir, "ttyX"), baud, fs.ErrNotExist},
		{"empty", "", baud, serial.ErrNotTTY},
		{"dangling link", dangling, baud, fs.ErrNotExist},
		{"regular file", file, baud, serial.ErrNotTTY},
		{"folder", dir, baud, serial.ErrNotTTY},
		{"other device", "/dev/null", baud, serial.ErrNotTTY},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := serial.Open(tc.device, tc.baud)
			if !errors.Is(err, tc.want) || p != nil {
				t.Fatalf("got %v, %v, want %v", p, err, tc.want)
			}
		})
	}
	if b, err := os.ReadFile(file); string(b) != "kept" {
		t.Fatalf("the file is now %q, %v", b, err)
	}
}

func TestNoPermission(t *testing.T) {
	line := newPty(t)
	if err := os.Chmod(line.Slave(), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		// Root may open everything, so this thread gives that up; it ends with the test.
		runtime.LockOSThread()
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := serial.Open(line.Slave(), baud); !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
}

func TestCheckBaud(t *testing.T) {
	for baud, ok := range map[int]bool{9600: true, 57600: true, 115200: true, 921600: true, 4000000: true, 12345: false, 0: false, -1: false} {
		if err := serial.CheckBaud(baud); (err == nil) != ok || (err != nil && !errors.Is(err, serial.ErrBaud)) {
			t.Errorf("%d: %v", baud, err)
		}
	}
}

func TestExclusive(t *testing.T) {
	line := newPty(t)
	link := filepath.Join(t.TempDir(), "fc")
	if err := os.Symlink(line.Slave(), link); err != nil {
		t.Fatal(err)
	}
	first := openPort(t, line.Slave())
	before := settings(t, line.Slave())
	for _, name := range []string{line.Slave(), link} {
		if _, err := serial.Open(name, 57600); !errors.Is(err, serial.ErrBusy) {
			t.Fatalf("second open of %s: %v", name, err)
		}
	}
	if settings(t, line.Slave()) != before {
		t.Fatal("the refused open changed the line")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openPort(t, link)
}

// settings reads the line's settings over a descriptor of its own.
func settings(t *testing.T, device string) unix.Termios {
	t.Helper()
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	set, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *set
}

func TestSettings(t *testing.T) {
	// Rates that an emulated kernel knows too.
	for baud, flag := range map[int]uint32{57600: unix.B57600, 115200: unix.B115200, 460800: unix.B460800} {
		line := newPty(t)
		if p, err := serial.Open(line.Slave(), baud); err != nil {
			t.Fatal(err)
		} else {
			defer p.Close()
		}
		set := settings(t, line.Slave())
		if set.Iflag != 0 || set.Oflag != 0 || set.Lflag != 0 {
			t.Errorf("not raw, or IGNPAR still drops damaged bytes: iflag %#x oflag %#x lflag %#x", set.Iflag, set.Oflag, set.Lflag)
		}
		if got := set.Cflag & (unix.CBAUD | unix.CSIZE | unix.CSTOPB | unix.PARENB | unix.CRTSCTS); got != flag|unix.CS8 {
			t.Errorf("not %d 8N1: cflag %#x", baud, set.Cflag)
		}
		if set.Cc[unix.VMIN] != 1 || set.Cc[unix.VTIME] != 0 {
			t.Errorf("VMIN %d VTIME %d: a read of 0 could be mistaken for a hang-up", set.Cc[unix.VMIN], set.Cc[unix.VTIME])
		}
	}
}

func TestOpenKeepsWaitingInput(t *testing.T) {
	line := newPty(t)
	want := sample(4000)
	if _, err := line.Write(want); err != nil {
		t.Fatal(err)
	}
	for half := range 2 { // the second port finds what the first one left
		port := openPort(t, line.Slave())
		part := want[half*2000:][:2000]
		if got := readN(t, port, len(part)); !bytes.Equal(got, part) {
			t.Fatalf("half %d differs", half)
		}
		if err := port.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func readN(t *testing.T, port *serial.Port, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	for have := 0; have < n; {
		m, err := port.Read(b[have:], patience)
		if err != nil {
			t.Fatalf("after %d bytes: %v", have, err)
		}
		have += m
	}
	return b
}

func TestSilenceIsNotHangup(t *testing.T) {
	line := newPty(t)
	port := openPort(t, line.Slave())
	buf := make([]byte, 64)
	for _, wait := range []time.Duration{-1, 0, 1, 3 * time.Millisecond} {
		start := time.Now()
		n, err := port.Read(buf, wait)
		if n != 0 || !errors.Is(err, serial.ErrSilent) {
			t.Fatalf("wait %v: %d, %v", wait, n, err)
		}
		if took := time.Since(start); took < wait {
			t.Fatalf("wait %v: silent after %v", wait, took)
		}
	}
	if _, err := line.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if n, err := port.Read(buf, patience); n != 1 || err != nil {
		t.Fatalf("after silence: %d, %v", n, err)
	}
	if n, err := port.Read(nil, 0); n != 0 || err != nil {
		t.Fatalf("no room: %d, %v", n, err)
	}
}

func TestHangup(t *testing.T) {
	line := newPty(t)
	port := openPort(t, line.Slave())
	ended := make(chan error, 1)
	go func() {
		_, err := port.Read(make([]byte, 64), patience)
		ended <- err
	}()
	if err := line.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, serial.ErrHangup) {
		t.Fatalf("blocked read: %v", err)
	}
	for range 3 { // and it stays so
		if _, err := port.Read(make([]byte, 64), patience); !errors.Is(err, serial.ErrHangup) {
			t.Fatalf("later read: %v", err)
		}
	}
	if _, err := port.Write([]byte("x")); !errors.Is(err, serial.ErrHangup) {
		t.Fatalf("write: %v", err)
	}
	if _, ok := port.LineErrors(); ok {
		t.Fatal("a line that is gone has no counters")
	}
}

func TestCloseWakesRead(t *testing.T) {
	line := newPty(t)
	for range 20 {
		port := openPort(t, line.Slave())
		var readers sync.WaitGroup
		var err error
		readers.Go(func() { _, err = port.Read(make([]byte, 64), patience) })
		cerr := port.Close()
		readers.Wait()
		if cerr != nil || !errors.Is(err, os.ErrClosed) {
			t.Fatalf("close %v, read %v", cerr, err)
		}
		if _, err := port.Read(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("read after close: %v", err)
		}
		if _, err := port.Write([]byte{1}); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("write after close: %v", err)
		}
		if err := port.Close(); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("second close: %v", err)
		}
	}
}

// A line that takes nothing must not hold up the caller, nor Close.
func TestWriteToStuckLine(t *testing.T) {
	line := newPty(t)
	port := openPort(t, line.Slave())
	n, err := port.Write(make([]byte, 1<<20))
	if n == 0 || n == 1<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("stuck: %d, %v", n, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := port.Write([]byte("x"))
		ended <- err
	}()
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	line := newPty(t)
	port := openPort(t, line.Slave())
	want := sample(1 << 20)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sent := make(chan error, 2)
	go func() {
		_, err := line.WriteContext(ctx, want)
		sent <- errors.Join(err, line.Drain(ctx))
	}()
	if got := readN(t, port, len(want)); !bytes.Equal(got, want) {
		t.Fatal("to the port: bytes differ")
	}
	go func() {
		for piece := range slices.Chunk(want, 4096) { // a Write has a second in all
			if _, err := port.Write(piece); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		m, err := line.Read(got[n:], patience)
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if !bytes.Equal(got, want) {
		t.Fatal("from the port: bytes differ")
	}
	if err := errors.Join(<-sent, <-sent); err != nil {
		t.Fatal(err)
	}
}

func TestPtyHoldsBackAndCountsNothing(t *testing.T) {
	port := openPort(t, newPty(t).Slave())
	if !port.HoldsBack() {
		t.Error("a pseudo-terminal holds back")
	}
	if c, ok := port.LineErrors(); ok {
		t.Errorf("counters of a pseudo-terminal: %v", c)
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	line := newPty(t)
	port := openPort(t, line.Slave())
	frame, buf := sample(57), make([]byte, 4096)
	allocs := testing.AllocsPerRun(500, func() {
		if _, err := line.Write(frame); err != nil {
			t.Fatal(err)
		}
		if _, err := port.Read(buf, patience); err != nil {
			t.Fatal(err)
		}
		if _, err := port.Read(buf, 0); !errors.Is(err, serial.ErrSilent) {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Fatalf("%v allocations in a write and two reads", allocs)
	}
}

func BenchmarkRead(b *testing.B) {
	line := newPty(b)
	port := openPort(b, line.Slave())
	frame, buf := sample(57), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := line.Write(frame); err != nil {
			b.Fatal(err)
		}
		if _, err := port.Read(buf, patience); err != nil {
			b.Fatal(err)
		}
	}
}
