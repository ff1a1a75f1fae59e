package media_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/firmware/confine"
	"holdfast/firmware/media"
	"holdfast/firmware/mediafifo"
	"holdfast/firmware/mediapipe"
)

// wholeProcess is the media process as it is: confined, with a program and an inbox as cameras.
// words: the run folder, the inbox, what the program does, its words.
func wholeProcess(words []string) int {
	run, box := words[0], words[1]
	self, err := os.Executable()
	if err != nil {
		return 1
	}
	if words[2] != "free" {
		if _, err := confine.Media(confine.MediaOptions{FIFOs: filepath.Join(run, mediapipe.Folder), Inboxes: []string{box}, Programs: []string{self}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	m, err := media.New(media.Config{
		Cameras: []media.Camera{
			{Name: "front", Source: media.SourceCommand, Command: append([]string{self, "camera"}, words[3:]...), Format: "h264", Start: media.StartAlways},
			{Name: "box", Source: media.SourceInbox, Path: box, Format: "jpg"},
		},
		Photo: true, Video: true, Now: since(),
		OpenOut: func() (io.WriteCloser, error) { return mediafifo.OpenWriter(run, mediapipe.ToRecorder) },
		OpenIn:  func() (io.ReadCloser, error) { return mediafifo.OpenReader(run, mediapipe.ToMedia) },
	})
	if err != nil {
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_ = m.Run(ctx)
	return 0
}

// scribble tries to leave what a camera sees wherever it can, and tells on standard output how often it
// could.
func scribble(out io.Writer, dirs []string) {
	done := 0
	for _, dir := range append(dirs, "/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", ".", filepath.Dir(os.Args[0])) {
		name := filepath.Join(dir, "scribble-"+strconv.Itoa(os.Getpid()))
		if f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600); err == nil {
			_, _ = io.WriteString(f, marker)
			f.Close()
			_ = os.Remove(name)
			done++
		}
	}
	fmt.Fprintf(out, "scribbled %d times\n", done)
}

var (
	stillBuilt sync.Once
	programDir string // removed at the end of all tests
)

// whole builds this test program as the board's programs are built: without C.
func whole(t *testing.T) string {
	t.Helper()
	stillBuilt.Do(func() {
		dir, err := os.MkdirTemp("", "media")
		if err != nil {
			t.Fatal(err)
		}
		programDir = dir
		cmd := exec.Command("go", "test", "-c", "-vet=off", "-o", filepath.Join(dir, "media.test"), ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go test -c: %v: %s", err, out)
		}
	})
	return filepath.Join(programDir, "media.test")
}

// startWhole runs the process over FIFOs of the test's, in a session of its own.
func startWhole(t *testing.T, box string, words ...string) (r *recorder, session int, stop func()) {
	t.Helper()
	run := t.TempDir()
	if err := mediafifo.Make(run, nil); err != nil {
		t.Fatal(err)
	}
	r = newRecorder(t, run)
	cmd := exec.Command(whole(t), append([]string{"camera", "process", run, box}, words...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process: %v", err)
		}
		r.finish()
	})
	t.Cleanup(stop)
	return r, cmd.Process.Pid, stop
}

// writes collects who writes into which file of a file system, while it is open.
type writes struct {
	fd    *os.File
	mu    sync.Mutex
	files map[string]bool
	seen  int // events of all processes
}

// watchWrites watches the file system that path lies on (fanotify(7)).
func watchWrites(t *testing.T, session int, paths ...string) *writes {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE, unix.O_RDONLY|unix.O_LARGEFILE)
	if err != nil {
		t.Skipf("fanotify: %v", err)
	}
	for _, path := range paths {
		if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_MODIFY|unix.FAN_CLOSE_WRITE, unix.AT_FDCWD, path); err != nil {
			_ = unix.Close(fd)
			t.Skipf("fanotify: %v", err)
		}
	}
	w := &writes{fd: os.NewFile(uintptr(fd), "fanotify"), files: map[string]bool{}}
	go w.read(session)
	return w
}

func (w *writes) read(session int) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.fd.Read(buf) // by the file: its number may be another's when it is closed
		if err != nil || n <= 0 {
			return
		}
		for p := buf[:n]; len(p) >= int(unsafe.Sizeof(unix.FanotifyEventMetadata{})); p = p[binary.NativeEndian.Uint32(p):] {
			e := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&p[0]))
			w.note(e, session)
		}
	}
}

func (w *writes) note(e *unix.FanotifyEventMetadata, session int) {
	defer unix.Close(int(e.Fd))
	name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", e.Fd))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen++
	if sessionOf(int(e.Pid)) == session {
		w.files[name] = true
	}
}

// sessionOf returns the session of a process (proc_pid_stat(5), field 6).
func sessionOf(pid int) int {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(p[bytes.LastIndexByte(p, ')')+1:]))
	if len(fields) < 4 {
		return 0
	}
	n, _ := strconv.Atoi(fields[3])
	return n
}

// TestNothingPlain watches every write of the whole process and of its camera's program, on the disk and
// in memory: none goes into anything but the FIFO. A program that tries to write elsewhere cannot; the
// same one can where the process is not confined, and is seen.
func TestNothingPlain(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("watching all writes takes root")
	}
	box := memory(t)
	watch := func(t *testing.T, mode string, words ...string) (r *recorder, w *writes, stop func()) {
		r, session, stop := startWhole(t, box, append([]string{mode}, words...)...)
		w = watchWrites(t, session, t.TempDir(), "/dev/shm")
		return r, w, stop
	}
	t.Run("confined", func(t *testing.T) {
		r, w, stop := watch(t, "confined", "marker")
		defer w.fd.Close()
		put(t, box, "a.jpg", jpeg(5000))
		r.await("video and a photo", func() bool {
			video, photo := false, false
			for _, f := range r.files {
				video = video || f.begin.Kind == mediapipe.Video && bytes.Contains(f.data, []byte(marker)) && len(f.data) > 1<<20
				photo = photo || f.begin.Kind == mediapipe.Photo && f.end != nil
			}
			return video && photo
		})
		eventually(t, "the photo is removed", func() bool { return len(list(t, box)) == 0 })
		stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		for name := range w.files {
			if fi, err := os.Lstat(name); err != nil || fi.Mode().Type() != fs.ModeNamedPipe {
				t.Errorf("written: %s", name)
			}
		}
	})
	for mode, want := range map[string]bool{"confined": false, "free": true} {
		t.Run("scribbling "+mode, func(t *testing.T) {
			outside := t.TempDir()
			r, w, stop := watch(t, mode, "scribble", box, outside)
			defer w.fd.Close()
			told := ""
			r.await("what it could", func() bool {
				for n := range r.order {
					if f := r.ended(n); f != nil && bytes.Contains(f.data, []byte("scribbled")) {
						told = string(f.data)
					}
				}
				return told != ""
			})
			stop()
			if could := told != "scribbled 0 times\n"; could != want {
				t.Error(told)
			}
			eventually(t, "the watch has seen it", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				for name := range w.files {
					if strings.Contains(name, "scribble-") {
						return true
					}
				}
				return !want
			})
		})
	}
}
