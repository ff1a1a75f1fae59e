package vault_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing/fstest"

	"filippo.io/age"

	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// view is what a reader with the operator's identity finds in a vault.
type view struct {
	records []vault.Record
	headers []*segment.Header
	entries []uint64
	lines   []uint64 // of the audit
	// Closed segments that are not whole; open ones with a chunk that does not authenticate;
	// frames that cannot be read.
	problems []string
	torn     int // chunks that were never synced and came to the medium in part
}

// look reads everything.
func look(files map[string][]byte) (*view, error) {
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data, Mode: 0o600}
	}
	devices, err := vault.FindDevices(fsys, ".")
	if err != nil {
		return nil, err
	}
	w := &view{}
	for _, d := range devices {
		if err := d.Read(fsys, false); err != nil {
			return nil, err
		}
		w.records = append(w.records, d.Records...)
		for _, r := range d.Records {
			if err := w.record(files, r); err != nil {
				return nil, fmt.Errorf("%s: %w", r.ID, err)
			}
		}
	}
	return w, nil
}

func (w *view) record(files map[string][]byte, rec vault.Record) error {
	if len(rec.Segments) == 0 || len(rec.Keys) == 0 && rec.State == vault.StateCut {
		return nil // cut while it was begun: nothing was sealed in it
	}
	var wrapped [][]byte
	for _, name := range rec.Keys {
		wrapped = append(wrapped, files[path.Join(rec.Dir, name)])
	}
	me, _ := crew()
	id, err := open.New(me).Flight(wrapped...)
	if err != nil {
		return err
	}
	c := &collector{view: w, seen: map[uint64]bool{}}
	audit := &collector{view: w, seen: map[uint64]bool{}, audit: true}
	for _, s := range rec.Segments {
		c := c
		if s.Stream == 'X' {
			c = audit
		}
		for _, name := range []string{s.File, s.Other} {
			if name == "" || name == s.Other && (s.State == vault.StateClean || strings.HasSuffix(name, ".tmp")) {
				continue // a reader takes the open form before a half-written one
			}
			if err := w.form(c, files[path.Join(rec.Dir, name)], path.Join(rec.Dir, name), id); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	c.takePartial()
	audit.takePartial()
	return nil
}

func (w *view) form(c *collector, data []byte, name string, id age.Identity) error {
	s, err := open.Salvage(bytes.NewReader(data), int64(len(data)), id)
	if err != nil {
		if strings.HasSuffix(name, ".open.age") && (len(data) < 64<<10 || bytes.Contains(data[:min(len(data), 4096)], make([]byte, 256))) {
			w.torn++ // a header that was never synced
			return nil
		}
		return err
	}
	d, err := segment.NewDecoder(c)
	if err != nil {
		return err
	}
	for {
		chunk, err := s.Next()
		if err == io.EOF {
			break
		}
		if chunk.Lost > 0 {
			if err := d.Hole(); err != nil {
				return err
			}
		}
		if err := d.Feed(chunk.Plain); err != nil {
			return err
		}
	}
	stats, err := d.End()
	res := s.Result()
	closed := !strings.HasSuffix(name, ".open.age") && !strings.HasSuffix(name, ".tmp")
	w.torn += int(res.BadChunks)
	if stats.BadFrames > 0 || closed && (!res.Clean() || stats != (segment.Stats{Blocks: stats.Blocks})) {
		w.problems = append(w.problems, fmt.Sprintf("%s: %+v %+v", name, res, stats))
	}
	return err
}

// collector takes each block once, as the operator's tool does.
type collector struct {
	*view
	seen      map[uint64]bool
	block     uint64
	skip      bool
	partial   []byte
	partialOf uint64
	audit     bool
}

func (c *collector) Meta(m *segment.Meta) error {
	c.block = m.Block
	if c.partial != nil && m.Block == c.partialOf {
		c.partial, c.skip = nil, false
		return nil
	}
	if c.skip = c.seen[m.Block]; c.skip {
		return nil
	}
	c.seen[m.Block] = true
	switch {
	case m.Header != nil && !c.audit:
		c.headers = append(c.headers, m.Header)
	case m.Header == nil:
		c.takePartial()
	}
	return nil
}

func (c *collector) Data(p []byte, part bool) error {
	switch {
	case c.skip:
	case part:
		c.partial, c.partialOf = bytes.Clone(p), c.block
	default:
		c.take(p)
	}
	return nil
}

func (c *collector) takePartial() {
	p := c.partial
	c.partial = nil
	if c.audit {
		c.take(p[:bytes.LastIndexByte(p, '\n')+1])
		return
	}
	c.take(p[:len(p)/entrySize*entrySize])
}

func (c *collector) take(p []byte) {
	if c.audit {
		c.takeLines(p)
		return
	}
	for e := range slices.Chunk(p, entrySize) {
		n := uint64(0)
		if len(e) == entrySize {
			n = binary.BigEndian.Uint64(e[8:])
		}
		if !bytes.Equal(e, appendEntry(nil, n)) {
			c.problems = append(c.problems, fmt.Sprintf("%x is no entry", e))
			return
		}
		c.entries = append(c.entries, n)
	}
}

func (c *collector) takeLines(p []byte) {
	for l := range bytes.Lines(p) {
		var n uint64
		if _, err := fmt.Sscanf(string(l), "{\"line\":%d}\n", &n); err != nil || !bytes.Equal(l, line(n)) {
			c.problems = append(c.problems, fmt.Sprintf("%q is no line", l))
			return
		}
		c.lines = append(c.lines, n)
	}
}

func (c *collector) Noise(r segment.NoiseRun) error {
	if !bytes.HasPrefix(randomBytes(), r.Data) {
		c.problems = append(c.problems, "noise that never came")
	}
	return nil
}

// row checks that the entries from base on are there in order and once each: at least up to
// least, at most up to most. It returns the entries behind them.
func row(got []uint64, base, least, most uint64) ([]uint64, error) {
	n := base
	for len(got) > 0 && got[0] == n && n < most {
		got, n = got[1:], n+1
	}
	if n < least {
		next := "nothing"
		if len(got) > 0 {
			next = fmt.Sprint(got[0])
		}
		return nil, fmt.Errorf("entries %d to %d are missing, %s follows", n, least-1, next)
	}
	return got, nil
}

const all = 1<<64 - 1

// check reads the vault and checks that it holds what the rigs were promised, and nothing else.
// least is the number behind the entries that the first rig was promised, or all of them; the
// other rigs have ended in good order.
func check(files map[string][]byte, least uint64, rigs ...*rig) (*view, error) {
	w, err := look(files)
	if err != nil {
		return nil, err
	}
	got, lines := w.entries, w.lines
	for i, r := range rigs {
		if lines, err = row(lines, r.base, r.lasting, r.lines); err != nil {
			return w, fmt.Errorf("audit: %w", err)
		}
		want := r.next
		if i == 0 && least != all {
			want = least
		}
		if got, err = row(got, r.base, want, r.next); err != nil {
			return w, err
		}
	}
	switch {
	case len(lines) > 0:
		err = fmt.Errorf("%d lines of the audit are there twice or never came, from %d", len(lines), lines[0])
	case len(got) > 0:
		err = fmt.Errorf("%d entries are there twice or never came, from %d", len(got), got[0])
	case len(w.problems) > 0:
		err = errors.New(w.problems[0])
	default:
		_, err = verify(files)
	}
	return w, err
}
