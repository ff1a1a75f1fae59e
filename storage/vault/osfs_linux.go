package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// osFS is a directory of the board's medium. os.Root keeps every name inside it.
type osFS struct {
	dir  string
	root *os.Root
}

// NewOSFS returns the FS of a directory, which it makes, 0700, where it is missing.
func NewOSFS(dir string) (FS, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &osFS{dir: dir, root: root}, nil
}

func (o *osFS) Create(name string) (File, error) {
	f, err := o.root.OpenFile(filepath.FromSlash(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	o.forgetTimes(name)
	_ = zeroTimes(f) // Sync does it again, and tells
	return &osFile{f}, nil
}

func (o *osFS) Append(name string) (File, error) {
	f, err := o.root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (o *osFS) Truncate(name string, size int64) error {
	return o.inPlace(name, func(f *os.File) error { return f.Truncate(size) })
}

func (o *osFS) Replace(name string, p []byte) error {
	return o.inPlace(name, func(f *os.File) error {
		if _, err := f.WriteAt(p, 0); err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil || info.Size() <= int64(len(p)) {
			return err
		}
		return f.Truncate(int64(len(p)))
	})
}

// inPlace changes what an existing file holds and makes it durable.
func (o *osFS) inPlace(name string, change func(f *os.File) error) error {
	f, err := o.root.OpenFile(filepath.FromSlash(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = change(f)
	if e := (&osFile{f}).Sync(); err == nil {
		err = e
	}
	return errors.Join(err, f.Close())
}

// OpenSynced drops the page cache after the sync: pages that an earlier sync failed to write
// are clean, and only the medium can tell what became of them.
func (o *osFS) OpenSynced(name string) (io.ReadSeekCloser, error) {
	f, err := o.open(name)
	if err != nil {
		return nil, err
	}
	if err := (&osFile{f}).Sync(); err != nil {
		f.Close()
		return nil, err
	}
	// Advice only, as in ReadFile.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	return f, nil
}

func (o *osFS) Open(name string) (io.ReadCloser, error) { return o.open(name) }

// open opens for reading without the kernel noting when, where it lets us.
func (o *osFS) open(name string) (*os.File, error) {
	f, err := o.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		return o.root.Open(filepath.FromSlash(name))
	}
	return f, err
}

// forgetTimes sets the times of the directory of name to zero after a change in it. SyncDir does
// so too; this is for what a killed program leaves before. A failure is left to SyncDir to tell.
func (o *osFS) forgetTimes(name string) {
	d, err := o.root.Open(filepath.Dir(filepath.FromSlash(name)))
	if err != nil {
		return
	}
	defer d.Close()
	_ = zeroTimes(d)
}

// ReadFile drops the page cache of the file first. The kernel keeps dirty pages, so this
// reads back from the medium only what was synced, which is what callers have done.
func (o *osFS) ReadFile(name string) ([]byte, error) {
	f, err := o.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Advice only: where the kernel does not take it, the read is from memory.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	return io.ReadAll(f)
}

func (o *osFS) ForgetTimes(name string) error {
	f, err := o.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return zeroTimes(f)
}

func (o *osFS) Mkdir(name string) error {
	defer o.forgetTimes(name)
	return o.root.Mkdir(name, 0o700)
}

func (o *osFS) Rename(oldName, newName string) error {
	defer o.forgetTimes(newName)
	return o.root.Rename(oldName, newName)
}

func (o *osFS) Link(oldName, newName string) error {
	defer o.forgetTimes(newName)
	return o.root.Link(oldName, newName)
}

func (o *osFS) Remove(name string) error {
	defer o.forgetTimes(name)
	return o.root.Remove(name)
}

func (o *osFS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := o.open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

func (o *osFS) SyncDir(name string) error {
	d, err := o.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := zeroTimes(d); err != nil {
		return err
	}
	return d.Sync()
}

func (o *osFS) Free() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(o.dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// Lock takes flock on the directory itself, so that no lock file stands in the tree and a
// killed recorder leaves nothing behind.
func (o *osFS) Lock(name string) (io.Closer, error) {
	d, err := o.root.Open(name)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock vault: %w", err)
	}
	return d, nil
}

type osFile struct{ f *os.File }

// Write forgets when it was, so that a program killed before its next Sync leaves no time.
func (o *osFile) Write(p []byte) (int, error) {
	n, err := o.f.Write(p)
	_ = zeroTimes(o.f) // Sync does it again, and tells
	return n, err
}

func (o *osFile) Close() error { return o.f.Close() }

func (o *osFile) Sync() error {
	if err := zeroTimes(o.f); err != nil {
		return err
	}
	return unix.Fdatasync(int(o.f.Fd()))
}

// zeroTimes sets access and modification time to 1970-01-01: they would tell when a flight
// was. The change time cannot be set; it is named in docs/threat-model.md.
func zeroTimes(f *os.File) error {
	var ts [2]unix.Timespec
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, f.Fd(), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set file times: %w", errno)
	}
	return nil
}
