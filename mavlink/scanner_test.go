package mavlink_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/mavlink"
)

var (
	beat     = v1(0, 7, []byte{1, 2, 3, 4, 2, 3, 0x81, 4, 3})
	beatV2   = v2(0, 8, 0, []byte{1, 2, 3, 4, 2, 3, 0x81, 4, 3})
	timeV2   = v2(2, 9, 0, []byte{5}) // its other eleven bytes are zero
	signed   = v2(30, 10, 1, bytes.Repeat([]byte{0x11}, 28))
	strange  = v2(30, 10, 0xF0, bytes.Repeat([]byte{0x22}, 28))
	stranger = v2(unknownV2, 11, 0, []byte("vendor"))
	oldOne   = v1(unknownV1, 12, []byte("old"))
	// nested carries a good frame in a payload whose own checksum is wrong.
	nested = broken(v2(0, 1, 0, join([]byte("x"), beat, []byte("yz"))))
	// swallow is a false start byte that claims 263 bytes.
	swallow = []byte{0xFE, 0xFF, 0, 0, 0, 0}
)

const (
	isFrame   = "frame"
	isUnknown = "unknown"
)

// streams is also the seed of the fuzz target. want lists the outcome: a word and a size.
var streams = []struct {
	name string
	in   []byte
	want []want
}{
	{"v1", beat, []want{{isFrame, len(beat)}}},
	{"v2", beatV2, []want{{isFrame, len(beatV2)}}},
	{"truncated payload", timeV2, []want{{isFrame, len(timeV2)}}},
	{"signed", join(signed, beat), []want{{isFrame, len(signed)}, {isFrame, len(beat)}}},
	{"other flags", join(strange, beat), []want{{isFrame, len(strange)}, {isFrame, len(beat)}}},
	{"garbage", join([]byte("abc"), beat, []byte("de")),
		[]want{{"no_start_byte", 3}, {isFrame, len(beat)}, {"no_start_byte", 2}}},
	{"false start byte before", join(swallow, beat, bytes.Repeat(beatV2, 20)),
		slices.Concat([]want{{"bad_checksum", 6}, {isFrame, len(beat)}}, slices.Repeat([]want{{isFrame, len(beatV2)}}, 20))},
	{"start bytes in a row", join([]byte{0xFD, 0xFE, 0xFD, 0xFE}, beat, bytes.Repeat(beat, 20)),
		slices.Concat([]want{{"bad_checksum", 4}}, slices.Repeat([]want{{isFrame, len(beat)}}, 21))},
	{"start byte inside a good frame", v1(0, 1, []byte{0xFE, 9, 0, 0xFD, 0, 0xFE, 0xFE, 0, 3}), []want{{isFrame, 17}}},
	{"good frame inside a bad one", join(nested, beat),
		[]want{{"bad_checksum", 11}, {isFrame, len(beat)}, {"no_start_byte", 4}, {isFrame, len(beat)}}},
	{"bad checksum", join(beat, broken(beat), beatV2),
		[]want{{isFrame, len(beat)}, {"bad_checksum", len(beat)}, {isFrame, len(beatV2)}}},
	{"two bad checksums are two runs", join(broken(beat), broken(beatV2), []byte("gar")),
		[]want{{"bad_checksum", len(beat)}, {"bad_checksum", len(beatV2)}, {"no_start_byte", 3}}},
	{"bad checksum behind garbage", join([]byte("gar"), broken(beat)),
		[]want{{"no_start_byte", 3}, {"bad_checksum", len(beat)}}},
	{"unknown between frames", join(beat, stranger, oldOne, beatV2),
		[]want{{isFrame, len(beat)}, {isUnknown, len(stranger)}, {isUnknown, len(oldOne)}, {isFrame, len(beatV2)}}},
	{"unknown at the start", join(stranger, beat), []want{{isUnknown, len(stranger)}, {isFrame, len(beat)}}},
	{"unknown alone", stranger, []want{{isUnknown, len(stranger)}}},
	{"unknown at the end", join(beat, oldOne), []want{{isFrame, len(beat)}, {isUnknown, len(oldOne)}}},
	{"unknown before a cut frame", join(stranger, beat[:5]), []want{{isUnknown, len(stranger)}, {"truncated", 5}}},
	{"unknown before garbage", join(beat, stranger, []byte("z"), beat),
		[]want{{isFrame, len(beat)}, {"unknown_id", len(stranger)}, {"no_start_byte", 1}, {isFrame, len(beat)}}},
	{"chain before a bad frame", join(beat, stranger, oldOne, broken(beat), beatV2),
		[]want{{isFrame, len(beat)}, {"unknown_id", len(stranger)}, {"unknown_id", len(oldOne)}, {"bad_checksum", len(beat)}, {isFrame, len(beatV2)}}},
	{"unknown behind garbage", join([]byte("z"), stranger, beat),
		[]want{{"no_start_byte", 1}, {"unknown_id", len(stranger)}, {isFrame, len(beat)}}},
	{"good frame inside a failed unknown", join(v2(unknownV2, 0, 0, join(beat, []byte("ab"))), []byte("c")),
		[]want{{"unknown_id", 10}, {isFrame, len(beat)}, {"no_start_byte", 5}}},
	{"cut", join(beat, beatV2[:12]), []want{{isFrame, len(beat)}, {"truncated", 12}}},
	{"cut in the header", beatV2[:4], []want{{"truncated", 4}}},
	{"good frame inside a cut one", join(swallow, beat, []byte("q"), beat[:3]),
		[]want{{"truncated", 6}, {isFrame, len(beat)}, {"no_start_byte", 1}, {"truncated", 3}}},
	{"cut frame behind a failed chain", join(stranger, []byte("z"), beat[:5]),
		[]want{{"unknown_id", len(stranger)}, {"no_start_byte", 1}, {"truncated", 5}}},
	{"nothing", nil, nil},
}

