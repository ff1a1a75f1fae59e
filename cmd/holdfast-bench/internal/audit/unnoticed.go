package audit

import (
	"fmt"
	"strings"

	"holdfast/crypto/custody"
)

// Attacks that nobody can notice with what he has. Each is made and shown to be unnoticed, so
// that the list stays true in both directions: one that is noticed after all fails the audit.

// hide takes an attack that must not be noticed. state is what the folder is said to be.
func (m *maker) hide(s *subject, name, why string, state custody.Verdict, edit func(t tree)) *mutation {
	a := m.add(s, "nobody can notice", name, edit, want{state: state, quiet: true})
	a.why = why
	return a
}

func (m *maker) unnoticed(subs *subjects) error {
	day, cut := subs.day, subs.cut
	const (
		older = "An older whole state is one that was right at its time. Only a head kept outside tells of the leaves that are gone."
		tail  = "A cut leaves just this: what follows the newest checkpoint is signed by nobody yet."
		key   = "Whoever has the device key file signs as the board does. Only what somebody outside has seen is protected."
		torn  = "The sync of flight.pub comes after leaf K: a record that was cut can lack it. Nobody needs it to open the record."
	)
	for i, old := range day.before {
		m.hide(day, fmt.Sprintf("roll back all to stop %d, no head is known", i+1), older, stateOfStop(i), func(t tree) { replace(t, old) })
	}
	if err := m.forgeries(day, key); err != nil {
		return err
	}
	m.tails(cut, tail)
	for _, s := range []*subject{day, cut} {
		for _, name := range s.files.names(s.late) {
			m.hide(s, "delete "+name, torn, custody.VerdictCut, func(t tree) { delete(t, name) })
			m.hide(s, "cut "+name+" to its half", torn, custody.VerdictCut, func(t tree) { t[name] = t[name][:len(t[name])/2] })
		}
	}
	m.putBack(day)
	made, err := m.madeUp(day)
	if err != nil {
		return err
	}
	m.hide(day, "sign all anew as a made-up device, no key is known", "The folder names its own key. Only a copy of device.pub from when the board was set up tells that it is another.",
		custody.VerdictCut, func(t tree) { replace(t, made.files) }).options = func(o *custody.Options) { o.Device, o.DeviceKey = "", "" }
	return m.oldSlots(cut, "The older checkpoints were right at their time, and a cut before the next one leaves them so. The leaves behind them are counted as an unsigned tail.")
}

// putBack restores a record that the board has deleted.
func (m *maker) putBack(s *subject) {
	for _, old := range s.before {
		for _, record := range (&subject{files: old}).records() {
			if len(s.files.below(record)) > 0 {
				continue
			}
			m.hide(s, "put "+record+" back, which was deleted to make room", "Its files are what the log names; it is said that the log deleted it.", custody.VerdictCut, func(t tree) {
				for _, n := range old.below(record) {
					t[n] = old[n]
				}
			})
			return
		}
	}
}

// stateOfStop: the day has its cut record from the second stop on.
func stateOfStop(i int) custody.Verdict {
	if i == 0 {
		return custody.VerdictClean
	}
	return custody.VerdictCut
}

// wasCut tells a file of a record that leaf R ended.
func (s *subject) wasCut(name string) bool {
	record, _, _ := strings.Cut(name, "/")
	return (&draft{leaves: s.leaves}).find(func(e custody.Entry) bool { r, ok := e.(*custody.Recovered); return ok && r.Record == record }) >= 0
}

// forgeries are histories by whoever has the device key.
func (m *maker) forgeries(s *subject, why string) error {
	edits := map[string]func(d *draft) (int, error){
		"the same history signed anew": func(*draft) (int, error) { return 0, nil },
		"other times": func(d *draft) (int, error) {
			return 0, d.set(d.last(isKind[*custody.Closed]), func(e custody.Entry) { e.(*custody.Closed).From++ })
		},
		"another number of frames": func(d *draft) (int, error) {
			return 0, d.set(d.last(isKind[*custody.Closed]), func(e custody.Entry) { e.(*custody.Closed).Frames += 100 })
		},
	}
	head, err := s.withHead()
	if err != nil {
		return err
	}
	for name, edit := range inOrder(edits) {
		leaves, keys, _, err := m.forge(s, edit)
		if err != nil {
			return err
		}
		cp, err := signed(s.device(), leaves, keys, len(leaves), asItIs)
		if err != nil {
			return err
		}
		put := func(t tree) { t[logFile], t[slotFiles[0]], t[slotFiles[1]] = encode(leaves), cp, cp }
		m.hide(s, "forge with the device key: "+name+", no head is known", why, custody.VerdictCut, put)
		m.add(s, "forge with the device key", name+", a head was kept outside", put,
			want{state: custody.VerdictTampered, places: []place{{logFile, custody.VerdictTampered, []string{"V16"}, int64(len(s.leaves))}}}).options = head
	}
	return m.forgedFile(s, why)
}

