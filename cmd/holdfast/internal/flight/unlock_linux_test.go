package flight_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// desk makes somebody who may read a key group.
func desk(t *testing.T, streams string) (age.Identity, keys.Group) {
	t.Helper()
	secret, line, err := keys.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.ParseIdentity(secret)
	if err != nil {
		t.Fatal(err)
	}
	to, err := keys.ParseRecipients(strings.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	return id, keys.Group{Streams: streams, Recipients: to}
}

// grouped is a board with a flight of telemetry, an attempt, and media in two key groups.
func grouped(t *testing.T) (b *board, logs, media age.Identity) {
	t.Helper()
	logs, a := desk(t, "A")
	media, pv := desk(t, "PV")
	b = newBoard(t, a, pv)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	b.block(10, 0, segment.Meta{})
	b.line(attempt(1, nil))
	fsys, err := vault.NewOSFS(b.dir)
	b.check(err)
	m := b.v.NewMedia(fsys, nil)
	for i, stream := range []byte("AVVP") {
		data := content(stream)
		block := &segment.Block{Data: data, Stored: true, Meta: segment.Meta{File: &segment.File{ID: i + 1, Kind: kinds[stream], Source: "front",
			Format: "dat", Size: int64(len(data)), End: true}}}
		if stream != 'A' {
			b.check(m.Append(stream, block))
		} else if _, ok := b.v.PutFile(block); !ok {
			t.Fatal("a block was not taken")
		}
	}
	b.check(m.End())
	b.finish()
	b.check(b.v.Close())
	return b, logs, media
}

var kinds = map[byte]string{'A': segment.KindLog, 'V': segment.KindVideo, 'P': segment.KindPhoto}

// content is what a media segment of a stream holds.
func content(stream byte) []byte { return bytes.Repeat([]byte{stream}, 60_000) }

// verified returns what the public log says of the records.
func (b *board) verified(d vault.Device) func(vault.Device, string) *custody.RecordReport {
	b.t.Helper()
	sub, err := fs.Sub(os.DirFS(b.dir), d.Dir)
	b.check(err)
	rep, err := custody.Verify(sub, custody.Options{Device: d.ID, Readme: []byte(vault.Readme)})
	b.check(err)
	return func(_ vault.Device, record string) *custody.RecordReport {
		for _, r := range rep.Records {
			if r.Record == record {
				return r
			}
		}
		return nil
	}
}

// pieces takes the data of blocks.
type pieces struct{ data []byte }

func (p *pieces) Meta(*segment.Meta) error { return nil }
func (p *pieces) Data(data []byte, _ bool) error {
	p.data = append(p.data, data...)
	return nil
}
func (p *pieces) Noise(segment.NoiseRun) error { return nil }

// reads lists the streams of a record whose every segment opens with k to what was put in.
func (b *board) reads(r vault.Record, k flight.Keys) (letters string) {
	b.t.Helper()
	for _, s := range r.Segments {
		id := k.For(s.Stream)
		if id == nil {
			continue
		}
		sealed, err := os.ReadFile(filepath.Join(b.dir, filepath.FromSlash(r.Dir), s.File))
		b.check(err)
		plain, err := age.Decrypt(bytes.NewReader(sealed), id)
		b.check(err)
		blocks, err := io.ReadAll(plain)
		b.check(err)
		var got pieces
		dec, err := segment.NewDecoder(&got)
		b.check(err)
		b.check(dec.Feed(blocks))
		_, err = dec.End()
		b.check(err)
		if strings.IndexByte("VPA", s.Stream) >= 0 && !bytes.Equal(got.data, content(s.Stream)) {
			b.t.Errorf("%s opens to something else", s.File)
		}
		if !strings.Contains(letters, string(s.Stream)) {
			letters += string(s.Stream)
		}
	}
	return letters
}

// TestUnlockGroups: each identity opens exactly its streams, with the log and without it, and the
// summary names the others without calling anything damaged.
func TestUnlockGroups(t *testing.T) {
	b, logs, media := grouped(t)
	d, r := b.record()
	sizes := map[byte]flight.Sealed{}
	for _, s := range r.Segments {
		row := sizes[s.Stream]
		sizes[s.Stream] = flight.Sealed{Streams: string(s.Stream), Segments: row.Segments + 1, Bytes: row.Bytes + s.Size}
	}
	join := func(streams string) (sum flight.Sealed) {
		for _, s := range []byte(streams) {
			sum = flight.Sealed{Streams: streams, Segments: sum.Segments + sizes[s].Segments, Bytes: sum.Bytes + sizes[s].Bytes}
		}
		return sum
	}
	for _, tt := range []struct {
		name   string
		ids    []age.Identity
		reads  string
		others []flight.Sealed
		frames int64
	}{
		{"crash desk", []age.Identity{b.operator}, "TX", []flight.Sealed{join("VP"), join("A")}, 10},
		{"media desk", []age.Identity{media}, "VP", []flight.Sealed{join("TX"), join("A")}, 0},
		{"log desk", []age.Identity{logs}, "A", []flight.Sealed{join("TX"), join("VP")}, 0},
		{"two of them", []age.Identity{logs, media}, "VPA", []flight.Sealed{join("TX")}, 0},
		{"all", []age.Identity{logs, b.operator, media}, "TVPAX", nil, 10},
	} {
		for _, how := range []func(vault.Device, string) *custody.RecordReport{nil, b.verified(d)} {
			o := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(tt.ids...), Custody: how}
			k, err := o.Unlock(r)
			b.check(err)
			if got := b.reads(r, k); got != tt.reads {
				t.Errorf("%s opens %s, want %s", tt.name, got, tt.reads)
			}
			out := filepath.Join(t.TempDir(), "out")
			s, err := o.Open(d, r, out)
			b.check(err)
			if s.State != vault.StateClean || s.Frames != tt.frames || !reflect.DeepEqual(s.SealedToOthers, tt.others) {
				t.Errorf("%s: %s, %d frames, sealed to others %+v, want %+v", tt.name, s.State, s.Frames, s.SealedToOthers, tt.others)
			}
			if len(s.Missing) != len(tt.others) {
				t.Errorf("%s: missing %+v", tt.name, s.Missing)
			}
			if info, err := os.Stat(filepath.Join(out, "telemetry.tlog")); err != nil || (info.Size() > 0) != (tt.frames > 0) {
				t.Errorf("%s: telemetry.tlog: %v", tt.name, err)
			}
			var file flight.Summary
			data, err := os.ReadFile(filepath.Join(out, "flight.json"))
			b.check(err)
			b.check(json.Unmarshal(data, &file))
			if !reflect.DeepEqual(file.SealedToOthers, tt.others) {
				t.Errorf("%s: flight.json says %+v", tt.name, file.SealedToOthers)
			}
		}
	}
	stranger, _ := desk(t, "V")
	if _, err := (&flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(stranger)}).Unlock(r); !errors.Is(err, open.ErrNoIdentity) {
		t.Errorf("a stranger: %v", err)
	}
}

