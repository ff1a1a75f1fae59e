package flight

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"holdfast/storage/segment"
)

// Limits of what is put together from pieces. All that is sealed may have been sealed by anybody.
const (
	maxFile  = 16 << 30    // bytes of one file; pieces behind are refused
	maxFiles = 100_000     // files of one record
	maxSpans = 1 << 18     // rows of bytes of one file; a piece that would be one more is refused
	maxID    = 999_999_999 // of a file, a log and a photo
	maxOpen  = 32          // files that are held open at one time
	maxWhys  = 8           // reasons that are kept for one file
	maxText  = 200         // bytes of each
)

// fileKey tells the files of a record apart.
type fileKey struct {
	letter byte
	id     int
}

// files puts the files of a record together, each at its offsets. What was never had is a hole,
// and reads as zeros.
type files struct {
	dir   string                   // of the record
	only  func(*segment.File) bool // where set, only these files are taken
	root  *os.Root
	began int64 // when the record began, since boot, in microseconds
	names *namer
	byKey map[fileKey]*file
	list  []*file // in the order in which they were first heard of
	open  []*file // oldest first
	// refused counts the bytes of pieces of files beyond the limits.
	refused int64
}

// file is one file as far as it is known.
type file struct {
	fileKey
	meta    segment.File // of its first block
	name    string       // below the record's folder, with slashes
	goesOn  bool         // from the record before
	base    int64        // offset of its first byte in the whole, for a video that goes on
	placed  bool         // base is known
	had     spans
	size    int64 // of the whole, as the last block that knew it said; 0: not known
	ended   bool
	early   bool   // it ended, but not as it should have
	sum     string // of the whole, as the board said
	lostEnd int64  // behind what is told to be lost
	gone    spans  // told to be lost, of a file from the record before
	dropped int64  // bytes that no offset counts
	refused int64  // bytes of pieces beyond the limits
	differs int64  // bytes that came again, and were others
	whys    []string
	report  *FileReport

	made   bool
	handle *os.File
	hash   hash.Hash
	hashed int64
}

func newFiles(dir string) *files {
	return &files{dir: dir, began: math.MaxInt64, names: newNamer(), byKey: map[fileKey]*file{}}
}

// of returns the file that a block is about; nil where it is none that is kept.
func (s *files) of(letter byte, m *segment.File) *file {
	if s.only != nil && !s.only(m) {
		return nil
	}
	key := fileKey{letter, m.ID}
	f := s.byKey[key]
	if f != nil || m.ID < 1 || m.ID > maxID || len(s.list) >= maxFiles {
		return f
	}
	f = &file{fileKey: key, meta: brief(m), hash: sha256.New()}
	// A file whose first byte is not here, and came before the record began, began in the one before.
	f.goesOn = m.Continues != "" || m.Offset > 0 && m.BeganUsec > 0 && m.BeganUsec < s.began
	f.name = s.names.file(letter, m, f.goesOn)
	s.byKey[key] = f
	s.list = append(s.list, f)
	return f
}

// brief keeps of the metadata of a file what is of interest behind its first block.
func brief(m *segment.File) segment.File {
	b := *m
	b.Kind, b.Source, b.Format, b.Name, b.Of, b.Continues = clip(m.Kind), clip(m.Source), clip(m.Format), clip(m.Name), clip(m.Of), clip(m.Continues)
	b.Lost, b.Why, b.SHA256 = nil, "", ""
	if m.Photo != nil {
		photo := *m.Photo
		photo.Trigger = clip(photo.Trigger)
		b.Photo = &photo
	}
	return b
}

// told takes what the metadata of a block say, once for each block.
func (s *files) told(letter byte, m *segment.File) error {
	f := s.of(letter, m)
	if f == nil {
		return nil
	}
	if m.Size > 0 {
		f.size = min(m.Size, maxFile)
	}
	if m.Size > maxFile {
		f.because(fmt.Sprintf("it is said to have %d bytes, more than the %d that are taken", m.Size, int64(maxFile)))
	}
	f.ended, f.early = f.ended || m.End, f.early || m.End && m.Why != ""
	if f.meta.Of == "" {
		f.meta.Of = clip(m.Of) // a pull may begin before the flight has ended that it is about
	}
	if m.SHA256 != "" {
		f.sum = strings.ToLower(clip(m.SHA256))
	}
	if f.meta.Photo == nil && m.Photo != nil {
		f.meta.Photo = brief(m).Photo
	}
	for _, r := range m.Lost { // a hole is what was not had; what is told to be lost reaches behind the last piece at most
		f.lostEnd = max(f.lostEnd, min(r.To, maxFile))
		if f.goesOn && len(f.gone) < maxHoles {
			f.gone.add(max(r.From, 0), min(r.To, maxFile))
		}
	}
	if m.LostBytes > 0 {
		f.dropped = min(f.dropped+min(m.LostBytes, 1<<60), 1<<60)
	}
	f.because(m.Why)
	return nil
}

