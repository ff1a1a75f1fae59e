package rundir_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/evidence"
	"holdfast/firmware/recorder"
	"holdfast/firmware/rundir"
)

var _ recorder.Guard = (*rundir.Dir)(nil)

// folder is a run folder, and the guard's side of it.
type folder struct {
	t    *testing.T
	path string
	now  time.Duration
	d    *rundir.Dir
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	f := &folder{t: t, path: t.TempDir(), now: time.Hour}
	f.must(os.Mkdir(filepath.Join(f.path, "recorder"), 0o700))
	f.d = rundir.New(rundir.Config{Path: f.path, Boot: "b1", Device: "0a1b2c3d", Now: func() time.Duration { return f.now }})
	return f
}

func (f *folder) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// write puts a file in place as the guard does.
func (f *folder) write(name string, p []byte) {
	f.t.Helper()
	tmp := filepath.Join(f.path, "tmp")
	f.must(os.WriteFile(tmp, p, 0o644))
	f.must(os.Rename(tmp, filepath.Join(f.path, name)))
}

func (f *folder) lock(change func(*evidence.Lock)) {
	f.t.Helper()
	l := evidence.Lock{Boot: "b1", Lock: "locked", Grade: "B", Refused: 4, Usec: f.now.Microseconds()}
	if change != nil {
		change(&l)
	}
	p, err := evidence.Marshal(&l)
	f.must(err)
	f.write(evidence.LockFile, p)
}

// wants checks what is said; why is a part of it, and empty for what is believed.
func (f *folder) wants(when, lock, why string) {
	f.t.Helper()
	l := f.d.Lock()
	bad := why != "" && (l.Grade != "none" || l.Refused != -1 || l.Maintenance != nil)
	if l.Lock != lock || !strings.Contains(l.Why, why) || why == "" && l.Why != "" || bad {
		f.t.Errorf("%s: %+v", when, l)
	}
}

func TestLock(t *testing.T) {
	f := newFolder(t)
	f.wants("nobody", "open", "says nothing")
	f.lock(nil)
	f.wants("locked", "locked", "")
	f.now += 2900 * time.Millisecond
	f.wants("almost stale", "locked", "")
	f.now += 200 * time.Millisecond
	f.wants("stale", "open", "too long")
	f.lock(nil)
	f.wants("again", "locked", "")
	f.lock(func(l *evidence.Lock) { l.Usec += (4 * time.Second).Microseconds() })
	f.wants("from the future", "open", "too long")
	f.lock(func(l *evidence.Lock) { l.Boot = "b0" })
	f.wants("another boot", "open", "another run")
	good := &evidence.Maintenance{Number: strings.Repeat("0a", 16), Phase: evidence.PhaseAsked}
	f.lock(func(l *evidence.Lock) { l.Maintenance = good })
	if l := f.d.Lock(); l.Maintenance == nil || l.Maintenance.Number != good.Number || l.Refused != 4 {
		t.Errorf("%+v", l)
	}
	for name, change := range map[string]func(*evidence.Lock){
		"a word":   func(l *evidence.Lock) { l.Lock = "shut" },
		"bench":    func(l *evidence.Lock) { l.Lock = "bench" },
		"no grade": func(l *evidence.Lock) { l.Grade = "none" },
		"a grade":  func(l *evidence.Lock) { l.Grade = "C" },
		"a count":  func(l *evidence.Lock) { l.Refused = -5 },
		"a number": func(l *evidence.Lock) { l.Maintenance = &evidence.Maintenance{Number: "x", Phase: "asked"} },
		"upper case": func(l *evidence.Lock) {
			l.Maintenance = &evidence.Maintenance{Number: strings.Repeat("0A", 16), Phase: "asked"}
		},
		"a phase": func(l *evidence.Lock) { l.Maintenance = &evidence.Maintenance{Number: good.Number, Phase: "so"} },
	} {
		f.lock(change)
		f.wants(name, "open", "no sense")
	}
	for name, p := range map[string]string{"empty": "", "half": `{"boot":"b1","lo`, "no object": "[]", "huge": `{"boot":"` + strings.Repeat("x", 70<<10) + `"}`} {
		f.write(evidence.LockFile, []byte(p))
		f.wants(name, "open", " ")
	}
}

// TestLockIsNoFile: whatever stands under the name is neither followed nor waited for.
func TestLockIsNoFile(t *testing.T) {
	f := newFolder(t)
	name := filepath.Join(f.path, evidence.LockFile)
	f.lock(nil)
	f.must(os.Rename(name, name+".real"))
	f.must(os.Symlink(name+".real", name))
	f.wants("a link", "open", " ")
	f.must(os.Remove(name))
	f.must(unix.Mkfifo(name, 0o600))
	f.wants("a FIFO", "open", "not a regular file")
	f.must(os.Remove(name))
	f.must(os.Mkdir(name, 0o700))
	f.wants("a folder", "open", " ")
}

func TestTell(t *testing.T) {
	f := newFolder(t)
	f.must(f.d.Tell(evidence.Recorder{BootCount: 7, Device: "0a1b2c3d", State: "recording", Record: "F00000001"}))
	p, err := os.ReadFile(filepath.Join(f.path, evidence.RecorderFile))
	f.must(err)
	r, err := evidence.ParseRecorder(p)
	f.must(err)
	want := evidence.Recorder{Boot: "b1", BootCount: 7, Device: "0a1b2c3d", State: "recording", Record: "F00000001", Usec: f.now.Microseconds()}
	if *r != want {
		t.Errorf("%+v", r)
	}
	f.must(os.RemoveAll(filepath.Join(f.path, "recorder")))
	if f.d.Tell(evidence.Recorder{}) == nil {
		t.Error("told into no folder")
	}
}

