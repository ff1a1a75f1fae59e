package vehicle_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/codec"
	"holdfast/mavlink/vehicle"
)

// board is an onboard computer at the other end of the line, in simulated time.
type board struct {
	t     *testing.T
	v     *vehicle.Vehicle
	line  *vehicle.Lossy
	codec *codec.Codec
	seqs  map[byte]byte
	at    time.Duration
	next  *vehicle.Emission // behind the time of the last run

	// hear is called for each message that gets through, tick after each frame of the
	// vehicle, whether it got through or not.
	hear func(f *mavlink.Frame, m message.Message)
	tick func()
}

func newBoard(t *testing.T, o vehicle.Options, loss vehicle.Loss) *board {
	t.Helper()
	v, err := vehicle.New(o)
	if err != nil {
		t.Fatal(err)
	}
	line, err := vehicle.NewLossy(loss)
	if err != nil {
		t.Fatal(err)
	}
	return &board{
		t: t, v: v, line: line, codec: codec.New(), seqs: map[byte]byte{},
		hear: func(*mavlink.Frame, message.Message) {}, tick: func() {},
	}
}

// say sends a message to the vehicle, which hears it three milliseconds later.
func (b *board) say(comp byte, m message.Message) {
	b.t.Helper()
	raw, err := b.codec.Encode(1, comp, b.seqs[comp], m)
	if err != nil {
		b.t.Fatal(err)
	}
	b.seqs[comp]++
	if b.line.Pass(b.at, vehicle.ToVehicle, raw) {
		b.v.Hear(b.at+3*time.Millisecond, raw)
	}
}

// run flies until the time, or until done says so.
func (b *board) run(until time.Duration, done func() bool) {
	b.t.Helper()
	for {
		e, ok := b.following()
		if !ok {
			break
		}
		if e.At > until {
			b.next = &e
			break
		}
		b.at = e.At
		if b.line.Pass(e.At, vehicle.FromVehicle, e.Raw) {
			b.take(e.Raw)
		}
		b.tick()
		if done != nil && done() {
			return
		}
	}
	if err := b.v.Err(); err != nil {
		b.t.Fatal(err)
	}
	if done != nil {
		b.t.Fatalf("not done at %v", b.at)
	}
}

func (b *board) following() (vehicle.Emission, bool) {
	if e := b.next; e != nil {
		b.next = nil
		return *e, true
	}
	return b.v.Next()
}

// telemetry are the messages sent most often that no test here asks for.
var telemetry = map[uint32]bool{105: true, 31: true, 27: true, 33: true, 36: true, 65: true, 87: true, 11030: true, 330: true}

func (b *board) take(raw []byte) {
	f, ok := mavlink.ParseFrame(raw)
	if !ok || !f.ChecksumOK() {
		b.t.Fatalf("bad frame %x", raw)
	}
	if telemetry[f.ID] {
		return
	}
	m, err := b.codec.Decode(&f)
	if err != nil {
		b.t.Fatal(err)
	}
	b.hear(&f, m)
}

// collect keeps the messages of one type.
func collect[M message.Message](b *board) *[]M {
	var out []M
	next := b.hear
	b.hear = func(f *mavlink.Frame, m message.Message) {
		if m, ok := m.(M); ok {
			out = append(out, m)
		}
		next(f, m)
	}
	return &out
}

// bytesWithHoles is a file being put together from pieces.
type bytesWithHoles struct {
	data []byte
	have []bool
	left int
}

func newHoles(size int) *bytesWithHoles {
	return &bytesWithHoles{data: make([]byte, size), have: make([]bool, size), left: size}
}

// put takes a piece if it lies inside, and tells so.
func (h *bytesWithHoles) put(ofs uint64, p []byte) bool {
	if ofs+uint64(len(p)) > uint64(len(h.data)) {
		return false
	}
	copy(h.data[ofs:], p)
	for i := range p {
		if !h.have[int(ofs)+i] {
			h.have[int(ofs)+i] = true
			h.left--
		}
	}
	return true
}

// hole returns the first run of missing bytes.
func (h *bytesWithHoles) hole() (from, to int) {
	from = 0
	for from < len(h.have) && h.have[from] {
		from++
	}
	to = from
	for to < len(h.have) && !h.have[to] {
		to++
	}
	return from, to
}

func sameBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	n := 0
	for n < len(got) && n < len(want) && got[n] == want[n] {
		n++
	}
	t.Errorf("%s: %d bytes, want %d, first difference at %d", what, len(got), len(want), n)
}
