package serialtest_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/mavlink/serial"
	"holdfast/mavlink/serial/serialtest"
)

// rounds makes the drain tests longer: `go test ./mavlink/serial/serialtest -run Drain -rounds 50`.
var rounds = flag.Int("rounds", 3, "rounds of the drain tests")

const baud = 921600

// unread is how much a test writes that nobody reads: more than the input queue, and less than
// what the kernel takes in all.
const unread = 10 << 10

// patience is far above what any step takes, so that a hang fails and a loaded machine does not.
const patience = 30 * time.Second

// readerEnv makes the test program a reader of the line it names, see TestKilledReader.
const readerEnv = "SERIALTEST_READER"

func TestMain(m *testing.M) {
	if device := os.Getenv(readerEnv); device != "" {
		os.Exit(readAndHang(device))
	}
	os.Exit(m.Run())
}

// sample is n bytes that have every value, those that a cooked terminal would act on included.
func sample(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	special := []byte{0x00, 0x03, 0x04, 0x0a, 0x0d, 0x11, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x7f, 0xff}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
		if i%3 == 0 {
			b[i] = special[r.IntN(len(special))]
		}
	}
	return b
}

func newPty(t *testing.T, link string) *serialtest.Pty {
	t.Helper()
	p, err := serialtest.NewPty(link)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func openPort(t *testing.T, device string) *serial.Port {
	t.Helper()
	p, err := serial.Open(device, baud)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func ctxFor(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// readUntilHangup reads all that comes, at most size bytes at a time.
func readUntilHangup(p *serial.Port, size int, between func()) ([]byte, error) {
	var got []byte
	buf := make([]byte, size)
	for {
		n, err := p.Read(buf, patience)
		got = append(got, buf[:n]...)
		if errors.Is(err, serial.ErrHangup) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		between()
	}
}

// A drained line may be closed: whatever the reader's pace, it has got every byte. The reader
// must not be quicker than the hang-up by chance, so it yields between reads.
func TestDrainThenClose(t *testing.T) {
	for _, tc := range []struct {
		name    string
		size    int
		chunk   int
		between func()
	}{
		{"fast", 1 << 20, 64 << 10, func() {}},
		{"queue", 1 << 20, 4096, runtime.Gosched},
		{"slow", 1 << 20, 61, runtime.Gosched},
		{"pausing", 200 << 10, 1500, func() { <-time.After(50 * time.Microsecond) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i := range *rounds {
				drainRound(t, sample(tc.size, uint64(i)), tc.chunk, tc.between)
			}
		})
	}
}

func drainRound(t *testing.T, want []byte, chunk int, between func()) {
	t.Helper()
	line, err := serialtest.NewPty("")
	if err != nil {
		t.Fatal(err)
	}
	port, err := serial.Open(line.Slave(), baud)
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	sent := make(chan error, 1)
	go func() {
		_, werr := line.WriteContext(ctxFor(t, patience), want)
		derr := line.Drain(ctxFor(t, patience))
		sent <- errors.Join(werr, derr, line.Close())
	}()
	got, err := readUntilHangup(port, chunk, between)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes of %d, or other ones", len(got), len(want))
	}
}

// Small messages drained one by one: the moment between the worker and the reader, often.
func TestDrainSmall(t *testing.T) {
	line := newPty(t, "")
	port := openPort(t, line.Slave())
	var read counter
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := port.Read(buf, patience)
			if err != nil {
				return
			}
			read.add(n)
		}
	}()
	sent := 0
	for i := range 200 * *rounds {
		b := sample(1+i*37%9000, uint64(i))
		n, err := line.Write(b)
		if err := errors.Join(err, line.Drain(ctxFor(t, patience))); err != nil {
			t.Fatal(err)
		}
		sent += n
		// The bytes have left the kernel; the reader's count follows at once.
		if !read.reaches(sent, patience) {
			t.Fatalf("drained after %d bytes, reader has %d", sent, read.value())
		}
	}
}

