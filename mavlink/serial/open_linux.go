package serial

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tarm/serial"
	"golang.org/x/sys/unix"
)

// Major device numbers of pseudo-terminals (Unix98 slaves) in the kernel's list,
// https://docs.kernel.org/admin-guide/devices.html.
const (
	firstPtyMajor = 136
	lastPtyMajor  = 143
)

// CheckBaud returns ErrBaud, wrapped, unless the rate (bits a second) can be set.
func CheckBaud(baud int) error {
	// The table of rates is tarm's own secret. It is looked up before the file is opened,
	// and no file has an empty name: a known rate ends in an error that names the file.
	_, err := serial.OpenPort(&serial.Config{Baud: baud})
	if _, known := errors.AsType[*fs.PathError](err); known {
		return nil
	}
	return fmt.Errorf("%w %d", ErrBaud, baud)
}

// Open opens device as a raw 8N1 line at the given rate (bits a second) and holds it alone.
// Symbolic links are followed at each Open. The error is an *fs.PathError, or wraps ErrBaud;
// by errors.Is it tells ErrBusy, ErrNotTTY, ErrHangup (the line went while it was opened),
// fs.ErrNotExist and fs.ErrPermission. Waiting input is never discarded.
func Open(device string, baud int) (*Port, error) {
	if err := CheckBaud(baud); err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	p, err := open(device, baud)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: device, Err: plain(err)}
	}
	return p, nil
}

func open(device string, baud int) (*Port, error) {
	name, err := filepath.EvalSymlinks(device)
	if err != nil {
		return nil, err
	}
	fd, pty, err := openControl(name)
	if err != nil {
		return nil, err
	}
	p := &Port{name: device, fd: fd, pty: pty}
	if err := p.setUp(name, baud); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return p, nil
}

// openControl opens the control descriptor and takes the lock, before anything on the line
// is changed: a second recorder must not be able to touch the rate of the first.
func openControl(name string) (fd int, pty bool, err error) {
	// Opening a node that is no serial line can have effects of its own, so look first.
	if info, err := os.Stat(name); err != nil {
		return -1, false, err
	} else if info.Mode()&fs.ModeCharDevice == 0 {
		return -1, false, ErrNotTTY
	}
	fd, err = unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false, err
	}
	if pty, err = claim(fd); err != nil {
		return -1, false, errors.Join(err, unix.Close(fd))
	}
	return fd, pty, nil
}

// claim checks that fd is a terminal and locks it against other recorders.
func claim(fd int) (pty bool, err error) {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	major := unix.Major(uint64(st.Rdev))
	// Root passes TIOCEXCL, so this lock is what keeps two recorders apart.
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			return false, ErrBusy
		}
		return false, err
	}
	return firstPtyMajor <= major && major <= lastPtyMajor, nil
}

// setUp has tarm/serial configure the line and mends what it leaves.
func (p *Port) setUp(name string, baud int) error {
	line, err := serial.OpenPort(&serial.Config{Name: name, Baud: baud})
	if err != nil {
		return err
	}
	// The settings belong to the line, which the control descriptor keeps open. A second
	// descriptor would sit in the poller of the Go runtime and wake a thread for every
	// byte that comes in, for nothing.
	if err := line.Close(); err != nil {
		return err
	}
	// Not on a pseudo-terminal: there the mark lives as long as the other end, so after a
	// kill nobody but root could open the line again. The lock holds there alone.
	if !p.pty {
		if err := unix.IoctlSetInt(p.fd, unix.TIOCEXCL, 0); err != nil {
			return err
		}
	}
	if err := keepDamaged(p.fd); err != nil {
		return err
	}
	// A device without counters is a normal state, and then there is nothing to subtract.
	if c, err := readCounters(p.fd); err == nil {
		p.base = c
	}
	return hungUp(p.fd)
}

// keepDamaged clears IGNPAR, with which the kernel drops bytes that have a framing error
// without a word. They come in as they stand, and the scanner records them as noise.
func keepDamaged(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag &^= unix.IGNPAR
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// hungUp finds a line that went while it was opened: its name may stand for another line by
// now, and then the two descriptors were not of one device.
func hungUp(fd int) error {
	fds := [...]unix.PollFd{{Fd: int32(fd)}}
	if _, err := unix.Poll(fds[:], 0); err != nil && err != unix.EINTR {
		return err
	}
	if fds[0].Revents&unix.POLLHUP != 0 {
		return ErrHangup
	}
	return nil
}

// plain turns the system's answers into the errors of this package and drops the path that
// the caller adds again.
func plain(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return ErrBusy
	case errors.Is(err, unix.ENOTTY):
		return ErrNotTTY
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
