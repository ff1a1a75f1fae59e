package vault

import (
	"errors"
	"fmt"
	"time"

	"holdfast/crypto/custody"
	"holdfast/crypto/seal"
	"holdfast/storage/segment"
)

// stream is a stream of blocks in a record: telemetry, audit, or the autopilot's files. It is written in segments that
// are made durable as they grow, and sealed again without padding when they end.
type stream struct {
	*record
	letter   byte
	segments int
	blocks   uint64
	cur      *openSegment
	// carry holds encoded blocks that a failed segment could not make durable.
	carry     []byte
	carrySpan span
	refused   bool // for want of room, and leaf X says so
}

// span says of blocks what leaf C tells of them.
type span struct {
	from, to int64 // time since boot of the first and the last, in microseconds
	frames   int64
	blocks   int
	given    given // in stream A
}

// add takes the blocks of t behind those of s.
func (s *span) add(t span) {
	if t.blocks == 0 {
		return
	}
	if s.blocks == 0 {
		s.from = t.from
	}
	s.to = max(s.from, t.to)
	s.frames += t.frames
	s.blocks += t.blocks
	s.given.add(t.given)
}

func spanOf(b *segment.Block) span {
	return span{from: b.Meta.BootUsec, to: b.Meta.BootUsec, frames: int64(b.Meta.Frames), blocks: 1}
}

// openSegment is the segment that is being written. The encoded blocks are kept, in memory that
// is never swapped, until the clean close has written them a second time.
type openSegment struct {
	number  int
	file    *hashedFile
	sealer  *seal.Sealer
	encoded []byte
	synced  int     // bytes of encoded that a sync has covered
	durable durable // the file's bytes that it has covered
	span    span    // of all blocks
	waiting span    // of those that are not synced
	started time.Duration
	failed  bool
	lost    bool // leaf X names it
	filled  bool // holds more than its header
}

func (s *stream) header(number int) *segment.Header {
	h := s.v.cfg.Header
	h.Format, h.Device, h.Record, h.Stream = formatVersion, s.v.cfg.DeviceID, s.id.String(), string(s.letter)
	h.Segment, h.Continues, h.RecipientSalt = number, s.continues.String(), s.salt
	return &h
}

// open makes the next segment and carries over what the last one could not make durable.
func (s *stream) open() error {
	before := s.v.folders.Load()
	if err := s.create(); err != nil {
		return err
	}
	// Entry and header are durable before the first flush says that its entries are.
	if err := s.v.syncFolder(s.v.cfg.FS, s.v.path(s.id.String()), before); err != nil {
		name := SegmentFile{s.letter, s.cur.number, suffixOpen}.String()
		s.cur.sealer.Abandon()
		s.undoOpen(s.cur.file, name)
		s.cur = nil
		return fmt.Errorf("open segment %s: %w", name, err)
	}
	if err := s.writeHeader(); err != nil {
		return err
	}
	if len(s.carry) == 0 {
		return nil
	}
	carry, of := s.carry, s.carrySpan
	s.carry, s.carrySpan = nil, span{}
	s.fill()
	s.cur.span.add(of)
	s.cur.waiting.add(of)
	return s.put(carry)
}

// fill notes that the segment holds, or will hold, more than its header: its number is used now.
func (s *stream) fill() {
	if s.cur.filled {
		return
	}
	s.cur.filled = true
	s.top[string(s.letter)] = int64(s.cur.number)
	s.v.log.add(&custody.Opened{Record: s.id.String(), Segment: segmentName(s.letter, s.cur.number)})
}

