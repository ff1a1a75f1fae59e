package custody_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/crypto/custody"
)

// TestLogCuts adds, syncs and checkpoints at random while the Store fails at random, cuts the
// power and goes on. Nothing that was synced may be lost, and a verifier must call what it finds
// cut at worst.
func TestLogCuts(t *testing.T) {
	for seed := range uint64(5) {
		b := newBoard(t)
		r := rand.New(rand.NewPCG(seed, 3))
		for range 8 {
			l := b.start()
			for _, record := range l.Live() {
				b.must(l.Add(&custody.Recovered{Record: record, Files: []custody.File{}}))
			}
			b.must(l.Add(lockLeaf()))
			for range r.IntN(40) {
				randomStep(b, l, r)
			}
			durable, size := bytes.Clone(b.store.log[:b.store.durable]), b.store.durable
			b.store.cut()
			// Some of what was not synced may be there all the same, whole or not.
			b.store.log = append(b.store.log, make([]byte, r.IntN(20))...)
			st := b.load()
			if st.Bytes != int64(size) || st.Lost || !bytes.Equal(b.store.log[:st.Bytes], durable) {
				t.Fatalf("seed %d: %d good bytes of %d that were synced, lost %v", seed, st.Bytes, size, st.Lost)
			}
			if st.Slots == custody.SlotsBad {
				t.Fatalf("seed %d: no good slot", seed)
			}
			b.verify()
			b.store.log = b.store.log[:size]
			checkChain(b)
			b.clock = time.Duration(r.IntN(10)) * second
		}
	}
}

// verify holds the medium against a verifier. The folders of all records are there, with no
// segment in them.
func (b *board) verify() {
	b.t.Helper()
	files := fstest.MapFS{
		"LOG/device.pub": {Data: []byte(b.key.Verifier() + "\n")},
		"LOG/log.bin":    {Data: b.store.log},
	}
	for i, name := range []string{"LOG/cp.A", "LOG/cp.B"} {
		if b.store.slots[i] != nil {
			files[name] = &fstest.MapFile{Data: b.store.slots[i]}
		}
	}
	for i := range b.load().Next - 1 {
		record := recordName('F', int(i)+1)
		files[record+"/flight.key.age"] = &fstest.MapFile{Data: []byte("wrapped")}
		files[record+"/flight.pub"] = &fstest.MapFile{Data: []byte("age1pq1xyz\n")}
	}
	report, err := custody.Verify(files, custody.Options{Device: b.key.ID(), DeviceKey: b.key.Verifier()})
	b.must(err)
	if !slices.Contains([]custody.Verdict{custody.VerdictClean, custody.VerdictCut}, report.State) {
		b.t.Errorf("verified: %s, leaves %s", report.State, b.kindsOfWhole())
		for _, f := range report.Findings {
			b.t.Errorf("%+v", f)
		}
		for _, r := range report.Records {
			b.t.Logf("%+v", r)
		}
	}
}

// kindsOfWhole are the letters of the whole leaves in log.bin.
func (b *board) kindsOfWhole() string {
	var kinds []byte
	for r := custody.NewReader(bytes.NewReader(b.store.log)); ; {
		l, err := r.Next()
		if err != nil {
			return string(kinds)
		}
		kinds = append(kinds, byte(l.Kind))
	}
}

// randomStep does one thing.
func randomStep(b *board, l *custody.Log, r *rand.Rand) {
	b.clock += time.Duration(r.IntN(20_000)) * time.Millisecond
	for _, op := range []string{"append", "sync", "rewind", slotOps[0], slotOps[1]} {
		b.store.fail[op] = max(0, r.IntN(12)-10)
	}
	switch r.IntN(6) {
	case 0:
		b.tolerate(l.Sync())
	case 1, 2:
		b.tolerate(l.Checkpoint(nil))
	case 3:
		// No record before the first checkpoint.
		if _, err := custody.ParseCheckpoint(b.store.slots[0]); err == nil {
			b.must(l.Add(keyLeaf(recordName('F', int(l.Next())))))
		}
	case 4:
		if live := l.Live(); len(live) > 0 {
			b.must(l.Add(&custody.Ended{Record: live[0], Segments: map[string]int64{}}))
		}
	default:
		b.must(l.Add(lockLeaf()))
	}
}

// tolerate takes the medium's error and no other.
func (b *board) tolerate(err error) {
	b.t.Helper()
	if err != nil && !errors.Is(err, errMedium) {
		b.t.Fatal(err)
	}
}

func recordName(kind byte, n int) string {
	digits := []byte("00000000")
	for i := 7; n > 0; i, n = i-1, n/10 {
		digits[i] += byte(n % 10)
	}
	return string(kind) + string(digits)
}
