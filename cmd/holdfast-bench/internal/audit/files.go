package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"holdfast/crypto/custody"
)

// region is a part of a file that a change can fall into.
type region struct {
	name     string
	from, to int
}

// regions names the parts of a file: of an age file its header, the first chunk, one in the
// middle and the end; of a checkpoint its lines; of others begin, middle and end.
func regions(name string, data []byte) []region {
	n := len(data)
	switch kindOf(name) {
	case "segment", "open segment", "wrapped key":
		head := bytes.Index(data, []byte("\n--- ")) + 1
		if head <= 0 || n < head+80 {
			return []region{{"content", 0, n}}
		}
		body := head + 49 // the line of the header's MAC
		return []region{{"first line", 0, 20}, {"stanzas", 22, head}, {"MAC", head, body}, {"nonce", body, min(body+16, n)},
			{"first chunk", body + 16, min(body+16+1000, n)}, {"middle", n / 3, 2 * n / 3}, {"last bytes", n - 16, n}}
	case "cp.A", "cp.B":
		return checkpointRegions(data)
	}
	return []region{{"first byte", 0, 1}, {"middle", n / 3, 2 * n / 3}, {"last byte", n - 1, n}}
}

// checkpointRegions are its lines, by their first word, and the signature.
func checkpointRegions(data []byte) (rs []region) {
	for at, i := 0, 0; at < len(data); i++ {
		end := at + bytes.IndexByte(data[at:], '\n') + 1
		if end == at {
			end = len(data)
		}
		word, _, _ := strings.Cut(strings.TrimSpace(string(data[at:end])), " ")
		switch i {
		case 0:
			word = "origin"
		case 1:
			word = "size"
		case 2:
			word = "root"
		}
		if word == "\u2014" {
			word = "signature"
		}
		if word != "" {
			rs = append(rs, region{word, at, end})
		}
		at = end
	}
	return rs
}

// contents are the files whose content a signature covers, log.bin apart.
func (s *subject) contents() []string {
	return s.files.names(func(n string) bool { return n != logFile })
}

// flips changes a bit in each region of each file.
func (m *maker) flips(s *subject) error {
	for _, name := range s.contents() {
		data := s.files[name]
		if s.loose(name) {
			continue // what only an unsigned tail could cover is another attack
		}
		for _, r := range regions(name, data) {
			w, err := s.fileWant(name)
			if err != nil {
				return err
			}
			at := r.from + m.rng.IntN(r.to-r.from)
			m.add(s, "flip", fmt.Sprintf("%s, %s, byte %d", name, r.name, at), func(t tree) { t.edit(name, flip(at, m.rng.Uint())) }, w)
		}
	}
	return nil
}

// loose tells the files of a record that has not ended: only an open line covers them in part.
func (s *subject) loose(name string) bool {
	record, _, _ := strings.Cut(name, "/")
	return s.unended && kindOf(name) == "open segment" && record == s.lastRecord()
}

// cuts takes bytes off the end of each sort of file, and extends puts some there.
func (m *maker) cutsAndExtends(s *subject) error {
	for _, name := range s.contents() {
		if s.loose(name) {
			continue // what only an unsigned tail could cover is another attack
		}
		w, err := s.fileWant(name)
		if err != nil {
			return err
		}
		n := len(s.files[name])
		for _, keep := range []int{0, 1, n / 2, n - 1} {
			if s.late(name) {
				break
			}
			m.add(s, "cut", fmt.Sprintf("%s to %d of %d bytes", name, keep, n), func(t tree) { t[name] = t[name][:keep] }, w)
		}
		for what, more := range inOrder(map[string][]byte{"a byte": {0}, "a line feed": []byte("\n"), "a chunk of its own": s.files[name][:min(n, 70000)]}) {
			m.add(s, "extend", fmt.Sprintf("%s by %s", name, what), func(t tree) { t.edit(name, func(p []byte) []byte { return append(p, more...) }) }, w)
		}
	}
	return nil
}

// segments are the files of closed segments.
func (s *subject) segments() []string {
	return s.files.names(func(n string) bool { return kindOf(n) == "segment" })
}

