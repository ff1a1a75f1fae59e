package flight

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"holdfast/storage/segment"
)

// recording returns a real log; the folder of recordings may not be there.
func recording(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("HOLDFAST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "..", "shared", "data")
	}
	p, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("no recording: %v", err)
	}
	return p
}

// salvaged cuts holes into a log and returns the file beside it with what is whole.
func salvaged(t *testing.T, log []byte, format string, holes ...segment.Range) ([]byte, *FileReport) {
	t.Helper()
	s := newFiles(t.TempDir())
	m := segment.File{ID: 1, Kind: segment.KindLog, Source: "stream", Format: format, Log: 1, Size: int64(len(log)), End: true}
	var lost spans
	for _, h := range holes {
		lost.add(h.From, h.To)
	}
	if err := s.told('A', &m); err != nil {
		t.Fatal(err)
	}
	for _, r := range lost.missing(0, int64(len(log))) {
		m.Offset = r.From
		if err := s.piece('A', &m, log[r.From:r.To]); err != nil {
			t.Fatal(err)
		}
	}
	reports, err := s.finish(times{})
	if err != nil {
		t.Fatal(err)
	}
	r := reports[0]
	if r.Salvaged == "" {
		return nil, r
	}
	p, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(r.Salvaged)))
	if err != nil {
		t.Fatal(err)
	}
	if out := os.Getenv("HOLDFAST_KEEP"); out != "" { // to be read by other tools
		whole, _ := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(r.Name)))
		_ = os.WriteFile(filepath.Join(out, t.Name()+"."+format), whole, 0o600)
		_ = os.WriteFile(filepath.Join(out, t.Name()+".salvaged."+format), p, 0o600)
	}
	return p, r
}

// dfMessages splits an ArduPilot log into its messages, the slow way.
func dfMessages(p []byte) (all []string, ends []int64) {
	var length [256]int
	length[0x80] = 89
	for at := 0; at+3 <= len(p); {
		n := length[p[at+2]]
		if p[at] != 0xA3 || p[at+1] != 0x95 || n == 0 || at+n > len(p) {
			at++
			continue
		}
		if p[at+2] == 0x80 {
			length[p[at+3]] = int(p[at+4])
		}
		all, ends = append(all, string(p[at:at+n])), append(ends, int64(at+n))
		at += n
	}
	return all, ends
}

// ulogMessages splits a PX4 log without holes into its messages.
func ulogMessages(p []byte) (all []string, ends []int64) {
	for at := 16; at+3 <= len(p); {
		n := 3 + int(binary.LittleEndian.Uint16(p[at:]))
		if at+n > len(p) {
			break
		}
		at += n
		all, ends = append(all, string(p[at-n:at])), append(ends, int64(at))
	}
	return all, ends
}

// wholeOnes are the messages that no hole touches.
func wholeOnes(all []string, ends []int64, holes ...segment.Range) (whole []string) {
	for i, m := range all {
		from, to, hit := ends[i]-int64(len(m)), ends[i], false
		for _, h := range holes {
			hit = hit || from < h.To && to > h.From
		}
		if !hit {
			whole = append(whole, m)
		}
	}
	return whole
}

// subsequence tells how many of got are in want, in order.
func subsequence(got, want []string) (n int) {
	for _, w := range want {
		if n < len(got) && got[n] == w {
			n++
		}
	}
	return n
}

// TestSalvageDataflash: of an ArduPilot log with holes, every whole message and none that is not.
func TestSalvageDataflash(t *testing.T) {
	log := recording(t, "pymavlink-test.BIN")
	all, ends := dfMessages(log)
	holes := []segment.Range{{From: 20_000, To: 20_137}, {From: 40_000, To: 48_000}, {From: 60_001, To: 60_002}}
	p, _ := salvaged(t, log, "bin", holes...)
	got, _ := dfMessages(p)
	want := wholeOnes(all, ends, holes...)
	if len(got) < len(want)-len(holes) || subsequence(got, all) != len(got) {
		t.Errorf("%d messages, %d of them right; %d are whole", len(got), subsequence(got, all), len(want))
	}
	size := 0
	for _, m := range got {
		size += len(m)
	}
	if size != len(p) {
		t.Errorf("%d bytes are of no message", len(p)-size)
	}
}

