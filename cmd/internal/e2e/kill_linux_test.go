package e2e_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/mavlink/serial/serialtest"
	"holdfast/mavlink/vehicle"
)

const (
	// feedEvery and feedFrames make 1000 frames/s, somewhat more than a real line carries.
	feedEvery  = 10 * time.Millisecond
	feedFrames = 10
	// promiseArmed and promiseIdle are what may be lost at a cut.
	promiseArmed = 250 * time.Millisecond
	promiseIdle  = time.Second
	// late is what the clock of a loaded machine may be late by without being said to stall.
	late = 20 * time.Millisecond
)

// feeder sends frames at a steady pace over the deaths of their readers, and notes by when each
// was read. What is noted late looks younger than it is.
type feeder struct {
	line   *serialtest.Pty
	frames [][]byte

	mu   sync.Mutex // held while bytes are written
	sent int
	read []time.Time // by then the recorder had read the frame; shorter than frames
	err  error
}

func (f *feeder) run(ctx context.Context) {
	tick := time.NewTicker(feedEvery)
	defer tick.Stop()
	for f.sent < len(f.frames) {
		if f.err = f.send(ctx); f.err != nil {
			return
		}
		f.noteRead(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *feeder) send(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(feedFrames, len(f.frames)-f.sent)
	_, err := f.line.WriteContext(ctx, join(f.frames[f.sent:f.sent+n]))
	if err == nil {
		f.sent += n
	}
	return err
}

// readBefore runs the death of a recorder while nothing is sent, and returns how many frames it
// had read of all that were sent.
func (f *feeder) readBefore(t testing.TB, death func()) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	death()
	unread, err := f.line.Unread(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := f.sent
	for ; n > 0 && unread > 0; n-- {
		unread -= len(f.frames[n-1])
	}
	return n
}

// noteRead finds out whether all that was sent has been read.
func (f *feeder) noteRead(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, feedEvery)
	defer cancel()
	if f.line.Drain(ctx) != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for now := time.Now(); len(f.read) < f.sent; {
		f.read = append(f.read, now)
	}
}

// cut is one kill.
type cut struct {
	at     time.Time
	read   int    // so many frames had been read when the recorder was gone
	record string // the newest record then
	back   time.Duration
}

// TestKill kills a running recording at random moments, by turns the recorder and its
// supervisor, each time on the same vault.
func TestKill(t *testing.T) {
	kills, length := 20, 90*time.Second
	if long {
		kills, length = 200, 10*time.Minute
	}
	b := newBoardInMemory(t)
	f := &feeder{line: b.pty(), frames: flightFrames(t, vehicle.Options{Seed: 61, Duration: length, Camera: true})}
	var stalls stalls
	ctx, stop := context.WithCancel(t.Context())
	var fed sync.WaitGroup
	fed.Go(func() { f.run(ctx) })
	fed.Go(func() { stalls.watch(ctx) })
	cuts, last := b.killOften(kills, f)
	b.waitNewRecord(cuts[len(cuts)-1].record)
	stop()
	fed.Wait()
	if f.sent == len(f.frames) {
		t.Fatal("the frames did not last until the last kill")
	}
	last.stop()
	records := b.open(3)
	b.checkContinuity(cuts, records)
	f.check(t, cuts, &stalls, allFrames(records))
}

// killOften returns the kills and the daemon that was started after the last one.
func (b *board) killOften(kills int, f *feeder) (cuts []cut, daemon *process) {
	r := rand.New(rand.NewPCG(62, 0))
	daemon = b.run()
	last := ""
	for i := range kills {
		b.waitNewRecord(last)
		if i > 0 {
			cuts[i-1].back = time.Since(cuts[i-1].at)
		}
		<-time.After(time.Duration(r.IntN(1500)) * time.Millisecond) // a random moment
		child := daemon.child()
		var c cut
		c.read = f.readBefore(b.t, func() {
			c.at = time.Now()
			if i%2 == 1 {
				daemon.kill()
			} else if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
				b.t.Fatal(err)
			}
			waitFor(b.t, time.Second, "death of the recorder", func() bool { return !alive(child) })
		})
		all := b.records()
		last = filepath.Base(all[len(all)-1])
		c.record = last
		cuts = append(cuts, c)
		if i%2 == 1 {
			daemon = b.run()
		}
	}
	return cuts, daemon
}

