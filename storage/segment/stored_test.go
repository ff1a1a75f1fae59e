package segment_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"

	"holdfast/storage/segment"
)

// TestStored: entries that were not compressed are a zstd frame that any decoder reads, ours
// among them, at each length around that of a block.
func TestStored(t *testing.T) {
	enc, err := segment.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	stock, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stock.Close()
	random := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{1, 9, 1000, 128<<10 - 1, 128 << 10, 128<<10 + 1, 256 << 10, 300_000} {
		data := make([]byte, n)
		random.Read(data)
		p, err := enc.Append(nil, &segment.Block{Data: data, Stored: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := stock.DecodeAll(p, nil)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %d come back, %v", n, len(got), err)
		}
		if over := len(p) - n; over > 200 {
			t.Errorf("%d bytes take %d more", n, over)
		}
		h := &taker{}
		d, err := segment.NewDecoder(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range p { // byte by byte
			if err := d.Feed([]byte{b}); err != nil {
				t.Fatal(err)
			}
			if n > 2000 {
				break
			}
		}
		if n > 2000 {
			if err := d.Feed(p[1:]); err != nil {
				t.Fatal(err)
			}
		}
		if stats, err := d.End(); err != nil || stats != (segment.Stats{Blocks: 1}) {
			t.Errorf("%d bytes: %+v, %v", n, stats, err)
		}
		if !bytes.Equal(h.data, data) {
			t.Errorf("%d bytes: the decoder gives %d", n, len(h.data))
		}
	}
}

// taker keeps the entries.
type taker struct{ data []byte }

func (k *taker) Meta(*segment.Meta) error { return nil }
func (k *taker) Data(p []byte, _ bool) error {
	k.data = append(k.data, p...)
	return nil
}
func (k *taker) Noise(segment.NoiseRun) error { return nil }
