// Package serialtest makes pseudo-terminal lines that stand for a UART, for the bench and for
// tests. It runs on Linux only.
//
// A line made here holds back: what the reader has not taken waits, first in the kernel (at least
// 12 KiB) and then in Write, and nothing is lost, also over the death of a reader. Bytes are
// lost only by closing or unplugging a line that was not drained, as on a real one.
//
// The package is about the kernel's terminals as pty(7) and ioctl_tty(2) describe them
// (https://man7.org/linux/man-pages/man7/pty.7.html). It knows nothing of MAVLink, simulates
// no baud rate and no line errors.
package serialtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/mavlink/serial"
)

const (
	// slice is the longest that a blocked call stays in the kernel before it looks for a
	// cancelled context or a Close.
	slice = 10 * time.Millisecond
	// tick is the pause between two looks at what the kernel cannot wait for.
	tick = time.Millisecond
)

// Pty is a pseudo-terminal line: the far end of a cable whose near end, the slave, a reader
// opens as its serial device. All methods may be called from any goroutine. Close it when done.
type Pty struct {
	slave string
	link  string
	fresh unix.Termios // settings of a slave that no reader has touched

	// mu is held for reading while the descriptors are used, for at most about a slice, and
	// for writing where one of them is closed or exchanged.
	mu     sync.RWMutex
	master int
	held   int // our own descriptor of the slave, or -1
	closed bool
}

// NewPty makes a line and, unless linkPath is empty, a symbolic link at linkPath to its
// slave. The slave is raw (8N1, no echo, no translation) before anybody can read it. A link
// that leads nowhere is replaced; anything else at linkPath gives ErrLinkTaken.
func NewPty(linkPath string) (*Pty, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	p := &Pty{link: linkPath, master: master, held: -1}
	if err := p.setUp(); err != nil {
		return nil, errors.Join(err, p.shut())
	}
	if linkPath != "" {
		if err := makeLink(p.slave, linkPath); err != nil {
			return nil, errors.Join(err, p.shut())
		}
	}
	return p, nil
}

func (p *Pty) setUp() error {
	if err := unix.IoctlSetPointerInt(p.master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock pseudo-terminal: %w", err)
	}
	number, err := unix.IoctlGetUint32(p.master, unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("number of pseudo-terminal: %w", err)
	}
	p.slave = "/dev/pts/" + strconv.FormatUint(uint64(number), 10)
	// Settings of the slave can be made through the master, so nobody is faster than we are.
	if err := p.makeRaw(); err != nil {
		return fmt.Errorf("set up %s: %w", p.slave, err)
	}
	if p.held, err = openSlave(p.slave); err != nil {
		return fmt.Errorf("open %s: %w", p.slave, err)
	}
	return nil
}

// makeRaw gives the slave the settings of a line that no reader has set up yet. The rate is
// one that no autopilot uses: the change of it shows that a reader has set up the line.
func (p *Pty) makeRaw() error {
	t := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B50}
	t.Cc[unix.VMIN] = 1
	if err := unix.IoctlSetTermios(p.master, unix.TCSETS, &t); err != nil {
		return err
	}
	set, err := unix.IoctlGetTermios(p.master, unix.TCGETS)
	if err != nil {
		return err
	}
	p.fresh = *set
	return nil
}

func openSlave(name string) (int, error) {
	return unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// Slave returns the path of the slave's device node, /dev/pts/N.
func (p *Pty) Slave() string { return p.slave }

// Write sends all of b to the reader. It blocks while the reader does not keep up. It returns
// how much the kernel took, and os.ErrClosed after Close or Unplug.
func (p *Pty) Write(b []byte) (int, error) {
	return p.WriteContext(context.Background(), b)
}

// WriteContext is Write that also ends, within some 10 ms, when ctx does; then it returns how
// much the kernel took and the error of ctx.
func (p *Pty) WriteContext(ctx context.Context, b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		if err := ctx.Err(); err != nil {
			return sent, err
		}
		n, err := p.writeSlice(b[sent:])
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// writeSlice writes what there is room for, or waits a slice for room.
func (p *Pty) writeSlice(b []byte) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return 0, os.ErrClosed
	}
	n, err := unix.Write(p.master, b)
	if n > 0 {
		return n, nil
	}
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		return 0, fmt.Errorf("write %s: %w", p.slave, err)
	}
	events, err := poll(p.master, unix.POLLOUT, slice)
	if events&unix.POLLOUT == 0 {
		pauseUnheld(events)
	}
	return 0, err
}

// Read reads what the reader's side sent to us and waits at most wait for the first byte. It
// returns n > 0, or 0 and serial.ErrSilent, or 0 and os.ErrClosed after Close or Unplug.
func (p *Pty) Read(b []byte, wait time.Duration) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for start := time.Now(); ; {
		left := wait - time.Since(start)
		n, err := p.readSlice(b, min(left, slice))
		if n > 0 || err != nil {
			return n, err
		}
		if left <= 0 {
			return 0, serial.ErrSilent
		}
	}
}

// readSlice waits at most d for a byte and reads what is there.
func (p *Pty) readSlice(b []byte, d time.Duration) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return 0, os.ErrClosed
	}
	events, err := poll(p.master, unix.POLLIN, d)
	if err != nil {
		return 0, err
	}
	n, err := unix.Read(p.master, b)
	switch {
	case n > 0:
		return n, nil
	case err == nil, err == unix.EAGAIN, err == unix.EINTR, err == unix.EIO:
		pauseUnheld(events) // EIO: nobody has the slave open just now
		return 0, nil
	}
	return 0, fmt.Errorf("read %s: %w", p.slave, err)
}

// Unplug hangs the line up at once, as pulling a cable does: the reader sees a hang-up, what
// it had not read is lost, and the link is removed. A NewPty at the same link is the replug.
// It does the same as Close, which is for lines that were drained.
func (p *Pty) Unplug() error { return p.Close() }

// Close removes the link, if it still leads to this line, and hangs the line up. Unread bytes
// are lost; Drain first to keep them. Blocked calls return os.ErrClosed, as does a second Close.
func (p *Pty) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	return errors.Join(removeLink(p.slave, p.link), p.shut())
}

// shut closes the descriptors. The caller holds mu for writing or is the only user.
func (p *Pty) shut() error {
	p.closed = true
	var err error
	if p.held >= 0 {
		err = unix.Close(p.held)
	}
	return errors.Join(err, unix.Close(p.master))
}

// poll waits at most d for one of the events on fd and returns what there is.
func poll(fd int, events int16, d time.Duration) (int16, error) {
	fds := [...]unix.PollFd{{Fd: int32(fd), Events: events}}
	ms := int((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
	if _, err := unix.Poll(fds[:], ms); err != nil && err != unix.EINTR {
		return 0, fmt.Errorf("poll: %w", err)
	}
	return fds[0].Revents, nil
}

// pauseUnheld keeps a loop from running hot while nobody has the slave open, not even we:
// the kernel then answers every poll at once.
func pauseUnheld(events int16) {
	if events&unix.POLLHUP != 0 {
		time.Sleep(tick)
	}
}

// pause waits for d or for the end of ctx, and returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
