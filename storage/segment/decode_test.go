package segment_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"holdfast/storage/segment"
)

// sample is a segment of several flushes with all there is in it.
func sample(t testing.TB) []byte {
	pad := skippable(segment.PadMagic, 500, strings.Repeat("\x00", 500))
	return join(
		encode(t, full), pad,
		encode(t, segment.Block{Meta: segment.Meta{Block: 8}, Data: tlogData(5 << 10), Noise: full.Noise}), pad,
		encode(t, segment.Block{Meta: segment.Meta{Block: 9}, Data: tlogData(3000)}), pad,
	)
}

// broken are inputs that no encoder makes.
func broken(t testing.TB) map[string][]byte {
	good := sample(t)
	rle := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x50} // window of 1 MiB, no content size
	for range 1 << 10 {
		rle = append(rle, 0x02, 0x00, 0x10, 'x') // 128 KiB of x
	}
	rle = append(rle, 0x01, 0, 0)
	size := func(flag byte, width int, n uint64) []byte {
		p := binary.LittleEndian.AppendUint64([]byte{0x28, 0xB5, 0x2F, 0xFD, flag}, n)
		return append(p[:5+width], 0x01, 0, 0)
	}
	return map[string][]byte{
		"noise":                      []byte("not a segment at all, and quite long for that"),
		"metadata length beyond":     skippable(segment.MetaMagic, segment.MaxMeta+1, "{}"),
		"metadata length -1":         skippable(segment.MetaMagic, -1, "{}"),
		"noise length beyond":        skippable(segment.NoiseMagic, segment.MaxNoise+1, ""),
		"padding length beyond":      skippable(segment.PadMagic, segment.MaxPad+1, ""),
		"noise run longer":           skippable(segment.NoiseMagic, 22, strings.Repeat("\xFF", 22)),
		"noise run cut":              skippable(segment.NoiseMagic, 3, "abc"),
		"sent length beyond":         skippable(segment.SentMagic, segment.MaxSent+1, ""),
		"sent run longer":            skippable(segment.SentMagic, 15, strings.Repeat("\xFF", 15)),
		"sent run cut":               skippable(segment.SentMagic, 3, "abc"),
		"unknown skippable":          skippable(0x184D2A53, 4, "abcd"),
		"metadata is no JSON":        meta("{]}"),
		"metadata of the wrong type": meta(`{"block":"x"}`),
		"metadata nested":            meta(strings.Repeat("[", 20_000)),
		"zstd content size huge":     size(0xE0, 8, 1<<62),
		"zstd content size 1 GiB":    size(0xA0, 4, 1<<30),
		"zstd window huge":           {0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xFF, 0x01, 0, 0},
		"zstd with dictionary":       {0x28, 0xB5, 0x2F, 0xFD, 0x21, 7, 0, 0x01, 0, 0},
		"zstd reserved bit":          {0x28, 0xB5, 0x2F, 0xFD, 0x28, 0, 0x01, 0, 0},
		"zstd reserved block":        {0x28, 0xB5, 0x2F, 0xFD, 0x20, 0, 0x07, 0, 0},
		"zstd compressed garbage":    {0x28, 0xB5, 0x2F, 0xFD, 0x20, 9, 0x05 | 8<<3, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8},
		"zstd RLE bomb":              rle,
		"middle of a segment":        good[100:],
	}
}

func TestPieces(t *testing.T) {
	inputs := broken(t)
	inputs["sample"] = sample(t)
	for name, raw := range inputs {
		if few && len(raw) > 10_000 {
			continue
		}
		want, wantStats := decode(t, raw)
		rng := rand.New(rand.NewPCG(1, 1))
		for round := range 8 {
			most := []int{1, 3, 100, 5000}[round%4]
			if round > 0 && most < 100 && len(raw) > 5000 {
				continue
			}
			var pieces [][]byte
			for rest := raw; len(rest) > 0; {
				n := min(1+rng.IntN(most), len(rest))
				pieces, rest = append(pieces, rest[:n]), rest[n:]
			}
			got, stats := decode(t, pieces...)
			if !reflect.DeepEqual(got.items, want.items) || stats != wantStats {
				t.Fatalf("%s in pieces of up to %d: %v %+v, want %v %+v", name, most, got.items, stats, want.items, wantStats)
			}
		}
	}
}

