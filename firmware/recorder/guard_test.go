package recorder_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"holdfast/crypto/custody"
	"holdfast/crypto/open"
	"holdfast/firmware/evidence"
	"holdfast/firmware/recorder"
	"holdfast/storage/storagetest"
)

// guard is one that the test plays.
type guard struct {
	mu      sync.Mutex
	lock    evidence.Lock
	told    []evidence.Recorder
	counted []recorder.Counted
	in      chan *evidence.Attempt
	torn    chan int // lines that are none
	refuses error    // of SetCounted and Tell
}

func newGuard() *guard {
	return &guard{lock: evidence.Lock{Lock: "locked", Grade: "B"}, in: make(chan *evidence.Attempt), torn: make(chan int)}
}

func (g *guard) Lock() evidence.Lock {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lock
}

func (g *guard) Attempts(ctx context.Context, take func(*evidence.Attempt), bad func(int)) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-g.in:
			take(a)
		case n := <-g.torn:
			bad(n)
		}
	}
}

func (g *guard) Tell(r evidence.Recorder) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = append(g.told, r)
	return g.refuses
}

func (g *guard) Counted() []recorder.Counted {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.counted)
}

func (g *guard) SetCounted(c []recorder.Counted) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counted = slices.Clone(c)
	return g.refuses
}

// says changes what it says of the lock, and waits until that was heard.
func (g *guard) says(change func(*evidence.Lock)) {
	g.mu.Lock()
	change(&g.lock)
	g.mu.Unlock()
	time.Sleep(2 * time.Second)
}

// gone is what is heard of a guard that says nothing.
func (g *guard) gone() {
	g.says(func(l *evidence.Lock) { *l = evidence.Lock{Lock: "open", Grade: "none", Refused: -1} })
}

// last is what it was told last.
func (g *guard) last() evidence.Recorder {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told[len(g.told)-1]
}

// times is how often it was told.
func (g *guard) times() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.told)
}

func attempt(usec int64) *evidence.Attempt {
	return &evidence.Attempt{Usec: usec, SeenUsec: usec + 5, Layer: "nft-inet", What: "connect", PID: 7, UID: 1000,
		Program: "/usr/bin/curl", Protocol: "tcp", Destination: "192.0.2.1:443", Count: 1}
}

// audit reads the lines of stream X.
func (b *bench) audit() (all []*evidence.Attempt) {
	b.t.Helper()
	files := b.disk.Files()
	var names []string
	for name := range files {
		if strings.Contains(name, "/X0") {
			names = append(names, name)
		}
	}
	// By record, whatever its kind, and then by segment.
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a[10:], b[10:]) })
	for _, name := range names {
		id, err := open.New(b.operator).Flight(files[name[:strings.LastIndexByte(name, '/')]+"/flight.key.age"])
		b.must(err)
		r, err := age.Decrypt(bytes.NewReader(files[name]), id)
		b.must(err)
		z, err := zstd.NewReader(r)
		b.must(err)
		text, err := io.ReadAll(z)
		z.Close()
		b.must(err)
		for l := range bytes.Lines(text) {
			a, err := evidence.ParseAttempt(l)
			b.must(err)
			all = append(all, a)
		}
	}
	return all
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// leaves are L, K and Z of the log in one word each.
func (b *bench) leaves(disk *storagetest.Disk) (words []string, refused int64) {
	b.t.Helper()
	for r := custody.NewReader(bytes.NewReader(disk.Files()[b.device.ID()+"/LOG/log.bin"])); ; {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			return words, refused
		}
		b.must(err)
		e, err := l.Entry()
		b.must(err)
		switch e := e.(type) {
		case *custody.Lock:
			refused += e.Refused
			words = append(words, strings.TrimSuffix(e.Lock+" "+e.Grade+" "+e.Ticket, " "))
		case *custody.FlightKey:
			words = append(words, "K "+e.Record)
		case *custody.Ended:
			words = append(words, "Z "+e.Record)
		}
	}
}

