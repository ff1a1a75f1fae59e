package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// flightDay is the program that is cut: ground, flight, ground, each long enough that
// segments rotate and are closed.
var flightDay = []phase{{vault.Ground, 11 * time.Second}, {vault.Flight, 11500 * time.Millisecond}, {vault.Ground, 2500 * time.Millisecond}}

// slowSyncs makes every sync take up to most of simulated time, and notes when the last
// operation began.
func slowSyncs(d *storagetest.Disk, c *clock, seed uint64, most time.Duration) *time.Duration {
	rng, last := rand.New(rand.NewPCG(seed, 5)), new(time.Duration)
	d.SetOnOp(func(name string) {
		*last = c.now
		if strings.HasPrefix(name, "sync") {
			c.now += time.Duration(rng.Int64N(int64(most) + 1))
		}
	})
	return last
}

const quickSync = 5 * time.Millisecond

// cutRun is one run into a power cut.
type cutRun struct {
	seed       uint64
	mode       storagetest.CrashMode
	ignoreSync bool
	kill       bool // the program is killed and started again before the power is cut
	at         int  // operation
}

// record runs the program until it is cut. last is when that was, and synced what the log held
// that a sync had covered.
func (c cutRun) record(t testing.TB) (disk *storagetest.Disk, first *rig, last time.Duration, synced []byte, err error) {
	d, now := storagetest.New(c.seed), &clock{}
	d.IgnoreSync(c.ignoreSync)
	at := slowSyncs(d, now, c.seed, quickSync)
	w := watch(t, d)
	if c.kill {
		w.left = c.at
	} else {
		d.CrashAt(c.at)
	}
	v, err := vault.Open(config(w, now))
	if err != nil {
		w.bury()
		return d, &rig{}, 0, w.log[:w.logSynced], err
	}
	r := newRig(v, now, c.seed, 0)
	err = r.run(flightDay...)
	if err == nil { // the cut fell into the clean-up, which reports no errors
		err = v.Close()
	}
	w.bury()
	return d, r, *at, w.log[:w.logSynced], err
}

// do cuts, recovers, goes on, and says which promise was broken. torn counts the chunks that
// came to the medium in part.
func (c cutRun) do(t testing.TB) (torn int, err error) {
	d, first, last, synced, err := c.record(t)
	if err != nil && !errors.Is(err, storagetest.ErrPowerCut) && !errors.Is(err, errKilled) {
		return 0, fmt.Errorf("the program ended with %w, not with the cut", err)
	}
	if c.kill {
		if err := c.again(d); err != nil {
			return 0, fmt.Errorf("start after the kill: %w", err)
		}
	}
	if first.v != nil { // the card as it is pulled out of the board
		for range 3 {
			if _, err := verify(d.Crash(c.mode).Files()); err != nil {
				return 0, fmt.Errorf("before the next start: %w", err)
			}
		}
	}
	d, err = c.recoverTwice(d.Crash(c.mode))
	if err != nil {
		return 0, err
	}
	now := &clock{}
	v, err := vault.Open(config(d, now))
	if err != nil {
		return 0, fmt.Errorf("recovery: %w", err)
	}
	cut := v.CutFlight()
	if first.steady.Kind == vault.Flight && cut != first.steady || first.steady.Kind == vault.Ground && cut.Number != 0 {
		return 0, fmt.Errorf("cut in %s, CutFlight is %q", first.steady, cut)
	}
	second := newRig(v, now, c.seed, 1<<32)
	second.goesOn = cut
	if err := second.run(phase{vault.Flight, time.Second}); err != nil {
		return 0, fmt.Errorf("go on: %w", err)
	}
	if err := v.Close(); err != nil {
		return 0, fmt.Errorf("close: %w", err)
	}
	w, err := check(d.Files(), first.promised(last), first, second)
	if err != nil {
		return 0, err
	}
	if log := d.Files()[device+"/LOG/log.bin"]; !bytes.HasPrefix(log, synced) {
		return 0, fmt.Errorf("of %d bytes of the log that were synced some are lost", len(synced))
	}
	if h := w.headers[len(w.headers)-1]; h.Continues != cut.String() {
		return 0, fmt.Errorf("the record after the cut continues %q, want %q", h.Continues, cut)
	}
	if w.torn > 0 && c.mode == storagetest.Strict {
		return 0, fmt.Errorf("%d chunks are damaged", w.torn)
	}
	return w.torn, nil
}

