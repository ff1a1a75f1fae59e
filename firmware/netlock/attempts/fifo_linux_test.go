package attempts_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/evidence"
	"holdfast/firmware/netlock/attempts"
)

func newWriter(t *testing.T) (*attempts.Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), evidence.AttemptsFIFO)
	w, err := attempts.OpenWriter(path, 0o640, -1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() }) // what a test leaves unread
	return w, path
}

func numbered(i int) evidence.Attempt {
	return evidence.Attempt{Usec: int64(i + 1), SeenUsec: int64(i + 2), Layer: "tc", What: "frame", UID: -1, Program: strings.Repeat("p", 200), Count: 1}
}

// reader opens a FIFO as the recorder does, and does not block.
func reader(t *testing.T, path string) *os.File {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// read returns the lines that wait in a FIFO. Each must be whole.
func read(t *testing.T, f *os.File) []evidence.Attempt {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var p []byte
	_ = raw.Read(func(fd uintptr) bool { // the function never fails
		buf := make([]byte, 64<<10)
		for {
			n, err := unix.Read(int(fd), buf)
			if n <= 0 || err != nil {
				return true
			}
			p = append(p, buf[:n]...)
		}
	})
	var all []evidence.Attempt
	s := bufio.NewScanner(strings.NewReader(string(p)))
	for s.Scan() {
		a, err := evidence.ParseAttempt(s.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *a)
	}
	return all
}

// TestWriter: lines arrive in order, also those that were written before anybody read.
func TestWriter(t *testing.T) {
	w, path := newWriter(t)
	for i := range 10 {
		w.Put(numbered(i))
	}
	got := read(t, reader(t, path))
	for i, a := range got {
		if a != numbered(i) {
			t.Errorf("line %d: %+v", i, a)
		}
	}
	if len(got) != 10 {
		t.Errorf("%d lines of 10", len(got))
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != os.ModeNamedPipe|0o640 {
		t.Errorf("the FIFO: %v %v", st.Mode(), err)
	}
}

// TestNobodyReads: far more than pipe and memory hold. Nothing blocks, and when somebody reads at
// last, lines and counts stand for every attempt.
func TestNobodyReads(t *testing.T) {
	w, path := newWriter(t)
	const n = 20000
	for i := range n {
		a := numbered(i)
		a.Layer = fmt.Sprintf("layer-%d", i%3)
		w.Put(a)
	}
	lines, overflow := w.Kept()
	if lines == 0 || lines > 4096 || overflow == 0 {
		t.Errorf("%d lines kept, %d attempts counted", lines, overflow)
	}
	f := reader(t, path)
	var got []evidence.Attempt
	for range 10 {
		got = append(got, read(t, f)...)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if c := sum(got); c != n {
		t.Errorf("the lines stand for %d attempts of %d", c, n)
	}
	for i, a := range got[:len(got)-3] {
		if a.Usec != int64(i+1) {
			t.Fatalf("line %d is of attempt %d", i, a.Usec)
		}
	}
	for _, a := range got[len(got)-3:] {
		if a.What != "summary" || a.Usec <= int64(len(got)-3) || a.LastUsec <= n-3 {
			t.Errorf("summary %+v", a)
		}
	}
	if lines, overflow := w.Kept(); lines != 0 || overflow != 0 {
		t.Errorf("still %d lines, %d attempts", lines, overflow)
	}
}

// TestReaderComesAndGoes: a reader that ends loses nothing for the next one.
func TestReaderComesAndGoes(t *testing.T) {
	w, path := newWriter(t)
	var got []evidence.Attempt
	for i := range 5 {
		f := reader(t, path)
		w.Put(numbered(2 * i))
		got = append(got, read(t, f)...)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		w.Put(numbered(2*i + 1)) // while nobody reads
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	got = append(got, read(t, reader(t, path))...)
	if len(got) != 10 {
		t.Fatalf("%d lines of 10", len(got))
	}
	for i, a := range got {
		if a != numbered(i) {
			t.Errorf("line %d: %+v", i, a)
		}
	}
}

// TestOtherThings: what stands at the path and is not a FIFO of ours is not written to, neither
// at the start nor later.
func TestOtherThings(t *testing.T) {
	tests := []struct {
		name string
		make func(path string) error
	}{
		{"a file", func(path string) error { return os.WriteFile(path, nil, 0o600) }},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a link to a FIFO", func(path string) error {
			if err := unix.Mkfifo(path+".real", 0o600); err != nil {
				return err
			}
			return os.Symlink(path+".real", path)
		}},
		{"a FIFO that others may write into", func(path string) error {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				return err
			}
			return os.Chmod(path, 0o622)
		}},
		{"a FIFO of another user", func(path string) error {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				return errors.ErrUnsupported
			}
			return os.Chown(path, 65534, -1)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "attempts")
			if err := test.make(path); errors.Is(err, errors.ErrUnsupported) {
				t.Skip("needs root")
			} else if err != nil {
				t.Fatal(err)
			}
			if _, err := attempts.OpenWriter(path, 0o600, -1); !errors.Is(err, attempts.ErrFIFO) {
				t.Errorf("opened: %v", err)
			}
			replaced(t, test.make)
		})
	}
}

