package custody_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
)

var errMedium = errors.New("medium failed")

// fakeStore is a Store in memory. It tells what is durable from what was only written, fails
// when told to, and holds the Log to the contract of Store.
type fakeStore struct {
	t       testing.TB
	log     []byte // as written
	durable int    // bytes of log that a cut leaves
	slots   [2][]byte
	calls   []string
	fail    map[string]int // by operation, how many of the next calls fail
	broken  bool           // a failure that Rewind has not followed yet
}

func newStore(t testing.TB) *fakeStore { return &fakeStore{t: t, fail: map[string]int{}} }

// step notes a call and tells whether it is to fail.
func (s *fakeStore) step(op string) bool {
	s.calls = append(s.calls, op)
	if s.fail[op] == 0 {
		return false
	}
	s.fail[op]--
	return true
}

func (s *fakeStore) Append(p []byte) error {
	if s.broken {
		s.t.Error("Append after a failure and before Rewind")
	}
	if s.step("append") {
		s.broken = true
		s.log = append(s.log, p[:len(p)/2]...)
		return errMedium
	}
	s.log = append(s.log, p...)
	return nil
}

func (s *fakeStore) Sync() error {
	if s.broken {
		s.t.Error("Sync after a failure and before Rewind")
	}
	if s.step("sync") {
		s.broken = true
		return errMedium
	}
	s.durable = len(s.log)
	return nil
}

func (s *fakeStore) Rewind(size int64) error {
	if !s.broken {
		s.t.Error("Rewind without a failure before")
	}
	if size != int64(s.durable) {
		s.t.Errorf("Rewind to %d, the last good Sync covered %d", size, s.durable)
	}
	if s.step("rewind") {
		return errMedium
	}
	s.log, s.broken = s.log[:size], false
	return nil
}

var slotOps = [2]string{"slot A", "slot B"}

func (s *fakeStore) PutSlot(slot int, p []byte) error {
	if s.durable != len(s.log) {
		s.t.Error("PutSlot while leaves are not synced")
	}
	if s.step(slotOps[slot]) {
		s.slots[slot] = slices.Concat(p[:len(p)/2], bytes.Repeat([]byte{0}, len(p)/2))
		return errMedium
	}
	s.slots[slot] = slices.Clone(p)
	return nil
}

// cut leaves what is durable.
func (s *fakeStore) cut() {
	s.log, s.broken, s.calls = s.log[:s.durable:s.durable], false, nil
	clear(s.fail)
}

// board is a device with its medium and its clock.
type board struct {
	t     testing.TB
	key   *keys.DeviceKey
	store *fakeStore
	clock time.Duration
	rand  io.Reader
	read  int64 // bytes that the last load took from log.bin
}

func newBoard(t testing.TB) *board {
	t.Helper()
	key, err := newDeviceKey(7)
	if err != nil {
		t.Fatal(err)
	}
	return &board{t: t, key: key, store: newStore(t), clock: 5 * time.Second, rand: rand.Reader}
}

func newDeviceKey(seed byte) (*keys.DeviceKey, error) {
	return keys.NewDeviceKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
}

// publicOf returns the public key of a key that note.GenerateKey made.
func publicOf(t testing.TB, skey string) ed25519.PublicKey {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(skey, "+", 5)[4])
	if err != nil {
		t.Fatal(err)
	}
	return ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
}

func (b *board) signer() note.Signer {
	s, err := b.key.Signer()
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// load reads what the medium holds.
func (b *board) load() *custody.State {
	b.t.Helper()
	b.read = 0
	st, err := custody.Load(b.key.ID(), b.store.slots, int64(len(b.store.log)), func(at int64) (io.Reader, error) {
		return &countingReader{bytes.NewReader(b.store.log[at:]), &b.read}, nil
	})
	if err != nil {
		b.t.Fatalf("load: %v", err)
	}
	return st
}

type countingReader struct {
	r io.Reader
	n *int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// start is what a recorder does first: load, cut the log, begin a boot.
func (b *board) start() *custody.Log {
	b.t.Helper()
	st := b.load()
	b.store.log = b.store.log[:st.Bytes]
	b.store.durable = len(b.store.log)
	l, err := custody.NewLog(b.config(), st)
	if err != nil {
		b.t.Fatalf("new log: %v", err)
	}
	return l
}

func (b *board) config() custody.Config {
	return custody.Config{
		Device: b.key.ID(), DeviceKey: b.signer(), Store: b.store, Rand: b.rand,
		Now: func() time.Duration { return b.clock },
	}
}

// must fails the test at the first error.
func (b *board) must(errs ...error) {
	b.t.Helper()
	for _, err := range errs {
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// leaves returns what stands in log.bin.
func (b *board) leaves() []custody.Leaf {
	b.t.Helper()
	var leaves []custody.Leaf
	r := custody.NewReader(bytes.NewReader(b.store.log))
	for {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			return leaves
		}
		b.must(err)
		leaves = append(leaves, l)
	}
}

// kinds returns the letters of the leaves in log.bin.
func (b *board) kinds() string {
	var s []byte
	for _, l := range b.leaves() {
		s = append(s, byte(l.Kind))
	}
	return string(s)
}

func (b *board) checkpoint(slot int) *custody.Checkpoint {
	b.t.Helper()
	c, err := custody.ParseCheckpoint(b.store.slots[slot])
	b.must(err)
	return c
}

// The leaves of a short flight.

func lockLeaf() custody.Entry { return &custody.Lock{Grade: "A", Lock: "locked", Refused: 2} }

func keyLeaf(record string) custody.Entry {
	return &custody.FlightKey{
		Files: []custody.KeyFile{{Data: []byte("wrapped"), Name: "flight.key.age"}},
		Policy: custody.Policy{
			FlushArmedUsec: 200_000, FlushIdleUsec: 900_000, Record: "always", WhenFull: "stop",
		},
		Pub:        "age1pq1xyz",
		Recipients: []string{custody.Fingerprint(make([]byte, custody.SaltSize), "age1xyz")},
		Record:     record,
	}
}

func openLeaf(record, segment string) custody.Entry {
	return &custody.Opened{Record: record, Segment: segment}
}

func closeLeaf(record, segment string) custody.Entry {
	return &custody.Closed{
		Record: record, Segment: segment, Frames: 100, From: 1, To: 2, Size: 70_000, SHA256: bytes.Repeat([]byte{3}, 32),
	}
}

func endLeaf(record string, segments int64) custody.Entry {
	return &custody.Ended{Record: record, Segments: map[string]int64{"T": segments}}
}

func deletedLeaf(record string) custody.Entry {
	return &custody.Lost{Record: record, Why: custody.WhyDeleted}
}

func undoneLeaf(record, segment string) custody.Entry {
	return &custody.Lost{Record: record, Segment: segment, Why: custody.WhyUndone}
}

func recoveredLeaf(record string) custody.Entry {
	return &custody.Recovered{Record: record, Files: []custody.File{
		{Name: "T000001.age", SHA256: bytes.Repeat([]byte{5}, 32), Size: 70_000},
		{Name: "T000002.open.age", SHA256: bytes.Repeat([]byte{6}, 32), Size: 65_752},
	}}
}
