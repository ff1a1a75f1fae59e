// Package segment is the plaintext of a segment, format v1 (docs/format/v1.md, section 3): zstd
// frames that hold .tlog entries, lines or pieces of files, between skippable frames that hold
// what stock zstd passes over: metadata, noise, what was sent, padding. It seals nothing, opens no file, reads no
// clock; storage/vault writes with it, the operator's tool reads with it.
package segment

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Magic numbers of the frames, little endian on disk. The skippable ones are from the range
// that RFC 8878, section 3.1.2, sets aside. MetaMagic opens every block, so that the first
// byte of a block is always 0x50 (crypto/seal hands that byte out ahead of time).
const (
	MetaMagic  uint32 = 0x184D2A50
	NoiseMagic uint32 = 0x184D2A51
	PadMagic   uint32 = 0x184D2A5F
	zstdMagic  uint32 = 0xFD2FB528
)

// Limits that a reader enforces before it allocates.
const (
	MaxMeta  = 1 << 20  // bytes of one metadata frame
	MaxNoise = 8 << 20  // bytes of one noise frame
	MaxPad   = 1 << 18  // bytes of one padding frame
	MaxFrame = 16 << 20 // bytes of one zstd frame, compressed or not
)

// ErrLimit: a frame is larger than this format allows.
var ErrLimit = errors.New("segment: frame beyond the format's limits")

// Block is what one write to a segment carries: entries, noise and the metadata about them.
type Block struct {
	Meta  Meta
	Data  []byte // .tlog entries, in order of arrival
	Noise []byte // noise runs, as AppendNoise makes them
	Sent  []byte // what went to the autopilot, as AppendSent makes it
	// Stored keeps the entries uncompressed, for a writer that is behind: compressing takes
	// half of its time. It is not on disk; the zstd frame says itself how it was made.
	Stored bool
}

// Meta is the metadata frame of a block. Times are microseconds since boot unless their name
// says otherwise. The fields under Header stand in the first block of each segment.
type Meta struct {
	Header *Header `json:"header,omitempty"`
	// Block counts up within a record. A block that was written a second time after a
	// failed sync keeps its number, so a reader takes the first whole copy.
	Block uint64 `json:"block"`
	// BootUsec is when the block was closed.
	BootUsec int64 `json:"boot_usec"`
	// StampOffset is what was added to microseconds since boot to give the stamps of the
	// entries and noise runs here; 0 where the clock was not known.
	StampOffset int64 `json:"stamp_offset_usec"`
	Frames      int   `json:"frames"`
	// Runs tells the link of each entry where there are several: pairs of link index and
	// number of entries, in order. Absent: all from link 0.
	Runs [][2]int `json:"runs,omitempty"`
	// Unknown lists the entries (counted from 0 in this block) whose message id is unknown.
	Unknown []int `json:"unknown,omitempty"`
	// Offset is where the first entry or noise run of this block began, among the bytes
	// received on its link.
	Offset     int64        `json:"offset"`
	Clock      []ClockPair  `json:"clock,omitempty"`
	Gaps       []Gap        `json:"gaps,omitempty"`
	GapsMore   *GapsMore    `json:"gaps_more,omitempty"`
	Drops      *Drops       `json:"drops,omitempty"`
	Lines      []LineErrors `json:"lines,omitempty"`
	Events     []Event      `json:"events,omitempty"`
	EventsMore int          `json:"events_more,omitempty"`
	Sync       *Sync        `json:"sync,omitempty"`
	// File says what the data is a piece of, in streams A, V and P.
	File *File `json:"file,omitempty"`
}

// Header says where a segment belongs. It repeats what names and the public log say, inside
// the seal, so that a file moved elsewhere is noticed.
type Header struct {
	Format    int    `json:"format"`
	Device    string `json:"device"`
	Record    string `json:"record"`
	Stream    string `json:"stream"`
	Segment   int    `json:"segment"`
	Continues string `json:"continues,omitempty"` // the record that this one goes on from
	Boot      string `json:"boot"`                // the kernel's boot id
	Version   string `json:"version"`
	Lock      string `json:"lock"`  // locked, bench, open
	Grade     string `json:"grade"` // A, B, none
	Board     string `json:"board,omitempty"`
	Links     []Link `json:"links"`
	Notes     []Note `json:"notes,omitempty"`
	// RecipientSalt is the salt of the recipients' fingerprints in the public log, in hex.
	RecipientSalt string `json:"recipient_salt,omitempty"`
	// Origins names who sends to the autopilot, by the index that SentRun has: "holdfast", then
	// "share:" and a name.
	Origins []string `json:"origins,omitempty"`
	// Operator and Case are what the configuration tags its records with.
	Operator string `json:"operator,omitempty"`
	Case     string `json:"case,omitempty"`
}

// Link names a source of telemetry.
type Link struct {
	Name   string `json:"name"`
	Device string `json:"device"`
	Baud   int    `json:"baud,omitempty"`
}

// Note is a circumstance of the whole record, such as a protection the kernel could not give.
type Note struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// ClockPair ties the time since boot to UTC.
type ClockPair struct {
	BootUsec        int64  `json:"boot_usec"`
	UTCUsec         int64  `json:"utc_usec"`
	Source          string `json:"source"` // autopilot, host, host_unsynchronised
	UncertaintyUsec int64  `json:"uncertainty_usec,omitempty"`
	Link            int    `json:"link,omitempty"`
}

// Gap is a jump in the sequence numbers of one component.
type Gap struct {
	BootUsec  int64 `json:"boot_usec"`
	Link      int   `json:"link,omitempty"`
	System    uint8 `json:"system"`
	Component uint8 `json:"component"`
	Expected  uint8 `json:"expected"`
	Got       uint8 `json:"got"`
	Lost      int   `json:"lost"`
}

