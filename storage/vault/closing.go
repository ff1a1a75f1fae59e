package vault

import (
	"errors"
	"fmt"
	"io/fs"

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
}

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
		v.Step()
	}
	v.closing = append(v.closing, j)
}

// buffer returns memory for the encoded blocks of a segment.
func (v *Vault) buffer() []byte { return make([]byte, 0, 64<<10) }

func (j *closeJob) name(suffix string) string {
	return j.dir + "/" + SegmentFile{'T', j.number, suffix}.String()
}

// step does the next step. A failure ends the job: the open file stays and is as good.
func (j *closeJob) step(v *Vault) (done bool) {
	if err := j.advance(v.cfg.FS); err != nil {
		v.event("close_failed", err.Error())
		j.drop(v)
		return true
	}
	if j.state == closeDone {
		return true
	}
	return false
}

func (j *closeJob) advance(fsys FS) error {
	switch j.state {
	case closeCreate:
		return j.create(fsys)
	case closeWrite:
		return j.write()
	case closeRename:
		j.state++
		return fsys.Rename(j.name(suffixTmp), j.name(suffixClosed))
	case closeRemove:
		j.state++
		return fsys.Remove(j.name(suffixOpen))
	case closeSyncName, closeSyncGone:
		j.state++
		return fsys.SyncDir(j.dir)
	}
	return nil
}

func (j *closeJob) create(fsys FS) (err error) {
	j.file, err = fsys.Create(j.name(suffixTmp))
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
	j.state, j.file, j.sealer, j.content = closeRename, nil, nil, nil
	return file.Close()
}

// drop gives the job up and removes the half file where that still works.
func (j *closeJob) drop(v *Vault) {
	if j.sealer != nil {
		j.sealer.Abandon()
	}
	if j.file != nil {
		j.file.Close()
	}
	if j.state <= closeRename {
		if err := v.cfg.FS.Remove(j.name(suffixTmp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			v.event("close_failed", err.Error())
		}
	}
	j.content = nil
}
