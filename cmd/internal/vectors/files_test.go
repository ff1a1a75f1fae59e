package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// plaintext reads streams A, V and P, and what was sent, with our packages: the segments in place,
// as far as they are.
type plaintext struct {
	record string
	name   string
	meta   *segment.Meta
	seen   map[string]bool
	pieces []piece
	sent   [][]byte
}

func (p *plaintext) Meta(m *segment.Meta) error {
	p.meta = m
	return nil
}

func (p *plaintext) Data(data []byte, part bool) error {
	at := p.record + p.name[:1] + string(rune(p.meta.Block))
	if f := p.meta.File; f != nil && !p.seen[at] {
		p.seen[at] = true
		p.pieces = append(p.pieces, piece{p.record, p.name[0], f.Source, f.ID, f.Offset, bytes.Clone(data)})
	}
	return nil
}

func (p *plaintext) Noise(segment.NoiseRun) error { return nil }

func (p *plaintext) Sent(r segment.SentRun) error {
	p.sent = append(p.sent, segment.AppendSent(nil, r))
	return nil
}

// readPlaintext opens what verify says is in place.
func readPlaintext(t testing.TB, v *Vector, dir string) *plaintext {
	t.Helper()
	devices, err := filepath.Glob(filepath.Join(dir, "????????"))
	if err != nil || len(devices) != 1 {
		t.Fatal(devices, err)
	}
	fsys := os.DirFS(devices[0])
	rep, err := custody.Verify(fsys, custody.Options{Device: filepath.Base(devices[0]), Readme: []byte(vault.Readme)})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := keys.ParseIdentities(strings.NewReader(strings.Join(v.Identities, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	p := &plaintext{seen: map[string]bool{}}
	for _, r := range rep.Records {
		var wrapped [][]byte
		names, _ := filepath.Glob(filepath.Join(devices[0], r.Record, "flight.key*.age"))
		for _, n := range names {
			data, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			wrapped = append(wrapped, data)
		}
		id, err := open.New(ids...).Flight(wrapped...)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Segments {
			if s.PlaceBytes == 0 || s.Ignored {
				continue
			}
			data, err := os.ReadFile(filepath.Join(devices[0], r.Record, s.File))
			if err != nil {
				t.Fatal(err)
			}
			p.record, p.name = r.Record, s.Name
			p.read(t, data[:s.PlaceBytes], id)
		}
	}
	return p
}

func (p *plaintext) read(t testing.TB, data []byte, id age.Identity) {
	t.Helper()
	s, err := open.Salvage(bytes.NewReader(data), int64(len(data)), id)
	if err != nil {
		t.Fatal(err)
	}
	d, err := segment.NewDecoder(p)
	if err != nil {
		t.Fatal(err)
	}
	for chunk, err := s.Next(); err != io.EOF; chunk, err = s.Next() {
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Feed(chunk.Plain); err != nil {
			t.Fatal(err)
		}
	}
	if stats, err := d.End(); err != nil || stats.BadFrames > 0 || stats.CutFrames > 0 {
		t.Errorf("%s/%s: %+v, %v", p.record, p.name, stats, err)
	}
}

// TestFiles holds what our packages and the second reader find in streams A, V and P, and in frames
// of what was sent, against the header of each vector.
func TestFiles(t *testing.T) {
	rs := readers(t)
	files, sent := 0, 0
	forEachVector(t, func(t *testing.T, v *Vector) {
		if v.Files == "" && v.Sent == "" {
			return
		}
		dir, _, identities := v.unpackTo(t, t.TempDir())
		p := readPlaintext(t, v, dir)
		if v.Files != "" {
			files++
			if got := fileLines(p.pieces); framesHash([][]byte{got}) != v.Files {
				t.Errorf("our packages: the files are not those expected:\n%s", got)
			}
		}
		if v.Sent != "" {
			sent++
			if framesHash(p.sent) != v.Sent {
				t.Errorf("our packages: %d frames were sent, not those expected", len(p.sent))
			}
		}
		if len(rs) < 2 {
			return
		}
		out := filepath.Join(t.TempDir(), "out")
		rs[1].call(t, append([]string{"open", dir, "-o", out}, identities...)...)
		for pattern, want := range map[string]string{"files.txt": v.Files, "sent.bin": v.Sent} {
			var got [][]byte
			for _, name := range opened(t, out, "????????/[FG]????????/"+pattern) {
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, data)
			}
			if want != "" && framesHash(got) != want {
				t.Errorf("second reader: %s is not what is expected:\n%s", pattern, bytes.Join(got, nil))
			}
		}
	})
	if files < 10 || sent == 0 {
		t.Errorf("%d vectors with files, %d with what was sent", files, sent)
	}
}
