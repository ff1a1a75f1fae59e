package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"holdfast/crypto/custody"
)

// Files of the public log.
const (
	logFile = "log.bin"
	slotA   = "cp.A"
	slotB   = "cp.B"
	badLog  = "log.bad" // with a number: a log that was shorter than it must be
)

var slotFiles = [2]string{slotA, slotB}

// logStore is the public log on a medium. It implements custody.Store.
type logStore struct {
	fs   FS
	dir  string
	file File // log.bin, open at its end; nil: not open
}

func (s *logStore) path(name string) string { return s.dir + "/" + name }

// found is what a start finds in the log: where it is gone on with, and what became of segments
// that were written last.
type found struct {
	*custody.State
	// Of the leaves that the newest checkpoint does not count, as record/segment.
	opened, closed map[string]bool
	lines          map[string]bool // open lines of the newest checkpoint, as well
}

// unsure tells that leaves are not there, or checkpoints, that once were.
func (f *found) unsure() bool { return f.Lost || f.Slots == custody.SlotsBad }

// named tells whether leaf C names a segment that stands in its closed form.
func (f *found) named(record RecordID, segment string) bool {
	key := record.String() + "/" + segment
	return f.closed[key] || !f.unsure() && f.Newest != nil && !f.opened[key] && !f.lines[key]
}

// line returns what the newest checkpoint says of the open form of a segment; nil where nothing.
func (f *found) line(record RecordID, segment string) *custody.OpenFile {
	for _, l := range f.linesOf(record) {
		if l.Name == segment+suffixOpen {
			return &l
		}
	}
	return nil
}

// linesOf lists what the newest checkpoint says of open forms of a record.
func (f *found) linesOf(record RecordID) (lines []custody.OpenFile) {
	if f.Newest == nil {
		return nil
	}
	for _, l := range f.Newest.Open {
		if l.Record == record.String() {
			lines = append(lines, l)
		}
	}
	return lines
}

// take notes what the leaves behind the newest checkpoint say.
func (f *found) take(r io.Reader) {
	f.opened, f.closed, f.lines = map[string]bool{}, map[string]bool{}, map[string]bool{}
	if f.Newest != nil {
		for _, l := range f.Newest.Open {
			f.lines[l.Record+"/"+l.Name[:len("T000001")]] = true
		}
	}
	leaves := custody.NewReader(r)
	for {
		l, err := leaves.Next()
		if err != nil {
			return // the end, or what Load has passed
		}
		e, err := l.Entry()
		if err != nil {
			return
		}
		switch e := e.(type) {
		case *custody.Opened:
			f.opened[e.Record+"/"+e.Segment] = true
		case *custody.Closed:
			f.closed[e.Record+"/"+e.Segment] = true
		}
	}
}

// load reads where the log is gone on with, and cuts log.bin to its whole leaves. A log that is
// shorter than its newest checkpoint says is kept aside first.
func (s *logStore) load(device string) (*found, error) {
	var slots [2][]byte
	for i, name := range slotFiles {
		p, err := s.fs.ReadFile(s.path(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		slots[i] = p
	}
	r, err := s.open()
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer r.Close()
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	st, err := custody.Load(device, slots, size, func(offset int64) (io.Reader, error) {
		_, err := r.Seek(offset, io.SeekStart)
		return r, err
	})
	if err != nil {
		return nil, err
	}
	f := &found{State: st}
	tail := int64(0)
	if st.Newest != nil && !st.Lost {
		tail = st.Newest.LogBytes
	}
	if _, err := r.Seek(tail, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	f.take(io.LimitReader(r, st.Bytes-tail))
	if st.Lost && size > 0 {
		if err := s.keepAside(r); err != nil {
			return nil, fmt.Errorf("keep log aside: %w", err)
		}
	}
	if st.Torn > 0 {
		if err := s.fs.Truncate(s.path(logFile), st.Bytes); err != nil {
			return nil, fmt.Errorf("cut log: %w", err)
		}
	}
	return f, nil
}

// open opens log.bin for reading what is durable of it, and makes it where there is none. A sync
// that fails has lost what it should have written; what the medium still has is the log.
func (s *logStore) open() (io.ReadSeekCloser, error) {
	name := s.path(logFile)
	r, err := s.fs.OpenSynced(name)
	if err == nil {
		return r, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		f, err := s.fs.Create(name)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(f.Close(), s.fs.SyncDir(s.dir)); err != nil {
			// A second sync would find nothing to write: the next start makes it anew.
			return nil, errors.Join(err, s.fs.Remove(name))
		}
	}
	return s.fs.OpenSynced(name)
}

// keepAside copies log.bin to log.bad.N.
func (s *logStore) keepAside(r io.ReadSeeker) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	const most = 1000
	for n := range most {
		f, err := s.fs.Create(s.path(fmt.Sprintf("%s.%d", badLog, n+1)))
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err == nil {
			err = f.Sync()
		}
		return errors.Join(err, f.Close(), s.fs.SyncDir(s.dir))
	}
	return fs.ErrExist
}

// Append implements custody.Store.
func (s *logStore) Append(p []byte) (err error) {
	if s.file == nil {
		if s.file, err = s.fs.Append(s.path(logFile)); err != nil {
			return err
		}
	}
	_, err = s.file.Write(p)
	return err
}

// Sync implements custody.Store.
func (s *logStore) Sync() error {
	if s.file == nil {
		return fs.ErrClosed
	}
	return s.file.Sync()
}

// Rewind implements custody.Store.
func (s *logStore) Rewind(size int64) error {
	s.close()
	return s.fs.Truncate(s.path(logFile), size)
}

// PutSlot implements custody.Store. A slot that is not there yet gets its name last, by a
// rename, so that it is whole or not there.
func (s *logStore) PutSlot(slot int, p []byte) error {
	name := s.path(slotFiles[slot])
	err := s.fs.Replace(name, p)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.fs.Remove(name + unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeFile(s.fs, name+unfinished, p); err != nil {
		return err
	}
	if err := s.fs.Rename(name+unfinished, name); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		// Another sync would find nothing to write: the next try makes the name anew.
		return errors.Join(err, s.fs.Remove(name))
	}
	return nil
}

func (s *logStore) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}
