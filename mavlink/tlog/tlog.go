// Package tlog reads and writes .tlog files, the telemetry log of ground stations: a
// sequence of entries, each a time stamp (unsigned 64-bit big-endian, microseconds since
// 1970) and one MAVLink frame as it came over the wire
// (https://docs.qgroundcontrol.com/master/en/qgc-dev-guide/file_formats/mavlink.html).
//
// The format has no header, no length and no checksum of its own, so a damaged log must be
// searched for the next entry. The Reader does that and gives out every byte of its input
// once, as part of an entry or as stray bytes. Stamps that go backwards are no matter to
// it. The package decodes no message, and opens and closes no file.
package tlog

import "encoding/binary"

const (
	stampSize = 8
	// headSize is the part of an entry that tells it from strays: stamp and start byte.
	headSize = stampSize + 1
	// frameHead is enough of a frame to know its size: a MAVLink 2 header.
	frameHead = 10
	// maxStep is how far apart, in microseconds, two stamps may be where only the second
	// one vouches for the first: one day, since a log may span a correction of the clock.
	maxStep = 24 * 60 * 60 * 1_000_000
)

// Item is one entry of a log, or bytes that fit no entry.
type Item struct {
	Entry    bool
	TimeUsec uint64 // of an entry: microseconds since 1970
	Raw      []byte // of an entry the frame, else the stray bytes; valid until the next call
}

// AppendEntry appends an entry to dst and returns the extended slice.
func AppendEntry(dst []byte, timeUsec uint64, raw []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, timeUsec)
	return append(dst, raw...)
}

func isStart(b byte) bool { return b == 0xFD || b == 0xFE }

// heads reports whether b begins like an entry with a stamp near that of an entry before.
func heads(b []byte, before uint64) bool {
	if len(b) < headSize || !isStart(b[stampSize]) {
		return false
	}
	stamp := binary.BigEndian.Uint64(b)
	return max(stamp, before)-min(stamp, before) <= maxStep
}