// TestSalvageULog: of a PX4 log, too, but for what a reader needs to find its way behind a hole.
func TestSalvageULog(t *testing.T) {
	log := recording(t, "pyulog-small.ulg")
	all, ends := ulogMessages(log)
	holes := []segment.Range{{From: 300_000, To: 301_111}, {From: 500_000, To: 600_000}, {From: 700_001, To: 700_002}}
	p, _ := salvaged(t, log, "ulg", holes...)
	if !bytes.Equal(p[:16], log[:16]) {
		t.Fatal("the head differs")
	}
	got, _ := ulogMessages(p)
	want := wholeOnes(all, ends, holes...)
	right := subsequence(got, all)
	t.Logf("%d messages, %d whole ones, %d in all", len(got), len(want), len(all))
	if right < len(got)-len(holes) || len(got) < len(want)*95/100 {
		t.Errorf("%d messages, %d of them right; %d are whole", len(got), right, len(want))
	}
}

// TestSalvageULogDefinitions: a hole in the formats takes the data that need them, and no more.
func TestSalvageULogDefinitions(t *testing.T) {
	log := recording(t, "pyulog-small.ulg")
	p, r := salvaged(t, log, "ulg", segment.Range{From: 2_000, To: 2_300})
	if r.Salvaged == "" || len(p) < 16 {
		t.Fatalf("%+v", r)
	}
	u := newULog()
	all, _ := ulogMessages(p)
	if before, _ := ulogMessages(log); len(all) < len(before)*9/10 {
		t.Errorf("%d messages of %d", len(all), len(before))
	}
	for _, m := range all {
		if !u.keep(m[2], []byte(m[3:])) {
			t.Fatalf("a message %q that no reader can use", m[2])
		}
	}
}

// TestSalvageWithoutBeginning: nobody can read it, and flight.json says so.
func TestSalvageWithoutBeginning(t *testing.T) {
	for _, format := range []string{"bin", "ulg"} {
		if _, r := salvaged(t, make([]byte, 5000), format, segment.Range{From: 0, To: 10}); r.Salvaged != "" || r.SalvagedWhy == "" {
			t.Errorf("%+v", r)
		}
	}
	if _, r := salvaged(t, []byte("this is no PX4 log at all, is it"), "ulg", segment.Range{From: 30, To: 31}); r.Salvaged != "" || r.SalvagedWhy == "" {
		t.Errorf("%+v", r)
	}
}

// FuzzSalvage: whatever a log and its holes are, both parsers end, and never write more than came.
func FuzzSalvage(f *testing.F) {
	head := append(bytes.Clone(ulogMagic), make([]byte, 9)...)
	f.Add(append(head, "\x0a\x00Fa:uint8_t\x05\x00A\x00\x01\x00a"...), uint16(20), uint16(4))
	f.Add([]byte("\xA3\x95\x80\x80\x59FMT"), uint16(5), uint16(2))
	f.Add(append(bytes.Clone(head), ulogSync...), uint16(17), uint16(1))
	f.Fuzz(func(t *testing.T, p []byte, from, n uint16) {
		for _, format := range []string{"bin", "ulg"} {
			if len(p) == 0 {
				return
			}
			h := segment.Range{From: int64(from) % int64(len(p)), To: min(int64(from)%int64(len(p))+int64(n)+1, int64(len(p)))}
			if out, _ := salvaged(t, p, format, h); len(out) > len(p) {
				t.Errorf("%d bytes of %d", len(out), len(p))
			}
		}
	})
}
