package media

import "bytes"

// jpegScan finds where each JPEG of a row of them begins and ends, by its markers (ITU-T T.81,
// section B.1, https://www.w3.org/Graphics/JPEG/itu-t81.pdf): an end marker inside a segment, as
// that of a thumbnail, ends nothing. It looks at each byte once and keeps none.
type jpegScan struct {
	state  jpegState
	marker byte
	left   int // bytes of a segment
}

type jpegState int

const (
	outside    jpegState = iota // between two
	outsideFF                   // after a 0xFF there
	wantMarker                  // a 0xFF has to come
	markerCode                  // then which marker it is
	lengthHigh                  // then how long its segment is
	lengthLow
	inSegment
	inScan   // coded data
	inScanFF // after a 0xFF there
)

// Markers.
const (
	mSOI = 0xD8
	mEOI = 0xD9
	mSOS = 0xDA
	mTEM = 0x01
)

// jpegEdge is what a step has come to.
type jpegEdge int

const (
	noEdge   jpegEdge = iota // the end of p
	jpegOn                   // the start marker was passed, and is not among the bytes
	jpegOver                 // the end marker was passed, and is the last of the bytes
	jpegBad                  // what came is no JPEG; looking for the next
)

// step looks at p up to the next edge: n bytes, which are those of a JPEG unless the edge is
// jpegOn or the scan was outside.
func (s *jpegScan) step(p []byte) (n int, edge jpegEdge) {
	for n < len(p) {
		switch s.state {
		case inSegment:
			skip := min(s.left, len(p)-n)
			n += skip
			if s.left -= skip; s.left == 0 {
				s.afterSegment()
			}
			continue
		case inScan:
			i := bytes.IndexByte(p[n:], 0xFF)
			if i < 0 {
				return len(p), noEdge
			}
			n += i + 1
			s.state = inScanFF
			continue
		case outside:
			i := bytes.IndexByte(p[n:], 0xFF)
			if i < 0 {
				return len(p), noEdge
			}
			n += i + 1
			s.state = outsideFF
			continue
		}
		edge = s.one(p[n])
		n++
		if edge != noEdge {
			return n, edge
		}
	}
	return n, noEdge
}

func (s *jpegScan) afterSegment() {
	s.state = wantMarker
	if s.marker == mSOS {
		s.state = inScan
	}
}

// one takes a byte in a state in which each counts.
func (s *jpegScan) one(b byte) jpegEdge {
	switch s.state {
	case outsideFF:
		switch b {
		case mSOI:
			s.state = wantMarker
			return jpegOn
		case 0xFF:
		default:
			s.state = outside
		}
	case wantMarker:
		if b != 0xFF {
			return s.bad()
		}
		s.state = markerCode
	case markerCode:
		return s.begin(b)
	case lengthHigh:
		s.left, s.state = int(b)<<8, lengthLow
	case lengthLow:
		if s.left += int(b) - 2; s.left < 0 {
			return s.bad()
		}
		if s.state = inSegment; s.left == 0 {
			s.afterSegment()
		}
	case inScanFF:
		switch {
		case b == 0, b >= 0xD0 && b <= 0xD7:
			s.state = inScan
		case b != 0xFF:
			return s.begin(b)
		}
	}
	return noEdge
}

// begin takes the code of a marker.
func (s *jpegScan) begin(b byte) jpegEdge {
	switch {
	case b == mEOI:
		s.state = outside
		return jpegOver
	case b == 0xFF:
		s.state = markerCode
	case b == mTEM, b >= 0xD0 && b <= 0xD7:
		s.state = wantMarker
	case b < 0xC0, b == mSOI:
		return s.bad()
	default:
		s.marker, s.state = b, lengthHigh
	}
	return noEdge
}

func (s *jpegScan) bad() jpegEdge {
	s.state = outside
	return jpegBad
}