// because keeps a reason once.
func (f *file) because(why string) {
	why = clip(why)
	if why != "" && len(f.whys) < maxWhys && !slices.Contains(f.whys, why) {
		f.whys = append(f.whys, why)
	}
}

// clip shortens a text that somebody sealed.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "")
}

// piece writes the bytes of a piece that were not had before. Those that were stay as they came
// first, and are compared.
func (s *files) piece(letter byte, m *segment.File, p []byte) error {
	f := s.of(letter, m)
	if f == nil {
		if s.only == nil || s.only(m) {
			s.refused += int64(len(p))
		}
		return nil
	}
	if !f.placed {
		f.placed = true
		if letter == segment.StreamVideo && f.goesOn {
			f.base = min(max(m.Offset, 0), 1<<60)
		}
	}
	from, ok := f.place(m.Offset, int64(len(p)))
	if !ok {
		f.refused += int64(len(p))
		return nil
	}
	to := from + int64(len(p))
	fresh := f.had.missing(from, to)
	if err := s.compare(f, from, p, fresh); err != nil {
		return err
	}
	for _, r := range fresh {
		if err := s.write(f, r.From, p[r.From-from:r.To-from]); err != nil {
			return err
		}
	}
	f.had.add(from, to)
	return nil
}

// place returns where in the file a piece of n bytes goes; not ok beyond the limits.
func (f *file) place(offset, n int64) (from int64, ok bool) {
	if offset < f.base || offset-f.base > maxFile-n {
		return 0, false
	}
	from = offset - f.base
	return from, len(f.had) < maxSpans || !f.had.apart(from, from+n)
}

// write writes bytes that were not had, and hashes them where they are the next ones.
func (s *files) write(f *file, at int64, p []byte) error {
	w, err := s.handle(f)
	if err != nil {
		return err
	}
	if _, err := w.WriteAt(p, at); err != nil {
		return err
	}
	if at == f.hashed {
		f.hash.Write(p)
		f.hashed += int64(len(p))
	}
	return nil
}

// compare counts the bytes of a piece that were had before and are others now.
func (s *files) compare(f *file, from int64, p []byte, fresh []segment.Range) error {
	to := from + int64(len(p))
	var seen spans = fresh
	for _, r := range seen.missing(from, to) {
		w, err := s.handle(f)
		if err != nil {
			return err
		}
		old := make([]byte, r.To-r.From)
		if _, err := w.ReadAt(old, r.From); err != nil {
			return err
		}
		if again := p[r.From-from : r.To-from]; !bytes.Equal(old, again) {
			for i := range old {
				if old[i] != again[i] {
					f.differs++
				}
			}
		}
	}
	return nil
}

// handle returns f's own file, which is made when it is first written. The names are ours alone,
// and neither here nor below is a link followed out of the record's folder.
func (s *files) handle(f *file) (*os.File, error) {
	if f.handle != nil {
		return f.handle, nil
	}
	if err := s.rooted(); err != nil {
		return nil, err
	}
	flags := os.O_RDWR
	if !f.made {
		flags |= os.O_CREATE | os.O_EXCL
		if err := s.folder(f.name); err != nil {
			return nil, err
		}
	}
	h, err := s.root.OpenFile(f.name, flags|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	f.handle, f.made = h, true
	s.open = append(s.open, f)
	if len(s.open) > maxOpen {
		return h, s.shut(s.open[0])
	}
	return h, nil
}

func (s *files) rooted() (err error) {
	if s.root == nil {
		s.root, err = os.OpenRoot(s.dir)
	}
	return err
}

// folder makes the folders of a name.
func (s *files) folder(name string) error {
	for i := range name {
		if name[i] != '/' {
			continue
		}
		if err := s.root.Mkdir(name[:i], 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// shut closes the handle of a file; it is opened again where more of it comes.
func (s *files) shut(f *file) error {
	if f.handle == nil {
		return nil
	}
	s.open = slices.DeleteFunc(s.open, func(o *file) bool { return o == f })
	err := f.handle.Close()
	f.handle = nil
	return err
}

// create makes a file of ours beside the assembled ones.
func (s *files) create(name string, data []byte) error {
	w, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|noFollow, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return errors.Join(err, w.Close())
}

func (s *files) close() error {
	var err error
	for _, f := range slices.Clone(s.open) {
		err = errors.Join(err, s.shut(f))
	}
	if s.root != nil {
		err = errors.Join(err, s.root.Close())
		s.root = nil
	}
	return err
}

// digest returns the SHA-256 of the file as it was written.
func (s *files) digest(f *file) ([]byte, error) {
	if f.hashed < f.had.end() {
		w, err := s.handle(f)
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(f.hash, io.NewSectionReader(w, f.hashed, f.had.end()-f.hashed)); err != nil {
			return nil, err
		}
		f.hashed = f.had.end()
	}
	return f.hash.Sum(nil), nil
}
