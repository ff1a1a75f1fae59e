package vault_test

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// piece is a block of the log that stream A holds; offset in bytes.
func piece(offset, n int) *segment.Block {
	k := fileKey{'A', "pull", 1}
	return &segment.Block{Data: footage(k, offset, n), Meta: segment.Meta{File: &segment.File{ID: 1, Kind: segment.KindLog, Source: "pull", Format: "bin", Offset: int64(offset)}}}
}

// pull gives n pieces of 10 KiB from an offset on, with the steps that they need.
func (a *auditRig) pull(offset, n int) (last uint64) {
	a.t.Helper()
	for i := range n {
		number, ok := a.v.PutFile(piece(offset+i*10<<10, 10<<10))
		if !ok {
			a.t.Fatalf("piece %d is refused", i)
		}
		last = number
		a.steps(500 * time.Millisecond)
	}
	return last
}

// TestFileIsBounded: what finds no room is refused, and comes in when there is a record.
func TestFileIsBounded(t *testing.T) {
	a := newAuditRig(t, nil)
	for _, bad := range []*segment.Block{{Data: []byte("of no file")}, piece(0, vault.MaxFilePiece+1)} {
		if _, ok := a.v.PutFile(bad); ok {
			t.Errorf("a block of %d bytes was taken", len(bad.Data))
		}
	}
	took := 0
	for number, ok := a.v.PutFile(piece(0, 60<<10)); ok; number, ok = a.v.PutFile(piece(took*60<<10, 60<<10)) {
		if number != uint64(took) {
			t.Errorf("block %d has number %d", took, number)
		}
		took++
	}
	if took != 4 {
		t.Errorf("%d blocks were taken", took)
	}
	if _, due := a.v.FileDue(); due {
		t.Error("something is due without a record")
	}
	a.begin(vault.Ground)
	a.steps(0)
	if _, due := a.v.FileDue(); due {
		t.Error("something is due when all was written")
	}
	c := newCinema(a.v, nil, a.clock)
	c.reel(fileKey{'A', "pull", 1}).durable = took * 60 << 10
	must(t, c.develop(a.disk.Crash(0).Files()))
	must(t, a.v.Close())
}

// TestPutFileCopies: the block is the caller's again.
func TestPutFileCopies(t *testing.T) {
	a := newAuditRig(t, nil)
	a.begin(vault.Ground)
	b := piece(0, 1000)
	b.Data = slices.Clone(b.Data)
	_, ok := a.v.PutFile(b)
	clear(b.Data)
	b.Meta.File.ID = 77
	a.steps(0)
	must(t, a.v.Close())
	c := newCinema(a.v, nil, a.clock)
	c.reel(fileKey{'A', "pull", 1}).durable = 1000
	if err := c.develop(a.disk.Files()); !ok || err != nil {
		t.Error(ok, err)
	}
}

// confirmed does steps until the confirmation ends.
func (a *auditRig) confirmed() (uint64, error) {
	a.v.Confirm()
	for range 10 {
		a.steps(time.Second)
	}
	return a.v.Confirmed()
}

// TestConfirm: blocks are confirmed when their segments were closed, signed and read again.
func TestConfirm(t *testing.T) {
	a := newAuditRig(t, nil)
	a.begin(vault.Ground)
	last := a.pull(0, 5)
	if n, err := a.v.Confirmed(); n != 0 || err != nil {
		t.Errorf("%d blocks are confirmed, and nobody asked: %v", n, err)
	}
	if n, err := a.confirmed(); n != last+1 || err != nil {
		t.Errorf("%d blocks are confirmed, want %d: %v", n, last+1, err)
	}
	files := a.disk.Crash(0).Files()
	if files[device+"/G00000001/A000001.age"] == nil || files[device+"/G00000001/A000001.open.age"] != nil {
		t.Error("they are confirmed, and their segment is not closed")
	}
	a.pull(50<<10, 2)
	if n, _ := a.v.Confirmed(); n != last+1 {
		t.Errorf("%d blocks are confirmed, and two are new", n)
	}
	// Over a change of record, too.
	a.begin(vault.Flight)
	last = a.pull(70<<10, 2)
	if n, err := a.confirmed(); n != last+1 || err != nil {
		t.Errorf("over two records: %d blocks are confirmed, want %d: %v", n, last+1, err)
	}
	must(t, a.v.Close())
	if rep, err := verify(a.disk.Files()); err != nil || rep.State != custody.VerdictClean {
		t.Error(rep.State, err)
	}
}

