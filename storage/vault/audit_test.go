package vault_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// auditRig is a vault that lines are given to, and nothing else happens.
type auditRig struct {
	t     *testing.T
	disk  *storagetest.Disk
	clock *clock
	v     *vault.Vault
	given uint64
}

func newAuditRig(t *testing.T, change func(*vault.Config)) *auditRig {
	t.Helper()
	a := &auditRig{t: t, disk: storagetest.New(1), clock: &clock{now: time.Second}}
	cfg := config(a.disk, a.clock)
	if change != nil {
		change(&cfg)
	}
	a.v = mustOpen(t, cfg)
	return a
}

func (a *auditRig) begin(kind vault.Kind) {
	a.t.Helper()
	must(a.t, a.v.Begin(kind, vault.RecordID{}))
	a.block()
}

// block is a flush of telemetry.
func (a *auditRig) block() {
	a.t.Helper()
	must(a.t, a.v.Append(&segment.Block{Meta: segment.Meta{Frames: 1}, Data: entries(0, 1)}))
	must(a.t, a.v.Flush())
}

func (a *auditRig) lines(n int) (took int) {
	for range n {
		if !a.v.Audit(line(a.given)) {
			return took
		}
		a.given++
		took++
	}
	return took
}

func (a *auditRig) steps(pass time.Duration) {
	a.clock.now += pass
	for a.v.Step() {
	}
}

// found reads the lines that the medium holds after a cut now, and the names of stream X.
func (a *auditRig) found() (lines []uint64, names []string) {
	a.t.Helper()
	files := a.disk.Crash(storagetest.Strict).Files()
	w, err := look(files)
	must(a.t, err)
	for name := range files {
		if _, file, ok := strings.Cut(name, "/X"); ok {
			names = append(names, name[len(device)+1:len(name)-len(file)]+file)
		}
	}
	slices.Sort(names)
	if _, err := verify(files); err != nil {
		a.t.Error(err)
	}
	return w.lines, names
}

func (a *auditRig) want(when string, lines int, names ...string) {
	a.t.Helper()
	got, have := a.found()
	if len(got) != lines || !slices.Equal(have, names) {
		a.t.Errorf("%s: %d lines in %q, want %d in %q", when, len(got), have, lines, names)
	}
}

// TestAuditSegments: a segment is begun when there is a line, lives a minute, and is closed.
func TestAuditSegments(t *testing.T) {
	a := newAuditRig(t, nil)
	a.begin(vault.Flight)
	a.steps(time.Second)
	a.want("without a line", 0)
	a.lines(3)
	a.want("before a step", 0)
	a.steps(0)
	a.want("at once", 3, "F00000001/X000001.open.age")
	a.lines(2)
	a.steps(10 * time.Millisecond)
	a.want("half an interval has not gone by", 3, "F00000001/X000001.open.age")
	a.steps(500 * time.Millisecond)
	a.want("after half an interval", 5, "F00000001/X000001.open.age")
	a.steps(61 * time.Second)
	a.want("after a minute without lines", 5, "F00000001/X000001.age")
	a.lines(1)
	a.steps(0)
	a.want("one more", 6, "F00000001/X000001.age", "F00000001/X000002.open.age")
	must(t, a.v.Close())
	a.want("at the end", 6, "F00000001/X000001.age", "F00000001/X000002.age")
}

// TestAuditBetweenRecords: what comes outside of any record, or waits when one is replaced, goes
// into the next; what waits when one ends goes into it.
func TestAuditBetweenRecords(t *testing.T) {
	a := newAuditRig(t, nil)
	a.lines(2)
	a.steps(time.Second)
	if _, due := a.v.AuditDue(); due {
		t.Error("something is due without a record")
	}
	a.begin(vault.Ground)
	a.steps(0)
	a.want("before the first record", 2, "G00000001/X000001.open.age")
	a.lines(1)
	a.begin(vault.Flight)
	a.steps(time.Second)
	a.want("while a record was replaced", 3, "F00000002/X000001.open.age", "G00000001/X000001.age")
	a.lines(1)
	must(t, a.v.End())
	a.want("when a record ended", 4, "F00000002/X000001.age", "G00000001/X000001.age")
	must(t, a.v.Close())
}

// TestAuditIsBounded: lines that find no room are refused, and none is lost that was taken.
func TestAuditIsBounded(t *testing.T) {
	a := newAuditRig(t, nil)
	const most = 64 << 10 / 12
	if n := a.lines(1e5); n < most/2 || n > most {
		t.Fatalf("%d lines were taken", n)
	}
	a.begin(vault.Flight)
	a.steps(0)
	a.want("a full buffer", int(a.given), "F00000001/X000001.open.age")
	if a.lines(10) != 10 {
		t.Error("there is room again, and lines are refused")
	}
	must(t, a.v.Close())
	a.want("at the end", int(a.given), "F00000001/X000001.age")
}

