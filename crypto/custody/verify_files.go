package custody

import (
	"fmt"
	"io/fs"
	"slices"
)

// folder is what lies in a record's folder, as far as it is a form of a segment.
type folder map[string]bool // by file; true: it was accounted for

// judge compares the files of a record with all that the log says of them (V13, V15), sets its
// state (format, section 6.7) and hands it over.
func (v *verifier) judge(r *held) {
	rep := r.rep
	state, why := v.standing(r)
	rep.State, rep.Why = rep.State.Worse(state), why
	files, ok := v.folder(r)
	if ok {
		for i, all := range r.segments {
			for n := range all {
				v.segment(r, fmt.Sprintf("%c%06d", streams[i], n+1), &all[n], files)
			}
		}
		v.leftOver(r, files)
	}
	for _, s := range rep.Segments {
		rep.Bytes += s.Bytes
		if !s.Ignored {
			rep.State = rep.State.Worse(s.State)
		}
	}
	rep.Signed = r.keyLeaf < v.chain.proven && rep.State != VerdictTampered && rep.State != VerdictUnsigned
	v.emit(rep)
}

// standing is the state of a record before its files are looked at.
func (v *verifier) standing(r *held) (Verdict, string) {
	switch {
	case r.bits&numberEnded != 0 && v.ended(r):
		return VerdictClean, ""
	case r.keyLeaf >= v.chain.proven && v.unsound:
		return VerdictUnsigned, "its key lies behind the last right signature, in a log that is not sound"
	case v.o.InUse && !v.ended(r):
		return VerdictOpen, "a recorder writes it now"
	case r.bits&numberFound != 0 && r.end >= 0:
		return VerdictCut, "power or process ended it; the board found it so at its next start"
	case r.end >= 0:
		return VerdictCut, "its end lies behind the last signature"
	}
	return VerdictCut, "power or process ended it, or it lies behind the last signature"
}

// folder lists the segment files of a record; ok is false where that could not be done, which
// is reported.
func (v *verifier) folder(r *held) (files folder, ok bool) {
	rep := r.rep
	entries, err := fs.ReadDir(v.fsys, rep.Record)
	if err != nil {
		if len(rep.Findings) == 0 || rep.Findings[0].Rule != "V15" {
			rep.add(Finding{State: stateOf(err), Rule: "V15", File: rep.Record, Leaf: at(r.keyLeaf), Text: "the folder of " + rep.Record + " " + reason(err)})
		}
		return nil, false
	}
	files = folder{}
	for _, e := range entries {
		if _, _, is := IsSegmentFile(e.Name()); is {
			files[e.Name()] = false
		}
	}
	return files, true
}

func (f folder) has(name string) bool { _, ok := f[name]; return ok }

// pass accounts for files without looking at them.
func (f folder) pass(names ...string) {
	for _, n := range names {
		if f.has(n) {
			f[n] = true
		}
	}
}

// segment judges what leaves and checkpoint say of one segment.
func (v *verifier) segment(r *held, name string, h *heldSegment, files folder) {
	closed, open := name+".age", name+".open.age"
	inR := func(file string) bool { _, ok := r.found[file]; return ok }
	// A leaf behind the last signature can be anybody's: it excuses nothing.
	gone := h.lost >= 0 && h.lost < v.chain.proven
	switch {
	case h.bits&segmentUndone != 0 && (gone || h.bits&segmentOpened == 0):
		files.pass(closed, open)
	case h.bits&segmentClosed != 0 && h.close < v.chain.proven:
		v.form(r, h, closed, files)
		if inR(open) {
			v.form(r, h, open, files)
		}
		files.pass(open)
	case (inR(closed) || inR(open)) && r.end < v.chain.proven:
		for _, file := range []string{closed, open} {
			if inR(file) {
				v.form(r, h, file, files)
			}
		}
		if inR(closed) {
			files.pass(open) // which a start is about to remove
		}
	case h.bits&segmentRefused != 0 && gone:
		// Nothing is missing that was promised, and a signed leaf says why.
		r.rep.Segments = append(r.rep.Segments, SegmentReport{Name: name, State: VerdictClean, Leaf: at(h.lost),
			Why: "the medium, or policy, refused to keep it"})
		files.pass(open)
	case h.bits&(segmentOpened|segmentFailed) != 0, inR(closed), inR(open):
		v.unclosed(r, h, closed, open, files)
	}
}

// unclosed judges a segment that has no C and no R.
func (v *verifier) unclosed(r *held, h *heldSegment, closed, open string, files folder) {
	lines := v.claims(r, h, open)
	_, found := r.found[closed]
	switch {
	case found, h.bits&segmentClosed != 0: // by a leaf that is not proven: both forms must hold
		if files.has(open) || len(lines) > 0 {
			v.form(r, h, open, files)
		}
		v.form(r, h, closed, files)
		last := &r.rep.Segments[len(r.rep.Segments)-1]
		last.Ignored = (files.has(open) || len(lines) > 0) && (last.State == VerdictUnsigned || verdictRank[last.State] <= verdictRank[VerdictCut])
	case files.has(open) || !files.has(closed):
		v.form(r, h, open, files)
		if v.ended(r) {
			return // a closed form beside it is named by nothing
		}
		if files.has(closed) {
			files.pass(closed)
			r.rep.Segments = append(r.rep.Segments, SegmentReport{Name: closed[:7], File: closed, State: v.unfinishedIn(r), Rule: "proven", Ignored: true,
				Why: "it was closed, and no leaf says so yet; its open form is what counts"})
		}
	case len(lines) > 0 && !v.o.InUse:
		v.form(r, h, open, files) // which is not there
	default:
		v.form(r, h, closed, files)
	}
}

