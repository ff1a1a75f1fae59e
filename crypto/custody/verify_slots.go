package custody

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
)

// mark is a checkpoint that is compared when the log has come to its leaves.
type mark struct {
	*Checkpoint
	name    string
	rule    string
	text    []byte
	met     bool   // the log has so many leaves
	bytes   int64  // and they take so many bytes
	problem string // what does not fit then
	unknown bool   // the key in force is not certified, which was said where that broke
}

func (m *mark) right() bool { return m.met && m.problem == "" && !m.unknown }

type slotFound byte

const (
	slotAbsent slotFound = iota
	slotBad
	slotGood // well formed
)

// slots reads both slots before the log is read: a recorder that goes on meanwhile only adds
// leaves to those that they count.
func (v *verifier) slots() {
	for i, name := range slotFile {
		data, err := v.small(name, MaxCheckpoint)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		v.inSlot[i] = slotBad
		if c, err := ParseCheckpoint(data); err == nil {
			v.inSlot[i] = slotGood
			v.marks = append(v.marks, &mark{Checkpoint: c, name: name, rule: "V10", text: data})
		}
	}
}

// settle judges checkpoints, the head and the end of the log, when it was read.
func (v *verifier) settle() {
	newest := v.newest(func(m *mark) bool { return m.rule == "V10" })
	for _, m := range v.marks {
		v.judgeMark(m)
	}
	v.judgeSlots()
	v.judgeLength(newest)
	v.lines = map[string][]OpenFile{}
	if m := v.newest((*mark).right); m != nil {
		for _, o := range m.Open {
			v.lines[o.Record] = append(v.lines[o.Record], o)
		}
	}
	if m := v.newest(func(m *mark) bool { return m.right() && m.text != nil }); m != nil {
		v.rep.Head = &Head{Size: m.Size, Root: m.Root.String(), File: m.name, Text: string(m.text)}
	}
}

// newest returns the newest checkpoint that want takes, or nil.
func (v *verifier) newest(want func(*mark) bool) (best *mark) {
	for _, m := range v.marks {
		if want(m) && (best == nil || best.before(m.Checkpoint)) {
			best = m
		}
	}
	return best
}

// judgeMark reports a checkpoint that does not fit the log: V10, V16.
func (v *verifier) judgeMark(m *mark) {
	switch {
	case m.right():
	case m.unknown && m.rule == "V10":
	case m.met:
		f := tampered(m.rule, m.file(), m.name+": "+m.because())
		f.Leaf = at(m.Size)
		if m.text == nil {
			f.Byte = at(m.bytes)
		}
		v.find(f)
	case m.rule == "V16" && v.logError == nil:
		v.rep.MissingLeaves = max(v.rep.MissingLeaves, m.Size-v.chain.size())
		v.find(Finding{State: VerdictMissing, Rule: "V16", File: logFile, Leaf: at(v.chain.size()), Byte: at(v.chain.bytes),
			Text: fmt.Sprintf("%d leaves are missing: the head that was kept counts %d, and the log has %d", m.Size-v.chain.size(), m.Size, v.chain.size())})
	}
}

func (m *mark) because() string {
	if m.unknown {
		return "no right signature leads to the key that signed it"
	}
	return m.problem
}

func (m *mark) file() string {
	if m.text == nil {
		return logFile
	}
	return m.name
}

// judgeSlots is V11.
func (v *verifier) judgeSlots() {
	a, b := v.inSlot[0], v.inSlot[1]
	records := v.chain.next() > 1
	bad, other := slotFile[0], b
	if a == slotGood {
		bad, other = slotFile[1], a
	}
	switch {
	case a == slotGood && b == slotGood:
	case a == slotAbsent && b == slotAbsent && !records:
	case !records && (a == slotAbsent || b == slotAbsent) && other == slotGood: // the first of a device
	case other == slotGood, !records && (a == slotAbsent || b == slotAbsent):
		v.find(Finding{State: v.unfinished(), Rule: "V11", File: bad, Text: "one checkpoint is bad beside a good one, as a cut in the middle of writing it leaves it"})
	default:
		v.find(tampered("V11", logDir, "neither cp.A nor cp.B is a checkpoint, although there are records"))
	}
}

// judgeLength is V12, and V1 of an empty log.
func (v *verifier) judgeLength(newest *mark) {
	c := &v.chain
	if c.size() == 0 && v.logError == nil && (newest != nil || v.hasRecords()) {
		v.find(Finding{State: VerdictMissing, Rule: "V1", File: logFile, Leaf: at(0), Byte: at(0), Text: v.noLeaf()})
		if newest == nil {
			return
		}
	}
	rest := v.logSize - c.bytes
	switch {
	case v.logError != nil:
	case newest != nil && (newest.Size > c.size() || newest.LogBytes > c.bytes) && !newest.met:
		v.shortLog(newest)
	case rest > 0 && !v.o.InUse:
		v.find(Finding{State: VerdictCut, Rule: "V12", File: logFile, Leaf: at(c.size()), Byte: at(c.bytes),
			Text: fmt.Sprintf("%d bytes behind the last whole leaf are no leaf, as a cut in the middle of writing leaves them", rest)})
	}
}

func (v *verifier) noLeaf() string {
	if v.logSize == 0 {
		return "log.bin is empty, so nothing here is signed"
	}
	return fmt.Sprintf("log.bin has %d bytes and begins with no leaf, so nothing here is signed", v.logSize)
}

func (v *verifier) shortLog(newest *mark) {
	c := &v.chain
	gone := max(newest.Size-c.size(), 0)
	v.rep.MissingLeaves = max(v.rep.MissingLeaves, gone)
	f := Finding{State: VerdictTampered, Rule: "V12", File: logFile, Leaf: at(c.size()), Byte: at(c.bytes),
		Text: fmt.Sprintf("at byte %d there is no whole leaf with a right CRC, and %s counts %d leaves more", c.bytes, newest.name, gone)}
	if c.size() == 0 {
		f.Text = fmt.Sprintf("%s, and %s counts %d leaves", v.noLeaf(), newest.name, gone)
	}
	if v.logSize < newest.LogBytes {
		f.State = VerdictMissing
		f.Text = fmt.Sprintf("%d leaves are missing: log.bin has %d bytes, and %s counts %d", gone, v.logSize, newest.name, newest.LogBytes)
	}
	v.find(f)
}

func fromBase64(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
