package vault

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/seal"
	"holdfast/storage/segment"
)

// record is the record that is being written.
type record struct {
	v         *Vault
	id        RecordID
	to        age.Recipient
	continues RecordID
	blocks    uint64
	salt      string
	segments  int
	top       map[string]int64 // by stream, the highest number in the public log
	media     map[byte]*mediaStream
	unsettled bool // no leaf Z may follow
	cur       *openSegment
	// carry holds encoded blocks that a failed segment could not make durable.
	carry     []byte
	carrySpan span
}

// span says of blocks what leaf C tells of them.
type span struct {
	from, to int64 // time since boot of the first and the last, in microseconds
	frames   int64
	blocks   int
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
}

func spanOf(b *segment.Block) span {
	return span{b.Meta.BootUsec, b.Meta.BootUsec, int64(b.Meta.Frames), 1}
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

// newRecord gives the folder of the next record its number, all of it durable, names it in the
// public log, and begins its first segment. Once the log names the record it stands, whatever
// the medium refuses then.
func (v *Vault) newRecord(kind Kind, continues RecordID) (*record, error) {
	key := v.spare
	to, err := age.ParseHybridRecipient(key.Public)
	if err != nil {
		return nil, fmt.Errorf("flight key: %w", err)
	}
	id := RecordID{kind, v.next}
	if err := v.stageAll(); err != nil {
		return nil, fmt.Errorf("begin record %s: %w", id, err)
	}
	if err := v.nameRecord(id); err != nil {
		return nil, fmt.Errorf("begin record %s: %w", id, err)
	}
	v.next++
	v.spare = nil
	r := &record{v: v, id: id, to: to, continues: continues, salt: hex.EncodeToString(key.Salt), top: map[string]int64{}, media: map[byte]*mediaStream{}}
	r.log(key)
	if err := r.open(); err != nil { // the next flush tries again
		v.event("segment_failed", err.Error())
	}
	return r, nil
}

// log adds leaf K and makes it durable. Where the log cannot be written it waits in memory: that
// must not keep a flight from being recorded.
func (r *record) log(key *FlightKey) {
	cfg := &r.v.cfg
	k := &custody.FlightKey{Record: r.id.String(), Pub: key.Public, Recipients: key.Recipients, Policy: custody.Policy{
		FlushArmedUsec: cfg.FlushArmed.Microseconds(), FlushIdleUsec: cfg.FlushIdle.Microseconds(),
		Record: cmp.Or(cfg.Record, "always"), WhenFull: cmp.Or(cfg.WhenFull, "stop")}}
	for _, f := range key.Files {
		k.Files = append(k.Files, custody.KeyFile{Name: f.Name, Data: f.Data})
	}
	r.v.log.add(k)
	r.v.log.want()
	const tries = 3 // a cut now would leave a record that nothing signed names
	err := r.v.log.sync()
	for n := 1; n < tries && err != nil; n++ {
		err = r.v.log.sync()
	}
	if err != nil {
		r.v.log.refused(err)
	}
}

// useUp says that a number was begun and taken back, and is not free again.
func (v *Vault) useUp(id RecordID) {
	v.log.add(&custody.Lost{Record: id.String(), Why: custody.WhyUndone})
	v.log.want()
	v.next = id.Number + 1
}

func (r *record) header(number int) *segment.Header {
	h := r.v.cfg.Header
	h.Format, h.Device, h.Record, h.Stream = formatVersion, r.v.cfg.DeviceID, r.id.String(), "T"
	h.Segment, h.Continues, h.RecipientSalt = number, r.continues.String(), r.salt
	return &h
}

// open makes the next segment and carries over what the last one could not make durable.
func (r *record) open() error {
	if err := r.create(); err != nil {
		return err
	}
	// Entry and header are durable before the first flush says that its entries are.
	if err := r.v.cfg.FS.SyncDir(r.v.path(r.id.String())); err != nil {
		name := SegmentFile{'T', r.cur.number, suffixOpen}.String()
		r.cur.sealer.Abandon()
		r.undoOpen(r.cur.file, name)
		r.cur = nil
		return fmt.Errorf("open segment %s: %w", name, err)
	}
	if err := r.writeHeader(); err != nil {
		return err
	}
	if len(r.carry) == 0 {
		return nil
	}
	carry, s := r.carry, r.carrySpan
	r.carry, r.carrySpan = nil, span{}
	r.fill()
	r.cur.span.add(s)
	r.cur.waiting.add(s)
	return r.put(carry)
}

// fill notes that the segment holds, or will hold, more than its header: its number is used now.
func (r *record) fill() {
	if r.cur.filled {
		return
	}
	r.cur.filled = true
	r.top["T"] = int64(r.cur.number)
	r.v.log.add(&custody.Opened{Record: r.id.String(), Segment: segmentName('T', r.cur.number)})
}

// create makes the file of the next segment with its age header, not durable yet.
func (r *record) create() error {
	number := r.segments + 1
	name := SegmentFile{'T', number, suffixOpen}.String()
	f, err := r.v.cfg.FS.Create(r.v.path(r.id.String(), name))
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	r.segments = number
	file := newHashedFile(f)
	s, err := seal.New(file, r.to)
	if err != nil {
		r.undoOpen(f, name)
		return fmt.Errorf("open segment %s: %w", name, err)
	}
	r.cur = &openSegment{number: number, file: file, sealer: s, started: r.v.cfg.Now(), encoded: r.v.buffer()}
	return nil
}

// writeHeader writes the block that says where the segment belongs.
func (r *record) writeHeader() error {
	first := segment.Block{Meta: segment.Meta{Header: r.header(r.cur.number), Block: r.blocks, BootUsec: r.v.cfg.Now().Microseconds()}}
	r.blocks++
	return r.write(&first)
}

// undoOpen removes the file of a segment that could not be begun, so that a medium that fails for
// hours does not fill with empty ones. Where that works, the number is free again.
func (r *record) undoOpen(f File, name string) {
	if err := f.Close(); err != nil {
		r.v.event("segment_failed", err.Error())
	}
	if err := r.v.cfg.FS.Remove(r.v.path(r.id.String(), name)); err == nil {
		r.segments--
		return
	}
	r.v.log.add(&custody.Lost{Record: r.id.String(), Segment: name[:7], Why: custody.WhyUndone})
}

// append writes a block to the segment that is open, opening one where there is none.
func (r *record) append(b *segment.Block) error {
	b.Meta.Block = r.blocks
	r.blocks++
	b.Meta.BootUsec = r.v.cfg.Now().Microseconds()
	if err := r.rotate(); err != nil {
		return r.hold(b, err)
	}
	if r.cur == nil {
		if err := r.open(); err != nil && r.cur == nil {
			return r.hold(b, err)
		} else if err != nil { // it stands, has failed, and keeps what it carries before b
			r.fill()
			return errors.Join(err, r.write(b))
		}
	}
	r.fill()
	return r.write(b)
}

// rotateAhead ends a segment that is old enough while nothing waits to be flushed, and opens the
// next one, so that no entry has to wait for that. One segment is always open while entries
// come, and by that a start after a power cut knows that the record was cut.
func (r *record) rotateAhead() (done bool) {
	if r.cur == nil || !r.cur.filled || r.pending() || !r.due() {
		return false
	}
	r.endSegment()
	if err := r.open(); err != nil {
		r.v.event("segment_failed", err.Error())
	}
	return true
}

// rotate is rotateAhead for a stream that leaves no pause for it.
func (r *record) rotate() error {
	if r.cur == nil || !r.cur.filled || !r.due() {
		return nil
	}
	if err := r.flush(); err != nil {
		return err
	}
	r.endSegment()
	return nil
}

func (r *record) due() bool {
	return r.v.cfg.Now()-r.cur.started >= rotateAfter || len(r.cur.encoded) >= rotateBytes
}

// rest ends a segment that nothing was written to for a while.
func (r *record) rest() {
	if r.cur != nil && (!r.pending() || !r.cur.filled) && r.v.cfg.Now()-r.cur.started >= 2*rotateAfter {
		r.endSegment()
	}
}

// hold keeps a block in memory that has no segment to go to.
func (r *record) hold(b *segment.Block, cause error) error {
	var err error
	r.carry, err = r.v.enc.Append(r.carry, b)
	r.carrySpan.add(spanOf(b))
	return errors.Join(cause, err)
}

func (r *record) write(b *segment.Block) error {
	from := len(r.cur.encoded)
	var err error
	if r.cur.encoded, err = r.v.enc.Append(r.cur.encoded, b); err != nil {
		return err
	}
	s := spanOf(b)
	r.cur.span.add(s)
	r.cur.waiting.add(s)
	return r.seal(r.cur.encoded[from:])
}

func (r *record) put(encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	r.cur.encoded = append(r.cur.encoded, encoded...)
	return r.seal(encoded)
}

func (r *record) seal(p []byte) error {
	if r.cur.failed {
		return nil // it is in encoded; flush will carry it over
	}
	if _, err := r.cur.sealer.Write(p); err != nil {
		r.cur.failed = true
		return fmt.Errorf("write segment: %w", err)
	}
	return nil
}

func (r *record) pending() bool {
	return len(r.carry) > 0 || r.cur != nil && len(r.cur.encoded) > r.cur.synced
}

// flush pads, writes and syncs. A segment whose write or sync failed is never synced again:
// the kernel may have marked its pages clean. What it did not make durable goes to a new one.
func (r *record) flush() error {
	if !r.pending() {
		return nil
	}
	if r.cur != nil && r.cur.failed {
		r.abandon()
	}
	if r.cur == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	if err := r.sync(); err != nil {
		r.v.event("segment_failed", err.Error())
		r.abandon()
		return err
	}
	return nil
}

func (r *record) sync() error {
	begin := r.v.cfg.Now()
	if _, err := r.cur.sealer.Flush(); err != nil {
		return fmt.Errorf("flush segment: %w", err)
	}
	if err := r.cur.file.Sync(); err != nil {
		return fmt.Errorf("sync segment: %w", err)
	}
	r.cur.synced, r.cur.waiting = len(r.cur.encoded), span{}
	r.cur.file.note(&r.cur.durable)
	spent := r.v.cfg.Now() - begin
	r.v.slow = max(spent, r.v.slow*15/16)
	took := spent.Microseconds()
	r.v.sync.Count++
	r.v.sync.SumUsec += took
	r.v.sync.MaxUsec = max(r.v.sync.MaxUsec, took)
	return nil
}

// abandon gives up on the segment's file, keeps what it did not make durable for the next
// one, and still lines it up for a clean close: memory holds all of it.
func (r *record) abandon() {
	if r.cur.filled { // else there is its header alone, and the next one has its own
		r.carry = append(r.carry, r.cur.encoded[r.cur.synced:]...)
		r.carrySpan.add(r.cur.waiting)
		r.cur.lost = true
		r.v.log.add(lostLeaf(r.id, r.cur.number, &r.cur.durable))
		r.v.log.want()
	}
	r.endSegment()
}

// endSegment drops the segment's key and lines the segment up for its clean close. One that holds
// nothing but its header is removed instead.
func (r *record) endSegment() {
	s := r.cur
	if s == nil {
		return
	}
	r.cur = nil
	if !s.filled {
		s.sealer.Abandon()
		r.undoOpen(s.file, SegmentFile{'T', s.number, suffixOpen}.String())
		r.blocks-- // the header's: nothing came after it
		return
	}
	// What one segment took the next one takes too: growing step by step would cost twice.
	r.v.room = min(len(s.encoded)+len(s.encoded)/4, rotateBytes+rotateBytes/8)
	s.sealer.Abandon()
	if err := s.file.Close(); err != nil {
		r.v.event("segment_failed", err.Error())
	}
	r.v.queue(&closeJob{rec: r, dir: r.v.path(r.id.String()), number: s.number, to: r.to, content: s.encoded,
		durable: s.durable, span: s.span, lost: s.lost})
}
