package flight

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"holdfast/storage/segment"
)

// maxHoles is how many holes of a file flight.json lists; its side file lists all.
const maxHoles = 1000

// FileReport is what became of one file: a log, parameters, a mission, a video, a photo.
type FileReport struct {
	Name   string `json:"name"` // below the record's folder
	Stream string `json:"stream"`
	ID     int    `json:"id"` // within the stream of the record
	Kind   string `json:"kind"`
	Source string `json:"source"`
	Format string `json:"format"`
	// Size is that of the whole where it is known, else where the last byte that is known of
	// ends. Bytes are those that are there.
	Size     int64      `json:"size"`
	Bytes    int64      `json:"bytes"`
	Complete bool       `json:"complete"` // ended as it should have, and nothing of it is missing
	Holes    [][2]int64 `json:"holes"`    // from, and the first byte behind
	// HolesMore counts those beyond the first 1000; HolesFile lists all.
	HolesMore int64  `json:"holes_more,omitempty"`
	HolesFile string `json:"holes_file,omitempty"`
	LostBytes int64  `json:"lost_bytes"` // holes, and what no offset counts
	// DifferentBytes came twice, and not the same; the first stand.
	DifferentBytes int64  `json:"different_bytes,omitempty"`
	RefusedBytes   int64  `json:"refused_bytes,omitempty"` // of pieces beyond the limits
	Why            string `json:"why,omitempty"`
	// SHA256 is that of the file as it was written, where it has no hole; SHA256OK tells whether
	// it is what the board said, where it did.
	SHA256   string `json:"sha256,omitempty"`
	SHA256OK *bool  `json:"sha256_ok,omitempty"`
	Of       string `json:"of,omitempty"`  // the record that the file is about, where it is another
	Log      int    `json:"log,omitempty"` // the autopilot's number for it
	LogTime  string `json:"log_time,omitempty"`
	Began    string `json:"began,omitempty"`
	Called   string `json:"called,omitempty"` // where it came from
	// GoesOn tells a part of a file that began in the record before; what is here starts at byte
	// StartsAt of it. Continues is what the board said of that.
	GoesOn    bool   `json:"goes_on,omitempty"`
	Continues string `json:"continues,omitempty"`
	StartsAt  int64  `json:"starts_at,omitempty"`
	// JoinedIn is the record in which this part was put together with its beginning, JoinedFrom
	// are those whose parts are in this file.
	JoinedIn   string   `json:"joined_in,omitempty"`
	JoinedFrom []string `json:"joined_from,omitempty"`
	// Salvaged is a file beside this one with its whole messages alone; SalvagedWhy tells why
	// there is none although there are holes.
	Salvaged    string `json:"salvaged,omitempty"`
	SalvagedWhy string `json:"salvaged_why,omitempty"`
	// Of photos: the sidecar, the copy with geotags, or why there is none, and what of its old
	// metadata the copy lacks.
	Sidecar    string `json:"sidecar,omitempty"`
	Geotagged  string `json:"geotagged,omitempty"`
	GeotagWhy  string `json:"geotag_why,omitempty"`
	GeotagNote string `json:"geotag_note,omitempty"`
	// From is the record that the file lies in, where it was put here because it is about this one.
	From string `json:"from,omitempty"`
}

// finish closes all files and reports them, in the order in which they were first heard of.
func (s *files) finish(t times) (reports []*FileReport, err error) {
	reports = []*FileReport{}
	for _, f := range s.list {
		r, err := s.report(f, t)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		f.report = r
		reports = append(reports, r)
	}
	return reports, s.close()
}

func (s *files) report(f *file, t times) (*FileReport, error) {
	if _, err := s.handle(f); err != nil { // a file of which nothing came is there too, empty
		return nil, err
	}
	m := &f.meta
	holes, starts := f.holes()
	r := &FileReport{Name: f.name, Stream: string(f.letter), ID: f.id, Kind: m.Kind, Source: m.Source, Format: format(m.Format, "dat"),
		Size: f.extent(), Bytes: total(f.had), Holes: [][2]int64{}, LostBytes: total(holes) + f.dropped + f.goneBefore(starts), DifferentBytes: f.differs, RefusedBytes: f.refused,
		Of: m.Of, Log: m.Log, Called: m.Name, Continues: m.Continues, GoesOn: f.goesOn, StartsAt: starts}
	r.Complete = f.ended && !f.early && r.LostBytes == 0 && f.refused == 0
	for _, h := range holes[:min(len(holes), maxHoles)] {
		r.Holes = append(r.Holes, [2]int64{h.From, h.To})
	}
	r.HolesMore = int64(len(holes) - len(r.Holes))
	if m.BeganUsec != 0 {
		r.Began, _ = t.utc(m.BeganUsec)
	}
	if m.UTCUsec != 0 {
		r.LogTime = formatUTC(m.UTCUsec)
	}
	if err := s.sum(f, r, holes); err != nil {
		return nil, err
	}
	r.Why = f.why(r)
	err := errors.Join(s.holesFile(r, holes), s.salvage(f, r, holes), s.sidecar(f, r, t))
	return r, errors.Join(err, s.shut(f))
}

