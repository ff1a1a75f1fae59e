// Package flight opens one sealed record: unlocks its flight identity, reads its segments,
// keeps what is intact of cut and damaged ones, and writes telemetry.tlog, noise.bin,
// noise.jsonl, sent.tlog, sent.jsonl, audit.jsonl, the files of autopilot/ and media/, and
// flight.json. What custody could not prove it writes below
// unverified/, under the same names. It reads the sealed files and never changes them.
package flight

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// Opener opens records of one vault.
type Opener struct {
	FS   fs.FS
	Keys *open.Opener
	// Progress, where set, is told of sealed bytes as they are read.
	Progress func(n int64)
	// Custody, where set, returns what verification says of a record, nil where the log does
	// not name it. What is not proven then goes below unverified/. Where Custody is not set
	// nothing was verified, and everything is in place.
	Custody func(dev vault.Device, record string) *custody.RecordReport

	opened     map[string]*done // since the last Deliver, by record
	order      []*done
	deliveries []delivery
}

// Open writes what is in rec to the folder out, which it makes, 0700. Streams that are sealed to
// others stay closed, and what could not be read is in the summary, not in the error: an error
// means that nothing was opened (open.ErrNoIdentity, ErrNoKey) or that out could not be written.
func (o *Opener) Open(dev vault.Device, rec vault.Record, out string) (*Summary, error) {
	trust := o.trust(dev, rec)
	keys, err := o.unlock(rec, trust.leaf(o.FS, dev))
	if err != nil {
		return nil, err
	}
	t := &targets{dir: out, dev: dev, rec: rec, trust: trust, keys: keys}
	if err := t.open(); err != nil {
		return nil, err
	}
	for _, s := range rec.Segments {
		id := keys.For(s.Stream)
		if id == nil && s.State != vault.StateMissing {
			continue // the summary says so
		}
		if err := o.segment(t, s, id); err != nil {
			return nil, errors.Join(err, t.abandon())
		}
	}
	s, err := t.finish()
	if err == nil {
		o.remember(t, s)
	}
	return s, err
}

// segment reads one segment, in whichever forms it is there. Blocks that both forms hold are
// taken once.
func (o *Opener) segment(t *targets, s vault.Segment, id age.Identity) error {
	if !t.wants(s.Stream) {
		return nil
	}
	report := SegmentReport{Name: s.File, State: s.State, Bytes: s.Size}
	if s.State == vault.StateMissing {
		if t.trust.asked {
			return nil // verification knows whether it was ever there
		}
		report.Name = fmt.Sprintf("%c%06d", s.Stream, s.Number)
		report.Why = "its number was skipped"
		t.place.segments = append(t.place.segments, report)
		return nil
	}
	if err := o.form(t, s.File, id, &report); err != nil {
		return err
	}
	if s.Other == "" || report.State == vault.StateClean {
		return nil
	}
	return o.form(t, s.Other, id, &SegmentReport{Name: s.Other, State: vault.StateCut})
}

// form reads one file of a segment to where what verification says of it puts it: in place, or
// apart, or, where only its beginning is proven, that in place and the whole apart.
func (o *Opener) form(t *targets, file string, id age.Identity, report *SegmentReport) error {
	place, apart := t.trust.part(file)
	if place > 0 {
		if err := o.read(t.place, t.rec, file, place, id, report); err != nil {
			return err
		}
		report.verified(t.trust, file)
		t.place.segments = append(t.place.segments, *report)
	}
	if !apart {
		if place == 0 { // its other form is what counts
			report.State = vault.StateCut
		}
		return nil
	}
	c, err := t.unverified()
	if err != nil {
		return err
	}
	other := SegmentReport{Name: file, State: report.State, Bytes: report.Bytes}
	if err := o.read(c, t.rec, file, everything, id, &other); err != nil {
		return err
	}
	other.verified(t.trust, file)
	c.segments = append(c.segments, other)
	if place == 0 {
		report.State, report.Frames = other.State, other.Frames
	}
	return nil
}

// read reads the first limit bytes of a file. The error is the collector's own (writing failed).
func (o *Opener) read(c *collector, rec vault.Record, file string, limit int64, id age.Identity, report *SegmentReport) error {
	f, err := o.FS.Open(path.Join(rec.Dir, file))
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
	s, err := open.Salvage(src, min(size, limit), id)
	if err != nil {
		report.unreadable(err)
		return nil
	}
	h, entries := c.of(file)
	before := *entries
	d, err := segment.NewDecoder(h)
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
	c.meta, c.audit.meta = nil, nil
	report.Frames += *entries - before
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