// TestConfirmReadsTheMedium: a byte that is another on the medium is found, and a file that is gone.
func TestConfirmReadsTheMedium(t *testing.T) {
	const name = device + "/G00000001/A000001.age"
	for what, spoil := range map[string]func(a *auditRig){
		"a flipped byte": func(a *auditRig) {
			must(t, a.disk.Corrupt(name, func(p []byte) []byte { p[len(p)/2] ^= 1; return p }))
		},
		"a byte less": func(a *auditRig) { must(t, a.disk.Corrupt(name, func(p []byte) []byte { return p[:len(p)-1] })) },
		"a byte more": func(a *auditRig) { must(t, a.disk.Corrupt(name, func(p []byte) []byte { return append(p, 0) })) },
		"gone":        func(a *auditRig) { must(t, a.disk.Remove(name)) },
	} {
		a := newAuditRig(t, nil)
		a.begin(vault.Ground)
		a.pull(0, 3)
		a.steps(70 * time.Second) // it is closed for its age
		if a.disk.Files()[name] == nil {
			t.Fatal("the segment is not closed")
		}
		spoil(a)
		if n, err := a.confirmed(); n != 0 || err == nil || what != "gone" && !errors.Is(err, vault.ErrDiffers) {
			t.Errorf("%s: %d blocks are confirmed, %v", what, n, err)
		}
		if n, err := a.confirmed(); n != 0 || err == nil {
			t.Errorf("%s, again: %d blocks are confirmed, %v", what, n, err)
		}
	}
}

// TestConfirmFails: whatever fails, what is confirmed is there, and another Confirm comes to its
// end once the medium is well.
func TestConfirmFails(t *testing.T) {
	run := func(at int) (a *auditRig, ops int) {
		a = newAuditRig(t, nil)
		a.begin(vault.Ground)
		for a.v.Step() {
		}
		before := a.disk.Ops()
		a.disk.FailAt(at, syscall.EIO)
		last := a.pull(0, 3)
		n, _ := a.confirmed()
		ops = a.disk.Ops() - before
		c := newCinema(a.v, nil, a.clock)
		c.reel(fileKey{'A', "pull", 1}).durable = int(min(n, 3)) * 10 << 10
		if err := c.develop(a.disk.Crash(0).Files()); err != nil {
			t.Errorf("operation %d (%s), %d confirmed: %v", at, a.disk.OpNames()[before+at-1], n, err)
		}
		a.steps(10 * time.Second)
		if n, err := a.confirmed(); n != last+1 || err != nil {
			t.Errorf("operation %d (%s): %d blocks are confirmed at last, want %d: %v", at, a.disk.OpNames()[before+at-1], n, last+1, err)
		}
		_ = a.v.Close()
		if _, err := verify(a.disk.Files()); err != nil {
			t.Errorf("operation %d: %v", at, err)
		}
		return a, ops
	}
	_, ops := run(1 << 20)
	for at := 1; at <= ops; at += stride() {
		run(at)
	}
}

// TestConfirmDeleted: what was deleted to make room is never confirmed.
func TestConfirmDeleted(t *testing.T) {
	a := newAuditRig(t, func(cfg *vault.Config) { cfg.WhenFull = "oldest" })
	a.begin(vault.Ground)
	a.pull(0, 2)
	a.begin(vault.Flight)
	a.steps(10 * time.Second)
	a.disk.SetFree(1 << 20)
	_ = a.v.Room()
	if files := a.disk.Files(); files[device+"/G00000001/flight.pub"] != nil {
		t.Fatal("the record is still there")
	}
	a.disk.SetFree(1 << 30)
	if n, err := a.confirmed(); n != 0 || !errors.Is(err, vault.ErrNotKept) {
		t.Errorf("%d blocks are confirmed, %v", n, err)
	}
	must(t, a.v.Close())
}

