package audit

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"holdfast/crypto/custody"
)

// nextSignature returns the first leaf from i on that signs all leaves before it, and the rule
// that checks it; -1 where only a checkpoint does.
func nextSignature(leaves []custody.Leaf, i int) (leaf int, rule string) {
	for j := i; j < len(leaves); j++ {
		switch leaves[j].Kind {
		case custody.KindBoot:
			return j, "V2"
		case custody.KindEpoch:
			return j, "V3"
		}
	}
	return -1, ""
}

// editWant is what a change of leaf i must show when its CRC is right. own tells that the leaf's
// own signature covers the change.
func (s *subject) editWant(i int, own bool) want {
	from := i + 1
	if own {
		from = i
	}
	if j, rule := nextSignature(s.leaves, from); j >= 0 {
		return inLog(j, custody.VerdictTampered, rule)
	}
	slot := 0
	if newest, err := s.newestSlot(); err == nil { // the older one may not count the leaf
		slot = newest
	}
	return want{state: custody.VerdictTampered, places: []place{{slotFiles[slot], custody.VerdictTampered, []string{"V10"}, -1}}}
}

// leafFlips changes a bit of each leaf: in its length, its kind, its body or its CRC.
func (m *maker) leafFlips(s *subject) {
	parts := []string{"length", "kind", "body", "CRC"}
	for i, l := range s.leaves {
		part := i % len(parts)
		begin, n := int(offset(s.leaves, i)), len(l.Body)
		at := begin + []int{m.rng.IntN(4), 4, leafHead + m.rng.IntN(n), leafHead + n + m.rng.IntN(4)}[part]
		m.add(s, "flip", fmt.Sprintf("%s, %s of leaf %d (%s), byte %d", logFile, parts[part], i, l.Kind, at),
			func(t tree) { t.edit(logFile, flip(at, m.rng.Uint())) }, inLog(i, custody.VerdictTampered, "V12"))
	}
}

// logCuts truncates the log at leaves and within them.
func (m *maker) logCuts(s *subject) {
	for i := 1; i < len(s.leaves); i += max(1, len(s.leaves)/25) {
		for _, more := range []int64{0, 1 + m.rng.Int64N(s.leaves[i].Size()-1)} {
			size := offset(s.leaves, i) + more
			w := inLog(i, custody.VerdictMissing, "V12")
			w.missing = int64(len(s.leaves) - i)
			m.add(s, "truncate the log", fmt.Sprintf("to %d leaves and %d bytes", i, more), func(t tree) { t[logFile] = t[logFile][:size] }, w)
		}
	}
	w := inLog(0, custody.VerdictMissing, "V1")
	w.missing = int64(len(s.leaves))
	m.add(s, "truncate the log", "to nothing", func(t tree) { t[logFile] = nil }, w)
}

// logExtends puts something behind the last leaf: what is no leaf looks like a cut, a leaf that
// was there before does not fit.
func (m *maker) logExtends(s *subject) {
	n := len(s.leaves)
	junk := make([]byte, 100)
	for i := range junk {
		junk[i] = byte(m.rng.Uint())
	}
	for name, more := range inOrder(map[string][]byte{"a byte": {0}, "random bytes": junk, "zeros": make([]byte, 4096)}) {
		w := inLog(n, custody.VerdictCut, "V12")
		w.blame = []string{}
		m.add(s, "extend", logFile+" by "+name, func(t tree) { t.edit(logFile, func(p []byte) []byte { return append(p, more...) }) }, w)
	}
	for kind, i := range inOrder(firstOf(s.leaves)) {
		m.add(s, "extend", fmt.Sprintf("%s by leaf %d (%s) once more", logFile, i, kind),
			func(t tree) { t.edit(logFile, s.leaves[i].Append) }, inLog(n, custody.VerdictTampered, "V1", "V3", "V4", "V6", "V7", "V8", "V9"))
	}
}

