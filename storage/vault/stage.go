package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// nextDir is the folder of the next record while it is made: with its key, and without a number.
// The beginning of a record is then a rename, and what arrives meanwhile waits for few syncs.
const nextDir = "NEXT"

// stageRetry is how long the folder of the next record waits after the medium refused it.
const stageRetry = 5 * time.Second

// staging is how far the folder of the next record is. Its steps, in order: the folder, each
// file of the key and of those of its groups, flight.pub and theirs, the sync of the folder;
// each syncs at most once.
type staging struct {
	made    bool // the folder is there
	files   int  // wrapped keys that are durable and were read back
	pubs    int  // flight.pub, and those of groups, that are durable
	done    bool
	retryAt time.Duration
}

// stageStep does the next step in the folder of the next record.
func (v *Vault) stageStep() (did bool) {
	if v.spare == nil || v.stage.done || v.full || v.cfg.Now() < v.stage.retryAt {
		return false
	}
	if err := v.stageOne(); err != nil {
		v.unstage()
		v.stage.retryAt = v.cfg.Now() + stageRetry
	}
	return true
}

// stageAll does the steps that are left.
func (v *Vault) stageAll() error {
	for !v.stage.done {
		if err := v.stageOne(); err != nil {
			v.unstage()
			return err
		}
	}
	return nil
}

func (v *Vault) stageOne() error {
	fsys, dir, s := v.cfg.FS, v.path(nextDir), &v.stage
	switch {
	case !s.made:
		err := fsys.Mkdir(dir)
		if errors.Is(err, fs.ErrExist) { // of a start that was killed, or a try that failed
			if err = v.deleteDir(dir); err == nil {
				err = fsys.Mkdir(dir)
			}
		}
		s.made = err == nil
		return err
	case s.files < len(v.spare.wrapped()):
		f := v.spare.wrapped()[s.files]
		if err := writeFile(fsys, dir+"/"+f.Name, f.Data); err != nil {
			return err
		}
		if got, err := fsys.ReadFile(dir + "/" + f.Name); err != nil || !bytes.Equal(got, f.Data) {
			return errors.Join(errors.New("flight key reads back differently"), err)
		}
		s.files++
		return nil
	case s.pubs < len(v.spare.pubs()):
		f := v.spare.pubs()[s.pubs]
		err := writeFile(fsys, dir+"/"+f.Name, f.Data)
		if err == nil {
			s.pubs++
		}
		return err
	}
	err := fsys.SyncDir(dir)
	s.done = err == nil
	return err
}

// unstage removes the folder of the next record where that works; else the next try does.
func (v *Vault) unstage() {
	if v.stage != (staging{}) {
		_ = v.deleteDir(v.path(nextDir))
	}
	v.stage = staging{}
}

// nameRecord gives the folder of the next record its name, durable. After an error the number
// is free again, or leaf X says that it is not.
func (v *Vault) nameRecord(id RecordID) error {
	fsys, next, dir := v.cfg.FS, v.path(nextDir), v.path(id.String())
	if err := fsys.Rename(next, dir); err != nil {
		// It may have been done all the same. Where the name is taken by something else,
		// this does nothing, and the number cannot be had.
		back := fsys.Rename(dir, next)
		if back != nil && !errors.Is(back, fs.ErrNotExist) {
			v.useUp(id)
		}
		return err
	}
	if err := fsys.SyncDir(v.path()); err != nil {
		v.stage = staging{}
		// What a failing medium kept of this try must not be taken for the next record.
		if v.deleteDir(dir) != nil || fsys.SyncDir(v.path()) != nil {
			v.useUp(id)
		}
		return err
	}
	v.stage = staging{}
	return nil
}

// deleteDir removes a folder and the files in it, not yet durably.
func (v *Vault) deleteDir(dir string) error {
	entries, err := v.cfg.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := v.cfg.FS.Remove(dir + "/" + e.Name()); err != nil {
			return err
		}
	}
	if err := v.cfg.FS.Remove(dir); err != nil {
		return fmt.Errorf("remove folder: %w", err)
	}
	return nil
}