// waitNewRecord waits until a record behind the given one has its first flush on the medium.
func (b *board) waitNewRecord(last string) string {
	b.t.Helper()
	newest := ""
	waitFor(b.t, 10*time.Second, "a record that follows "+last, func() bool {
		all := b.records()
		if len(all) == 0 || last != "" && filepath.Base(all[len(all)-1])[1:] <= last[1:] {
			return false
		}
		newest = filepath.Base(all[len(all)-1])
		info, err := os.Stat(filepath.Join(all[len(all)-1], "T000001.open.age"))
		return err == nil && info.Size() > 1<<16
	})
	return newest
}

// checkContinuity: what was cut says so, a flight goes on as a flight that names the one before,
// numbers only go up, and recording goes on soon.
func (b *board) checkContinuity(cuts []cut, records []*opened) {
	b.t.Helper()
	byName := map[string]int{}
	for i, r := range records {
		byName[r.Record] = i
		if r.State != "cut" && r.State != "clean" {
			b.t.Errorf("%s is %s: %v", r.Record, r.State, r.Missing)
		}
		if i > 0 && r.Record[1:] <= records[i-1].Record[1:] {
			b.t.Errorf("%s comes after %s", r.Record, records[i-1].Record)
		}
	}
	var slowest time.Duration
	flights := 0
	for _, c := range cuts {
		slowest = max(slowest, c.back)
		i, there := byName[c.record]
		if !there || i+1 >= len(records) {
			b.t.Logf("%s was cut before anything was sealed", c.record)
			continue
		}
		if records[i].State != "cut" {
			b.t.Errorf("%s was killed and is %s", c.record, records[i].State)
		}
		next := records[i+1]
		if c.record[0] == 'F' {
			flights++
			if next.Kind != "flight" || next.Continues != c.record {
				b.t.Errorf("%s was cut in the air; %s (%s) continues %q", c.record, next.Record, next.Kind, next.Continues)
			}
		} else if next.Continues != "" {
			b.t.Errorf("%s was cut on the ground; %s continues %q", c.record, next.Record, next.Continues)
		}
	}
	b.t.Logf("%d kills, %d of them in the air; recording again after at most %v", len(cuts), flights, slowest)
	if flights == 0 || flights == len(cuts) {
		b.t.Error("the kills did not meet both ground and flight")
	}
	if slowest > 2*time.Second {
		b.t.Errorf("recording went on only %v after a kill", slowest)
	}
}

// check finds each opened frame among those sent, in order and once, and wants all that had
// been read longer before a kill than the promise.
func (f *feeder) check(t *testing.T, cuts []cut, stalls *stalls, opened [][]byte) {
	t.Helper()
	there := make([]bool, len(f.frames))
	at := 0
	for i, o := range opened {
		for at < f.sent && !bytes.Equal(f.frames[at], o) {
			at++
		}
		if at == f.sent {
			t.Fatalf("opened frame %d of %d was never sent, or comes a second time", i, len(opened))
		}
		there[at] = true
		at++
	}
	lost, armed := 0, false
	var worst time.Duration
	for i := range f.read {
		if now, known := isArmed(f.frames[i]); known {
			armed = now
		}
		if there[i] {
			continue
		}
		lost++
		k := slices.IndexFunc(cuts, func(c cut) bool { return i < c.read })
		if k < 0 {
			t.Fatalf("frame %d is lost and no kill came after it was read", i)
		}
		promise := promiseIdle
		if armed {
			promise = promiseArmed
		}
		age, stalled := cuts[k].at.Sub(f.read[i]), stalls.between(f.read[i], cuts[k].at)
		if age > promise+late+stalled && worst <= 0 {
			t.Errorf("frame %d (armed: %v), read %v before kill %d, is lost, and more after it; the machine stood still for %v of that", i, armed, age, k, stalled)
		}
		worst = max(worst, age-promise-late-stalled)
	}
	t.Logf("%d frames sent, %d opened, %d lost; beyond the promise at most %v; the machine stood still for at most %v", f.sent, len(opened), lost, max(worst, 0), stalls.longest())
	if lost == 0 {
		t.Error("no kill lost a frame: they met no recording")
	}
}

// stalls are the times at which the machine ran nothing of ours, as a thread that only looks at
// the clock sees them. What a recorder cannot do meanwhile is not held against it.
type stalls struct {
	ends  []time.Time
	spans []time.Duration
}

