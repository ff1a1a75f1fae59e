package media

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// sniffer tells once whether a stream looks like its format. It is advice: bytes are kept as they
// are.
type sniffer struct {
	format string
	head   []byte
	done   bool
}

// look returns what is odd, once.
func (s *sniffer) look(p []byte) string {
	if s.done {
		return ""
	}
	s.head = append(s.head, p[:min(len(p), 12-len(s.head))]...)
	if len(s.head) < 12 {
		return ""
	}
	s.done = true
	if looksLike(s.format, s.head) {
		return ""
	}
	return fmt.Sprintf("%s was configured, and it begins with % x", s.format, s.head)
}

// looksLike goes by the first 12 bytes.
func looksLike(format string, p []byte) bool {
	switch format {
	case "h264": // Annex B of ITU-T H.264
		return p[0] == 0 && p[1] == 0 && (p[2] == 1 || p[2] == 0 && p[3] == 1)
	case "ts":
		return p[0] == tsSync
	case "mp4":
		return isMP4(p)
	case "jpg", "mjpeg":
		return p[0] == 0xFF && p[1] == mSOI
	}
	return true
}

// isMP4 tells whether p begins with a box that a file of ISO/IEC 14496-12 begins with.
func isMP4(p []byte) bool {
	return len(p) >= 8 && strings.Contains("ftyp styp moov moof free skip mdat sidx wide pnot", string(p[4:8])) && p[4] != ' ' && p[7] != ' '
}

// soundVerdict is what a look has found.
type soundVerdict int

const (
	soundNone    soundVerdict = iota // none, as far as it has come
	soundUnknown                     // more is needed to tell
	soundRefused                     // it has sound
)

// soundCheck looks for sound in what comes, piece by piece: MPEG-TS and MP4 by what they look like,
// whatever the configuration calls them. Other formats pass.
type soundCheck struct {
	off  bool
	file bool   // what is looked at is a whole file, and nothing is held of it
	what string // that was found
	head []byte // the first bytes, until it is known what this is
	ts   *tsSound
	mp4  *mp4Sound
	pass bool
}

// look takes the next bytes.
func (s *soundCheck) look(p []byte) soundVerdict {
	switch {
	case s.off || s.pass:
		return soundNone
	case s.ts != nil:
		return s.found(s.ts.look(p))
	case s.mp4 != nil:
		return s.found(s.mp4.look(p))
	}
	s.head = append(s.head, p...)
	if len(s.head) < tsPacket+1 {
		return soundUnknown
	}
	first := s.head
	s.head = nil
	switch {
	case first[0] == tsSync && first[tsPacket] == tsSync:
		s.ts = &tsSound{}
	case isMP4(first):
		s.mp4 = &mp4Sound{file: s.file}
	default:
		s.pass = true
		return soundNone
	}
	return s.look(first)
}

// short tells whether all that came was too little to tell, and is no beginning of what is looked
// into.
func (s *soundCheck) short() bool {
	return len(s.head) > 0 && s.head[0] != tsSync && !isMP4(s.head)
}

// skip returns how many of the next bytes are of no interest, and passes over them.
func (s *soundCheck) skip() int64 {
	if s.mp4 == nil {
		return 0
	}
	n := min(s.mp4.skip, 1<<40)
	s.mp4.skip -= n
	return int64(n)
}

func (s *soundCheck) found(v soundVerdict, what string) soundVerdict {
	s.what = what
	return v
}

// MPEG-TS, ISO/IEC 13818-1 (ITU-T H.222.0).
const (
	tsPacket = 188
	tsSync   = 0x47
)

// tsSound finds sound in a transport stream: by the types that program maps give, and by packets of
// elementary streams that say that they are sound.
type tsSound struct {
	rest []byte          // of a packet
	maps map[uint16]bool // PIDs of program maps
}

func (t *tsSound) look(p []byte) (soundVerdict, string) {
	if len(t.rest) > 0 {
		need := min(tsPacket-len(t.rest), len(p))
		t.rest = append(t.rest, p[:need]...)
		p = p[need:]
		if len(t.rest) < tsPacket {
			return soundNone, ""
		}
		if what := t.packet(t.rest); what != "" {
			return soundRefused, what
		}
		t.rest = t.rest[:0]
	}
	for len(p) > 0 {
		if p[0] != tsSync { // out of step: to the next
			p = p[1:]
			continue
		}
		if len(p) < tsPacket {
			break
		}
		if what := t.packet(p[:tsPacket]); what != "" {
			return soundRefused, what
		}
		p = p[tsPacket:]
	}
	t.rest = append(t.rest[:0], p...)
	return soundNone, ""
}

