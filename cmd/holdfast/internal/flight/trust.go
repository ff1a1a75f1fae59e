package flight

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// everything is a limit that no file reaches.
const everything = math.MaxInt64

// unverifiedDir is the folder below a record for what could not be proved.
const unverifiedDir = "unverified"

// trust is what verification says of a record.
type trust struct {
	asked  bool                  // a verification was made
	report *custody.RecordReport // nil: the log does not name the record
}

func (o *Opener) trust(dev vault.Device, rec vault.Record) trust {
	if o.Custody == nil {
		return trust{}
	}
	return trust{true, o.Custody(dev, rec.ID.String())}
}

// leaf returns leaf K of the record; nil where there is none that could be read.
func (t trust) leaf(fsys fs.FS, dev vault.Device) *custody.FlightKey {
	if t.report == nil {
		return nil
	}
	sub, err := fs.Sub(fsys, dev.Dir)
	if err != nil {
		return nil
	}
	k, err := custody.KeyLeaf(sub, t.report)
	if err != nil {
		return nil // the files may open it
	}
	return k
}

// segment returns what is said of a file; nil where nothing is.
func (t trust) segment(file string) *custody.SegmentReport {
	if t.report == nil {
		return nil
	}
	i := slices.IndexFunc(t.report.Segments, func(s custody.SegmentReport) bool { return s.File == file })
	if i < 0 {
		return nil
	}
	return &t.report.Segments[i]
}

// part tells how many bytes of a file belong in place, and whether it is to be read apart.
func (t trust) part(file string) (place int64, apart bool) {
	if !t.asked {
		return everything, false
	}
	s := t.segment(file)
	switch {
	case s == nil && (strings.HasSuffix(file, ".tmp") || t.passed()):
		return 0, false // what a cut leaves beside what counts
	case s == nil:
		return 0, true
	case s.Ignored:
		return 0, false
	}
	// What lies behind the proven part of a segment that failed was written again elsewhere.
	return s.PlaceBytes, s.PlaceBytes < s.Bytes
}

// passed tells a record in which verification has found nothing worse than a cut: what it does
// not list of such a record means nothing.
func (t trust) passed() bool {
	return t.report != nil && t.report.State.Worse(custody.VerdictCut) == custody.VerdictCut
}

// signed tells whether all that is in place is signed, but for the tail of a record that had
// not ended.
func (t trust) signed() bool { return t.report != nil && t.report.Signed }

// targets are the folders that a record is written to: its own, and the one for what could not
// be proved, which is made when it is needed.
type targets struct {
	dir   string
	dev   vault.Device
	rec   vault.Record
	trust trust
	keys  Keys

	place, apart       *collector
	placeOut, apartOut *output
	only               func(*segment.File) bool // where set, only these files are taken
	apartFiles         []*FileReport            // what finish found below unverified/
}

// onlyFiles tells that nothing but files about another record is wanted.
func (t *targets) onlyFiles() bool { return t.only != nil }

// wants tells whether a stream's segments are read.
func (t *targets) wants(stream byte) bool {
	if t.onlyFiles() {
		return stream == segment.StreamAutopilot
	}
	return strings.IndexByte("TVPAX", stream) >= 0
}

func (t *targets) open() (err error) {
	t.place, t.placeOut, err = newTarget(t.dir)
	if err == nil {
		t.place.files.only = t.only
	}
	return err
}

func newTarget(dir string) (*collector, *output, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	w, err := newOutput(dir)
	if err != nil {
		return nil, nil, err
	}
	return newCollector(w), w, nil
}

// unverified returns the collector for what could not be proved.
func (t *targets) unverified() (*collector, error) {
	if t.apart == nil {
		var err error
		if t.apart, t.apartOut, err = newTarget(filepath.Join(t.dir, unverifiedDir)); err != nil {
			return nil, err
		}
		t.apart.files.only = t.only
	}
	return t.apart, nil
}

func (t *targets) abandon() error {
	err := t.place.close()
	if t.apart != nil {
		err = errors.Join(err, t.apart.close())
	}
	return err
}

// finish writes both summaries and returns that of the record.
func (t *targets) finish() (*Summary, error) {
	var other *Summary
	if t.apart != nil {
		var err error
		other, err = finish(t.apart, t.apartOut, t.dev, t.rec, nil)
		if err != nil {
			return nil, errors.Join(err, t.place.close())
		}
		t.apartFiles = other.Files
	}
	return finish(t.place, t.placeOut, t.dev, t.rec, func(s *Summary) {
		t.verified(s, other)
		t.keys.locked(s, t.rec)
	})
}

// verified adds to a summary what verification says of the record.
func (t *targets) verified(s *Summary, other *Summary) {
	if !t.trust.asked {
		return
	}
	s.Signed = t.trust.signed()
	v := &Verification{State: vault.StateUnsigned, Why: "the log does not name this record", Segments: []custody.SegmentReport{}}
	if r := t.trust.report; r != nil {
		v = &Verification{State: vault.State(r.State), Why: r.Why, Findings: r.Findings, Segments: r.Segments}
		for _, g := range r.Segments {
			s.UnsignedTailBytes += g.TailBytes
			if g.File == "" {
				s.Missing = append(s.Missing, Missing{What: "segment " + g.Name, Why: g.Why})
			}
		}
	}
	s.Verification = v
	if len(s.Segments) == 0 || t.trust.report != nil && t.trust.report.Deleted {
		s.State = "" // nothing was read that could be worse than what verification says
	}
	s.State = s.State.Worse(v.State)
	if other != nil {
		v.UnverifiedFrames = other.Frames
		s.State = s.State.Worse(other.State)
		s.Missing = append(s.Missing, Missing{What: "what could not be proved", Why: "it was opened below " + unverifiedDir + "/, and is not part of telemetry.tlog"})
	}
}
