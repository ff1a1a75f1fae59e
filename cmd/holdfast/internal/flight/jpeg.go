package flight

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// A JPEG is a row of segments up to the coded picture: 0xFF, a marker, and, but for a few
// markers, a length that counts itself (ITU-T T.81, annex B,
// https://www.w3.org/Graphics/JPEG/itu-t81.pdf). Metadata of others lie in segments APP1. Here
// segments are put in and left out; nothing is decoded.
const (
	markerSOI  = 0xD8
	markerEOI  = 0xD9
	markerSOS  = 0xDA
	markerAPP0 = 0xE0
	markerAPP1 = 0xE1

	maxSegment = 0xFFFF - 2 // bytes of content
	// maxPixels is more than any camera on a drone has.
	maxPixels = 1 << 30
)

var (
	exifID = []byte("Exif\x00\x00")                     // https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E
	xmpID  = []byte("http://ns.adobe.com/xap/1.0/\x00") // https://developer.adobe.com/xmp/docs/XMPSpecifications/ part 3
)

// jpegSegment is one segment before the coded picture. raw is all of it.
type jpegSegment struct {
	marker  byte
	raw     []byte
	content []byte
}

// splitJPEG returns the segments behind the start marker and the rest: the first scan and on.
// What is not whole, or no JPEG, is an error.
func splitJPEG(p []byte) (head []jpegSegment, rest []byte, err error) {
	if len(p) < 4 || p[0] != 0xFF || p[1] != markerSOI {
		return nil, nil, errors.New("it is no JPEG")
	}
	pixels := false
	for at := 2; ; {
		s, err := nextSegment(p[at:])
		if err != nil {
			return nil, nil, err
		}
		if s.marker == markerSOS {
			rest = p[at:]
			break
		}
		if frameHeader(s.marker) {
			if err := checkFrame(s.content); err != nil {
				return nil, nil, err
			}
			pixels = true
		}
		head = append(head, s)
		at += len(s.raw)
	}
	if !pixels {
		return nil, nil, errors.New("it has no frame header")
	}
	if !bytes.Contains(rest, []byte{0xFF, markerEOI}) {
		return nil, nil, errors.New("its end is missing")
	}
	return head, rest, nil
}

// nextSegment returns the segment at the start of p. Fill bytes before the marker belong to it.
func nextSegment(p []byte) (s jpegSegment, err error) {
	n := 0
	for n < len(p) && p[n] == 0xFF {
		n++
	}
	if n == 0 || n+3 > len(p) {
		return s, errors.New("it is cut short, or damaged before its picture")
	}
	s.marker = p[n]
	if s.marker == 0 || s.marker == 1 || s.marker >= 0xD0 && s.marker <= markerEOI {
		return s, fmt.Errorf("marker %02x before its picture", s.marker)
	}
	size := int(binary.BigEndian.Uint16(p[n+1:]))
	if size < 2 || n+1+size > len(p) {
		return s, errors.New("it is cut short, or damaged before its picture")
	}
	s.raw, s.content = p[:n+1+size], p[n+3:n+1+size]
	return s, nil
}

// frameHeader tells the markers SOF0 to SOF15; three of that range are others.
func frameHeader(marker byte) bool {
	return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC
}

// checkFrame refuses a picture of a size that no camera makes: whoever opens it would need the
// memory for it.
func checkFrame(p []byte) error {
	if len(p) < 6 {
		return errors.New("its frame header is cut short")
	}
	height, width := int64(binary.BigEndian.Uint16(p[1:])), int64(binary.BigEndian.Uint16(p[3:]))
	if width*height > maxPixels {
		return fmt.Errorf("it claims %d x %d pixels", width, height)
	}
	return nil
}

// metadata returns the content, without its name, of the first APP1 segment with that name.
func metadata(head []jpegSegment, id []byte) []byte {
	for _, s := range head {
		if s.marker == markerAPP1 && bytes.HasPrefix(s.content, id) {
			return s.content[len(id):]
		}
	}
	return nil
}

// joinJPEG writes a JPEG whose EXIF and XMP are those given. All else stays byte for byte.
func joinJPEG(head []jpegSegment, rest, exif, xmp []byte) ([]byte, error) {
	if len(exifID)+len(exif) > maxSegment || len(xmpID)+len(xmp) > maxSegment {
		return nil, errors.New("its metadata find no room")
	}
	size := len(rest)
	for _, s := range head {
		size += len(s.raw)
	}
	out := append(make([]byte, 0, size+len(exif)+len(xmp)+128), 0xFF, markerSOI)
	first := 0 // JFIF's segments want to come first (ITU-T T.871, section 10.1)
	for first < len(head) && head[first].marker == markerAPP0 {
		out = append(out, head[first].raw...)
		first++
	}
	out = appendAPP1(out, exifID, exif)
	out = appendAPP1(out, xmpID, xmp)
	for _, s := range head[first:] {
		if s.marker == markerAPP1 && (bytes.HasPrefix(s.content, exifID) || bytes.HasPrefix(s.content, xmpID)) {
			continue
		}
		out = append(out, s.raw...)
	}
	return append(out, rest...), nil
}

func appendAPP1(out, id, content []byte) []byte {
	out = append(out, 0xFF, markerAPP1)
	out = binary.BigEndian.AppendUint16(out, uint16(2+len(id)+len(content)))
	out = append(out, id...)
	return append(out, content...)
}
