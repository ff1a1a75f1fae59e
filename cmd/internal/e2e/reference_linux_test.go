package e2e_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/all"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// crcExtras is CRC_EXTRA by message id, from gomavlib's dialect and not from our table.
var crcExtras = sync.OnceValue(func() map[uint32]byte {
	extras := map[uint32]byte{}
	for _, m := range all.Dialect.Messages {
		rw := &message.ReadWriter{Message: m}
		if err := rw.Initialize(); err != nil {
			panic(fmt.Sprintf("message %T: %v", m, err))
		}
		extras[m.GetID()] = rw.CRCExtra()
	}
	return extras
})

// crcStep is X.25, one byte at a time.
func crcStep(crc uint16, b byte) uint16 {
	tmp := b ^ byte(crc)
	tmp ^= tmp << 4
	return crc>>8 ^ uint16(tmp)<<8 ^ uint16(tmp)<<3 ^ uint16(tmp)>>4
}

// refSpan is what the header at the start of a span says.
type refSpan struct {
	size      int // of the whole span; 0: no start byte, or the header is not complete
	id        uint32
	seq       byte
	sys, comp byte
	known     bool
	sound     bool // whole, known and the checksum is right
	whole     bool
}

// parseSpan reads the header at p[0] and judges the span.
func parseSpan(p []byte) (s refSpan) {
	head := 0
	switch {
	case len(p) >= 6 && p[0] == 0xFE:
		head = 6
		s = refSpan{size: 6 + int(p[1]) + 2, seq: p[2], sys: p[3], comp: p[4], id: uint32(p[5])}
	case len(p) >= 10 && p[0] == 0xFD:
		head = 10
		s = refSpan{size: 10 + int(p[1]) + 2, seq: p[4], sys: p[5], comp: p[6], id: uint32(p[7]) | uint32(p[8])<<8 | uint32(p[9])<<16}
		if p[2]&1 != 0 {
			s.size += 13
		}
	default:
		return s
	}
	extra, known := crcExtras()[s.id]
	s.known, s.whole = known, s.size <= len(p)
	if !known || !s.whole {
		return s
	}
	crc := uint16(0xFFFF)
	end := head + int(p[1])
	for _, b := range p[1:end] {
		crc = crcStep(crc, b)
	}
	crc = crcStep(crc, extra)
	s.sound = p[end] == byte(crc) && p[end+1] == byte(crc>>8)
	return s
}

// refFrame is one frame that the reference found.
type refFrame struct {
	offset int
	raw    []byte
	refSpan
}

// reference cuts a stream into frames by CONTRACT's rules for frames, in the plainest way: it
// knows the whole stream, and no silence in it. What it does not return is noise.
func reference(stream []byte) (frames []refFrame) {
	edge := true // a frame ended here, or the stream begins
	for pos := 0; pos < len(stream); {
		s := parseSpan(stream[pos:])
		n := 1
		switch {
		case s.sound:
			n, frames = s.size, append(frames, refFrame{pos, stream[pos : pos+s.size], s})
			edge = true
		case edge && s.size > 0 && s.whole && !s.known && chainEndsWell(stream[pos:]):
			n, frames = s.size, append(frames, refFrame{pos, stream[pos : pos+s.size], s})
		default:
			edge = false
		}
		pos += n
	}
	return frames
}

// chainEndsWell tells whether spans with unknown ids, one behind the other, lead to a sound
// frame or to the end of the input; the last one may be cut off by that end.
func chainEndsWell(p []byte) bool {
	for {
		if len(p) == 0 {
			return true
		}
		if p[0] != 0xFD && p[0] != 0xFE {
			return false
		}
		s := parseSpan(p)
		switch {
		case s.size == 0 || !s.whole:
			return true
		case s.known:
			return s.sound
		}
		p = p[s.size:]
	}
}

// source tells senders apart.
type sender struct{ sys, comp byte }

// gapsIn counts jumps in the sequence numbers of each sender, and the frames they miss. A
// number that came just before is a repeated frame; one that was missing among the 40 before the
// newest one was overtaken.
func gapsIn(frames []refFrame) (gaps, lost int64) {
	const reach = 40
	type state struct {
		count   int          // of the newest frame, without wrapping
		missing map[int]bool // counts that did not come
	}
	all := map[sender]*state{}
	for _, f := range frames {
		who := sender{f.sys, f.comp}
		s := all[who]
		if s == nil {
			all[who] = &state{count: int(f.seq), missing: map[int]bool{}}
			continue
		}
		behind := int(byte(s.count) - f.seq)
		if behind <= reach && s.missing[s.count-behind] {
			delete(s.missing, s.count-behind)
			continue
		}
		step := int(f.seq - byte(s.count))
		if step == 0 { // the newest one's number again
			continue
		}
		if n := step - 1; n > 0 {
			gaps++
			lost += int64(n)
			for k := 1; k <= n; k++ {
				s.missing[s.count+k] = true
			}
		}
		s.count += step
	}
	return gaps, lost
}

// A reference that finds nothing, or everything, would prove nothing.
func TestReferenceFindsWhatItShould(t *testing.T) {
	good := flightFrames(t, vehicleOf(1))
	var stream []byte
	for i, f := range good[:50] {
		if i%10 == 3 {
			stream = append(stream, 0xFD, 0xFE, 0x55)
		}
		stream = append(stream, f...)
	}
	bad := len(stream)
	stream = append(stream, good[50]...)
	stream[bad+12] ^= 1
	stream = append(stream, good[51]...)
	frames := reference(stream)
	if len(frames) != 51 {
		t.Fatalf("%d frames, want 51", len(frames))
	}
	for i, f := range frames[:50] {
		if string(f.raw) != string(good[i]) {
			t.Fatalf("frame %d differs", i)
		}
	}
	if frames[50].offset != len(stream)-len(good[51]) {
		t.Fatalf("the frame behind the damaged one is at %d", frames[50].offset)
	}
}
