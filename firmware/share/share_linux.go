// Package share hands the live MAVLink stream of a link to other programs on the board (ROS,
// MAVSDK, mavlink-router) by a pseudo-terminal (pty(7)), and takes what they write.
//
// What a program is given are whole frames, byte for byte as they came. A program that reads
// slowly, or not at all, loses frames of its own copy, which are counted; it costs the recorder
// one copy in memory and nothing more. What a program writes is cut into frames by
// mavlink.Scanner and handed to whoever owns the link: whether a frame goes to the autopilot is
// decided there. Bytes that are no frame go nowhere.
//
// It opens no socket and needs none. Open must come before the process is confined; afterwards
// the descriptor that is there is read and written.
package share

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/mavlink"
)

const (
	// queueBytes is what waits for a program: 1.4 s of a full line at 921,600 baud.
	queueBytes = 128 << 10
	// lookEvery is how often a share that nobody has open looks whether somebody has.
	lookEvery = 100 * time.Millisecond
	// tellEvery bounds how often losses become an event.
	tellEvery = time.Second
	readSize  = 4 << 10
)

// ErrTaken: something that is no symbolic link stands where a share should be found.
var ErrTaken = errors.New("there is something else; remove it, or choose another share.path")

// Config is what a Share needs. Path and Sink must be set.
type Config struct {
	Path string // of the symbolic link to the pseudo-terminal
	// Group may open it beside the recorder's user; -1: nobody else.
	Group int
	// Sink takes a frame that a program wrote; valid during the call only.
	Sink func(raw []byte)
	// Event notes what a record should tell; may be nil.
	Event func(kind, detail string)
}

// Share is one pseudo-terminal. Make it with Open, run it once, close it.
type Share struct {
	cfg    Config
	master *os.File
	slave  string

	mu      sync.Mutex
	queue   []byte // frames, each behind its length as u16
	spare   []byte
	wake    chan struct{} // capacity 1
	present bool          // somebody has the slave open
	dropped int64         // frames that found no room, not told yet
	noise   int64         // bytes written that were no frame, not told yet
	stats   Stats
}

// Stats counts since Open.
type Stats struct {
	Given   int64 // frames handed to programs
	Dropped int64 // frames that a slow program did not get
	Taken   int64 // frames that programs wrote
	Noise   int64 // bytes that they wrote and that were no frame
}

// Open makes the pseudo-terminal and the link to it. A symbolic link at Path is replaced, anything
// else is ErrTaken; other errors are the system's. Missing folders above Path are not made.
func Open(cfg Config) (*Share, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share %s: open /dev/ptmx: %w", cfg.Path, err)
	}
	s := &Share{cfg: cfg, wake: make(chan struct{}, 1)}
	if err := s.setUp(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("share %s: %w", cfg.Path, err), unix.Close(fd))
	}
	s.master = os.NewFile(uintptr(fd), s.slave)
	if err := makeLink(s.slave, cfg.Path); err != nil {
		return nil, errors.Join(fmt.Errorf("share %s: %w", cfg.Path, err), s.master.Close())
	}
	return s, nil
}

func (s *Share) setUp(fd int) error {
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		return err
	}
	s.slave = "/dev/pts/" + strconv.FormatUint(uint64(n), 10)
	// Raw before anybody can open it: with echo on, what a program is given would come back as
	// if it had written it.
	t := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B921600}
	t.Cc[unix.VMIN] = 1
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		return err
	}
	if err := s.admit(); err != nil {
		return err
	}
	// Opened and closed once: until then the kernel does not say that nobody has it open.
	slave, err := unix.Open(s.slave, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(slave)
}

// admit sets who may open the slave.
func (s *Share) admit() error {
	mode := uint32(0o600)
	if s.cfg.Group >= 0 {
		if err := unix.Chown(s.slave, -1, s.cfg.Group); err != nil {
			return fmt.Errorf("give it to group %d: %w", s.cfg.Group, err)
		}
		mode = 0o660
	}
	return unix.Chmod(s.slave, mode)
}