type want struct {
	what string
	size int
}

func outcome(c *collector) []want {
	var out []want
	for _, e := range c.events {
		what := e.reason.String()
		switch {
		case e.frame && e.known:
			what = isFrame
		case e.frame:
			what = isUnknown
		}
		out = append(out, want{what, len(e.data)})
	}
	return out
}

func TestScanner(t *testing.T) {
	for _, tc := range streams {
		t.Run(tc.name, func(t *testing.T) {
			c := scanAll(tc.in)
			if got := outcome(c); !slices.Equal(got, tc.want) {
				t.Errorf("got  %v\nwant %v", got, tc.want)
			}
			checkWhole(t, c, tc.in)
			if got, want := c.perByte(), reference(tc.in); !slices.Equal(got, want) {
				t.Errorf("got %q\nreference %q", got, want)
			}
		})
	}
}

func TestScannerAnySplit(t *testing.T) {
	for _, tc := range streams {
		whole := scanAll(tc.in).perByte()
		for size := 1; size <= len(tc.in); size++ {
			c := new(collector)
			s := mavlink.NewScanner(c)
			for part := range slices.Chunk(tc.in, size) {
				own := bytes.Clone(part)
				s.Write(0, own)
				clear(own) // the scanner may not look at it any more
			}
			s.End(0)
			checkWhole(t, c, tc.in)
			if got := c.perByte(); !slices.Equal(got, whole) {
				t.Fatalf("%s in pieces of %d: got %q, want %q", tc.name, size, got, whole)
			}
		}
	}
}

func checkWhole(t *testing.T, c *collector, in []byte) {
	t.Helper()
	if len(c.errs) > 0 {
		t.Error(strings.Join(c.errs, "\n"))
	}
	if !bytes.Equal(c.bytes(), in) {
		t.Errorf("frames and noise are not the input: %x, want %x", c.bytes(), in)
	}
}

func TestFrameFields(t *testing.T) {
	h := &lastFrame{}
	s := mavlink.NewScanner(h)
	for _, tc := range []struct {
		raw     []byte
		id      uint32
		seq     uint8
		version uint8
		signed  bool
		known   bool
		payload int
	}{
		{beat, 0, 7, 1, false, true, 9},
		{timeV2, 2, 9, 2, false, true, 1},
		{signed, 30, 10, 2, true, true, 28},
		{stranger, unknownV2, 11, 2, false, false, 6},
	} {
		s.Write(0, tc.raw)
		s.End(0)
		f := h.frame
		if f.ID != tc.id || f.Seq != tc.seq || f.Version != tc.version || f.Signed != tc.signed || f.Known != tc.known || len(h.payload) != tc.payload {
			t.Errorf("%x: %+v, payload %x", tc.raw, f, h.payload)
		}
		if f.System != 1 || f.Component != 1 {
			t.Errorf("%x: sender %d %d", tc.raw, f.System, f.Component)
		}
		p, ok := mavlink.ParseFrame(append(bytes.Clone(tc.raw), 0))
		if !ok || p.ID != f.ID || p.Seq != f.Seq || p.Signed != f.Signed || !bytes.Equal(p.Raw, tc.raw) || p.ChecksumOK() != tc.known {
			t.Errorf("%x: ParseFrame %+v %v", tc.raw, p, ok)
		}
	}
}

