// Package mediafifo makes and opens the FIFOs between the media process and the recorder
// (package mediapipe says what goes through them). Neither side waits for the other, and either
// may be started again at any time. Both may be taken over, so that nothing but a FIFO is
// opened, and no link followed.
package mediafifo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast/firmware/mediapipe"
)

// Size is what a FIFO to the recorder should hold, in bytes: the most that the kernel gives an
// ordinary user (fs.pipe-max-size, pipe(7)).
const Size = 1 << 20

var (
	// ErrNoFIFO: something else has the FIFO's name.
	ErrNoFIFO = errors.New("not a FIFO")
	// ErrNobody: nobody reads the FIFO.
	ErrNobody = errors.New("nobody reads it")
)

// Owners are the users and groups of the two processes on a locked board.
type Owners struct {
	RecorderUID, RecorderGID int
	MediaUID, MediaGID       int
}

// Make makes the folder of the FIFOs below the run folder, and the FIFOs, where they are not
// there. Each FIFO belongs to its reader, and the group of its writer may write it; nobody else
// may open it. With o nil both are this process's own.
func Make(run string, o *Owners) error {
	dir := filepath.Join(run, mediapipe.Folder)
	mode := fs.FileMode(0o755)
	if o == nil {
		mode = 0o700
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		owner func() (uid, gid int)
	}{
		{mediapipe.ToRecorder, func() (int, int) { return o.RecorderUID, o.MediaGID }},
		{mediapipe.ToMedia, func() (int, int) { return o.MediaUID, o.RecorderGID }},
	} {
		name := filepath.Join(dir, f.name)
		if err := makeFIFO(name); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if o == nil {
			continue
		}
		uid, gid := f.owner()
		if err := errors.Join(os.Lchown(name, uid, gid), os.Chmod(name, 0o620)); err != nil {
			return err
		}
	}
	return nil
}

// makeFIFO puts a FIFO in the place of whatever else has the name.
func makeFIFO(name string) error {
	err := unix.Mkfifo(name, 0o600)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if fi, err := os.Lstat(name); err == nil && fi.Mode().Type() == fs.ModeNamedPipe {
		return nil
	}
	return errors.Join(os.Remove(name), unix.Mkfifo(name, 0o600))
}

// OpenReader opens the FIFO that the caller reads; reading waits, and never ends because the writer
// has gone. It may be called where nobody writes.
func OpenReader(run, name string) (*os.File, error) {
	// For writing too: a FIFO without a writer is at its end all the time.
	f, err := open(run, name, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	enlarge(f)
	return f, nil
}

// OpenWriter opens the FIFO that the caller writes. The error wraps ErrNobody while nobody reads it.
// A write waits while the FIFO is full, and fails with EPIPE when the reader has gone.
func OpenWriter(run, name string) (*os.File, error) {
	f, err := open(run, name, unix.O_WRONLY)
	if errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%s: %w", name, ErrNobody)
	}
	return f, err
}

func open(run, name string, how int) (*os.File, error) {
	path := filepath.Join(run, mediapipe.Folder, name)
	f, err := os.OpenFile(path, how|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || fi.Mode().Type() != fs.ModeNamedPipe {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, ErrNoFIFO), err, f.Close())
	}
	return f, nil
}

// enlarge gives the FIFO room for Size bytes. One that stays small costs speed alone.
func enlarge(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, Size) })
}
