package custody_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"holdfast/crypto/custody"
)

const second = time.Second

// TestLogFlight writes what a recorder writes: two starts, a flight, a ground record that a cut
// ended, and a deletion.
func TestLogFlight(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	if l.Boot() != 1 || l.Next() != 1 || l.Size() != 1 || !l.Pending() {
		t.Errorf("first boot: boot %d, next %d, %d leaves, pending %v", l.Boot(), l.Next(), l.Size(), l.Pending())
	}
	b.must(l.Add(lockLeaf()), l.Checkpoint(nil))
	b.must(l.Add(keyLeaf("F00000001")), l.Add(openLeaf("F00000001", "T000001")), l.Checkpoint(nil))
	if l.Next() != 2 || !slices.Equal(l.Live(), []string{"F00000001"}) {
		t.Errorf("during the flight: next %d, live %v", l.Next(), l.Live())
	}
	b.clock += 12 * second
	b.must(l.Add(closeLeaf("F00000001", "T000001")), l.Add(keyLeaf("G00000002")), l.Add(openLeaf("G00000002", "T000001")))
	b.must(l.Add(endLeaf("F00000001", 1)))
	open := []custody.OpenFile{{Record: "G00000002", Name: "T000001.open.age", Bytes: 65_752, SHA256: bytes.Repeat([]byte{9}, 32)}}
	b.must(l.Checkpoint(open))
	if cp := b.checkpoint(0); !slices.Equal(cp.Live, []string{"G00000002"}) || cp.Next != 3 || cp.T != 17e6 || len(cp.Open) != 1 {
		t.Errorf("checkpoint: %+v", cp)
	}
	l.Close()
	b.store.cut()

	b.clock = 4 * second
	l = b.start()
	b.must(l.Add(recoveredLeaf("G00000002")), l.Add(lockLeaf()), l.Add(deletedLeaf("F00000001")), l.Checkpoint(nil))
	if l.Boot() != 2 || len(l.Live()) != 0 || !slices.Equal(l.Deleting(), []string{"F00000001"}) {
		t.Errorf("second boot: boot %d, live %v, deleting %v", l.Boot(), l.Live(), l.Deleting())
	}
	if cp := b.checkpoint(1); !slices.Equal(cp.Deleting, []string{"F00000001"}) {
		t.Errorf("checkpoint names %v as being deleted", cp.Deleting)
	}
	l.Gone("F00000001")
	b.must(l.Add(undoneLeaf("F00000003", "")), l.Checkpoint(nil))
	if cp := b.checkpoint(0); len(cp.Deleting) != 0 || cp.Next != 4 {
		t.Errorf("checkpoint after the deletion: %+v", cp)
	}
	if want := "BL" + "KO" + "CKOZ" + "BRLX" + "X"; b.kinds() != want {
		t.Errorf("leaves %s, want %s", b.kinds(), want)
	}
	checkChain(b)
}

// TestLogEpochsContiguous wants exactly one E for each epoch that has ended, before the first
// leaf of a later one. (journald's seals left out epochs unseen.)
func TestLogEpochsContiguous(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after []time.Duration // since leaf B, when a leaf L is added
		want  string
	}{
		{"within an epoch", []time.Duration{0, 59*second + 999_999*time.Microsecond}, "BLL"},
		{"the boundary belongs to the next epoch", []time.Duration{60 * second}, "BEL"},
		{"one by one", []time.Duration{30 * second, 90 * second, 119 * second, 120 * second}, "BLELLEL"},
		{"several in a row", []time.Duration{second, 301 * second}, "BLEEEEEL"},
		{"several at a boundary", []time.Duration{300 * second, 300 * second}, "BEEEEELL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(t)
			l := b.start()
			began := b.clock
			for _, d := range tt.after {
				b.clock = began + d
				b.must(l.Add(lockLeaf()))
			}
			b.must(l.Checkpoint(nil))
			if b.kinds() != tt.want {
				t.Errorf("leaves %s, want %s", b.kinds(), tt.want)
			}
			checkChain(b)
		})
	}
}

// TestLogCheckpointEpoch wants a checkpoint signed by the key of its own time, although nothing
// was added.
func TestLogCheckpointEpoch(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	b.must(l.Checkpoint(nil))
	b.clock += 130 * second
	b.must(l.Checkpoint(nil))
	if cp := b.checkpoint(1); cp.Epoch != 2 || cp.Size != 3 || cp.T != 135e6 || b.kinds() != "BEE" {
		t.Errorf("leaves %s, checkpoint %+v", b.kinds(), cp)
	}
	b.clock += 60 * second
	b.must(l.Tick())
	if !l.Pending() || l.Size() != 4 {
		t.Errorf("Tick at the end of an epoch: %d leaves, pending %v", l.Size(), l.Pending())
	}
	b.must(l.Tick(), l.Sync())
	if b.kinds() != "BEEE" {
		t.Errorf("leaves %s", b.kinds())
	}
	checkChain(b)
}

