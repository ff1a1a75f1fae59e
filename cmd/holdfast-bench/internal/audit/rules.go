package audit

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"

	"holdfast/crypto/custody"
)

// Attacks by somebody with the device key: every signature is right, and one rule of the format
// is broken. They show that each rule is checked for itself and not only by way of the tree.

// draft is a log that is being rewritten.
type draft struct {
	device string
	leaves []custody.Leaf
}

// find returns the first leaf that is what is asked for; -1 where there is none.
func (d *draft) find(is func(e custody.Entry) bool) int {
	return slices.IndexFunc(d.leaves, func(l custody.Leaf) bool {
		e, err := l.Entry()
		return err == nil && is(e)
	})
}

// last is find from the end.
func (d *draft) last(is func(e custody.Entry) bool) int {
	for i := len(d.leaves) - 1; i >= 0; i-- {
		if e, err := d.leaves[i].Entry(); err == nil && is(e) {
			return i
		}
	}
	return -1
}

// set replaces leaf i by what f makes of it.
func (d *draft) set(i int, f func(e custody.Entry)) error {
	e, err := d.leaves[i].Entry()
	if err != nil {
		return err
	}
	f(e)
	d.leaves[i], err = custody.NewLeaf(e)
	return err
}

// insert puts a leaf before leaf i.
func (d *draft) insert(i int, l custody.Leaf) { d.leaves = slices.Insert(d.leaves, i, l) }

// remove takes leaf i out.
func (d *draft) remove(i int) { d.leaves = slices.Delete(d.leaves, i, i+1) }

// isKind tells entries of one type.
func isKind[T custody.Entry](e custody.Entry) bool { _, ok := e.(T); return ok }

// rule is one way to break a rule in a log that is signed right. edit returns the leaf that
// must be named; -1 for any.
type rule struct {
	name  string
	rule  string
	state custody.Verdict
	edit  func(d *draft) (leaf int, err error)
}

// only returns an edit of the i-th leaf that is found.
func only(find func(d *draft) int, set func(e custody.Entry)) func(d *draft) (int, error) {
	return func(d *draft) (int, error) {
		i := find(d)
		return i, d.set(i, set)
	}
}

func lastBoot(d *draft) int  { return d.last(isKind[*custody.Boot]) }
func firstBoot(d *draft) int { return d.find(isKind[*custody.Boot]) }

