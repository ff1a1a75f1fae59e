package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"filippo.io/age"

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
	segments  int
	cur       *openSegment
	pub       File // flight.pub, until it is synced
	// carry holds encoded blocks that a failed segment could not make durable.
	carry []byte
}

// openSegment is the segment that is being written. The encoded blocks are kept, in memory that
// is never swapped, until the clean close has written them a second time.
type openSegment struct {
	number  int
	file    File
	sealer  *seal.Sealer
	encoded []byte
	durable int // bytes of encoded that a sync has covered
	started time.Duration
	failed  bool
	filled  bool // holds more than its header
}

// newRecord makes the folder of a record with its key, all of it durable and read back.
func (v *Vault) newRecord(kind Kind, continues RecordID) (*record, error) {
	key := v.spare
	to, err := age.ParseHybridRecipient(key.Public)
	if err != nil {
		return nil, fmt.Errorf("flight key: %w", err)
	}
	id := RecordID{kind, v.next}
	// The number is used up even if what follows fails: what a failing medium kept of this
	// try must not be taken for the next record.
	v.next++
	v.spare = nil
	if err := v.cfg.FS.Mkdir(v.path(id.String())); err != nil {
		v.undoMkdir(id)
		return nil, fmt.Errorf("begin record %s: %w", id, err)
	}
	r := &record{v: v, id: id, to: to, continues: continues}
	if err := r.begin(key); err != nil {
		r.drop()
		v.undo(id)
		return nil, fmt.Errorf("begin record %s: %w", id, err)
	}
	return r, nil
}

// begin writes the key, makes the first segment, and makes both durable with as few syncs as
// that takes: entries that come meanwhile wait for it. flight.pub, which nobody needs to open
// the record, is synced by a later Step.
func (r *record) begin(key *FlightKey) error {
	if err := r.writeKey(key); err != nil {
		return err
	}
	if err := r.create(); err != nil {
		return err
	}
	if err := r.v.cfg.FS.SyncDir(r.v.path(r.id.String())); err != nil {
		return err
	}
	if err := r.v.cfg.FS.SyncDir(r.v.path()); err != nil {
		return err
	}
	// The record stands. A segment that fails now is given up by the next flush.
	_ = r.writeHeader()
	return nil
}

// drop closes what a failed start left open.
func (r *record) drop() {
	if r.pub != nil {
		r.pub.Close()
	}
	if r.cur != nil {
		r.cur.sealer.Abandon()
		r.cur.file.Close()
	}
}

// settle makes flight.pub durable, once.
func (r *record) settle() (done bool) {
	if r.pub == nil {
		return false
	}
	f := r.pub
	r.pub = nil
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		r.v.event("flight_pub_failed", err.Error())
	}
	return true
}

// undo removes what a failed start of a record left, so that a medium that fails for hours does
// not fill with empty folders. Where that works, the number is free again.
func (v *Vault) undo(id RecordID) {
	if err := v.delete(id); err == nil {
		v.next = id.Number
	}
}

// undoMkdir frees the number of a record whose folder could not be made, so that it does not look
// like a record that is missing. It removes an empty folder only.
func (v *Vault) undoMkdir(id RecordID) {
	if err := v.cfg.FS.Remove(v.path(id.String())); err == nil || errors.Is(err, fs.ErrNotExist) {
		v.next = id.Number
	}
}

// writeKey makes the wrapped key durable and reads it back; its entry in the folder is made
// durable with that of the first segment.
func (r *record) writeKey(key *FlightKey) (err error) {
	fsys, dir := r.v.cfg.FS, r.v.path(r.id.String())
	for _, f := range key.Files {
		if err := r.v.writeFile(dir+"/"+f.Name, f.Data); err != nil {
			return err
		}
		if got, err := fsys.ReadFile(dir + "/" + f.Name); err != nil || !bytes.Equal(got, f.Data) {
			return errors.Join(errors.New("flight key reads back differently"), err)
		}
	}
	if r.pub, err = fsys.Create(dir + "/" + flightPub); err != nil {
		return err
	}
	_, err = r.pub.Write([]byte(key.Public + "\n"))
	return err
}

func (r *record) header(number int) *segment.Header {
	h := r.v.cfg.Header
	h.Format, h.Device, h.Record, h.Stream = formatVersion, r.v.cfg.DeviceID, r.id.String(), "T"
	h.Segment, h.Continues = number, r.continues.String()
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
	carry := r.carry
	r.carry = nil
	r.cur.filled = r.cur.filled || len(carry) > 0
	return r.put(carry)
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
	s, err := seal.New(f, r.to)
	if err != nil {
		r.undoOpen(f, name)
		return fmt.Errorf("open segment %s: %w", name, err)
	}
	r.cur = &openSegment{number: number, file: f, sealer: s, started: r.v.cfg.Now(), encoded: r.v.buffer()}
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
	}
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
			r.cur.filled = true
			return errors.Join(err, r.write(b))
		}
	}
	r.cur.filled = true
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
	return errors.Join(cause, err)
}

func (r *record) write(b *segment.Block) error {
	from := len(r.cur.encoded)
	var err error
	if r.cur.encoded, err = r.v.enc.Append(r.cur.encoded, b); err != nil {
		return err
	}
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
	return len(r.carry) > 0 || r.cur != nil && len(r.cur.encoded) > r.cur.durable
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
	r.cur.durable = len(r.cur.encoded)
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
	lost := r.cur.encoded[r.cur.durable:]
	r.carry = append(r.carry, lost...)
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
	r.v.queue(&closeJob{dir: r.v.path(r.id.String()), number: s.number, to: r.to, content: s.encoded})
}
