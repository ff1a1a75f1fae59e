// Package mavlink cuts a stream of bytes into MAVLink 1 and 2 frames
// (https://mavlink.io/en/guide/serialization.html) and noise, and loses no byte: the
// frames and the noise it hands out, put together, are the bytes that came in.
//
// A start byte proves nothing: a span is a frame only when its checksum is right. Where
// it is not, scanning goes on at the byte behind the start byte (rewind), so that a false
// start byte swallows no good frame. The checksum of a message that is not in the table
// cannot be checked; such a span is taken as a frame where it fits its neighbours
// (see [Scanner]).
//
// The package opens nothing, starts no goroutine, reads no clock, checks no signature,
// and decodes only the few messages that a recorder acts on. Names of messages are in
// package names, so that a program which prints none does not carry them.
package mavlink

import "time"

const (
	// Silence is how long a line must be quiet to end a chain of unknown ids.
	Silence = 100 * time.Millisecond
	// MaxChainAge bounds how long a chain of unknown ids is held back, from the arrival
	// of its first byte: at most 250 ms of telemetry may be lost at a power cut, and what
	// is held back here is not yet on its way to storage.
	MaxChainAge = 150 * time.Millisecond
	// MaxChain bounds the size of such a chain in bytes, for the same reason.
	MaxChain = 64 << 10
)

// copyStep is how many bytes of a long Write are copied at once behind undecided ones.
const copyStep = 4096

// Handler takes what a Scanner finds, in the order of the stream. What it is given is
// valid only during the call, and it must not call the Scanner.
type Handler interface {
	Frame(*Frame)
	Noise(*Noise)
}

// Scanner finds frames in a stream of bytes. It allocates nothing per frame.
//
// A span with a known id is a frame when its checksum is right. An unknown id is kept
// only in a chain: spans with unknown ids, one directly behind the other, the first where
// a frame ended or at the start. A chain is accepted when a good known frame, the end of
// input or 100 ms of silence follows it; an incomplete span may lie between it and the
// end or the silence. It fails when something else follows: then its first byte is noise
// and the rest is scanned again. A chain that is pending for more than MaxChainAge or is
// longer than MaxChain is accepted as it stands. Of an incomplete span only the rest, or
// End, tells what it is: it waits without a limit of time (it is at most MaxFrameSize).
//
// What is found does not depend on how the stream is cut into Writes, only, where unknown
// ids are pending, on when they come. Not safe for concurrent use.
type Scanner struct {
	handler Handler

	pend  []byte   // undecided bytes, copied
	times arrivals // of the bytes in pend
	now   time.Duration
	last  time.Duration // arrival of the last byte

	buf   []byte // being scanned: pend, or the caller's bytes
	base  int64  // offset of buf[0]; between calls that of pend[0]
	chain int    // size of the complete unknown spans at the scanning position
	edge  bool   // the scanning position is where a frame ended, or the start
	final bool   // no more bytes follow buf
	run   run

	frame Frame
	noise Noise
}

// NewScanner returns a Scanner that hands what it finds to h.
func NewScanner(h Handler) *Scanner {
	return &Scanner{handler: h, edge: true, pend: make([]byte, 0, 4*MaxFrameSize)}
}

// Write scans p, which arrived at the given time (any clock that does not jump). It keeps
// no reference to p: what is decided is handed out before it returns, the rest is copied.
func (s *Scanner) Write(at time.Duration, p []byte) {
	if len(p) == 0 {
		return
	}
	s.Idle(at)
	s.now, s.last = at, at
	if len(s.pend) > 0 {
		p = s.resume(p)
	}
	if len(s.pend) == 0 {
		n := s.scan(p, len(p))
		s.pend = append(s.pend, p[n:]...)
		s.base += int64(n)
	}
	s.times.add(s.base+int64(len(s.pend)), at)
	s.settle(at, false)
	s.release()
}

// Idle says that no byte came up to now, on the clock of Write. It applies the rules of
// silence and age; call it while a line is quiet, some times in 100 ms. Without it they
// are applied at the next Write.
func (s *Scanner) Idle(now time.Duration) {
	s.settle(now, now-s.last >= Silence)
	s.release()
}

// End says that the input ended, or that the link was lost: it decides all that is
// pending. A chain of unknown ids is accepted; an incomplete span is noise, but good
// frames inside it are found. Afterwards the scanner is at the start again, as if new;
// offsets go on.
func (s *Scanner) End(at time.Duration) {
	s.now = at
	s.final = true
	n := s.scan(s.pend, len(s.pend))
	s.final = false
	s.drop(n)
	s.release()
	s.edge = true
	s.run.live = false
}

// Pending returns the number of bytes that are not decided yet.
func (s *Scanner) Pending() int { return len(s.pend) }

// resume decides the pending bytes with the help of p. It returns the part of p that
// stands behind what it decided, or nothing if all of p is pending now.
func (s *Scanner) resume(p []byte) []byte {
	step := MaxFrameSize
	for len(p) > 0 {
		old := len(s.pend)
		k := min(len(p), step)
		s.pend = append(s.pend, p[:k]...)
		n := s.scan(s.pend, old)
		if n >= old {
			s.base += int64(n)
			s.pend = s.pend[:0]
			return p[n-old:]
		}
		s.drop(n)
		p = p[k:]
		step = copyStep
	}
	return nil
}