// TestCutAnywhere cuts a segment at every byte: what is whole comes out as in the whole
// segment, and a last item may be a part.
func TestCutAnywhere(t *testing.T) {
	raw := sample(t)
	want, _ := decode(t, raw)
	step := 1
	if few || testing.Short() {
		step = 11
	}
	for n := 0; n < len(raw); n += step {
		got, stats := decode(t, raw[:n])
		if stats.BadFrames > 0 || stats.CutFrames > 1 {
			t.Fatalf("cut at %d: %+v", n, stats)
		}
		last := len(got.items) - 1
		if last >= 0 && got.items[last].part {
			if w := want.items[last]; !strings.HasPrefix(w.data, got.items[last].data) {
				t.Fatalf("cut at %d: the part is no beginning", n)
			}
			got.items = got.items[:last]
		}
		if len(got.items) > 0 && !reflect.DeepEqual(got.items, want.items[:len(got.items)]) {
			t.Fatalf("cut at %d: %v, want the beginning of %v", n, got.items, want.items)
		}
	}
}

// TestCutFrame: the zstd blocks before a cut come out.
func TestCutFrame(t *testing.T) {
	data := make([]byte, 500<<10) // stored, so that blocks have their full size
	rand.NewChaCha8([32]byte{2}).Read(data)
	raw := encode(t, segment.Block{Data: data})
	for _, share := range []int{0, 10, 30, 60, 90, 99, 100} {
		cut := raw[:len(raw)*share/100]
		if share == 100 {
			cut = raw[:len(raw)-1] // a byte of the checksum is missing
		}
		for _, pieces := range [][][]byte{{cut}, {cut, nil}, {cut, nil, encode(t, full)}} {
			got, stats := decode(t, pieces...)
			var part string
			for _, i := range got.items {
				if i.part {
					part += i.data
				}
			}
			// The frame holds blocks of at most 128 KiB; the one that was cut is lost.
			if len(part) < len(cut)-(128<<10)-300 || !strings.HasPrefix(string(data), part) {
				t.Errorf("%d %%: %d of %d bytes", share, len(part), len(cut))
			}
			if share > 0 && stats.CutFrames != 1 || stats.BadFrames != 0 {
				t.Errorf("%d %%: %+v", share, stats)
			}
		}
	}
}

