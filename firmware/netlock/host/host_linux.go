// Package host holds the layers of the network lock that belong to a whole machine and not to
// its network: kernel variables (sysctl), radios (rfkill), USB devices, swap, core dumps, and
// a look at who has powers (capabilities) that go past the lock.
//
// Each layer has Detect (does this machine have something of the kind), Apply (close what is
// not closed, and tell what was changed) and Verify (nil, or one clause that names what
// differs). Apply goes on after a fault and may be called again at any time: it writes only
// what differs.
//
// Everything is read and written below a root folder: "/" on a board, a folder of the test's own
// in a test. The files are those of procfs and sysfs, as
// https://docs.kernel.org/admin-guide/sysctl/, https://docs.kernel.org/driver-api/rfkill.html
// and https://docs.kernel.org/usb/authorization.html describe them. No socket is used: the
// layers work on a kernel without a network stack, which tells of new devices to nobody, so
// that Verify has to be called again and again.
//
// The package closes no link and drops no frame: that is the work of its siblings. It undoes
// nothing when it ends. A layer is used by one goroutine at a time.
package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrAbsent: the machine has nothing that this layer could close.
var ErrAbsent = errors.New("not on this machine")

// Change is one thing that Apply has changed.
type Change struct {
	What string // name of a kernel variable, device or file
	Old  string
	New  string
}

// String returns one clause.
func (c Change) String() string { return fmt.Sprintf("%s: %s, was %s", c.What, c.New, c.Old) }

// maxRead bounds what is read of a file of procfs or sysfs, in bytes. The largest that is looked
// at, /proc/swaps with dozens of areas, has a few thousand.
const maxRead = 64 << 10

// tree reads and writes files below a root folder.
type tree struct{ root string }

func (t tree) path(name string) string { return filepath.Join(t.root, name) }

// read returns the content of a small file of text without the white space around it.
func (t tree) read(name string) (string, error) {
	p, err := t.readRaw(name)
	return strings.TrimSpace(string(p)), err
}

// readRaw opens, reads and closes, and does no more: some hundred files are read each second.
func (t tree) readRaw(name string) ([]byte, error) {
	path := t.path(name)
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 256)
	for n := 0; ; {
		k, err := retry(func() (int, error) { return unix.Read(fd, buf[n:]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		n += k
		if k == 0 || n >= maxRead {
			return buf[:n], nil
		}
		if n == len(buf) {
			buf = append(buf, make([]byte, 3*len(buf))...)
		}
	}
}

// write writes value in one call, as procfs and sysfs want it.
func (t tree) write(name, value string) error {
	fd, err := open(t.path(name), unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		return &fs.PathError{Op: "open", Path: t.path(name), Err: err}
	}
	n, err := retry(func() (int, error) { return unix.Write(fd, []byte(value)) })
	if err == nil && n != len(value) {
		err = unix.EIO
	}
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: t.path(name), Err: err}
	}
	return nil
}

// open does not wait: a pipe or a device that stands where a file should would hold the guard up.
func open(path string, mode int) (int, error) {
	return retry(func() (int, error) {
		return unix.Open(path, mode|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	})
}

// retry repeats a call that a signal interrupts: Go's own signals do that.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// names lists a folder in order. A folder that is not there is empty.
func (t tree) names(dir string) ([]string, error) {
	entries, err := os.ReadDir(t.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// resolve returns the path without symbolic links, below root.
func (t tree) resolve(name string) (string, error) {
	path, err := filepath.EvalSymlinks(t.path(name))
	if err != nil {
		return "", err
	}
	return filepath.Rel(t.root, path)
}

// detectSysfs returns ErrAbsent where nothing would tell of devices. Whether there are any does
// not count: drivers are loaded after the guard has started, too.
func (t tree) detectSysfs() error {
	if !t.exists("sys/class") {
		return fmt.Errorf("%w: /sys", ErrAbsent)
	}
	return nil
}

func (t tree) exists(name string) bool {
	_, err := os.Stat(t.path(name))
	return err == nil
}

// gone tells that a thing was taken away between two looks. The kernel says ENODEV of a file
// that was open then.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
