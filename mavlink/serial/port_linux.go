// Package serial opens a UART of the board, a USB serial adapter or a pseudo-terminal as a
// raw 8N1 line and reads it. It runs on Linux only.
//
// github.com/tarm/serial opens and configures the line. A control descriptor of our own on
// the same device makes up for what that package lacks: one holder at a time, a Close that
// wakes a blocked Read, a hang-up told apart from silence, and the line-error counters of
// the driver (tty_ioctl(4), https://man7.org/linux/man-pages/man4/tty_ioctl.4.html).
//
// The package parses nothing, reopens nothing and starts no goroutine. It opens no socket,
// and it never discards input: bytes that wait when a line is opened are read like others.
package serial

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	// ErrSilent says that no byte came within the time that Read was given.
	ErrSilent = errors.New("line is silent")
	// ErrHangup says that the line is gone: unplugged, or the other end of a
	// pseudo-terminal was closed. The Port is of no more use and must be closed.
	ErrHangup = errors.New("line hung up")
	// ErrBusy says that somebody else holds the device.
	ErrBusy = errors.New("device is in use")
	// ErrBaud says that the rate is none that can be set.
	ErrBaud = errors.New("unknown baud rate")
	// ErrNotTTY says that the path names something that is not a serial line.
	ErrNotTTY = errors.New("not a serial device")
)

// writeWait is the longest that Write waits for room. A line without flow control sends a
// full output buffer of 4 KiB within 50 ms at 921,600 baud and within 1 s at 57,600 baud;
// what takes longer does not move, and must not hold up its caller.
const writeWait = time.Second

// Port is an open line. It belongs to one reader goroutine; Write, LineErrors, HoldsBack
// and Close may be called from any goroutine. Close it when done.
type Port struct {
	name string
	fd   int // control descriptor, non-blocking; holds the lock
	wake int // eventfd; readable for good once Close was called
	pty  bool
	base icounter // counters when the line was opened

	// mu is held for reading while the descriptors are in use, so that Close frees their
	// numbers only when nobody can mistake them for another file's.
	mu      sync.RWMutex
	closed  atomic.Bool
	writing sync.Mutex // keeps what one Write sends in one piece
	fds     [2]unix.PollFd
}

// Read reads what has come in, at most len(b) bytes, and waits for the first byte no longer
// than wait. It returns n > 0 with a nil error, or 0 with ErrSilent, ErrHangup, os.ErrClosed
// after Close, or the error of the system. Bytes that came before a hang-up are read first
// where the system still has them. It costs one read where bytes wait, else one poll more, and
// allocates nothing.
func (p *Port) Read(b []byte, wait time.Duration) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed.Load() {
		return 0, os.ErrClosed
	}
	if len(b) == 0 {
		return 0, nil
	}
	if n := p.waiting(b); n > 0 {
		return n, nil
	}
	start, left := time.Now(), wait
	for {
		n, err := p.readOnce(b, left)
		if n > 0 || (err != unix.EAGAIN && err != unix.EINTR) {
			return n, err
		}
		if left = wait - time.Since(start); left <= 0 {
			return 0, ErrSilent
		}
	}
}

// waiting reads what is there already; 0: nothing, or something that readOnce is to judge. The
// descriptor does not block, so the scheduler need not be told.
func (p *Port) waiting(b []byte) int {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(p.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0
	}
	return int(n)
}

// readOnce is one poll and at most one read. EAGAIN and EINTR mean: look again.
func (p *Port) readOnce(b []byte, wait time.Duration) (int, error) {
	p.fds[0] = unix.PollFd{Fd: int32(p.fd), Events: unix.POLLIN}
	p.fds[1] = unix.PollFd{Fd: int32(p.wake), Events: unix.POLLIN}
	ready, err := unix.Poll(p.fds[:], milliseconds(wait))
	switch {
	case err == unix.EINTR:
		return 0, err
	case err != nil:
		return 0, p.fail("poll", err)
	case p.fds[1].Revents != 0:
		return 0, os.ErrClosed
	case ready == 0:
		return 0, unix.EAGAIN
	}
	n, err := unix.Read(p.fd, b)
	switch {
	case n > 0:
		return n, nil
	case err == nil, isHangup(err):
		return 0, ErrHangup
	case err == unix.EAGAIN && p.fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0:
		return 0, ErrHangup // would be reported again at once, and turn Read into a hot loop
	case err == unix.EAGAIN, err == unix.EINTR:
		return 0, err
	}
	return 0, p.fail("read", err)
}