// TestLogPause adds the leaves of a day in a row, and refuses more.
func TestLogPause(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	b.clock += 24*time.Hour + 59*second
	b.must(l.Add(lockLeaf()))
	if want := int64(1 + 1440 + 1); l.Size() != want {
		t.Errorf("%d leaves, want %d", l.Size(), want)
	}
	b.must(l.Checkpoint(nil))

	good := b.clock
	for _, d := range []time.Duration{24*time.Hour + 60*second, 10000 * time.Hour, math.MaxInt64 - good} {
		b.clock = good + d
		for name, err := range map[string]error{"Add": l.Add(lockLeaf()), "Tick": l.Tick(), "Checkpoint": l.Checkpoint(nil)} {
			if !errors.Is(err, custody.ErrPaused) {
				t.Errorf("%s after %v: %v", name, d, err)
			}
		}
	}
	if l.Size() != 1442 {
		t.Errorf("refused, and yet %d leaves", l.Size())
	}
	b.clock = good + second // the jump was the clock's, and is over
	b.must(l.Add(lockLeaf()), l.Checkpoint(nil))
	checkChain(b)
}

// TestLogClockGoesBack wants times that stand still for as long as the clock is behind.
func TestLogClockGoesBack(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	b.clock += 90 * second
	b.must(l.Add(lockLeaf()))
	for _, back := range []time.Duration{80 * second, 0, -5 * second, math.MinInt64} {
		b.clock = back
		b.must(l.Add(lockLeaf()), l.Checkpoint(nil))
	}
	b.clock = 96 * second
	b.must(l.Add(lockLeaf()), l.Checkpoint(nil))
	var times []int64
	for _, leaf := range b.leaves() {
		e, err := leaf.Entry()
		b.must(err)
		times = append(times, e.Time())
	}
	if want := []int64{5e6, 95e6, 95e6, 95e6, 95e6, 95e6, 95e6, 96e6}; !slices.Equal(times, want) {
		t.Errorf("times %v, want %v", times, want)
	}
	checkChain(b)
}

// TestLogStartsBelowZero wants a clock that is wrong from the beginning to do no harm.
func TestLogStartsBelowZero(t *testing.T) {
	b := newBoard(t)
	b.clock = -3 * second
	l := b.start()
	b.clock = second
	b.must(l.Add(lockLeaf()), l.Checkpoint(nil))
	checkChain(b)
}

// TestLogAddDoesNoIO wants no call of the Store but from Sync and Checkpoint.
func TestLogAddDoesNoIO(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	b.must(l.Add(lockLeaf()), l.Add(keyLeaf("F00000001")))
	b.clock += 200 * second
	b.must(l.Tick(), l.Add(openLeaf("F00000001", "T000001")))
	if len(b.store.calls) != 0 {
		t.Errorf("calls: %v", b.store.calls)
	}
	b.must(l.Sync())
	if want := []string{"append", "sync"}; !slices.Equal(b.store.calls, want) || l.Pending() {
		t.Errorf("calls %v, want %v; pending %v", b.store.calls, want, l.Pending())
	}
	b.must(l.Sync())
	if len(b.store.calls) != 2 {
		t.Errorf("calls with nothing pending: %v", b.store.calls[2:])
	}
}

// TestLogSyncFails wants the same bytes written again after a rewind, and leaves that came in
// between behind them.
func TestLogSyncFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail map[string]int
		want []string // calls of all Syncs
	}{
		{"append", map[string]int{"append": 1}, []string{"append", "rewind", "append", "sync"}},
		{"sync", map[string]int{"sync": 1}, []string{"append", "sync", "rewind", "append", "sync"}},
		{"sync twice", map[string]int{"sync": 2}, []string{"append", "sync", "rewind", "append", "sync", "rewind", "append", "sync"}},
		{"sync and rewind", map[string]int{"sync": 1, "rewind": 2}, []string{"append", "sync", "rewind", "rewind", "rewind", "append", "sync"}},
		{"all", map[string]int{"append": 1, "rewind": 1, "sync": 1}, []string{"append", "rewind", "rewind", "append", "sync", "rewind", "append", "sync"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(t)
			l := b.start()
			b.must(l.Checkpoint(nil))
			first := bytes.Clone(b.store.log)
			b.store.calls, b.store.fail = nil, tt.fail
			b.must(l.Add(lockLeaf()), l.Add(keyLeaf("F00000001")))
			var tail []byte
			for l.Sync() != nil {
				if !l.Pending() {
					t.Fatal("a Sync that failed leaves nothing pending")
				}
				if tail == nil {
					tail = bytes.Clone(b.store.log[len(first):])
				}
				b.must(l.Add(lockLeaf()))
			}
			if !slices.Equal(b.store.calls, tt.want) {
				t.Errorf("calls %v, want %v", b.store.calls, tt.want)
			}
			if !bytes.HasPrefix(b.store.log, first) || !bytes.HasPrefix(b.store.log[len(first):], tail) {
				t.Error("other bytes were written the second time")
			}
			b.must(l.Checkpoint(nil))
			checkChain(b)
			if n := int64(len(b.leaves())); n != l.Size() {
				t.Errorf("%d leaves in the file, %d in the log", n, l.Size())
			}
		})
	}
}