// TestFilesYield: each stream has its own mark.
func TestFilesYield(t *testing.T) {
	a := newAuditRig(t, func(cfg *vault.Config) {
		cfg.YieldBelow = map[byte]int64{'A': 50 << 20, 'V': 100 << 20, 'P': 200 << 20}
	})
	m := a.v.NewMedia(a.disk, nil)
	a.begin(vault.Flight)
	a.pull(0, 1)
	try := func(free int64, want string) {
		t.Helper()
		a.disk.SetFree(free)
		_, _ = a.v.PutFile(piece(10<<10, 10<<10))
		a.steps(2 * time.Second)
		got := ""
		if _, due := a.v.FileDue(); !due {
			got += "A"
		}
		for _, letter := range []byte("VP") {
			b := video("cam", 1, 0, randomBytes()[:1000])
			if letter == 'P' {
				b = photo(1, randomBytes()[:1000])
			}
			err := m.Append(letter, b)
			if err == nil {
				got += string(letter)
			} else if !errors.Is(err, vault.ErrReserve) {
				t.Errorf("%d bytes free, %c: %v", free, letter, err)
			}
		}
		if got != want {
			t.Errorf("%d bytes free: %q is taken, want %q", free, got, want)
		}
	}
	try(1<<30, "AVP")
	try(150<<20, "AV")
	try(75<<20, "A")
	try(30<<20, "")
	try(30<<20, "")
	try(1<<30, "AVP")
	must(t, m.End())
	must(t, a.v.Close())
	rep, err := verify(a.disk.Files())
	if err != nil || rep.State != custody.VerdictClean {
		t.Error(rep.State, err)
	}
	refused := map[string]int{}
	for _, l := range of[*custody.Lost](leaves(t, a.disk.Files())) {
		refused[l.Segment[:1]+" "+l.Why]++
	}
	if len(refused) != 3 || refused["A refused"] != 1 || refused["V refused"] != 1 || refused["P refused"] != 1 {
		t.Errorf("leaves X: %v", refused)
	}
}

// TestFilesNeverDelay: where syncs take so long that telemetry needs all of the time, files wait.
func TestFilesNeverDelay(t *testing.T) {
	a := newAuditRig(t, nil)
	took := 120 * time.Millisecond
	a.disk.SetOnOp(func(name string) {
		if strings.HasPrefix(name, "sync") {
			a.clock.now += took
		}
	})
	a.begin(vault.Flight)
	a.v.SetArmed(true)
	a.v.PutFile(piece(0, 10<<10))
	for range 50 {
		a.block()
		at := a.clock.now
		for a.v.StepWithin(a.v.Interval() - took) {
		}
		if a.clock.now > at {
			t.Fatalf("the next flush waits for %v", a.clock.now-at)
		}
	}
	for a.v.StepWithin(time.Second) {
	}
	if _, due := a.v.FileDue(); due {
		t.Error("no flush for a second, and the file still waits")
	}
	must(t, a.v.Close())
}

// TestFastPull: a pull that is faster than segments are closed waits for them, in bounded memory,
// and each Step does one sync at the most.
func TestFastPull(t *testing.T) {
	a := newAuditRig(t, nil)
	syncs := 0
	a.disk.SetOnOp(func(name string) {
		if strings.HasPrefix(name, "sync") {
			syncs++
		}
	})
	a.begin(vault.Ground)
	a.steps(20 * time.Second) // both checkpoints have their files
	offset, most, refused := 0, 0, 0
	for n := 0; offset < 24<<20 && n < 20_000; n++ {
		for {
			if _, ok := a.v.PutFile(piece(offset, 60<<10)); !ok {
				break
			}
			offset += 60 << 10
		}
		before := syncs
		if a.v.Step(); n%3 == 0 {
			a.clock.now += 500 * time.Millisecond
		}
		most = max(most, syncs-before)
		open := 0
		for name := range a.disk.Files() {
			if strings.Contains(name, "/A") && strings.HasSuffix(name, ".open.age") {
				open++
			}
		}
		if open > 4 {
			t.Fatalf("%d segments are open or wait to be closed", open)
		}
		if open == 3 {
			refused++
		}
	}
	if most > 1 || refused == 0 {
		t.Errorf("a step made %d syncs; %d times three segments waited", most, refused)
	}
	must(t, a.v.Close())
	c := newCinema(a.v, nil, a.clock)
	c.reel(fileKey{'A', "pull", 1}).durable = offset
	must(t, c.develop(a.disk.Files()))
}
