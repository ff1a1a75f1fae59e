// Package vault is the tree of sealed records on a medium, format v1 (docs/format/v1.md,
// sections 1, 4 and 5): layout, writer, rotation, recovery after a cut, and when what is written
// into the public log (crypto/custody). It needs no key that opens anything: what it writes is
// sealed by crypto/seal for an identity that it never sees. Telemetry is bytes here.
//
// It starts no goroutine. One goroutine owns a Vault and calls Append, Flush and Step; each
// Step does at most one sync of clean-up, so that a slow medium never delays a flush for long.
// Another one may own a Media, which writes video and photos beside it.
package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
)

// Vault writes the records of one device. Not safe for concurrent use.
type Vault struct {
	cfg  Config
	lock io.Closer
	enc  *segment.Encoder

	next     int       // number of the next record
	cut      RecordID  // the newest record, where it was a flight that a cut ended
	rec      *record   // nil: none open
	ending   []*record // ended, and leaf Z is still to come
	closing  []*closeJob
	strays   []*closeJob // given up, and their closed form may stand
	spare    *FlightKey
	stage    staging
	log      *publicLog
	flushes  int // with success
	armed    bool
	firstDue bool // nothing was flushed since the start
	unsaved  []byte
	full     bool
	room     int           // bytes that the last segment's blocks took: the memory for the next
	slow     time.Duration // how long a sync takes: the longest lately, fading
	sync     segment.Sync
	events   []segment.Event
	audit    side // stream X
	files    side // stream A
	confirm  confirming
	folders  atomic.Int64 // syncs of a folder that failed, Media's too
	media    *Media
	// mediaOpen are segments of Media that have a leaf O and are being written.
	mediaOpen []*mediaSegment
}

// Open takes the lock of the device's folder in the vault, makes what is missing and brings
// what a power cut left half done into order. It touches no sealed byte.
func Open(cfg Config) (*Vault, error) {
	enc, err := segment.NewEncoder()
	if err != nil {
		return nil, err
	}
	v := &Vault{cfg: cfg, enc: enc, firstDue: true,
		audit: side{letter: segment.StreamAudit, room: auditRoom}, files: side{letter: segment.StreamAutopilot, room: filesRoom}}
	if err := v.makeTree(); err != nil {
		return nil, err
	}
	v.lock, err = cfg.FS.Lock(v.path(logDir))
	if err != nil {
		return nil, err
	}
	if err := v.start(); err != nil {
		if v.log != nil {
			v.log.close()
		}
		v.unmake()
		return nil, errors.Join(err, v.lock.Close())
	}
	return v, nil
}