// replaced puts something else in the place of a FIFO that is open, and then takes it away.
func replaced(t *testing.T, make func(string) error) {
	t.Helper()
	w, path := newWriter(t)
	w.Put(numbered(0))
	_ = read(t, reader(t, path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := make(path); err != nil {
		t.Fatal(err)
	}
	w.Put(numbered(1))
	if err := w.Flush(); !errors.Is(err, attempts.ErrFIFO) {
		t.Errorf("written: %v", err)
	}
	if lines, _ := w.Kept(); lines != 1 {
		t.Errorf("%d lines kept, want 1", lines)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil { // it makes a new one
		t.Fatal(err)
	}
	if got := read(t, reader(t, path)); len(got) != 1 || got[0] != numbered(1) {
		t.Errorf("in the new FIFO: %+v", got)
	}
}

// TestOpenedToOthers: the mode of an open FIFO counts too.
func TestOpenedToOthers(t *testing.T) {
	w, path := newWriter(t)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); !errors.Is(err, attempts.ErrFIFO) {
		t.Errorf("written: %v", err)
	}
}

// TestTakenOver: a Writer takes the FIFO of one before it, with what waits in it.
func TestTakenOver(t *testing.T) {
	w, path := newWriter(t)
	f := reader(t, path)
	w.Put(numbered(0))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := attempts.OpenWriter(path, 0o640, -1)
	if err != nil {
		t.Fatal(err)
	}
	next.Put(numbered(1))
	if got := read(t, f); len(got) != 2 || got[0] != numbered(0) || got[1] != numbered(1) {
		t.Errorf("lines %+v", got)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}

// TestGroup: the FIFO is for a group to read.
func TestGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("another group needs root")
	}
	path := filepath.Join(t.TempDir(), "attempts")
	w, err := attempts.OpenWriter(path, 0o640, 65534)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Gid != 65534 || st.Mode != unix.S_IFIFO|0o640 {
		t.Errorf("group %d, mode %o: %v", st.Gid, st.Mode, err)
	}
}

// TestUnread: what nobody took is said at the end.
func TestUnread(t *testing.T) {
	w, _ := newWriter(t)
	for i := range 6000 {
		w.Put(numbered(i))
	}
	if err := w.Close(); !errors.Is(err, attempts.ErrUnread) {
		t.Errorf("closed: %v", err)
	}
}

// TestLongLine: the longest line goes into the pipe in one piece.
func TestLongLine(t *testing.T) {
	w, path := newWriter(t)
	a := numbered(0)
	for _, s := range []*string{&a.Program, &a.Detail, &a.Destination, &a.Link, &a.Protocol} {
		*s = strings.Repeat("<\"", 2048)
	}
	w.Put(a)
	w.Put(numbered(1))
	if got := read(t, reader(t, path)); len(got) != 2 || got[1] != numbered(1) {
		t.Errorf("lines %+v", got)
	}
}
