package tlog

import (
	"encoding/binary"
	"io"

	"holdfast/mavlink"
)

const (
	// MaxStray is the size of the longest run of stray bytes in one Item.
	MaxStray = 64 << 10

	bufferSize = 2 * MaxStray
	// maxEmptyReads is how often in a row the source may return neither bytes nor error.
	maxEmptyReads = 100
)

// Reader reads a log. Not safe for concurrent use.
type Reader struct {
	src    io.Reader
	buf    []byte
	lo, hi int   // buf[lo:hi] is read and not given out
	err    error // what ended the source
}

// NewReader returns a Reader of r, which it reads ahead in a buffer of 128 KiB. Closing
// the source is up to the caller.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: r, buf: make([]byte, bufferSize)}
}

// Next returns the next entry or run of stray bytes.
//
// An entry is a stamp and a whole frame whose checksum is right. Where the checksum is
// wrong or the message is not known, the end of the input or another stamp and start byte,
// at most a day apart, must follow directly. Next never fails on odd content. At the end
// it returns io.EOF; if the source failed, what was read before comes first, then the
// source's error.
func (r *Reader) Next() (Item, error) {
	stray := 0
	for stray < MaxStray && r.fill(stray+1) {
		if size := r.fit(stray); size > 0 {
			if stray == 0 {
				return r.entry(size), nil
			}
			break
		}
		stray++
	}
	if stray == 0 {
		return Item{}, r.err
	}
	return Item{Raw: r.take(stray)}, nil
}

func (r *Reader) entry(size int) Item {
	b := r.take(size)
	return Item{Entry: true, TimeUsec: binary.BigEndian.Uint64(b), Raw: b[stampSize:]}
}

// take gives out the next n bytes.
func (r *Reader) take(n int) []byte {
	b := r.buf[r.lo : r.lo+n : r.lo+n]
	r.lo += n
	return b
}

// fit returns the size of the entry that begins skip bytes ahead, 0 if none does. It asks
// the source for no more than it needs to tell.
func (r *Reader) fit(skip int) int {
	if !r.fill(skip+headSize) || !isStart(r.ahead(skip)[stampSize]) {
		return 0
	}
	r.fill(skip + stampSize + frameHead)
	size := stampSize + mavlink.SpanSize(r.ahead(skip)[stampSize:])
	if size == stampSize || !r.fill(skip+size) {
		return 0
	}
	f, _ := mavlink.ParseFrame(r.ahead(skip)[stampSize:])
	if f.ChecksumOK() {
		return size
	}
	more := r.fill(skip + size + 1)
	r.fill(skip + size + headSize)
	b := r.ahead(skip)
	if !more || heads(b[size:], binary.BigEndian.Uint64(b)) {
		return size
	}
	return 0
}

// ahead returns what is buffered behind the next skip bytes.
func (r *Reader) ahead(skip int) []byte { return r.buf[r.lo+skip : r.hi] }

// fill reads until n bytes are buffered; it is false if the source ended before.
func (r *Reader) fill(n int) bool {
	if r.hi-r.lo >= n {
		return true
	}
	if r.lo+n > len(r.buf) {
		r.hi = copy(r.buf, r.buf[r.lo:r.hi])
		r.lo = 0
	}
	for empty := 0; r.hi-r.lo < n && r.err == nil; {
		var k int
		k, r.err = r.src.Read(r.buf[r.hi:])
		r.hi += k
		if empty++; k > 0 {
			empty = 0
		} else if empty == maxEmptyReads && r.err == nil {
			r.err = io.ErrNoProgress
		}
	}
	return r.hi-r.lo >= n
}