// again starts the recorder on the medium as it is and ends it.
func (c cutRun) again(d *storagetest.Disk) error {
	d.SetOnOp(nil)
	v, err := vault.Open(config(d, &clock{}))
	if err != nil {
		return err
	}
	return v.Close()
}

// recoverTwice cuts the recovery two times, too.
func (c cutRun) recoverTwice(d *storagetest.Disk) (*storagetest.Disk, error) {
	rng := rand.New(rand.NewPCG(c.seed, uint64(c.at)))
	for range 2 {
		d.CrashAt(1 + rng.IntN(25))
		v, err := vault.Open(config(d, &clock{}))
		if err != nil && !errors.Is(err, storagetest.ErrPowerCut) {
			return nil, fmt.Errorf("recovery that is cut: %w", err)
		}
		if err == nil {
			_ = v.Close() // cut or not
		}
		d = d.Crash(c.mode)
	}
	d.CrashAt(0)
	return d, nil
}

// moments returns the operations of an uncut run, and those that change more than the data of
// a segment.
func moments(t testing.TB, seed uint64) (ops int, special []int) {
	t.Helper()
	d, r, _, _, err := cutRun{seed: seed}.record(t)
	must(t, err)
	if _, err := check(d.Files(), all, r); err != nil {
		t.Fatal(err)
	}
	for i, name := range d.OpNames() {
		verb, _, _ := strings.Cut(name, " ")
		if strings.Contains(name, "/LOG/") {
			special = append(special, i+1)
			continue
		}
		if verb == "write" || verb == "sync" && !strings.Contains(name, ".tmp") || verb == "free" {
			continue
		}
		special = append(special, i+1)
	}
	return d.Ops(), special
}

// few asks for a small share of the cuts and failures.
var few = false

// stride goes through all operations, or a share of them: -short is for emulated processors.
func stride() int {
	switch {
	case testing.Short():
		return 11
	case few:
		return 5
	}
	return 1
}

// cuts is how many cuts a test makes.
func cuts() int {
	switch {
	case os.Getenv("HOLDFAST_LONG") != "":
		return 500
	case testing.Short():
		return 10
	case few:
		return 24
	}
	return 100
}

// eachCut calls do with runs that are cut at the special moments, one after the other, and at
// random ones.
func eachCut(t *testing.T, n int, do func(c cutRun)) {
	rng := rand.New(rand.NewPCG(11, 12))
	const seeds = 3
	var ops [seeds]int
	var special [seeds][]int
	for i := range seeds {
		ops[i], special[i] = moments(t, uint64(i))
	}
	for i := range n {
		c := cutRun{seed: uint64(i % seeds), mode: []storagetest.CrashMode{storagetest.Random, storagetest.Strict}[i/2%2]}
		if s := special[c.seed]; i%4 != 3 {
			// A stride that goes through all of them in the end and is everywhere at once.
			c.at = s[i*89%len(s)] + rng.IntN(2)
		} else {
			c.at = 1 + rng.IntN(ops[c.seed])
		}
		do(c)
	}
}

func TestCuts(t *testing.T) {
	torn := 0
	eachCut(t, cuts(), func(c cutRun) {
		n, err := c.do(t)
		torn += n
		if err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	})
	t.Logf("%d cuts; chunks that came to the medium in part: %d", cuts(), torn)
}

// TestKills kills the program, starts it again, and then cuts the power: what the first
// program had not made durable is not so for being seen by the second.
func TestKills(t *testing.T) {
	eachCut(t, cuts()/2, func(c cutRun) {
		c.kill = true
		if _, err := c.do(t); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	})
}

