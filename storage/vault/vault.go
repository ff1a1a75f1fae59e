// Package vault is the tree of sealed records on a medium, format v1 (docs/format/v1.md,
// sections 1 and 5): layout, writer, rotation, recovery after a cut. It needs no key: what it
// writes is sealed by crypto/seal for an identity that it never sees. Telemetry is bytes here.
//
// It starts no goroutine. One goroutine owns a Vault and calls Append, Flush and Step; each
// Step does at most one sync of clean-up, so that a slow medium never delays a flush for long.
package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"holdfast/storage/segment"
)

// Vault writes the records of one device. Not safe for concurrent use.
type Vault struct {
	cfg  Config
	lock io.Closer
	enc  *segment.Encoder

	next     int      // number of the next record
	cut      RecordID // the newest record, where it was a flight that a cut ended
	rec      *record  // nil: none open
	closing  []*closeJob
	spare    *FlightKey
	armed    bool
	firstDue bool // nothing was flushed since the start
	full     bool
	room     int           // bytes that the last segment's blocks took: the memory for the next
	slow     time.Duration // how long a sync takes: the longest lately, fading
	sync     segment.Sync
	events   []segment.Event
}

// Open takes the lock of the device's folder in the vault, makes what is missing and brings
// what a power cut left half done into order. It touches no sealed byte.
func Open(cfg Config) (*Vault, error) {
	enc, err := segment.NewEncoder()
	if err != nil {
		return nil, err
	}
	v := &Vault{cfg: cfg, enc: enc, firstDue: true}
	if err := v.makeTree(); err != nil {
		return nil, err
	}
	v.lock, err = cfg.FS.Lock(v.path(logDir))
	if err != nil {
		return nil, err
	}
	if err := v.checkDevice(); err != nil {
		return nil, errors.Join(err, v.lock.Close())
	}
	if err := v.recover(); err != nil {
		return nil, errors.Join(err, v.lock.Close())
	}
	if err := v.settle(); err != nil {
		return nil, errors.Join(err, v.lock.Close())
	}
	return v, nil
}

func (v *Vault) path(names ...string) string {
	p := v.cfg.DeviceID
	for _, n := range names {
		p += "/" + n
	}
	return p
}

func (v *Vault) makeTree() error {
	for _, dir := range []string{v.path(), v.path(logDir)} {
		if err := v.cfg.FS.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make vault: %w", err)
		}
	}
	return nil
}

// settle makes the tree above the records durable. That a folder is there does not say so: the
// start that made it may have failed or been killed before its sync. Once there is a record,
// an earlier start has come past here, and a start need not wait for the medium.
func (v *Vault) settle() error {
	if v.next > 1 {
		return nil
	}
	for _, dir := range []string{v.path(logDir), v.path(), "."} {
		if err := v.cfg.FS.SyncDir(dir); err != nil {
			v.unmake()
			return fmt.Errorf("make vault: %w", err)
		}
	}
	return nil
}

// unmake removes a tree without records after a failed sync: a second sync would find nothing
// to write, so the next start has to make it anew. What holds more than Open makes stays.
func (v *Vault) unmake() {
	log, err := v.cfg.FS.ReadDir(v.path(logDir))
	if err != nil || slices.ContainsFunc(log, func(e fs.DirEntry) bool { return e.Name() != devicePub }) {
		return
	}
	for _, name := range []string{v.path(logDir, devicePub), v.path(logDir), v.path(readmeFile), v.path()} {
		if err := v.cfg.FS.Remove(name); err != nil {
			return
		}
	}
}

// checkDevice writes README.txt and device.pub where they are missing or were cut while they
// were first written, and refuses a folder that belongs to another key.
func (v *Vault) checkDevice() error {
	if err := v.ensureFile(v.path(), readmeFile, []byte(readmeText)); err != nil {
		return err
	}
	pub := []byte(v.cfg.DevicePub)
	have, err := v.cfg.FS.ReadFile(v.path(logDir, devicePub))
	if err == nil && !bytes.HasPrefix(pub, have) {
		return ErrForeignKey
	}
	return v.ensureFile(v.path(logDir), devicePub, pub)
}

