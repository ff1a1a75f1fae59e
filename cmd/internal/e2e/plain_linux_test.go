package e2e_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher looks at every file that is written in a mount namespace, by whichever process, each time
// that something was written to it and when it is closed: fanotify(7) on every mount there is. What
// has no name any more is seen too: an event comes with the file itself.
type watcher struct {
	t      testing.TB
	fd     *os.File
	needle [][]byte
	mu     sync.Mutex
	files  map[string]int // written: by how many events
	found  map[string]bool
	bytes  int64
	lost   bool
	done   chan struct{}
}

// watchSpace watches the mounts of a process's namespace.
func watchSpace(t testing.TB, pid int, needles ...string) *watcher {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_UNLIMITED_QUEUE|unix.FAN_UNLIMITED_MARKS|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		t.Skipf("no fanotify here: %v", err)
	}
	w := &watcher{t: t, fd: os.NewFile(uintptr(fd), "fanotify"), files: map[string]int{}, found: map[string]bool{}, done: make(chan struct{})}
	for _, n := range needles {
		w.needle = append(w.needle, []byte(n))
	}
	marked := 0
	for line := range strings.Lines(string(readFile(t, fmt.Sprintf("/proc/%d/mountinfo", pid)))) {
		at := fmt.Sprintf("/proc/%d/root%s", pid, strings.Fields(line)[4])
		if unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, unix.FAN_MODIFY|unix.FAN_CLOSE_WRITE, unix.AT_FDCWD, at) == nil {
			marked++
		}
	}
	if marked == 0 {
		t.Skip("no mount can be watched")
	}
	go w.run()
	t.Cleanup(w.close)
	return w
}

func (w *watcher) close() {
	w.fd.Close()
	<-w.done
}

func (w *watcher) run() {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.fd.Read(buf)
		if err != nil {
			return
		}
		for p := buf[:n]; len(p) >= int(unsafe.Sizeof(unix.FanotifyEventMetadata{})); {
			var e unix.FanotifyEventMetadata
			if binary.Read(bytes.NewReader(p), binary.NativeEndian, &e) != nil || e.Event_len < 24 || int(e.Event_len) > len(p) {
				break
			}
			p = p[e.Event_len:]
			w.event(&e)
		}
	}
}

func (w *watcher) event(e *unix.FanotifyEventMetadata) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Mask&unix.FAN_Q_OVERFLOW != 0 || e.Fd < 0 {
		w.lost = true
		return
	}
	f := os.NewFile(uintptr(e.Fd), "written")
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return // a pipe or a terminal: nothing of it stays
	}
	name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", e.Fd))
	w.files[name]++
	w.scan(f, name, info.Size())
}

// scan looks through a file. One that grows is looked at again with each event, from a little before
// its end then.
func (w *watcher) scan(f *os.File, name string, size int64) {
	const tail = 8 << 20
	from := max(size-tail, 0)
	p, _ := io.ReadAll(io.NewSectionReader(f, from, size-from))
	w.bytes += int64(len(p))
	for _, n := range w.needle {
		if bytes.Contains(p, n) {
			w.found[fmt.Sprintf("%s in %s", n, name)] = true
		}
	}
}

func (w *watcher) finds() (list []string, files int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for f := range w.found {
		list = append(list, f)
	}
	return list, len(w.files)
}

// TestNothingPlainOnDisk: every write of every process of a board with cameras, photos, an inbox and
// telemetry that carry a known text is looked at: none puts the text anywhere, and the vault does not
// hold it. A plain file that is removed at once is found by the same watch.
func TestNothingPlainOnDisk(t *testing.T) {
	t.Parallel()
	const telemetryMarker = "TELEMETRY-51ab-PLAIN-e07c-NEVER"
	inbox := memoryFolder(t)
	b := newBoard(t)
	b.smallMedium(200, `reserve = "1MiB"`, camera(t, "front", "marker", 91, 500_000, 4<<20), camera(t, "still", "mjpeg", 92, 200_000, 2<<20),
		fmt.Sprintf("[[camera]]\nname = \"drop\"\nsource = \"inbox\"\npath = %q", inbox))
	w := watchSpace(t, b.space, mediaMarker, telemetryMarker)
	line, daemon := b.pty(), b.run()
	sent := flight(t, 91)
	for i := 5; i < len(sent); i += 10 { // and frames with the text, of a companion
		sent[i] = makeFrame(byte(i), 1, 191, msgEncapsulated, fmt.Appendf(nil, "__%s%s", telemetryMarker, mediaMarker))
	}
	send(t, line, join(sent))
	putPhoto(t, inbox, 1)
	daemon.waitGiven("marker", 91)
	daemon.waitGiven("mjpeg", 92)
	waitFor(t, patience, "an empty inbox", func() bool { left, _ := os.ReadDir(inbox); return len(left) == 0 })
	b.waitFrames(len(sent))
	daemon.stop()
	<-time.After(200 * time.Millisecond) // what has been written is looked at
	if found, files := w.finds(); len(found) > 0 || w.lost || files < 8 {
		t.Errorf("written plain: %v; %d files were written, events lost: %v", found, files, w.lost)
	} else {
		t.Logf("%d files, %d MB looked at", files, w.bytes>>20)
	}
	wantSealed(t, b.dir, mediaMarker, telemetryMarker)
	wantSealed(t, b.vault(), mediaMarker, telemetryMarker)
	records := b.open(0)
	if got, _ := footageOf(t, records, "front"); !bytes.Contains(got, []byte(mediaMarker)) || !bytes.Contains(join(allFrames(records)), []byte(telemetryMarker)) || kept(t, records, "drop") != 1 {
		t.Error("the texts were not recorded: nothing was shown")
	}
	for _, dir := range []string{"/tmp", b.dir, "/dev/shm"} {
		w.control(b, dir)
	}
}

// control writes a plain file that is gone at once, which has to be found.
func (w *watcher) control(b *board, dir string) {
	w.t.Helper()
	name := filepath.Join(dir, fmt.Sprintf("control-%d", os.Getpid()))
	before, _ := w.finds()
	script := fmt.Sprintf("exec 3>'%s' && rm '%s' && printf 'xx %s yy' >&3", name, name, mediaMarker)
	if out, err := b.inside("sh", "-c", script); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	waitFor(w.t, patience, "the watch to find a plain file in "+dir, func() bool { now, _ := w.finds(); return len(now) > len(before) })
}

// wantSealed wants none of the texts in any file of a tree.
func wantSealed(t testing.TB, dir string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		out, err := exec.Command("grep", "-rlaF", text, dir).Output()
		if err == nil {
			t.Errorf("%q lies in %s", text, strings.TrimSpace(string(out)))
		}
	}
}