// TestUnlockBroken: a wrapped key that is damaged or gone is no lock of somebody else's, and the
// log's copy opens all the same.
func TestUnlockBroken(t *testing.T) {
	b, _, media := grouped(t)
	_, r := b.record()
	name := filepath.Join(b.dir, filepath.FromSlash(path.Join(r.Dir, "flight.PV.key.age")))
	sealed, err := os.ReadFile(name)
	b.check(err)
	for what, damage := range map[string]func(){
		"cut":  func() { b.check(os.WriteFile(name, sealed[:100], 0o600)) },
		"gone": func() { b.check(os.Remove(name)) },
	} {
		damage()
		d, r := b.record()
		signed := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(media), Custody: b.verified(d)}
		s, err := signed.Open(d, r, filepath.Join(t.TempDir(), "out"))
		if err != nil || len(s.SealedToOthers) != 2 || s.SealedToOthers[0].Streams != "TX" {
			t.Errorf("%s, with the log: %v", what, err)
		}
		alone := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(b.operator)}
		s, err = alone.Open(d, r, filepath.Join(t.TempDir(), "out"))
		b.check(err)
		if s.State != vault.StateDamaged || s.Frames != 10 || len(s.SealedToOthers) != 1 || s.SealedToOthers[0].Streams != "A" {
			t.Errorf("%s, without it: %s, %d frames, %+v", what, s.State, s.Frames, s.SealedToOthers)
		}
		if _, err := (&flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(media)}).Unlock(r); err == nil || what == "cut" && !errors.Is(err, open.ErrDamaged) {
			t.Errorf("%s, without it, for the media desk: %v", what, err)
		}
		b.check(os.WriteFile(name, sealed, 0o600))
	}
}

// TestUnlockForeignGroup: a group that leaf K does not name changes nothing, whoever made it. Of a
// record that no log names, the first group by name that has a stream counts.
func TestUnlockForeignGroup(t *testing.T) {
	b, logs, media := grouped(t)
	stranger, g := desk(t, "AV")
	k, err := keys.NewFlightKey(g.Recipients, g)
	b.check(err)
	_, r := b.record()
	b.check(os.WriteFile(filepath.Join(b.dir, filepath.FromSlash(r.Dir), "flight.AV.key.age"), k.Groups[0].Files[0].Data, 0o600))
	d, r := b.record()
	for name, tt := range map[string]struct {
		id    age.Identity
		reads string
	}{"media desk": {media, "VP"}, "log desk": {logs, "A"}} {
		o := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(tt.id), Custody: b.verified(d)}
		s, err := o.Open(d, r, filepath.Join(t.TempDir(), "out"))
		b.check(err)
		for _, row := range s.SealedToOthers {
			if strings.ContainsAny(row.Streams, tt.reads) {
				t.Errorf("%s: %+v", name, s.SealedToOthers)
			}
		}
		if s.State != vault.StateTampered { // V14
			t.Errorf("%s: %s", name, s.State)
		}
	}
	o := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(logs)}
	if k, err := o.Unlock(r); err != nil || k.For('A') == nil || k.For('V') != nil {
		t.Errorf("without the log: %v", err)
	}
	o.Keys = open.New(stranger)
	if k, err := o.Unlock(r); err != nil || k.For('A') != nil || k.For('V') == nil || k.For('P') != nil || k.For('T') != nil {
		t.Errorf("the stranger, without the log: %v", err)
	}
}

// TestPeekOthers: a listing tells times only to those who may read telemetry.
func TestPeekOthers(t *testing.T) {
	b, _, media := grouped(t)
	_, r := b.record()
	times, err := (&flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(media)}).Peek(r)
	b.check(err)
	if times.Start != "" || times.Clock.Source != "" || len(times.SealedToOthers) != 2 {
		t.Errorf("%+v", times)
	}
	times, err = (&flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(b.operator)}).Peek(r)
	b.check(err)
	if times.Start == "" || len(times.SealedToOthers) != 2 {
		t.Errorf("%+v", times)
	}
}
