package vault

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"

	"holdfast/crypto/custody"
)

// recoverRecords is how many of the newest records can hold something half done: the one that is
// written, the one that it ends, and those of four segments that wait for their clean close.
const recoverRecords = 6

// maxSkipped bounds how many numbers a start says were skipped: a folder with a number far off was
// made by somebody else.
const maxSkipped = 10_000

// recover finds the next number, brings into order what a power cut left half done, and says in
// the public log what it found: leaf R for each record that had not ended, X for numbers that
// were skipped. It removes only what exists twice, and only when the log is signed: a
// half-written closed form, or the open form of a segment whose closed form is durable. It reads
// no record but those that had not ended and the newest few, so that a start takes no longer as
// the vault grows.
func (v *Vault) recover(st *found) error {
	records, err := v.records()
	if err != nil {
		return err
	}
	left := &leftovers{}
	for _, id := range v.unfinished(records, st) {
		v.recoverRecord(id, st, left)
	}
	v.skipNumbers(records)
	v.lockLeaf()
	err = v.log.now()
	if err != nil && st.Slots == custody.SlotsNone {
		return err // before the first record there must be a checkpoint
	}
	if err == nil {
		left.remove(v)
	}
	_ = v.deleteDir(v.path(nextDir)) // of a start that ended without warning
	return nil
}

// unfinished lists the records that can hold something half done, oldest first: those that the
// log says had not ended, and the newest.
func (v *Vault) unfinished(records []RecordID, st *found) []RecordID {
	newest := slices.Clone(records[max(0, len(records)-recoverRecords):])
	for _, name := range st.Live {
		if id, ok := ParseRecordID(name); ok && !slices.Contains(newest, id) {
			newest = append(newest, id)
		}
	}
	slices.SortFunc(newest, func(a, b RecordID) int { return a.Number - b.Number })
	return newest
}

// skipNumbers sets the next number: that of the log, or one behind the newest folder, whichever
// is higher. It must come behind every leaf R.
func (v *Vault) skipNumbers(records []RecordID) {
	v.next = int(v.log.log.Next())
	first := v.next
	for _, id := range records {
		if id.Number < first || id.Number >= first+maxSkipped {
			continue
		}
		for v.next < id.Number {
			v.useUp(RecordID{Ground, v.next})
		}
		if v.next == id.Number {
			v.useUp(id)
		}
	}
}

// leftovers are what may be removed when the log is signed.
type leftovers struct {
	files []string        // and what the sync of their folders makes durable
	dirs  map[string]bool // folders of files
}

func (l *leftovers) add(dir, name string) {
	l.files = append(l.files, dir+"/"+name)
	if l.dirs == nil {
		l.dirs = map[string]bool{}
	}
	l.dirs[dir] = true
}

// remove removes the files, and ends the deletions of records that a cut interrupted.
func (l *leftovers) remove(v *Vault) {
	for _, name := range l.files {
		if err := v.cfg.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			v.event("recovery_failed", err.Error())
		}
	}
	for dir := range l.dirs {
		if err := v.cfg.FS.SyncDir(dir); err != nil {
			v.event("recovery_failed", err.Error())
		}
	}
	for _, name := range v.log.log.Deleting() {
		id, _ := ParseRecordID(name)
		if err := v.delete(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			v.event("delete_failed", fmt.Sprintf("%s: %v", name, err))
		}
	}
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

// recoverRecord brings the files of a record into order, adds leaf R where it had not ended, and
// notes whether it was cut: a segment is still open, or none was begun.
func (v *Vault) recoverRecord(id RecordID, st *found, left *leftovers) {
	dir := v.path(id.String())
	live := slices.Contains(st.Live, id.String())
	entries, err := v.cfg.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && live { // removed by hand: the log names it all the same
		v.log.add(&custody.Recovered{Record: id.String(), Files: gone(id, nil, st)})
		return
	}
	listed := err == nil
	v.cut = RecordID{}
	all := segmentForms(entries)
	if err == nil {
		v.forgetTimes(dir, entries)
		err = v.settleNames(id, all, st, live)
	}
	if err != nil {
		// What is left over does no harm, and an old record that cannot be read must
		// not keep the board from making new ones.
		v.event("recovery_failed", fmt.Sprintf("%s: %v", id, err))
	}
	var named []custody.File
	if live {
		named = v.recovered(id, all, st)
		if listed {
			named = append(named, gone(id, all, st)...)
		}
		slices.SortFunc(named, func(a, b custody.File) int { return cmp.Compare(a.Name, b.Name) })
		v.log.add(&custody.Recovered{Record: id.String(), Files: named})
	}
	cut := len(all) == 0
	for key, f := range all {
		cut = cut || f.open && !f.closed
		switch {
		case err != nil: // the closed form may not be durable
		case f.open && f.closed && !slices.ContainsFunc(named, func(n custody.File) bool { return n.Name == key+suffixOpen }):
			left.add(dir, key+suffixOpen)
		}
		if f.tmp && (f.open || f.closed) {
			left.add(dir, key+suffixTmp)
		}
	}
	if cut && id.Kind == Flight {
		v.cut = id
	}
}