// The control of TestDrainThenClose: without Drain a close does lose bytes.
func TestCloseWithoutDrainLoses(t *testing.T) {
	line := newPty(t, "")
	port := openPort(t, line.Slave())
	want := sample(unread, 1)
	if _, err := line.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := line.Unplug(); err != nil {
		t.Fatal(err)
	}
	got, err := readUntilHangup(port, 4096, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) >= len(want) {
		t.Fatal("nothing was lost, so the drain tests show nothing")
	}
}

func TestDrainWaitsForReader(t *testing.T) {
	line := newPty(t, "")
	for _, n := range []int{1, 100, 4095, 4096} {
		if _, err := line.Write(sample(n, 1)); err != nil {
			t.Fatal(err)
		}
		if err := line.Drain(ctxFor(t, 5*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%d more bytes, nobody read them: %v", n, err)
		}
	}
}

func TestWaitReader(t *testing.T) {
	line := newPty(t, "")
	if err := line.WaitReader(ctxFor(t, 20*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("no reader: %v", err)
	}
	for i := range 3 { // each reader is seen to come, and to be gone
		port, err := serial.Open(line.Slave(), baud)
		if err != nil {
			t.Fatal(err)
		}
		if err := line.WaitReader(ctxFor(t, patience)); err != nil {
			t.Fatalf("reader %d: %v", i, err)
		}
		if err := port.Close(); err != nil {
			t.Fatal(err)
		}
		if err := line.WaitReader(ctxFor(t, 20*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("reader %d left: %v", i, err)
		}
	}
	f, err := os.OpenFile(line.Slave(), os.O_RDONLY|syscall.O_NOCTTY, 0) // as cat does
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := line.WaitReader(ctxFor(t, patience)); err != nil {
		t.Fatalf("reader that sets nothing up: %v", err)
	}
}

// A reader of another make may ask for exclusive use: it keeps that, and does not shut us out.
func TestExclusiveReader(t *testing.T) {
	line := newPty(t, "")
	fd, err := unix.Open(line.Slave(), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.IoctlGetInt(fd, unix.TIOCGEXCL); errors.Is(err, unix.ENOSYS) {
		t.Skip("the emulator does not tell the mark for exclusive use")
	}
	if err := line.WaitReader(ctxFor(t, patience)); err != nil {
		t.Fatal(err)
	}
	if mark, err := unix.IoctlGetInt(fd, unix.TIOCGEXCL); err != nil || mark == 0 {
		t.Fatalf("mark for exclusive use %d, %v", mark, err)
	}
	if _, err := line.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := unix.Read(fd, b); string(b[:max(n, 0)]) != "abc" {
		t.Fatalf("%q, %v", b[:max(n, 0)], err)
	}
	if err := line.Drain(ctxFor(t, patience)); err != nil {
		t.Fatal(err)
	}
}

func TestReaderComesLater(t *testing.T) {
	line := newPty(t, "")
	seen := make(chan error, 1)
	go func() { seen <- line.WaitReader(ctxFor(t, patience)) }()
	port := openPort(t, line.Slave())
	if err := <-seen; err != nil {
		t.Fatal(err)
	}
	if _, err := line.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 16)
	if n, err := port.Read(got, patience); string(got[:n]) != "hello" {
		t.Fatalf("%q, %v", got[:n], err)
	}
}

// Looking for readers must not disturb one: neither its reading nor what waits for the next.
func TestLookingLosesNothing(t *testing.T) {
	line := newPty(t, "")
	want := sample(unread, 7)
	if _, err := line.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := line.WaitReader(ctxFor(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	port := openPort(t, line.Slave())
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if err := line.WaitReader(ctx); err != nil && ctx.Err() == nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		m, err := port.Read(got[n:min(n+997, len(got))], patience)
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("bytes changed")
	}
}

func TestWriteIsCancelled(t *testing.T) {
	line := newPty(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	type result struct {
		n   int
		err error
	}
	ended := make(chan result, 1)
	go func() {
		n, err := line.WriteContext(ctx, make([]byte, 1<<20))
		ended <- result{n, err}
	}()
	if err := line.WaitReader(ctxFor(t, 30*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	cancel()
	if r := <-ended; !errors.Is(r.err, context.Canceled) || r.n == 0 || r.n >= 1<<20 {
		t.Fatalf("took %d bytes, %v", r.n, r.err)
	}
	go func() {
		n, err := line.Write(make([]byte, 1<<20))
		ended <- result{n, err}
	}()
	if err := line.Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; !errors.Is(r.err, os.ErrClosed) {
		t.Fatalf("closed: %v", r.err)
	}
}

func TestReadFromReader(t *testing.T) {
	line := newPty(t, "")
	port := openPort(t, line.Slave())
	buf := make([]byte, 16)
	if n, err := line.Read(buf, 2*time.Millisecond); n != 0 || !errors.Is(err, serial.ErrSilent) {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := port.Write([]byte{0, 3, 4, 13, 255}); err != nil {
		t.Fatal(err)
	}
	n, err := line.Read(buf, patience)
	if err != nil || !bytes.Equal(buf[:n], []byte{0, 3, 4, 13, 255}) {
		t.Fatalf("%x, %v", buf[:n], err)
	}
	line.Close()
	if _, err := line.Read(buf, patience); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
}

// killAt is how many bytes the reader takes before it is killed.
const killAt = 30000

// readAndHang is the killed reader: it takes killAt bytes, hands them on and then waits.
func readAndHang(device string) int {
	port, err := serial.Open(device, baud)
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	b := make([]byte, killAt)
	for n := 0; n < len(b); {
		m, err := port.Read(b[n:], patience)
		if err != nil {
			os.Stderr.WriteString("after " + strconv.Itoa(n) + ": " + err.Error() + "\n")
			return 1
		}
		n += m
	}
	os.Stdout.Write(b)
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// A reader that is killed loses nothing that it had not read: the next one gets it.
func TestKilledReader(t *testing.T) {
	line := newPty(t, filepath.Join(t.TempDir(), "fc"))
	want := sample(5*killAt, 3)
	sent := make(chan error, 1)
	ctx := ctxFor(t, patience)
	go func() {
		_, err := line.WriteContext(ctx, want)
		sent <- errors.Join(err, line.Drain(ctx))
	}()
	var got []byte
	for range len(want) / killAt {
		got = append(got, readKilled(t, line.Slave())...)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("bytes lost or changed")
	}
}

func readKilled(t *testing.T, device string) []byte {
	t.Helper()
	cmd := exec.CommandContext(ctxFor(t, patience), os.Args[0])
	cmd.Env = append(os.Environ(), readerEnv+"="+device)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // stays open, so that the reader hangs until it is killed
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, syscall.ENOEXEC) {
		t.Skip("the test program is emulated and cannot start itself")
	} else if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, killAt)
	_, err = io.ReadFull(out, got)
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What nobody has read is counted to the byte, before and after a reader took some of it.
func TestUnread(t *testing.T) {
	line := newPty(t, "")
	want := func(n int) {
		t.Helper()
		if got, err := line.Unread(ctxFor(t, patience)); err != nil || got != n {
			t.Fatalf("%d bytes unread, want %d: %v", got, n, err)
		}
	}
	want(0)
	if _, err := line.Write(sample(1000, 1)); err != nil {
		t.Fatal(err)
	}
	want(1000)
	port := openPort(t, line.Slave())
	n, err := port.Read(make([]byte, 300), patience)
	if err != nil {
		t.Fatal(err)
	}
	want(1000 - n)
	line.Close()
	if _, err := line.Unread(ctxFor(t, patience)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
