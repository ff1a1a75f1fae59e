package custody

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"holdfast/crypto/keys"
)

// held is what the second pass keeps of a record until its end has come.
type held struct {
	bits     byte // what the log says of its number, as the first pass has found
	rep      *RecordReport
	keyLeaf  int64
	end      int64 // leaf Z or R; -1 none
	segments [len(streams)][]heldSegment
	found    map[string][]claim // of leaf R, by file
}

// heldSegment is what leaves say of a segment; a leaf's index is -1 where there is none.
type heldSegment struct {
	bits              byte
	open, close, lost int64
	whole, part       claim // of C, and of X failed
}

// gathering is the second pass over log.bin. What is proven is known now, so that each record
// is judged and forgotten when its end comes.
type gathering struct {
	v     *verifier
	live  map[string]*held
	total int // segments of all in live
}

func (v *verifier) gather() {
	if v.chain.size() == 0 {
		return
	}
	f, _, err := v.openRegular(logFile)
	if err != nil {
		return // the first pass has said what is wrong
	}
	defer f.Close()
	g := &gathering{v: v, live: map[string]*held{}}
	r := NewReader(&source{v: v, r: io.LimitReader(f, v.chain.bytes)})
	var tree Frontier
	for v.stopped == nil {
		from := r.Offset()
		l, err := r.Next()
		if err != nil {
			break
		}
		g.take(l, tree.Size(), from)
		tree.Add(l.Hash())
	}
	if tree.Root() != v.chain.tree.Root() && v.stopped == nil {
		v.find(tampered("V12", logFile, "log.bin changed while it was read; verify again"))
	}
	for _, name := range g.left() {
		g.judge(g.live[name])
	}
}

// left lists the records that have not ended, by number.
func (g *gathering) left() (names []string) {
	for name := range g.live {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
	return names
}

// take notes what a leaf says. The first pass has reported what it should not say.
func (g *gathering) take(l Leaf, leaf, offset int64) {
	switch l.Kind {
	case KindBoot, KindLock, KindEpoch:
		return
	}
	e, err := l.Entry()
	if err != nil {
		return
	}
	switch e := e.(type) {
	case *FlightKey:
		g.begin(e, leaf, offset, l.Hash())
	case *Opened:
		g.note(e.Record, e.Segment, func(s *heldSegment) { s.bits, s.open = s.bits|segmentOpened, leaf })
	case *Closed:
		g.note(e.Record, e.Segment, func(s *heldSegment) {
			s.bits, s.close = s.bits|segmentClosed, leaf
			s.whole = claim{e.Size, true, e.SHA256, leaf, "leaf C"}
		})
	case *Lost:
		g.lost(e, leaf)
	case *Recovered:
		g.end(e.Record, leaf, e.Files)
	case *Ended:
		g.end(e.Record, leaf, nil)
	}
}

func (g *gathering) begin(e *FlightKey, leaf, offset int64, hash tlog.Hash) {
	v := g.v
	bits := v.chain.state(e.Record)
	if bits == nil || *bits&numberTaken != 0 || v.o.AcceptRecord != nil && !v.o.AcceptRecord(e.Record) {
		return
	}
	*bits |= numberTaken
	gone := *bits&numberDeleted != 0
	info, err := fs.Lstat(v.fsys, e.Record)
	if gone {
		if err == nil {
			v.emit(&RecordReport{Record: e.Record, State: VerdictClean, Deleted: true, Segments: []SegmentReport{}, keyAt: -1,
				Why: "it was deleted, and not all of it is gone yet"})
		}
		return
	}
	r := &held{bits: *bits, keyLeaf: leaf, end: -1,
		rep: &RecordReport{Record: e.Record, Deleted: gone, Segments: []SegmentReport{}, keyAt: offset, key: hash}}
	g.live[e.Record] = r
	switch {
	case err == nil && info.IsDir():
		v.keyFiles(r, e)
	case err == nil:
		r.rep.add(tampered("V15", e.Record, e.Record+" is not a folder"))
	default:
		r.rep.add(Finding{State: stateOf(err), Rule: "V15", File: e.Record, Leaf: at(leaf), Text: "the folder of " + e.Record + " " + reason(err)})
	}
}

// keyFiles compares the wrapped keys and the recipients of a record's identities with leaf K,
// while it is at hand (V14).
func (v *verifier) keyFiles(r *held, k *FlightKey) {
	named := map[string]bool{}
	v.identityFiles(r, "", k.Files, k.Pub, named)
	for _, g := range k.Groups {
		v.identityFiles(r, g.Streams, g.Files, g.Pub, named)
	}
	entries, _ := fs.ReadDir(v.fsys, k.Record)
	for _, e := range entries {
		if isKeyName(e.Name()) && !named[e.Name()] {
			r.rep.add(tampered("V14", k.Record+"/"+e.Name(), e.Name()+" is not named by leaf K"))
		}
	}
}

// identityFiles compares the files of one identity, and notes their names.
func (v *verifier) identityFiles(r *held, group string, files []KeyFile, pub string, named map[string]bool) {
	for _, f := range files {
		named[f.Name] = true
		v.sameAs(r, f.Name, maxKeyFile, func(data []byte) bool { return string(data) == string(f.Data) })
	}
	name, want := keys.JoinGroup(group, flightPub), pub+"\n"
	named[name] = true
	unsure := r.bits&numberEnded == 0 // it is synced later than leaf K
	if _, err := fs.Lstat(v.fsys, r.rep.Record+"/"+name); unsure && errors.Is(err, fs.ErrNotExist) {
		return
	}
	v.sameAs(r, name, maxSmall, func(data []byte) bool {
		return string(data) == want || unsure && isBeginning(data, want)
	})
}

// sameAs compares a small file of a record with what leaf K says.
func (v *verifier) sameAs(r *held, name string, limit int, same func([]byte) bool) {
	full := r.rep.Record + "/" + name
	data, err := v.small(full, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist) && r.rep.Deleted:
	case err != nil:
		r.rep.add(Finding{State: stateOf(err), Rule: "V14", File: full, Leaf: at(r.keyLeaf), Text: name + " " + reason(err)})
	case !same(data):
		f := tampered("V14", full, name+" is not what leaf K names")
		f.Leaf = at(r.keyLeaf)
		r.rep.add(f)
	}
}