// TestAttemptsAreSealed: each attempt is a line of the record it falls into, also at ten thousand
// a second, where they become counts, and telemetry loses nothing by it.
func TestAttemptsAreSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, g := newBench(t), newLine(false), newGuard()
		b.disk.SetOnOp(func(op string) {
			if strings.HasPrefix(op, "sync ") {
				time.Sleep(20 * time.Millisecond)
			}
		})
		var sent [][]byte
		send := func(armed bool) {
			f := own(uint8(len(sent)), armed)
			sent = append(sent, f)
			l.in <- f
		}
		var snap recorder.Snapshot
		b.record(recorder.Config{Guard: g}, l, func(r *recorder.Recorder) {
			send(false)
			time.Sleep(3 * time.Second)
			first := attempt(b.now().Microseconds())
			g.in <- first
			time.Sleep(1200 * time.Millisecond)
			crashed := *b
			crashed.disk = b.disk.Crash(storagetest.Strict)
			if n := len(crashed.auditOpen()); n != 1 {
				t.Errorf("%d lines are durable after a flush", n)
			}
			for range 500 {
				send(true)
				for range 100 {
					g.in <- attempt(b.now().Microseconds())
				}
				time.Sleep(10 * time.Millisecond)
			}
			g.torn <- 3
			time.Sleep(3 * time.Second)
			snap = r.Snapshot()
		})
		all := b.read()
		got, _ := total(all)
		equalFrames(t, got, sent)
		if snap.Drops != 0 || snap.State != "recording" || snap.Lock != "locked" || snap.Grade != "B" {
			t.Errorf("%+v", snap)
		}
		count, lines, summaries := int64(0), 0, 0
		for _, a := range b.audit() {
			lines++
			count += a.Count
			switch {
			case a.What == "summary":
				summaries++
			case a.Program != "/usr/bin/curl" || a.Destination != "192.0.2.1:443" || a.PID != 7:
				t.Fatalf("%+v", a)
			}
		}
		if count != 50_001 || lines > 3000 || summaries == 0 {
			t.Errorf("%d attempts in %d lines, %d of them summaries", count, lines, summaries)
		}
		bad := ""
		for _, o := range all {
			for _, m := range o.metas {
				for _, e := range m.Events {
					if e.Kind == "audit_bad_lines" {
						bad += e.Detail
					}
				}
			}
		}
		if bad != "3" {
			t.Errorf("bad lines %q", bad)
		}
	})
}

// auditOpen reads the open form of the first segment of stream X.
func (b *bench) auditOpen() (lines [][]byte) {
	files := b.disk.Files()
	for name, data := range files {
		if !strings.HasSuffix(name, "X000001.open.age") {
			continue
		}
		id, err := open.New(b.operator).Flight(files[name[:strings.LastIndexByte(name, '/')]+"/flight.key.age"])
		b.must(err)
		r, err := age.Decrypt(bytes.NewReader(data), id)
		b.must(err)
		plain, _ := io.ReadAll(r) // it is cut
		z, err := zstd.NewReader(bytes.NewReader(plain))
		b.must(err)
		defer z.Close()
		text, err := io.ReadAll(z)
		b.must(err)
		lines = slices.Collect(bytes.Lines(text))
	}
	return lines
}

// TestAttemptsBeforeAFlight: with record = "armed" they wait for the flight, and what is too much
// for memory is counted.
func TestAttemptsBeforeAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, g := newBench(t), newLine(true), newGuard()
		b.record(recorder.Config{Guard: g, ArmedOnly: true}, l, func(r *recorder.Recorder) {
			for i := range 10 {
				l.in <- own(uint8(i), false)
				for range 200 {
					a := attempt(b.now().Microseconds())
					a.Detail = strings.Repeat("x", 300)
					g.in <- a
				}
				time.Sleep(time.Second)
			}
			for i := range 10 {
				l.in <- own(uint8(i), true)
				time.Sleep(time.Second)
			}
		})
		count := int64(0)
		for _, a := range b.audit() {
			count += a.Count
		}
		if count != 2000 {
			t.Errorf("%d attempts of 2000", count)
		}
		if got := ids(b.read()); !slices.Equal(got, []string{"F00000001"}) {
			t.Errorf("records %q", got)
		}
	})
}

// TestHostileLines: whatever the numbers and texts, a line is bounded or none.
func TestHostileLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, g := newBench(t), newLine(true), newGuard()
		b.record(recorder.Config{Guard: g}, l, func(*recorder.Recorder) {
			l.in <- own(0, false)
			for _, change := range []func(*evidence.Attempt){
				func(a *evidence.Attempt) { a.Usec = -1 },
				func(a *evidence.Attempt) { a.Count = 1 << 60 },
				func(a *evidence.Attempt) { a.UID = -2 },
				func(a *evidence.Attempt) { a.Program = strings.Repeat("<", 4000) },
				func(a *evidence.Attempt) { a.Detail = "good " + strings.Repeat("\n", 4000); a.Link = "\xff" },
			} {
				a := attempt(1)
				change(a)
				g.in <- a
			}
			time.Sleep(5 * time.Second)
		})
		all := b.audit()
		if len(all) != 1 || !strings.HasPrefix(all[0].Detail, "good ") || len(all[0].Detail) > 600 {
			t.Errorf("%d lines", len(all))
		}
	})
}

