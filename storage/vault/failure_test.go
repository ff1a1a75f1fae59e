package vault_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// shortDay is a run with all there is in one: begin, rotate, close, two kinds of records.
var shortDay = []phase{{vault.Ground, 2 * time.Second}, {vault.Flight, 10500 * time.Millisecond}, {vault.Ground, 1500 * time.Millisecond}}

// openStubborn opens the vault as a supervisor does: again and again.
func openStubborn(t testing.TB, cfg vault.Config) *vault.Vault {
	t.Helper()
	var err error
	for range 5 {
		var v *vault.Vault
		if v, err = vault.Open(cfg); err == nil {
			return v
		}
	}
	t.Fatal(err)
	return nil
}

// faultRun runs the program with operations from the n-th on failing with err, and checks
// the medium right after the first flush with success behind it, and at the end.
func faultRun(t testing.TB, n, many int, fault error) (ops int, err error) {
	d, now := storagetest.New(uint64(n)), &clock{}
	slowSyncs(d, now, uint64(n), quickSync)
	for i := range many {
		d.FailAt(n+i, fault)
	}
	cfg := config(watch(t, d), now)
	cfg.FlushArmed, cfg.FlushIdle = time.Second, time.Second // fewer flushes alike
	v := openStubborn(t, cfg)
	r := newRig(v, now, 1, 0)
	checked := errors.New("not yet")
	r.onFlush = func() {
		if d.Ops() >= n+many && checked != nil {
			_, checked = check(d.Crash(storagetest.Strict).Files(), r.durable, r)
			if checked != nil {
				err = fmt.Errorf("after the next flush: %w", checked)
				checked = nil
			}
		}
	}
	if e := r.run(shortDay...); e != nil && many < 3 {
		return d.Ops(), fmt.Errorf("the run ended with %w", e)
	}
	if err != nil {
		return d.Ops(), err
	}
	if e := v.Close(); e != nil && many < 3 {
		return d.Ops(), e
	}
	for name := range d.Files() {
		if many == 1 && strings.HasSuffix(name, ".tmp") {
			return d.Ops(), fmt.Errorf("%s is left", name)
		}
	}
	files := d.Crash(storagetest.Strict).Files()
	if n%3 == 0 {
		files = d.Files() // what a reader finds who comes without a cut
	}
	w, e := check(files, all, r)
	if e != nil {
		return d.Ops(), e
	}
	for i, rec := range w.records {
		if many == 1 && (rec.ID.Number != i+1 || rec.State == vault.StateMissing) {
			return d.Ops(), fmt.Errorf("record %d is %s, %s", i+1, rec.ID, rec.State)
		}
	}
	// The next start tidies up what the failure left, and loses nothing either.
	must(t, openStubborn(t, config(watch(t, d), now)).Close())
	files = d.Crash(storagetest.Strict).Files()
	if _, e := check(files, all, r); e != nil {
		return d.Ops(), fmt.Errorf("after the next start: %w", e)
	}
	for name := range d.Files() {
		if base, ok := strings.CutSuffix(name, ".open.age"); ok && d.Files()[base+".age"] != nil {
			return d.Ops(), fmt.Errorf("after the next start: %s is there open and closed", base)
		}
	}
	return d.Ops(), nil
}

// TestFailEverywhere lets each operation of a run fail once, and pairs of them.
func TestFailEverywhere(t *testing.T) {
	ops, err := faultRun(t, 1<<30, 1, nil)
	must(t, err)
	step := 3
	switch {
	case os.Getenv("HOLDFAST_LONG") != "":
		step = 1
	case testing.Short():
		step = 27
	case few:
		step = 9
	}
	// Pairs begin behind the first start: where the sync of the tree fails and its removal too,
	// a file system without a journal has nothing left that a later sync would write.
	firstStart := storagetest.New(0)
	must(t, mustOpen(t, config(firstStart, &clock{})).Close())
	for many := 1; many <= 2; many++ {
		for n := 1 + (many-1)*firstStart.Ops(); n <= ops; n += step * many * many {
			if _, err := faultRun(t, n, many, syscall.EIO); err != nil {
				t.Errorf("%d operations from %d on fail: %v", many, n, err)
			}
		}
	}
	t.Logf("%d operations", ops)
}

