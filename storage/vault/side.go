package vault

import (
	"errors"
	"time"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
)

// Streams beside telemetry that the vault's own goroutine writes: X, the audit, and A, the
// autopilot's files. What is to be written waits in memory, and Step, which is called only where
// no flush of telemetry is near, makes it durable. A segment is begun when there is something to
// write, and lives longer than one of telemetry.

const (
	// sideAfter and sideOpen end a segment: its age, and the bytes of its open form, in which
	// each flush takes a chunk.
	sideAfter = time.Minute
	sideOpen  = 8 << 20
	// sideRetry is how long a stream waits after the medium refused it, or had no room.
	sideRetry = time.Second
	// sideClosing is how many clean closes of a stream wait before it waits for them.
	sideClosing = 2
)

// side is what waits for a stream beside telemetry. It outlives the record.
type side struct {
	letter  byte
	room    int64 // what a flush may need of the medium: a chunk, and the closed form
	blocks  []segment.Block
	held    int           // bytes of data in blocks
	given   uint64        // blocks that were ever given
	since   time.Duration // arrival of the oldest of them
	last    time.Duration // when something was made durable last
	retryAt time.Duration
}

// add takes a block whose slices the side may keep.
func (q *side) add(b segment.Block, now time.Duration) {
	if len(q.blocks) == 0 {
		q.since = now
	}
	q.blocks = append(q.blocks, b)
	q.held += len(b.Data)
	q.given++
}

// clear forgets the blocks, which the stream holds from now on.
func (q *side) clear() {
	clear(q.blocks)
	q.blocks, q.held = q.blocks[:0], 0
}

// sides lists the streams beside telemetry, that which has little first.
func (v *Vault) sides() [2]*side { return [2]*side{&v.audit, &v.files} }

// side returns the stream of a letter, X or A.
func (r *record) side(letter byte) *stream {
	if letter == segment.StreamAutopilot {
		return r.a
	}
	return r.x
}

// sideDue tells when the next Step for a stream is due; ok is false where none is.
func (v *Vault) sideDue(q *side) (at time.Duration, ok bool) {
	if v.rec == nil || !v.sideWaits(q) || v.sideHeld(q) {
		return 0, false
	}
	return max(q.since, q.last+v.Interval()/2, q.retryAt), true
}

// sideWaits tells whether something for the stream is not durable.
func (v *Vault) sideWaits(q *side) bool {
	return len(q.blocks) > 0 || v.rec.side(q.letter).pending()
}

// sideHeld tells that a stream begins no segment until one of those before is closed: they take
// memory, and closing them at once would take many syncs in a row.
func (v *Vault) sideHeld(q *side) bool {
	if v.rec.side(q.letter).cur != nil {
		return false
	}
	closing := 0
	for _, j := range v.closing {
		if j.stream == q.letter && j.content != nil {
			closing++
		}
	}
	return closing > sideClosing
}

// sideStep does one piece of a stream's work, at most one sync long while the medium is well.
func (v *Vault) sideStep(q *side) (did bool) {
	if v.rec == nil {
		return false
	}
	now := v.cfg.Now()
	s := v.rec.side(q.letter)
	if s.cur != nil && s.cur.filled && !s.pending() && (s.due() || v.confirmEnds(q)) {
		s.endSegment() // the next one is begun when there is something
		return true
	}
	if at, ok := v.sideDue(q); !ok || now < at {
		return false
	}
	if err := v.sideOne(q); err != nil {
		q.retryAt = v.cfg.Now() + sideRetry
		if !errors.Is(err, ErrReserve) {
			v.event("segment_failed", err.Error())
		}
	}
	return true
}

// sideAll makes durable what waits, while its record is open: three tries, as far as the medium
// takes it. What it does not take waits for the next record.
func (v *Vault) sideAll(q *side) {
	for tries := 0; tries < 3 && v.sideWaits(q); {
		if v.sideOne(q) != nil {
			tries++
		}
	}
}

// sideOne begins a segment, or writes what waits into the one that is open.
func (v *Vault) sideOne(q *side) error {
	s := v.rec.side(q.letter)
	if err := v.sideReserve(q, s); err != nil {
		return err
	}
	if s.cur == nil {
		return s.open()
	}
	if err := v.sideBlocks(q, s); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	q.last = v.cfg.Now()
	v.flushes++
	return nil
}

// sideBlocks puts the blocks that wait into the open segment. From then on the stream holds them,
// also where it fails: then memory does.
func (v *Vault) sideBlocks(q *side, s *stream) (err error) {
	if len(q.blocks) == 0 {
		return nil
	}
	s.fill()
	first := q.given - uint64(len(q.blocks))
	for i := range q.blocks {
		b := &q.blocks[i]
		b.Meta.Block, b.Meta.BootUsec = s.blocks, v.cfg.Now().Microseconds()
		s.blocks++
		err = errors.Join(err, s.writeGiven(b, given{first + uint64(i), first + uint64(i) + 1}))
	}
	q.clear()
	return err
}

// sideReserve keeps a stream out of the space that is kept for telemetry. Leaf X says so, once
// until there is room again; what waits goes on waiting.
func (v *Vault) sideReserve(q *side, s *stream) error {
	free, err := v.cfg.FS.Free()
	if err != nil {
		return err
	}
	if free-q.room >= v.cfg.yieldBelow(q.letter) {
		s.refused = false
		return nil
	}
	s.endSegment()
	if !s.refused {
		s.refused = true
		v.event("media_refused", string(q.letter))
		s.refuse()
	}
	return ErrReserve
}

// refuse uses up the next number of the stream for a segment that is not kept.
func (s *stream) refuse() {
	s.segments++
	s.v.refusedLeaves(s.record, s.letter, s.segments)
}

// refusedLeaves says that a segment is not kept.
func (v *Vault) refusedLeaves(r *record, letter byte, number int) {
	name := segmentName(letter, number)
	r.top[string(letter)] = int64(number)
	v.log.add(&custody.Opened{Record: r.id.String(), Segment: name})
	v.log.add(&custody.Lost{Record: r.id.String(), Segment: name, Why: custody.WhyRefused})
	v.log.want()
}