// TestLockInTheLog: a leaf L at each change, once a minute where attempts were refused, and before
// a record ends.
func TestLockInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, g := newBench(t), newLine(true), newGuard()
		b.record(recorder.Config{Guard: g}, l, func(r *recorder.Recorder) {
			l.in <- own(0, false)
			g.says(func(l *evidence.Lock) { l.Refused = 5 }) // waits for its minute
			if _, n := b.leaves(b.disk); n != 0 {
				t.Errorf("%d attempts are counted at once", n)
			}
			time.Sleep(time.Minute)
			l.in <- own(1, false)
			if _, n := b.leaves(b.disk); n != 5 {
				t.Errorf("%d attempts are counted after a minute", n)
			}
			g.gone()
			if s := r.Snapshot(); s.Lock != "open" || s.Grade != "none" || s.State != "recording" {
				t.Errorf("without a guard: %+v", s)
			}
			g.says(func(l *evidence.Lock) { *l = evidence.Lock{Lock: "locked", Grade: "B", Refused: 7} })
			g.says(func(l *evidence.Lock) { l.Refused = 9 })
			l.in <- own(2, true) // a flight begins, and the ground record ends
			time.Sleep(2 * time.Second)
			g.says(func(l *evidence.Lock) { l.Refused = 3 }) // a guard that begins anew
		})
		words, n := b.leaves(b.disk)
		want := []string{"open none", "locked B", "K G00000001", "locked B", "open none", "locked B", "locked B", "K F00000002", "Z G00000001", "locked B", "Z F00000002"}
		if !slices.Equal(words, want) || n != 12 {
			t.Errorf("%q, %d attempts, want\n%q, 12", words, n, want)
		}
	})
}

// TestCountedOnce: a recorder that is killed, at any moment, counts nothing twice when it is
// started again, and leaves nothing out.
func TestCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := newBench(t), newGuard()
		base, lost := b.disk, 0
		l := newLine(true)
		var crashed []*storagetest.Disk
		var then [][]recorder.Counted
		b.record(recorder.Config{Guard: g}, l, func(*recorder.Recorder) {
			l.in <- own(0, false)
			for i := range 3 {
				g.says(func(l *evidence.Lock) { l.Refused += 10; l.Grade = []string{"A", "B"}[i%2] })
			}
			b.disk.SetOnOp(func(string) { // killed before each operation
				crashed, then = append(crashed, b.disk.Crash(storagetest.Strict)), append(then, g.Counted())
			})
			g.says(func(l *evidence.Lock) { l.Refused += 10; l.Grade = "A" })
			g.says(func(l *evidence.Lock) { l.Refused += 10; l.Grade = "B" })
			b.disk.SetOnOp(nil)
		})
		for i, disk := range crashed {
			b.disk = disk
			if _, n := b.leaves(disk); n < 50 {
				lost++
			}
			g.counted = then[i]
			b.record(recorder.Config{Guard: g}, newLine(true), func(*recorder.Recorder) { time.Sleep(2 * time.Minute) })
			if _, n := b.leaves(disk); n != 50 {
				t.Errorf("killed at %d: %d attempts are counted, want 50", i, n)
			}
		}
		if b.disk = base; lost == 0 {
			t.Error("no kill fell before a leaf was durable")
		}
	})
}

const ticket = "0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d"

func asked(l *evidence.Lock) {
	l.Maintenance = &evidence.Maintenance{Number: ticket, Interfaces: []string{"eth0"}, Phase: evidence.PhaseAsked}
}