// TestHole takes a range out of a segment at many places: every block that lies behind the
// range, and every one before it, comes out whole.
func TestHole(t *testing.T) {
	var blocks [][]byte
	var raw []byte
	for i := range 12 {
		b := encode(t, segment.Block{Meta: segment.Meta{Block: uint64(i)}, Data: tlogData(2000 + i), Noise: full.Noise})
		blocks = append(blocks, b)
		raw = append(raw, b...)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for range 400 {
		from := rng.IntN(len(raw))
		to := min(len(raw), from+1+rng.IntN(3000))
		got, stats := decode(t, raw[:from:from], nil, raw[to:])
		at := 0
		for i, b := range blocks {
			if at+len(b) <= from || at >= to {
				if !hasBlock(got.items, i) {
					t.Fatalf("without %d to %d: block %d is missing; %+v", from, to, i, stats)
				}
			}
			at += len(b)
		}
		if stats.BadFrames > 0 {
			t.Fatalf("without %d to %d: %+v", from, to, stats)
		}
	}
}

// hasBlock tells whether metadata, entries and noise of block i follow each other.
func hasBlock(items []item, i int) bool {
	m := fmt.Sprintf(`{"block":%d,`, i)
	for k := range items {
		if strings.HasPrefix(items[k].meta, m) {
			return k+2 < len(items) && items[k+1].data == string(tlogData(2000+i)) && !items[k+1].part && items[k+2].noise != nil
		}
	}
	return false
}

// TestHostile: nothing that no encoder makes stops the decoder, and it finds the next block.
func TestHostile(t *testing.T) {
	for name, bad := range broken(t) {
		t.Run(name, func(t *testing.T) {
			raw := join(encode(t, segment.Block{Data: []byte("before")}), bad, encode(t, segment.Block{Meta: segment.Meta{Block: 99}, Data: []byte("after")}))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, stats := decode(t, raw)
			runtime.ReadMemStats(&after)
			if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 100 {
				t.Errorf("%d MiB allocated for %d bytes of input", n, len(bad))
			}
			last := len(got.items) - 1
			if last < 3 || !strings.HasPrefix(got.items[last-1].meta, `{"block":99,`) || got.items[last].data != "after" {
				t.Fatalf("%v: the block behind it is missing; %+v", got.items, stats)
			}
			if stats.SkippedBytes == 0 {
				t.Errorf("nothing was counted: %+v", stats)
			}
			for _, i := range got.items {
				if len(i.data) > segment.MaxFrame {
					t.Errorf("%d bytes handed out", len(i.data))
				}
			}
		})
	}
}

// TestHostileCut: the beginning of a bomb that is cut is bounded too.
func TestHostileCut(t *testing.T) {
	for name, bad := range broken(t) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, _ := decode(t, encode(t, segment.Block{}), bad[:len(bad)-1])
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 200 {
			t.Errorf("%s: %d MiB allocated", name, n)
		}
		for _, i := range got.items {
			if len(i.data) > segment.MaxFrame {
				t.Errorf("%s: %d bytes handed out", name, len(i.data))
			}
		}
	}
}

// TestBadZstdFrames: a whole zstd frame that cannot be decoded costs itself alone, whatever is
// wrong with it. Some make zstd say "unexpected EOF", which must not be taken for a frame that
// has not come to its end yet.
func TestBadZstdFrames(t *testing.T) {
	tail := encode(t, segment.Block{Meta: segment.Meta{Block: 99}, Data: []byte("after")})
	check := func(what string, frame []byte) {
		t.Helper()
		got, stats := decode(t, encode(t, segment.Block{}), frame, tail)
		if n := len(got.items); n < 3 || got.items[n-1].data != "after" {
			t.Fatalf("%s: %x: the block behind it is missing; %+v", what, frame, stats)
		}
	}
	rng := rand.New(rand.NewPCG(5, 5))
	rounds := 3000
	if few || testing.Short() {
		rounds = 300
	}
	for range rounds {
		size := 1 + rng.IntN(12)
		frame := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x20, 40, 0x05 | byte(size<<3), 0, 0}
		for range size {
			frame = append(frame, byte(rng.Uint32()))
		}
		check("random block", frame)
	}
	good := encode(t, segment.Block{Data: tlogData(4000)})
	good = good[bytes.Index(good, []byte{0x28, 0xB5, 0x2F, 0xFD}):]
	for i := 10; i < len(good); i++ { // behind the header of the only block
		frame := bytes.Clone(good)
		frame[i] ^= 1 << rng.IntN(8)
		check(fmt.Sprintf("byte %d changed", i), frame)
	}
}

func FuzzDecode(f *testing.F) {
	for _, tt := range rawBytes {
		f.Add(tt.raw, uint16(3))
	}
	for _, raw := range broken(f) {
		f.Add(raw, uint16(100))
	}
	f.Add(sample(f), uint16(1000))
	tail := encode(f, segment.Block{Meta: segment.Meta{Block: 1<<64 - 1}, Data: []byte("after")})
	f.Fuzz(func(t *testing.T, raw []byte, at uint16) {
		whole, stats := decode(t, raw, nil, tail)
		for _, i := range whole.items {
			if len(i.data) > segment.MaxFrame {
				t.Fatalf("%d bytes of entries from %d", len(i.data), len(raw))
			}
		}
		if n := len(whole.items); n < 2 || whole.items[n-1].data != "after" {
			t.Fatalf("the block behind the hole is missing: %v", whole.items)
		}
		n := min(int(at), len(raw))
		pieces, again := decode(t, raw[:n:n], raw[n:], nil, tail)
		if !reflect.DeepEqual(pieces.items, whole.items) || stats != again {
			t.Fatalf("cut at %d: %v %+v, whole: %v %+v", n, pieces.items, again, whole.items, stats)
		}
	})
}

