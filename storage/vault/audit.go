package vault

import (
	"errors"
	"time"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
)

// Stream X, the audit: lines of text, one JSON object each. They wait in memory, and Step, which
// is called only where no flush of telemetry is near, makes them durable. A segment of the audit
// is begun when there is a line, and lives longer than one of telemetry.

const (
	// auditBuffer is how many bytes of lines may wait here.
	auditBuffer = 64 << 10
	// auditAfter, auditBytes and auditOpen end a segment: its age, the bytes of its blocks, and
	// those of its open form, in which each flush takes a chunk.
	auditAfter = time.Minute
	auditBytes = 512 << 10
	auditOpen  = 8 << 20
	// auditRetry is how long the audit waits after the medium refused it, or had no room.
	auditRetry = time.Second
	// auditRoom is what a flush may need of the medium: a chunk, and the closed form.
	auditRoom = 256 << 10
)

// audit is what waits for stream X.
type audit struct {
	lines   []byte
	count   int
	since   time.Duration // arrival of the oldest of them
	last    time.Duration // when lines were made durable last
	retryAt time.Duration
}

// Audit takes a line, with its line feed, for stream X of the record that is open, or of the next
// one. It is false where too much waits already: the medium is slow, has no room beside what is
// reserved for telemetry, or no record was begun for long. The line is durable after some Steps,
// half of Interval apart at the least.
func (v *Vault) Audit(line []byte) bool {
	a := &v.audit
	if len(a.lines)+len(line) > auditBuffer {
		return false
	}
	if a.count == 0 {
		a.since = v.cfg.Now()
	}
	a.lines = append(a.lines, line...)
	a.count++
	return true
}

// AuditDue tells when the next Step for stream X is due; ok is false where none is.
func (v *Vault) AuditDue() (at time.Duration, ok bool) {
	if v.rec == nil || !v.auditWaits() {
		return 0, false
	}
	a := &v.audit
	return max(a.since, a.last+v.Interval()/2, a.retryAt), true
}

// auditWaits tells whether something of the audit is not durable.
func (v *Vault) auditWaits() bool { return v.audit.count > 0 || v.rec.x.pending() }

// auditStep does one piece of the audit's work, at most one sync long while the medium is well.
func (v *Vault) auditStep() (did bool) {
	if v.rec == nil {
		return false
	}
	now := v.cfg.Now()
	x := v.rec.x
	if x.cur != nil && x.cur.filled && !x.pending() && x.due() {
		x.endSegment() // the next one is begun when there is a line
		return true
	}
	if at, ok := v.AuditDue(); !ok || now < at {
		return false
	}
	if err := v.auditOne(); err != nil {
		v.audit.retryAt = v.cfg.Now() + auditRetry
		if !errors.Is(err, ErrReserve) {
			v.event("segment_failed", err.Error())
		}
	}
	return true
}

// auditAll makes durable what waits, while its record is open: three tries, as far as the medium
// takes it. What it does not take waits for the next record.
func (v *Vault) auditAll() {
	for tries := 0; tries < 3 && v.auditWaits(); {
		if v.auditOne() != nil {
			tries++
		}
	}
}

// auditOne begins a segment, or writes what waits into the one that is open.
func (v *Vault) auditOne() error {
	x := v.rec.x
	if err := v.auditReserve(); err != nil {
		return err
	}
	if x.cur == nil {
		return x.open()
	}
	if err := v.auditBlock(); err != nil {
		return err
	}
	if err := x.flush(); err != nil {
		return err
	}
	v.audit.last = v.cfg.Now()
	v.flushes++
	return nil
}

// auditBlock puts the lines that wait into the open segment. From then on the stream holds them.
func (v *Vault) auditBlock() error {
	a, x := &v.audit, v.rec.x
	if a.count == 0 {
		return nil
	}
	b := segment.Block{Meta: segment.Meta{Frames: a.count, Block: x.blocks, BootUsec: v.cfg.Now().Microseconds()}, Data: a.lines}
	x.blocks++
	x.fill()
	err := x.write(&b)
	a.lines, a.count = a.lines[:0], 0
	return err
}

// auditReserve keeps the audit out of the space that is kept for telemetry. Leaf X says so, once
// until there is room again; the lines wait.
func (v *Vault) auditReserve() error {
	free, err := v.cfg.FS.Free()
	if err != nil {
		return err
	}
	x := v.rec.x
	if free-auditRoom >= MinFree+v.cfg.Reserve {
		x.refused = false
		return nil
	}
	x.endSegment()
	if !x.refused {
		x.refused = true
		v.event("media_refused", "X")
		x.refuse()
	}
	return ErrReserve
}

// refuse uses up the next number of the stream for a segment that is not kept.
func (s *stream) refuse() {
	s.segments++
	name := segmentName(s.letter, s.segments)
	s.top[string(s.letter)] = int64(s.segments)
	s.v.log.add(&custody.Opened{Record: s.id.String(), Segment: name})
	s.v.log.add(&custody.Lost{Record: s.id.String(), Segment: name, Why: custody.WhyRefused})
	s.v.log.want()
}
