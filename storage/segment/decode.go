package segment

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Handler takes what a Decoder finds, in order. Slices are valid during the call only.
type Handler interface {
	// Meta opens a block.
	Meta(m *Meta) error
	// Data holds whole or, where part is set, the readable beginning of the entries of the
	// block that the last Meta opened.
	Data(entries []byte, part bool) error
	Noise(r NoiseRun) error
}

// SentHandler is a Handler that takes what was sent to the autopilot too.
type SentHandler interface {
	Sent(r SentRun) error
}

// Stats counts what a Decoder could not use.
type Stats struct {
	Blocks       int
	SkippedBytes int64 // plaintext that belonged to no frame it could read
	BadFrames    int   // frames that were whole and could not be read
	CutFrames    int   // frames whose end is not there
}

// Decoder reads the plaintext of one segment, fed in pieces, and goes on behind holes: after
// one it looks for the next metadata frame, which every block opens with. An error of the
// handler is kept and returned by every later call. Not safe for concurrent use.
type Decoder struct {
	h     Handler
	z     *zstd.Decoder
	buf   []byte
	lost  bool // looking for the next metadata frame
	stats Stats
	err   error
}

// NewDecoder returns a decoder that hands what it finds to h.
func NewDecoder(h Handler) (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxFrame),
		zstd.WithDecoderMaxWindow(MaxFrame), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	return &Decoder{h: h, z: z}, nil
}

// Feed takes the next piece of plaintext. It returns the handler's error only: content that
// cannot be read is counted in Stats.
func (d *Decoder) Feed(p []byte) error {
	if d.err != nil {
		return d.err
	}
	d.buf = append(d.buf, p...)
	if used := d.consume(); used > 0 {
		d.buf = append(d.buf[:0], d.buf[used:]...)
	}
	return d.err
}

// Hole says that plaintext is missing between the last Feed and the next one.
func (d *Decoder) Hole() error {
	d.salvageRest()
	d.lost = true
	return d.err
}

// End says that no more plaintext comes, and returns the counts.
func (d *Decoder) End() (Stats, error) {
	d.salvageRest()
	d.z.Close()
	return d.stats, d.err
}

// salvageRest takes what can be had from an incomplete frame at the end of the input.
func (d *Decoder) salvageRest() {
	if d.err != nil {
		return
	}
	// A lone 0x50 is the byte that crypto/seal hands out ahead of the next block.
	if len(d.buf) > 0 && !d.lost && !bytes.Equal(d.buf, []byte{0x50}) {
		d.stats.CutFrames++
		d.partialZstd()
	}
	if d.lost {
		d.stats.SkippedBytes += int64(len(d.buf))
	}
	d.buf = d.buf[:0]
}

func (d *Decoder) partialZstd() {
	if len(d.buf) < 4 || binary.LittleEndian.Uint32(d.buf) != zstdMagic {
		d.stats.SkippedBytes += int64(len(d.buf))
		return
	}
	r, err := zstd.NewReader(bytes.NewReader(d.buf), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxFrame))
	if err != nil {
		return
	}
	defer r.Close()
	// The error is expected: the frame is cut. Blocks before the cut are complete.
	out, _ := io.ReadAll(io.LimitReader(r, MaxFrame))
	if len(out) > 0 {
		d.keep(d.h.Data(out, true))
	}
}

func (d *Decoder) keep(err error) {
	if err != nil && d.err == nil {
		d.err = err
	}
}

// consume handles the whole frames at the start of the buffer and returns their length.
func (d *Decoder) consume() (used int) {
	for d.err == nil {
		rest := d.buf[used:]
		if d.lost {
			n, found := findMeta(rest)
			d.stats.SkippedBytes += int64(n)
			used += n
			if !found {
				return used
			}
			d.lost = false
			continue
		}
		n, err := d.frame(rest)
		if err == errMore {
			return used
		}
		if err != nil && d.err == nil {
			d.stats.BadFrames++
			d.lost = true
			n = 1
			d.stats.SkippedBytes++
		}
		used += n
	}
	return used
}