// create makes the file of the next segment with its age header, not durable yet.
func (s *stream) create() error {
	number := s.segments + 1
	name := SegmentFile{s.letter, number, suffixOpen}.String()
	f, err := s.v.cfg.FS.Create(s.v.path(s.id.String(), name))
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	s.segments = number
	file := newHashedFile(f)
	sealer, err := seal.New(file, s.recipient(s.letter))
	if err != nil {
		s.undoOpen(f, name)
		return fmt.Errorf("open segment %s: %w", name, err)
	}
	s.cur = &openSegment{number: number, file: file, sealer: sealer, started: s.v.cfg.Now()}
	if s.letter == 'T' {
		s.cur.encoded = s.v.buffer()
	}
	return nil
}

// writeHeader writes the block that says where the segment belongs.
func (s *stream) writeHeader() error {
	first := segment.Block{Meta: segment.Meta{Header: s.header(s.cur.number), Block: s.blocks, BootUsec: s.v.cfg.Now().Microseconds()}}
	s.blocks++
	return s.write(&first)
}

// undoOpen removes the file of a segment that could not be begun, so that a medium that fails for
// hours does not fill with empty ones. Where that works, the number is free again.
func (s *stream) undoOpen(f File, name string) {
	if err := f.Close(); err != nil {
		s.v.event("segment_failed", err.Error())
	}
	if err := s.v.cfg.FS.Remove(s.v.path(s.id.String(), name)); err == nil {
		s.segments--
		return
	}
	s.v.log.add(&custody.Lost{Record: s.id.String(), Segment: name[:7], Why: custody.WhyUndone})
}

// append writes a block to the segment that is open, opening one where there is none.
func (s *stream) append(b *segment.Block) error {
	b.Meta.Block = s.blocks
	s.blocks++
	b.Meta.BootUsec = s.v.cfg.Now().Microseconds()
	if err := s.rotate(); err != nil {
		return s.hold(b, err)
	}
	if s.cur == nil {
		if err := s.open(); err != nil && s.cur == nil {
			return s.hold(b, err)
		} else if err != nil { // it stands, has failed, and keeps what it carries before b
			s.fill()
			return errors.Join(err, s.write(b))
		}
	}
	s.fill()
	return s.write(b)
}

// rotateAhead ends a segment that is old enough while nothing waits to be flushed, and opens the
// next one, so that no entry has to wait for that. One segment is always open while entries
// come, and by that a start after a power cut knows that the record was cut.
func (s *stream) rotateAhead() (done bool) {
	if s.cur == nil || !s.cur.filled || s.pending() || !s.due() {
		return false
	}
	s.endSegment()
	if err := s.open(); err != nil {
		s.v.event("segment_failed", err.Error())
	}
	return true
}

