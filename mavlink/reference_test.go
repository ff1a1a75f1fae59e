package mavlink_test

import (
	"encoding/binary"
	"fmt"

	"holdfast/mavlink"
)

// reference says the same as a Scanner that is given all of data at once, then End, as
// perByte describes it. It is written from the rules alone: it looks at the whole input,
// keeps no state between positions but the run, and takes no care to be fast.
func reference(data []byte) []string {
	var out []string
	var reason mavlink.Reason
	claim, live, edge := 0, false, true
	noise := func(pos int, r mavlink.Reason, extent int) {
		if !live || (pos >= claim && !(r == mavlink.NoStart && reason == r)) {
			reason, claim, live = r, pos+extent, true
		}
		out = append(out, fmt.Sprintf("%v %d %x", reason, pos, data[pos]))
		edge = false
	}
	for pos := 0; pos < len(data); {
		spans, why, extent := refJudge(data, pos, edge)
		if len(spans) == 0 {
			noise(pos, why, extent)
			pos++
			continue
		}
		for _, sp := range spans {
			e := event{frame: true, known: sp.known, offset: int64(pos), data: string(data[pos : pos+sp.size])}
			out = append(out, e.String())
			pos += sp.size
		}
		live, edge = false, true
	}
	return out
}

type refSpan struct {
	size             int // as the header says, 0 if it is cut
	start, known     bool
	whole, checksumd bool
}

func refMeasure(b []byte) (s refSpan) {
	if len(b) == 0 || (b[0] != 0xFE && b[0] != 0xFD) {
		return s
	}
	s.start = true
	var id uint32
	body := 0
	switch {
	case b[0] == 0xFE && len(b) >= 6:
		id, body = uint32(b[5]), 6+int(b[1])
		s.size = body + 2
	case b[0] == 0xFD && len(b) >= 10:
		id, body = binary.LittleEndian.Uint32(b[6:])>>8, 10+int(b[1])
		s.size = body + 2 + 13*int(b[2]&1)
	default:
		return s
	}
	extra, known := mavlink.CRCExtra(id)
	s.known = known
	s.whole = s.size <= len(b)
	s.checksumd = s.whole && known && sum(b[1:body], extra) == binary.LittleEndian.Uint16(b[body:])
	return s
}

// refJudge returns the spans that are frames from pos on, or why there are none and how
// far the failed candidate reaches.
func refJudge(data []byte, pos int, edge bool) ([]refSpan, mavlink.Reason, int) {
	s := refMeasure(data[pos:])
	switch {
	case !s.start:
		return nil, mavlink.NoStart, 1
	case s.checksumd:
		return []refSpan{s}, 0, 0
	case s.known && s.whole:
		return nil, mavlink.BadChecksum, s.size
	case s.size > 0 && !s.known && !edge:
		return nil, mavlink.UnknownID, s.size
	case !s.whole:
		return nil, mavlink.Truncated, len(data) - pos
	}
	first := s.size
	var chain []refSpan
	for length := 0; s.start && !s.known && s.whole; {
		chain = append(chain, s)
		length += s.size
		pos += s.size
		s = refMeasure(data[pos:])
		if pos == len(data) || length > mavlink.MaxChain {
			return chain, 0, 0
		}
	}
	if s.checksumd || (s.start && !s.whole) {
		return chain, 0, 0
	}
	return nil, mavlink.UnknownID, first
}
