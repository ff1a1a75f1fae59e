package flight

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// A log that was pulled after a flight lies in the ground record that was open then, and says of
// which record it is (segment.File.Of). It is opened there; Deliver puts it where it belongs, too.

// done is a record that was opened.
type done struct {
	dir     string
	summary *Summary
	files   *files
	apart   *namer // of unverified/
	changed bool   // since flight.json was written
}

// delivery is a file that is about another record.
type delivery struct {
	of    string // the other record
	from  string // where it was found
	dir   string // its folder, with unverified/ where it lies there
	apart bool
	file  *FileReport
}

// remember keeps what Deliver needs of a record that was opened.
func (o *Opener) remember(t *targets, s *Summary) {
	if o.opened == nil {
		o.opened = map[string]*done{}
	}
	d := &done{dir: t.dir, summary: s, files: t.place.files}
	if t.apart != nil {
		d.apart = t.apart.files.names
	}
	o.order = append(o.order, d)
	if !t.onlyFiles() {
		o.opened[s.Record] = d
	}
	o.expect(t, t.dir, s.Files, false)
	if t.apart != nil {
		o.expect(t, filepath.Join(t.dir, unverifiedDir), t.apartFiles, true)
	}
}

// expect keeps the files that are about another record.
func (o *Opener) expect(t *targets, dir string, files []*FileReport, apart bool) {
	for _, r := range files {
		of, ok := vault.ParseRecordID(r.Of)
		if ok && of != t.rec.ID && r.Stream == string(rune(segment.StreamAutopilot)) {
			o.deliveries = append(o.deliveries, delivery{of: r.Of, from: t.rec.ID.String(), dir: dir, apart: apart, file: r})
		}
	}
}

// Later looks in a later record of the device for files that are about the record of, or began in
// it, and writes them to the folder tmp, which it makes. Deliver takes them from there; the caller removes tmp.
// Nothing else of rec is opened.
func (o *Opener) Later(dev vault.Device, rec vault.Record, of vault.RecordID, tmp string) error {
	trust := o.trust(dev, rec)
	keys, err := o.unlock(rec, trust.leaf(o.FS, dev))
	if err != nil {
		return err
	}
	id := keys.For(segment.StreamAutopilot)
	if id == nil {
		return open.ErrNoIdentity
	}
	t := &targets{dir: tmp, dev: dev, rec: rec, trust: trust, keys: keys, only: o.wanted(of.String())}
	if err := t.open(); err != nil {
		return err
	}
	for _, s := range rec.Segments {
		if err := o.segment(t, s, id); err != nil {
			return errors.Join(err, t.abandon())
		}
	}
	s, err := t.finish()
	if err == nil {
		o.remember(t, s)
	}
	return err
}

// wanted tells the files of later records that are about a record or began in it.
func (o *Opener) wanted(of string) func(*segment.File) bool {
	began := map[identity]bool{}
	if d := o.opened[of]; d != nil {
		for _, f := range d.files.list {
			if f.letter == segment.StreamAutopilot && f.meta.BeganUsec != 0 {
				began[(&done{summary: &Summary{}}).identity(f)] = true
			}
		}
	}
	return func(m *segment.File) bool {
		return m.Of == of || began[identity{"", m.ID, m.Log, m.Kind, m.Source, m.BeganUsec}]
	}
}

// Deliver puts the parts of logs that go on over several records together, and the files that were
// found in one record and are about another one into the folder of that one too, where these were
// opened since the last call: below unverified/ what is not proven. It then writes the flight.json
// of those records again. apart is the number of files not proven.
func (o *Opener) Deliver() (apart int, err error) {
	if err := o.join(); err != nil {
		return 0, err
	}
	for _, d := range o.deliveries {
		to := o.opened[d.of]
		if to == nil || d.file.JoinedIn != "" {
			continue
		}
		if err := to.take(d); err != nil {
			return apart, fmt.Errorf("%s of %s: %w", d.file.Name, d.from, err)
		}
		if d.apart {
			apart++
		}
	}
	for _, d := range o.order {
		if !d.changed {
			continue
		}
		if err := d.rewrite(); err != nil {
			return apart, err
		}
	}
	o.opened, o.order, o.deliveries = nil, nil, nil
	return apart, nil
}

// take links a file and what belongs to it into the record's folder.
func (d *done) take(x delivery) error {
	r := *x.file
	dir, names := d.dir, d.files.names
	if x.apart {
		dir = filepath.Join(dir, unverifiedDir)
		if d.apart == nil {
			d.apart = newNamer()
		}
		names = d.apart
	}
	if err := os.MkdirAll(filepath.Join(dir, autopilotDir), 0o700); err != nil {
		return err
	}
	m := segment.File{Kind: r.Kind, Source: r.Source, Format: r.Format, Log: r.Log, ID: r.ID}
	r.Name = names.autopilot(&m, r.GoesOn)
	stem, end := r.Name[:len(r.Name)-len(path.Ext(r.Name))], path.Ext(r.Name)
	if r.HolesFile != "" {
		r.HolesFile = r.Name + ".holes.json"
	}
	if r.Salvaged != "" {
		r.Salvaged = stem + ".salvaged" + end
	}
	for _, pair := range [][2]string{{x.file.Name, r.Name}, {x.file.HolesFile, r.HolesFile}, {x.file.Salvaged, r.Salvaged}} {
		if pair[0] == "" {
			continue
		}
		if err := linkOrCopy(filepath.Join(x.dir, filepath.FromSlash(pair[0])), filepath.Join(dir, filepath.FromSlash(pair[1]))); err != nil {
			return err
		}
	}
	r.Of, r.From = "", x.from
	d.list(&r, x.apart)
	return nil
}

// list puts a file that came from elsewhere into the summary.
func (d *done) list(r *FileReport, apart bool) {
	s := d.summary
	d.changed = true
	if apart {
		for _, name := range []*string{&r.Name, &r.HolesFile, &r.Salvaged} {
			if *name != "" {
				*name = unverifiedDir + "/" + *name
			}
		}
		s.Missing = append(s.Missing, Missing{What: "proof of " + r.Name, Why: "what holds it in " + r.From + " could not be proved"})
	}
	s.Files = append(s.Files, r)
	s.missFile(r)
}

// rewrite puts flight.json in place anew.
func (d *done) rewrite() error {
	const name = ".flight.json.tmp"
	o := output{dir: d.dir}
	if err := o.json(name, d.summary); err != nil {
		return err
	}
	return os.Rename(filepath.Join(d.dir, name), filepath.Join(d.dir, "flight.json"))
}

// linkOrCopy gives a file a second name; where the medium has no links it is copied.
func linkOrCopy(from, to string) error {
	if err := os.Link(from, to); err == nil || errors.Is(err, os.ErrExist) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := create(filepath.Dir(to), filepath.Base(to))
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
