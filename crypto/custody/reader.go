package custody

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// minBody is the shortest body of a leaf, in bytes.
const minBody = 2

// Reader reads leaves in order. It checks their framing alone: call Leaf.Entry for the body.
// It holds one leaf and a buffer of 64 KiB. Not safe for concurrent use.
type Reader struct {
	r      *bufio.Reader
	offset int64
	err    error
}

// NewReader reads from r, which it never closes.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Offset is where the next leaf begins, in bytes from where the Reader began: after an error
// the number of good bytes.
func (r *Reader) Offset() int64 { return r.offset }

// Next returns the next leaf, whose Body is the caller's; io.EOF behind the last one; an error
// that wraps ErrLeaf at the first bytes that are no whole leaf with a right CRC; and any other
// error of the reader below as it is. An error stays.
func (r *Reader) Next() (Leaf, error) {
	if r.err != nil {
		return Leaf{}, r.err
	}
	l, err := r.leaf()
	if err != nil {
		r.err = err
		return Leaf{}, err
	}
	r.offset += l.Size()
	return l, nil
}

func (r *Reader) leaf() (Leaf, error) {
	var head [leafHead]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return Leaf{}, r.short(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < minBody || n > MaxBody {
		return Leaf{}, fmt.Errorf("%w: at byte %d: length %d", ErrLeaf, r.offset, n)
	}
	rest := make([]byte, n+leafTail)
	if _, err := io.ReadFull(r.r, rest); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Leaf{}, r.short(err)
	}
	body := rest[:n:n]
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, body)
	if binary.BigEndian.Uint32(rest[n:]) != sum {
		return Leaf{}, fmt.Errorf("%w: at byte %d: wrong CRC", ErrLeaf, r.offset)
	}
	return Leaf{Kind(head[leafHead-1]), body}, nil
}

// short tells a leaf that was cut from an end and from a fault of the reader below.
func (r *Reader) short(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: at byte %d: cut", ErrLeaf, r.offset)
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return fmt.Errorf("read log: %w", err)
}