// inOrder ranges over a map by ascending keys, so that the same seed gives the same audit.
func inOrder[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

// firstOf returns the first leaf of each kind.
func firstOf(leaves []custody.Leaf) map[custody.Kind]int {
	first := map[custody.Kind]int{}
	for i, l := range leaves {
		if _, ok := first[l.Kind]; !ok {
			first[l.Kind] = i
		}
	}
	return first
}

// reorders takes a leaf out, puts one in twice, and exchanges neighbours; CRCs are right.
func (m *maker) reorders(s *subject) {
	last := 0 // a signature follows all leaves before it
	for i, l := range s.leaves {
		if l.Kind == custody.KindBoot {
			last = i
		}
	}
	for i := 1; i < last-1; i += max(1, last/12) {
		// The next signature stands one leaf earlier, where it, or the one before, broke.
		j, rule := nextSignature(s.leaves, i+1)
		m.add(s, "edit a leaf", fmt.Sprintf("leaf %d (%s) taken out", i, s.leaves[i].Kind),
			func(t tree) { t[logFile] = encode(slices.Delete(slices.Clone(s.leaves), i, i+1)) }, inLog(j-1, custody.VerdictTampered, rule))
		j, rule = nextSignature(s.leaves, i+1)
		again := s.leaves[i].Kind == custody.KindBoot || s.leaves[i].Kind == custody.KindEpoch
		w := inLog(j+1, custody.VerdictTampered, rule)
		if again { // the copy itself is one that does not fit
			w = inLog(i+1, custody.VerdictTampered, "V1", "V2", "V3")
		}
		m.add(s, "edit a leaf", fmt.Sprintf("leaf %d (%s) put in twice", i, s.leaves[i].Kind),
			func(t tree) { t[logFile] = encode(slices.Insert(slices.Clone(s.leaves), i, s.leaves[i])) }, w)
		m.swapLeaves(s, i)
	}
}

func (m *maker) swapLeaves(s *subject, i int) {
	two := slices.Clone(s.leaves)
	two[i], two[i+1] = two[i+1], two[i]
	j, rule := nextSignature(two, i)
	m.add(s, "edit a leaf", fmt.Sprintf("leaves %d (%s) and %d (%s) exchanged", i, s.leaves[i].Kind, i+1, s.leaves[i+1].Kind),
		func(t tree) { t[logFile] = encode(two) }, inLog(j, custody.VerdictTampered, rule))
}

// words are values that a key may have instead, so that the edited leaf is one of the format.
var words = map[string]string{"bench": "locked", "locked": "open", "open": "bench", "none": "A", "A": "B", "B": "none", "good": "torn", "torn": "good",
	"stop": "oldest", "oldest": "stop", "always": "armed", "armed": "always", "failed": "refused", "deleted": "undone", "undone": "deleted"}

// change returns a value of the same type that is another one.
func change(v any) any {
	switch v := v.(type) {
	case json.Number:
		n, _ := v.Int64()
		return n + 1
	case string:
		if w, ok := words[v]; ok {
			return w
		}
		at := len(v) / 2
		if custody.IsRecord(v) || custody.IsSegment(v) {
			at = len(v) - 1
		}
		if at >= len(v) {
			return "x"
		}
		other := map[bool]byte{true: '1', false: '2'}[v[at] != '1']
		return v[:at] + string(other) + v[at+1:]
	case []any:
		if len(v) == 0 {
			return v
		}
		return append(slices.Clone(v[:len(v)-1]), change(v[len(v)-1]))
	case map[string]any:
		m := maps.Clone(v)
		for _, k := range slices.Sorted(maps.Keys(v)) {
			m[k] = change(v[k])
			return m
		}
		m["T"] = 1
		return m
	}
	return v
}

// object decodes the body of a leaf.
func object(l custody.Leaf) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(l.Body))
	d.UseNumber()
	var m map[string]any
	err := d.Decode(&m)
	return m, err
}

