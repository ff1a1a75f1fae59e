package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"filippo.io/age"

	"holdfast/crypto/seal"
)

// closeJob is the clean close of one segment (docs/format/v1.md, section 5): its blocks are
// sealed again without padding into NAME.age.tmp, synced, renamed, the directory synced, and
// only then NAME.open.age is removed. A cut between any two steps leaves either the open file
// or the closed one whole.
type closeJob struct {
	dir     string
	number  int
	to      age.Recipient
	content []byte

	state  int
	file   File
	sealer *seal.Sealer
	sealed int // bytes of content written so far

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
	closeRemove
	closeSyncGone
	closeDone
)

// queue lines up a clean close. Memory is bounded: at most two wait.
func (v *Vault) queue(j *closeJob) {
	const most = 2
	for len(v.closing) >= most {
		v.closing[0].tries = closeTries // no memory to wait any longer
		v.closing[0].retryAt = 0
		v.Step()
	}
	v.closing = append(v.closing, j)
}

// buffer returns memory for the encoded blocks of a segment.
func (v *Vault) buffer() []byte { return make([]byte, 0, v.room) }

func (j *closeJob) name(suffix string) string {
	return j.dir + "/" + SegmentFile{'T', j.number, suffix}.String()
}

// step does the next step. A failure puts the job off, and ends it after the last try: the open
// file stays and is as good.
func (j *closeJob) step(v *Vault) (done bool) {
	err := j.advance(v.cfg.FS)
	if err == nil {
		return j.state == closeDone
	}
	j.drop(v)
	j.tries++
	if j.tries < closeTries {
		if j.content != nil { // the closed form does not stand yet
			j.state, j.sealed = closeCreate, 0
		}
		j.retryAt = v.cfg.Now() + closeRetry
		return false
	}
	v.event("close_failed", err.Error())
	return true
}

func (j *closeJob) advance(fsys FS) error {
	switch j.state {
	case closeCreate:
		return j.create(fsys)
	case closeWrite:
		return j.write()
	case closeRename:
		return j.next(fsys.Rename(j.name(suffixTmp), j.name(suffixClosed)))
	case closeSyncName:
		err := j.next(fsys.SyncDir(j.dir))
		if err == nil {
			j.content = nil
		}
		return err
	case closeRemove:
		err := fsys.Remove(j.name(suffixOpen))
		if errors.Is(err, fs.ErrNotExist) { // of a try that failed and did it all the same
			err = nil
		}
		return j.next(err)
	case closeSyncGone:
		return j.next(fsys.SyncDir(j.dir))
	}
	return nil
}

func (j *closeJob) next(err error) error {
	if err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	j.state++
	return nil
}

func (j *closeJob) create(fsys FS) (err error) {
	j.file, err = fsys.Create(j.name(suffixTmp))
	if errors.Is(err, fs.ErrExist) { // of a try whose half file could not be removed
		if err = fsys.Remove(j.name(suffixTmp)); err == nil {
			j.file, err = fsys.Create(j.name(suffixTmp))
		}
	}
	if err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
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
	if j.state > closeRename {
		return
	}
	if err := v.cfg.FS.Remove(j.name(suffixTmp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.event("close_failed", err.Error())
	}
}
