package share_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/share"
	"holdfast/mavlink"
)

// patience is far above what any step takes.
const patience = 20 * time.Second

func frame(seq uint8, id uint32, payload ...byte) []byte {
	f := []byte{0xFD, byte(len(payload)), 0, 0, seq, 1, 1, byte(id), byte(id >> 8), byte(id >> 16)}
	f = append(f, payload...)
	extra, _ := mavlink.CRCExtra(id)
	return binary.LittleEndian.AppendUint16(f, mavlink.Checksum(append(bytes.Clone(f[1:]), extra)))
}

// sink keeps what programs wrote.
type sink struct {
	mu     sync.Mutex
	frames [][]byte
	events []string
}

func (k *sink) take(raw []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.frames = append(k.frames, bytes.Clone(raw))
}

func (k *sink) event(kind, _ string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, kind)
}

func (k *sink) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.frames)
}

// run opens a share and runs it until the test ends.
func run(t *testing.T, k *sink) (*share.Share, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fc")
	s, err := share.Open(share.Config{Path: path, Group: -1, Sink: k.take, Event: k.event})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	t.Cleanup(func() {
		stop()
		<-ended
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the link is left behind: %v", err)
		}
	})
	return s, path
}

// program opens the slave as a program on the board does, without touching its settings.
func program(t *testing.T, path string) *os.File {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("not within", patience, ":", what)
		}
	}
}

// read reads n bytes, feeding the share with a frame until there is something: it takes a moment
// until it has seen the program.
func read(t *testing.T, s *share.Share, f *os.File, feed []byte, n int) []byte {
	t.Helper()
	buf := make([]byte, 64<<10)
	var got []byte
	if err := f.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); len(got) < n; {
		s.Heard(feed)
		m, err := f.Read(buf)
		got = append(got, buf[:m]...)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if err := f.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().After(end) {
			t.Fatalf("only %d bytes of %d", len(got), n)
		}
	}
	return got
}

// TestGiveAndTake: a program gets whole frames and is heard; nothing it was given comes back as if
// it had written it, also when the second program opens the terminal.
func TestGiveAndTake(t *testing.T) {
	k := &sink{}
	s, path := run(t, k)
	for range 3 { // one program after another
		f := program(t, path)
		a := frame(1, 30, bytes.Repeat([]byte{3}, 28)...)
		got := read(t, s, f, a, 10*len(a))
		for len(got) >= len(a) {
			if !bytes.Equal(got[:len(a)], a) {
				t.Fatalf("got %x", got[:len(a)])
			}
			got = got[len(a):]
		}
		before := k.count()
		b := frame(9, 0, 0, 0, 0, 0, 18, 8, 0, 4, 3)
		if _, err := f.Write(append([]byte("noise"), b...)); err != nil {
			t.Fatal(err)
		}
		until(t, "a frame that a program wrote", func() bool { return k.count() > before })
		if k.count() != before+1 || !bytes.Equal(k.frames[before], b) {
			t.Errorf("heard %x", k.frames[before:])
		}
		f.Close()
	}
	if st := s.Stats(); st.Taken != 3 || st.Noise != 15 || st.Given < 30 {
		t.Errorf("%+v", st)
	}
}

// TestSlowReader: a program that opens the terminal and reads nothing costs the caller nothing; it
// loses frames, which are counted, and what it gets afterwards is whole frames again.
func TestSlowReader(t *testing.T) {
	k := &sink{}
	s, path := run(t, k)
	f := program(t, path)
	a := frame(1, 30, bytes.Repeat([]byte{3}, 28)...)
	read(t, s, f, a, len(a))
	const flood = 20_000 // 800 KB, far more than queue and kernel hold
	for range flood {
		s.Heard(a)
	}
	st := s.Stats()
	if st.Dropped == 0 {
		t.Fatalf("nothing was dropped: %+v", st)
	}
	h := &counter{}
	scan := mavlink.NewScanner(h)
	scan.Write(0, read(t, s, f, a, 64<<10))
	if h.noise > len(a) || h.frames < 1000 {
		t.Errorf("%d frames, %d bytes between them", h.frames, h.noise)
	}
	until(t, "an event that tells of it", func() bool {
		s.Heard(a)
		_, _ = f.Read(make([]byte, 4096))
		_ = f.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.events) > 0 && k.events[0] == "share_slow"
	})
}

type counter struct{ frames, noise int }

func (c *counter) Frame(*mavlink.Frame)   { c.frames++ }
func (c *counter) Noise(n *mavlink.Noise) { c.noise += len(n.Data) }

// TestNobody: without a program nothing waits, and the first one gets no old frames.
func TestNobody(t *testing.T) {
	k := &sink{}
	s, path := run(t, k)
	old, fresh := frame(1, 30, bytes.Repeat([]byte{1}, 28)...), frame(2, 30, bytes.Repeat([]byte{2}, 28)...)
	for range 5000 {
		s.Heard(old)
	}
	f := program(t, path)
	if got := read(t, s, f, fresh, len(fresh)); !bytes.HasPrefix(got, fresh) {
		t.Errorf("got %x", got[:len(fresh)])
	}
	if st := s.Stats(); st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}

// TestPath: the link takes the place of an old one and of nothing else; who may open it is said by
// the mode.
func TestPath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fc")
	if err := os.Symlink("/dev/pts/9999", path); err != nil {
		t.Fatal(err)
	}
	s, err := share.Open(share.Config{Path: path, Group: os.Getgid(), Sink: func([]byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", fi, err)
	}
	s.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := share.Open(share.Config{Path: path, Group: -1}); !errors.Is(err, share.ErrTaken) {
		t.Errorf("a file was replaced: %v", err)
	}
	if _, err := share.Open(share.Config{Path: filepath.Join(dir, "none", "fc"), Group: -1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// BenchmarkHeard is what a share costs the reader of the link.
func BenchmarkHeard(b *testing.B) {
	path := filepath.Join(b.TempDir(), "fc")
	s, err := share.Open(share.Config{Path: path, Group: -1, Sink: func([]byte) {}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for buf := make([]byte, 64<<10); ; {
			if _, err := f.Read(buf); err != nil {
				return
			}
		}
	}()
	a := frame(1, 30, bytes.Repeat([]byte{3}, 28)...)
	b.SetBytes(int64(len(a)))
	b.ReportAllocs()
	for b.Loop() {
		s.Heard(a)
	}
	f.Close()
	stop()
	<-ended
}