// TestLogSyncErrorKept wants the Store's error to be seen, and no checkpoint of what is not
// durable.
func TestLogSyncErrorKept(t *testing.T) {
	for _, op := range []string{"append", "sync", "rewind"} {
		b := newBoard(t)
		l := b.start()
		if op == "rewind" {
			b.store.fail["sync"] = 1
			if err := l.Sync(); !errors.Is(err, errMedium) {
				t.Errorf("sync: %v", err)
			}
		}
		b.store.fail[op] = 1
		if err := l.Checkpoint(nil); !errors.Is(err, errMedium) {
			t.Errorf("%s: %v", op, err)
		}
		if b.store.slots[0] != nil || b.store.slots[1] != nil {
			t.Errorf("%s: a checkpoint was written", op)
		}
	}
}

// TestLogSlotsByTurns wants each checkpoint in the slot that does not hold the newest one, over
// a start too.
func TestLogSlotsByTurns(t *testing.T) {
	b := newBoard(t)
	var turns []string
	for range 3 {
		l := b.start()
		for range 3 {
			b.clock += second
			b.must(l.Checkpoint(nil))
		}
		for _, c := range b.store.calls {
			if strings.HasPrefix(c, "slot") {
				turns = append(turns, c)
			}
		}
		b.store.cut()
	}
	for i, c := range turns {
		if c != slotOps[i%2] {
			t.Fatalf("slots were written in the order %v", turns)
		}
	}
	checkChain(b)
}

// TestLogSlotFails wants the slot that failed tried again, and the good one left alone.
func TestLogSlotFails(t *testing.T) {
	for _, fails := range []int{1, 2, 5} {
		b := newBoard(t)
		l := b.start()
		b.must(l.Checkpoint(nil)) // A
		good := bytes.Clone(b.store.slots[0])
		b.store.fail[slotOps[1]] = fails
		for range fails {
			if err := l.Checkpoint(nil); !errors.Is(err, errMedium) {
				t.Fatal(err)
			}
			if !bytes.Equal(b.store.slots[0], good) {
				t.Fatal("the good slot was written")
			}
		}
		b.must(l.Add(lockLeaf()), l.Checkpoint(nil))
		if b.checkpoint(1).Size != 2 || !bytes.Equal(b.store.slots[0], good) {
			t.Error("the checkpoint after the failures is not in the slot that failed")
		}
		b.must(l.Checkpoint(nil))
		if bytes.Equal(b.store.slots[0], good) {
			t.Error("the slots do not take turns any more")
		}
	}
}

// TestLogFirstSlotFails wants the first slot tried again where there is no good one.
func TestLogFirstSlotFails(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	b.store.fail[slotOps[0]] = 2
	for range 2 {
		if err := l.Checkpoint(nil); !errors.Is(err, errMedium) {
			t.Fatal(err)
		}
	}
	b.must(l.Checkpoint(nil))
	if b.checkpoint(0).Size != 1 || b.store.slots[1] != nil {
		t.Error("the first checkpoint is not in slot A")
	}
}