// watch looks until ctx ends.
func (s *stalls) watch(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const tick = 5 * time.Millisecond
	for last := time.Now(); ctx.Err() == nil; {
		pause := syscall.NsecToTimespec(int64(tick))
		_ = syscall.Nanosleep(&pause, nil) // a thread of the kernel's, not a timer of the runtime's
		now := time.Now()
		if d := now.Sub(last); d > tick+late {
			s.ends, s.spans = append(s.ends, now), append(s.spans, d-tick)
		}
		last = now
	}
}

// between returns for how long the machine stood still in a span.
func (s *stalls) between(from, to time.Time) (d time.Duration) {
	for i, end := range s.ends {
		if end.After(from) && end.Add(-s.spans[i]).Before(to) {
			d += s.spans[i]
		}
	}
	return d
}

func (s *stalls) longest() time.Duration {
	return slices.Max(append(s.spans, 0))
}

// A supervisor that is killed takes its recorder along, and the next one finds a vault that it
// can go on with at once.
func TestKilledSupervisorLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line, daemon := b.pty(), b.run()
	frames := groundFrames(t, 63)
	send(t, line, join(frames[:200]))
	b.waitNewRecord("")
	child := daemon.child()
	daemon.kill()
	waitFor(t, time.Second, "death of the recorder", func() bool { return !alive(child) })
	daemon = b.run()
	send(t, line, join(frames[200:400]))
	b.waitNewRecord("G00000001")
	daemon.stop()
	if out := daemon.errs.String(); strings.Contains(out, "in use") {
		t.Errorf("the vault was still locked: %s", out)
	}
	code, _, records := b.list()
	if code != 3 || len(records) != 2 || records[0].State != "cut" || records[1].State != "clean" {
		t.Errorf("list: exit code %d, %+v", code, records)
	}
}

// A flight that was cut in the air is armed for the recorder too, from its restart on: the
// promise of 250 ms holds before the autopilot's next heartbeat has come.
func TestPromiseAfterARestartInTheAir(t *testing.T) {
	b := newBoard(t)
	line, daemon := b.pty(), b.record()
	r := rand.New(rand.NewPCG(65, 0))
	sent := [][]byte{heartbeat(0, 1, 1, true), randomFrames(r, 0, 1), randomFrames(r, 1, 1), randomFrames(r, 2, 1)}
	send(t, line, slices.Concat(sent[0], sent[1]))
	b.waitNewRecord("")
	daemon.kill()
	daemon = b.record()
	send(t, line, sent[2])
	b.waitNewRecord("F00000001")
	send(t, line, sent[3])
	<-time.After(promiseArmed + 150*time.Millisecond) // on a disk that may be slow to sync
	daemon.kill()
	records := b.open(3)
	if len(records) != 2 || records[1].Continues != "F00000001" {
		t.Fatalf("%d records; the second continues %q", len(records), records[1].Continues)
	}
	wantFrames(t, "cut in the air twice", allFrames(records), sent)
}

// The times of files would tell when a flight was. A recorder that is killed between a write and
// the setting of times leaves one behind; the next start sets it to zero.
func TestTimesAfterACut(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line, daemon := b.pty(), b.record()
	frames := groundFrames(t, 64)
	send(t, line, join(frames[:500]))
	b.waitNewRecord("")
	daemon.kill()
	segment := filepath.Join(b.device(), "G00000001", "T000001.open.age")
	if err := os.Chtimes(segment, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, segment)
	daemon = b.record()
	send(t, line, join(frames[500:]))
	b.waitNewRecord("G00000001")
	daemon.stop()
	if files := b.timesOf(); len(files) > 0 {
		t.Errorf("the vault of a closed recorder has times: %v", files)
	}
	if !bytes.Equal(before, readFile(t, segment)) {
		t.Error("the start changed a sealed byte")
	}
}

// timesOf lists the files of the vault with a time of their own.
func (b *board) timesOf() (files []string) {
	_ = filepath.WalkDir(b.vault(), func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return nil // it was renamed meanwhile
		}
		if info, err := e.Info(); err == nil && info.ModTime().Unix() != 0 {
			files = append(files, filepath.Base(filepath.Dir(path))+"/"+e.Name()+" "+info.ModTime().UTC().Format(time.RFC3339))
		}
		return nil
	})
	return files
}
