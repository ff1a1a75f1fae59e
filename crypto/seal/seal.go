// Package seal writes sealed segments, format v1 (docs/format/v1.md, section 3).
//
// A segment is one age file (https://c2sp.org/age) with a fresh file key. What is special is
// Flush: it pads the plaintext with a zstd skippable frame (RFC 8878, section 3.1.2) so that
// age completes a chunk, and everything written before can be opened after a cut.
//
// The package works on an io.Writer: it opens no file, reads no clock, starts no goroutine.
// It cannot open what it sealed. It invents no cipher and no nonce rule; age does the sealing.
//
// # Keys in memory
//
// Built with GOEXPERIMENT=runtimesecret for linux/amd64 or linux/arm64, every step that
// touches the file key or the payload key runs inside secret.Do, and Close and Abandon drop
// all references to them. The memory is erased at the next garbage collection and not
// before: call Wipe after closing a segment. In other builds keys stay in freed memory until
// something overwrites them; Wipes tells which build this is.
package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// MetaMagic begins the skippable frame of metadata that opens each flush, as a u32le.
	MetaMagic = 0x184D2A50
	// PadMagic begins the skippable frame of zeros that ends a flush, as a u32le.
	PadMagic = 0x184D2A5F
	// ChunkSize is the plaintext of one full age chunk, in bytes.
	ChunkSize = 64 << 10
	// SealedChunkSize is the same chunk as it stands in the file, in bytes.
	SealedChunkSize = ChunkSize + chacha20poly1305.Overhead

	frameHeader = 8 // magic and length of a skippable frame, in bytes
)

var (
	// ErrClosed is returned after Close or Abandon.
	ErrClosed = errors.New("segment is closed")
	// ErrNotMeta is returned by Write when the first bytes after a Flush do not begin with
	// the first byte of MetaMagic, which the flush has written already.
	ErrNotMeta = errors.New("data after a flush does not begin with a metadata frame")
)

// Sealer writes one segment. After an error it keeps returning that error; chunks already
// handed over stay valid. Not safe for concurrent use.
type Sealer struct {
	w    io.Writer
	file io.WriteCloser // age's writer; it holds the payload key

	in       []byte // plaintext that age has not seen
	inBuf    []byte // room for in, allocated outside secret.Do
	total    int64  // bytes of plaintext, those in in included
	promised bool   // the last byte is a flush's one byte more
	dirty    bool   // something was written since the last flush

	out     sink
	size    int64 // bytes handed to w
	flushed int64 // size at the last flush
	err     error

	// Arguments and results of the steps that run inside secret.Do. The steps are kept as
	// values, so that a call allocates nothing.
	to               age.Recipient
	arg              []byte
	stepErr          error
	seal, open, last func()
}

// sink takes what age writes inside secret.Do, so that the caller's writer runs outside.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

// New makes a fresh file key, seals it to to and writes the age header to w. The recipient
// must be good for age.Encrypt; w is used by s alone until Close or Abandon, and never closed.
func New(w io.Writer, to age.Recipient) (*Sealer, error) {
	s := &Sealer{
		w:  w,
		to: to,
		// One byte more than a chunk: age hands out a chunk when it sees what follows.
		inBuf: make([]byte, 0, ChunkSize+1),
		out:   sink{make([]byte, 0, SealedChunkSize+ChunkSize/8)},
	}
	s.in = s.inBuf
	s.open = func() { s.file, s.stepErr = age.Encrypt(&s.out, s.to) }
	s.seal = func() { _, s.stepErr = s.file.Write(s.arg) }
	s.last = func() { s.stepErr = s.file.Close() }
	if err := s.step(s.open); err != nil {
		s.Abandon()
		return nil, err
	}
	return s, nil
}

