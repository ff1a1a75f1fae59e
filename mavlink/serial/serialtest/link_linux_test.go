package serialtest_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/mavlink/serial"
	"holdfast/mavlink/serial/serialtest"
)

// counter is a number that one goroutine raises and another waits for.
type counter struct {
	mu   sync.Mutex
	n    int
	more chan struct{}
}

func (c *counter) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	if c.more != nil {
		close(c.more)
		c.more = nil
	}
}

func (c *counter) value() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// reaches waits until the number is n, and says false if it does not come to that in d.
func (c *counter) reaches(n int, d time.Duration) bool {
	late := time.After(d)
	for {
		c.mu.Lock()
		if c.n >= n {
			defer c.mu.Unlock()
			return c.n == n
		}
		if c.more == nil {
			c.more = make(chan struct{})
		}
		more := c.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-late:
			return false
		}
	}
}

func TestLink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "fc")
	line := newPty(t, link)
	if target, err := os.Readlink(link); err != nil || target != line.Slave() {
		t.Fatalf("%q, %v", target, err)
	}
	if err := line.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("link is left: %v", err)
	}
	if err := line.Close(); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("second close: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(link))
	if err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

func TestLinkRefusals(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(path string) error
		want error // nil: replaced
	}{
		{"stale link", func(p string) error { return os.Symlink(p+".gone", p) }, nil},
		{"link to a file", func(p string) error {
			return errors.Join(os.WriteFile(p+".x", nil, 0o600), os.Symlink(p+".x", p))
		}, serialtest.ErrLinkTaken},
		{"file", func(p string) error { return os.WriteFile(p, []byte("precious"), 0o600) }, serialtest.ErrLinkTaken},
		{"folder", func(p string) error { return os.Mkdir(p, 0o700) }, serialtest.ErrLinkTaken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "fc")
			if err := tc.make(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			line, err := serialtest.NewPty(path)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err == nil {
				line.Close()
				return
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Fatalf("replaced: %v", err)
			}
		})
	}
	if _, err := serialtest.NewPty(filepath.Join(t.TempDir(), "no", "fc")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no folder for the link: %v", err)
	}
}

func TestLinkOfALiveLineIsRefused(t *testing.T) {
	link := filepath.Join(t.TempDir(), "fc")
	newPty(t, link)
	if _, err := serialtest.NewPty(link); !errors.Is(err, serialtest.ErrLinkTaken) {
		t.Fatal(err)
	}
}

func TestForeignLinkIsLeft(t *testing.T) {
	link := filepath.Join(t.TempDir(), "fc")
	line := newPty(t, link)
	if err := errors.Join(os.Remove(link), os.Symlink("elsewhere", link)); err != nil {
		t.Fatal(err)
	}
	if err := line.Close(); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(link); target != "elsewhere" {
		t.Fatalf("%q, %v", target, err)
	}
}

// Unplug, no line for a while, replug at the same link: the reader sees each state.
func TestUnplugReplug(t *testing.T) {
	link := filepath.Join(t.TempDir(), "fc")
	buf := make([]byte, 16)
	for range 3 {
		line := newPty(t, link)
		port := openPort(t, link)
		if _, err := port.Read(buf, time.Millisecond); !errors.Is(err, serial.ErrSilent) {
			t.Fatalf("silent line: %v", err)
		}
		if err := line.Unplug(); err != nil {
			t.Fatal(err)
		}
		if _, err := port.Read(buf, patience); !errors.Is(err, serial.ErrHangup) {
			t.Fatalf("unplugged: %v", err)
		}
		if _, err := port.Write(buf); !errors.Is(err, serial.ErrHangup) {
			t.Fatalf("write when unplugged: %v", err)
		}
		if err := port.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := serial.Open(link, baud); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("open when unplugged: %v", err)
		}
	}
}
