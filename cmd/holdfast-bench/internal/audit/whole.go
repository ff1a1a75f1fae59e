package audit

import (
	"crypto/ed25519"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/custody"
)

// Attacks on the vault as a whole: back to an earlier state, parts of another board, old
// checkpoints, other keys.

// withHead makes the custodian know the newest checkpoint of s.
func (s *subject) withHead() (func(o *custody.Options), error) {
	i, err := s.newestSlot()
	return func(o *custody.Options) { o.Head = s.files[slotFiles[i]] }, err
}

// rollbacks takes the whole folder back to each earlier stop, with a head that was kept, and
// parts of it without one.
func (m *maker) rollbacks(s *subject) error {
	head, err := s.withHead()
	if err != nil {
		return err
	}
	for i, old := range s.before {
		leaves, err := parseLeaves(old[logFile])
		if err != nil {
			return err
		}
		gone := int64(len(s.leaves) - len(leaves))
		if gone == 0 {
			continue
		}
		w := inLog(len(leaves), custody.VerdictMissing, "V16")
		w.missing = gone
		m.add(s, "roll back", fmt.Sprintf("all to stop %d, a head was kept outside", i+1), func(t tree) { replace(t, old) }, w).options = head
		m.add(s, "roll back", fmt.Sprintf("log.bin to stop %d", i+1), func(t tree) { t[logFile] = old[logFile] }, func() want {
			w := inLog(len(leaves), custody.VerdictMissing, "V12")
			w.missing = gone
			return w
		}())
		m.add(s, "roll back", fmt.Sprintf("LOG to stop %d, the records stay", i+1), func(t tree) {
			t.removeAll("LOG")
			for _, n := range old.below("LOG") {
				t[n] = old[n]
			}
		}, want{state: s.afterLog(old), places: []place{{s.lastRecord(), custody.VerdictUnsigned, []string{"V15"}, -1}}})
	}
	return nil
}

// afterLog is the state of the records of today under the log of an earlier day: what it names
// and was deleted since is missing, what it does not name is unsigned.
func (s *subject) afterLog(old tree) custody.Verdict {
	for _, record := range (&subject{files: old}).records() {
		if len(s.files.below(record)) == 0 {
			return custody.VerdictMissing
		}
	}
	return custody.VerdictUnsigned
}

// replace makes t what other is.
func replace(t, other tree) {
	clear(t)
	for n, data := range other {
		t[n] = data
	}
}

// grafts puts parts of another board's vault into s.
func (m *maker) grafts(s, other *subject) {
	const category = "graft another board's"
	next := fmt.Sprintf("F%08d", number(s.lastRecord())+1)
	far := fmt.Sprintf("F%08d", number(s.lastRecord())+40)
	theirs := other.records()
	for _, record := range theirs {
		for _, as := range []string{next, far} {
			m.add(s, category, record+" as "+as, func(t tree) {
				for _, n := range other.files.below(record) {
					t[as+n[len(record):]] = other.files[n]
				}
			}, at(as, custody.VerdictUnsigned, custody.VerdictUnsigned, "V15"))
		}
	}
	for i, name := range s.segments() {
		from := other.segments()[i%len(other.segments())]
		m.add(s, category, from+" as "+name, func(t tree) { t[name] = other.files[from] }, tamperedAt(name, "V13"))
	}
	for i, name := range s.files.names(func(n string) bool { return kindOf(n) == "wrapped key" || kindOf(n) == "flight.pub" }) {
		record := theirs[i%len(theirs)]
		from := record + name[strings.IndexByte(name, '/'):]
		m.add(s, category, from+" as "+name, func(t tree) { t[name] = other.files[from] }, tamperedAt(name, "V14"))
	}
	m.add(s, category, "log.bin", func(t tree) { t[logFile] = other.files[logFile] }, inLog(0, custody.VerdictTampered, "V2"))
	m.add(s, category, "device.pub", func(t tree) { t[devicePub] = other.files[devicePub] }, tamperedAt(devicePub, "V2"))
	m.add(s, category, "LOG", func(t tree) {
		for _, n := range other.files.below("LOG") {
			t[n] = other.files[n]
		}
	}, want{state: custody.VerdictTampered, places: []place{{devicePub, custody.VerdictTampered, []string{"V2"}, -1}, inLog(0, custody.VerdictTampered, "V2").places[0]}})
	m.add(s, category, "checkpoints", func(t tree) {
		for _, n := range slotFiles {
			t[n] = other.files[n]
		}
	}, want{state: custody.VerdictTampered, places: []place{{slotFiles[0], custody.VerdictTampered, []string{"V10"}, -1}, {slotFiles[1], custody.VerdictTampered, []string{"V10"}, -1}}})
	m.add(s, category, "whole folder under this one's name", func(t tree) { replace(t, other.files) },
		want{state: custody.VerdictTampered, places: []place{{devicePub, custody.VerdictTampered, []string{"V2"}, -1}}})
}

