package audit

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"holdfast/crypto/custody"
)

// verify is custody.Verify, or what a test puts in its place.
type verify func(fsys fs.FS, o custody.Options) (*custody.Report, error)

// place is where a verdict must point to.
type place struct {
	file  string // inside the device's folder; a record stands for itself
	state custody.Verdict
	rules []string // any of these
	leaf  int64    // -1: any, or none
}

func (p place) String() string {
	s := fmt.Sprintf("%s at %s by %s", p.state, p.file, strings.Join(p.rules, " or "))
	if p.leaf >= 0 {
		s += fmt.Sprintf(", leaf %d", p.leaf)
	}
	return s
}

// want is the verdict that the format demands.
type want struct {
	state  custody.Verdict // of the whole folder
	places []place
	// blame names the records whose state may differ from that of the untouched vault; nil: any.
	blame []string
	// missing, where not 0, is the number of leaves that must be reported missing.
	missing int64
	// quiet: nothing may be said that is worse than a cut.
	quiet bool
}

// fact is one thing that a report says, in one form for device, record and segment.
type fact struct {
	file  string
	state custody.Verdict
	rule  string
	leaf  int64
}

func facts(r *custody.Report) (all []fact) {
	for _, f := range r.Findings {
		all = append(all, factOf(f, ""))
	}
	for _, rec := range r.Records {
		for _, f := range rec.Findings {
			all = append(all, factOf(f, rec.Record))
		}
		for _, s := range rec.Segments {
			name := s.File
			if name == "" {
				name = s.Name
			}
			f := fact{rec.Record + "/" + name, s.State, s.Rule, -1}
			if s.Leaf != nil {
				f.leaf = *s.Leaf
			}
			all = append(all, f)
		}
	}
	return all
}

func factOf(f custody.Finding, record string) fact {
	out := fact{f.File, f.State, f.Rule, -1}
	if f.File == "" {
		out.file = record
	}
	if f.Leaf != nil {
		out.leaf = *f.Leaf
	}
	return out
}

func (p place) in(all []fact) bool {
	return slices.ContainsFunc(all, func(f fact) bool {
		return f.file == p.file && f.state == p.state && slices.Contains(p.rules, f.rule) && (p.leaf < 0 || p.leaf == f.leaf)
	})
}

// states maps records to their states.
func states(r *custody.Report) map[string]custody.Verdict {
	m := map[string]custody.Verdict{}
	for _, rec := range r.Records {
		m[rec.Record] = rec.State
	}
	return m
}

// check says in what way the report is not what was wanted; nothing where it is.
func (w want) check(got, base *custody.Report) (wrong []string) {
	if got.State != w.state {
		wrong = append(wrong, fmt.Sprintf("the folder is %s, must be %s", got.State, w.state))
	}
	all := facts(got)
	for _, p := range w.places {
		if !p.in(all) {
			wrong = append(wrong, "nothing says "+p.String())
		}
	}
	if w.missing != 0 && got.MissingLeaves != w.missing {
		wrong = append(wrong, fmt.Sprintf("%d leaves are missing, must be %d", got.MissingLeaves, w.missing))
	}
	if w.blame != nil {
		wrong = append(wrong, w.innocent(states(got), states(base))...)
	}
	if w.quiet {
		wrong = append(wrong, noticed(got)...)
	}
	return wrong
}

// noticed lists what says more than that something was cut.
func noticed(r *custody.Report) (wrong []string) {
	for _, f := range facts(r) {
		if f.state != custody.VerdictClean && f.state != custody.VerdictCut {
			wrong = append(wrong, fmt.Sprintf("it was noticed: %s is %s by %s", f.file, f.state, f.rule))
		}
	}
	return wrong
}

// innocent compares the records that were not touched.
func (w want) innocent(got, base map[string]custody.Verdict) (wrong []string) {
	for record, state := range base {
		if got[record] != state && !slices.Contains(w.blame, record) {
			wrong = append(wrong, fmt.Sprintf("%s, which was not touched, is %q, was %q", record, got[record], state))
		}
	}
	return wrong
}

// options are what a custodian gives to verify who knows the folder's name, the device key and
// the text of README.txt.
func (s *subject) options() custody.Options {
	return custody.Options{Device: s.device(), DeviceKey: s.board.device.Verifier(), Readme: s.files[readmeFile]}
}