// TestCutsWithoutSyncs is the control: on a medium that ignores syncs the same runs must lose
// what was flushed.
func TestCutsWithoutSyncs(t *testing.T) {
	lost, n := 0, cuts()/4
	eachCut(t, n, func(c cutRun) {
		c.ignoreSync = true
		if _, err := c.do(t); err != nil {
			lost++
		}
	})
	t.Logf("%d of %d runs lost something", lost, n)
	if lost < n*2/3 {
		t.Errorf("only %d of %d runs lost something without syncs", lost, n)
	}
}

// hurry records so that records end faster than they are closed. It returns the number behind
// the last entry that was flushed.
func hurry(fsys vault.FS, records uint64) (flushed uint64, err error) {
	v, err := vault.Open(config(fsys, &clock{}))
	if err != nil {
		return 0, err
	}
	for i := range records {
		if err := v.Begin([]vault.Kind{vault.Ground, vault.Flight}[i%2], vault.RecordID{}); err != nil {
			return flushed, err
		}
		if err := v.Append(&segment.Block{Data: entries(10*i, 10*i+10)}); err != nil {
			return flushed, err
		}
		if err := v.Flush(); err != nil {
			return flushed, err
		}
		flushed = 10*i + 10
	}
	return flushed, v.Close()
}

// killed runs hurry until it is killed at operation n. ops is how many there were.
func killed(t *testing.T, seed uint64, n int, records uint64) (d *storagetest.Disk, flushed uint64, ops int) {
	d = storagetest.New(seed)
	w := watch(t, d)
	w.left = n
	flushed, _ = hurry(w, records)
	w.bury()
	return d, flushed, w.ops
}

// twoForms returns the segments that are there open and closed.
func twoForms(files map[string][]byte) (found []string) {
	for name := range files {
		if base, ok := strings.CutSuffix(name, ".open.age"); ok && files[base+".age"] != nil {
			found = append(found, base)
		}
	}
	return found
}

// TestKillAtEachStep kills a program that ends records faster than they are closed, at each
// operation. The next start leaves each segment in one form.
func TestKillAtEachStep(t *testing.T) {
	const records = 5
	_, _, ops := killed(t, 0, -1, records)
	seen := 0
	for n := 0; n < ops; n += stride() {
		d, flushed, _ := killed(t, uint64(n), n, records)
		both := twoForms(d.Files())
		seen += len(both)
		must(t, cutRun{}.again(d))
		files := d.Files()
		for _, base := range both {
			if files[base+".age"] == nil && files[base+".open.age"] == nil {
				t.Errorf("killed at %d: both forms of %s were removed", n, base)
			}
		}
		for name := range files {
			if strings.HasSuffix(name, ".tmp") {
				t.Errorf("killed at %d: the next start leaves %s", n, name)
			}
		}
		if left := twoForms(files); len(left) > 0 {
			t.Errorf("killed at %d: the next start leaves both forms of %q", n, left)
		}
		if flushed == 0 {
			continue
		}
		if _, err := check(d.Crash(storagetest.Random).Files(), flushed, &rig{next: 10 * records}); err != nil {
			t.Errorf("killed at %d: %v", n, err)
		}
	}
	if seen < records/stride() {
		t.Errorf("only %d segments were there in both forms", seen)
	}
}