type lastFrame struct {
	frame   mavlink.Frame
	payload []byte
}

func (l *lastFrame) Frame(f *mavlink.Frame) {
	l.frame, l.payload = *f, bytes.Clone(f.Payload())
}

func (l *lastFrame) Noise(*mavlink.Noise) {}

func TestParseFrameOdd(t *testing.T) {
	for _, p := range [][]byte{nil, {0xFE}, {0xFD, 0, 0}, []byte("text and more text"), beat[:len(beat)-1]} {
		if f, ok := mavlink.ParseFrame(p); ok {
			t.Errorf("%x: %+v", p, f)
		}
		f := mavlink.Frame{Raw: p, Version: 2}
		if f.ChecksumOK() || (len(p) < 10 && f.Payload() != nil) {
			t.Errorf("%x: odd frame taken for a good one", p)
		}
	}
	f, _ := mavlink.ParseFrame(broken(beat))
	if f.ChecksumOK() {
		t.Error("bad checksum taken for a good one")
	}
}

// step is one call in a timed test: a Write, or an Idle where p is nil.
type step struct {
	at time.Duration
	p  []byte
}

func TestScannerTime(t *testing.T) {
	ms := time.Millisecond
	cut := len(beat) - 1
	for _, tc := range []struct {
		name    string
		steps   []step
		want    []want
		pending int
	}{
		{"known frame at once", []step{{0, beat}}, []want{{isFrame, 17}}, 0},
		{"incomplete frame waits without limit", []step{{0, beat[:cut]}, {time.Hour, nil}}, nil, cut},
		{"and is then found", []step{{0, beat[:cut]}, {time.Hour, beat[cut:]}}, []want{{isFrame, 17}}, 0},
		{"chain waits for its neighbour", []step{{0, stranger}, {99 * ms, nil}}, nil, len(stranger)},
		{"silence accepts a chain", []step{{0, stranger}, {100 * ms, nil}}, []want{{isUnknown, 18}}, 0},
		{"silence before the next Write too", []step{{0, stranger}, {100 * ms, []byte("z")}}, []want{{isUnknown, 18}, {"no_start_byte", 1}}, 0},
		{"no silence: garbage fails it", []step{{0, stranger}, {99 * ms, []byte("z")}}, []want{{"unknown_id", 18}, {"no_start_byte", 1}}, 0},
		{"silence behind an incomplete frame", []step{{0, join(stranger, beat[:4])}, {100 * ms, nil}}, []want{{isUnknown, 18}}, 4},
		{"behind an accepted chain the edge stays", []step{{0, join(stranger, oldOne[:4])}, {100 * ms, nil}, {101 * ms, oldOne[4:]}, {300 * ms, nil}},
			[]want{{isUnknown, 18}, {isUnknown, 11}}, 0},
		{"age accepts a chain", []step{{0, stranger}, {80 * ms, stranger}, {151 * ms, beat[:3]}}, []want{{isUnknown, 18}, {isUnknown, 18}}, 3},
		{"age accepts what was incomplete for long", []step{{0, stranger[:5]}, {151 * ms, stranger[5:]}}, []want{{isUnknown, 18}}, 0},
		{"age counts from the first byte", []step{{0, stranger}, {80 * ms, stranger}, {150 * ms, beat[:3]}}, nil, 39},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := new(collector)
			s := mavlink.NewScanner(c)
			for _, st := range tc.steps {
				if st.p == nil {
					s.Idle(st.at)
				}
				s.Write(st.at, st.p)
			}
			if got := outcome(c); !slices.Equal(got, tc.want) || s.Pending() != tc.pending {
				t.Errorf("got %v and %d pending, want %v and %d", got, s.Pending(), tc.want, tc.pending)
			}
		})
	}
}

