package flight

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/storage/segment"
)

// feed is one block of a file.
type feed struct {
	from, n int64
	file    segment.File // but for its offset
}

func pattern(from, n int64) []byte {
	p := make([]byte, n)
	for i := range p {
		at := from + int64(i)
		p[i] = byte(at*7+at>>8) | 1
	}
	return p
}

// TestAssemble: pieces as they may come.
func TestAssemble(t *testing.T) {
	type want struct {
		size, bytes, lost, refused int64
		holes                      [][2]int64
		complete                   bool
	}
	end := segment.File{End: true}
	for name, c := range map[string]struct {
		feeds []feed
		want  want
	}{
		"in order":               {[]feed{{0, 10, end}, {10, 10, end}}, want{20, 20, 0, 0, nil, true}},
		"backwards":              {[]feed{{20, 10, end}, {10, 10, end}, {0, 10, end}}, want{30, 30, 0, 0, nil, true}},
		"again and over":         {[]feed{{0, 10, end}, {5, 10, end}, {0, 10, end}, {3, 4, end}}, want{15, 15, 0, 0, nil, true}},
		"over several":           {[]feed{{0, 4, end}, {10, 4, end}, {20, 4, end}, {2, 20, end}}, want{24, 24, 0, 0, nil, true}},
		"a hole":                 {[]feed{{0, 10, end}, {15, 5, end}}, want{20, 15, 5, 0, [][2]int64{{10, 15}}, false}},
		"a hole at the start":    {[]feed{{5, 5, end}}, want{10, 5, 5, 0, [][2]int64{{0, 5}}, false}},
		"a hole at the end":      {[]feed{{0, 5, segment.File{End: true, Size: 12}}}, want{12, 5, 7, 0, [][2]int64{{5, 12}}, false}},
		"a hole as it is told":   {[]feed{{0, 5, segment.File{End: true, Lost: []segment.Range{{From: 5, To: 9}}}}}, want{9, 5, 4, 0, [][2]int64{{5, 9}}, false}},
		"told, and it came":      {[]feed{{0, 5, segment.File{Lost: []segment.Range{{From: 2, To: 9}}}}, {5, 4, end}}, want{9, 9, 0, 0, nil, true}},
		"no end":                 {[]feed{{0, 5, segment.File{}}}, want{5, 5, 0, 0, nil, false}},
		"empty":                  {[]feed{{0, 0, end}}, want{0, 0, 0, 0, nil, true}},
		"lost and not counted":   {[]feed{{0, 5, segment.File{LostBytes: 100, End: true}}}, want{5, 5, 100, 0, nil, false}},
		"a monster's piece":      {[]feed{{0, 5, end}, {1 << 60, 5, end}, {-5, 5, end}, {maxFile - 4, 5, end}}, want{5, 5, 0, 15, nil, false}},
		"a monster's size":       {[]feed{{0, 5, segment.File{Size: 1 << 62, End: true}}}, want{maxFile, 5, maxFile - 5, 0, [][2]int64{{5, maxFile}}, false}},
		"a monster's loss":       {[]feed{{0, 5, segment.File{LostBytes: 1 << 62, Lost: []segment.Range{{From: -1 << 60, To: 1 << 60}}, End: true}}}, want{maxFile, 5, maxFile - 5 + 1<<60, 0, [][2]int64{{5, maxFile}}, false}},
		"the last byte there is": {[]feed{{maxFile - 1, 1, end}, {0, 1, end}}, want{maxFile, 2, maxFile - 2, 0, [][2]int64{{1, maxFile - 1}}, false}},
	} {
		s := newFiles(t.TempDir())
		for _, f := range c.feeds {
			m := f.file
			m.ID, m.Kind, m.Offset = 1, segment.KindLog, f.from
			if err := s.told('A', &m); err != nil {
				t.Fatal(err)
			}
			if err := s.piece('A', &m, pattern(f.from, f.n)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		reports, err := s.finish(times{})
		if err != nil || len(reports) != 1 {
			t.Fatalf("%s: %v %v", name, reports, err)
		}
		r := reports[0]
		got := want{r.Size, r.Bytes, r.LostBytes, r.RefusedBytes, r.Holes, r.Complete}
		if len(got.holes) == 0 {
			got.holes = nil
		}
		if got.size != c.want.size || got.bytes != c.want.bytes || got.lost != c.want.lost || got.refused != c.want.refused || got.complete != c.want.complete || !slices.Equal(got.holes, c.want.holes) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if r.DifferentBytes != 0 {
			t.Errorf("%s: %d bytes differ", name, r.DifferentBytes)
		}
		written(t, name, filepath.Join(s.dir, filepath.FromSlash(r.Name)), s.list[0].had)
	}
}

// written compares what is on the medium with what came: zeros in holes, nothing behind.
func written(t *testing.T, name, file string, had spans) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != had.end() {
		t.Errorf("%s: %d bytes on the medium, want %d (%v)", name, info.Size(), had.end(), err)
	}
	for _, r := range had {
		p := make([]byte, r.To-r.From)
		if _, err := f.ReadAt(p, r.From); err != nil || !bytes.Equal(p, pattern(r.From, r.To-r.From)) {
			t.Errorf("%s: bytes %d to %d are others (%v)", name, r.From, r.To, err)
		}
	}
	for _, r := range had.missing(0, min(had.end(), 1<<20)) {
		p := make([]byte, min(r.To, 1<<20)-r.From)
		if _, err := f.ReadAt(p, r.From); err != nil || !bytes.Equal(p, make([]byte, len(p))) {
			t.Errorf("%s: hole %d to %d is not empty (%v)", name, r.From, r.To, err)
		}
	}
}

// TestDifferentPieces: the same place with other bytes is told, and the first stand.
func TestDifferentPieces(t *testing.T) {
	s := newFiles(t.TempDir())
	m := segment.File{ID: 1, Kind: segment.KindLog, Log: 3, Source: "pull", Format: "bin", End: true}
	for _, p := range []string{"abcd", "abXYef"} {
		if err := s.told('A', &m); err != nil {
			t.Fatal(err)
		}
		if err := s.piece('A', &m, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	reports, err := s.finish(times{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(s.dir, "autopilot", "00000003-pull.bin"))
	if err != nil || string(got) != "abcdef" || reports[0].DifferentBytes != 2 || !strings.Contains(reports[0].Why, "differ") {
		t.Errorf("%q %v %+v", got, err, reports[0])
	}
}

// TestManyFiles: more than are held open, each piece to its own; beyond the limit none.
func TestManyFiles(t *testing.T) {
	s := newFiles(t.TempDir())
	const n = 3 * maxOpen
	for round := range int64(3) {
		for id := 1; id <= n; id++ {
			m := segment.File{ID: id, Kind: segment.KindPhoto, Source: "cam", Format: "raw", Offset: round, End: round == 2, Photo: &segment.Photo{Index: id}}
			if err := s.told('P', &m); err != nil {
				t.Fatal(err)
			}
			if err := s.piece('P', &m, []byte{byte(id)}); err != nil {
				t.Fatal(err)
			}
			if len(s.open) > maxOpen {
				t.Fatalf("%d files are open", len(s.open))
			}
		}
	}
	for _, id := range []int{0, -1, maxID + 1} {
		if err := s.piece('P', &segment.File{ID: id}, []byte("abc")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.finish(times{}); err != nil || s.refused != 9 {
		t.Fatal(err, s.refused)
	}
	for _, id := range []string{"1", "50", "96"} {
		name := filepath.Join(s.dir, "media", "cam", "P0000"+strings.Repeat("0", 2-len(id))+id+".raw")
		if p, err := os.ReadFile(name); err != nil || len(p) != 3 {
			t.Errorf("%s: %q %v", name, p, err)
		}
	}
}

// TestNoLinkIsFollowed: what is in the place of a file or folder is not written through.
func TestNoLinkIsFollowed(t *testing.T) {
	for _, link := range []string{"autopilot", "autopilot/params-1.param"} {
		dir, away := t.TempDir(), t.TempDir()
		target := away
		if strings.Contains(link, "/") {
			target = filepath.Join(away, "victim")
			if err := os.Mkdir(filepath.Join(dir, "autopilot"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip("no links here")
		}
		s := newFiles(dir)
		if err := s.piece('A', &segment.File{ID: 1, Kind: segment.KindParams}, []byte("abc")); err == nil {
			t.Errorf("%s: written", link)
		}
		if left, _ := os.ReadDir(away); len(left) != 0 {
			t.Errorf("%s: %v", link, left)
		}
		_ = s.close()
	}
	dir := t.TempDir()
	inside := filepath.Join(dir, "telemetry.tlog")
	if err := errors.Join(os.WriteFile(inside, []byte("frames"), 0o600), os.Mkdir(filepath.Join(dir, "autopilot"), 0o700),
		os.Symlink("../telemetry.tlog", filepath.Join(dir, "autopilot", "params-1.param"))); err != nil {
		t.Fatal(err)
	}
	s := newFiles(dir)
	err := s.piece('A', &segment.File{ID: 1, Kind: segment.KindParams}, []byte("abc"))
	if p, _ := os.ReadFile(inside); err == nil || string(p) != "frames" {
		t.Errorf("written through a link inside: %q %v", p, err)
	}
	_ = s.close()
}

// TestNames: names are made of counters and short lists.
func TestNames(t *testing.T) {
	n := newNamer()
	for _, c := range []struct {
		letter byte
		file   segment.File
		goesOn bool
		want   string
	}{
		{'A', segment.File{Kind: "log", Source: "stream", Format: "bin", Log: 12}, false, "autopilot/00000012-stream.bin"},
		{'A', segment.File{Kind: "log", Source: "stream", Format: "bin", Log: 12}, true, "autopilot/00000012-stream-continued.bin"},
		{'A', segment.File{Kind: "log", Source: "stream", Format: "bin", Log: 12}, false, "autopilot/00000012-stream-2.bin"},
		{'A', segment.File{Kind: "log", Source: "../x", Format: "b/n", Log: -1}, false, "autopilot/00000000-other.dat"},
		{'V', segment.File{ID: 7, Source: "front_2", Format: "h264"}, false, "media/front_2/V000007.h264"},
		{'V', segment.File{ID: 7, Source: "", Format: ""}, false, "media/camera-1/V000007.dat"},
		{'V', segment.File{ID: 8, Source: "con", Format: "ts"}, false, "media/camera-2/V000008.ts"},
		{'V', segment.File{ID: 9, Source: "camera-1", Format: "ts"}, false, "media/camera-3/V000009.ts"},
		{'V', segment.File{ID: 9, Source: "Front", Format: "ts"}, false, "media/camera-4/V000009.ts"},
		{'V', segment.File{ID: 9, Source: "..", Format: "ts"}, false, "media/camera-5/V000009.ts"},
		{'P', segment.File{ID: 9, Source: "x", Format: "jpg", Photo: &segment.Photo{Index: 1234567}}, false, "media/x/P1234567.jpg"},
		{'P', segment.File{ID: 9, Source: "x", Format: "JPG", Photo: &segment.Photo{Index: -1}}, false, "media/x/PN000009.dat"},
		{'P', segment.File{ID: 9, Source: "x", Format: "json"}, false, "media/x/PN000009-2.dat"},
	} {
		if got := n.file(c.letter, &c.file, c.goesOn); got != c.want {
			t.Errorf("%+v: %s, want %s", c.file, got, c.want)
		}
	}
}

var goodName = regexp.MustCompile(`^(autopilot/(\d{8,9}-(stream|pull|ftp|other)|(params|mission|autopilot|crosscheck|other)-\d+)(-continued)?(-\d+)?\.([a-z0-9]{1,8}|waypoints)|media/[a-z0-9_-]{1,32}/(V|P|PN)\d{6,9}(-continued)?(-\d+)?\.[a-z0-9]{1,8})$`)

// FuzzAssemble: whatever metadata are sealed, files lie where they should, hold what came first,
// and all bytes are accounted for. The input is metadata as they are sealed, one a line.
func FuzzAssemble(f *testing.F) {
	for _, s := range []string{
		`{"id":1,"kind":"log","source":"pull","format":"bin","offset":0,"end":true}`,
		`{"id":1,"kind":"log","source":"pull","format":"ulg","offset":100,"size":1152921504606846976,"lost":[{"from":0,"to":100}],"why":"x"}` + "\n" + `{"id":1,"offset":90}`,
		`{"id":2,"kind":"video","source":"../..","format":"../x","offset":1152921504606846976,"lost_bytes":9223372036854775807,"continues":"F00000001"}`,
		`{"id":3,"kind":"photo","format":"jpg","end":true,"photo":{"index":-1,"taken_usec":5,"pose":{"latitude":1e300}}}`,
		`{"id":1,"offset":-9223372036854775808,"size":-1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		s := newFiles(t.TempDir())
		model := map[*file]map[int64]byte{}
		for i, line := range bytes.Split(p, []byte("\n")) {
			var m segment.File
			if i > 200 || json.Unmarshal(line, &m) != nil {
				continue
			}
			letter := "AVP"[len(line)%3]
			data := bytes.Repeat([]byte{byte(i + 1)}, len(line)%50)
			if err := s.told(letter, &m); err != nil {
				t.Fatal(err)
			}
			before := len(s.list)
			if err := s.piece(letter, &m, data); err != nil {
				t.Fatal(err)
			}
			if len(s.list) != before {
				t.Fatal("a piece made a file that nothing was told of")
			}
			if f := s.byKey[fileKey{letter, m.ID}]; f != nil {
				remember(model, f, &m, data)
			}
		}
		reports, err := s.finish(times{})
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for i, r := range reports {
			if !goodName.MatchString(r.Name) || path.Clean(r.Name) != r.Name || names[r.Name] {
				t.Errorf("name %q", r.Name)
			}
			names[r.Name] = true
			checkModel(t, s.dir, r, model[s.list[i]])
		}
	})
}

// remember is what a file should hold, the slow way.
func remember(model map[*file]map[int64]byte, f *file, m *segment.File, data []byte) {
	if model[f] == nil {
		model[f] = map[int64]byte{}
	}
	if m.Offset < f.base || m.Offset-f.base > maxFile-int64(len(data)) {
		return
	}
	for i, b := range data {
		if _, ok := model[f][m.Offset-f.base+int64(i)]; !ok {
			model[f][m.Offset-f.base+int64(i)] = b
		}
	}
}

func checkModel(t *testing.T, dir string, r *FileReport, want map[int64]byte) {
	t.Helper()
	w, err := os.Open(filepath.Join(dir, filepath.FromSlash(r.Name)))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var b [1]byte
	for at, v := range want {
		if _, err := w.ReadAt(b[:], at); err != nil || b[0] != v {
			t.Errorf("%s byte %d: %d, want %d (%v)", r.Name, at, b[0], v, err)
		}
	}
	holes := int64(0)
	for _, h := range r.Holes {
		holes += h[1] - h[0]
	}
	starts := r.StartsAt
	if r.Stream == "V" {
		starts = 0
	}
	if r.Bytes != int64(len(want)) || r.Bytes+holes+starts != r.Size || r.LostBytes < holes {
		t.Errorf("%+v: %d bytes came, %d in holes", r, len(want), holes)
	}
}

// TestGoesOn: of a video that goes on in a record, what lies before is not missing, but what this
// record is told to have lost of it is; where only its end came, nothing is.
func TestGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		lost   []segment.Range
		bytes  string
		offset int64
		size   int64
		want   int64
	}{
		"whole":               {nil, "abc", 1000, 1003, 0},
		"its end alone":       {nil, "", 1000, 1000, 0},
		"the beginning lost":  {[]segment.Range{{From: 400, To: 1000}}, "abc", 1000, 1003, 600},
		"all but the end":     {[]segment.Range{{From: 400, To: 1000}}, "", 1000, 1000, 600},
		"lost in the middle":  {[]segment.Range{{From: 1003, To: 1009}}, "abc", 1000, 1009, 6},
		"lost around a piece": {[]segment.Range{{From: 900, To: 1009}}, "abc", 1000, 1009, 106},
	} {
		s := newFiles(t.TempDir())
		s.began = 50
		m := &segment.File{ID: 3, Kind: "video", Source: "cam", Format: "h264", BeganUsec: 7, Offset: c.offset, Lost: c.lost}
		err := s.told('V', m)
		if err == nil && c.bytes != "" {
			err = s.piece('V', m, []byte(c.bytes))
		}
		end := &segment.File{ID: 3, Kind: "video", Source: "cam", Format: "h264", BeganUsec: 7, Offset: c.size, Size: c.size, End: true}
		if err == nil {
			err = s.told('V', end)
		}
		reports, err2 := s.finish(times{})
		if err != nil || err2 != nil || len(reports) != 1 {
			t.Fatal(name, err, err2, len(reports))
		}
		if r := reports[0]; r.LostBytes != c.want || !r.GoesOn || r.StartsAt != c.offset || r.Complete != (c.want == 0) {
			t.Errorf("%s: %d bytes lost, want %d: %+v", name, r.LostBytes, c.want, r)
		}
	}
}