// makeLink puts a link in the place of one that is there.
func makeLink(target, path string) error {
	fi, err := os.Lstat(path)
	if err == nil && fi.Mode()&fs.ModeSymlink == 0 {
		return ErrTaken
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Heard takes a frame that came from the autopilot. It copies it and returns at once, so that it
// may be called by the reader of the link with locks held.
func (s *Share) Heard(raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.present {
		return
	}
	if len(s.queue)+2+len(raw) > queueBytes {
		s.dropped++
		s.stats.Dropped++
		return
	}
	s.queue = binary.BigEndian.AppendUint16(s.queue, uint16(len(raw)))
	s.queue = append(s.queue, raw...)
	s.notify()
}

func (s *Share) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Stats may be called from any goroutine.
func (s *Share) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Run hands frames over and takes what is written until ctx ends. Then it removes the link, as far
// as it may, and closes the terminal.
func (s *Share) Run(ctx context.Context) {
	var parts sync.WaitGroup
	end := context.AfterFunc(ctx, func() { s.master.Close() }) // wakes both
	defer end()
	parts.Go(func() { s.give(ctx) })
	parts.Go(func() { s.take(ctx) })
	parts.Wait()
	s.Close()
}

// Close removes the link, if it is still this share's, and closes the terminal.
func (s *Share) Close() {
	if to, err := os.Readlink(s.cfg.Path); err == nil && to == s.slave {
		_ = os.Remove(s.cfg.Path) // a process that may not leaves a link that leads nowhere
	}
	_ = s.master.Close()
}

// give writes frames to the program. Only this goroutine waits for it.
func (s *Share) give(ctx context.Context) {
	told := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		frames := s.swap()
		for len(frames) > 2 {
			n := 2 + int(binary.BigEndian.Uint16(frames))
			if _, err := s.master.Write(frames[2:n]); err != nil {
				break // nobody there any more, or closed
			}
			frames = frames[n:]
			s.mu.Lock()
			s.stats.Given++
			s.mu.Unlock()
		}
		if time.Since(told) >= tellEvery {
			told = time.Now()
			s.tell()
		}
	}
}

// swap takes all that waits.
func (s *Share) swap() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.queue
	s.queue, s.spare = s.spare[:0], out
	return out
}

// tell notes what was lost since the last time.
func (s *Share) tell() {
	s.mu.Lock()
	dropped, noise := s.dropped, s.noise
	s.dropped, s.noise = 0, 0
	s.mu.Unlock()
	if s.cfg.Event == nil {
		return
	}
	if dropped > 0 {
		s.cfg.Event("share_slow", fmt.Sprintf("%s: %d frames not handed over, its reader is slow", s.cfg.Path, dropped))
	}
	if noise > 0 {
		s.cfg.Event("share_noise", fmt.Sprintf("%s: %d bytes written that are no frame", s.cfg.Path, noise))
	}
}

// take reads what programs write.
func (s *Share) take(ctx context.Context) {
	in := &writes{s: s}
	scan := mavlink.NewScanner(in)
	buf := make([]byte, readSize)
	begin := time.Now()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		if !s.look() {
			scan.End(time.Since(begin)) // of the program that has gone
			scan = mavlink.NewScanner(in)
			select {
			case <-ctx.Done():
			case <-look.C:
			}
			continue
		}
		if err := s.master.SetReadDeadline(patience(scan)); err != nil {
			return
		}
		n, err := s.master.Read(buf)
		switch now := time.Since(begin); {
		case n > 0:
			scan.Write(now, buf[:n])
		case errors.Is(err, os.ErrDeadlineExceeded):
			scan.Idle(now)
		case err != nil && !errors.Is(err, unix.EIO): // EIO: the program has closed it
			return
		}
	}
}

// patience is until when a read may wait: what a scanner holds back is decided by silence.
func patience(scan *mavlink.Scanner) time.Time {
	if scan.Pending() == 0 {
		return time.Time{}
	}
	return time.Now().Add(mavlink.Silence)
}

// look tells whether a program has the slave open, and notes it.
func (s *Share) look() bool {
	c, err := s.master.SyscallConn()
	if err != nil {
		return false
	}
	gone := true
	err = c.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, 0); err == nil {
			gone = p[0].Revents&unix.POLLHUP != 0 && p[0].Revents&unix.POLLIN == 0
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present = err == nil && !gone
	if !s.present {
		s.queue = s.queue[:0]
	}
	return s.present
}

// writes takes what the scanner finds in a program's bytes.
type writes struct{ s *Share }

func (w *writes) Frame(f *mavlink.Frame) {
	w.s.mu.Lock()
	w.s.stats.Taken++
	w.s.mu.Unlock()
	w.s.cfg.Sink(f.Raw)
}

func (w *writes) Noise(n *mavlink.Noise) {
	w.s.mu.Lock()
	w.s.noise += int64(len(n.Data))
	w.s.stats.Noise += int64(len(n.Data))
	w.s.mu.Unlock()
	w.s.notify()
}
