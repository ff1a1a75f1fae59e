package vault

import (
	"io"
	"time"

	"golang.org/x/mod/sumdb/note"

	"holdfast/storage/segment"
)

// KeyFile is one wrapped copy of a flight's identity, as it goes to disk.
type KeyFile struct {
	Name string // flight.key.age, flight.key.2.age, ...; of a group flight.V.key.age, ...
	Data []byte
}

// FlightKey is all that the board ever has of a flight's identity: the public half, and the
// secret half wrapped for the operators.
type FlightKey struct {
	Public string
	Files  []KeyFile
	// Recipients has custody.Fingerprint of each line of recipients.txt, with Salt, which is
	// sealed into the record: who opens it can check whose keys it was sealed to.
	Recipients []string
	Salt       []byte
	// Groups are sorted by Streams. What is not in any of them is sealed to Public.
	Groups []KeyGroup
}

// Config is what a vault needs. FS, DeviceID, DevicePub, DeviceKey, Rand, Now and NewKey must be set.
type Config struct {
	FS        FS
	DeviceID  string // 8 hex digits
	DevicePub string // the verifier line of the device key
	// DeviceKey certifies the keys that sign the public log. Rand makes those.
	DeviceKey note.Signer
	Rand      io.Reader
	// Now is the time since boot. It never goes back.
	Now func() time.Duration
	// NewKey makes the identity of the next record. It may take milliseconds.
	NewKey func() (*FlightKey, error)
	// Header is copied into each segment; the vault fills in device, record and numbers. Its Lock
	// and Grade are those of the start; SetLock changes them.
	Header segment.Header

	FlushArmed, FlushIdle time.Duration
	// WhenFull is "stop" or "oldest", Record is "always" or "armed"; empty is the first of both.
	WhenFull, Record string
	// Reserve is free space, in bytes, that only telemetry may use.
	Reserve int64
	// YieldBelow is, by stream (A, V, P, X), the free space in bytes below which it is not written;
	// absent: MinFree and Reserve.
	YieldBelow map[byte]int64
	// RoomFor is the free space that WhenFull "oldest" keeps by deleting, where it is more than
	// MinFree: so much as the streams want that yield to telemetry.
	RoomFor int64
	// Wipe is called after file keys were dropped, so that their memory is cleared.
	Wipe func()
}

// yieldBelow is the free space below which a stream is not written, in bytes.
func (c *Config) yieldBelow(stream byte) int64 {
	if n, ok := c.YieldBelow[stream]; ok {
		return max(n, MinFree)
	}
	return MinFree + c.Reserve
}

const (
	// rotateAfter bounds what a damaged segment can cost, and the memory that holds a
	// segment until its clean close.
	rotateAfter = 10 * time.Second
	// rotateBytes does the same for a stream that is faster than any UART.
	rotateBytes = 2 << 20
	// closePiece is how much of a closing segment is written between two syncs, so that a
	// slow medium is never busy with it for longer than a flush may wait.
	closePiece = 256 << 10
	// MinFree is kept free (bytes), so that the record can always be ended in good order, and
	// the public log can say what became of it.
	MinFree = 8 << 20
	// formatVersion is the number that docs/format/v1.md has.
	formatVersion = 1
)