// findMeta returns how many bytes lie before the next metadata frame, or before the part of
// the buffer that could still become one.
func findMeta(p []byte) (n int, found bool) {
	magic := binary.LittleEndian.AppendUint32(nil, MetaMagic)
	for {
		i := bytes.Index(p[n:], magic)
		if i < 0 {
			return max(n, len(p)-3), false
		}
		n += i
		if len(p)-n < 9 {
			return n, false
		}
		size := binary.LittleEndian.Uint32(p[n+4:])
		if size >= 2 && size <= MaxMeta && p[n+8] == '{' {
			return n, true
		}
		n++
	}
}

// errMore: the frame goes on behind what is there. It is no error of package io, because zstd
// returns those for whole frames that it cannot decode.
var errMore = errors.New("segment: frame goes on")

// frame handles one frame at the start of p and returns its length; errMore where p holds only
// a part of it.
func (d *Decoder) frame(p []byte) (int, error) {
	if len(p) < 8 {
		return 0, errMore
	}
	magic := binary.LittleEndian.Uint32(p)
	if magic == zstdMagic {
		return d.zstdFrame(p)
	}
	limit, ok := map[uint32]int{MetaMagic: MaxMeta, NoiseMagic: MaxNoise, SentMagic: MaxSent, PadMagic: MaxPad}[magic]
	if !ok {
		return 0, fmt.Errorf("segment: unknown frame %08x", magic)
	}
	size := int64(binary.LittleEndian.Uint32(p[4:]))
	if size > int64(limit) {
		return 0, ErrLimit
	}
	end := 8 + int(size)
	if len(p) < end {
		return 0, errMore
	}
	switch magic {
	case MetaMagic:
		return end, d.meta(p[8:end])
	case NoiseMagic:
		return end, d.noise(p[8:end])
	case SentMagic:
		return end, d.sent(p[8:end])
	}
	return end, nil
}

func (d *Decoder) meta(p []byte) error {
	if len(p) == 0 { // what a clean close right after a flush leaves
		return nil
	}
	var m Meta
	if err := json.Unmarshal(p, &m); err != nil {
		return fmt.Errorf("segment: metadata: %w", err)
	}
	d.stats.Blocks++
	d.keep(d.h.Meta(&m))
	return d.err
}

func (d *Decoder) noise(p []byte) error {
	for len(p) > 0 {
		r, rest, err := ParseNoise(p)
		if err != nil {
			return err
		}
		if d.keep(d.h.Noise(r)); d.err != nil {
			return d.err
		}
		p = rest
	}
	return nil
}

func (d *Decoder) sent(p []byte) error {
	h, _ := d.h.(SentHandler)
	for len(p) > 0 {
		r, rest, err := ParseSent(p)
		if err != nil {
			return err
		}
		if h == nil {
			return nil
		}
		if d.keep(h.Sent(r)); d.err != nil {
			return d.err
		}
		p = rest
	}
	return nil
}

func (d *Decoder) zstdFrame(p []byte) (int, error) {
	n, err := zstdLength(p)
	if err != nil {
		return 0, err
	}
	out, err := d.z.DecodeAll(p[:n], nil)
	if err != nil {
		return 0, fmt.Errorf("segment: zstd frame: %w", err)
	}
	d.keep(d.h.Data(out, false))
	return n, d.err
}

// zstdLength returns the length of the zstd frame at the start of p (RFC 8878, section 3.1.1);
// errMore where p holds only a part of it.
func zstdLength(p []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(p); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, errMore
		}
		return 0, fmt.Errorf("segment: zstd header: %w", err)
	}
	for n := h.HeaderSize; ; {
		if n > MaxFrame {
			return 0, ErrLimit
		}
		if len(p) < n+3 {
			return 0, errMore
		}
		head := uint32(p[n]) | uint32(p[n+1])<<8 | uint32(p[n+2])<<16
		size := int(head >> 3)
		if kind := head >> 1 & 3; kind == 1 { // RLE: one byte stands for size bytes
			size = 1
		} else if kind == 3 {
			return 0, errors.New("segment: reserved zstd block type")
		}
		if n += 3 + size; head&1 == 0 {
			continue
		}
		if h.HasCheckSum {
			n += 4
		}
		if len(p) < n {
			return 0, errMore
		}
		return n, nil
	}
}