// Write sends b in one piece. It takes at most a second in all; where the line has not taken
// everything by then it returns how much went out and os.ErrDeadlineExceeded. Other errors are
// ErrHangup and, after Close, os.ErrClosed.
func (p *Port) Write(b []byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.RLock()
	defer p.mu.RUnlock()
	sent := 0
	start := time.Now()
	for sent < len(b) {
		if p.closed.Load() {
			return sent, os.ErrClosed
		}
		n, err := unix.Write(p.fd, b[sent:])
		if n > 0 {
			sent += n
			continue
		}
		switch {
		case isHangup(err):
			return sent, ErrHangup
		case err != nil && err != unix.EAGAIN && err != unix.EINTR:
			return sent, p.fail("write", err)
		}
		left := writeWait - time.Since(start)
		if left <= 0 {
			return sent, p.fail("write", os.ErrDeadlineExceeded)
		}
		if err := p.waitForRoom(left); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// waitForRoom waits until the line may take more bytes, Close was called or wait is over.
func (p *Port) waitForRoom(wait time.Duration) error {
	fds := [...]unix.PollFd{
		{Fd: int32(p.fd), Events: unix.POLLOUT},
		{Fd: int32(p.wake), Events: unix.POLLIN},
	}
	if _, err := unix.Poll(fds[:], milliseconds(wait)); err != nil && err != unix.EINTR {
		return p.fail("poll", err)
	}
	if fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
		return ErrHangup
	}
	return nil
}

// HoldsBack says whether unread bytes wait at the sender without loss, as they do on a
// pseudo-terminal. The buffers of a UART overrun when it is read too late.
func (p *Port) HoldsBack() bool { return p.pty }

// Close wakes a blocked Read or Write, which return os.ErrClosed, waits for them to return and
// gives the device free. A second Close returns os.ErrClosed.
func (p *Port) Close() error {
	if p.closed.Swap(true) {
		return os.ErrClosed
	}
	one := [8]byte{1} // any count but zero, in either byte order
	_, werr := unix.Write(p.wake, one[:])
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pty {
		// Matters only where somebody opened the device before us: the mark outlives us then.
		_ = unix.IoctlSetInt(p.fd, unix.TIOCNXCL, 0)
	}
	return errors.Join(werr, unix.Close(p.fd), unix.Close(p.wake))
}

func (p *Port) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: p.name, Err: err}
}

// isHangup says whether err is what the kernel answers on a line that is gone.
func isHangup(err error) bool {
	return err == unix.EIO || err == unix.ENXIO || err == unix.ENODEV
}

// milliseconds is d as poll takes it, rounded up so that Read does not return early and spin.
func milliseconds(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return int(min((d-1)/time.Millisecond+1, math.MaxInt32))
}

// LineErrors counts what the driver of a UART saw go wrong since the port was opened. Every
// count is of events, not of lost bytes: one overrun can lose several.
type LineErrors struct {
	Overrun    uint32 `json:"overrun"`     // the chip's own buffer was full
	BufOverrun uint32 `json:"buf_overrun"` // the kernel's buffer was full
	Framing    uint32 `json:"framing"`     // no stop bit: noise, or a wrong baud rate
	Parity     uint32 `json:"parity"`      // cannot happen at 8N1 but on broken hardware
	Break      uint32 `json:"break"`       // the line was held low for longer than a byte
}

// String lists the counts, for a log line.
func (e LineErrors) String() string {
	return fmt.Sprintf("overrun=%d buf_overrun=%d framing=%d parity=%d break=%d",
		e.Overrun, e.BufOverrun, e.Framing, e.Parity, e.Break)
}

// LineErrors returns the counters and true, or false where the device has none, which is
// normal on a pseudo-terminal and on some USB adapters, or is gone.
func (p *Port) LineErrors() (LineErrors, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed.Load() {
		return LineErrors{}, false
	}
	now, err := readCounters(p.fd)
	if err != nil {
		return LineErrors{}, false
	}
	return now.since(p.base), true
}