// note hands what is known of a segment to set.
func (g *gathering) note(record, segment string, set func(*heldSegment)) {
	r := g.live[record]
	if r == nil {
		return
	}
	all := &r.segments[indexOfStream(segment)]
	n := int(segmentNumber(segment))
	if more := n - len(*all); more > 0 {
		if more > maxGap || g.total+more > maxSegments {
			return
		}
		g.total += more
		for range more {
			*all = append(*all, heldSegment{open: -1, close: -1, lost: -1})
		}
	}
	set(&(*all)[n-1])
}

func (g *gathering) lost(e *Lost, leaf int64) {
	bit := map[string]byte{WhyUndone: segmentUndone, WhyFailed: segmentFailed, WhyRefused: segmentRefused}[e.Why]
	if bit == 0 || e.Segment == "" {
		return // the first pass has put it into the number's bits
	}
	g.note(e.Record, e.Segment, func(s *heldSegment) {
		s.bits, s.lost = s.bits|bit, leaf
		if bit == segmentFailed {
			s.part = claim{*e.Size, false, e.SHA256, leaf, "leaf X"}
		}
	})
}

// end judges a record whose leaf Z or R has come.
func (g *gathering) end(record string, leaf int64, files []File) {
	r := g.live[record]
	if r == nil {
		return
	}
	r.end = leaf
	r.found = map[string][]claim{}
	for _, f := range files {
		r.found[f.Name] = []claim{{f.Size, true, f.SHA256, leaf, "leaf R"}}
		if f.SignedSize != nil {
			r.found[f.Name] = append(r.found[f.Name], claim{*f.SignedSize, false, f.SignedSHA256, leaf, "leaf R's checkpoint"})
		}
		// Its leaf O may have been lost in the cut: R names it all the same.
		g.note(record, f.Name[:7], func(*heldSegment) {})
	}
	g.judge(r)
}

func (g *gathering) judge(r *held) {
	for _, s := range r.segments {
		g.total -= len(s)
	}
	delete(g.live, r.rep.Record)
	if g.v.stopped == nil {
		g.v.judge(r)
	}
}

// emit hands a record over and counts it.
func (v *verifier) emit(r *RecordReport) {
	v.rep.States[r.State]++
	v.rep.State = v.rep.State.Worse(r.State)
	if v.o.Each != nil {
		v.o.Each(r)
		return
	}
	v.rep.Records = append(v.rep.Records, r)
}

// strays reports folders of records that the log does not name (V15).
func (v *verifier) strays() {
	entries, err := fs.ReadDir(v.fsys, ".")
	if err != nil {
		v.find(Finding{State: VerdictDamaged, Rule: "V15", Text: "the device's folder cannot be listed: " + plainText(err)})
		return
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case v.stopped != nil || !IsRecord(name) || v.chain.has(name, numberKey):
		case v.o.AcceptRecord != nil && !v.o.AcceptRecord(name):
		case v.chain.has(name, numberUndone):
			v.rep.Undone = append(v.rep.Undone, name)
		default:
			v.emit(v.stray(name))
		}
	}
}

// stray judges one: a cut can leave a folder that follows the last record and holds nothing.
func (v *verifier) stray(name string) *RecordReport {
	r := &RecordReport{Record: name, Segments: []SegmentReport{}, keyAt: -1}
	ahead := recordNumber(name) - v.chain.next()
	switch {
	case v.o.InUse && (ahead == 0 || ahead == 1):
		r.State, r.Why = VerdictOpen, "it was begun since the log was read"
	case ahead == 0 && !v.unsound && v.holdsNothing(name):
		r.State, r.Why = v.unfinished(), "it was cut while it was begun, before anything was sealed"
	default:
		r.Why = "no leaf of the log names this record"
		r.add(Finding{State: VerdictUnsigned, Rule: "V15", File: name, Text: fmt.Sprintf("the log does not name %s", name)})
	}
	return r
}

// sealedChunk is what the first flush brings at the least, in bytes; a shorter open form is a
// header.
const sealedChunk = 64 << 10

// holdsNothing tells that all segment files are open forms without a chunk.
func (v *verifier) holdsNothing(record string) bool {
	entries, err := fs.ReadDir(v.fsys, record)
	if err != nil {
		return false
	}
	for _, e := range entries {
		_, closed, ok := IsSegmentFile(e.Name())
		info, err := e.Info()
		if ok && (closed || err != nil || !info.Mode().IsRegular() || info.Size() >= sealedChunk) {
			return false
		}
	}
	return true
}

// hasRecords tells whether any folder of a record is there.
func (v *verifier) hasRecords() bool {
	entries, _ := fs.ReadDir(v.fsys, ".")
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return IsRecord(e.Name()) })
}