// rulesOfLeaves are those about the order of leaves: V1 to V9, V17.
var rulesOfLeaves = []rule{
	{"the first leaf is not a boot", "V1", custody.VerdictTampered, func(d *draft) (int, error) { d.insert(0, d.leaves[1]); return 0, nil }},
	{"a boot number is passed over", "V1", custody.VerdictTampered, only(lastBoot, func(e custody.Entry) { e.(*custody.Boot).Boot++ })},
	{"a boot number comes again", "V1", custody.VerdictTampered, only(lastBoot, func(e custody.Entry) { e.(*custody.Boot).Boot-- })},
	{"the first boot is not 1", "V1", custody.VerdictTampered, only(firstBoot, func(e custody.Entry) { e.(*custody.Boot).Boot = 9 })},
	{"an epoch is passed over", "V3", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(isKind[*custody.Epoch])
		d.remove(i)
		return i, nil // what follows lies outside the epoch in force
	}},
	{"an epoch comes twice", "V3", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(isKind[*custody.Epoch])
		d.insert(i, d.leaves[i])
		return i + 1, nil
	}},
	{"an epoch of another boot", "V3", custody.VerdictTampered, only(func(d *draft) int { return d.last(isKind[*custody.Epoch]) }, func(e custody.Entry) { e.(*custody.Epoch).Boot-- })},
	{"an epoch before its time", "V3", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(isKind[*custody.Epoch])
		before, err := d.leaves[i-1].Entry()
		if err != nil {
			return 0, err
		}
		return i, d.set(i, func(e custody.Entry) { e.(*custody.Epoch).T = before.Time() })
	}},
	{"a leaf after its epoch", "V3", custody.VerdictTampered, func(d *draft) (int, error) {
		i := len(d.leaves) - 1
		return i, d.set(i, shift(60_000_000))
	}},
	{"a leaf before its epoch", "V3", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(isKind[*custody.Epoch]) + 1
		return i, d.set(i, shift(-60_000_000))
	}},
	{"time goes back", "V4", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.last(isKind[*custody.Ended])
		return i, d.set(i, shift(-1_500_000))
	}},
	{"leaves were gone at a start", "V5", custody.VerdictMissing, only(lastBoot, func(e custody.Entry) { e.(*custody.Boot).Signed += 1000 })},
	{"both checkpoints were bad at a start", "V5", custody.VerdictTampered, only(lastBoot, func(e custody.Entry) { e.(*custody.Boot).Slots = custody.SlotsBad })},
	{"a record's number is passed over", "V6", custody.VerdictTampered, renumber("F00000077")},
	{"a record's number comes again", "V6", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(isKind[*custody.FlightKey])
		d.insert(len(d.leaves), d.leaves[i])
		return len(d.leaves) - 1, d.matchTime(len(d.leaves) - 1)
	}},
	{"a segment without leaf O", "V7", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.last(openedIn('T'))
		d.remove(i)
		return d.last(closedIn('T')), nil
	}},
	{"a segment of the audit without leaf O", "V7", custody.VerdictTampered, func(d *draft) (int, error) {
		d.remove(d.last(openedIn('X')))
		return d.last(closedIn('X')), nil
	}},
	{"a segment's number is passed over", "V7", custody.VerdictTampered, only(func(d *draft) int { return d.last(openedIn('T')) }, func(e custody.Entry) { e.(*custody.Opened).Segment = "T000044" })},
	{"a number of the audit is passed over", "V7", custody.VerdictTampered, only(func(d *draft) int { return d.last(openedIn('X')) }, func(e custody.Entry) { e.(*custody.Opened).Segment = "X000044" })},
	{"an end that does not count the audit", "V7", custody.VerdictTampered, only(func(d *draft) int { return d.last(isKind[*custody.Ended]) }, func(e custody.Entry) { delete(e.(*custody.Ended).Segments, "X") })},
	{"a segment closed twice", "V7", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.last(isKind[*custody.Closed])
		d.insert(i, d.leaves[i])
		return i + 1, nil
	}},
	{"a record that ends without a segment's close", "V7", custody.VerdictTampered, func(d *draft) (int, error) {
		d.remove(d.last(isKind[*custody.Closed]))
		return d.last(isKind[*custody.Ended]), nil
	}},
	{"a record that ends with another number of segments", "V7", custody.VerdictTampered, only(func(d *draft) int { return d.last(isKind[*custody.Ended]) }, func(e custody.Entry) { e.(*custody.Ended).Segments["T"]++ })},
	{"a record that ends twice", "V7", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.last(isKind[*custody.Ended])
		d.insert(i, d.leaves[i])
		return i + 1, nil
	}},
	{"a segment begun after the end", "V7", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.last(isKind[*custody.Opened])
		d.leaves = append(d.leaves, d.leaves[i])
		return len(d.leaves) - 1, d.matchTime(len(d.leaves) - 1)
	}},
	{"a cut record that no R names", "V8", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(isKind[*custody.Recovered])
		d.remove(i)
		for d.leaves[i].Kind != custody.KindKey {
			i++
		}
		return i, nil
	}},
	{"an R after the boot's first L", "V8", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(isKind[*custody.Recovered])
		l := d.leaves[i]
		d.remove(i)
		for d.leaves[i].Kind != custody.KindLock {
			i++
		}
		d.insert(i+1, l)
		return i + 1, d.matchTime(i + 1)
	}},
	{"an R of a record that had ended", "V8", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(isKind[*custody.Recovered])
		d.insert(i+1, d.leaves[i])
		return i + 1, nil
	}},
	{"a deletion of a record that had not ended", "V9", custody.VerdictTampered, only(findDeleted, func(e custody.Entry) { e.(*custody.Lost).Record = "F00000099" })},
	{"a record deleted twice", "V9", custody.VerdictTampered, func(d *draft) (int, error) {
		i := findDeleted(d)
		d.insert(i, d.leaves[i])
		return i + 1, nil
	}},
	{"a start that does not say how the lock stands", "V17", custody.VerdictTampered, func(d *draft) (int, error) {
		i := lastBoot(d)
		for d.leaves[i].Kind != custody.KindLock {
			i++
		}
		d.remove(i)
		for d.leaves[i].Kind != custody.KindKey {
			i++
		}
		return i, nil
	}},
	{"a record begun while the lock is open for a ticket", "V17", custody.VerdictTampered, func(d *draft) (int, error) {
		i := d.find(func(e custody.Entry) bool { l, ok := e.(*custody.Lock); return ok && l.Ticket != "" })
		if i < 0 {
			return 0, errDay
		}
		d.remove(i + 1) // the leaf that ends it
		for d.leaves[i].Kind != custody.KindKey {
			i++
		}
		return i, nil
	}},
}

