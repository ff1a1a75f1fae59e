package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"holdfast/crypto/custody"
)

// Room makes sure that the medium can take what comes next. With when_full = "oldest" it
// deletes the oldest whole records, never the one being written; otherwise it returns ErrFull, until
// there is twice as much room as the least: a medium at the edge must not begin and end records
// without end.
func (v *Vault) Room() error {
	free, err := v.cfg.FS.Free()
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	need := v.least()
	if v.full {
		need += MinFree
	}
	if v.full = free < need; !v.full {
		return nil
	}
	if v.cfg.WhenFull != "oldest" {
		return ErrFull
	}
	return v.deleteOldest()
}

// least is the free space that is kept by deleting the oldest records, or below which nothing is
// recorded.
func (v *Vault) least() int64 {
	if v.cfg.WhenFull == "oldest" {
		return max(MinFree, v.cfg.RoomFor)
	}
	return MinFree
}

func (v *Vault) deleteOldest() error {
	records, err := v.records()
	if err != nil {
		return err
	}
	for _, id := range records {
		if v.busy(id) {
			continue
		}
		if err := v.condemn(id); err != nil {
			return fmt.Errorf("delete %s: %w", id, err)
		}
		if err := v.delete(id); err != nil {
			// The next one may work: a bad spot must not end the recording.
			v.event("delete_failed", fmt.Sprintf("%s: %v", id, err))
			continue
		}
		v.event("record_deleted", id.String()+": the medium was full and when_full is \"oldest\"")
		free, err := v.cfg.FS.Free()
		if err != nil || free >= v.least()+MinFree {
			v.full = err != nil
			return err
		}
	}
	// All that could go has gone. What that gave is less than hoped for, but may do.
	free, err := v.cfg.FS.Free()
	if v.full = err != nil || free < MinFree; v.full { // streams that yield have what there is
		return errors.Join(ErrFull, err)
	}
	return nil
}

// condemn says in the public log that a record is deleted, signed, before its first file goes.
func (v *Vault) condemn(id RecordID) error {
	if slices.Contains(v.log.log.Deleting(), id.String()) {
		return nil // of a try that did not come to its end
	}
	v.log.add(&custody.Lost{Record: id.String(), Why: custody.WhyDeleted})
	return v.log.now()
}

// busy tells whether anything still writes into the record, or the public log does not say yet
// that it has ended.
func (v *Vault) busy(id RecordID) bool {
	if v.rec != nil && v.rec.id == id || slices.Contains(v.log.log.Live(), id.String()) {
		return true
	}
	for _, j := range v.closing {
		if j.dir == v.path(id.String()) {
			return true
		}
	}
	return false
}

// delete removes a record that leaf X names, durably.
func (v *Vault) delete(id RecordID) error {
	err := v.deleteDir(v.path(id.String()))
	if err == nil {
		err = v.cfg.FS.SyncDir(v.path())
	}
	v.confirm.gone(id)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		v.log.log.Gone(id.String())
	}
	return err
}