func TestNoise(t *testing.T) {
	runs := []segment.NoiseRun{
		{},
		{Offset: 1 << 40, StampUsec: 1 << 60, Link: 255, Reason: 255, Data: []byte("x")},
		{Data: bytes.Repeat([]byte{0x50}, 100_000)},
	}
	var p []byte
	for _, r := range runs {
		p = segment.AppendNoise(p, r)
	}
	for _, want := range runs {
		r, rest, err := segment.ParseNoise(p)
		if err != nil || r.Offset != want.Offset || r.StampUsec != want.StampUsec || r.Link != want.Link || r.Reason != want.Reason || !bytes.Equal(r.Data, want.Data) {
			t.Fatalf("got %+v, %v; want %+v", r, err, want)
		}
		p = rest
	}
	if len(p) != 0 {
		t.Errorf("%d bytes left", len(p))
	}
	for _, bad := range []string{"", "00", strings.Repeat("00", 21), strings.Repeat("00", 18) + "00000001", strings.Repeat("00", 18) + "ffffffff", strings.Repeat("00", 18) + "80000000aa"} {
		if r, _, err := segment.ParseNoise(unhex(bad)); err == nil {
			t.Errorf("%s parses as %+v", bad, r)
		}
	}
}

func FuzzParseNoise(f *testing.F) {
	f.Add(full.Noise)
	f.Add(segment.AppendNoise(segment.AppendNoise(nil, segment.NoiseRun{Offset: -1}), segment.NoiseRun{Data: []byte("ab")}))
	f.Add(unhex(strings.Repeat("00", 18) + "ffffffff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, rest, err := segment.ParseNoise(p)
		if err != nil {
			return
		}
		if again := append(segment.AppendNoise(nil, r), rest...); !bytes.Equal(again, p) {
			t.Fatalf("%x encodes to %x", p, again)
		}
	})
}

// TestSent: what AppendSent makes comes back, and nothing shorter does.
func TestSent(t *testing.T) {
	runs := []segment.SentRun{
		{},
		{StampUsec: 1 << 60, Link: 255, Origin: 254, Outcome: 253, Data: []byte("x")},
		{Data: bytes.Repeat([]byte{0xFD}, 100_000)},
	}
	var p []byte
	for _, r := range runs {
		p = segment.AppendSent(p, r)
	}
	for _, want := range runs {
		r, rest, err := segment.ParseSent(p)
		if err != nil || r.StampUsec != want.StampUsec || r.Link != want.Link || r.Origin != want.Origin || r.Outcome != want.Outcome || !bytes.Equal(r.Data, want.Data) {
			t.Fatalf("got %+v, %v; want %+v", r, err, want)
		}
		p = rest
	}
	if len(p) != 0 {
		t.Errorf("%d bytes left", len(p))
	}
	for _, bad := range []string{"", "00", strings.Repeat("00", 14), strings.Repeat("00", 11) + "00000001", strings.Repeat("00", 11) + "ffffffff", strings.Repeat("00", 11) + "80000000aa"} {
		if r, _, err := segment.ParseSent(unhex(bad)); err == nil {
			t.Errorf("%s parses as %+v", bad, r)
		}
	}
}

func FuzzParseSent(f *testing.F) {
	f.Add(full.Sent)
	f.Add(segment.AppendSent(nil, segment.SentRun{StampUsec: 1<<64 - 1, Outcome: 9, Data: []byte("ab")}))
	f.Add(unhex(strings.Repeat("00", 11) + "ffffffff"))
	f.Add(unhex(strings.Repeat("00", 14)))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, rest, err := segment.ParseSent(p)
		if err != nil {
			return
		}
		if again := append(segment.AppendSent(nil, r), rest...); !bytes.Equal(again, p) {
			t.Fatalf("%x encodes to %x", p, again)
		}
	})
}