// Write adds p to the segment. Full chunks go to the writer at once, the rest waits for the
// next Write, Flush or Close. After a Flush the next byte must be the first of MetaMagic; the
// flush has written it, so it is passed over. n is 0 or len(p).
func (s *Sealer) Write(p []byte) (n int, err error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	rest := p
	if s.promised {
		if p[0] != metaHeader[0] {
			s.err = ErrNotMeta
			return 0, s.err
		}
		s.promised, rest = false, p[1:]
	}
	s.dirty = true
	if err := s.add(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}

// add takes plaintext and passes it to age in pieces that each end one byte after a chunk,
// so that a step inside secret.Do hands out exactly one chunk.
func (s *Sealer) add(p []byte) error {
	for len(p) > 0 {
		// Missing up to the next byte that completes a chunk.
		want := ChunkSize + 1
		if s.total > 0 {
			want = ChunkSize - int((s.total-1)%ChunkSize)
		}
		n := min(want, len(p))
		s.total += int64(n)
		if n == want && len(s.in) == 0 {
			if err := s.sealPiece(p[:n]); err != nil {
				return err
			}
			p = p[n:]
			continue
		}
		s.in = append(s.in, p[:n]...)
		p = p[n:]
		if n == want {
			if err := s.sealIn(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sealIn passes the waiting plaintext to age.
func (s *Sealer) sealIn() error {
	err := s.sealPiece(s.in)
	s.in = s.inBuf
	return err
}

func (s *Sealer) sealPiece(p []byte) error {
	s.arg = p
	err := s.step(s.seal)
	s.arg = nil
	return err
}

// step runs f inside secret.Do and hands what age wrote to the writer. An error stays.
func (s *Sealer) step(f func()) error {
	s.out.b = s.out.b[:0]
	do(f)
	if s.stepErr != nil {
		s.err = fmt.Errorf("seal: %w", s.stepErr)
		return s.err
	}
	if len(s.out.b) == 0 {
		return nil
	}
	n, err := s.w.Write(s.out.b)
	s.size += int64(max(n, 0))
	if err == nil && n != len(s.out.b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.err = fmt.Errorf("write segment: %w", err)
	}
	return s.err
}

// Flush pads the open chunk and hands it to the writer, so that everything written before
// can be opened after a cut. n is the number of bytes handed over since the last Flush, or
// since New. Where nothing was written since, it writes nothing and returns 0.
//
// Flush adds a skippable frame (PadMagic, length, zeros) that brings the plaintext to a
// multiple of ChunkSize, and then the first byte of MetaMagic. age hands out a full chunk
// only when it knows that another byte follows; that byte stays with age, so the chunks in
// the file end where a frame ends, and zstd reads them without error.
func (s *Sealer) Flush() (n int64, err error) {
	if s.err != nil || !s.dirty {
		return 0, s.err
	}
	if err := s.pad(); err != nil {
		return 0, err
	}
	if err := s.add(metaHeader[:1]); err != nil {
		return 0, err
	}
	s.dirty, s.promised = false, true
	n = s.size - s.flushed
	s.flushed = s.size
	return n, nil
}

// pad adds the skippable frame that brings the plaintext to a multiple of ChunkSize. Where
// less than a frame header is missing it spans one chunk more.
func (s *Sealer) pad() error {
	n := int(-s.total & (ChunkSize - 1))
	switch {
	case n == 0:
		return nil
	case n < frameHeader:
		n += ChunkSize
	}
	n -= frameHeader
	if err := s.add(skippableHeader(PadMagic, n)); err != nil {
		return err
	}
	return s.add(zeros[:n])
}

// zeros is the longest padding: it begins less than a frame header before a chunk's end.
var zeros [ChunkSize - 1]byte

// metaHeader is an empty skippable frame of metadata.
var metaHeader = skippableHeader(MetaMagic, 0)

// skippableHeader returns the header of a zstd skippable frame with n bytes of content.
func skippableHeader(magic uint32, n int) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, frameHeader), magic)
	return binary.LittleEndian.AppendUint32(b, uint32(n))
}

// Size returns the bytes handed to the writer so far.
func (s *Sealer) Size() int64 { return s.size }

// Close writes the closing chunk, so that age opens the file without complaint, and drops
// the key. It does not close the writer. Straight after a Flush it completes the frame that
// the flush began as an empty one, because zstd fails on a lone byte.
//
// On any return the key is dropped, and s returns ErrClosed from then on.
func (s *Sealer) Close() error {
	defer s.Abandon()
	if s.err != nil {
		return s.err
	}
	if s.promised {
		if err := s.add(metaHeader[1:]); err != nil {
			return err
		}
	}
	if err := s.sealIn(); err != nil {
		return err
	}
	return s.step(s.last)
}

// Abandon drops the key without a closing chunk. What was flushed stays valid in a cut file;
// what was written after the last Flush is lost, but for its full chunks.
func (s *Sealer) Abandon() {
	clear(s.inBuf[:cap(s.inBuf)])
	*s = Sealer{size: s.size, err: ErrClosed}
}

// Wipes reports whether this build erases keys (see the package comment). Where it is false,
// Wipe changes nothing that matters.
func Wipes() bool { return wipes }

// Wipe has the keys of all closed and abandoned segments erased from memory. It collects
// garbage, which takes some milliseconds, so call it once after closing a segment. What is
// reachable, an open Sealer, keeps its keys.
func Wipe() {
	// A collection that is under way is ended first, so one is enough for what nothing
	// refers to. The second reaches what a finalizer kept through the first.
	runtime.GC()
	runtime.GC()
}