// rotate is rotateAhead for a stream that leaves no pause for it.
func (s *stream) rotate() error {
	if s.cur == nil || !s.cur.filled || !s.due() {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.endSegment()
	return nil
}

// due tells whether the open segment is old or large enough to end.
func (s *stream) due() bool {
	age := s.v.cfg.Now() - s.cur.started
	switch s.letter {
	case segment.StreamAudit:
		return age >= sideAfter || len(s.cur.encoded) >= auditBytes || s.cur.durable.bytes >= sideOpen
	case segment.StreamAutopilot:
		return age >= sideAfter || len(s.cur.encoded) >= rotateBytes || s.cur.durable.bytes >= sideOpen
	}
	return age >= rotateAfter || len(s.cur.encoded) >= rotateBytes
}

// rest ends a segment that nothing was written to for a while.
func (s *stream) rest() {
	if s.cur != nil && (!s.pending() || !s.cur.filled) && s.v.cfg.Now()-s.cur.started >= 2*rotateAfter {
		s.endSegment()
	}
}

// hold keeps a block in memory that has no segment to go to.
func (s *stream) hold(b *segment.Block, cause error) error {
	var err error
	s.carry, err = s.v.enc.Append(s.carry, b)
	s.carrySpan.add(spanOf(b))
	return errors.Join(cause, err)
}

func (s *stream) write(b *segment.Block) error { return s.writeGiven(b, given{}) }

// writeGiven is write for a block of PutFile.
func (s *stream) writeGiven(b *segment.Block, g given) error {
	from := len(s.cur.encoded)
	var err error
	if s.cur.encoded, err = s.v.enc.Append(s.cur.encoded, b); err != nil {
		return err
	}
	of := spanOf(b)
	of.given = g
	s.cur.span.add(of)
	s.cur.waiting.add(of)
	return s.seal(s.cur.encoded[from:])
}

func (s *stream) put(encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	s.cur.encoded = append(s.cur.encoded, encoded...)
	return s.seal(encoded)
}

func (s *stream) seal(p []byte) error {
	if s.cur.failed {
		return nil // it is in encoded; flush will carry it over
	}
	if _, err := s.cur.sealer.Write(p); err != nil {
		s.cur.failed = true
		return fmt.Errorf("write segment: %w", err)
	}
	return nil
}

func (s *stream) pending() bool {
	return len(s.carry) > 0 || s.cur != nil && len(s.cur.encoded) > s.cur.synced
}

// flush pads, writes and syncs. A segment whose write or sync failed is never synced again:
// the kernel may have marked its pages clean. What it did not make durable goes to a new one.
func (s *stream) flush() error {
	if !s.pending() {
		return nil
	}
	if s.cur != nil && s.cur.failed {
		s.abandon()
	}
	if s.cur == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if err := s.sync(); err != nil {
		s.v.event("segment_failed", err.Error())
		s.abandon()
		return err
	}
	return nil
}

func (s *stream) sync() error {
	begin := s.v.cfg.Now()
	if _, err := s.cur.sealer.Flush(); err != nil {
		return fmt.Errorf("flush segment: %w", err)
	}
	if err := s.cur.file.Sync(); err != nil {
		return fmt.Errorf("sync segment: %w", err)
	}
	s.cur.synced, s.cur.waiting = len(s.cur.encoded), span{}
	s.cur.file.note(&s.cur.durable)
	end := s.v.cfg.Now()
	spent := end - begin
	s.v.slow = max(spent, s.v.slow*15/16)
	took := spent.Microseconds()
	s.v.sync.Count++
	s.v.sync.SumUsec += took
	s.v.sync.MaxUsec = max(s.v.sync.MaxUsec, took)
	if s.letter == segment.StreamTelemetry {
		s.v.sync.LastUsec = end.Microseconds()
	}
	return nil
}

// abandon gives up on the segment's file, keeps what it did not make durable for the next
// one, and still lines it up for a clean close: memory holds all of it.
func (s *stream) abandon() {
	if s.cur.filled { // else there is its header alone, and the next one has its own
		s.carry = append(s.carry, s.cur.encoded[s.cur.synced:]...)
		s.carrySpan.add(s.cur.waiting)
		s.cur.lost = true
		s.v.log.add(lostLeaf(s.id, s.letter, s.cur.number, &s.cur.durable))
		s.v.log.want()
	}
	s.endSegment()
}

// endSegment drops the segment's key and lines the segment up for its clean close. One that holds
// nothing but its header is removed instead.
func (s *stream) endSegment() {
	old := s.cur
	if old == nil {
		return
	}
	s.cur = nil
	old.sealer.Abandon()
	if !old.filled {
		s.undoOpen(old.file, SegmentFile{s.letter, old.number, suffixOpen}.String())
		s.blocks-- // the header's: nothing came after it
		return
	}
	if s.letter == 'T' { // what one segment took the next one takes too: growing step by step would cost twice
		s.v.room = min(len(old.encoded)+len(old.encoded)/4, rotateBytes+rotateBytes/8)
	}
	if err := old.file.Close(); err != nil {
		s.v.event("segment_failed", err.Error())
	}
	s.v.queue(&closeJob{rec: s.record, stream: s.letter, dir: s.v.path(s.id.String()), number: old.number, to: s.recipient(s.letter), content: old.encoded,
		durable: old.durable, span: old.span, lost: old.lost})
}