// withKey returns the leaf with one key changed.
func withKey(l custody.Leaf, key string) (custody.Leaf, error) {
	m, err := object(l)
	if err != nil {
		return l, err
	}
	if key == "slots" { // none is also a word of grade, which has others
		m[key] = map[bool]string{true: custody.SlotsTorn, false: custody.SlotsGood}[m[key] == custody.SlotsGood]
	} else {
		m[key] = change(m[key])
	}
	body, err := json.Marshal(m)
	return custody.Leaf{Kind: l.Kind, Body: body}, err
}

// ownSignature are the keys that the signature within a leaf covers, or that hold it.
var ownSignature = map[custody.Kind][]string{custody.KindBoot: {"boot", "key", "sig", "signed", "slots", "t", "torn"}, custody.KindEpoch: {"boot", "epoch", "key", "sig", "t"}}

// edits changes each key of a leaf of each kind, three times: with the CRC repaired; with
// checkpoints whose tree is right and whose signature is not; with checkpoints that a key of the
// attacker's own signs.
func (m *maker) edits(s *subject) error {
	for kind := range inOrder(firstOf(s.leaves)) {
		i := m.anyOf(s.leaves, kind)
		obj, err := object(s.leaves[i])
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(obj)) {
			if err := m.edit(s, i, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// anyOf draws a leaf of a kind.
func (m *maker) anyOf(leaves []custody.Leaf, kind custody.Kind) int {
	var all []int
	for i, l := range leaves {
		if l.Kind == kind {
			all = append(all, i)
		}
	}
	return all[m.rng.IntN(len(all))]
}

func (m *maker) edit(s *subject, i int, key string) error {
	l, err := withKey(s.leaves[i], key)
	if err != nil {
		return err
	}
	if bytes.Equal(l.Body, s.leaves[i].Body) {
		return fmt.Errorf("%w: leaf %d: %s was not changed", errDay, i, key)
	}
	leaves := slices.Clone(s.leaves)
	leaves[i] = l
	name := fmt.Sprintf("leaf %d (%s), %s", i, l.Kind, key)
	put := func(t tree) { t[logFile] = encode(leaves) }
	if _, err := l.Entry(); err != nil { // the value is one that no leaf may have
		m.add(s, "edit a leaf", name+", CRC repaired", put, inLog(i, custody.VerdictTampered, "V12"))
		return nil
	}
	w := s.editWant(i, slices.Contains(ownSignature[l.Kind], key))
	m.add(s, "edit a leaf", name+", CRC repaired", put, w)
	unsigned, own, err := m.attackersSlots(s, leaves)
	if err != nil {
		return err
	}
	m.add(s, "edit a leaf", name+", tree recomputed", func(t tree) { put(t); t[slotFiles[0]], t[slotFiles[1]] = unsigned, unsigned },
		want{state: custody.VerdictTampered, places: []place{{"LOG", custody.VerdictTampered, []string{"V11"}, -1}}})
	m.add(s, "edit a leaf", name+", checkpoints by another key", func(t tree) { put(t); t[slotFiles[0]], t[slotFiles[1]] = own, own }, w)
	return nil
}

// attackersSlots returns checkpoints of all leaves: one with the signature that stood there
// before, and one by a key of the attacker's.
func (m *maker) attackersSlots(s *subject, leaves []custody.Leaf) (unsigned, own []byte, err error) {
	newest, err := s.newestSlot()
	if err != nil {
		return nil, nil, err
	}
	old, err := custody.ParseCheckpoint(s.files[slotFiles[newest]])
	if err != nil {
		return nil, nil, err
	}
	_, key, err := ed25519.GenerateKey(m.keys)
	if err != nil {
		return nil, nil, err
	}
	tree := frontier(leaves)
	c := *old
	c.Root, c.Frontier, c.LogBytes, c.Key = tree.Root(), tree.Hashes(), offset(leaves, len(leaves)), key.Public().(ed25519.PublicKey)
	if own, err = signCheckpoint(&c, key); err != nil {
		return nil, nil, err
	}
	text, _, _ := strings.Cut(string(own), "\n\n")
	_, sig, _ := strings.Cut(string(s.files[slotFiles[newest]]), "\n\n")
	return []byte(text + "\n\n" + sig), own, nil
}
