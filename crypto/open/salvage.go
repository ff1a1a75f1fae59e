package open

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	chunkSize       = 64 << 10 // plaintext of a full chunk, in bytes
	tagSize         = chacha20poly1305.Overhead
	sealedChunkSize = chunkSize + tagSize
	payloadNonce    = 16 // bytes between header and first chunk
	lastChunkFlag   = 1  // last byte of the nonce of the closing chunk
)

// Chunk is one chunk that authenticated.
type Chunk struct {
	Index int64  // position in the file, counted from 0; its plaintext begins at Index * 64 KiB
	Plain []byte // valid until the next call of Next
	Lost  int64  // bytes of plaintext lost right before this chunk; 0 in a sound file
}

// Result says what was found. It is complete when Next has returned io.EOF.
type Result struct {
	Ended     bool  // the closing chunk was seen
	Chunks    int64 // chunks that authenticated
	BadChunks int64 // chunks that did not, Unreadable included
	LostBytes int64 // plaintext of the bad chunks
	// Unreadable counts the chunks that the source returned an error for, and ReadError
	// is the first of these errors.
	Unreadable int64
	ReadError  error
	// CutBytes counts sealed bytes at the end that belong to no whole chunk: a piece that
	// was not written to its end, or a header that was not.
	CutBytes      int64
	TrailingBytes int64 // bytes after the closing chunk
	Cut           bool  // the file ends without a closing chunk
	Damaged       bool  // a bad chunk, trailing bytes, or an empty closing chunk
}

// Clean reports a file that is whole: age opens it without complaint.
func (r Result) Clean() bool { return r.Ended && !r.Damaged }

// Salvaged reads the chunks of one segment. Not safe for concurrent use.
type Salvaged struct {
	src  io.ReaderAt
	aead cipher.AEAD
	off  int64 // of the next chunk
	size int64 // of the file

	index int64
	lost  int64 // bytes lost since the last good chunk
	torn  torn
	done  bool
	res   Result

	in, out []byte
	nonce   [chacha20poly1305.NonceSize]byte
}

// torn is a run of bad pieces that may turn out to be the end of the file, not written yet
// when the power failed.
type torn struct {
	chunks, sealed int64
}

// Salvage reads the header of the age file of size bytes in src and finds the file key with
// ids. Chunks are then read by Next, one at a time, so memory is bounded.
//
// A file that ends within its header (or is empty) is not an error: it has no chunks, and
// Result says Cut. Errors: ErrNoIdentity where none of ids fits, ErrDamaged where the header
// is not an age header, fails authentication or cannot be read.
func Salvage(src io.ReaderAt, size int64, ids ...age.Identity) (*Salvaged, error) {
	s := &Salvaged{src: src, size: max(size, 0)}
	header, err := s.header()
	if errors.Is(err, io.EOF) {
		s.cutInHeader()
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, ErrNoIdentity
	}
	fileKey, err := age.DecryptHeader(header, ids...)
	if err != nil {
		return nil, classify(err)
	}
	s.off = int64(len(header)) + payloadNonce
	if s.off > s.size {
		s.cutInHeader()
		return s, nil
	}
	nonce := make([]byte, payloadNonce)
	if n, err := src.ReadAt(nonce, int64(len(header))); n < len(nonce) {
		return nil, fmt.Errorf("%w: read payload nonce: %w", ErrDamaged, err)
	}
	if s.aead, err = payloadCipher(fileKey, nonce); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	s.in, s.out = make([]byte, sealedChunkSize), make([]byte, 0, chunkSize)
	return s, nil
}

// payloadCipher derives the payload key as age.md says.
func payloadCipher(fileKey, nonce []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, fileKey, nonce, "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.New(key)
}

// header returns the bytes of the header, or io.EOF where the file ends within it.
func (s *Salvaged) header() ([]byte, error) {
	intro := make([]byte, min(s.size, int64(len(ageMagic))))
	src := &errorKeeper{src: s.src}
	n, _ := src.ReadAt(intro, 0)
	switch {
	case src.err != nil:
		return nil, fmt.Errorf("%w: read header: %w", ErrDamaged, src.err)
	case !bytes.HasPrefix([]byte(ageMagic), intro[:n]):
		return nil, fmt.Errorf("%w: not an age file", ErrDamaged)
	case n < len(ageMagic):
		return nil, io.EOF
	}
	header, err := age.ExtractHeader(io.NewSectionReader(src, 0, s.size))
	switch {
	case err == nil:
		return header, nil
	case src.err != nil:
		return nil, fmt.Errorf("%w: read header: %w", ErrDamaged, src.err)
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	}
	return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
}

// errorKeeper remembers the first error of src that is not the end of the file.
type errorKeeper struct {
	src io.ReaderAt
	err error
}