// recovered lists for leaf R of a record what stands of each segment that no leaf C names, and
// what is not as the newest checkpoint said, whatever names it.
func (v *Vault) recovered(id RecordID, all map[string]forms, st *found) []custody.File {
	files := []custody.File{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		f, name, line := all[key], key+suffixClosed, st.line(id, key)
		switch {
		case !f.open && !f.closed:
			continue
		case f.open && f.closed && line != nil && st.named(id, key) && !v.holds(id, line):
			name = key + suffixOpen // a leaf C that nothing signs does not excuse that
		case !f.open && line != nil && !st.named(id, key):
			continue // gone is what was signed; a closed form that no leaf names proves nothing
		case !f.closed:
			name = key + suffixOpen
		case st.named(id, key):
			continue
		}
		size, sum, err := v.hash(v.path(id.String(), name), math.MaxInt64)
		if err != nil {
			v.event("recovery_failed", fmt.Sprintf("%s: %v", id, err))
			continue
		}
		files = append(files, signedAs(custody.File{Name: name, Size: size, SHA256: sum}, line))
	}
	return files
}

// gone lists the open forms that the newest checkpoint names and that are not there. Whatever the
// recorder removes, it has signed before that it stands no more.
func gone(id RecordID, all map[string]forms, st *found) []custody.File {
	files := []custody.File{}
	nothing := sha256.Sum256(nil)
	for _, l := range st.linesOf(id) {
		if key, ok := strings.CutSuffix(l.Name, suffixOpen); ok && !all[key].open {
			files = append(files, signedAs(custody.File{Name: l.Name, SHA256: nothing[:]}, &l))
		}
	}
	return files
}

// signedAs puts into f what a checkpoint says of it.
func signedAs(f custody.File, line *custody.OpenFile) custody.File {
	if line != nil && line.Name == f.Name {
		size := line.Bytes
		f.SignedSize, f.SignedSHA256 = &size, slices.Clone(line.SHA256)
	}
	return f
}

// holds tells that an open form begins with the bytes that a checkpoint names. What cannot be read
// holds: there is nothing to say of it.
func (v *Vault) holds(id RecordID, line *custody.OpenFile) bool {
	size, sum, err := v.hash(v.path(id.String(), line.Name), line.Bytes)
	return err != nil || size == line.Bytes && bytes.Equal(sum, line.SHA256)
}

// hash returns size and SHA-256 of what is durable of a file, or of its beginning. A first try
// that fails has lost what was not; the second one finds what is left.
func (v *Vault) hash(name string, limit int64) (size int64, sum []byte, err error) {
	f, err := v.cfg.FS.OpenSynced(name)
	if err != nil {
		f, err = v.cfg.FS.OpenSynced(name)
	}
	if err != nil {
		return 0, nil, err
	}
	h := sha256.New()
	size, err = io.Copy(h, io.LimitReader(f, limit))
	return size, h.Sum(nil), errors.Join(err, f.Close())
}

type forms struct{ open, closed, tmp bool }

// settleNames makes the names durable of what leaf R will name. After a kill, other than after a
// cut, a name may be in memory only; and where its sync failed, another sync alone would have
// nothing to write. So the name of a closed form whose open form is still there is made a second
// time, but where leaf C names it: then it is durable, and must not be gone for a moment. Where a
// checkpoint names the open form, that is what counts, and the closed form, which anybody could
// have made, becomes a half-written one again.
func (v *Vault) settleNames(id RecordID, all map[string]forms, st *found, live bool) error {
	if !live {
		return nil // leaf Z or R stands: what it names was durable before
	}
	dir := v.path(id.String())
	for key, f := range all {
		if !f.open || !f.closed || st.named(id, key) {
			continue
		}
		closed, tmp := dir+"/"+key+suffixClosed, dir+"/"+key+suffixTmp
		if err := v.cfg.FS.Rename(closed, tmp); err != nil {
			return err
		}
		if st.line(id, key) != nil {
			all[key] = forms{open: true, tmp: true}
			continue
		}
		if err := v.cfg.FS.Rename(tmp, closed); err != nil {
			return err
		}
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