// forgedFile puts other sealed bytes into the newest record, and a right leaf C for them.
func (m *maker) forgedFile(s *subject, why string) error {
	name := s.segmentsOf(s.lastRecord())[0]
	fake := s.files[s.segments()[0]]
	leaves, keys, _, err := m.forge(s, func(d *draft) (int, error) {
		i := d.find(func(e custody.Entry) bool {
			c, ok := e.(*custody.Closed)
			return ok && c.Record+"/"+c.Segment+".age" == name
		})
		return i, d.set(i, func(e custody.Entry) {
			c := e.(*custody.Closed)
			c.Size, c.SHA256 = int64(len(fake)), sha(fake)
		})
	})
	if err != nil {
		return err
	}
	cp, err := signed(s.device(), leaves, keys, len(leaves), asItIs)
	if err != nil {
		return err
	}
	m.hide(s, "forge with the device key: other bytes in "+name, why, custody.VerdictCut, func(t tree) {
		t[logFile], t[slotFiles[0]], t[slotFiles[1]], t[name] = encode(leaves), cp, cp, fake
	})
	return nil
}

// tails changes what lies behind the newest checkpoint of a vault that was cut.
func (m *maker) tails(s *subject, why string) {
	name, signedBytes := s.openTail()
	if name == "" {
		return
	}
	m.hide(s, "extend "+name+", which the cut left open", why, custody.VerdictCut, func(t tree) {
		t.edit(name, func(p []byte) []byte { return append(p, p[len(p)-70000:]...) })
	})
	m.hide(s, "extend "+name+" by zeros", why, custody.VerdictCut, func(t tree) {
		t.edit(name, func(p []byte) []byte { return append(p, make([]byte, 70000)...) })
	})
	m.hide(s, "cut "+name+" to what the newest checkpoint names", why, custody.VerdictCut, func(t tree) { t[name] = t[name][:signedBytes] })
	at := m.rng.IntN(int(signedBytes))
	m.add(s, "flip", fmt.Sprintf("%s, within what the newest checkpoint names, byte %d", name, at), func(t tree) { t.edit(name, flip(at, 1)) }, tamperedAt(name, "V13"))
	m.add(s, "cut", fmt.Sprintf("%s to a byte less than the newest checkpoint names", name), func(t tree) { t[name] = t[name][:signedBytes-1] }, tamperedAt(name, "V13"))
	base := name[:strings.IndexByte(name, '/')+8]
	m.add(s, "delete a file", name, func(t tree) { delete(t, name) }, missingAt(base, "V13"))
}

// openTail returns the file that the newest checkpoint says is open, and how much it names.
func (s *subject) openTail() (name string, signed int64) {
	i, err := s.newestSlot()
	if err != nil {
		return "", 0
	}
	c, err := custody.ParseCheckpoint(s.files[slotFiles[i]])
	if err != nil || len(c.Open) == 0 {
		return "", 0
	}
	o := c.Open[len(c.Open)-1]
	return o.Record + "/" + o.Name, o.Bytes
}

// oldSlots puts older checkpoints into one slot and into both.
func (m *maker) oldSlots(s *subject, why string) error {
	newest, err := s.newestSlot()
	if err != nil {
		return err
	}
	older := s.files[slotFiles[1-newest]]
	m.hide(s, "the older checkpoint in both slots", why, custody.VerdictCut, func(t tree) { t[slotFiles[newest]] = older })
	if c, err := custody.ParseCheckpoint(older); err == nil {
		m.hide(s, "the older checkpoint in both slots, and the log cut to it", why, custody.VerdictCut,
			func(t tree) { t[slotFiles[newest]], t[logFile] = older, t[logFile][:c.LogBytes] })
	}
	for i, old := range s.before {
		for k, n := range slotFiles {
			m.hide(s, fmt.Sprintf("the checkpoint %s of stop %d in both slots", n, i+1), why, custody.VerdictCut,
				func(t tree) { t[slotFiles[0]], t[slotFiles[1]] = old[n], old[n] })
			m.hide(s, fmt.Sprintf("the checkpoint %s of stop %d in the slot of the older one", n, i+1), why, custody.VerdictCut,
				func(t tree) { t[slotFiles[1-newest]] = old[slotFiles[k]] })
		}
	}
	return nil
}