// openedIn and closedIn find leaves of a stream.
func openedIn(stream byte) func(custody.Entry) bool {
	return func(e custody.Entry) bool { o, ok := e.(*custody.Opened); return ok && o.Segment[0] == stream }
}

func closedIn(stream byte) func(custody.Entry) bool {
	return func(e custody.Entry) bool { c, ok := e.(*custody.Closed); return ok && c.Segment[0] == stream }
}

func findDeleted(d *draft) int {
	return d.find(func(e custody.Entry) bool { x, ok := e.(*custody.Lost); return ok && x.Why == custody.WhyDeleted })
}

// shift moves the time of an entry.
func shift(usec int64) func(e custody.Entry) {
	return func(e custody.Entry) {
		switch e := e.(type) {
		case *custody.Ended:
			e.T += usec
		case *custody.Closed:
			e.T += usec
		case *custody.Opened:
			e.T += usec
		case *custody.Lost:
			e.T += usec
		case *custody.FlightKey:
			e.T += usec
		}
	}
}

// matchTime gives leaf i the time of the leaf before it.
func (d *draft) matchTime(i int) error {
	before, err := d.leaves[i-1].Entry()
	if err != nil {
		return err
	}
	return d.set(i, func(e custody.Entry) {
		t := before.Time()
		switch e := e.(type) {
		case *custody.FlightKey:
			e.T = t
		case *custody.Opened:
			e.T = t
		case *custody.Recovered:
			e.T = t
		}
	})
}

// renumber gives the newest record another name throughout.
func renumber(to string) func(d *draft) (int, error) {
	return func(d *draft) (int, error) {
		i := d.last(isKind[*custody.FlightKey])
		e, err := d.leaves[i].Entry()
		if err != nil {
			return 0, err
		}
		from := e.(*custody.FlightKey).Record
		for j := range d.leaves {
			if err := d.rename(j, from, to); err != nil {
				return 0, err
			}
		}
		return i, nil
	}
}

func (d *draft) rename(i int, from, to string) error {
	return d.set(i, func(e custody.Entry) {
		for _, r := range recordsOf(e) {
			if *r == from {
				*r = to
			}
		}
	})
}

// recordsOf returns where an entry names its record.
func recordsOf(e custody.Entry) []*string {
	switch e := e.(type) {
	case *custody.FlightKey:
		return []*string{&e.Record}
	case *custody.Opened:
		return []*string{&e.Record}
	case *custody.Closed:
		return []*string{&e.Record}
	case *custody.Lost:
		return []*string{&e.Record}
	case *custody.Ended:
		return []*string{&e.Record}
	case *custody.Recovered:
		return []*string{&e.Record}
	}
	return nil
}

// forge writes the log of s anew with its device key.
func (m *maker) forge(s *subject, edit func(d *draft) (int, error)) (leaves []custody.Leaf, keys []epochKey, leaf int, err error) {
	d := &draft{s.device(), slices.Clone(s.leaves)}
	if leaf, err = edit(d); err != nil {
		return nil, nil, 0, err
	}
	f := &forger{s.device(), s.board.secret, m.keys}
	leaves, keys, err = f.resign(d.leaves)
	return leaves, keys, leaf, err
}

// signed returns a checkpoint of the first n leaves, signed by the key in force, after change
// has had its way with it.
func signed(device string, leaves []custody.Leaf, keys []epochKey, n int, change func(c *custody.Checkpoint)) ([]byte, error) {
	k := inForce(keys, n)
	c, err := checkpointOf(device, leaves, n, k)
	if err != nil {
		return nil, err
	}
	change(c)
	return signCheckpoint(c, k.key)
}

func asItIs(*custody.Checkpoint) {}

// rules adds the attacks of this file.
func (m *maker) rules(s *subject) error {
	const category = "break one rule, all signatures right"
	for _, r := range rulesOfLeaves {
		leaves, keys, leaf, err := m.forge(s, r.edit)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		cp, err := signed(s.device(), leaves, keys, len(leaves), asItIs)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		m.add(s, category, r.name, func(t tree) { t[logFile], t[slotFiles[0]], t[slotFiles[1]] = encode(leaves), cp, cp }, inLog(leaf, r.state, r.rule))
	}
	if err := m.checkpointRules(s, category); err != nil {
		return err
	}
	return m.epochSignatures(s, category)
}

// control is the name of the attack that is none: the log signed anew, and nothing broken.
const control = "none: the control"

