package segment_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"holdfast/storage/segment"
)

// full has every field set, so that one that is not written shows.
var full = segment.Block{
	Meta: segment.Meta{
		Header: &segment.Header{Format: 1, Device: "0a1b2c3d", Record: "F00000002", Stream: "T", Segment: 3, Continues: "F00000001",
			Boot: "b", Version: "v", Lock: "bench", Grade: "none", Board: "rpi4", Links: []segment.Link{{Name: "fc", Device: "/dev/serial0", Baud: 921600}},
			Notes: []segment.Note{{What: "landlock", Why: "not there"}}, RecipientSalt: "00", Origins: []string{"holdfast", "share:ros"}, Operator: "o", Case: "c"},
		Block: 7, BootUsec: 8, StampOffset: -9, Frames: 2, Runs: [][2]int{{0, 1}, {1, 1}}, Unknown: []int{1}, Offset: 10,
		Clock:    []segment.ClockPair{{BootUsec: 1, UTCUsec: 2, Source: "autopilot", UncertaintyUsec: 3, Link: 4}},
		Gaps:     []segment.Gap{{BootUsec: 1, Link: 2, System: 3, Component: 4, Expected: 5, Got: 6, Lost: 7}},
		GapsMore: &segment.GapsMore{Gaps: 1, Lost: 2}, Drops: &segment.Drops{BootUsec: 1, LastBootUsec: 2, Frames: 3, Bytes: 4, NoiseBytes: 5},
		Lines:  []segment.LineErrors{{Link: 1, Overrun: 2, Buffer: 3, Framing: 4, Parity: 5, Break: 6}},
		Events: []segment.Event{{BootUsec: 1, Kind: "armed", Link: "fc", Detail: "d"}}, EventsMore: 2,
		Sync: &segment.Sync{Count: 1, MaxUsec: 2, SumUsec: 3, LastUsec: 4},
		File: &segment.File{ID: 1, Kind: segment.KindPhoto, Source: "front", Format: "jpg", Name: "IMG_1.JPG", Offset: 2, Size: 3, BeganUsec: 4, BootUsec: 5,
			Of: "F00000001", Log: 6, UTCUsec: 7, Lost: []segment.Range{{From: 8, To: 9}}, LostBytes: 10, Why: "slow", End: true, SHA256: "ab", Continues: "F00000001",
			Photo: &segment.Photo{Index: -1, Trigger: "command", TakenUsec: 11, UncertaintyUsec: 12, Pose: &segment.Pose{BootUsec: 13, Latitude: 1.5, Longitude: -2.5,
				Altitude: 3.5, Height: 4.5, Roll: 5.5, Pitch: 6.5, Yaw: 7.5, AttUsec: 14, HorizontalM: 0.5, VerticalM: 0.25, UncertaintyM: 0.125,
				Gimbal: &segment.Gimbal{BootUsec: 15, Roll: 8.5, Pitch: 9.5, Yaw: 10.5}}}},
	},
	Data:  []byte("entries"),
	Noise: segment.AppendNoise(nil, segment.NoiseRun{Offset: 11, StampUsec: 12, Link: 1, Reason: 2, Data: []byte("noise")}),
	Sent:  segment.AppendSent(segment.AppendSent(nil, segment.SentRun{StampUsec: 13, Link: 1, Origin: 1, Outcome: segment.SentRefused, Data: []byte("frame")}), segment.SentRun{}),
}

// notCovered lists the fields of a value, and of all below it, that are zero.
func notCovered(name string, v reflect.Value) (zero []string) {
	if v.IsZero() {
		return []string{name}
	}
	switch v.Kind() {
	case reflect.Pointer:
		return notCovered(name, v.Elem())
	case reflect.Slice:
		return notCovered(name, v.Index(v.Len()-1))
	case reflect.Struct:
		for i := range v.NumField() {
			zero = append(zero, notCovered(name+"."+v.Type().Field(i).Name, v.Field(i))...)
		}
	}
	return zero
}

