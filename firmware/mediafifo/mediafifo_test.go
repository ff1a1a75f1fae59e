package mediafifo_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/mediafifo"
	"holdfast/firmware/mediapipe"
)

func TestNeitherWaits(t *testing.T) {
	run := t.TempDir()
	if err := mediafifo.Make(run, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := mediafifo.OpenWriter(run, mediapipe.ToRecorder); !errors.Is(err, mediafifo.ErrNobody) {
		t.Errorf("nobody reads: %v", err)
	}
	r, err := mediafifo.OpenReader(run, mediapipe.ToRecorder)
	if err != nil {
		t.Fatal(err)
	}
	w, err := mediafifo.OpenWriter(run, mediapipe.ToRecorder)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.FcntlInt(r.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil || n < 64<<10 {
		t.Errorf("room for %d bytes: %v", n, err)
	}
	if _, err := w.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	w.Close() // the reader goes on: another writer may come
	w, err = mediafifo.OpenWriter(run, mediapipe.ToRecorder)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("two"))
	p := make([]byte, 6)
	for n := 0; n < len(p); {
		k, err := r.Read(p[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	if !bytes.Equal(p, []byte("onetwo")) {
		t.Errorf("%q", p)
	}
	r.Close()
	if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the reader has gone: %v", err)
	}
	w.Close()
	if err := mediafifo.Make(run, nil); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// TestNothingButAFIFO: what has its name and is none is not opened, and replaced by the one who makes it.
func TestNothingButAFIFO(t *testing.T) {
	run := t.TempDir()
	if err := mediafifo.Make(run, nil); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(run, mediapipe.Folder, mediapipe.ToMedia)
	other := filepath.Join(run, "other")
	if err := unix.Mkfifo(other, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func() error{
		"a file": func() error { return os.WriteFile(name, []byte("x"), 0o600) }, "a link": func() error { return os.Symlink(other, name) },
	} {
		if err := errors.Join(os.Remove(name), put()); err != nil {
			t.Fatal(err)
		}
		if f, err := mediafifo.OpenReader(run, mediapipe.ToMedia); err == nil {
			f.Close()
			t.Errorf("%s was opened to read", what)
		}
		if f, err := mediafifo.OpenWriter(run, mediapipe.ToMedia); err == nil {
			f.Close()
			t.Errorf("%s was opened to write", what)
		}
	}
	if err := mediafifo.Make(run, nil); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(name); err != nil || fi.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away takes root")
	}
	run := t.TempDir()
	if err := mediafifo.Make(run, &mediafifo.Owners{RecorderUID: 61001, RecorderGID: 61002, MediaUID: 61003, MediaGID: 61004}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]uint32{mediapipe.ToRecorder: {61001, 61004}, mediapipe.ToMedia: {61003, 61002}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(run, mediapipe.Folder, name), &st); err != nil || st.Uid != want[0] || st.Gid != want[1] || st.Mode&0o777 != 0o620 {
			t.Errorf("%s: %d:%d %o, %v", name, st.Uid, st.Gid, st.Mode, err)
		}
	}
}