// checkpointRules are those of V10 and V14, on a log that is signed anew and right.
func (m *maker) checkpointRules(s *subject, category string) error {
	leaves, keys, _, err := m.forge(s, func(*draft) (int, error) { return 0, nil })
	if err != nil {
		return err
	}
	n := len(leaves)
	good, err := signed(s.device(), leaves, keys, n, asItIs)
	if err != nil {
		return err
	}
	put := func(name string, cp []byte, w want) {
		m.add(s, category, name, func(t tree) { t[logFile], t[slotFiles[0]], t[slotFiles[1]] = encode(leaves), good, cp }, w)
	}
	put(control, good, want{state: custody.VerdictCut, blame: []string{}})
	wrong := want{state: custody.VerdictTampered, places: []place{{slotFiles[1], custody.VerdictTampered, []string{"V10"}, -1}}}
	for _, name := range slices.Sorted(maps.Keys(checkpointEdits)) {
		cp, err := signed(s.device(), leaves, keys, n, checkpointEdits[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		put("a checkpoint "+name, cp, wrong)
	}
	for _, k := range []struct {
		name   string
		n, key int // leaves counted, and the key that signs
	}{
		{"a later key signs an earlier checkpoint", keys[1].from, 1},
		{"a key of an epoch before signs", n, len(keys) - 2},
		{"the key of the first boot signs", n, 0},
		{"the key of the next boot signs", lastBoot(&draft{leaves: leaves}), len(keys) - 1},
	} {
		for epoch, own := range []bool{false, true} {
			cp, err := byKey(s.device(), leaves, k.n, inForce(keys, k.n), keys[k.key], own)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			put(k.name+[]string{", as of the epoch in force", ", as of its own epoch"}[epoch], cp, wrong)
		}
	}
	return nil
}

// byKey returns a checkpoint of n leaves by a key that was not in force.
func byKey(device string, leaves []custody.Leaf, n int, right, k epochKey, own bool) ([]byte, error) {
	of := right
	if own {
		of = k
	}
	of.key = k.key
	c, err := checkpointOf(device, leaves, n, of)
	if err != nil {
		return nil, err
	}
	return signCheckpoint(c, k.key)
}

// checkpointEdits break V10, each in one thing.
var checkpointEdits = map[string]func(c *custody.Checkpoint){
	"with another root":                 func(c *custody.Checkpoint) { c.Root[0] ^= 1 },
	"with another frontier":             func(c *custody.Checkpoint) { c.Frontier[0][0] ^= 1 },
	"with other bytes of the log":       func(c *custody.Checkpoint) { c.LogBytes++ },
	"with another next record":          func(c *custody.Checkpoint) { c.Next++ },
	"with a record that has ended":      func(c *custody.Checkpoint) { c.Live = append(c.Live, "F00000002") },
	"deleting a record that is kept":    func(c *custody.Checkpoint) { c.Deleting = append(c.Deleting, "F00000002") },
	"of another boot":                   func(c *custody.Checkpoint) { c.Boot-- },
	"of another epoch":                  func(c *custody.Checkpoint) { c.Epoch++ },
	"from after its epoch":              func(c *custody.Checkpoint) { c.T += epochUsec },
	"from before the leaves it counts":  func(c *custody.Checkpoint) { c.T = 0 },
	"of another device":                 func(c *custody.Checkpoint) { c.Device = "ffffffff" },
	"with a record that never was live": func(c *custody.Checkpoint) { c.Live = append(c.Live, "F00000099") },
}

// epochSignatures breaks one certificate after all was signed: by a key that was not in force.
func (m *maker) epochSignatures(s *subject, category string) error {
	leaves, _, _, err := m.forge(s, func(*draft) (int, error) { return 0, nil })
	if err != nil {
		return err
	}
	_, stranger, err := ed25519.GenerateKey(m.keys)
	if err != nil {
		return err
	}
	for _, i := range []int{firstBoot(&draft{leaves: leaves}), lastBoot(&draft{leaves: leaves}), (&draft{leaves: leaves}).find(isKind[*custody.Epoch])} {
		d := &draft{s.device(), slices.Clone(leaves)}
		root := frontier(leaves[:i]).Root()
		err := d.set(i, func(e custody.Entry) {
			switch e := e.(type) {
			case *custody.Boot:
				e.Sig = ed25519.Sign(stranger, custody.BootMessage(s.device(), e, int64(i), root))
			case *custody.Epoch:
				e.Sig = ed25519.Sign(stranger, custody.EpochMessage(s.device(), e, int64(i), root))
			}
		})
		if err != nil {
			return err
		}
		m.add(s, category, fmt.Sprintf("leaf %d (%s) certified by a stranger's key", i, leaves[i].Kind),
			func(t tree) { t[logFile] = encode(d.leaves) }, inLog(i, custody.VerdictTampered, "V2", "V3"))
	}
	return nil
}
