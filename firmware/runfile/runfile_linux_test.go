package runfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/evidence"
	"holdfast/firmware/runfile"
)

func TestReplaceAndRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock.json")
	for _, want := range [][]byte{[]byte("one\n"), {}, bytes.Repeat([]byte("x"), evidence.MaxFile)} {
		if err := runfile.Replace(name, want); err != nil {
			t.Fatal(err)
		}
		if got, err := runfile.Read(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
		}
	}
	if left, err := os.ReadDir(filepath.Dir(name)); err != nil || len(left) != 1 {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestNotRead: what the other side may put there to trick or to stop a reader.
func TestNotRead(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(name string) error
		want error
	}{
		"nothing":    {func(string) error { return nil }, fs.ErrNotExist},
		"a folder":   {func(n string) error { return os.Mkdir(n, 0o755) }, runfile.ErrNoFile},
		"a pipe":     {func(n string) error { return unix.Mkfifo(n, 0o644) }, runfile.ErrNoFile},
		"a link":     {func(n string) error { return os.Symlink("/etc/passwd", n) }, unix.ELOOP},
		"too much":   {func(n string) error { return os.WriteFile(n, make([]byte, evidence.MaxFile+1), 0o644) }, runfile.ErrTooLong},
		"a huge gap": {func(n string) error { return errors.Join(os.WriteFile(n, nil, 0o644), os.Truncate(n, 1<<40)) }, runfile.ErrTooLong},
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := c.put(file); err != nil {
			t.Fatal(err)
		}
		if _, err := runfile.Read(file); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
