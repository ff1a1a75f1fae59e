package segment

import (
	"encoding/binary"
	"errors"
)

// SentMagic opens a frame of what went the other way: to the autopilot.
const SentMagic uint32 = 0x184D2A52

// MaxSent bounds the frame, in bytes.
const MaxSent = 1 << 20

// Outcomes of a frame that somebody wanted to send.
const (
	SentOut     = 0 // it went out
	SentRefused = 1 // the allow-list, or a share that only reads, refused it
	SentFailed  = 2 // the line took no more, or was gone
)

// SentRun is a frame that this board sent to an autopilot, or was asked to send.
type SentRun struct {
	StampUsec uint64 // as the entries of the same block
	Link      uint8
	Origin    uint8 // index in Header.Origins
	Outcome   uint8
	Data      []byte
}

const sentHead = 8 + 1 + 1 + 1 + 4

// AppendSent appends r to dst: stamp u64, link u8, origin u8, outcome u8, length u32 (all big
// endian), bytes.
func AppendSent(dst []byte, r SentRun) []byte {
	dst = binary.BigEndian.AppendUint64(dst, r.StampUsec)
	dst = append(dst, r.Link, r.Origin, r.Outcome)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.Data)))
	return append(dst, r.Data...)
}

// ParseSent returns the first run of p and what follows it. The run's data lies in p.
func ParseSent(p []byte) (r SentRun, rest []byte, err error) {
	if len(p) < sentHead {
		return r, nil, errors.New("segment: sent run cut short")
	}
	r.StampUsec = binary.BigEndian.Uint64(p)
	r.Link, r.Origin, r.Outcome = p[8], p[9], p[10]
	n := int64(binary.BigEndian.Uint32(p[11:]))
	if n > int64(len(p)-sentHead) {
		return r, nil, errors.New("segment: sent run longer than its frame")
	}
	r.Data = p[sentHead : sentHead+int(n)]
	return r, p[sentHead+int(n):], nil
}
