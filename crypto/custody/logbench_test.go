package custody_test

import (
	"bytes"
	"testing"
	"time"

	"holdfast/crypto/custody"
)

// quietStore takes everything and keeps nothing, so that the log's own cost is measured.
type quietStore struct{}

func (quietStore) Append([]byte) error       { return nil }
func (quietStore) Sync() error               { return nil }
func (quietStore) Rewind(int64) error        { return nil }
func (quietStore) PutSlot(int, []byte) error { return nil }

func benchLog(b *testing.B) (*board, *custody.Log) {
	n := newBoard(b)
	cfg := n.config()
	cfg.Store = quietStore{}
	l, err := custody.NewLog(cfg, n.load())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return n, l
}

// BenchmarkLog measures what a leaf, a checkpoint and the end of an epoch cost without a medium.
func BenchmarkLog(b *testing.B) {
	b.Run("add-sync", func(b *testing.B) {
		_, l := benchLog(b)
		leaf := closeLeaf("F00000001", "T000001")
		for b.Loop() {
			if err := l.Add(leaf); err != nil {
				b.Fatal(err)
			}
			if err := l.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("checkpoint", func(b *testing.B) {
		n, l := benchLog(b)
		n.must(l.Add(keyLeaf("F00000001")))
		open := []custody.OpenFile{{Record: "F00000001", Name: "T000001.open.age", Bytes: 65_752, SHA256: bytes.Repeat([]byte{1}, 32)}}
		for b.Loop() {
			if err := l.Checkpoint(open); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("epoch", func(b *testing.B) {
		n, l := benchLog(b)
		for b.Loop() {
			n.clock += time.Minute
			if err := l.Tick(); err != nil {
				b.Fatal(err)
			}
			if err := l.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLoad reads a log of 10,000 leaves: with a checkpoint that counts all, and with none.
func BenchmarkLoad(b *testing.B) {
	n := newBoard(b)
	l := n.start()
	n.must(l.Checkpoint(nil))
	for i := range 2500 {
		name := recordName('F', i+1)
		n.must(l.Add(keyLeaf(name)), l.Add(openLeaf(name, "T000001")), l.Add(closeLeaf(name, "T000001")), l.Add(endLeaf(name, 1)))
	}
	n.must(l.Checkpoint(nil))
	slots := n.store.slots
	for name, s := range map[string][2][]byte{"checkpoint": slots, "none": {}} {
		b.Run(name, func(b *testing.B) {
			n.store.slots = s
			for b.Loop() {
				n.load()
			}
			b.ReportMetric(float64(n.read), "bytes-read")
		})
	}
}