// swaps exchanges segments: of one record, and of two.
func (m *maker) swaps(s *subject) {
	all := s.segments()
	for i := range min(12, len(all)-1) {
		a, b := all[i], all[len(all)-1-i]
		if i%2 == 0 {
			b = all[i+1]
		}
		if a == b {
			continue
		}
		ra, rb := strings.SplitN(a, "/", 2)[0], strings.SplitN(b, "/", 2)[0]
		w := tamperedAt(a, "V13")
		w.places = append(w.places, tamperedAt(b, "V13").places...)
		w.blame = []string{ra, rb}
		m.add(s, "swap", a+" and "+b, func(t tree) { t[a], t[b] = t[b], t[a] }, w)
	}
}

// replays puts old sealed bytes in the place of others: chunks, whole segments, wrapped keys.
func (m *maker) replays(s *subject) {
	const chunk = 64<<10 + 16
	all := s.segments()
	for i, name := range all {
		old := all[(i+1)%len(all)]
		if old == name {
			continue
		}
		m.add(s, "replay", "segment "+old+" as "+name, func(t tree) { t[name] = t[old] }, tamperedAt(name, "V13"))
		data := s.files[name]
		body := len(data) - 2*chunk
		if body < 0 {
			continue
		}
		m.add(s, "replay", fmt.Sprintf("chunk at %d of %s again at %d", body, name, body+chunk),
			func(t tree) {
				t.edit(name, func(p []byte) []byte { copy(p[body+chunk:], data[body:body+chunk]); return p })
			}, tamperedAt(name, "V13"))
		if from := s.files[old]; len(from) > 2*chunk {
			m.add(s, "replay", fmt.Sprintf("chunk of %s into %s", old, name),
				func(t tree) { t.edit(name, func(p []byte) []byte { copy(p[body:], from[len(from)-chunk:]); return p }) }, tamperedAt(name, "V13"))
		}
	}
	wrapped := s.files.names(func(n string) bool { return kindOf(n) == "wrapped key" })
	for i, name := range wrapped {
		old := wrapped[(i+1)%len(wrapped)]
		m.add(s, "replay", old+" as "+name, func(t tree) { t[name] = t[old] }, tamperedAt(name, "V14"))
	}
}

// deletes takes away each segment, other files, and whole records.
func (m *maker) deletes(s *subject) {
	for _, name := range s.files.names(func(n string) bool { return n != logFile && n != slotFiles[0] && n != slotFiles[1] }) {
		w := missingAt(name, "V2", "V14")
		if kind := kindOf(name); kind == "segment" || kind == "open segment" {
			base := name[:strings.LastIndexByte(name, '/')+8]
			w = missingAt(base, "V13", "V15")
		}
		if s.loose(name) || s.late(name) {
			continue
		}
		m.add(s, "delete a file", name, func(t tree) { delete(t, name) }, w)
	}
	for _, record := range s.records() {
		m.add(s, "delete a record", record, func(t tree) { t.removeAll(record) }, missingAt(record, "V15"))
		m.add(s, "delete a record", record+" but its key", func(t tree) {
			for _, n := range t.below(record) {
				if kind := kindOf(n); kind == "segment" || kind == "open segment" {
					delete(t, n)
				}
			}
		}, want{state: custody.VerdictMissing, blame: []string{record}})
	}
	m.add(s, "delete a file", logFile, func(t tree) { delete(t, logFile) }, want{state: custody.VerdictMissing, places: []place{{logFile, custody.VerdictMissing, []string{"V12"}, -1}}})
	m.add(s, "delete a file", "both checkpoints", func(t tree) { delete(t, slotFiles[0]); delete(t, slotFiles[1]) },
		want{state: custody.VerdictTampered, places: []place{{"LOG", custody.VerdictTampered, []string{"V11"}, -1}}})
	m.add(s, "delete a file", "the folder LOG", func(t tree) { t.removeAll("LOG") }, want{state: custody.VerdictMissing, places: []place{{"LOG", custody.VerdictMissing, []string{"V12"}, -1}}})
}

// records are the folders that are there.
func (s *subject) records() (names []string) {
	for name := range s.files {
		record, _, ok := strings.Cut(name, "/")
		if ok && custody.IsRecord(record) && !slices.Contains(names, record) {
			names = append(names, record)
		}
	}
	slices.Sort(names)
	return names
}
