package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// recoverRecords is how many of the newest records can hold something half done: the one that is
// written, the one that it ends, and those of two segments that wait for their clean close.
const recoverRecords = 4

// recover finds the next number and brings the newest records into order. It removes only
// what exists twice: a half-written closed form, or the open form of a segment whose closed
// form was synced and renamed. It reads no record older than the newest few, so that a start
// takes no longer as the vault grows.
func (v *Vault) recover() error {
	records, err := v.records()
	if err != nil {
		return err
	}
	v.next = 1
	if len(records) == 0 {
		return nil
	}
	v.next = records[len(records)-1].Number + 1
	for _, id := range records[max(0, len(records)-recoverRecords):] {
		cut, err := v.recoverRecord(id)
		if err != nil {
			// What is left over does no harm, and an old record that cannot be read must
			// not keep the board from making new ones.
			v.event("recovery_failed", fmt.Sprintf("%s: %v", id, err))
		}
		v.cut = RecordID{}
		if cut && id.Kind == Flight {
			v.cut = id
		}
	}
	return nil
}

// records lists the records of the device, oldest first.
func (v *Vault) records() ([]RecordID, error) {
	entries, err := v.cfg.FS.ReadDir(v.path())
	if err != nil {
		return nil, fmt.Errorf("read vault: %w", err)
	}
	var ids []RecordID
	for _, e := range entries {
		if id, ok := ParseRecordID(e.Name()); ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b RecordID) int { return a.Number - b.Number })
	return ids, nil
}

// forgetTimes sets to zero the times that a cut left: they would tell when the flight was.
func (v *Vault) forgetTimes(dir string, entries []fs.DirEntry) {
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.ModTime().Unix() == 0 {
			continue
		}
		if err := v.cfg.FS.ForgetTimes(dir + "/" + e.Name()); err != nil {
			v.event("recovery_failed", err.Error())
		}
	}
}

// recoverRecord tells whether the record was cut: a segment is still open, or none was begun.
func (v *Vault) recoverRecord(id RecordID) (cut bool, err error) {
	dir := v.path(id.String())
	entries, err := v.cfg.FS.ReadDir(dir)
	if err != nil {
		return false, err
	}
	v.forgetTimes(dir, entries)
	forms := segmentForms(entries)
	cut = len(forms) == 0
	if err := v.settleClosed(dir, forms); err != nil {
		return cut, err
	}
	removed := false
	for key, f := range forms {
		gone := ""
		switch {
		case f.open && f.closed:
			gone = key + suffixOpen // and no half-written form: settleClosed has replaced it
		case f.tmp && (f.open || f.closed):
			gone = key + suffixTmp
		}
		if f.open && !f.closed {
			cut = true
		}
		if gone == "" {
			continue
		}
		if err := v.cfg.FS.Remove(dir + "/" + gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cut, err
		}
		removed = true
	}
	if removed {
		return cut, v.cfg.FS.SyncDir(dir)
	}
	return cut, nil
}

type forms struct{ open, closed, tmp bool }

// settleClosed makes the names of closed forms durable whose open form is still there. After a
// kill, other than after a cut, such a name may be in memory only; and where its sync failed,
// another sync alone would have nothing to write. So the name is made a second time.
func (v *Vault) settleClosed(dir string, m map[string]forms) error {
	any := false
	for key, f := range m {
		if !f.open || !f.closed {
			continue
		}
		closed, tmp := dir+"/"+key+suffixClosed, dir+"/"+key+suffixTmp
		if err := errors.Join(v.cfg.FS.Rename(closed, tmp), v.cfg.FS.Rename(tmp, closed)); err != nil {
			return err
		}
		any = true
	}
	if !any {
		return nil
	}
	return v.cfg.FS.SyncDir(dir)
}

// segmentForms groups the files of a record by segment, such as T000001.
func segmentForms(entries []fs.DirEntry) map[string]forms {
	m := map[string]forms{}
	for _, e := range entries {
		s, ok := ParseSegmentFile(e.Name())
		if !ok {
			continue
		}
		key := e.Name()[:7]
		f := m[key]
		f.open = f.open || s.Open()
		f.closed = f.closed || s.Closed()
		f.tmp = f.tmp || s.Tmp()
		m[key] = f
	}
	return m
}
