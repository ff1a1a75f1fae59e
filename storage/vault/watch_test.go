package vault_test

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"holdfast/storage/vault"
)

var errKilled = errors.New("killed")

// watchFS passes everything on, kills the program at an operation, and sees that no file is
// synced again after a sync of it failed.
type watchFS struct {
	vault.FS
	t     testing.TB
	left  int // operations until the kill; negative: never
	ops   int
	dead  bool
	locks []io.Closer
	// log is what was written to log.bin, and logSynced how much of it a sync has covered.
	log       []byte
	logSynced int
}

func watch(t testing.TB, fsys vault.FS) *watchFS { return &watchFS{FS: fsys, t: t, left: -1} }

// alive counts an operation.
func (w *watchFS) alive() error {
	w.ops++
	if w.left == 0 {
		w.dead = true
	}
	w.left--
	if w.dead {
		return errKilled
	}
	return nil
}

// bury does what the kernel does for a killed program: it gives up its locks.
func (w *watchFS) bury() {
	w.dead = true
	for _, l := range w.locks {
		l.Close()
	}
}

func (w *watchFS) Create(name string) (vault.File, error) {
	if err := w.alive(); err != nil {
		return nil, err
	}
	f, err := w.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &watchFile{File: f, w: w, name: name}, nil
}

func (w *watchFS) Append(name string) (vault.File, error) {
	if err := w.alive(); err != nil {
		return nil, err
	}
	f, err := w.FS.Append(name)
	if err != nil {
		return nil, err
	}
	return &watchFile{File: f, w: w, name: name}, nil
}

func (w *watchFS) Truncate(name string, size int64) error {
	return errors.Join(w.alive(), w.unless(func() error {
		err := w.FS.Truncate(name, size)
		if err == nil && isLog(name) {
			w.log = w.log[:min(int(size), len(w.log))]
		}
		return err
	}))
}

func (w *watchFS) Replace(name string, p []byte) error {
	return errors.Join(w.alive(), w.unless(func() error { return w.FS.Replace(name, p) }))
}

func (w *watchFS) OpenSynced(name string) (io.ReadSeekCloser, error) {
	if err := w.alive(); err != nil {
		return nil, err
	}
	return w.FS.OpenSynced(name)
}

func (w *watchFS) Mkdir(name string) error {
	return errors.Join(w.alive(), w.unless(func() error { return w.FS.Mkdir(name) }))
}

func (w *watchFS) Rename(from, to string) error {
	return errors.Join(w.alive(), w.unless(func() error { return w.FS.Rename(from, to) }))
}

func (w *watchFS) Link(from, to string) error {
	return errors.Join(w.alive(), w.unless(func() error { return w.FS.Link(from, to) }))
}

func (w *watchFS) Remove(name string) error {
	return errors.Join(w.alive(), w.unless(func() error { return w.FS.Remove(name) }))
}

func (w *watchFS) SyncDir(name string) error {
	return errors.Join(w.alive(), w.unless(func() error { return w.FS.SyncDir(name) }))
}

func (w *watchFS) unless(do func() error) error {
	if w.dead {
		return errKilled
	}
	return do()
}

func (w *watchFS) ReadFile(name string) ([]byte, error) {
	if err := w.alive(); err != nil {
		return nil, err
	}
	return w.FS.ReadFile(name)
}

func (w *watchFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := w.alive(); err != nil {
		return nil, err
	}
	return w.FS.ReadDir(name)
}

func (w *watchFS) Lock(name string) (io.Closer, error) {
	if err := w.alive(); err != nil {
		return nil, err
	}
	l, err := w.FS.Lock(name)
	if err == nil {
		w.locks = append(w.locks, l)
	}
	return l, err
}

type watchFile struct {
	vault.File
	w      *watchFS
	name   string
	failed bool
}

func (f *watchFile) Write(p []byte) (int, error) {
	if err := f.w.alive(); err != nil {
		return 0, err
	}
	n, err := f.File.Write(p)
	if isLog(f.name) {
		f.w.log = append(f.w.log, p[:n]...)
	}
	return n, err
}

func isLog(name string) bool { return strings.HasSuffix(name, "/LOG/log.bin") }

func (f *watchFile) Sync() error {
	if err := f.w.alive(); err != nil {
		return err
	}
	if f.failed {
		f.w.t.Errorf("%s is synced again after a sync of it failed", f.name)
	}
	err := f.File.Sync()
	f.failed = err != nil
	if err == nil && isLog(f.name) {
		f.w.logSynced = len(f.w.log)
	}
	return err
}