func TestCounted(t *testing.T) {
	f := newFolder(t)
	if c := f.d.Counted(); len(c) > 0 {
		t.Errorf("at first: %v", c)
	}
	want := []recorder.Counted{{Leaf: 3, Refused: 5}, {Leaf: 9, Refused: 8}}
	f.must(f.d.SetCounted(want))
	if got := f.d.Counted(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for _, c := range []rundir.Config{{Boot: "b2", Device: "0a1b2c3d"}, {Boot: "b1", Device: "00000000"}} {
		c.Path, c.Now = f.path, func() time.Duration { return 0 }
		if got := rundir.New(c).Counted(); len(got) > 0 {
			t.Errorf("of boot %s, device %s: %v", c.Boot, c.Device, got)
		}
	}
	f.write(rundir.CountedFile, []byte(`{"boot":"b1","device":"0a1b2c3d","counted":[{"leaf":`))
	if got := f.d.Counted(); len(got) > 0 {
		t.Errorf("half a file: %v", got)
	}
}

// reader takes attempts from the folder.
type reader struct {
	*folder
	mu   sync.Mutex
	got  []*evidence.Attempt
	bad  int
	stop func()
}

func (f *folder) read() *reader {
	r := &reader{folder: f}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.d.Attempts(ctx, func(a *evidence.Attempt) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.got = append(r.got, a)
		}, func(n int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.bad += n
		})
	}()
	r.stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			f.t.Error("it does not end")
		}
	}
	return r
}

// wait waits for so many attempts and bad lines.
func (r *reader) wait(when string, got, bad int) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		n, m := len(r.got), r.bad
		r.mu.Unlock()
		if n == got && m == bad {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s: %d attempts and %d bad lines, want %d and %d", when, n, m, got, bad)
		}
	}
}

func (f *folder) fifo() (name string) {
	name = filepath.Join(f.path, evidence.AttemptsFIFO)
	f.must(unix.Mkfifo(name, 0o600))
	return name
}

// guard opens the FIFO as the guard does.
func (f *folder) guard(name string) *os.File {
	g, err := os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0)
	f.must(err)
	return g
}

func lineOf(n int) []byte {
	p, err := evidence.Marshal(&evidence.Attempt{Usec: int64(n), Layer: "nft-inet", What: "connect", Count: 1})
	if err != nil {
		panic(err)
	}
	return p
}

// TestAttempts: the FIFO may be absent, end, be replaced; lines that are none are counted.
func TestAttempts(t *testing.T) {
	f := newFolder(t)
	r := f.read()
	defer r.stop()
	name := f.fifo()
	g := f.guard(name)
	write := func(p []byte) {
		t.Helper()
		_, err := g.Write(p)
		f.must(err)
	}
	write(bytes.Join([][]byte{lineOf(0), lineOf(1)}, nil))
	r.wait("two lines", 2, 0)
	write(lineOf(2)[:10])
	write(lineOf(2)[10:])
	r.wait("a line in two writes", 3, 0)
	write([]byte("nonsense\n{}\n\n" + strings.Repeat("x", 10_000) + "\n"))
	write(lineOf(3))
	r.wait("lines that are none", 4, 4)
	write(lineOf(4)[:20])
	f.must(g.Close()) // the guard is killed in a line
	r.wait("half a line", 4, 5)
	g = f.guard(name) // and started again
	write(lineOf(5))
	r.wait("a guard that was started again", 5, 5)
	f.must(os.Remove(name))
	old := g
	g = f.guard(f.fifo())
	write(lineOf(6))
	r.wait("another FIFO, while somebody holds the old one", 6, 5)
	f.must(old.Close())
	f.must(g.Close())
}

// TestNoFIFO: what stands under the name and is none is not read.
func TestNoFIFO(t *testing.T) {
	f := newFolder(t)
	name := filepath.Join(f.path, evidence.AttemptsFIFO)
	f.must(os.WriteFile(name, lineOf(1), 0o600))
	r := f.read()
	defer r.stop()
	for end := time.Now().Add(400 * time.Millisecond); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r.wait("a file", 0, 0)
	}
}

// TestFlood: of a writer that never stops no more is read than the window allows, and the rest
// stays with the writer.
func TestFlood(t *testing.T) {
	f := newFolder(t)
	g := f.guard(f.fifo())
	defer g.Close()
	r := f.read()
	var wrote, full int
	for end := time.Now().Add(1200 * time.Millisecond); time.Now().Before(end); {
		f.must(g.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)))
		if _, err := g.Write(lineOf(wrote)); err != nil {
			full++
			continue
		}
		wrote++
	}
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) < 256 || len(r.got) > 3000 || full == 0 {
		t.Errorf("%d lines of %d were read, the FIFO was full %d times", len(r.got), wrote, full)
	}
	for i, a := range r.got {
		if a.Usec != int64(i) {
			t.Fatalf("line %d is %d", i, a.Usec)
		}
	}
}

// FuzzAttempts: whatever comes through the FIFO, whole lines are taken or counted.
func FuzzAttempts(f *testing.F) {
	f.Add(lineOf(1), 3)
	f.Add([]byte("x\n\n{}\n"), 1)
	f.Add(bytes.Repeat([]byte("y"), 9000), 4096)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		took, bad := rundir.FeedForTest(p, cut)
		want := bytes.Count(p, []byte("\n"))
		if len(p) > 0 && p[len(p)-1] != '\n' {
			want++
		}
		if took+bad != want {
			t.Errorf("%d taken and %d bad of %d lines in %s", took, bad, want, fmt.Sprintf("%.60q", p))
		}
	})
}