func TestRoundTrip(t *testing.T) {
	if zero := notCovered("Meta", reflect.ValueOf(full.Meta)); len(zero) > 0 {
		t.Errorf("%q are not covered", zero)
	}
	blocks := []segment.Block{
		full,
		{Meta: segment.Meta{Block: 8}},
		{Meta: segment.Meta{Block: 9}, Data: tlogData(300 << 10)},
		{Meta: segment.Meta{Block: 10}, Noise: segment.AppendNoise(segment.AppendNoise(nil, segment.NoiseRun{Data: []byte("a")}), segment.NoiseRun{Offset: 1})},
		{Meta: segment.Meta{Block: 12}, Sent: full.Sent},
		{Meta: segment.Meta{Block: 11}, Data: bytes.Repeat([]byte{0}, segment.MaxFrame)},
	}
	got, stats := decode(t, encode(t, blocks...))
	if stats != (segment.Stats{Blocks: len(blocks)}) {
		t.Errorf("stats %+v", stats)
	}
	var want []item
	for _, b := range blocks {
		m, err := json.Marshal(b.Meta)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, item{meta: string(m)})
		if len(b.Data) > 0 {
			want = append(want, item{data: string(b.Data)})
		}
		for p := b.Noise; len(p) > 0; {
			r, rest, err := segment.ParseNoise(p)
			if err != nil {
				t.Fatal(err)
			}
			want, p = append(want, item{noise: &r}), rest
		}
		for p := b.Sent; len(p) > 0; {
			r, rest, err := segment.ParseSent(p)
			if err != nil {
				t.Fatal(err)
			}
			want, p = append(want, item{sent: &r}), rest
		}
	}
	if !reflect.DeepEqual(got.items, want) {
		t.Errorf("got %v\nwant %v", got.items, want)
	}
}

// TestIncompressible: what zstd makes longer still lies within the reader's limits.
func TestIncompressible(t *testing.T) {
	data := make([]byte, segment.MaxFrame)
	rand.NewChaCha8([32]byte{1}).Read(data)
	got, stats := decode(t, encode(t, segment.Block{Data: data}, segment.Block{Meta: segment.Meta{Block: 1}}))
	if stats != (segment.Stats{Blocks: 2}) || len(got.items) != 3 || got.items[1].data != string(data) {
		t.Errorf("stats %+v, %d items", stats, len(got.items))
	}
}

func unhex(s string) []byte {
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return p
}

// rawBytes are segments written by hand from the specification.
var rawBytes = []struct {
	name   string
	raw    []byte
	want   []item
	stats  segment.Stats
	encode *segment.Block // gives raw, where set
}{
	{"empty", nil, nil, segment.Stats{}, nil},
	{
		"metadata that ends too early",
		join(unhex("502a4d18 0b000000"), []byte(`{"block":1,`)),
		nil, segment.Stats{BadFrames: 1, SkippedBytes: 19}, nil,
	},
	{
		"metadata",
		join(unhex("502a4d18 45000000"), []byte(`{"block":1,"boot_usec":2,"stamp_offset_usec":0,"frames":0,"offset":4}`)),
		[]item{{meta: `{"block":1,"boot_usec":2,"stamp_offset_usec":0,"frames":0,"offset":4}`}},
		segment.Stats{Blocks: 1},
		&segment.Block{Meta: segment.Meta{Block: 1, BootUsec: 2, Offset: 4}},
	},
	{
		"sent",
		join(meta(`{"block":0,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`),
			unhex("522a4d18 20000000"), unhex("0000000000000304 05 06 02 00000002 aabb"), unhex("0000000000000305 00 00 00 00000000")),
		[]item{
			{meta: `{"block":0,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`},
			{sent: &segment.SentRun{StampUsec: 0x304, Link: 5, Origin: 6, Outcome: segment.SentFailed, Data: []byte{0xAA, 0xBB}}},
			{sent: &segment.SentRun{StampUsec: 0x305, Data: []byte{}}},
		},
		segment.Stats{Blocks: 1},
		&segment.Block{Sent: segment.AppendSent(segment.AppendSent(nil, segment.SentRun{StampUsec: 0x304, Link: 5, Origin: 6, Outcome: 2, Data: []byte{0xAA, 0xBB}}), segment.SentRun{StampUsec: 0x305})},
	},
	{
		"noise",
		join(meta(`{"block":0,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`),
			unhex("512a4d18 18000000"), unhex("0000000000000102 0000000000000304 05 06 00000002 aabb")),
		[]item{
			{meta: `{"block":0,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`},
			{noise: &segment.NoiseRun{Offset: 0x102, StampUsec: 0x304, Link: 5, Reason: 6, Data: []byte{0xAA, 0xBB}}},
		},
		segment.Stats{Blocks: 1},
		&segment.Block{Noise: unhex("0000000000000102 0000000000000304 05 06 00000002 aabb")},
	},
	{
		"entries, padding, the next block",
		join(meta(`{"block":3}`), zstdRaw("entry"), unhex("5f2a4d18 03000000 000000"), meta(`{"block":4}`)),
		[]item{
			{meta: `{"block":3,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`},
			{data: "entry"},
			{meta: `{"block":4,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`},
		},
		segment.Stats{Blocks: 2}, nil,
	},
	{
		"the byte ahead of a block that never came",
		join(meta(`{"block":3}`), unhex("5f2a4d18 00000000 50")),
		[]item{{meta: `{"block":3,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`}},
		segment.Stats{Blocks: 1}, nil,
	},
	{
		"the empty metadata frame of a close right after a flush",
		join(meta(`{"block":3}`), unhex("5f2a4d18 00000000 502a4d18 00000000")),
		[]item{{meta: `{"block":3,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`}},
		segment.Stats{Blocks: 1}, nil,
	},
	{
		"cut in the metadata", join(meta(`{"block":3}`), meta(`{"block":4}`)[:12]),
		[]item{{meta: `{"block":3,"boot_usec":0,"stamp_offset_usec":0,"frames":0,"offset":0}`}},
		segment.Stats{Blocks: 1, CutFrames: 1, SkippedBytes: 12}, nil,
	},
}

