package rundir

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/evidence"
)

const (
	// reopenEvery is how often the FIFO is looked for where it is not there, has no writer, or
	// is another one by now.
	reopenEvery = 250 * time.Millisecond
	// window and windowLines bound what is read: four times as much as a guard gives by its own
	// limits. What waits in the FIFO meanwhile the guard counts, so nothing is lost by it, and a
	// flood costs the recorder little.
	window      = 250 * time.Millisecond
	windowLines = 256
)

// Attempts implements recorder.Guard.
func (d *Dir) Attempts(ctx context.Context, take func(*evidence.Attempt), bad func(lines int)) {
	for ctx.Err() == nil {
		f, err := d.openFIFO()
		if err == nil {
			d.readFIFO(ctx, f, &lines{take: take, bad: bad})
		}
		sleep(ctx, reopenEvery)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// openFIFO opens the FIFO without waiting for a writer.
func (d *Dir) openFIFO() (*os.File, error) {
	f, err := os.OpenFile(d.path(evidence.AttemptsFIFO), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Mode()&os.ModeNamedPipe == 0 {
		err = errors.New("not a FIFO")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readFIFO reads until the FIFO has no writer, is no longer the one under its name, or ctx ends.
func (d *Dir) readFIFO(ctx context.Context, f *os.File, l *lines) {
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	buf := make([]byte, evidence.MaxLine)
	for began := time.Now(); ctx.Err() == nil; {
		if now := time.Now(); now.Sub(began) >= window {
			began, l.n = now, 0
		}
		if l.n >= windowLines {
			sleep(ctx, window-time.Since(began))
			continue
		}
		if err := f.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return
		}
		n, err := f.Read(buf)
		l.feed(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) && d.stillThere(f) {
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				l.end()
			}
			return
		}
	}
}

func (d *Dir) stillThere(f *os.File) bool {
	own, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(d.path(evidence.AttemptsFIFO))
	return err == nil && os.SameFile(own, named)
}

// lines cuts what was read into lines. A line is at most evidence.MaxLine bytes.
type lines struct {
	take func(*evidence.Attempt)
	bad  func(lines int)
	rest []byte
	over bool // rest is the middle of a line that is too long
	n    int  // lines in this window
}

func (l *lines) feed(p []byte) {
	for len(p) > 0 {
		line, more, whole := bytes.Cut(p, []byte("\n"))
		p = more
		if len(l.rest)+len(line) >= evidence.MaxLine {
			l.rest, l.over = l.rest[:0], true
		}
		if !l.over {
			l.rest = append(l.rest, line...)
		}
		if whole {
			l.line()
		}
	}
}

func (l *lines) line() {
	l.n++
	a, err := evidence.ParseAttempt(l.rest)
	if l.over || err != nil {
		l.bad(1)
	} else {
		l.take(a)
	}
	l.rest, l.over = l.rest[:0], false
}

// end counts a line whose end never came: its writer died.
func (l *lines) end() {
	if len(l.rest) > 0 || l.over {
		l.n++
		l.bad(1)
	}
	l.rest, l.over = l.rest[:0], false
}
