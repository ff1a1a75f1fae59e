package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/seal"
	"holdfast/storage/segment"
)

// closeJob is the clean close of one segment (docs/format/v1.md, section 5): its blocks are
// sealed again without padding into NAME.age.tmp, synced, renamed, the directory synced, and
// only when the public log names the closed form, in leaves that are synced and signed,
// NAME.open.age is removed. A cut between any two steps leaves either the open file or the
// closed one whole, and a leaf or an open line that names it.
type closeJob struct {
	rec     *record
	stream  byte
	dir     string
	number  int
	to      age.Recipient
	content []byte
	durable durable // of the open form
	span    span    // of the blocks
	lost    bool    // leaf X names the open form
	// second: the open form is whole, and the closed form is a second name of it. There is no
	// content then.
	second bool

	state  int
	file   *hashedFile
	closed durable // the closed form
	sealer *seal.Sealer
	sealed int   // bytes of content written so far
	leaves int64 // that must be signed before the open form goes
	named  bool  // a closed form may stand
	folder bool  // was synced a moment ago, for another close
	before int64 // Vault.folders, when the name was made
	given  bool  // up

	tries   int
	retryAt time.Duration
}

const (
	// closeRetry is how long a clean close waits after the medium refused it; closeTries is
	// how often it is tried. The open file stays and is as good, but a whole one is better.
	closeRetry = 5 * time.Second
	closeTries = 24
)

// Steps of a closeJob, in order; each syncs at most once.
const (
	closeCreate = iota
	closeWrite
	closeRename
	closeSyncName
	closeSigned // leaf C waits to be synced and signed
	closeRemove
	closeSyncGone
	closeDone
)

// queue lines up a clean close. At most two of a stream wait, so that memory is bounded, and the
// number of records that a start has to look at.
func (v *Vault) queue(j *closeJob) {
	v.closing = append(v.closing, j) // first: a checkpoint must list it
	if j.stream != segment.StreamTelemetry {
		return // never a reason for telemetry to wait
	}
	for i := v.pressing(j.stream); i >= 0; i = v.pressing(j.stream) {
		v.closing[i].tries, v.closing[i].retryAt = closeTries, 0 // no room to wait any longer
		v.stepClose(i)
	}
}

// pressing returns a clean close of a stream that must be done now; -1: none.
func (v *Vault) pressing(stream byte) int {
	const most = 2
	all := 0
	for _, j := range v.closing {
		if j.stream == stream {
			all++
		}
	}
	if all <= most {
		return -1
	}
	held, first := 0, -1
	for i, j := range v.closing {
		if j.stream != stream {
			continue
		}
		if j.state == closeSigned && v.log.signed < j.leaves && (v.cfg.Now() < v.log.retryAt || v.log.now() != nil) {
			continue // a log that cannot be written does not keep the recorder
		}
		if j.state >= closeSigned {
			return i
		}
		if held++; first < 0 {
			first = i
		}
	}
	if held <= most {
		return -1 // the others wait for the log
	}
	return first
}

// stepClose does the next step of a clean close, and of those that are at the same step in the same
// folder where that takes no further sync.
func (v *Vault) stepClose(i int) {
	first, at := v.closing[i], v.closing[i].state
	over := first.step(v)
	var gone []*closeJob
	if over {
		gone = append(gone, first)
	}
	named := first.state == closeSigned
	if first.state == at+1 {
		for _, j := range v.closing {
			if j == first || j.dir != first.dir || j.state != at || !j.joins(v) {
				continue
			}
			if j.folder = true; j.step(v) {
				gone = append(gone, j)
			}
			j.folder = false
			named = named || j.state == closeSigned
		}
	}
	if named || len(gone) > 0 {
		v.endRecords()
	}
	if len(gone) == 0 {
		return
	}
	v.closing = slices.DeleteFunc(v.closing, func(j *closeJob) bool { return slices.Contains(gone, j) })
	if v.cfg.Wipe != nil {
		v.cfg.Wipe()
	}
}