func TestLogRefusesLeaves(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	b.must(l.Checkpoint(nil))
	for name, tt := range map[string]struct {
		e    custody.Entry
		want error
	}{
		"B":             {&custody.Boot{}, custody.ErrKind},
		"E":             {&custody.Epoch{}, custody.ErrKind},
		"breaks a rule": {openLeaf("F00000001", "T1"), custody.ErrLeaf},
	} {
		if err := l.Add(tt.e); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.Pending() || l.Size() != 1 {
		t.Errorf("a leaf that was refused is there: %d leaves", l.Size())
	}
	if err := l.Checkpoint(make([]custody.OpenFile, 65)); !errors.Is(err, custody.ErrCheckpoint) {
		t.Errorf("65 open files: %v", err)
	}
	b.must(l.Checkpoint(nil))
}

// TestLogCheckpointSortsOpen wants one form, whatever order the caller has.
func TestLogCheckpointSortsOpen(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	h := make([]byte, 32)
	open := []custody.OpenFile{{"G00000002", "T000001.open.age", 0, h}, {"F00000001", "V000001.open.age", 0, h}, {"F00000001", "T000009.open.age", 0, h}}
	given := slices.Clone(open)
	b.must(l.Checkpoint(open))
	if open[0].Record != given[0].Record {
		t.Error("the caller's list was sorted")
	}
	if got := b.checkpoint(0).Open; got[0].Name != "T000009.open.age" || got[1].Name != "V000001.open.age" || got[2].Record != "G00000002" {
		t.Errorf("open lines: %+v", got)
	}
}

// TestLogManyRecords wants checkpoints although more names are there than one has room for.
func TestLogManyRecords(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	for i := range 300 {
		name := recordName('G', i+1)
		b.must(l.Add(keyLeaf(name)), l.Add(endLeaf(name, 1)), l.Add(deletedLeaf(name)))
	}
	if n := len(l.Deleting()); n != 300 {
		t.Errorf("%d records are being deleted", n)
	}
	b.must(l.Checkpoint(nil))
	if d := b.checkpoint(0).Deleting; len(d) != 255 || d[254] != "G00000300" {
		t.Errorf("%d names in the checkpoint, the last is %s", len(d), d[len(d)-1])
	}
	for i := range 300 {
		l.Gone(recordName('G', i+1))
	}
	b.must(l.Checkpoint(nil))
	if d := b.checkpoint(1).Deleting; len(d) != 0 {
		t.Errorf("still being deleted: %v", d)
	}
}

func TestLogFull(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	big := keyLeaf("F00000001").(*custody.FlightKey)
	big.Files[0].Data = make([]byte, 700_000)
	n := 0
	for ; n < 100; n++ {
		if err := l.Add(big); err != nil {
			if !errors.Is(err, custody.ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if n < 10 || n > 20 {
		t.Errorf("%d leaves of 1 MB were taken", n)
	}
	b.must(l.Sync(), l.Add(big), l.Checkpoint(nil))
	if l.Size() != int64(n+2) {
		t.Errorf("%d leaves, want %d", l.Size(), n+2)
	}
	if st := b.load(); st.Frontier.Size() != l.Size() || st.Torn != 0 {
		t.Errorf("%d leaves on the medium, %d bytes torn", st.Frontier.Size(), st.Torn)
	}
}

func TestLogClosed(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	b.must(l.Checkpoint(nil))
	l.Close()
	l.Close()
	for name, err := range map[string]error{"Add": l.Add(lockLeaf()), "Tick": l.Tick(), "Sync": l.Sync(), "Checkpoint": l.Checkpoint(nil)} {
		if !errors.Is(err, custody.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLogNoRandomness wants no leaf, and nothing broken, where no key can be made.
func TestLogNoRandomness(t *testing.T) {
	b := newBoard(t)
	good := b.rand
	b.rand = iotest.ErrReader(errMedium)
	if _, err := custody.NewLog(b.config(), b.load()); !errors.Is(err, errMedium) {
		t.Errorf("new log: %v", err)
	}
	b.rand = good
	fails := false
	b.rand = readerFunc(func(p []byte) (int, error) {
		if fails {
			return 0, errMedium
		}
		return good.Read(p)
	})
	l := b.start()
	b.clock += 150 * second
	fails = true
	if err := l.Add(lockLeaf()); !errors.Is(err, errMedium) || l.Size() != 1 {
		t.Errorf("add: %v, %d leaves", err, l.Size())
	}
	fails = false
	b.must(l.Add(lockLeaf()), l.Checkpoint(nil))
	if b.kinds() != "BEEL" {
		t.Errorf("leaves %s", b.kinds())
	}
	checkChain(b)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestNewLogWantsItsDevice(t *testing.T) {
	b := newBoard(t)
	cfg := b.config()
	cfg.Device = "00000000"
	if _, err := custody.NewLog(cfg, b.load()); err == nil {
		t.Error("a key of another device was taken")
	}
	cfg = b.config()
	cfg.DeviceKey = failingSigner{b.signer()}
	if _, err := custody.NewLog(cfg, b.load()); !errors.Is(err, errMedium) {
		t.Errorf("a device key that fails: %v", err)
	}
}

type failingSigner struct{ noteSigner }

type noteSigner interface {
	Name() string
	KeyHash() uint32
	Sign([]byte) ([]byte, error)
}

func (failingSigner) Sign([]byte) ([]byte, error) { return nil, errMedium }