// extent is where the file ends, as far as is known.
func (f *file) extent() int64 { return max(f.size-f.base, f.had.end(), f.lostEnd-f.base) }

// holes returns what is not there. What lies before the first byte of a file that began in the
// record before is no hole, also where nothing but its end came in this one: starts tells where it
// begins.
func (f *file) holes() (holes []segment.Range, starts int64) {
	switch {
	case !f.goesOn || f.base != 0:
	case len(f.had) > 0:
		starts = f.had[0].From
	default:
		starts = min(f.meta.Offset, f.extent())
	}
	return f.had.missing(starts, f.extent()), starts + f.base
}

// goneBefore counts what this record is told to have lost of a file before the first byte that it has
// of it.
func (f *file) goneBefore(starts int64) (n int64) {
	for _, r := range f.gone {
		n += max(min(r.To, starts)-r.From, 0)
	}
	return n
}

// sum compares the file with what the board said of it. With a hole there is nothing to compare.
func (s *files) sum(f *file, r *FileReport, holes []segment.Range) error {
	known := f.sum != "" && !f.goesOn
	ok := false
	if len(holes) == 0 && r.StartsAt == f.base {
		digest, err := s.digest(f)
		if err != nil {
			return err
		}
		r.SHA256 = hex.EncodeToString(digest)
		ok = r.SHA256 == f.sum
	}
	if known {
		r.SHA256OK = &ok
	}
	return nil
}

// why says why a file is not complete, in the board's words and ours.
func (f *file) why(r *FileReport) string {
	whys := f.whys
	add := func(bad bool, why string) {
		if bad {
			whys = append(whys, why)
		}
	}
	add(!f.ended, "the record ends before the file does")
	add(f.ended && r.LostBytes > 0 && len(whys) == 0, "not said")
	add(f.refused > 0, fmt.Sprintf("%d bytes lay beyond the limits of a file (%d bytes, %d pieces apart)", f.refused, int64(maxFile), maxSpans))
	add(f.differs > 0, fmt.Sprintf("%d bytes came twice and differ; the first stand", f.differs))
	add(r.SHA256 != "" && r.SHA256OK != nil && !*r.SHA256OK, "its SHA-256 is not what the board said")
	return strings.Join(whys, "; ")
}

// holesFile writes all holes of a file beside it.
func (s *files) holesFile(r *FileReport, holes []segment.Range) error {
	if len(holes) == 0 {
		return nil
	}
	all := make([][2]int64, 0, len(holes))
	for _, h := range holes {
		all = append(all, [2]int64{h.From, h.To})
	}
	data, err := json.Marshal(map[string]any{"file": base(r.Name), "size": r.Size, "bytes": r.Bytes, "holes": all})
	if err != nil {
		return err
	}
	r.HolesFile = r.Name + ".holes.json"
	return s.create(r.HolesFile, append(data, '\n'))
}

// base returns the last part of a name with slashes.
func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// setFiles adds to the summary what became of the files.
func (c *collector) setFiles(s *Summary, t times) error {
	var err error
	if s.Files, err = c.files.finish(t); err != nil {
		return err
	}
	for _, r := range s.Files {
		s.missFile(r)
	}
	s.countFiles()
	if c.files.refused > 0 {
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d bytes of further files", c.files.refused), Why: fmt.Sprintf("a record has %d files at most, and their numbers begin with 1", maxFiles)})
	}
	return nil
}

// countFiles adds the files up by their streams, but for those that came from other records.
func (s *Summary) countFiles() {
	for _, st := range s.Streams {
		st.Files, st.FileBytes, st.Holes, st.LostBytes = 0, 0, 0, 0
	}
	for _, r := range s.Files {
		if r.From != "" {
			continue
		}
		st := s.stream(r.Stream[0])
		st.Files++
		st.FileBytes += r.Bytes
		st.Holes += int64(len(r.Holes)) + r.HolesMore
		st.LostBytes += r.LostBytes
	}
}

// missFile says what is missing of a file.
func (s *Summary) missFile(r *FileReport) {
	switch {
	case r.LostBytes > 0:
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d bytes of %s, in %d holes", r.LostBytes, r.Name, int64(len(r.Holes))+r.HolesMore), Why: r.Why, file: r})
	case !r.Complete:
		s.Missing = append(s.Missing, Missing{What: "the end of " + r.Name, Why: r.Why, file: r})
	case r.DifferentBytes > 0 || r.SHA256OK != nil && !*r.SHA256OK:
		s.Missing = append(s.Missing, Missing{What: "certainty about " + r.Name, Why: r.Why, file: r})
	}
}
