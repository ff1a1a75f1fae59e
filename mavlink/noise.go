package mavlink

import "time"

// MaxNoise is the size of the longest Noise that is handed out, in bytes.
const MaxNoise = 64 << 10

// Reason says why bytes are noise.
type Reason uint8

const (
	// NoStart: no start byte.
	NoStart Reason = iota
	// BadChecksum: a known message id, and a checksum that is wrong.
	BadChecksum
	// UnknownID: an unknown message id in a span that does not fit its neighbours.
	UnknownID
	// Truncated: cut at the end of input.
	Truncated
)

// String returns the reason in snake_case, as noise.jsonl spells it.
func (r Reason) String() string {
	switch r {
	case NoStart:
		return "no_start_byte"
	case BadChecksum:
		return "bad_checksum"
	case UnknownID:
		return "unknown_id"
	case Truncated:
		return "truncated"
	}
	return "unknown_reason"
}

// Noise is a run of contiguous bytes that belong to no frame.
//
// A run begins with a byte that is noise and has the reason of the failed candidate at
// that byte. It takes in what fails inside the extent which that candidate claimed;
// noise behind it is a new run. A run goes on for as long as bytes are no start bytes.
// It is handed out before the next frame, at the end of a Write, and when it reaches
// MaxNoise, so that one run may come in several pieces, each with the same reason.
type Noise struct {
	Data   []byte        // valid only during the callback
	Offset int64         // of its first byte, in bytes since the scanner was made
	At     time.Duration // arrival of the read that brought its first byte
	Reason Reason
}

// run is the noise that is being collected: bytes from..to of the buffer being scanned
// are not handed out yet. live stays true after a piece was handed out.
type run struct {
	from, to int64
	claim    int64 // end of the extent which the first failed candidate claimed
	reason   Reason
	live     bool
}

// joins reports whether noise at off with this reason goes on with the run.
func (r *run) joins(off int64, reason Reason) bool {
	if !r.live {
		return false
	}
	return off < r.claim || (reason == NoStart && r.reason == NoStart)
}