// packet returns what of a packet says that there is sound.
func (t *tsSound) packet(p []byte) string {
	start, pid := p[1]&0x40 != 0, binary.BigEndian.Uint16(p[1:])&0x1FFF
	body := p[4:]
	if p[3]&0x20 != 0 { // an adaptation field
		if n := int(body[0]) + 1; n < len(body) {
			body = body[n:]
		} else {
			return ""
		}
	}
	if p[3]&0x10 == 0 || !start || len(body) < 4 {
		return ""
	}
	switch {
	case pid == 0:
		t.programs(section(body, 0))
	case t.maps[pid]:
		return streams(section(body, 2))
	case body[0] == 0 && body[1] == 0 && body[2] == 1 && body[3] >= 0xC0 && body[3] <= 0xDF:
		return fmt.Sprintf("packets of sound (stream id %#x)", body[3])
	}
	return ""
}

// section returns the content of a table that begins in a packet, as far as the packet holds it, without
// its check sum; nil: it is none with that id.
func section(p []byte, id byte) []byte {
	if skip := int(p[0]) + 1; skip < len(p) {
		p = p[skip:]
	} else {
		return nil
	}
	if len(p) < 8 || p[0] != id {
		return nil
	}
	n := 3 + int(binary.BigEndian.Uint16(p[1:])&0xFFF) - 4
	if n < 8 {
		return nil
	}
	return p[8:min(n, len(p))]
}

// maxMaps bounds the program maps that are looked at.
const maxMaps = 64

func (t *tsSound) programs(p []byte) {
	for ; len(p) >= 4; p = p[4:] {
		if number := binary.BigEndian.Uint16(p); number != 0 && len(t.maps) < maxMaps {
			if t.maps == nil {
				t.maps = map[uint16]bool{}
			}
			t.maps[binary.BigEndian.Uint16(p[2:])&0x1FFF] = true
		}
	}
}

// soundTypes are stream types of sound: MPEG-1 and 2, AAC (ADTS, LATM, raw), MPEG-4, MPEG-H, and the
// private ones of AC-3, DTS and LPCM that ATSC and Blu-ray use.
const soundTypes = "\x03\x04\x0f\x11\x1c\x2d\x2e\x80\x81\x82\x83\x84\x85\x86\x87\x88\x8a\x91\xa1\xa2\xc1\xc2\xcf\xd1"

// soundTags are descriptors of sound in private streams: AC-3, E-AC-3, DTS, AAC.
const soundTags = "\x6a\x7a\x7b\x7c"

// streams returns which stream of a program map is sound.
func streams(p []byte) string {
	if len(p) < 4 {
		return ""
	}
	skip := 4 + int(binary.BigEndian.Uint16(p[2:])&0xFFF)
	for p = p[min(skip, len(p)):]; len(p) >= 5; {
		kind, n := p[0], 5+int(binary.BigEndian.Uint16(p[3:])&0xFFF)
		tags := p[5:min(n, len(p))]
		if strings.IndexByte(soundTypes, kind) >= 0 {
			return fmt.Sprintf("a stream of type %#x", kind)
		}
		if what := private(kind, tags); what != "" {
			return what
		}
		p = p[min(n, len(p)):]
	}
	return ""
}

// private looks at the descriptors of a stream of private data.
func private(kind byte, tags []byte) string {
	if kind != 0x06 {
		return ""
	}
	for len(tags) >= 2 {
		n := min(2+int(tags[1]), len(tags))
		if strings.IndexByte(soundTags, tags[0]) >= 0 {
			return fmt.Sprintf("a private stream with descriptor %#x", tags[0])
		}
		if tags[0] == 5 && n >= 6 { // registration
			switch id := string(tags[2:6]); id {
			case "Opus", "AC-3", "EAC3", "AC-4", "DTS1", "DTS2", "DTS3", "BSSD":
				return "a private stream " + id
			}
		}
		tags = tags[n:]
	}
	return ""
}