// TestKillThenCut cuts the power in the start after a kill that left a segment in both forms:
// the name of the closed one is not durable yet, and the open one must not go before it is.
func TestKillThenCut(t *testing.T) {
	seeds := uint64(2)
	if os.Getenv("HOLDFAST_LONG") != "" {
		seeds = 20
	}
	const segment1 = device + "/G00000001/T000001"
	_, _, ops := killed(t, 0, -1, 1)
	for n := 0; n < ops; n += stride() {
		if d, _, _ := killed(t, 0, n, 1); len(twoForms(d.Files())) == 0 {
			continue
		}
		for cut := 1; cut < 16; cut++ {
			for seed := range seeds {
				d, flushed, _ := killed(t, seed, n, 1)
				d.CrashAt(cut)
				_ = cutRun{}.again(d) // cut or not
				for range 100 {
					if files := d.Crash(storagetest.Random).Files(); files[segment1+".age"] == nil && files[segment1+".open.age"] == nil {
						t.Fatalf("killed at %d, cut at %d, seed %d: the segment is gone in both forms", n, cut, seed)
					}
				}
				d = d.Crash(storagetest.Random)
				must(t, cutRun{}.again(d))
				if _, err := check(d.Crash(storagetest.Random).Files(), flushed, &rig{next: 10}); err != nil {
					t.Fatalf("killed at %d, cut at %d, seed %d: %v", n, cut, seed, err)
				}
			}
		}
	}
}

// TestFirstStartCut cuts the first start of all at each operation: the next start makes the
// tree whole, whatever a half-written file holds.
func TestFirstStartCut(t *testing.T) {
	whole := storagetest.New(0)
	must(t, mustOpen(t, config(whole, &clock{})).Close())
	want := whole.Files()
	for at := 0; at < whole.Ops(); at += stride() {
		for seed := range uint64(10) {
			d := storagetest.New(seed)
			d.CrashAt(at + 1)
			if v, err := vault.Open(config(d, &clock{})); err == nil {
				_ = v.Close() // the cut fell behind what a start waits for
			} else if !errors.Is(err, storagetest.ErrPowerCut) {
				t.Fatalf("cut at %d: %v", at, err)
			}
			d = d.Crash(storagetest.Random)
			v, err := vault.Open(config(d, &clock{}))
			if err != nil {
				t.Fatalf("start after a cut at %s, seed %d: %v", d.OpNames()[len(d.OpNames())-1], seed, err)
			}
			must(t, v.Close())
			// What the second start made is durable, and so is what it found.
			if _, err := verify(d.Crash(storagetest.Strict).Files()); err != nil {
				t.Errorf("cut at %d, seed %d: %v", at, seed, err)
			}
			for name, data := range d.Crash(storagetest.Strict).Files() {
				changes := strings.HasSuffix(name, "log.bin") || strings.Contains(name, "/cp.") // that start too
				if w, ok := want[name]; ok && !changes && !bytes.Equal(data, w) {
					t.Errorf("cut at %d, seed %d: %s has %q", at, seed, name, data)
				}
			}
			if got := d.Crash(storagetest.Strict).Files(); len(got) < len(want) {
				t.Errorf("cut at %d, seed %d: %d files, want %d", at, seed, len(got), len(want))
			}
		}
	}
}

// TestLossWindow measures how long an entry waits until it is durable, on a medium whose syncs
// all take the same time.
func TestLossWindow(t *testing.T) {
	for _, sync := range []time.Duration{quickSync, 20 * time.Millisecond, 50 * time.Millisecond} {
		d, now := storagetest.New(1), &clock{}
		d.SetOnOp(func(name string) {
			if strings.HasPrefix(name, "sync") {
				now.now += sync
			}
		})
		r := newRig(mustOpen(t, config(d, now)), now, 1, 0)
		must(t, r.run(append(flightDay, flightDay...)...))
		for _, kind := range []vault.Kind{vault.Flight, vault.Ground} {
			t.Logf("%s: a line of the audit waits at most %v", kind, r.lineWait[kind])
			flush, begin := r.waited[kind.String()+" flush"], r.waited[kind.String()+" begin"]
			t.Logf("syncs of %v, %s: an entry waits at most %v in the record, %v where it begins one", sync, kind, flush, begin)
			promise := map[vault.Kind]time.Duration{vault.Flight: 250 * time.Millisecond, vault.Ground: time.Second}[kind]
			if r.lineWait[kind] > promise {
				t.Errorf("%s: a line of the audit waited %v", kind, r.lineWait[kind])
			}
			if max(flush, begin) > promise {
				t.Errorf("%s: the promise is %v", kind, promise)
			}
		}
	}
}