// claims collects what is said of a file.
func (v *verifier) claims(r *held, h *heldSegment, file string) (all []claim) {
	_, closed, _ := IsSegmentFile(file)
	all = append(all, r.found[file]...)
	if closed && h.bits&segmentClosed != 0 {
		all = append(all, h.whole)
	}
	if closed || h.bits&segmentClosed != 0 && h.close < v.chain.proven {
		return all
	}
	if h.bits&segmentFailed != 0 {
		all = append(all, h.part)
	}
	for _, o := range v.lines[r.rep.Record] {
		if o.Name == file {
			all = append(all, claim{o.Bytes, false, o.SHA256, -1, "the newest checkpoint"})
		}
	}
	return all
}

// form judges one file of a segment by all that is said of it.
func (v *verifier) form(r *held, h *heldSegment, file string, files folder) {
	claims := v.claims(r, h, file)
	if r.rep.Deleted && !files.has(file) {
		return
	}
	files.pass(file)
	s := SegmentReport{Name: file[:7], File: file, State: v.covered(r, h, claims)}
	for _, c := range claims {
		if c.leaf < v.chain.proven {
			s.ProvenBytes = max(s.ProvenBytes, c.bytes)
		}
		if s.Leaf == nil && c.leaf >= 0 {
			s.Leaf = at(c.leaf)
		}
	}
	v.hold(r.rep.Record+"/"+file, &s, claims)
	if s.State == VerdictMissing && v.o.InUse && !v.ended(r) {
		s.State, s.Rule, s.Why = VerdictOpen, "", "the recorder renamed it meanwhile"
	}
	v.place(r, &s)
	if s.Rule != "" {
		s.ProvenBytes = 0
	}
	switch s.State {
	case VerdictCut, VerdictUnsigned:
		s.Rule = "proven"
		s.Why = map[Verdict]string{VerdictCut: "it was not closed in order; proven up to the bytes named", VerdictUnsigned: "only leaves behind the last right signature name it"}[s.State]
	case VerdictMissing:
		s.File = ""
	}
	r.rep.Segments = append(r.rep.Segments, s)
}

// covered is the state of a segment whose files are what is claimed of them.
func (v *verifier) covered(r *held, h *heldSegment, claims []claim) Verdict {
	p := v.chain.proven
	proven := func(leaf int64) bool { return leaf >= 0 && leaf < p }
	switch {
	case proven(h.close):
		return VerdictClean
	case v.o.InUse && !v.ended(r):
		return VerdictOpen
	case proven(h.lost), slices.ContainsFunc(claims, func(c claim) bool { return c.leaf < p }):
		return VerdictCut
	case !v.unsound && !proven(r.end):
		return VerdictCut
	}
	return VerdictUnsigned
}

// place says how much of a file belongs into the opened record.
func (v *verifier) place(r *held, s *SegmentReport) {
	switch s.State {
	case VerdictClean:
		s.PlaceBytes = s.Bytes
	case VerdictCut, VerdictOpen:
		s.PlaceBytes = s.Bytes
		if v.ended(r) {
			s.PlaceBytes = s.ProvenBytes
		} else {
			s.TailBytes = s.Bytes - s.ProvenBytes
		}
	}
}

// ended tells that a proven leaf Z or R ends the record.
func (v *verifier) ended(r *held) bool { return r.end >= 0 && r.end < v.chain.proven }

func (v *verifier) unfinishedIn(r *held) Verdict {
	if v.ended(r) {
		return VerdictCut
	}
	return v.unfinished()
}

// leftOver reports files of segments that nothing names (V15). A cut can leave open forms of
// segments that follow the last one named.
func (v *verifier) leftOver(r *held, files folder) {
	var names []string
	for name, done := range files {
		if !done {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		v.unnamed(r, name)
	}
}

func (v *verifier) unnamed(r *held, name string) {
	s := SegmentReport{Name: name[:7], File: name, State: VerdictUnsigned, Rule: "V15", Why: "the log does not name it"}
	if info, err := fs.Lstat(v.fsys, r.rep.Record+"/"+name); err == nil {
		s.Bytes = info.Size()
	}
	ended := v.ended(r)
	_, closed, _ := IsSegmentFile(name)
	if next := len(r.segments[indexOfStream(name)]) + 1; !v.unsound && !ended && !closed && segmentNumber(name) >= int64(next) || !ended && v.o.InUse {
		s.State, s.Rule, s.Why = v.unfinishedIn(r), "proven", "it was begun, and no leaf says so yet"
		v.place(r, &s)
	}
	r.rep.Segments = append(r.rep.Segments, s)
}
