package serialtest

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settle is how long a reader has had the line set up before bytes are sent: some
	// readers throw input away right after they have set the line up.
	settle = 10 * time.Millisecond
	// settleAsIs is the same for a reader that leaves the settings as they are.
	settleAsIs = 200 * time.Millisecond
)

// presence is what is known about the reader of a line.
type presence int

const (
	absent presence = iota // nobody but us has the slave open
	opened                 // somebody has, and has not changed the settings
	ready                  // somebody has, and has set up the line
)

// WaitReader waits until somebody else has the slave open and has set up the line: 10 ms after
// the reader changed the settings, or 200 ms after it opened the line if it changes none. It
// may be called again to wait for the next reader. It returns the error of ctx, or os.ErrClosed.
func (p *Pty) WaitReader(ctx context.Context) error {
	last, since := absent, time.Now()
	for {
		now, err := p.look()
		if err != nil {
			return err
		}
		if now != last {
			last, since = now, time.Now()
		}
		stood := time.Since(since)
		if now == ready && stood >= settle || now == opened && stood >= settleAsIs {
			return nil
		}
		if err := pause(ctx, tick); err != nil {
			return err
		}
	}
}

// look finds out whether somebody else has the slave open. The kernel tells the master that
// nobody has (POLLHUP), but our own descriptor hides it; so it is closed for a moment. Unread
// input stays in the kernel meanwhile, as the master keeps the terminal alive.
func (p *Pty) look() (presence, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return absent, os.ErrClosed
	}
	exclusive := p.putDown()
	state, err := p.lookUnheld()
	if err != nil {
		return absent, err
	}
	p.pickUp(exclusive && state != absent)
	return state, nil
}

// lookUnheld is look without a descriptor of our own in the way.
func (p *Pty) lookUnheld() (presence, error) {
	events, err := poll(p.master, 0, 0)
	if err != nil {
		return absent, err
	}
	set, err := unix.IoctlGetTermios(p.master, unix.TCGETS)
	if err != nil {
		return absent, fmt.Errorf("settings of %s: %w", p.slave, err)
	}
	switch untouched := *set == p.fresh; {
	case events&unix.POLLHUP != 0 && untouched:
		return absent, nil
	case events&unix.POLLHUP != 0:
		return absent, p.makeRaw() // so that the set-up of the next reader shows
	case untouched:
		return opened, nil
	}
	return ready, nil
}

// putDown closes our descriptor of the slave. A mark for exclusive use (TIOCEXCL) is taken off
// before, or only root could open it again; putDown tells whether there was one.
func (p *Pty) putDown() (exclusive bool) {
	if p.held < 0 {
		return false
	}
	mark, err := unix.IoctlGetInt(p.held, unix.TIOCGEXCL)
	exclusive = err == nil && mark != 0
	if exclusive {
		_ = unix.IoctlSetInt(p.held, unix.TIOCNXCL, 0)
	}
	_ = unix.Close(p.held)
	p.held = -1
	return exclusive
}

// pickUp opens our descriptor of the slave again. It may fail if a reader made the slave
// exclusive meanwhile; then it is tried again by the next look or Drain.
func (p *Pty) pickUp(exclusive bool) {
	fd, err := openSlave(p.slave)
	if err != nil {
		return
	}
	p.held = fd
	if exclusive {
		_ = unix.IoctlSetInt(fd, unix.TIOCEXCL, 0)
	}
}

// retryHeld does what a pickUp before could not.
func (p *Pty) retryHeld() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.held < 0 {
		p.pickUp(false)
	}
}

// Drain waits until the reader has read everything that was written before the call, so that
// nothing is lost by closing the line. Nobody may write meanwhile, and the reader must leave the
// line raw. It returns the error of ctx, also where no reader comes, or os.ErrClosed.
func (p *Pty) Drain(ctx context.Context) error {
	for {
		p.retryHeld()
		empty, err := p.drained()
		if err != nil || empty {
			return err
		}
		if err := pause(ctx, tick); err != nil {
			return err
		}
	}
}

// Written bytes pass two stores: the flip buffer, of at most flipMax bytes, out of which
// a kernel worker moves them into the input queue, of queueSize bytes, out of which they
// are read. Only the queue can be counted.
const (
	flipMax   = 2 * 64 << 10 // 8 KiB for a pseudo-terminal, 64 KiB in general, and some over
	queueSize = 4096
)

// drained says whether both stores are known to be empty.
//
// Counting the queue (TIOCINQ) takes a lock that a reader holds from taking bytes out until it
// has started the worker for more. So when the count is 0 while the flip buffer is not empty,
// the worker is under way. Polling an empty queue waits for the worker to end; it ends only
// when it has moved all, or a whole queue full since the count. Each round that finds
// the queue empty therefore means that the flip buffer is empty or has lost queueSize-1 bytes,
// which can be true only so often.
func (p *Pty) drained() (bool, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return false, os.ErrClosed
	}
	if p.held < 0 {
		return false, nil
	}
	for range flipMax/(queueSize-1) + 1 {
		if unread, err := p.countQueue(); unread != 0 || err != nil {
			return false, err
		}
		events, err := poll(p.held, unix.POLLIN, 0)
		if err != nil || events&unix.POLLIN != 0 {
			return false, err
		}
	}
	return true, nil
}

// Unread counts what was written and lies in the kernel, read by nobody. It is exact as long as
// nobody reads or writes and as less than 4095 bytes wait; of more, those 4095 are counted. It
// waits some milliseconds for bytes that are under way, and returns os.ErrClosed after Close.
func (p *Pty) Unread(ctx context.Context) (int, error) {
	for last := -1; ; {
		p.retryHeld()
		n, err := p.queued()
		if err != nil || n >= 0 && n == last {
			return n, err
		}
		last = n
		if err := pause(ctx, 3*tick); err != nil {
			return 0, err
		}
	}
}

// queued counts the input queue; -1 where it cannot be counted just now.
func (p *Pty) queued() (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return 0, os.ErrClosed
	}
	if p.held < 0 {
		return -1, nil
	}
	return p.countQueue()
}

// countQueue counts the input queue. The caller holds mu, and our descriptor is open.
func (p *Pty) countQueue() (int, error) {
	n, err := unix.IoctlGetInt(p.held, unix.TIOCINQ)
	if err != nil {
		return 0, fmt.Errorf("count unread bytes of %s: %w", p.slave, err)
	}
	return n, nil
}