// settle accepts a pending chain that silence or age has ended.
func (s *Scanner) settle(now time.Duration, quiet bool) {
	if s.chain == 0 {
		return
	}
	if !quiet && now-s.times.of(s.base, now) <= MaxChainAge {
		return
	}
	s.now, s.buf = now, s.pend
	s.drop(s.acceptChain(0))
}

// drop removes n decided bytes from the front of pend.
func (s *Scanner) drop(n int) {
	if n > 0 {
		s.pend = s.pend[:copy(s.pend, s.pend[n:])]
		s.base += int64(n)
	}
}

// release lets go of the caller's bytes and of arrival times that are no longer needed.
func (s *Scanner) release() {
	s.buf, s.frame.Raw, s.noise.Data = nil, nil, nil
	s.times.forget(s.base)
}

// scan decides the spans of buf that begin before stop, and returns how many bytes of it
// are decided: fewer than stop if bytes are missing, perhaps more since spans go on.
func (s *Scanner) scan(buf []byte, stop int) int {
	s.buf = buf
	pos := 0
	for pos < stop {
		b := buf[pos:]
		if !isStart(b[0]) {
			pos += s.skip(pos)
			continue
		}
		size, id := measure(b)
		extra, known := CRCExtra(id)
		if known && size > 0 && size <= len(b) {
			if sound(b[:size], extra) {
				s.accept(pos, size, id, true)
				pos += size
				continue
			}
			s.reject(pos, 1, BadChecksum, size)
			pos++
			continue
		}
		n := s.weigh(pos, size, known)
		if n == 0 {
			break
		}
		pos += n
	}
	s.flush()
	return pos
}

// weigh deals with a span at pos that is incomplete or has an unknown id. It returns how
// many bytes it decided, 0 if bytes are missing.
func (s *Scanner) weigh(pos, size int, known bool) int {
	if size > 0 && !known {
		if !s.edge {
			s.reject(pos, 1, UnknownID, size)
			return 1
		}
		switch s.follow(pos) {
		case chainHolds:
			return s.acceptChain(pos)
		case chainFails:
			s.reject(pos, 1, UnknownID, size)
			return 1
		}
	}
	if !s.final {
		return 0
	}
	if s.chain > 0 {
		return s.acceptChain(pos)
	}
	s.reject(pos, 1, Truncated, len(s.buf)-pos)
	return 1
}

type outcome int

const (
	chainWaits outcome = iota
	chainHolds
	chainFails
)

// follow walks the chain at pos. It remembers in s.chain how far it came, so that bytes
// which come one by one do not make it start again each time.
func (s *Scanner) follow(pos int) outcome {
	for {
		if s.chain > MaxChain {
			return chainHolds
		}
		b := s.buf[pos+s.chain:]
		if len(b) == 0 {
			return chainWaits
		}
		if !isStart(b[0]) {
			return chainFails
		}
		size, id := measure(b)
		if size == 0 || size > len(b) {
			return chainWaits
		}
		if extra, known := CRCExtra(id); known {
			if sound(b[:size], extra) {
				return chainHolds
			}
			return chainFails
		}
		s.chain += size
	}
}

// acceptChain hands out the complete spans of the chain at pos and returns their size.
func (s *Scanner) acceptChain(pos int) int {
	n := s.chain
	for done := 0; done < n; {
		size, id := measure(s.buf[pos+done:])
		s.accept(pos+done, size, id, false)
		done += size
	}
	return n
}

// accept hands out the span at pos as a frame.
func (s *Scanner) accept(pos, size int, id uint32, known bool) {
	s.flush()
	s.run.live = false
	s.edge, s.chain = true, 0
	f := &s.frame
	f.fill(s.buf[pos:pos+size:pos+size], id, known)
	f.Offset = s.base + int64(pos)
	f.At = s.times.of(f.Offset+int64(size)-1, s.now)
	s.handler.Frame(f)
}

// skip rejects bytes at pos up to the next start byte or the end of what a failed
// candidate claimed, and returns how many.
func (s *Scanner) skip(pos int) int {
	b := s.buf[pos:]
	if s.run.live {
		if left := s.run.claim - s.base - int64(pos); left > 0 && left < int64(len(b)) {
			b = b[:left]
		}
	}
	n := 1
	for n < len(b) && !isStart(b[n]) {
		n++
	}
	s.reject(pos, n, NoStart, n)
	return n
}

// reject counts n bytes at pos as noise; claim is the size of the failed candidate there.
func (s *Scanner) reject(pos, n int, reason Reason, claim int) {
	off := s.base + int64(pos)
	s.edge, s.chain = false, 0
	if !s.run.joins(off, reason) {
		s.flush()
		s.run = run{from: off, claim: off + int64(claim), reason: reason, live: true}
	}
	s.run.to = off + int64(n)
}

// flush hands out the noise that was collected. The run may go on behind it.
func (s *Scanner) flush() {
	for r := &s.run; r.from < r.to; {
		n := min(r.to-r.from, MaxNoise)
		from := r.from - s.base
		s.noise = Noise{
			Data:   s.buf[from : from+n : from+n],
			Offset: r.from,
			At:     s.times.of(r.from, s.now),
			Reason: r.reason,
		}
		r.from += n
		s.handler.Noise(&s.noise)
	}
}
