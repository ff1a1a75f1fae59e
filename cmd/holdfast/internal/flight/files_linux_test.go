package flight_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/crypto/custody"
	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// cameras gives the board something that writes streams V and P.
func (b *board) cameras() *vault.Media {
	b.t.Helper()
	fsys, err := vault.NewOSFS(b.dir)
	b.check(err)
	return b.v.NewMedia(fsys, nil)
}

// put gives the vault a piece of a file of the autopilot and makes it durable.
func (b *board) put(f segment.File, data []byte) {
	b.t.Helper()
	if _, ok := b.v.PutFile(&segment.Block{Data: data, Meta: segment.Meta{File: &f}}); !ok {
		b.t.Fatal("a piece was not taken")
	}
	b.clock += time.Second
	b.finish()
}

func (b *board) media(m *vault.Media, letter byte, f segment.File, data []byte) {
	b.t.Helper()
	b.check(m.Append(letter, &segment.Block{Data: data, Meta: segment.Meta{File: &f}}))
}

func randomContent(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func read(t testing.TB, parts ...string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// report returns what flight.json, as it is on disk, says of a file.
func report(t testing.TB, out, name string) flight.FileReport {
	t.Helper()
	var s flight.Summary
	if err := json.Unmarshal(read(t, out, "flight.json"), &s); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Files {
		if r.Name == name {
			return *r
		}
	}
	var names []string
	for _, r := range s.Files {
		names = append(names, r.Name)
	}
	t.Fatalf("flight.json has no %q but %q", name, names)
	return flight.FileReport{}
}

// TestLogWithHole: pieces out of order and twice; what never came is zeros and told exactly.
func TestLogWithHole(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	log := randomContent(1, 100_000)
	f := segment.File{ID: 1, Kind: segment.KindLog, Source: "pull", Format: "bin", Name: "../../etc/passwd", Size: 100_000, Log: 12}
	piece := func(from, to int64) { f.Offset = from; b.put(f, log[from:to]) }
	piece(60_000, 100_000)
	piece(0, 20_000)
	piece(10_000, 30_000)
	piece(10_000, 30_000)
	f.Offset, f.End, f.Lost, f.Why = 100_000, true, []segment.Range{{From: 30_000, To: 60_000}}, "the autopilot did not answer"
	b.put(f, nil)
	b.check(b.v.Close())
	s, out := b.open()
	want := bytes.Clone(log)
	clear(want[30_000:60_000])
	if got := read(t, out, "autopilot", "00000012-pull.bin"); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, not those that came", len(got))
	}
	r := report(t, out, "autopilot/00000012-pull.bin")
	if r.Complete || r.Bytes != 70_000 || r.LostBytes != 30_000 || r.Size != 100_000 || !slices.Equal(r.Holes, [][2]int64{{30_000, 60_000}}) || r.Why != "the autopilot did not answer" || r.SHA256 != "" || r.DifferentBytes != 0 {
		t.Errorf("%+v", r)
	}
	if side := string(read(t, out, "autopilot", "00000012-pull.bin.holes.json")); side != `{"bytes":70000,"file":"00000012-pull.bin","holes":[[30000,60000]],"size":100000}`+"\n" {
		t.Errorf("%s", side)
	}
	if s.State != vault.StateClean || !slices.ContainsFunc(s.Missing, func(m flight.Missing) bool {
		return m.What == "30000 bytes of autopilot/00000012-pull.bin, in 1 holes" && m.Why == r.Why
	}) {
		t.Errorf("%s %+v", s.State, s.Missing)
	}
	if st := s.Streams["A"]; st == nil || st.Files != 1 || st.Holes != 1 || st.LostBytes != 30_000 || st.Segments != 1 || st.Blocks != 6 || st.MissingBlocks != 0 {
		t.Errorf("%+v", st)
	}
	modes(t, out)
}

// modes checks that nobody else can read what was opened, and that nothing is a link.
func modes(t testing.TB, out string) {
	t.Helper()
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if want := map[bool]fs.FileMode{true: fs.ModeDir | 0o700, false: 0o600}[d.IsDir()]; info.Mode() != want {
			t.Errorf("%s: %v", path, info.Mode())
		}
		if strings.HasPrefix(d.Name(), ".") {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestAutopilotFiles: parameters, missions and reports are counted; a whole file is compared with
// what the board says of it.
func TestAutopilotFiles(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	texts := map[string][]byte{}
	id := 0
	put := func(kind, format, want, sum string) {
		id++
		data := randomContent(uint64(id), 500+id)
		own := sha256.Sum256(data)
		if sum == "own" {
			sum = hex.EncodeToString(own[:])
		}
		b.put(segment.File{ID: id, Kind: kind, Source: "autopilot", Format: format, Size: int64(len(data)), SHA256: sum, End: true}, data)
		texts[want] = data
	}
	put(segment.KindParams, "param", "params-1.param", "own")
	put(segment.KindParams, "PARAM/..", "params-2.param", strings.Repeat("0", 64))
	put(segment.KindMission, "", "mission-1.waypoints", "own")
	put(segment.KindMission, "plan", "mission-2.plan", "")
	put(segment.KindAutopilot, "json", "autopilot-1.json", "own")
	put(segment.KindReport, "json", "crosscheck-1.json", "own")
	put("../kind", "a.b", "other-1.dat", "own")
	put(segment.KindLog, "ulg", "00000000-other.ulg", "own")
	put(segment.KindLog, "ulg", "00000000-other-2.ulg", "own")
	b.check(b.v.Close())
	s, out := b.open()
	for name, want := range texts {
		if got := read(t, out, "autopilot", name); !bytes.Equal(got, want) {
			t.Errorf("%s differs", name)
		}
		r := report(t, out, "autopilot/"+name)
		ok := r.SHA256OK
		switch {
		case name == "params-2.param" && (ok == nil || *ok):
			t.Errorf("a wrong hash: %+v", r)
		case name == "mission-2.plan" && ok != nil:
			t.Errorf("no hash: %+v", r)
		case name != "params-2.param" && name != "mission-2.plan" && (ok == nil || !*ok):
			t.Errorf("a right hash: %+v", r)
		}
		if own := sha256.Sum256(want); r.SHA256 != hex.EncodeToString(own[:]) || !r.Complete {
			t.Errorf("%+v", r)
		}
	}
	if len(s.Missing) != 1 || s.Missing[0].What != "certainty about autopilot/params-2.param" {
		t.Errorf("%+v", s.Missing)
	}
	modes(t, out)
}

// TestVideo: the pieces of two cameras at once, over several segments, and what was lost.
func TestVideo(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	m := b.cameras()
	front, belly := randomContent(1, 3<<20), randomContent(2, 1<<20)
	const step = 256 << 10
	for at := 0; at < len(front); at += step {
		b.media(m, 'V', segment.File{ID: 1, Kind: segment.KindVideo, Source: "front", Format: "h264", Offset: int64(at)}, front[at:at+step])
		if at < len(belly) {
			f := segment.File{ID: 2, Kind: segment.KindVideo, Source: "Belly/../", Format: "mp4", Offset: int64(at), BeganUsec: b.clock.Microseconds()}
			if at == step {
				f.LostBytes, f.Why = 4711, "the medium was too slow"
			}
			b.media(m, 'V', f, belly[at:at+step])
		}
		b.clock += 3 * time.Second
		b.finish()
	}
	b.media(m, 'V', segment.File{ID: 1, Kind: segment.KindVideo, Source: "front", Format: "h264", Offset: int64(len(front)), End: true}, nil)
	b.check(m.End())
	b.finish()
	b.check(b.v.Close())
	s, out := b.open()
	if got := read(t, out, "media", "front", "V000001.h264"); !bytes.Equal(got, front) {
		t.Errorf("front: %d bytes differ", len(got))
	}
	if got := read(t, out, "media", "camera-1", "V000002.mp4"); !bytes.Equal(got, belly) {
		t.Errorf("belly: %d bytes differ", len(got))
	}
	if r := report(t, out, "media/front/V000001.h264"); !r.Complete || r.Size != 3<<20 {
		t.Errorf("%+v", r)
	}
	if r := report(t, out, "media/camera-1/V000002.mp4"); r.Complete || r.LostBytes != 4711 || r.Why != "the medium was too slow; the record ends before the file does" || r.Source != "Belly/../" || len(r.Holes) != 0 {
		t.Errorf("%+v", r)
	}
	if st := s.Streams["V"]; st.Segments < 3 || st.LostBytes != 4711 || st.Files != 2 || s.State != vault.StateClean {
		t.Errorf("%s %+v", s.State, st)
	}
}

// TestVideoOverRecords: each record has its own part, which begins with its own first byte.
func TestVideoOverRecords(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	b.block(1, 0, segment.Meta{})
	m := b.cameras()
	whole := randomContent(3, 600_000)
	f := segment.File{ID: 1, Kind: segment.KindVideo, Source: "front", Format: "ts", BeganUsec: b.clock.Microseconds()}
	b.media(m, 'V', f, whole[:200_000])
	b.check(m.End())
	b.finish()
	b.clock += time.Minute
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	b.block(1, 0, segment.Meta{})
	f.Offset = 200_000
	b.media(m, 'V', f, whole[200_000:400_000])
	f.Offset, f.End = 400_000, true
	b.media(m, 'V', f, whole[400_000:])
	b.check(m.End())
	b.finish()
	b.check(b.v.Close())
	_, out := b.open()
	if got := read(t, out, "media", "front", "V000001-continued.ts"); !bytes.Equal(got, whole[200_000:]) {
		t.Errorf("%d bytes differ", len(got))
	}
	if r := report(t, out, "media/front/V000001-continued.ts"); !r.GoesOn || r.StartsAt != 200_000 || !r.Complete || r.Bytes != 400_000 || r.LostBytes != 0 {
		t.Errorf("%+v", r)
	}
}

// openAll opens every record of the board with one opener, as the command does.
func (b *board) openAll() (out map[string]string) {
	b.t.Helper()
	ds, err := vault.FindDevices(os.DirFS(b.dir), "x")
	b.check(err)
	b.check(ds[0].Read(os.DirFS(b.dir), false))
	o := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(b.operator)}
	out = map[string]string{}
	dir := b.t.TempDir()
	for _, r := range ds[0].Records {
		out[r.ID.String()] = filepath.Join(dir, r.ID.String())
		_, err := o.Open(ds[0], r, out[r.ID.String()])
		b.check(err)
	}
	_, err = o.Deliver()
	b.check(err)
	return out
}

// TestLogPulledLater: a log that lies in the ground record is put into its flight's folder, and a
// log that was streamed over the end of the flight is whole there.
func TestLogPulledLater(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	b.block(1, 0, segment.Meta{})
	streamed, pulled := randomContent(5, 50_000), randomContent(6, 40_000)
	sum := sha256.Sum256(streamed)
	stream := segment.File{ID: 1, Kind: segment.KindLog, Source: "stream", Format: "bin", BeganUsec: b.clock.Microseconds() + 1}
	b.put(stream, streamed[:20_000])
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	b.clock += time.Minute
	b.block(1, 0, segment.Meta{})
	stream.Offset = 20_000
	b.put(stream, streamed[20_000:])
	stream.Offset, stream.Size, stream.End, stream.SHA256 = 50_000, 50_000, true, hex.EncodeToString(sum[:])
	b.put(stream, nil)
	b.put(segment.File{ID: 2, Kind: segment.KindLog, Source: "pull", Format: "bin", Log: 7, Of: "F00000001", Size: 40_000, End: true, BeganUsec: b.clock.Microseconds()}, pulled)
	b.put(segment.File{ID: 3, Kind: segment.KindLog, Source: "pull", Format: "bin", Log: 6, Of: "F00000077", Size: 40_000, End: true}, pulled)
	b.check(b.v.Close())
	out := b.openAll()
	f, g := out["F00000001"], out["G00000002"]
	if got := read(t, f, "autopilot", "00000000-stream.bin"); !bytes.Equal(got, streamed) {
		t.Errorf("streamed: %d bytes, and not the log", len(got))
	}
	if r := report(t, f, "autopilot/00000000-stream.bin"); !r.Complete || r.SHA256OK == nil || !*r.SHA256OK || !slices.Equal(r.JoinedFrom, []string{"G00000002"}) || r.LostBytes != 0 {
		t.Errorf("%+v", r)
	}
	if r := report(t, g, "autopilot/00000000-stream-continued.bin"); r.JoinedIn != "F00000001" || r.StartsAt != 20_000 || len(r.Holes) != 0 {
		t.Errorf("%+v", r)
	}
	for _, dir := range []string{f, g} {
		if got := read(t, dir, "autopilot", "00000007-pull.bin"); !bytes.Equal(got, pulled) {
			t.Errorf("pulled, in %s: %d bytes, and not the log", dir, len(got))
		}
		if bytes.Contains(read(t, dir, "flight.json"), []byte("00000000-stream.bin, in")) {
			t.Error("what was put together is said to be missing")
		}
		modes(t, dir)
	}
	if r := report(t, f, "autopilot/00000007-pull.bin"); r.From != "G00000002" || !r.Complete || r.Log != 7 {
		t.Errorf("%+v", r)
	}
	if r := report(t, g, "autopilot/00000007-pull.bin"); r.Of != "F00000001" {
		t.Errorf("%+v", r)
	}
	if names, _ := filepath.Glob(filepath.Join(f, "autopilot", "*")); len(names) != 2 {
		t.Errorf("%q", names)
	}
}

// TestLogPullBeganBefore: a log whose pull began before the flight that it is about is whole in that
// flight's folder.
func TestLogPullBeganBefore(t *testing.T) {
	b := newBoard(t)
	log := randomContent(6, 50_000)
	sum := sha256.Sum256(log)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	b.block(1, 0, segment.Meta{})
	pull := segment.File{ID: 1, Kind: segment.KindLog, Source: "pull", Format: "ulg", Size: 30_000, BeganUsec: b.clock.Microseconds() + 1}
	b.put(pull, log[:20_000])
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	b.clock += time.Minute
	b.block(1, 0, segment.Meta{})
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	b.clock += time.Minute
	b.block(1, 0, segment.Meta{})
	pull.Offset = 20_000
	b.put(pull, log[20_000:30_000]) // handed over before the list was asked for
	pull.Offset, pull.Size, pull.Of = 30_000, 50_000, "F00000002"
	b.put(pull, log[30_000:])
	pull.Offset, pull.End, pull.SHA256 = 50_000, true, hex.EncodeToString(sum[:])
	b.put(pull, nil)
	b.check(b.v.Close())
	out := b.openAll()
	for _, record := range []string{"G00000001", "F00000002"} {
		if got := read(t, out[record], "autopilot", "00000000-pull.ulg"); !bytes.Equal(got, log) {
			t.Errorf("%s: %d bytes, and not the log", record, len(got))
		}
	}
	if r := report(t, out["F00000002"], "autopilot/00000000-pull.ulg"); r.From != "G00000001" || !r.Complete || r.SHA256OK == nil || !*r.SHA256OK {
		t.Errorf("%+v", r)
	}
	if r := report(t, out["G00000001"], "autopilot/00000000-pull.ulg"); r.Of != "F00000002" {
		t.Errorf("%+v", r)
	}
}

// TestFilesApart: what is tampered goes below unverified/ only, for the record that it is about too.
func TestFilesApart(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	b.block(1, 0, segment.Meta{})
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	b.block(1, 0, segment.Meta{})
	data := randomContent(1, 5000)
	b.put(segment.File{ID: 1, Kind: segment.KindLog, Source: "pull", Format: "bin", Log: 7, Of: "F00000001", End: true}, data)
	b.check(b.v.Close())
	ds, err := vault.FindDevices(os.DirFS(b.dir), "x")
	b.check(err)
	b.check(ds[0].Read(os.DirFS(b.dir), false))
	o := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(b.operator), Custody: func(_ vault.Device, record string) *custody.RecordReport {
		own := &custody.RecordReport{Record: record}
		for _, r := range ds[0].Records {
			for _, s := range r.Segments {
				g := custody.SegmentReport{Name: s.File[:7], File: s.File, State: custody.VerdictClean, Bytes: s.Size, PlaceBytes: s.Size}
				if s.Stream == 'A' {
					g.State, g.PlaceBytes = custody.VerdictTampered, 0
				}
				if r.ID.String() == record {
					own.Segments = append(own.Segments, g)
				}
			}
		}
		return own
	}}
	dir := t.TempDir()
	for _, r := range ds[0].Records {
		_, err := o.Open(ds[0], r, filepath.Join(dir, r.ID.String()))
		b.check(err)
	}
	apart, err := o.Deliver()
	b.check(err)
	var places []string
	b.check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".bin") && strings.Contains(path, "pull") {
			places = append(places, strings.TrimPrefix(path, dir))
			if !bytes.Equal(read(t, path), data) {
				t.Errorf("%s differs", path)
			}
		}
		return err
	}))
	want := []string{"/F00000001/unverified/autopilot/00000007-pull.bin", "/G00000002/unverified/autopilot/00000007-pull.bin"}
	if apart != 1 || !slices.Equal(places, want) {
		t.Errorf("%d apart, %q", apart, places)
	}
	if r := report(t, filepath.Join(dir, "F00000001"), "unverified/autopilot/00000007-pull.bin"); r.From != "G00000002" {
		t.Errorf("%+v", r)
	}
}
