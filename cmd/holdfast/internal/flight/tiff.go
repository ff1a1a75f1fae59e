package flight

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Limits of EXIF that is read. A camera's has some hundred tags. Values may overlap, so a few
// kilobytes can claim any number of bytes; whoever copies them out needs the memory.
const (
	maxDirectories = 8
	maxTags        = 2000
	maxTagBytes    = 256 << 10
)

// tagChildren are tags whose value is where another directory is: of EXIF, GPS, interoperability.
var tagChildren = map[uint16]bool{0x8769: true, tagGPSInfo: true, 0xA005: true}

// typeSize is the length of one value by its type (TIFF 6.0, section 2,
// https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf).
var typeSize = [...]uint64{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

// tiffWalk counts what reading a TIFF structure would cost.
type tiffWalk struct {
	p           []byte
	order       binary.ByteOrder
	seen        map[uint32]bool
	tags, bytes uint64
}

// soundTIFF tells whether p can be read within the limits: every directory and value inside of
// p, no directory twice.
func soundTIFF(p []byte) bool {
	_, ok := walkTIFF(p)
	return ok
}

// sortTIFF brings the tags of each directory into the order of their numbers, as TIFF wants them;
// the library writes them as they were set.
func sortTIFF(p []byte) bool {
	w, ok := walkTIFF(p)
	for at := range w.seen {
		n := int(w.order.Uint16(p[at:]))
		tags := make([][12]byte, n)
		for i := range tags {
			copy(tags[i][:], p[int(at)+2+i*12:])
		}
		slices.SortStableFunc(tags, func(a, b [12]byte) int { return cmp.Compare(w.order.Uint16(a[:]), w.order.Uint16(b[:])) })
		for i := range tags {
			copy(p[int(at)+2+i*12:], tags[i][:])
		}
	}
	return ok
}

func walkTIFF(p []byte) (w tiffWalk, ok bool) {
	if len(p) < 8 {
		return w, false
	}
	w = tiffWalk{p: p, seen: map[uint32]bool{}}
	switch string(p[:4]) {
	case "II*\x00":
		w.order = binary.LittleEndian
	case "MM\x00*":
		w.order = binary.BigEndian
	default:
		return w, false
	}
	if !w.directory(w.order.Uint32(p[4:])) {
		return tiffWalk{}, false
	}
	return w, true
}

// directory walks the directory at an offset, those that it names, and the next one.
func (w *tiffWalk) directory(at uint32) bool {
	if w.seen[at] || len(w.seen) >= maxDirectories || uint64(at)+2 > uint64(len(w.p)) {
		return false
	}
	w.seen[at] = true
	n := uint64(w.order.Uint16(w.p[at:]))
	end := uint64(at) + 2 + n*12
	if w.tags += n; w.tags > maxTags || end+4 > uint64(len(w.p)) {
		return false
	}
	for i := range n {
		if !w.tag(w.p[uint64(at)+2+i*12:]) {
			return false
		}
	}
	next := w.order.Uint32(w.p[end:])
	return next == 0 || w.directory(next)
}

func (w *tiffWalk) tag(p []byte) bool {
	kind := int(w.order.Uint16(p[2:]))
	if kind == 0 || kind >= len(typeSize) {
		return false
	}
	size := uint64(w.order.Uint32(p[4:])) * typeSize[kind]
	value := w.order.Uint32(p[8:])
	if size > 4 && (size > maxTagBytes || uint64(value)+size > uint64(len(w.p))) {
		return false
	}
	if w.bytes += size; w.bytes > maxTagBytes {
		return false
	}
	return !tagChildren[w.order.Uint16(p)] || w.directory(value)
}
