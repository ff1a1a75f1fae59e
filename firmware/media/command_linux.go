package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/mediapipe"
)

const (
	// commandPipe is what the pipe of a program should hold, in bytes.
	commandPipe = 1 << 20
	// commandWithin is how well the time of a photo in a program's output is known: nobody knows how
	// long it was under way. Frames of rpicam-apps and GStreamer take one to three frame times.
	commandWithin = 200 * time.Millisecond
	// lastLine is the most of a program's last words that is kept, in bytes.
	lastLine = 256
)

var (
	errHung  = errors.New("no bytes for too long")
	errEnded = errors.New("the program ended")
)

// command is a program whose standard output is recorded.
type command struct{ c *camera }

// run starts the program and takes what it writes until it ends, hangs, or ctx ends. The program,
// and what it has started in its process group, are gone when run returns.
func (s *command) run(ctx context.Context) error {
	// The signal at the parent's death comes when the thread ends that has started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := startProgram(s.c.cfg.Command)
	if err != nil {
		return err
	}
	st := newStream(s.c, commandWithin)
	err = s.read(ctx, p, st)
	if ctx.Err() != nil || errors.Is(err, errHung) {
		p.stop(s.c.m.killAfter(), func() { s.rest(p, st) })
	}
	state := p.end()
	switch {
	case ctx.Err() != nil:
		st.end("")
		return nil
	case errors.Is(err, io.EOF):
		err = errEnded
	}
	err = fmt.Errorf("%w: %s", err, state)
	if line := p.words.last(); line != "" {
		err = fmt.Errorf("%w: %s", err, line)
	}
	st.end(err.Error())
	return err
}

// read takes pieces until reading fails.
func (s *command) read(ctx context.Context, p *program, st *stream) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = p.out.SetReadDeadline(time.Now()) // ends a read that waits
		close(ended)
	})
	defer func() {
		if !stop() {
			<-ended // the deadline of what is read next is not this one
		}
	}()
	heard, told := s.c.m.cfg.Now(), false
	for ctx.Err() == nil {
		piece := newPiece()
		_ = p.out.SetReadDeadline(time.Now().Add(s.c.m.times.silent))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := p.out.Read(piece[mediapipe.HeadRoom:])
		if n > 0 {
			heard, told = s.c.m.cfg.Now(), false
			st.take(piece, n)
			continue
		}
		freePiece(piece)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case s.patient():
		case s.c.m.cfg.Now()-heard >= s.c.m.times.hung:
			return errHung
		case !told && ctx.Err() == nil:
			told = true
			s.c.m.event(s.c.cfg.Name, "camera_silent", fmt.Sprintf("no bytes for %v", s.c.m.times.silent))
		}
	}
	return ctx.Err()
}

// patient tells whether silence is as it should be: a program that gives photos by itself may wait
// for whatever it waits for.
func (s *command) patient() bool { return s.c.cfg.Format == "jpg" && s.c.recording() }

// rest takes what a program that was told to end still writes.
func (s *command) rest(p *program, st *stream) {
	st.last = true
	for {
		piece := newPiece()
		n, err := p.out.Read(piece[mediapipe.HeadRoom:])
		if n <= 0 {
			freePiece(piece)
			_ = err // the deadline, or the end
			return
		}
		st.take(piece, n)
	}
}

// program is a child process with its own process group.
type program struct {
	cmd   *exec.Cmd
	out   *os.File
	words lastWords
	err   *os.File
	read  sync.WaitGroup // of err
}

// startProgram starts words[0] with the others as arguments. It gets no standard input, and of the
// environment nothing that is for this process alone.
func startProgram(words []string) (*program, error) {
	p := &program{cmd: exec.Command(words[0], words[1:]...)}
	out, outChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errs, errsChild, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, out.Close(), outChild.Close())
	}
	enlarge(out)
	p.out, p.err = out, errs
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir, p.cmd.Env = outChild, errsChild, "/", environment(os.Environ())
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = p.cmd.Start()
	_, _ = outChild.Close(), errsChild.Close()
	if err != nil {
		return nil, errors.Join(err, out.Close(), errs.Close())
	}
	p.read.Go(func() { p.words.take(errs) })
	return p, nil
}

func enlarge(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, commandPipe) })
	}
}

// environment leaves out what lets a program speak for this one, or find its folders.
func environment(all []string) (list []string) {
	for _, v := range all {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case name == "NOTIFY_SOCKET", strings.HasPrefix(name, "WATCHDOG_"), strings.HasPrefix(name, "LISTEN_"),
			strings.HasPrefix(name, "HOLDFAST_"), name == "CREDENTIALS_DIRECTORY":
		default:
			list = append(list, v)
		}
	}
	return list
}

// stop asks the process group to end, takes what it still writes, and kills it after wait.
func (p *program) stop(wait time.Duration, rest func()) {
	p.signal(unix.SIGTERM)
	_ = p.out.SetReadDeadline(time.Now().Add(wait))
	rest()
	p.signal(unix.SIGKILL)
}

func (p *program) signal(s unix.Signal) { _ = unix.Kill(-p.cmd.Process.Pid, s) }

// end ends what is left of the process group, and returns how the program ended.
func (p *program) end() string {
	// The program has closed its output, or was killed. One that goes on all the same is of no use.
	// Its number cannot be another's yet: nobody has waited for it.
	p.signal(unix.SIGKILL)
	err := p.cmd.Wait()
	_ = p.err.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // what has left the group may hold it open
	p.read.Wait()
	_, _ = p.out.Close(), p.err.Close()
	if err != nil {
		return err.Error()
	}
	return "exit status 0"
}

// lastWords keeps the last line that a program has written. Safe for concurrent use.
type lastWords struct {
	mu   sync.Mutex
	line []byte
	next []byte
}

func (l *lastWords) take(r io.Reader) {
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		l.add(buf[:n])
		if err != nil {
			return
		}
	}
}

func (l *lastWords) add(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range p {
		switch {
		case b == '\n' || b == '\r':
			if len(l.next) > 0 {
				l.line, l.next = append(l.line[:0], l.next...), l.next[:0]
			}
		case len(l.next) < lastLine:
			l.next = append(l.next, b)
		}
	}
}

func (l *lastWords) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.next) > 0 {
		return string(l.next)
	}
	return string(l.line)
}