// ensureFile makes dir/name hold want. A file that differs is replaced only where it is a
// beginning of want. The name comes last, by a rename: a cut can leave a file whose size is
// there and whose content is not, and such a device.pub would pass for one of another key.
func (v *Vault) ensureFile(dir, name string, want []byte) error {
	full := dir + "/" + name
	have, err := v.cfg.FS.ReadFile(full)
	if err == nil && (bytes.Equal(have, want) || !bytes.HasPrefix(want, have)) {
		return nil
	}
	const unfinished = ".tmp"
	if err := v.cfg.FS.Remove(full + unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := v.writeFile(full+unfinished, want); err != nil {
		return err
	}
	if err := v.cfg.FS.Rename(full+unfinished, full); err != nil {
		return err
	}
	return v.cfg.FS.SyncDir(dir)
}

// writeFile makes a new file durable, but not yet its entry in the directory.
func (v *Vault) writeFile(name string, data []byte) error {
	f, err := v.cfg.FS.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Record returns the record that is being written; the zero value where there is none.
func (v *Vault) Record() RecordID {
	if v.rec == nil {
		return RecordID{}
	}
	return v.rec.id
}

// CutFlight returns the newest record where it is a flight that was cut, so that a recorder
// can go on with it; the zero value otherwise.
func (v *Vault) CutFlight() RecordID { return v.cut }

// SetArmed chooses between the two flush intervals.
func (v *Vault) SetArmed(armed bool) { v.armed = armed }

// Interval is how long entries may wait before they are made durable.
func (v *Vault) Interval() time.Duration {
	if v.firstDue {
		return 0
	}
	if v.armed {
		return v.cfg.FlushArmed
	}
	return v.cfg.FlushIdle
}

// Free returns the bytes that may still be written to the medium.
func (v *Vault) Free() (int64, error) { return v.cfg.FS.Free() }

// Event notes something about the vault itself in the record.
func (v *Vault) event(kind, detail string) {
	const most = 64 // a failing medium says the same thing over and over
	if len(v.events) < most {
		v.events = append(v.events, segment.Event{BootUsec: v.cfg.Now().Microseconds(), Kind: kind, Detail: detail})
	}
}

// Prepare makes the key of the next record ahead of time, so that a flight starts without
// waiting for it. It does nothing where one is ready.
func (v *Vault) Prepare() error {
	if v.spare != nil {
		return nil
	}
	k, err := v.cfg.NewKey()
	if err != nil {
		return fmt.Errorf("make flight key: %w", err)
	}
	v.spare = k
	return nil
}

// Begin starts a record of the given kind and ends the one before. The new one stands before
// the old one is closed, so that nothing waits for the clean-up. continues may be zero.
func (v *Vault) Begin(kind Kind, continues RecordID) error {
	if v.lock == nil {
		return ErrClosed
	}
	if err := v.Room(); err != nil {
		return err
	}
	if err := v.Prepare(); err != nil {
		return err
	}
	rec, err := v.newRecord(kind, continues)
	if err != nil {
		return err
	}
	old := v.rec
	v.rec = rec
	if old != nil {
		return v.retire(old)
	}
	return nil
}

// Append adds a block to the open record. It is durable after the next Flush. b's slices are
// free again when it returns.
func (v *Vault) Append(b *segment.Block) error {
	if v.rec == nil {
		return ErrClosed
	}
	b.Meta.Events = slices.Concat(v.events, b.Meta.Events)
	v.events = v.events[:0]
	if v.sync.Count > 0 {
		s := v.sync
		b.Meta.Sync = &s
		v.sync = segment.Sync{}
	}
	return v.rec.append(b)
}

// Flush makes everything appended so far durable. After a failure the next Flush writes it
// again into a new segment: nothing is given up while memory holds it.
func (v *Vault) Flush() error {
	if v.rec == nil || !v.rec.pending() {
		return nil
	}
	if err := v.rec.flush(); err != nil {
		return err
	}
	v.firstDue = false
	return nil
}

// StepWithin is Step where a sync, as long as they took lately, fits into the time that is left
// until the next flush; otherwise it does nothing.
func (v *Vault) StepWithin(left time.Duration) (more bool) {
	if left < v.slow {
		return false
	}
	return v.Step()
}

// Step does one piece of clean-up, at most one sync long, and tells whether more waits.
func (v *Vault) Step() (more bool) {
	if v.rec != nil {
		v.rec.rest()
		if v.rec.rotateAhead() || v.rec.settle() {
			return true
		}
	}
	i := v.runnable()
	if i < 0 {
		return false
	}
	if v.closing[i].step(v) {
		v.closing = slices.Delete(v.closing, i, i+1)
		if v.cfg.Wipe != nil {
			v.cfg.Wipe()
		}
	}
	return v.runnable() >= 0
}

// runnable returns the first clean close that does not wait for its next try; -1: none.
func (v *Vault) runnable() int {
	now := v.cfg.Now()
	return slices.IndexFunc(v.closing, func(j *closeJob) bool { return j.retryAt <= now })
}

// finish does all the clean-up that waits, each close with one last try.
func (v *Vault) finish() {
	for _, j := range v.closing {
		j.tries, j.retryAt = closeTries, 0
	}
	for v.Step() {
	}
}

// End closes the open record.
func (v *Vault) End() error {
	var err error
	if old := v.rec; old != nil {
		v.rec = nil
		err = v.retire(old)
	}
	v.finish()
	return err
}

// retire flushes a record's last segment and lines it up for its clean close.
func (v *Vault) retire(old *record) error {
	old.settle()
	err := old.flush()
	if err != nil { // a second try, into a new segment
		err = old.flush()
	}
	old.endSegment()
	return err
}

// Close ends the open record and gives up the lock.
func (v *Vault) Close() error {
	if v.lock == nil {
		return nil
	}
	err := errors.Join(v.End(), v.lock.Close())
	v.lock = nil
	return err
}
