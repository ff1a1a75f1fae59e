package mediapipe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
)

// Append appends m to dst as it goes over the wire. The error wraps ErrBad where m is out of the
// bounds that a reader accepts.
func Append(dst []byte, session uint32, m Message) ([]byte, error) {
	if d, ok := m.(*Data); ok {
		if !d.valid() {
			return dst, fmt.Errorf("%w: Data out of bounds", ErrBad)
		}
		at := len(dst)
		dst = append(dst, make([]byte, HeadRoom)...)
		dst = append(dst, d.Bytes...)
		PutData(dst[at:], d)
		Seal(dst[at:], session)
		return dst, nil
	}
	p, err := body(m)
	if err != nil {
		return dst, err
	}
	at := len(dst)
	dst = append(dst, make([]byte, headSize)...)
	dst = append(dst, p...)
	putHead(dst[at:], m.kind())
	Seal(dst[at:], session)
	return dst, nil
}

// PutData makes the message of a Data in place: p has HeadRoom bytes and then the data; the Bytes of
// d are not looked at. The caller has to Seal it.
func PutData(p []byte, d *Data) {
	binary.BigEndian.PutUint32(p[headSize:], d.File)
	binary.BigEndian.PutUint64(p[headSize+4:], uint64(d.Offset))
	binary.BigEndian.PutUint64(p[headSize+12:], uint64(d.BootUsec))
	putHead(p, KindData)
}

func putHead(p []byte, k Kind) {
	copy(p, magic[:])
	p[4], p[5], p[6], p[7] = version, byte(k), 0, 0
	binary.BigEndian.PutUint32(p[12:], uint32(len(p)-headSize))
	binary.BigEndian.PutUint32(p[16:], crc32.Checksum(p[headSize:], castagnoli))
}

// Seal puts the session into a message that PutData or Append has made.
func Seal(p []byte, session uint32) {
	binary.BigEndian.PutUint32(p[8:], session)
	binary.BigEndian.PutUint32(p[20:], crc32.Checksum(p[:20], castagnoli))
}

// head is a message's first 24 bytes.
type head struct {
	kind    Kind
	session uint32
	length  int
	sum     uint32
}

// parseHead takes the first headSize bytes of p.
func parseHead(p []byte) (h head, ok bool) {
	if [4]byte(p) != magic || p[4] != version || p[6] != 0 || p[7] != 0 ||
		binary.BigEndian.Uint32(p[20:]) != crc32.Checksum(p[:20], castagnoli) {
		return h, false
	}
	h = head{kind: Kind(p[5]), session: binary.BigEndian.Uint32(p[8:]), sum: binary.BigEndian.Uint32(p[16:])}
	n := binary.BigEndian.Uint32(p[12:])
	most := uint32(maxJSON)
	if h.kind == KindData {
		most = maxBody
	}
	h.length = int(min(n, most))
	return h, n <= most
}

// decode parses a body whose sum is right. nil: it is none.
func decode(k Kind, p []byte) Message {
	if k == KindData {
		return decodeData(p)
	}
	m := empty(k)
	if m == nil || json.Unmarshal(p, m) != nil || !m.valid() {
		return nil
	}
	if again, err := json.Marshal(m); err != nil || !bytes.Equal(again, p) {
		return nil
	}
	return m
}

func decodeData(p []byte) Message {
	if len(p) < DataHead {
		return nil
	}
	d := &Data{
		File: binary.BigEndian.Uint32(p), Offset: int64(binary.BigEndian.Uint64(p[4:])),
		BootUsec: int64(binary.BigEndian.Uint64(p[12:])), Bytes: p[DataHead:],
	}
	if !d.valid() {
		return nil
	}
	return d
}

// readerBuffer holds the largest message and what a read brings beyond it.
const readerBuffer = headSize + maxBody + 64<<10

// Padding is what a writer puts in front of each Hello: as many zeros as the longest message has
// bytes. Where a process died in the middle of a message, they fill it up, and Reader passes
// over it whole: it never looks for a message among the bytes of a camera.
func Padding() []byte { return make([]byte, headSize+maxBody) }

// ShortPadding is the same towards the media process: there is no Data on that way.
func ShortPadding() []byte { return make([]byte, headSize+maxJSON) }

// Reader takes messages from a FIFO. Not safe for concurrent use.
type Reader struct {
	r          io.Reader
	buf        []byte
	from, to   int // what of buf is not taken yet
	garbage    int64
	unreadable error
}

// NewReader returns a reader of r, which needs about 330 KiB.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, buf: make([]byte, readerBuffer)} }

// Garbage counts the bytes that were no message, since the start.
func (r *Reader) Garbage() int64 { return r.garbage }

// Next returns the next message and the session it was written in. Bytes that are none are passed
// over. The error is the one of the underlying reader, io.EOF too, and stays.
func (r *Reader) Next() (Message, uint32, error) {
	for {
		if m, session := r.take(); m != nil {
			return m, session, nil
		}
		if r.unreadable != nil {
			r.garbage += int64(r.to - r.from)
			r.from = r.to
			return nil, 0, r.unreadable
		}
		r.fill()
	}
}

// fill reads once. take has left less than a whole message.
func (r *Reader) fill() {
	if r.from > 0 {
		r.to = copy(r.buf, r.buf[r.from:r.to])
		r.from = 0
	}
	n, err := r.r.Read(r.buf[r.to:])
	r.to += max(n, 0)
	r.unreadable = err
}

// take returns the first whole message of the buffer; nil: more has to be read.
func (r *Reader) take() (Message, uint32) {
	for {
		r.seek()
		p := r.buf[r.from:r.to]
		if len(p) < headSize {
			return nil, 0
		}
		h, ok := parseHead(p)
		if !ok {
			r.pass(1)
			continue
		}
		whole := headSize + h.length
		if len(p) < whole {
			return nil, 0
		}
		if m := r.open(h, p[headSize:whole]); m != nil {
			r.from += whole
			return m, h.session
		}
	}
}

// open returns the message of a body, and passes over what is none.
func (r *Reader) open(h head, p []byte) Message {
	if crc32.Checksum(p, castagnoli) != h.sum {
		r.pass(headSize + len(p))
		return nil
	}
	m := decode(h.kind, p)
	if m == nil {
		r.pass(headSize + len(p))
	}
	return m
}

// seek passes over what cannot begin a message.
func (r *Reader) seek() {
	p := r.buf[r.from:r.to]
	i := bytes.Index(p, magic[:])
	if i < 0 { // its last bytes may be the first of the magic
		i = len(p)
		for n := min(len(magic)-1, len(p)); n > 0; n-- {
			if bytes.HasPrefix(magic[:], p[len(p)-n:]) {
				i = len(p) - n
				break
			}
		}
	}
	r.pass(i)
}

func (r *Reader) pass(n int) {
	r.from += n
	r.garbage += int64(n)
}