func number(record string) (n int) {
	for _, d := range record[1:] {
		n = n*10 + int(d-'0')
	}
	return n
}

// additions puts files where the log names none.
func (m *maker) additions(s *subject) {
	for _, record := range s.records() {
		some := s.files[s.segmentsOf(record)[0]]
		file := record + "/T000077.age"
		w := at(file, custody.VerdictUnsigned, custody.VerdictUnsigned, "V15")
		m.add(s, "add a file", file, func(t tree) { t[file] = some }, w)
		for _, name := range []string{"flight.key.9.age", "flight.V.key.9.age", "flight.AP.key.age", "flight.AP.pub"} {
			key := record + "/" + name
			m.add(s, "add a file", key, func(t tree) { t[key] = t[record+"/flight.key.age"] }, tamperedAt(key, "V14"))
		}
	}
}

func (s *subject) segmentsOf(record string) []string {
	return s.files.names(func(n string) bool { return strings.HasPrefix(n, record+"/") && strings.Contains(kindOf(n), "segment") })
}

// otherKeys has the custodian hold the key of another board, and the folder's key exchanged.
func (m *maker) otherKeys(s, other *subject) error {
	foreign := other.board.device.Verifier()
	w := want{state: custody.VerdictTampered, places: []place{{devicePub, custody.VerdictTampered, []string{"V2"}, -1}, inLog(0, custody.VerdictTampered, "V2").places[0]}}
	m.add(s, "wrong device key", "the custodian has the key of another board", func(tree) {}, w).options = func(o *custody.Options) { o.DeviceKey = foreign }
	m.add(s, "wrong device key", "device.pub of another board, no key from outside", func(t tree) { t[devicePub] = []byte(foreign + "\n") }, w).options =
		func(o *custody.Options) { o.DeviceKey = "" }
	made, err := m.madeUp(s)
	if err != nil {
		return err
	}
	m.add(s, "wrong device key", "all signed anew by a made-up device, the key was noted", func(t tree) { replace(t, made.files) },
		want{state: custody.VerdictTampered, places: w.places})
	return nil
}

// madeUp returns the vault of s as a device of the attacker's own signs it.
func (m *maker) madeUp(s *subject) (*subject, error) {
	public, secret, err := ed25519.GenerateKey(m.keys)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%x", sha(public)[:4])
	line, err := note.NewEd25519VerifierKey(custody.Origin(id), public)
	if err != nil {
		return nil, err
	}
	f := &forger{id, secret, m.keys}
	leaves, keys, err := f.resign(s.leaves)
	if err != nil {
		return nil, err
	}
	cp, err := signed(id, leaves, keys, len(leaves), asItIs)
	if err != nil {
		return nil, err
	}
	t := s.files.copy()
	t[logFile], t[slotFiles[0]], t[slotFiles[1]], t[devicePub] = encode(leaves), cp, cp, []byte(line+"\n")
	return &subject{board: s.board, files: t, leaves: leaves}, nil
}