func TestScannerArrival(t *testing.T) {
	cut := []byte{0xFE, 9, 0}
	for _, tc := range []struct {
		name  string
		steps []step
		want  []time.Duration
	}{
		{"last byte of a frame, first byte of noise", []step{{1, beat[:5]}, {2, beat[5:9]}, {3, join(beat[9:], stranger[:3])},
			{4, stranger[3:]}, {5, join(beatV2, cut)}, {6, []byte{0, 0, 0}}}, []time.Duration{3, 4, 5, 5}},
		{"last byte alone", []step{{1, beat[:16]}, {2, beat[16:]}}, []time.Duration{2}},
		{"last byte of a chain alone", []step{{1, stranger[:17]}, {2, stranger[17:]}, {3, beat}}, []time.Duration{2, 3}},
		{"two Writes at one time", []step{{1, beat[:5]}, {1, join(beat[5:], cut)}}, []time.Duration{1, 1}},
	} {
		c := new(collector)
		s := mavlink.NewScanner(c)
		for _, st := range tc.steps {
			s.Write(st.at, st.p)
		}
		s.End(7)
		var at []time.Duration
		for _, e := range c.events {
			at = append(at, e.at)
		}
		if !slices.Equal(at, tc.want) {
			t.Errorf("%s: arrivals %v, want %v of %v", tc.name, at, tc.want, c.events)
		}
	}
}

func TestScannerLongChain(t *testing.T) {
	n := mavlink.MaxChain/len(stranger) + 1 // one span more than MaxChain holds
	in := join(bytes.Repeat(stranger, n+3), []byte("z"))
	for _, size := range []int{1, 1000, len(in)} {
		c := new(collector)
		s := mavlink.NewScanner(c)
		for part := range slices.Chunk(in, size) {
			s.Write(0, part)
			if s.Pending() > mavlink.MaxChain+mavlink.MaxFrameSize {
				t.Fatalf("%d bytes pending", s.Pending())
			}
		}
		s.End(0)
		checkWhole(t, c, in)
		if got, want := c.perByte(), reference(in); !slices.Equal(got, want) {
			t.Errorf("pieces of %d: not as the reference", size)
		}
		if len(c.events) < n || !c.events[n-1].frame || c.events[n].frame {
			t.Errorf("pieces of %d: the chain is not accepted at its bound", size)
		}
	}
}

func TestScannerLongNoise(t *testing.T) {
	in := bytes.Repeat([]byte("noise"), 50_000)
	c := scanAll(in)
	checkWhole(t, c, in)
	if len(c.events) != 4 {
		t.Errorf("%d pieces", len(c.events))
	}
}

func TestScannerEndStartsAgain(t *testing.T) {
	c := new(collector)
	s := mavlink.NewScanner(c)
	s.Write(0, join([]byte("zz"), beat[:4]))
	s.End(1)
	if s.Pending() != 0 {
		t.Errorf("%d bytes pending", s.Pending())
	}
	s.Write(2, join(stranger, beat))             // at the start again: an unknown id is fine
	s.Write(3, join([]byte("z"), stranger[:10])) // claims more than there is
	s.End(4)
	s.Write(5, []byte("q"))
	want := []want{{"no_start_byte", 2}, {"truncated", 4}, {isUnknown, len(stranger)}, {isFrame, len(beat)},
		{"no_start_byte", 1}, {"unknown_id", 10}, {"no_start_byte", 1}}
	if got := outcome(c); !slices.Equal(got, want) || len(c.errs) > 0 {
		t.Errorf("got %v %v, want %v", got, c.errs, want)
	}
}

func TestReasonString(t *testing.T) {
	if got := mavlink.Reason(200).String(); got != "unknown_reason" {
		t.Error(got)
	}
}

type counter struct{ frames, bytes, noise int }

func (c *counter) Frame(f *mavlink.Frame) { c.frames++; c.bytes += len(f.Raw) }
func (c *counter) Noise(n *mavlink.Noise) { c.noise += len(n.Data) }

func TestScannerAllocatesNothing(t *testing.T) {
	in := join(beat, signed, []byte("garbage"), broken(beat), stranger, timeV2, nested, oldOne, beatV2)
	s := mavlink.NewScanner(new(counter))
	at := time.Duration(0)
	pass := func() {
		for part := range slices.Chunk(in, 23) {
			at += time.Millisecond
			s.Write(at, part)
			s.Idle(at)
		}
		s.Write(at, in)
		s.End(at)
	}
	pass()
	if n := testing.AllocsPerRun(100, pass); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
