package segment_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"holdfast/storage/segment"
)

// few asks for a small share of the cases.
var few = false

// found collects what a Decoder hands out, one item a call.
type found struct {
	items []item
	fail  error // returned by every call where set
}

type item struct {
	meta  string // JSON
	data  string
	part  bool
	noise *segment.NoiseRun
	sent  *segment.SentRun
}

func (i item) String() string {
	switch {
	case i.sent != nil:
		return fmt.Sprintf("sent %d by %d: %d", len(i.sent.Data), i.sent.Origin, i.sent.Outcome)
	case i.noise != nil:
		return fmt.Sprintf("noise %d at %d", len(i.noise.Data), i.noise.Offset)
	case i.meta != "":
		return "meta " + i.meta
	}
	return fmt.Sprintf("data %d part=%v", len(i.data), i.part)
}

func (f *found) Meta(m *segment.Meta) error {
	p, err := json.Marshal(m)
	f.items = append(f.items, item{meta: string(p)})
	return errors.Join(err, f.fail)
}

func (f *found) Data(entries []byte, part bool) error {
	f.items = append(f.items, item{data: string(entries), part: part})
	return f.fail
}

func (f *found) Noise(r segment.NoiseRun) error {
	r.Data = append([]byte{}, r.Data...)
	f.items = append(f.items, item{noise: &r})
	return f.fail
}

func (f *found) Sent(r segment.SentRun) error {
	r.Data = append([]byte{}, r.Data...)
	f.items = append(f.items, item{sent: &r})
	return f.fail
}

// decode feeds the pieces, with a hole where one is nil.
func decode(t testing.TB, pieces ...[]byte) (*found, segment.Stats) {
	t.Helper()
	f := &found{}
	d, err := segment.NewDecoder(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pieces {
		if p == nil {
			err = d.Hole()
		} else {
			err = d.Feed(p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stats, err := d.End()
	if err != nil {
		t.Fatal(err)
	}
	return f, stats
}

func encoder(t testing.TB) *segment.Encoder {
	t.Helper()
	e, err := segment.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func encode(t testing.TB, blocks ...segment.Block) []byte {
	t.Helper()
	e := encoder(t)
	var p []byte
	for i := range blocks {
		var err error
		if p, err = e.Append(p, &blocks[i]); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// tlogData makes about size bytes of .tlog entries as a vehicle sends them: attitude, position
// and servo messages whose values move slowly, at 25 Hz.
func tlogData(size int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var p []byte
	for i := 0; len(p) < size; i++ {
		stamp := 1_700_000_000_000_000 + uint64(i)*13_333
		payload := make([]byte, 0, 40)
		payload = binary.LittleEndian.AppendUint32(payload, uint32(i*13))
		for k := range 6 {
			v := float32(math.Sin(float64(i)/90+float64(k))) + float32(rng.NormFloat64()/500)
			payload = binary.LittleEndian.AppendUint32(payload, math.Float32bits(v))
		}
		p = binary.BigEndian.AppendUint64(p, stamp)
		p = append(p, 0xFD, byte(len(payload)), 0, 0, byte(i), 1, 1, byte(30+i%3), 0, 0)
		p = append(p, payload...)
		p = binary.LittleEndian.AppendUint16(p, uint16(rng.Uint32()))
	}
	return p
}

// zstdRaw is a zstd frame of one stored block, written by hand.
func zstdRaw(content string) []byte {
	p := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x20, byte(len(content))}
	p = append(p, byte(len(content)<<3)|1, byte(len(content)>>5), 0)
	return append(p, content...)
}

// skippable is a skippable frame written by hand; size may lie.
func skippable(magic uint32, size int, content string) []byte {
	p := binary.LittleEndian.AppendUint32(nil, magic)
	p = binary.LittleEndian.AppendUint32(p, uint32(size))
	return append(p, content...)
}

func meta(json string) []byte { return skippable(segment.MetaMagic, len(json), json) }

func join(parts ...[]byte) (p []byte) {
	for _, q := range parts {
		p = append(p, q...)
	}
	return p
}
