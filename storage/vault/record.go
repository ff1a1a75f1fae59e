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
	if err := v.writeKey(id, key); err != nil {
		v.undo(id)
		return nil, fmt.Errorf("begin record %s: %w", id, err)
	}
	return &record{v: v, id: id, to: to, continues: continues}, nil
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

func (v *Vault) writeKey(id RecordID, key *FlightKey) error {
	dir := v.path(id.String())
	for _, f := range append(key.Files, KeyFile{flightPub, []byte(key.Public + "\n")}) {
		if err := v.writeFile(dir+"/"+f.Name, f.Data); err != nil {
			return err
		}
	}
	for _, f := range key.Files {
		if got, err := v.cfg.FS.ReadFile(dir + "/" + f.Name); err != nil || !bytes.Equal(got, f.Data) {
			return errors.Join(errors.New("flight key reads back differently"), err)
		}
	}
	if err := v.cfg.FS.SyncDir(dir); err != nil {
		return err
	}
	return v.cfg.FS.SyncDir(v.path())
}

func (r *record) header(number int) *segment.Header {
	h := r.v.cfg.Header
	h.Format, h.Device, h.Record, h.Stream = formatVersion, r.v.cfg.DeviceID, r.id.String(), "T"
	h.Segment, h.Continues = number, r.continues.String()
	return &h
}

// open makes the next segment and carries over what the last one could not make durable.
func (r *record) open() error {
	number := r.segments + 1
	name := SegmentFile{'T', number, suffixOpen}.String()
	f, err := r.v.cfg.FS.Create(r.v.path(r.id.String(), name))
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	r.segments = number
	s, err := seal.New(f, r.to)
	if err == nil {
		// Entry and header are durable before the first flush says that its entries are.
		err = r.v.cfg.FS.SyncDir(r.v.path(r.id.String()))
	}
	if err != nil {
		r.undoOpen(f, name)
		return fmt.Errorf("open segment %s: %w", name, err)
	}
	r.cur = &openSegment{number: number, file: f, sealer: s, started: r.v.cfg.Now(), encoded: r.v.buffer()}
	first := segment.Block{Meta: segment.Meta{Header: r.header(number), Block: r.blocks, BootUsec: r.v.cfg.Now().Microseconds()}}
	r.blocks++
	if err := r.write(&first); err != nil {
		return err
	}
	carry := r.carry
	r.carry = nil
	return r.put(carry)
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
			return errors.Join(err, r.write(b))
		}
	}
	return r.write(b)
}

// rotate ends a segment that is old or large enough. It is called only when the next one is
// about to be opened: while entries come, one segment is always open, and by that a start
// after a power cut knows that the record was cut.
func (r *record) rotate() error {
	if r.cur == nil || !r.due() {
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
	if r.cur != nil && !r.pending() && r.v.cfg.Now()-r.cur.started >= 2*rotateAfter {
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
	took := (r.v.cfg.Now() - begin).Microseconds()
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

// endSegment drops the segment's key and lines the segment up for its clean close.
func (r *record) endSegment() {
	s := r.cur
	if s == nil {
		return
	}
	r.cur = nil
	s.sealer.Abandon()
	if err := s.file.Close(); err != nil {
		r.v.event("segment_failed", err.Error())
	}
	r.v.queue(&closeJob{dir: r.v.path(r.id.String()), number: s.number, to: r.to, content: s.encoded})
}