// TestLongOutage: a medium that refuses everything for some seconds costs nothing, because
// memory holds it, and leaves no heap of empty files.
func TestLongOutage(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
		d, now := storagetest.New(3), &clock{}
		v := mustOpen(t, config(watch(t, d), now))
		r := newRig(v, now, 1, 0)
		must(t, r.run(phase{vault.Flight, 3 * time.Second}))
		d.SetOnOp(func(name string) {
			if now.now > 3500*time.Millisecond && now.now < 9*time.Second {
				d.FailAt(1, fault)
			}
		})
		r.want = vault.Flight
		must(t, r.run(phase{vault.Flight, 8 * time.Second}))
		must(t, v.Close())
		if r.faults < 10 {
			t.Errorf("%v: %d faults only", fault, r.faults)
		}
		w, err := check(d.Crash(storagetest.Strict).Files(), all, r)
		if err != nil {
			t.Errorf("%v: %v", fault, err)
		}
		for _, rec := range w.records {
			if len(rec.Segments) > 4 {
				t.Errorf("%v: %s has %d segments", fault, rec.ID, len(rec.Segments))
			}
		}
	}
}

// TestOrderAfterFailedWrite: blocks that were appended while a segment failed keep their order.
func TestOrderAfterFailedWrite(t *testing.T) {
	d, now := storagetest.New(4), &clock{}
	v := mustOpen(t, config(d, now))
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	add := func(from, to uint64, size int) error {
		return v.Append(&segment.Block{Data: entries(from, to), Noise: noise(size)})
	}
	must(t, add(0, 10, 0))
	d.FailAt(1, syscall.EIO) // the write of the flush
	if err := v.Flush(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	must(t, add(10, 20, 300<<10)) // opens a segment, and is carried in it behind the rest
	d.FailAt(1, syscall.EIO)
	if err := add(20, 30, 300<<10); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	must(t, add(30, 40, 300<<10)) // into a segment that has failed already
	d.FailAt(2, syscall.EIO)
	_ = v.Flush() // fails at one of its steps
	// A segment whose beginning cannot be written, with what is carried over longer than a chunk.
	must(t, v.Flush())
	must(t, add(40, 50, 300<<10))
	for v.Step() {
	}
	d.FailAt(1, syscall.EIO)
	if err := v.Flush(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	for v.Step() {
	}
	d.FailAt(4, syscall.EIO) // create, header, directory, and the write of what is carried over
	if err := add(50, 60, 300<<10); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	must(t, add(60, 70, 300<<10))
	must(t, v.Flush())
	must(t, v.Close())
	r := &rig{next: 70}
	if _, err := check(d.Crash(storagetest.Strict).Files(), all, r); err != nil {
		t.Error(err)
	}
}

// TestEndFlushes: the end of a record makes durable what was appended, and so does the begin of
// the next one, also where the medium fails once.
func TestEndFlushes(t *testing.T) {
	for n := range 4 {
		for _, end := range []func(v *vault.Vault, d *storagetest.Disk) error{
			func(v *vault.Vault, d *storagetest.Disk) error { d.FailAt(n, syscall.EIO); return v.End() },
			func(v *vault.Vault, d *storagetest.Disk) error { d.FailAt(n, syscall.EIO); return v.Close() },
			func(v *vault.Vault, d *storagetest.Disk) error {
				if n > 0 {
					d.FailAt(n+12, syscall.EIO) // behind the making of the new record
				}
				return v.Begin(vault.Ground, vault.RecordID{})
			},
		} {
			d := storagetest.New(uint64(n))
			v := mustOpen(t, config(watch(t, d), &clock{}))
			must(t, v.Begin(vault.Flight, vault.RecordID{}))
			must(t, v.Append(&segment.Block{Data: entries(0, 10)}))
			must(t, end(v, d))
			if _, err := check(d.Crash(storagetest.Strict).Files(), all, &rig{next: 10}); err != nil {
				t.Errorf("operation %d: %v", n, err)
			}
		}
	}
}

// TestReadOnly: a medium that the kernel has made read-only.
func TestReadOnly(t *testing.T) {
	for _, at := range []time.Duration{0, time.Second, 10100 * time.Millisecond} {
		d, now := storagetest.New(5), &clock{}
		v := mustOpen(t, config(watch(t, d), now))
		r := newRig(v, now, 1, 0)
		if at > 0 {
			must(t, r.run(phase{vault.Flight, at}))
		}
		flushed := r.durable
		d.ReadOnly(true)
		if err := r.run(phase{vault.Ground, time.Second}); !errors.Is(err, syscall.EROFS) && r.faults == 0 {
			t.Errorf("at %v: no error", at)
		}
		_ = v.Close()
		if r.durable != flushed {
			t.Errorf("at %v: a flush says that it succeeded", at)
		}
		if _, err := vault.Open(config(d, now)); err != nil && !errors.Is(err, syscall.EROFS) {
			t.Errorf("at %v: open: %v", at, err)
		}
		if flushed == 0 {
			continue
		}
		if _, err := check(d.Crash(storagetest.Strict).Files(), flushed, r); err != nil {
			t.Errorf("at %v: %v", at, err)
		}
	}
	d := storagetest.New(6)
	d.ReadOnly(true)
	if _, err := vault.Open(config(d, &clock{})); !errors.Is(err, syscall.EROFS) {
		t.Errorf("an empty medium: %v", err)
	}
}

// TestFullStop: with when_full = "stop" the vault says that it is full, before it is, and goes
// on when there is space again.
func TestFullStop(t *testing.T) {
	d, now := storagetest.New(7), &clock{}
	v := mustOpen(t, config(watch(t, d), now))
	r := newRig(v, now, 1, 0)
	must(t, r.run(phase{vault.Flight, time.Second}))
	d.SetFree(vault.MinFree - 1)
	if err := v.Room(); !errors.Is(err, vault.ErrFull) {
		t.Errorf("Room = %v", err)
	}
	if err := v.Begin(vault.Flight, vault.RecordID{}); !errors.Is(err, vault.ErrFull) {
		t.Errorf("Begin = %v", err)
	}
	if n := len(d.Files()); n == 0 {
		t.Error("something was deleted")
	}
	d.SetFree(2*vault.MinFree - 1) // not yet: records would begin and end without end
	if err := v.Room(); !errors.Is(err, vault.ErrFull) {
		t.Errorf("Room at the edge = %v", err)
	}
	d.SetFree(2 * vault.MinFree)
	must(t, v.Room())
	// The space ends within a segment, and within a flush.
	r.onFlush = func() { d.SetFree(100_000); r.onFlush = nil }
	go5 := now.now + 3*time.Second
	d.SetOnOp(func(string) {
		if now.now > go5 {
			d.SetFree(1 << 30)
		}
	})
	r.nextRoom = time.Hour
	must(t, r.run(phase{vault.Flight, 5 * time.Second}))
	must(t, v.Close())
	if r.faults == 0 {
		t.Error("the space did not end")
	}
	if _, err := check(d.Crash(storagetest.Strict).Files(), all, r); err != nil {
		t.Error(err)
	}
}

// TestFullOldest: with when_full = "oldest" whole records make room, from the oldest on.
func TestFullOldest(t *testing.T) {
	d, now := storagetest.New(8), &clock{}
	cfg := config(watch(t, d), now)
	cfg.WhenFull = "oldest"
	v := mustOpen(t, cfg)
	for i := range 8 {
		must(t, v.Begin([]vault.Kind{vault.Ground, vault.Flight}[i%2], vault.RecordID{}))
		must(t, v.Append(&segment.Block{Data: entries(uint64(i)*10, uint64(i)*10+10), Noise: noise(4 << 20)}))
		must(t, v.Flush())
	}
	for v.Step() {
	}
	ids := func() (s []string) {
		t.Helper()
		w, err := look(d.Crash(storagetest.Strict).Files())
		must(t, err)
		for _, r := range w.records {
			s = append(s, r.ID.String())
		}
		if len(w.problems) > 0 {
			t.Error(w.problems)
		}
		return s
	}
	d.SetFree(vault.MinFree)
	must(t, v.Room())
	if got := ids(); len(got) != 8 {
		t.Fatalf("room enough, and %q is left", got)
	}
	d.SetFree(vault.MinFree - 1)
	must(t, v.Room())
	if got := ids(); !slices.Equal(got, []string{"G00000003", "F00000004", "G00000005", "F00000006", "G00000007", "F00000008"}) {
		t.Errorf("%q is left", got)
	}
	// One that cannot be deleted does not keep the others.
	must(t, d.Mkdir(device+"/G00000003/lost"))
	must(t, d.SyncDir(device+"/G00000003"))
	f, err := d.Create(device + "/G00000003/lost/x")
	must(t, err)
	must(t, f.Close())
	d.SetFree(vault.MinFree - 1)
	must(t, v.Room())
	if got := ids(); slices.Contains(got, "G00000005") || !slices.Contains(got, "F00000006") {
		t.Errorf("%q is left", got)
	}
	// All but the one that is written is gone: what that gives is enough, or the medium is full.
	d.SetFree(vault.MinFree / 4)
	must(t, v.Room())
	if got := ids(); !slices.Contains(got, "F00000008") || slices.Contains(got, "G00000007") {
		t.Errorf("%q is left", got)
	}
	d.SetFree(10_000)
	if err := v.Room(); !errors.Is(err, vault.ErrFull) {
		t.Errorf("Room = %v", err)
	}
	must(t, v.Append(&segment.Block{Data: entries(80, 90)}))
	d.SetFree(1 << 30)
	must(t, v.Flush())
	must(t, v.Close())
	w, err := look(d.Crash(storagetest.Strict).Files())
	must(t, err)
	// Of the one that could not be deleted, something may be there.
	rest := slices.DeleteFunc(w.entries, func(n uint64) bool { return n/10 == 2 })
	if _, err := row(rest, 70, 90, 90); err != nil || len(rest) != 20 {
		t.Errorf("%d is left", w.entries)
	}
}

// TestFailedBegin: a record that cannot be begun leaves no number out, deletes nothing, and
// the record before goes on.
func TestFailedBegin(t *testing.T) {
	for _, fault := range []error{syscall.EIO, fs.ErrExist, syscall.ENOSPC} {
		for n := 1; n <= 11; n++ {
			d, now := storagetest.New(uint64(n)), &clock{}
			v := mustOpen(t, config(d, now))
			must(t, v.Begin(vault.Ground, vault.RecordID{}))
			must(t, v.Append(&segment.Block{Data: entries(0, 5)}))
			must(t, v.Flush())
			d.FailAt(n, fault)
			err := v.Begin(vault.Flight, vault.RecordID{})
			if was := (vault.RecordID{Kind: vault.Ground, Number: 1}); (err == nil) == (v.Record() == was) {
				t.Fatalf("operation %d: %v, and the record is %s", n, err, v.Record())
			}
			if err != nil {
				must(t, v.Begin(vault.Flight, vault.RecordID{}))
			}
			if v.Record().Number != 2 {
				t.Errorf("operation %d: the next record is %s", n, v.Record())
			}
			must(t, v.Append(&segment.Block{Data: entries(5, 9)}))
			must(t, v.Close())
			if _, err := check(d.Crash(storagetest.Strict).Files(), all, &rig{next: 9}); err != nil {
				t.Errorf("operation %d: %v", n, err)
			}
		}
	}
}

// TestUnreadableRecord: an old record that the medium does not return does not keep the board
// from recording.
func TestUnreadableRecord(t *testing.T) {
	d, now := storagetest.New(9), &clock{}
	v := mustOpen(t, config(d, now))
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	must(t, v.Append(&segment.Block{Data: entries(0, 5)}))
	must(t, v.Close())
	d.SetOnOp(func(name string) {
		if name == "readdir "+device+"/F00000001" {
			d.FailAt(1, syscall.EIO)
		}
	})
	v, err := vault.Open(config(d, now))
	must(t, err)
	must(t, v.Begin(vault.Ground, vault.RecordID{}))
	must(t, v.Append(&segment.Block{Data: entries(5, 9)}))
	must(t, v.Close())
	if _, err := check(d.Files(), all, &rig{next: 9}); err != nil {
		t.Error(err)
	}
}

// TestFullOldestMakesRoomForMedia: what deletes its oldest records does so before a stream has to
// yield, and not where nothing but telemetry is recorded.
func TestFullOldestMakesRoomForMedia(t *testing.T) {
	for _, roomFor := range []int64{0, vault.MinFree + 64<<20} {
		d, now := storagetest.New(8), &clock{}
		cfg := config(watch(t, d), now)
		cfg.WhenFull, cfg.RoomFor = "oldest", roomFor
		cfg.YieldBelow = map[byte]int64{'V': vault.MinFree + 64<<20}
		v := mustOpen(t, cfg)
		m := v.NewMedia(cfg.FS, nil)
		for range 4 {
			must(t, v.Begin(vault.Flight, vault.RecordID{}))
			must(t, v.Append(&segment.Block{Data: entries(0, 10), Noise: noise(4 << 20)}))
			must(t, v.Flush())
		}
		for v.Step() {
		}
		d.SetFree(vault.MinFree + 60<<20) // three records make 12 MiB
		must(t, v.Room())
		err := m.Append('V', video("cam", 1, 0, randomBytes()[:1000]))
		if kept := !errors.Is(err, vault.ErrReserve); kept != (roomFor > 0) {
			t.Errorf("room for %d: %v", roomFor, err)
		}
		must(t, m.End())
		must(t, v.Close())
	}
}