func (v *Vault) start() error {
	if err := v.checkDevice(); err != nil {
		return err
	}
	st, err := v.openLog()
	if err != nil {
		return err
	}
	if st.Newest == nil {
		if err := v.settle(); err != nil {
			return err
		}
	}
	return v.recover(st)
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
// start that made it may have failed or been killed before its sync. Once there is a checkpoint,
// an earlier start has come past here, and a start need not wait for the medium.
func (v *Vault) settle() error {
	for _, dir := range []string{v.path(logDir), v.path(), "."} {
		if err := v.cfg.FS.SyncDir(dir); err != nil {
			return fmt.Errorf("make vault: %w", err)
		}
	}
	return nil
}

// unmake removes a tree without records and checkpoints after a failed start: another sync would
// find nothing to write of what a failed one has lost, so the next start has to make it anew.
// Where there is more than Open makes, all of it stays.
func (v *Vault) unmake() {
	made := map[string][]string{
		v.path(logDir): {logFile, slotA + unfinished, devicePub, devicePub + unfinished},
		v.path():       {readmeFile, readmeFile + unfinished, logDir},
	}
	for dir, names := range made {
		entries, err := v.cfg.FS.ReadDir(dir)
		if err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !slices.Contains(names, e.Name()) }) {
			return
		}
	}
	if v.deleteDir(v.path(logDir)) == nil {
		_ = v.deleteDir(v.path())
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

// unfinished is the end of a file's name until it is whole.
const unfinished = ".tmp"

// ensureFile makes dir/name hold want. A file that differs is replaced only where it is a
// beginning of want. The name comes last, by a rename: a cut can leave a file whose size is
// there and whose content is not, and such a device.pub would pass for one of another key.
func (v *Vault) ensureFile(dir, name string, want []byte) error {
	full := dir + "/" + name
	have, err := v.cfg.FS.ReadFile(full)
	if err == nil && (bytes.Equal(have, want) || !bytes.HasPrefix(want, have)) {
		return nil
	}
	if err := v.cfg.FS.Remove(full + unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeFile(v.cfg.FS, full+unfinished, want); err != nil {
		return err
	}
	if err := v.cfg.FS.Rename(full+unfinished, full); err != nil {
		return err
	}
	return v.cfg.FS.SyncDir(dir)
}

// writeFile makes a new file durable, but not yet its entry in the directory.
func writeFile(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// errFolder: the sync of a folder came to a good end, and one before it had not, which may have lost
// what this one should have made durable.
var errFolder = errors.New("a sync of the folder failed meanwhile")

// syncFolder makes names in a folder durable that were made since v.folders was before. A sync that
// fails may lose what others have changed: for them, and for nobody after them, it is as if theirs
// had failed. It may be called on any goroutine.
func (v *Vault) syncFolder(fsys FS, dir string, before int64) error {
	if err := fsys.SyncDir(dir); err != nil {
		v.folders.Add(1)
		return err
	}
	if v.folders.Load() != before {
		return errFolder
	}
	return nil
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
	v.moveMedia(rec)
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
	return v.rec.t.append(b)
}

// Flush makes everything appended so far durable. After a failure the next Flush writes it
// again into a new segment: nothing is given up while memory holds it.
func (v *Vault) Flush() error {
	if v.rec == nil || !v.rec.t.pending() {
		return nil
	}
	if err := v.rec.t.flush(); err != nil {
		return err
	}
	v.firstDue = false
	v.flushes++
	return nil
}

// StepWithin is Step where a sync, as long as they took lately, fits into the time that is left
// until the next flush, or where none is due for a second; otherwise it does nothing.
func (v *Vault) StepWithin(left time.Duration) (more bool) {
	if left < v.slow && left < time.Second {
		return false
	}
	return v.Step()
}

// Step does one piece of clean-up, at most one sync long, and tells whether more waits.
func (v *Vault) Step() (more bool) {
	if v.lock == nil {
		return false
	}
	if v.rec != nil {
		v.rec.t.rest()
		if v.rec.t.rotateAhead() {
			return true
		}
	}
	v.mediaStep()
	if v.sideStep(&v.audit) || v.log.step() || v.sideStep(&v.files) || v.stageStep() || v.confirmStep() {
		return true
	}
	i := v.runnable()
	if i < 0 {
		return false
	}
	v.stepClose(i)
	return v.runnable() >= 0 || v.log.wanted
}

// finish does all the clean-up that waits, each close, and the public log, with one last try.
func (v *Vault) finish() {
	for _, j := range v.closing {
		j.tries, j.retryAt = closeTries, 0
	}
	v.log.retryAt = 0
	for v.Step() {
	}
}

// End closes the open record.
func (v *Vault) End() error {
	var err error
	if old := v.rec; old != nil {
		for _, q := range v.sides() {
			v.sideAll(q)
		}
		v.rec = nil
		v.moveMedia(nil)
		err = v.retire(old)
		v.awaitMedia()
	}
	v.finish()
	return err
}

// retire flushes a record's last segment of telemetry and lines its segments up for their clean
// close.
func (v *Vault) retire(old *record) error {
	err := old.t.flush()
	if err != nil { // a second try, into a new segment
		err = old.t.flush()
	}
	v.keepUnsaved(old.t)
	old.t.endSegment()
	old.x.endSegment() // what waits goes into the next record
	old.a.endSegment()
	v.ending = append(v.ending, old)
	v.endRecords()
	return err
}

// endRecords adds leaf Z for each record that has ended and whose segments are all named.
func (v *Vault) endRecords() {
	for _, r := range v.ending {
		r.left = v.media == nil || v.media.box.left(r.media)
	}
	v.drainMedia() // what it said before it left
	v.ending = slices.DeleteFunc(v.ending, func(r *record) bool {
		if slices.ContainsFunc(v.closing, func(j *closeJob) bool { return j.rec == r && j.state < closeSigned && !j.given }) {
			return false
		}
		if !r.left {
			return false
		}
		if !r.unsettled {
			v.log.add(&custody.Ended{Record: r.id.String(), Segments: r.top})
			v.log.want()
		}
		return true
	})
}

// Close ends the open record and gives up the lock.
func (v *Vault) Close() error {
	if v.lock == nil {
		return nil
	}
	v.stage.retryAt = math.MaxInt64 // no record follows
	err := v.End()
	v.unstage()
	v.log.close()
	err = errors.Join(err, v.closeMedia(v.lock))
	v.lock = nil
	return err
}
