package audit

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

// entrySize is that of the entries of the power battery: a stamp, a number, and 8 bytes that
// follow from it.
const entrySize = 24

func appendEntry(p []byte, n uint64) []byte {
	p = binary.BigEndian.AppendUint64(p, n*10_000)
	p = binary.BigEndian.AppendUint64(p, n)
	return binary.BigEndian.AppendUint64(p, (n+1)*0x9E3779B97F4A7C15)
}

// readEntries opens a vault with the crew's identity and returns the numbers of its entries, in
// the order in which a reader finds them, each block once.
func readEntries(files map[string][]byte, id age.Identity) ([]uint64, error) {
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data, Mode: 0o600}
	}
	devices, err := vault.FindDevices(fsys, ".")
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, d := range devices {
		if err := d.Read(fsys, false); err != nil {
			return nil, err
		}
		for _, r := range d.Records {
			got, err := readRecord(files, r, id)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.ID, err)
			}
			all = append(all, got...)
		}
	}
	return all, nil
}

func readRecord(files map[string][]byte, rec vault.Record, id age.Identity) ([]uint64, error) {
	if len(rec.Segments) == 0 || len(rec.Keys) == 0 {
		return nil, nil // cut while it was begun: nothing was sealed in it
	}
	var wrapped [][]byte
	for _, name := range rec.Keys {
		wrapped = append(wrapped, files[path.Join(rec.Dir, name)])
	}
	flight, err := open.New(id).Flight(wrapped...)
	if err != nil {
		return nil, err
	}
	c := &collector{seen: map[uint64]bool{}}
	for _, s := range rec.Segments {
		for _, name := range []string{s.File, s.Other} {
			if name == "" || name == s.Other && s.State == vault.StateClean {
				continue
			}
			if err := c.file(files[path.Join(rec.Dir, name)], flight); err != nil && !torn(name, files[path.Join(rec.Dir, name)]) {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	c.takePartial()
	return c.entries, c.err
}

// torn tells an open file whose header was never synced.
func torn(name string, data []byte) bool {
	return strings.HasSuffix(name, ".open.age") && (len(data) < 4096 || bytes.Contains(data[:4096], make([]byte, 256)))
}

// collector takes each block once, as the operator's tool does.
type collector struct {
	entries   []uint64
	err       error
	seen      map[uint64]bool
	block     uint64
	skip      bool
	partial   []byte
	partialOf uint64
}

func (c *collector) file(data []byte, id age.Identity) error {
	s, err := open.Salvage(bytes.NewReader(data), int64(len(data)), id)
	if err != nil {
		return err
	}
	d, err := segment.NewDecoder(c)
	if err != nil {
		return err
	}
	for {
		chunk, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
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
	_, err = d.End()
	return err
}

// Meta implements segment.Handler.
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
	if m.Header == nil {
		c.takePartial()
	}
	return nil
}

// Data implements segment.Handler.
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

// Noise implements segment.Handler.
func (c *collector) Noise(segment.NoiseRun) error { return nil }

func (c *collector) takePartial() {
	p := c.partial
	c.partial = nil
	c.take(p[:len(p)/entrySize*entrySize])
}

func (c *collector) take(p []byte) {
	for e := range slices.Chunk(p, entrySize) {
		if len(e) != entrySize || !bytes.Equal(e, appendEntry(nil, binary.BigEndian.Uint64(e[8:]))) {
			c.err = fmt.Errorf("%x is no entry", e)
			return
		}
		c.entries = append(c.entries, binary.BigEndian.Uint64(e[8:]))
	}
}
