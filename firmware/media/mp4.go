package media

import (
	"encoding/binary"
	"fmt"
)

const (
	// maxMoov bounds the box that describes a film's tracks, in bytes. That of a stream is small.
	maxMoov = 2 << 20
	// maxHeld is how much of a stream is held until that box came.
	maxHeld = 4 << 20
)

// mp4Sound finds a track of sound in an MP4 (ISO/IEC 14496-12) while it comes: a box "moov" says
// which tracks there are, handler "soun" in one of them that it is sound. What comes before it is
// held; in a stream that is little.
type mp4Sound struct {
	head []byte // of a box
	skip uint64 // bytes of a box that is of no interest
	end  bool   // such a box goes on to the end
	moov []byte
	want int  // bytes of moov
	seen bool // one moov, without sound
	file bool // nothing is held
	held int
}

func (m *mp4Sound) look(p []byte) (soundVerdict, string) {
	if !m.seen {
		if m.held += len(p); m.held > maxHeld && !m.file {
			return soundRefused, fmt.Sprintf("no description of its tracks within %d bytes", maxHeld)
		}
	}
	for len(p) > 0 && !m.end {
		var what string
		if p, what = m.step(p); what != "" {
			return soundRefused, what
		}
	}
	if !m.seen {
		return soundUnknown, ""
	}
	return soundNone, ""
}

// step takes some of p and returns the rest.
func (m *mp4Sound) step(p []byte) (rest []byte, what string) {
	if m.skip > 0 {
		n := min(m.skip, uint64(len(p)))
		m.skip -= n
		return p[n:], ""
	}
	if m.want > 0 {
		n := min(m.want-len(m.moov), len(p))
		m.moov = append(m.moov, p[:n]...)
		if len(m.moov) == m.want {
			what = m.tracks()
		}
		return p[n:], what
	}
	need := 8
	if len(m.head) >= 8 {
		need = 16
	}
	n := min(need-len(m.head), len(p))
	m.head = append(m.head, p[:n]...)
	if len(m.head) == need {
		what = m.box()
	}
	return p[n:], what
}

// box looks at a head of 8 bytes, or of 16 where the size is a long one.
func (m *mp4Sound) box() string {
	size, kind, n := uint64(binary.BigEndian.Uint32(m.head)), string(m.head[4:8]), uint64(len(m.head))
	if size == 1 {
		if n < 16 {
			return "" // the size follows
		}
		size = binary.BigEndian.Uint64(m.head[8:])
	}
	m.head = m.head[:0]
	switch {
	case size == 0:
		m.end = true
		if kind == "moov" {
			return "a description of its tracks without a length"
		}
	case size < n:
		return fmt.Sprintf("a box of %d bytes: it cannot be told", size)
	case kind == "moov" && size-n > m.most():
		return "a description of its tracks that is too long"
	case kind == "moov" && size > n:
		m.want, m.moov = int(size-n), m.moov[:0]
	default:
		m.skip = size - n
	}
	return ""
}

// most is how long a description of tracks may be: that of a file has a line for each picture.
func (m *mp4Sound) most() uint64 {
	if m.file {
		return 16 * maxMoov
	}
	return maxMoov
}

// tracks looks into a whole moov.
func (m *mp4Sound) tracks() string {
	m.want, m.seen = 0, true
	what, ok := soundTrack(m.moov, 0)
	if !ok {
		return "a description of its tracks that cannot be read"
	}
	return what
}

// soundTrack looks for a handler of sound in the boxes of p. ok is false where they cannot be told.
func soundTrack(p []byte, depth int) (what string, ok bool) {
	for len(p) > 0 {
		content, kind, rest := splitBox(p)
		if content == nil {
			return "", false
		}
		p = rest
		switch kind {
		case "trak", "mdia":
			if depth < 4 {
				if what, ok = soundTrack(content, depth+1); what != "" || !ok {
					return what, ok
				}
			}
		case "hdlr":
			if len(content) >= 12 && string(content[8:12]) == "soun" {
				return "a track of sound", true
			}
		}
	}
	return "", true
}

// splitBox takes the first box of p apart; content is nil where there is none.
func splitBox(p []byte) (content []byte, kind string, rest []byte) {
	if len(p) < 8 {
		return nil, "", nil
	}
	size, n := uint64(binary.BigEndian.Uint32(p)), uint64(8)
	kind = string(p[4:8])
	if size == 1 && len(p) >= 16 {
		size, n = binary.BigEndian.Uint64(p[8:]), 16
	}
	if size == 0 {
		size = uint64(len(p))
	}
	if size < n || size > uint64(len(p)) {
		return nil, "", nil
	}
	return p[n:size:size], kind, p[size:]
}
