package custody

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Verdict is what can be said of a record or a segment; CONTRACT's word for it is state.
type Verdict string

// Verdicts, from good to bad.
const (
	VerdictClean    Verdict = "clean"    // closed in order, and signed
	VerdictOpen     Verdict = "open"     // a recorder writes it now
	VerdictCut      Verdict = "cut"      // power or process ended it; whole up to there
	VerdictDamaged  Verdict = "damaged"  // the medium does not return it
	VerdictUnsigned Verdict = "unsigned" // nothing signed covers it
	VerdictMissing  Verdict = "missing"  // the log names it, and it is not there
	VerdictTampered Verdict = "tampered" // it can be read, and is not what the log names
)

var verdictRank = map[Verdict]int{VerdictClean: 1, VerdictOpen: 2, VerdictCut: 3, VerdictDamaged: 4, VerdictUnsigned: 5, VerdictMissing: 6, VerdictTampered: 7}

// Worse returns the worse of two verdicts; the empty one is better than any.
func (a Verdict) Worse(b Verdict) Verdict {
	if verdictRank[b] > verdictRank[a] {
		return b
	}
	return a
}

// Finding is one thing that is not as it should be.
type Finding struct {
	State Verdict `json:"state"`
	// Rule is V1 to V17 of docs/format/v1.md, section 6.6, or "proven" for what is right but
	// lies behind the last signature.
	Rule string `json:"rule"`
	File string `json:"file,omitempty"` // inside the device's folder
	Leaf *int64 `json:"leaf,omitempty"` // index in the log, from 0
	Byte *int64 `json:"byte,omitempty"` // offset in File
	Text string `json:"text"`
}

// maxFindings bounds the findings that are kept one by one.
const maxFindings = 1000

func at(n int64) *int64 { return &n }

func tampered(rule, file, text string) Finding {
	return Finding{State: VerdictTampered, Rule: rule, File: file, Text: text}
}

// Report is the result of Verify.
type Report struct {
	Device string  `json:"device"` // 8 hex digits; empty where no key is known
	State  Verdict `json:"state"`  // the worst of all
	// Pinned says that a device key from outside was given, and Identity in words whose
	// signatures were found.
	Pinned        bool              `json:"pinned"`
	Identity      string            `json:"identity"`
	InUse         bool              `json:"in_use"`
	Boots         int64             `json:"boots"`
	Leaves        int64             `json:"leaves"`
	Proven        int64             `json:"proven"`         // leaves that a right signature covers
	UnsignedTail  int64             `json:"unsigned_tail"`  // right leaves behind them
	MissingLeaves int64             `json:"missing_leaves"` // that a checkpoint or the head counts and the log has not
	Head          *Head             `json:"head,omitempty"` // the newest checkpoint, to keep
	States        map[Verdict]int64 `json:"states"`         // number of records by state
	Findings      []Finding         `json:"findings"`       // about the device as a whole
	MoreFindings  int64             `json:"more_findings,omitempty"`
	Records       []*RecordReport   `json:"records,omitempty"`
	Undone        []string          `json:"undone,omitempty"` // folders of records that were taken back: they are no records
	Limits        []string          `json:"limits"`           // what this verification cannot know
}

// Head is a checkpoint that is worth keeping outside.
type Head struct {
	Size int64  `json:"size"` // leaves
	Root string `json:"root"`
	File string `json:"file"` // LOG/cp.A or LOG/cp.B
	Text string `json:"text"` // the whole file
}

// RecordReport says what became of one record.
type RecordReport struct {
	Record   string          `json:"record"`
	State    Verdict         `json:"state"`
	Why      string          `json:"why,omitempty"`
	Signed   bool            `json:"signed"`            // its key is proven, and nothing in it is tampered or unsigned
	Deleted  bool            `json:"deleted,omitempty"` // the log says so, and the folder is there all the same
	Bytes    int64           `json:"bytes"`             // of segment files
	Segments []SegmentReport `json:"segments"`
	Findings []Finding       `json:"findings,omitempty"`

	keyAt int64 // leaf K's offset in log.bin; -1: none
	key   tlog.Hash
}

// SegmentReport says what became of one file of a segment.
type SegmentReport struct {
	Name  string  `json:"name"`           // T000001
	File  string  `json:"file,omitempty"` // T000001.age; empty where there is none
	State Verdict `json:"state"`
	Rule  string  `json:"rule,omitempty"`
	Why   string  `json:"why,omitempty"`
	Leaf  *int64  `json:"leaf,omitempty"` // that names it
	Byte  *int64  `json:"byte,omitempty"` // where it is at fault, where that is known
	Bytes int64   `json:"bytes"`
	// ProvenBytes are covered by a right signature, from the start of the file. TailBytes are
	// those behind them that a record which had not ended may hold.
	ProvenBytes int64 `json:"proven_bytes"`
	TailBytes   int64 `json:"unsigned_tail_bytes,omitempty"`
	// Ignored marks a second form of a segment that no reader should take.
	Ignored bool `json:"ignored,omitempty"`
	// PlaceBytes is how much of the file, from its start, belongs into the opened record. What
	// lies behind is to be kept apart.
	PlaceBytes int64 `json:"-"`
}

// add takes a finding about the record.
func (r *RecordReport) add(f Finding) {
	r.State = r.State.Worse(f.State)
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, f)
	}
}

// limits are the lines of what this verification cannot know.
func (v *verifier) limits() []string {
	var l []string
	if !v.rep.Pinned {
		l = append(l, "The device key was taken from the folder itself: whoever made the folder could have made the key. Compare device.pub with a copy that you noted when the board was set up (--device-key).")
	}
	if len(v.o.Head) == 0 {
		l = append(l, "No head from an earlier look was given: a log that was rolled back as a whole, with its files, looks like one that ended earlier (--head).")
	}
	l = append(l,
		"What was written after the last head that somebody outside has seen can have been cut off together with its files.",
		"The device key is a file on the board: whoever had it and this folder can have signed another history from the last outside head on.",
		"The newest record, where it was cut, can have been extended or shortened behind its newest checkpoint by anybody who had the medium: its recipient is no secret.",
		"Whoever had the medium between a cut and the next start can have added leaves behind the newest checkpoint, and that start signed them: leaf B says how many leaves were signed before it. The board believes the checkpoint that it finds.")
	if n := v.chain.size() - v.chain.proven; n > 0 {
		l = append(l, fmt.Sprintf("The last %d leaves are not covered by a signature.", n))
	}
	return append(l, "The log proves what the board recorded, not that the autopilot said it, nor when by the calendar.")
}
