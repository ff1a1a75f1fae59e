package audit

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
)

// mutation is one attack.
type mutation struct {
	category string
	name     string
	subject  *subject
	files    tree // after the attack
	want     want
	// options changes what the custodian knows.
	options func(o *custody.Options)
	// why says, where nobody could notice the attack, why that is so; want is then to be quiet.
	why string
}

// maker collects attacks. Its random numbers come from the seed of the audit.
type maker struct {
	rng  *rand.Rand
	keys io.Reader // for keys of attackers
	all  []mutation
}

// add takes an attack on a copy of s. edit makes it; place and state say what it must show.
func (m *maker) add(s *subject, category, name string, edit func(t tree), w want) *mutation {
	t := s.files.copy()
	edit(t)
	m.all = append(m.all, mutation{category: category, name: name, subject: s, files: t, want: w})
	return &m.all[len(m.all)-1]
}

// at is a want of one place in one record or in none.
func at(file string, state custody.Verdict, whole custody.Verdict, rules ...string) want {
	w := want{state: whole, places: []place{{file, state, rules, -1}}, blame: []string{}}
	if record, _, ok := strings.Cut(file, "/"); ok && custody.IsRecord(record) {
		w.blame = append(w.blame, record)
	} else if custody.IsRecord(file) {
		w.blame = append(w.blame, file)
	}
	return w
}

// tamperedAt and missingAt are the usual wants.
func tamperedAt(file string, rules ...string) want {
	return at(file, custody.VerdictTampered, custody.VerdictTampered, rules...)
}

func missingAt(file string, rules ...string) want {
	return at(file, custody.VerdictMissing, custody.VerdictMissing, rules...)
}

// inLog is a want of a finding about a leaf. What hangs on the leaves behind it may be blamed.
func inLog(leaf int, state custody.Verdict, rules ...string) want {
	return want{state: state, places: []place{{logFile, state, rules, int64(leaf)}}}
}

// flip changes one bit.
func flip(at int, bit uint) func([]byte) []byte {
	return func(p []byte) []byte {
		p[at] ^= 1 << (bit % 8)
		return p
	}
}

// kindOf names what sort of file this is, for the tables.
func kindOf(name string) string {
	_, base := keys.SplitGroup(name[strings.LastIndexByte(name, '/')+1:]) // of a key group likewise
	switch {
	case strings.HasSuffix(base, ".open.age") && custody.IsSegment(base[:7]):
		return "open segment"
	case len(base) > 7 && custody.IsSegment(base[:7]):
		return "segment"
	case custody.IsKeyFile(base):
		return "wrapped key"
	}
	return base
}

// fileWant is what a change of a file's content must show.
func (s *subject) fileWant(name string) (want, error) {
	switch kind := kindOf(name); kind {
	case "segment", "open segment":
		return tamperedAt(name, "V13"), nil
	case "wrapped key", "flight.pub", readmeFile:
		return tamperedAt(name, "V14"), nil
	case "device.pub":
		return tamperedAt(name, "V2"), nil
	case "cp.A", "cp.B":
		return s.slotWant(name)
	default:
		return want{}, fmt.Errorf("%w: no rule for %s, which is %s", errDay, name, kind)
	}
}

// late tells flight.pub of a record that was cut. It is synced after leaf K, so it may be
// missing or end early.
func (s *subject) late(name string) bool {
	record, _, _ := strings.Cut(name, "/")
	return kindOf(name) == "flight.pub" && (s.wasCut(name) || s.unended && record == s.lastRecord())
}

// slotWant: one bad slot beside a good one is a cut. Where it is the newer one that is bad, what
// only it covers is cut, too, and a file that the older one names as open and that was closed
// since is missing: the leaf that says so is signed by nothing any more.
func (s *subject) slotWant(name string) (want, error) {
	newest, err := s.newestSlot()
	if err != nil {
		return want{}, err
	}
	w := at(name, custody.VerdictCut, custody.VerdictCut, "V11")
	if slotFiles[newest] != name {
		return w, nil
	}
	w.blame = append(w.blame, s.lastRecord())
	older, err := custody.ParseCheckpoint(s.files[slotFiles[1-newest]])
	if err != nil {
		return want{}, err
	}
	for _, o := range older.Open {
		if s.files[o.Record+"/"+o.Name] == nil {
			w.state = custody.VerdictMissing
			w.places = append(w.places, missingAt(o.Record+"/"+o.Name[:7], "V13").places...)
		}
	}
	return w, nil
}

// lastRecord is the newest record of the log.
func (s *subject) lastRecord() (record string) {
	for _, l := range s.leaves {
		if e, err := l.Entry(); err == nil {
			if k, ok := e.(*custody.FlightKey); ok {
				record = k.Record
			}
		}
	}
	return record
}