// TestAuditYields: within the reserve nothing is written, leaf X says so once, and the lines wait.
func TestAuditYields(t *testing.T) {
	a := newAuditRig(t, func(cfg *vault.Config) { cfg.Reserve = 64 << 20 })
	a.begin(vault.Flight)
	a.lines(2)
	a.steps(0)
	a.disk.SetFree(vault.MinFree + 64<<20 + 100<<10)
	a.lines(2)
	for range 5 {
		a.steps(time.Second)
		a.block()
	}
	a.want("within the reserve", 2, "F00000001/X000001.age")
	a.disk.SetFree(1 << 30)
	a.steps(time.Second)
	a.want("there is room again", 4, "F00000001/X000001.age", "F00000001/X000003.open.age")
	must(t, a.v.Close())
	lost := of[*custody.Lost](leaves(t, a.disk.Files()))
	if len(lost) != 1 || lost[0].Segment != "X000002" || lost[0].Why != custody.WhyRefused {
		t.Errorf("leaves X: %+v", lost)
	}
	for _, e := range of[*custody.Ended](leaves(t, a.disk.Files())) {
		if e.Segments["X"] != 3 {
			t.Errorf("leaf Z says %v", e.Segments)
		}
	}
}

// TestAuditNeverDelays: where syncs take so long that telemetry needs all of the time, the audit
// waits until there is time.
func TestAuditNeverDelays(t *testing.T) {
	a := newAuditRig(t, nil)
	took := 120 * time.Millisecond
	a.disk.SetOnOp(func(name string) {
		if strings.HasPrefix(name, "sync") {
			a.clock.now += took
		}
	})
	a.begin(vault.Flight)
	a.v.SetArmed(true)
	a.lines(5)
	for range 50 {
		a.block()
		at := a.clock.now
		for a.v.StepWithin(a.v.Interval() - took) {
		}
		if a.clock.now > at {
			t.Fatalf("the next flush waits for %v", a.clock.now-at)
		}
	}
	a.want("no time", 0)
	for a.v.StepWithin(time.Second) {
	}
	a.want("no flush for a second", 5, "F00000001/X000001.open.age")
	must(t, a.v.Close())
}

// TestAuditFailure: a line whose segment fails is in the next one, once.
func TestAuditFailure(t *testing.T) {
	_, ops := auditFails(t, 0)
	for at := 1; at <= ops; at++ {
		a, _ := auditFails(t, at)
		got, _ := a.found()
		if r, err := row(got, 0, a.given, a.given); err != nil || len(r) > 0 {
			t.Errorf("operation %d (%s) fails: %v, %d too many", at, a.disk.OpNames()[at-1], err, len(r))
		}
	}
}

// auditFails gives lines and lets an operation fail while they are written.
func auditFails(t *testing.T, at int) (a *auditRig, ops int) {
	t.Helper()
	a = newAuditRig(t, nil)
	a.begin(vault.Flight)
	for a.v.Step() {
	}
	before := a.disk.Ops()
	if at > 0 {
		a.disk.FailAt(before+at, syscall.EIO)
	}
	for range 4 {
		a.lines(3)
		a.steps(time.Second)
	}
	ops = a.disk.Ops() - before
	a.steps(10 * time.Second)
	if err := a.v.Close(); err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	return a, ops
}

// TestSetLock: leaf L stands where it was said, and segments begun from then on have it.
func TestSetLock(t *testing.T) {
	a := newAuditRig(t, func(cfg *vault.Config) { cfg.Header.Lock, cfg.Header.Grade = "locked", "B" })
	a.begin(vault.Flight)
	found := a.v.Found()
	leaf, err := a.v.SetLock(custody.Lock{Lock: "open", Grade: "none", Refused: 7, Ticket: strings.Repeat("0a", 16)})
	must(t, err)
	a.lines(1)
	a.steps(time.Second)
	must(t, a.v.Settle())
	files := a.disk.Crash(storagetest.Strict).Files()
	all := leaves(t, files)
	l, ok := all[leaf].(*custody.Lock)
	if !ok || l.Refused != 7 || l.Lock != "open" || l.Ticket == "" || found != 0 {
		t.Errorf("leaf %d is %+v, %d leaves were found", leaf, all[leaf], found)
	}
	if c := newest(t, files); c.Size <= leaf {
		t.Errorf("the checkpoint counts %d leaves, and leaf %d is to be signed", c.Size, leaf)
	}
	for _, bad := range []custody.Lock{{Lock: "locked", Grade: "B", Ticket: strings.Repeat("0a", 16)}, {Lock: "shut", Grade: "B"}, {Lock: "open", Grade: "none", Refused: -1}} {
		if _, err := a.v.SetLock(bad); !errors.Is(err, custody.ErrLeaf) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	must(t, a.v.End())
	if a.v.Boot() != 1 || a.v.DeviceID() != device {
		t.Error(a.v.Boot(), a.v.DeviceID())
	}
	a.begin(vault.Ground)
	must(t, a.v.Close())
	if _, err := a.v.SetLock(custody.Lock{Lock: "open", Grade: "none"}); !errors.Is(err, vault.ErrClosed) {
		t.Error(err)
	}
	w, err := look(a.disk.Files())
	must(t, err)
	var got []string
	for _, h := range w.headers {
		got = append(got, h.Record+" "+h.Lock+" "+h.Grade)
	}
	if want := []string{"F00000001 locked B", "G00000002 open none"}; !slices.Equal(got, want) {
		t.Errorf("headers %q, want %q", got, want)
	}
	if !bytes.Contains(a.disk.Files()[device+"/LOG/log.bin"], []byte(`"refused":7`)) {
		t.Error("the count is not in the log")
	}
	v := mustOpen(t, config(a.disk, &clock{}))
	if v.Found() != int64(len(leaves(t, a.disk.Files()))-2) { // B and L of this start came since
		t.Errorf("the next start found %d leaves", v.Found())
	}
	must(t, v.Close())
}
