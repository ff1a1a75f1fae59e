package vault

import (
	"errors"
	"fmt"
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
	need := int64(MinFree)
	if v.full {
		need = 2 * MinFree
	}
	if v.full = free < need; !v.full {
		return nil
	}
	if v.cfg.WhenFull != "oldest" {
		return ErrFull
	}
	return v.deleteOldest()
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
		if err := v.delete(id); err != nil {
			// The next one may work: a bad spot must not end the recording.
			v.event("delete_failed", fmt.Sprintf("%s: %v", id, err))
			continue
		}
		v.event("record_deleted", id.String()+": the medium was full and when_full is \"oldest\"")
		free, err := v.cfg.FS.Free()
		if err != nil || free >= 2*MinFree {
			v.full = err != nil
			return err
		}
	}
	// All that could go has gone. What that gave is less than hoped for, but may do.
	free, err := v.cfg.FS.Free()
	if v.full = err != nil || free < MinFree; v.full {
		return errors.Join(ErrFull, err)
	}
	return nil
}

// busy tells whether anything still writes into the record.
func (v *Vault) busy(id RecordID) bool {
	if v.rec != nil && v.rec.id == id {
		return true
	}
	for _, j := range v.closing {
		if j.dir == v.path(id.String()) {
			return true
		}
	}
	return false
}

func (v *Vault) delete(id RecordID) error {
	dir := v.path(id.String())
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
		return err
	}
	return v.cfg.FS.SyncDir(v.path())
}