// GapsMore counts the gaps of a block beyond those it lists.
type GapsMore struct {
	Gaps int `json:"gaps"`
	Lost int `json:"lost"`
}

// Drops counts what found no room between the reader and the writer.
type Drops struct {
	BootUsec     int64 `json:"boot_usec"` // the first one
	LastBootUsec int64 `json:"last_boot_usec"`
	Frames       int64 `json:"frames"`
	Bytes        int64 `json:"bytes"` // frames and noise
	NoiseBytes   int64 `json:"noise_bytes"`
}

// LineErrors are a UART's own counters since the link was opened.
type LineErrors struct {
	Link    int    `json:"link"`
	Overrun uint32 `json:"overrun"`
	Buffer  uint32 `json:"buffer_overrun"`
	Framing uint32 `json:"framing"`
	Parity  uint32 `json:"parity"`
	Break   uint32 `json:"break"`
}

// Event is something that happened: a link lost, arming, a failed write.
type Event struct {
	BootUsec int64  `json:"boot_usec"`
	Kind     string `json:"kind"`
	Link     string `json:"link,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// Sync tells how long the medium took to make data durable, since the last block.
type Sync struct {
	Count   int   `json:"count"`
	MaxUsec int64 `json:"max_usec"`
	SumUsec int64 `json:"sum_usec"`
	// LastUsec is when the last one ended that made entries durable: all of the blocks before.
	LastUsec int64 `json:"last_usec,omitempty"`
}

// NoiseRun is a run of bytes that belong to no frame.
type NoiseRun struct {
	Offset    int64  // of the first byte, among the bytes received on the link
	StampUsec uint64 // as the entries of the same block
	Link      uint8
	Reason    uint8 // mavlink.Reason
	Data      []byte
}

const noiseHead = 8 + 8 + 1 + 1 + 4

// AppendNoise appends r to dst in the form a noise frame holds: offset u64, stamp u64, link u8,
// reason u8, length u32 (all big endian), bytes.
func AppendNoise(dst []byte, r NoiseRun) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Offset))
	dst = binary.BigEndian.AppendUint64(dst, r.StampUsec)
	dst = append(dst, r.Link, r.Reason)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.Data)))
	return append(dst, r.Data...)
}

// ParseNoise returns the first run of p and what follows it. The run's data lies in p.
func ParseNoise(p []byte) (r NoiseRun, rest []byte, err error) {
	if len(p) < noiseHead {
		return r, nil, errors.New("segment: noise run cut short")
	}
	r.Offset = int64(binary.BigEndian.Uint64(p))
	r.StampUsec = binary.BigEndian.Uint64(p[8:])
	r.Link, r.Reason = p[16], p[17]
	n := int(binary.BigEndian.Uint32(p[18:]))
	if n < 0 || n > len(p)-noiseHead {
		return r, nil, errors.New("segment: noise run longer than its frame")
	}
	r.Data = p[noiseHead : noiseHead+n]
	return r, p[noiseHead+n:], nil
}

// Encoder turns blocks into bytes. Not safe for concurrent use.
type Encoder struct{ z *zstd.Encoder }

// encoderWindow bounds the memory of the encoder; a block is at most this long as a rule, so
// a larger window would find nothing more.
const encoderWindow = 256 << 10

// NewEncoder returns an encoder that needs about 2 MiB. It leaves out the entropy coding of
// literals: on telemetry that costs a third of the time and saves 8 % of the bytes.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(encoderWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true), zstd.WithNoEntropyCompression(true))
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	return &Encoder{z: z}, nil
}

// Append appends b to dst: the metadata frame, then a self-contained zstd frame where there
// are entries, then a noise frame where there is noise, then what was sent.
func (e *Encoder) Append(dst []byte, b *Block) ([]byte, error) {
	meta, err := json.Marshal(&b.Meta)
	if err != nil {
		return dst, fmt.Errorf("encode metadata: %w", err)
	}
	if len(meta) > MaxMeta || len(b.Noise) > MaxNoise || len(b.Sent) > MaxSent || len(b.Data) > MaxFrame {
		return dst, ErrLimit
	}
	dst = appendSkippable(dst, MetaMagic, meta)
	switch {
	case len(b.Data) == 0:
	case b.Stored:
		dst = appendStored(dst, b.Data)
	default:
		dst = e.z.EncodeAll(b.Data, dst)
	}
	if len(b.Noise) > 0 {
		dst = appendSkippable(dst, NoiseMagic, b.Noise)
	}
	if len(b.Sent) > 0 {
		dst = appendSkippable(dst, SentMagic, b.Sent)
	}
	return dst, nil
}

// storedBlock is the longest block of a zstd frame.
const storedBlock = 128 << 10

// appendStored appends p as a zstd frame of raw blocks (RFC 8878, sections 3.1.1.1 and 3.1.1.2):
// one segment, four bytes of content size, no checksum, for age authenticates every byte. p is
// not empty. The library has no call for this.
func appendStored(dst, p []byte) []byte {
	const sizeOf4, singleSegment, lastBlock = 2 << 6, 1 << 5, 1
	dst = binary.LittleEndian.AppendUint32(dst, zstdMagic)
	dst = append(dst, sizeOf4|singleSegment)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p)))
	for len(p) > 0 {
		n := min(len(p), storedBlock)
		head := uint32(n) << 3 // type 0, raw
		if n == len(p) {
			head |= lastBlock
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst, p = append(dst, p[:n]...), p[n:]
	}
	return dst
}

func appendSkippable(dst []byte, magic uint32, p []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, magic)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p)))
	return append(dst, p...)
}
