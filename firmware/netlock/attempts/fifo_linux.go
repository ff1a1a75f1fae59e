package attempts

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"holdfast/firmware/evidence"
)

// ErrFIFO: what stands at the FIFO's path is not a FIFO of this process's user, or others may
// write into it. Nothing is written then; lines are kept.
var ErrFIFO = errors.New("attempts: not a FIFO of ours")

// ErrUnread: lines were left when the Writer was closed, because nobody read.
var ErrUnread = errors.New("attempts: not handed over")

// Lines that the pipe has no room for are kept up to these bounds. What goes beyond is counted.
const (
	pipeBytes = 1 << 20
	keptLines = 2048
	keptBytes = 1 << 20
)

// Writer writes lines into a FIFO and never blocks, whether somebody reads or not. It holds the
// reading end open too, so lines wait in the pipe while there is no reader; they are gone when the
// last process that has it open ends. Its methods may be called at the same time.
type Writer struct {
	path string
	mode uint32
	gid  int

	mu       sync.Mutex
	fd       int // -1: none
	kept     [][]byte
	bytes    int
	overflow map[string]*evidence.Attempt // by layer
}

// OpenWriter opens the FIFO at path, and makes it if there is none: with mode (permission bits, not
// writable for others) and, if gid is not negative, for that group to read. Something else at path
// is ErrFIFO.
func OpenWriter(path string, mode os.FileMode, gid int) (*Writer, error) {
	w := &Writer{path: path, mode: uint32(mode.Perm()), gid: gid, fd: -1, overflow: make(map[string]*evidence.Attempt)}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

// Put writes a line, or keeps it for later. It goes into an Aggregator's Config as Emit.
func (w *Writer) Put(a evidence.Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := Line(a)
	if err != nil || len(w.kept) >= keptLines || w.bytes+len(p) > keptBytes {
		w.over(a)
	} else {
		w.kept = append(w.kept, p)
		w.bytes += len(p)
	}
	_ = w.write() // Flush tells
}

// Flush writes what was kept, as far as there is room. It returns ErrFIFO or the kernel's error
// where the FIFO is not what it should be; a full pipe is no error. Call it each second.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write()
}

// Kept returns how many lines wait outside the pipe, and how many attempts were only counted
// because there was no room for their lines.
func (w *Writer) Kept() (lines int, overflow int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.overflow {
		overflow += a.Count
	}
	return len(w.kept), overflow
}

// Close writes what there is room for and closes the FIFO; the file stays. If something is left
// over, that is ErrUnread.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.write()
	if n := len(w.kept) + len(w.overflow); n > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d lines", ErrUnread, n))
	}
	if w.fd >= 0 {
		err = errors.Join(err, unix.Close(w.fd))
		w.fd = -1
	}
	return err
}

// over counts an attempt for which there is no room.
func (w *Writer) over(a evidence.Attempt) {
	sum := w.overflow[a.Layer]
	if sum == nil {
		w.overflow[a.Layer] = &evidence.Attempt{
			Usec: a.Usec, LastUsec: cmp.Or(a.LastUsec, a.Usec), SeenUsec: a.SeenUsec, Layer: a.Layer, What: "summary",
			UID: -1, Detail: "lines for which there was no room", Count: a.Count,
		}
		return
	}
	sum.Count += a.Count
	sum.LastUsec = max(sum.LastUsec, a.LastUsec, a.Usec)
}

// write hands over what is kept, then one line for each layer that overflowed.
func (w *Writer) write() error {
	if err := w.check(); err != nil {
		return err
	}
	for len(w.kept) > 0 {
		if ok, err := w.line(w.kept[0]); !ok {
			return err
		}
		w.bytes -= len(w.kept[0])
		w.kept[0] = nil
		w.kept = w.kept[1:]
	}
	w.kept = nil // gives back what appending had grown
	for layer, a := range w.overflow {
		p, err := Line(*a)
		if err != nil {
			return err
		}
		if ok, err := w.line(p); !ok {
			return err
		}
		delete(w.overflow, layer)
	}
	return nil
}

// line writes one line as a whole (it is no longer than PIPE_BUF). False without an error means
// that the pipe is full.
func (w *Writer) line(p []byte) (bool, error) {
	for {
		n, err := unix.Write(w.fd, p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case err != nil:
			return false, &os.PathError{Op: "write", Path: w.path, Err: err}
		case n != len(p):
			return false, fmt.Errorf("%w: it took %d of %d bytes", ErrFIFO, n, len(p))
		}
		return true, nil
	}
}

// check makes sure that what is open is what a reader finds at path. One that was removed or
// replaced by another FIFO of ours is opened anew.
func (w *Writer) check() error {
	if w.fd >= 0 {
		var open, now unix.Stat_t
		if err := unix.Fstat(w.fd, &open); err != nil {
			return &os.PathError{Op: "fstat", Path: w.path, Err: err}
		}
		err := unix.Lstat(w.path, &now)
		if err == nil && open.Dev == now.Dev && open.Ino == now.Ino {
			return w.ours(&now)
		}
		_ = unix.Close(w.fd)
		w.fd = -1
	}
	return w.open()
}

func (w *Writer) open() error {
	var st unix.Stat_t
	err := unix.Lstat(w.path, &st)
	if errors.Is(err, unix.ENOENT) {
		if err = w.create(); err == nil {
			err = unix.Lstat(w.path, &st)
		}
	}
	if err != nil {
		return &os.PathError{Op: "fifo", Path: w.path, Err: err}
	}
	// Before it is opened: opening a device can do something.
	if err := w.ours(&st); err != nil {
		return err
	}
	fd, err := unix.Open(w.path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: w.path, Err: err}
	}
	if err = unix.Fstat(fd, &st); err == nil {
		err = w.ours(&st)
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	for size := pipeBytes; size > evidence.MaxLine; size /= 2 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size); err == nil {
			break // what an ordinary user may have is less
		}
	}
	w.fd = fd
	return nil
}

// create makes the FIFO. It gets its group and mode before its name, so that nobody opens it
// before.
func (w *Writer) create() error {
	temp := w.path + ".new"
	if err := unix.Unlink(temp); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := unix.Mkfifo(temp, 0o600); err != nil {
		return err
	}
	if w.gid >= 0 {
		if err := unix.Lchown(temp, -1, w.gid); err != nil {
			return err
		}
	}
	if err := unix.Chmod(temp, w.mode); err != nil {
		return err
	}
	return unix.Rename(temp, w.path)
}

// ours refuses what others could write into, or what is no FIFO.
func (w *Writer) ours(st *unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFIFO:
		return fmt.Errorf("%w: %s is something else", ErrFIFO, w.path)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: %s belongs to user %d", ErrFIFO, w.path, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%w: others may write into %s", ErrFIFO, w.path)
	}
	return nil
}
