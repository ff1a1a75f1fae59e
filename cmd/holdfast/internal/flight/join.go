package flight

import (
	"errors"
	"io"
	"os"
	"slices"

	"holdfast/storage/segment"
)

// A log that is streamed while the vehicle is disarmed, or pulled while it is armed again, goes on
// in the next record, with the same number. Where both records are opened in one run, its parts
// are put together in the record where it began.

// identity tells a file of stream A apart from all others of a device.
type identity struct {
	boot         string // numbers of files begin anew at each
	id, log      int
	kind, source string
	began        int64
}

func (d *done) identity(f *file) identity {
	return identity{d.summary.Boot, f.id, f.meta.Log, f.meta.Kind, f.meta.Source, f.meta.BeganUsec}
}

// joinChunk is how much of a part is held in memory.
const joinChunk = 1 << 20

// join puts the parts of files together, over all records that were opened.
func (o *Opener) join() error {
	type part struct {
		d *done
		f *file
	}
	first := map[identity]part{}
	for _, d := range o.order {
		for _, f := range d.files.list {
			if f.letter != segment.StreamAutopilot || f.meta.BeganUsec == 0 {
				continue
			}
			key := d.identity(f)
			to, ok := first[key]
			if !ok {
				first[key] = part{d, f}
				continue
			}
			told := to.f.meta.Of
			if err := to.d.absorb(to.f, d, f); err != nil {
				return errors.Join(err, to.d.files.close(), d.files.close())
			}
			if of := to.f.meta.Of; told == "" && of != "" && of != to.d.summary.Record {
				o.deliveries = append(o.deliveries, delivery{of: of, from: to.d.summary.Record, dir: to.d.dir, file: to.f.report})
			}
		}
		if err := d.files.close(); err != nil {
			return err
		}
	}
	for _, d := range o.order {
		if err := d.files.close(); err != nil {
			return err
		}
	}
	return nil
}

// absorb puts into f what part, a file of from, has of it.
func (d *done) absorb(f *file, from *done, part *file) error {
	for _, row := range part.had {
		for _, r := range f.had.missing(row.From, row.To) {
			if err := d.copy(f, from, part, r); err != nil {
				return err
			}
		}
	}
	f.size, f.lostEnd = max(f.size, part.size), max(f.lostEnd, part.lostEnd)
	f.ended, f.dropped, f.refused, f.differs = f.ended || part.ended, f.dropped+part.dropped, f.refused+part.refused, f.differs+part.differs
	f.early = f.early || part.early
	if f.meta.Of == "" {
		f.meta.Of = part.meta.Of
	}
	if part.sum != "" {
		f.sum = part.sum
	}
	for _, why := range part.whys {
		f.because(why)
	}
	from.joined(part, d.summary.Record)
	return d.again(f, from.summary.Record)
}

// copy copies bytes of a part that f does not have.
func (d *done) copy(f *file, from *done, part *file, r segment.Range) error {
	buf := make([]byte, min(joinChunk, r.To-r.From))
	for at := r.From; at < r.To; {
		src, err := from.files.handle(part)
		if err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), r.To-at)]
		if _, err := io.ReadFull(io.NewSectionReader(src, at, int64(len(p))), p); err != nil {
			return err
		}
		if err := d.files.write(f, at, p); err != nil {
			return err
		}
		at += int64(len(p))
	}
	f.had.add(r.From, r.To)
	return nil
}

// again reports a file that has become more.
func (d *done) again(f *file, from string) error {
	old := f.report
	for _, name := range []string{old.HolesFile, old.Salvaged} {
		if name == "" {
			continue
		}
		if err := d.files.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	parts := append(slices.Clone(old.JoinedFrom), from)
	r, err := d.files.report(f, times{d.summary.Clock})
	if err != nil {
		return err
	}
	*old, f.report = *r, old
	old.JoinedFrom = parts
	d.summary.forget(old)
	d.summary.missFile(old)
	d.summary.countFiles()
	d.changed = true
	return nil
}

// joined says that a file of d was put together with its beginning, in another record.
func (d *done) joined(part *file, where string) {
	part.report.JoinedIn = where
	d.summary.forget(part.report)
	d.changed = true
}

// forget drops what was said to be missing of a file.
func (s *Summary) forget(r *FileReport) {
	s.Missing = slices.DeleteFunc(s.Missing, func(m Missing) bool { return m.file == r })
}