// TestMaintenance: recording stops for a ticket when the vehicle is disarmed, not before; what
// comes meanwhile is counted and is in no record; then it goes on by itself.
func TestMaintenance(t *testing.T) {
	for _, end := range []string{"over", "the guard died"} {
		synctest.Test(t, func(t *testing.T) {
			b, l, g := newBench(t), newLine(true), newGuard()
			b.record(recorder.Config{Guard: g}, l, func(r *recorder.Recorder) {
				l.in <- own(0, true)
				time.Sleep(2 * time.Second)
				g.says(asked)
				if s := g.last(); s.Stopped != "" || s.State != "recording" || !s.Armed || r.Snapshot().Record != "F00000001" {
					t.Errorf("armed: %+v", s)
				}
				time.Sleep(10 * time.Second)
				l.in <- own(1, false)
				time.Sleep(2 * time.Second)
				s := g.last()
				if s.Stopped != ticket || s.State != "standby" || s.Record != "" || s.Armed || s.BootCount != 1 || s.Device != b.device.ID() {
					t.Errorf("stopped: %+v", s)
				}
				crashed := b.disk.Crash(storagetest.Strict)
				words, _ := b.leaves(crashed)
				if words[len(words)-1] != "open none "+ticket || words[len(words)-2][0] != 'Z' {
					t.Errorf("when it says that it stopped the medium has %q", words)
				}
				g.says(func(l *evidence.Lock) { l.Lock, l.Grade, l.Maintenance.Phase = "open", "none", evidence.PhaseOpen })
				l.in <- own(2, false)
				l.in <- append(slices.Clone(attitude(3, 3)), attitude(4, 4)[:10]...) // and a frame that is cut
				time.Sleep(time.Minute)
				if s := r.Snapshot(); s.Record != "" || s.State != "standby" || s.Lock != "open" || !strings.Contains(s.LastError, "maintenance") {
					t.Errorf("while it is open: %+v", s)
				}
				if end == "over" {
					g.says(func(l *evidence.Lock) { *l = evidence.Lock{Lock: "locked", Grade: "B"} })
				} else {
					g.gone()
				}
				if s := g.last(); s.Stopped != "" {
					t.Errorf("afterwards: %+v", s)
				}
				l.in <- append(slices.Clone(attitude(4, 4)[10:]), own(5, false)...)
				time.Sleep(2 * time.Second)
				if s := r.Snapshot(); s.State != "recording" || s.LastError != "" {
					t.Errorf("recording again: %+v", s)
				}
			})
			all := b.read()
			got, noise := total(all)
			if len(got) != 3 || !bytes.Equal(got[2], own(5, false)) || bytes.Contains(noise, attitude(4, 4)[:10]) {
				t.Errorf("%s: %d frames, noise %x", end, len(got), noise)
			}
			told := ""
			for _, m := range all[len(all)-1].metas {
				for _, e := range m.Events {
					if e.Kind == "maintenance_over" {
						told = e.Detail
					}
				}
			}
			if !strings.Contains(told, ticket+": 2 frames") {
				t.Errorf("%s: the next record says %q", end, told)
			}
			after := map[string]string{"over": "locked B", "the guard died": "open none"}[end]
			words, _ := b.leaves(b.disk)
			i := slices.Index(words, "open none "+ticket)
			if i < 0 || words[i+1] != after || words[i+2][0] != 'K' {
				t.Errorf("%s: %q", end, words)
			}
		})
	}
}

// TestStartDuringMaintenance: a recorder that is started while the lock is open records nothing.
func TestStartDuringMaintenance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, g := newBench(t), newLine(true), newGuard()
		asked(&g.lock)
		b.record(recorder.Config{Guard: g}, l, func(r *recorder.Recorder) {
			l.in <- own(0, false)
			time.Sleep(5 * time.Second)
			if s := g.last(); s.Stopped != ticket || r.Snapshot().Record != "" {
				t.Errorf("%+v", s)
			}
		})
		if all := b.read(); len(all) != 0 {
			t.Errorf("records %q", ids(all))
		}
	})
}

// TestNoStopBeforeItIsDurable: where the medium refuses the log, the guard is not told that
// recording has stopped.
func TestNoStopBeforeItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, g := newBench(t), newLine(true), newGuard()
		b.record(recorder.Config{Guard: g}, l, func(r *recorder.Recorder) {
			l.in <- own(0, false)
			time.Sleep(2 * time.Second)
			b.disk.ReadOnly(true)
			g.says(asked)
			time.Sleep(5 * time.Second)
			if s := g.last(); s.Stopped != "" {
				t.Errorf("%+v", s)
			}
			b.disk.ReadOnly(false)
			time.Sleep(40 * time.Second)
			if s := g.last(); s.Stopped != ticket {
				t.Errorf("%+v", s)
			}
		})
	})
}

// TestTell: the guard is told each second, and at once when something changes.
func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, g := newBench(t), newLine(true), newGuard()
		g.refuses = errors.New("it cannot be told") // which stops nothing
		b.record(recorder.Config{Guard: g}, l, func(*recorder.Recorder) {
			l.in <- own(0, false)
			time.Sleep(time.Second)
			l.in <- own(1, true)
			synctest.Wait()
			if s := g.last(); !s.Armed {
				t.Errorf("at once: %+v", s)
			}
			n := g.times()
			time.Sleep(20 * time.Second)
			if got := g.times() - n; got < 15 || got > 30 {
				t.Errorf("told %d times in 20 s", got)
			}
		})
		if s := g.last(); s.State != "standby" || s.Record != "" {
			t.Errorf("at the end: %+v", s)
		}
	})
}