// runnable returns the first clean close that waits neither for its next try nor for the public
// log, telemetry's before others: its memory waits for it. -1: none.
func (v *Vault) runnable() int {
	now := v.cfg.Now()
	first := -1
	for i, j := range v.closing {
		if j.retryAt > now || j.state == closeSigned && v.log.signed < j.leaves {
			continue
		}
		if j.stream == segment.StreamTelemetry {
			return i
		}
		if first < 0 {
			first = i
		}
	}
	return first
}

// buffer returns memory for the encoded blocks of a segment.
func (v *Vault) buffer() []byte { return make([]byte, 0, v.room) }

func (j *closeJob) path(suffix string) string {
	return j.dir + "/" + SegmentFile{j.stream, j.number, suffix}.String()
}

// step does the next step. A failure puts the job off, and ends it after the last try: the open
// file stays and is as good.
func (j *closeJob) step(v *Vault) (done bool) {
	err := j.advance(v)
	if err == nil {
		return j.state == closeDone
	}
	j.drop(v)
	if j.tries++; j.tries < closeTries && !errors.Is(err, errNoLinks) {
		switch {
		case j.content != nil: // the closed form does not stand yet
			j.state, j.sealed = closeCreate, 0
		case j.second && j.state < closeSigned:
			j.state = closeRename
		}
		j.retryAt = v.cfg.Now() + closeRetry
		return false
	}
	v.event("close_failed", err.Error())
	j.giveUp(v)
	return true
}

// giveUp leaves the segment in its open form, and says so. Where a closed form may stand that no
// leaf names, the record has no good end: the next start finds out what is there.
func (j *closeJob) giveUp(v *Vault) {
	if j.given = j.state < closeSigned; !j.given {
		return
	}
	if j.named {
		j.rec.unsettled = true
		v.strays = append(v.strays, j)
	}
	if !j.lost {
		v.log.add(lostLeaf(j.rec.id, j.stream, j.number, &j.durable))
	}
	v.log.want()
	j.settled(v, true)
}

// settled notes that leaf C names the segment, or that none ever will.
func (j *closeJob) settled(v *Vault, missing bool) {
	if j.second {
		v.media.box.named(j.named && missing)
	}
	if j.stream == segment.StreamAutopilot {
		v.confirm.add(closedFiles{rec: j.rec.id, number: j.number, blocks: j.span.given, closed: j.closed, leaves: j.leaves, missing: missing})
	}
}

// name adds leaf C: the closed form stands.
func (j *closeJob) name(v *Vault) {
	v.log.add(&custody.Closed{Record: j.rec.id.String(), Segment: segmentName(j.stream, j.number), Size: j.closed.bytes,
		SHA256: j.closed.sum[:], From: j.span.from, To: j.span.to, Frames: j.span.frames})
	v.log.want()
	j.leaves = v.log.log.Size()
	j.settled(v, false)
}

// joins tells whether the next step takes no sync where another close has just done it.
func (j *closeJob) joins(v *Vault) bool {
	switch j.state {
	case closeRename:
		return j.second && j.retryAt <= v.cfg.Now()
	case closeSigned:
		return v.log.signed >= j.leaves
	case closeSyncName, closeRemove, closeSyncGone:
		return j.retryAt <= v.cfg.Now()
	}
	return false
}

// syncFolder makes the names in the folder durable that were made since before.
func (j *closeJob) syncFolder(v *Vault, before int64) error {
	switch {
	case !j.folder:
		return v.syncFolder(v.cfg.FS, j.dir, before)
	case v.folders.Load() != before:
		return errFolder
	}
	return nil
}

