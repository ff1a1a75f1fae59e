// Package flight opens one sealed record: unlocks its flight identity, reads its segments,
// keeps what is intact of cut and damaged ones, and writes telemetry.tlog, noise.bin,
// noise.jsonl, audit.jsonl and flight.json. It reads the sealed files and never changes them.
package flight

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"filippo.io/age"

	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// maxKeyFile bounds a wrapped flight key; real ones have some kilobytes.
const maxKeyFile = 64 << 10

// Opener opens records of one vault.
type Opener struct {
	FS   fs.FS
	Keys *open.Opener
	// Progress, where set, is told of sealed bytes as they are read.
	Progress func(n int64)
}

// Open writes what is in rec to the folder out, which it makes, 0700. What could not be read
// is in the summary, not in the error: an error means that nothing was opened
// (open.ErrNoIdentity, ErrNoKey) or that out could not be written.
func (o *Opener) Open(dev vault.Device, rec vault.Record, out string) (*Summary, error) {
	id, err := o.Unlock(rec)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return nil, err
	}
	w, err := newOutput(out)
	if err != nil {
		return nil, err
	}
	c := newCollector(w)
	for _, s := range rec.Segments {
		if err := o.segment(c, rec, s, id); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return finish(c, w, dev, rec)
}

// ErrNoKey: the record holds no wrapped flight key, so nobody can open it.
var ErrNoKey = errors.New("the record holds no flight key")

// Unlock returns the identity that the segments of rec are sealed to.
func (o *Opener) Unlock(rec vault.Record) (age.Identity, error) {
	if len(rec.Keys) == 0 {
		return nil, ErrNoKey
	}
	var files [][]byte
	for _, name := range rec.Keys {
		data, err := o.readKey(path.Join(rec.Dir, name))
		if err != nil {
			continue // a parallel file may still open
		}
		files = append(files, data)
	}
	return o.Keys.Flight(files...)
}

func (o *Opener) readKey(name string) ([]byte, error) {
	f, err := o.FS.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = errors.New("too large for a flight key")
	}
	return data, err
}

// segment reads one segment, in whichever forms it is there. Blocks that both forms hold are
// taken once.
func (o *Opener) segment(c *collector, rec vault.Record, s vault.Segment, id age.Identity) error {
	if s.Stream != 'T' {
		return nil
	}
	report := SegmentReport{Name: s.File, State: s.State, Bytes: s.Size}
	if s.State == vault.StateMissing {
		report.Name = fmt.Sprintf("%c%06d", s.Stream, s.Number)
		report.Why = "its number was skipped"
		c.segments = append(c.segments, report)
		return nil
	}
	if err := o.form(c, path.Join(rec.Dir, s.File), id, &report); err != nil {
		return err
	}
	if s.Other != "" && report.State != vault.StateClean {
		other := SegmentReport{Name: s.Other, State: vault.StateCut}
		if err := o.form(c, path.Join(rec.Dir, s.Other), id, &other); err != nil {
			return err
		}
		report.Frames += other.Frames
		report.Why += "; the other form was read too: " + s.Other
	}
	c.segments = append(c.segments, report)
	return nil
}

// form reads one file of a segment. The error is the collector's own (writing failed).
func (o *Opener) form(c *collector, name string, id age.Identity, report *SegmentReport) error {
	f, err := o.FS.Open(name)
	if err != nil {
		report.State, report.Why = vault.StateDamaged, err.Error()
		return nil
	}
	defer f.Close()
	src, size, err := readerAt(f)
	if err != nil {
		report.State, report.Why = vault.StateDamaged, err.Error()
		return nil
	}
	s, err := open.Salvage(src, size, id)
	if err != nil {
		report.unreadable(err)
		return nil
	}
	before := c.frames
	d, err := segment.NewDecoder(c)
	if err != nil {
		return err
	}
	if err := o.chunks(s, d); err != nil {
		return err
	}
	stats, err := d.End()
	if err != nil {
		return err
	}
	c.meta = nil
	report.Frames += c.frames - before
	report.judge(s.Result(), stats)
	return nil
}

// chunks feeds the intact chunks of a file to its decoder and tells it of the holes.
func (o *Opener) chunks(s *open.Salvaged, d *segment.Decoder) error {
	for {
		chunk, err := s.Next()
		if err == io.EOF {
			return nil
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
		if o.Progress != nil {
			o.Progress(int64(len(chunk.Plain)))
		}
	}
}

// readerAt returns f for random access. Files of a real folder have it.
func readerAt(f fs.File) (io.ReaderAt, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("not a regular file")
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		return nil, 0, errors.New("no random access")
	}
	return r, info.Size(), nil
}

// Folder returns the folder of a record below out.
func Folder(out string, dev vault.Device, rec vault.Record) string {
	return filepath.Join(out, dev.ID, rec.ID.String())
}