func TestRawBytes(t *testing.T) {
	for _, tt := range rawBytes {
		t.Run(tt.name, func(t *testing.T) {
			got, stats := decode(t, tt.raw)
			if !reflect.DeepEqual(got.items, tt.want) {
				t.Errorf("got  %v\nwant %v", got.items, tt.want)
			}
			if stats != tt.stats {
				t.Errorf("stats %+v, want %+v", stats, tt.stats)
			}
			if tt.encode == nil {
				return
			}
			if p := encode(t, *tt.encode); !bytes.Equal(p, tt.raw) {
				t.Errorf("encodes to\n%x, want\n%x", p, tt.raw)
			}
		})
	}
}

// TestStockZstd: what stock zstd makes of a segment is its entries alone.
func TestStockZstd(t *testing.T) {
	a, b := tlogData(1000), tlogData(200<<10)
	p := encode(t, segment.Block{Meta: full.Meta, Data: a, Noise: full.Noise, Sent: full.Sent}, segment.Block{Noise: full.Noise}, segment.Block{Data: b})
	p = append(p, skippable(segment.PadMagic, 100, strings.Repeat("\x00", 100))...)
	want := append(slices.Clone(a), b...)
	r, err := zstd.NewReader(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("stream decoder: %d bytes, %v; want %d", len(got), err, len(want))
	}
	name, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip("no zstd program here")
	}
	cmd := exec.Command(name, "-dc")
	cmd.Stdin = bytes.NewReader(p)
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("zstd -dc: %d bytes, %v; want %d", len(got), err, len(want))
	}
}

func TestEncoderLimits(t *testing.T) {
	for name, b := range map[string]segment.Block{
		"data":  {Data: make([]byte, segment.MaxFrame+1)},
		"noise": {Noise: make([]byte, segment.MaxNoise+1)},
		"sent":  {Sent: make([]byte, segment.MaxSent+1)},
		"meta":  {Meta: segment.Meta{Events: []segment.Event{{Detail: strings.Repeat("x", segment.MaxMeta)}}}},
	} {
		before := []byte("before")
		got, err := encoder(t).Append(before, &b)
		if !errors.Is(err, segment.ErrLimit) || string(got) != "before" {
			t.Errorf("%s: %d bytes, %v; want ErrLimit and nothing appended", name, len(got)-len(before), err)
		}
	}
}

func TestHandlerError(t *testing.T) {
	p := encode(t, full)
	for name, stop := range map[string]error{"own": errors.New("disk full"), "end of input": io.ErrUnexpectedEOF} {
		f := &found{fail: stop}
		d, err := segment.NewDecoder(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Feed(p); !errors.Is(err, stop) {
			t.Errorf("%s: Feed = %v", name, err)
		}
		if err := d.Feed(p); !errors.Is(err, stop) {
			t.Errorf("%s: second Feed = %v", name, err)
		}
		if err := d.Hole(); !errors.Is(err, stop) {
			t.Errorf("%s: Hole = %v", name, err)
		}
		if _, err := d.End(); !errors.Is(err, stop) || len(f.items) != 1 {
			t.Errorf("%s: End = %v after %d calls", name, err, len(f.items))
		}
	}
}

func BenchmarkEncoderAppend(b *testing.B) {
	e, data := encoder(b), tlogData(128 << 10)[:128<<10]
	block := segment.Block{Meta: segment.Meta{Block: 5, Frames: 2700, Offset: 1 << 30}, Data: data}
	dst := make([]byte, 0, 256<<10)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = e.Append(dst[:0], &block); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(dst))/float64(len(data)), "out/in")
}

func BenchmarkDecoder(b *testing.B) {
	data := tlogData(128 << 10)
	p := encode(b, segment.Block{Data: data}, segment.Block{Data: data}, segment.Block{Data: data}, segment.Block{Data: data})
	b.SetBytes(int64(4 * len(data)))
	b.ReportAllocs()
	for b.Loop() {
		d, err := segment.NewDecoder(discard{})
		if err != nil {
			b.Fatal(err)
		}
		for c := range slices.Chunk(p, 64<<10) {
			if err := d.Feed(c); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := d.End(); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Meta(*segment.Meta) error     { return nil }
func (discard) Data([]byte, bool) error      { return nil }
func (discard) Noise(segment.NoiseRun) error { return nil }