func (k *errorKeeper) ReadAt(p []byte, off int64) (int, error) {
	n, err := k.src.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) && k.err == nil {
		k.err = err
	}
	return n, err
}

func (s *Salvaged) cutInHeader() {
	s.done = true
	s.res.Cut = true
	s.res.CutBytes = s.size
}

// Next returns the next chunk that authenticates, and passes over those that do not. The
// only error is io.EOF, at the end; Result then says what was passed over.
//
// A piece at the end that is shorter than a chunk and does not authenticate is cut. So are
// bad pieces at the end whose tag is zero: their space was given to the file, but power
// failed before they were written. Any other bad piece is damage.
func (s *Salvaged) Next() (Chunk, error) {
	for !s.done {
		rest := s.size - s.off
		if rest <= 0 {
			s.end()
			break
		}
		piece, err := s.read(min(rest, sealedChunkSize))
		if err == nil && len(piece) == 0 {
			s.end() // the source is shorter than size
			break
		}
		if err == nil && s.authenticate(piece) {
			return s.take(len(piece)), nil
		}
		s.pass(piece, err)
	}
	return Chunk{}, io.EOF
}

// read returns the n sealed bytes at s.off, or fewer where the source ends before.
func (s *Salvaged) read(n int64) ([]byte, error) {
	got, err := s.src.ReadAt(s.in[:n], s.off)
	if int64(got) == n {
		return s.in[:n], nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		s.size = s.off + int64(got)
		return s.in[:got], nil
	}
	return s.in[:n], err
}

// authenticate opens piece into s.out, first as a chunk in the middle, then as the closing
// chunk. The ciphertext must outlive the first try, so out is a buffer of its own.
func (s *Salvaged) authenticate(piece []byte) bool {
	if len(piece) < tagSize {
		return false
	}
	nonce := s.nonce[:]
	binary.BigEndian.PutUint64(nonce[3:], uint64(s.index))
	nonce[len(nonce)-1] = 0
	if len(piece) == sealedChunkSize {
		if plain, err := s.aead.Open(s.out[:0], nonce, piece, nil); err == nil {
			s.out = plain
			return true
		}
	}
	nonce[len(nonce)-1] = lastChunkFlag
	plain, err := s.aead.Open(s.out[:0], nonce, piece, nil)
	if err != nil {
		return false
	}
	s.out, s.res.Ended = plain, true
	return true
}

// take returns the chunk in s.out, which was n bytes sealed, and moves on.
func (s *Salvaged) take(n int) Chunk {
	s.settle()
	c := Chunk{Index: s.index, Plain: s.out, Lost: s.lost}
	s.lost = 0
	s.index++
	s.off += int64(n)
	s.res.Chunks++
	if s.res.Ended {
		s.done = true
		s.res.TrailingBytes = s.size - s.off
		// age.md: the closing chunk may be empty only where the whole plaintext is.
		if s.res.TrailingBytes > 0 || len(c.Plain) == 0 && c.Index > 0 {
			s.res.Damaged = true
		}
	}
	return c
}

// pass moves on behind a piece that did not authenticate or could not be read.
func (s *Salvaged) pass(piece []byte, err error) {
	n := int64(len(piece))
	s.index++
	s.off += n
	switch {
	case err != nil:
		s.settle()
		s.bad(1, n)
		s.res.Unreadable++
		if s.res.ReadError == nil {
			s.res.ReadError = err
		}
	case n < sealedChunkSize || unwritten(piece):
		s.torn.chunks++
		s.torn.sealed += n
	default:
		s.settle()
		s.bad(1, n)
	}
}

// unwritten reports a full piece whose tag is all zeros, which no real tag is but by a
// chance of 2^-128.
func unwritten(piece []byte) bool {
	return len(bytes.Trim(piece[len(piece)-tagSize:], "\x00")) == 0
}

// bad counts chunks that are lost, sealed bytes long.
func (s *Salvaged) bad(chunks, sealed int64) {
	plain := max(sealed-chunks*tagSize, 0)
	s.lost += plain
	s.res.LostBytes += plain
	s.res.BadChunks += chunks
	s.res.Damaged = true
}

// settle counts a torn run as damage, because something follows it.
func (s *Salvaged) settle() {
	if s.torn.chunks > 0 {
		s.bad(s.torn.chunks, s.torn.sealed)
		s.torn = torn{}
	}
}

// end closes the account of a file without a closing chunk.
func (s *Salvaged) end() {
	s.done = true
	s.res.Cut = true
	s.res.CutBytes = s.torn.sealed
}

// Result returns what was found so far.
func (s *Salvaged) Result() Result { return s.res }
