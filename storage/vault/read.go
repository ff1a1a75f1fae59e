package vault

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ErrNotVault: the folder holds no device's folder and is none.
var ErrNotVault = errors.New("not a vault")

// Device is one device's folder as a reader finds it.
type Device struct {
	ID      string
	Dir     string // inside the file system it was found in
	Pub     string // verifier line of the device key; empty where device.pub cannot be read
	Records []Record
}

// Record is one record's folder as a reader finds it, without any key.
type Record struct {
	ID       RecordID
	Dir      string
	State    State
	Keys     []string    // flight.key.age and its parallel files, in order
	Groups   []GroupKeys // by Streams
	Segments []Segment
	Bytes    int64 // sizes of all files
	Strange  []string
}

// Segment is one segment of a record. File is the form to read first; Other is the second
// form where a cut left both.
type Segment struct {
	Stream byte
	Number int
	File   string // empty where the number is missing
	Other  string
	Size   int64
	State  State
}

// FindDevices returns the folders of devices in fsys: its own root where that is a device's
// folder (name is then its base name), else those directly below it. ErrNotVault where there
// is none.
func FindDevices(fsys fs.FS, name string) ([]Device, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.IsDir() && e.Name() == logDir }) {
		d := Device{ID: name, Dir: ".", Pub: readPub(fsys, ".")}
		if id := idInPub(d.Pub); id != "" {
			d.ID = id
		}
		return []Device{d}, nil
	}
	var found []Device
	for _, e := range entries {
		if e.IsDir() && IsDeviceID(e.Name()) {
			found = append(found, Device{ID: e.Name(), Dir: e.Name(), Pub: readPub(fsys, e.Name())})
		}
	}
	if len(found) == 0 {
		return nil, ErrNotVault
	}
	return found, nil
}

func readPub(fsys fs.FS, dir string) string {
	name := path.Join(dir, logDir, devicePub)
	// Not a pipe, which would be waited for without end: the tree may be anybody's.
	if info, err := fs.Stat(fsys, name); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := fsys.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, _ := bufio.NewReader(io.LimitReader(f, 1024)).ReadString('\n')
	return strings.TrimSpace(line)
}

// idInPub returns the id in the key's name, "holdfast-<id>+hash+key".
func idInPub(pub string) string {
	name, _, _ := strings.Cut(pub, "+")
	id, ok := strings.CutPrefix(name, "holdfast-")
	if !ok || !IsDeviceID(id) {
		return ""
	}
	return id
}

// Read lists the records of d. inUse says that a recorder holds the vault's lock: what is open
// in the newest record is then being written, not cut.
func (d *Device) Read(fsys fs.FS, inUse bool) error {
	entries, err := fs.ReadDir(fsys, d.Dir)
	if err != nil {
		return err
	}
	d.Records = nil
	for _, e := range entries {
		id, ok := ParseRecordID(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		d.Records = append(d.Records, Record{ID: id, Dir: path.Join(d.Dir, e.Name())})
	}
	slices.SortFunc(d.Records, func(a, b Record) int { return a.ID.Number - b.ID.Number })
	for i := range d.Records {
		r := &d.Records[i]
		// Records before the newest can still be waiting for their clean close.
		if err := r.read(fsys, inUse && i >= len(d.Records)-recoverRecords); err != nil {
			return fmt.Errorf("%s: %w", r.ID, err)
		}
	}
	d.addMissing()
	return nil
}

// addMissing puts a record with the state missing where a number was skipped between two
// that are there. What lies before the first may have been freed.
func (d *Device) addMissing() {
	var all []Record
	for i, r := range d.Records {
		for n := 1; i > 0 && d.Records[i-1].ID.Number+n < r.ID.Number && n <= maxMissing; n++ {
			all = append(all, Record{ID: RecordID{'?', d.Records[i-1].ID.Number + n}, State: StateMissing})
		}
		all = append(all, r)
	}
	d.Records = all
}

// maxMissing bounds how many missing numbers are listed one by one.
const maxMissing = 1000

func (r *Record) read(fsys fs.FS, inUse bool) error {
	entries, err := fs.ReadDir(fsys, r.Dir)
	if err != nil {
		return err
	}
	segments := map[string]*Segment{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		r.Bytes += info.Size()
		r.sort(e, info.Size(), segments)
	}
	r.sortKeys()
	for _, s := range segments {
		r.Segments = append(r.Segments, *s)
	}
	slices.SortFunc(r.Segments, func(a, b Segment) int {
		return strings.IndexByte("TVPAX", a.Stream)*1e7 + a.Number - strings.IndexByte("TVPAX", b.Stream)*1e7 - b.Number
	})
	r.fillGaps()
	r.judge(inUse)
	return nil
}

// sort puts one directory entry where it belongs.
func (r *Record) sort(e fs.DirEntry, size int64, segments map[string]*Segment) {
	name := e.Name()
	file, ok := ParseSegmentFile(name)
	switch {
	case !e.Type().IsRegular():
		r.Strange = append(r.Strange, name)
	case r.takeKey(name):
	case !ok:
		r.Strange = append(r.Strange, name)
	default:
		s := segments[name[:7]]
		if s == nil {
			s = &Segment{Stream: file.Stream, Number: file.Number}
			segments[name[:7]] = s
		}
		s.take(file, name, size)
	}
}

// take notes one form of the segment: the closed form before the open one before the
// half-written one.
func (s *Segment) take(file SegmentFile, name string, size int64) {
	old := s.File
	if old == "" || file.Closed() || file.Open() && strings.HasSuffix(old, suffixTmp) {
		s.File, s.Size = name, size
	} else {
		old = name
	}
	if old != "" && (s.Other == "" || strings.HasSuffix(old, suffixOpen)) {
		s.Other = old
	}
	s.State = StateCut
	if f, _ := ParseSegmentFile(s.File); f.Closed() {
		s.State = StateClean
	}
}

// fillGaps puts a missing segment where a number was skipped.
func (r *Record) fillGaps() {
	var all []Segment
	next := map[byte]int{}
	for _, s := range r.Segments {
		for n := next[s.Stream] + 1; n < s.Number && s.Number-n <= maxMissing; n++ {
			all = append(all, Segment{Stream: s.Stream, Number: n, State: StateMissing})
		}
		next[s.Stream] = s.Number
		all = append(all, s)
	}
	r.Segments = all
}

func (r *Record) judge(inUse bool) {
	for i := range r.Segments {
		s := &r.Segments[i]
		if inUse && s.State == StateCut {
			s.State = StateOpen
		}
		r.State = r.State.Worse(s.State)
	}
	if len(r.Keys) > 0 && len(r.Segments) > 0 {
		if r.lostGroup() {
			r.State = r.State.Worse(StateMissing)
		}
		return
	}
	// Begun, and cut before anything was sealed: the key is durable before the first flush. A
	// record without its key that holds more has lost it.
	switch {
	case !r.empty():
		r.State = r.State.Worse(StateMissing)
	case inUse:
		r.State = StateOpen
	default:
		r.State = StateCut
	}
}

// sealedChunk is what the first flush of a segment brings at the least: a whole chunk of age's
// payload. A shorter open form is a header.
const sealedChunk = 64 << 10

// empty tells that no segment of the record can hold anything.
func (r *Record) empty() bool {
	return !slices.ContainsFunc(r.Segments, func(s Segment) bool {
		f, ok := ParseSegmentFile(s.File)
		return !ok || !f.Open() || s.Size >= sealedChunk
	})
}