func (j *closeJob) advance(v *Vault) error {
	fsys := v.cfg.FS
	switch j.state {
	case closeCreate:
		return j.create(fsys)
	case closeWrite:
		return j.write()
	case closeRename:
		j.before = v.folders.Load()
		if j.second {
			return j.next(j.link(v))
		}
		// So that no closed form stands whose leaf O is not durable. A log that cannot be
		// written does not keep it.
		if err := v.log.sync(); err != nil {
			v.log.refused(err)
		}
		j.named = true
		return j.next(fsys.Rename(j.path(suffixTmp), j.path(suffixClosed)))
	case closeSyncName:
		err := j.next(j.syncFolder(v, j.before))
		if err == nil {
			j.content = nil
			j.name(v)
		}
		return err
	case closeSigned: // runnable has waited for it
		j.state++
		return nil
	case closeRemove:
		err := fsys.Remove(j.path(suffixOpen))
		if errors.Is(err, fs.ErrNotExist) { // of a try that failed and did it all the same
			err = nil
		}
		j.before = v.folders.Load() // a removal that is lost does no harm
		return j.next(err)
	case closeSyncGone:
		return j.next(j.syncFolder(v, j.before))
	}
	return nil
}

// errNoLinks: the medium gives no file a second name.
var errNoLinks = errors.New("the medium has no hard links")

// NoLinks tells an error of FS.Link that says that the medium has no second names, or no more of
// them.
func NoLinks(err error) bool {
	return slices.ContainsFunc([]error{syscall.EPERM, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EXDEV},
		func(e error) bool { return errors.Is(err, e) })
}

// link gives the open form, which is whole, its closed name. Leaf O is durable before, always:
// there is no hurry, for nothing of it is in memory. Where the name stands, an earlier try has
// made it and has not learned that it did, or that it is durable: it is made anew.
func (j *closeJob) link(v *Vault) error {
	if err := v.log.sync(); err != nil {
		v.log.refused(err)
		j.tries-- // it is not this segment's fault
		return err
	}
	open, closed := j.path(suffixOpen), j.path(suffixClosed)
	err := v.cfg.FS.Link(open, closed)
	if errors.Is(err, fs.ErrExist) {
		if err = v.cfg.FS.Remove(closed); err == nil {
			err = v.cfg.FS.Link(open, closed)
		}
	}
	if NoLinks(err) {
		return errors.Join(errNoLinks, err)
	}
	j.named = true
	return err
}

func (j *closeJob) next(err error) error {
	if err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	j.state++
	return nil
}

func (j *closeJob) create(fsys FS) (err error) {
	f, err := fsys.Create(j.path(suffixTmp))
	if errors.Is(err, fs.ErrExist) { // of a try whose half file could not be removed
		if err = fsys.Remove(j.path(suffixTmp)); err == nil {
			f, err = fsys.Create(j.path(suffixTmp))
		}
	}
	if err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	j.file = newHashedFile(f)
	j.state++
	j.sealer, err = seal.New(j.file, j.to)
	return err
}

// write seals the next piece; the last one ends the age file. Each piece is synced, so that
// no sync has more than one piece to wait for.
func (j *closeJob) write() error {
	piece := j.content[j.sealed:min(j.sealed+closePiece, len(j.content))]
	if _, err := j.sealer.Write(piece); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	j.sealed += len(piece)
	last := j.sealed == len(j.content)
	if last {
		if err := j.sealer.Close(); err != nil {
			return fmt.Errorf("close segment: %w", err)
		}
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	if !last {
		return nil
	}
	file := j.file
	file.note(&j.closed)
	j.state, j.file, j.sealer = closeRename, nil, nil
	return file.Close()
}

// drop gives this try up and removes the half file where that still works. A closed form whose
// name may not have reached the medium stays: the next try, or the next start, makes it again.
func (j *closeJob) drop(v *Vault) {
	if j.sealer != nil {
		j.sealer.Abandon()
	}
	if j.file != nil {
		j.file.Close()
	}
	j.sealer, j.file = nil, nil
	if j.state > closeRename || j.second {
		return
	}
	if err := v.cfg.FS.Remove(j.path(suffixTmp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.event("close_failed", err.Error())
	}
}
