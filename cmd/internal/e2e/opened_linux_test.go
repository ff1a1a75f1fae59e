package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// summary is what the tests read of flight.json.
type summary struct {
	Record    string `json:"record"`
	Kind      string `json:"kind"`
	State     string `json:"state"`
	Continues string `json:"continues"`
	Boot      string `json:"boot"`
	Frames    int64  `json:"frames"`
	Bytes     int64  `json:"frame_bytes"`
	Unknown   int64  `json:"unknown_id_frames"`
	Messages  map[string]struct {
		Count int64 `json:"count"`
		Bytes int64 `json:"bytes"`
	} `json:"messages"`
	Gaps struct {
		Gaps int64 `json:"gaps"`
		Lost int64 `json:"lost_frames"`
	} `json:"gaps"`
	Noise struct {
		Bytes   int64            `json:"bytes"`
		Reasons map[string]int64 `json:"reasons"`
	} `json:"noise"`
	Drops struct {
		Bytes int64 `json:"bytes"`
	} `json:"ring_drops"`
	Span struct {
		StartBoot int64 `json:"start_boot_usec"`
		EndBoot   int64 `json:"end_boot_usec"`
	} `json:"span"`
	Sync struct {
		MaxUsec int64 `json:"max_usec"`
	} `json:"sync"`
	Segments []struct {
		Name  string `json:"name"`
		State string `json:"state"`
	} `json:"segments"`
	Missing []struct {
		What string `json:"what"`
		Why  string `json:"why"`
	} `json:"missing"`
	Files []openedFile `json:"files"`
	Clock struct {
		Source          string `json:"source"`
		UncertaintyUsec int64  `json:"uncertainty_usec"`
		OffsetUsec      int64  `json:"offset_usec"`
		Doubt           string `json:"doubt"`
	} `json:"clock"`
	Operator string `json:"operator"`
	Case     string `json:"case"`
}

// noiseRun is a line of noise.jsonl with its bytes.
type noiseRun struct {
	Offset    int64  `json:"offset"`
	Length    int64  `json:"length"`
	BinOffset int64  `json:"bin_offset"`
	Reason    string `json:"reason"`
	data      []byte
}

// auditEvent is a line of audit.jsonl.
type auditEvent struct {
	BootUsec int64  `json:"boot_usec"`
	Event    string `json:"event"`
	Link     string `json:"link"`
	Detail   string `json:"detail"`
}

// opened is one record as `holdfast open` leaves it.
type opened struct {
	summary
	dir    string
	stamps []uint64
	frames [][]byte
	noise  []noiseRun
	events []auditEvent
}

// open opens the whole vault, wants the exit code, and reads what came out.
func (b *board) open(wantCode int) []*opened {
	b.t.Helper()
	out := filepath.Join(b.t.TempDir(), "opened")
	r := run(b.t, "holdfast", "open", b.vault(), "-i", b.operator, "-o", out)
	if r.code != wantCode {
		b.t.Fatalf("open: exit code %d, want %d: %s%s", r.code, wantCode, r.stdout, r.stderr)
	}
	return readOpened(b.t, out)
}

// readOpened reads all records below out in the order of their numbers.
func readOpened(t testing.TB, out string) (records []*opened) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(out, "????????", "[FG]????????"))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(dirs, func(a, b string) int { return strings.Compare(filepath.Base(a)[1:], filepath.Base(b)[1:]) })
	for _, dir := range dirs {
		records = append(records, readRecord(t, dir))
	}
	return records
}

func readRecord(t testing.TB, dir string) *opened {
	t.Helper()
	o := &opened{dir: dir}
	if err := json.Unmarshal(readFile(t, filepath.Join(dir, "flight.json")), &o.summary); err != nil {
		t.Fatalf("%s/flight.json: %v", dir, err)
	}
	var err error
	o.stamps, o.frames, err = splitTlog(readFile(t, filepath.Join(dir, "telemetry.tlog")))
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	bin := readFile(t, filepath.Join(dir, "noise.bin"))
	o.noise = jsonLines[noiseRun](t, filepath.Join(dir, "noise.jsonl"))
	for i := range o.noise {
		n := &o.noise[i]
		if n.BinOffset < 0 || n.Length < 1 || n.BinOffset+n.Length > int64(len(bin)) {
			t.Fatalf("%s: noise run %d is not in noise.bin: %+v", dir, i, *n)
		}
		n.data = bin[n.BinOffset : n.BinOffset+n.Length]
	}
	o.events = jsonLines[auditEvent](t, filepath.Join(dir, "audit.jsonl"))
	return o
}

// splitTlog takes a .tlog apart by the sizes in the frames' headers.
func splitTlog(p []byte) (stamps []uint64, frames [][]byte, err error) {
	for at := 0; len(p) > 0; {
		if len(p) < 9 {
			return stamps, frames, fmt.Errorf("%d bytes at %d are no tlog entry", len(p), at)
		}
		s := parseSpan(p[8:])
		if s.size == 0 || !s.whole {
			return stamps, frames, fmt.Errorf("no whole span in the tlog at %d", at)
		}
		stamps = append(stamps, binary.BigEndian.Uint64(p))
		frames = append(frames, p[8:8+s.size])
		p, at = p[8+s.size:], at+8+s.size
	}
	return stamps, frames, nil
}

func jsonLines[T any](t testing.TB, path string) (lines []T) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v: %s", path, err, s.Bytes())
		}
		lines = append(lines, v)
	}
	return lines
}

// allFrames returns the frames of all records in order.
func allFrames(records []*opened) (frames [][]byte) {
	for _, r := range records {
		frames = append(frames, r.frames...)
	}
	return frames
}

// allEvents returns the events of all records in order.
func allEvents(records []*opened) (kinds []string) {
	for _, r := range records {
		for _, e := range r.events {
			kinds = append(kinds, e.Event)
		}
	}
	return kinds
}

// checkStream holds what was opened against the bytes that went in: the frames are those that
// the reference finds, and frames and noise give the stream back, byte for byte.
func checkStream(t testing.TB, stream []byte, records []*opened) {
	t.Helper()
	want := reference(stream)
	got := allFrames(records)
	for i := range min(len(want), len(got)) {
		if !bytes.Equal(want[i].raw, got[i]) {
			t.Fatalf("frame %d of %d differs from the reference (%d), which has it at offset %d:\n%x\n%x", i, len(got), len(want), want[i].offset, got[i], want[i].raw)
		}
	}
	if len(want) != len(got) {
		t.Fatalf("%d frames opened, the reference finds %d", len(got), len(want))
	}
	if back := reassemble(t, records); !bytes.Equal(back, stream) {
		t.Fatalf("frames and noise put together are %d bytes, %d went in; they differ from byte %d on", len(back), len(stream), firstDifference(back, stream))
	}
	checkCounts(t, want, records)
}

// reassemble puts frames and noise of all records in one row, by the offsets of the noise.
func reassemble(t testing.TB, records []*opened) (stream []byte) {
	t.Helper()
	var noise []noiseRun
	for _, r := range records {
		noise = append(noise, r.noise...)
	}
	addNoise := func() {
		for len(noise) > 0 && noise[0].Offset == int64(len(stream)) {
			stream = append(stream, noise[0].data...)
			noise = noise[1:]
		}
	}
	for _, f := range allFrames(records) {
		addNoise()
		stream = append(stream, f...)
	}
	addNoise()
	if len(noise) > 0 {
		t.Errorf("%d noise runs fit nowhere, the first at offset %d", len(noise), noise[0].Offset)
	}
	return stream
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// checkCounts compares the sums of all flight.json with the reference's own counts.
func checkCounts(t testing.TB, want []refFrame, records []*opened) {
	t.Helper()
	var unknown, lost, gaps, wantUnknown int64
	got, wantMessages := map[string]int64{}, map[string]int64{}
	for _, r := range records {
		checkRecordCounts(t, r)
		unknown, gaps, lost = unknown+r.Unknown, gaps+r.Gaps.Gaps, lost+r.Gaps.Lost
		for id, m := range r.Messages {
			got[id] += m.Count
		}
	}
	for _, f := range want {
		wantMessages[fmt.Sprint(f.id)]++
		if !f.known {
			wantUnknown++
		}
	}
	for id, n := range wantMessages {
		if got[id] != n {
			t.Errorf("message %s: flight.json counts %d, the reference %d", id, got[id], n)
		}
	}
	if len(got) != len(wantMessages) {
		t.Errorf("flight.json names %d message ids, the reference %d", len(got), len(wantMessages))
	}
	wantGaps, wantLost := gapsIn(want)
	if gaps != wantGaps || lost != wantLost {
		t.Errorf("flight.json: %d gaps, %d frames lost; recomputed: %d, %d", gaps, lost, wantGaps, wantLost)
	}
	if unknown != wantUnknown {
		t.Errorf("flight.json: %d frames with unknown ids; the reference: %d", unknown, wantUnknown)
	}
}

// checkRecordCounts compares a flight.json with the files beside it.
func checkRecordCounts(t testing.TB, r *opened) {
	t.Helper()
	var frameBytes, noiseBytes, reasons int64
	for _, f := range r.frames {
		frameBytes += int64(len(f))
	}
	for _, n := range r.noise {
		noiseBytes += n.Length
	}
	for _, n := range r.summary.Noise.Reasons {
		reasons += n
	}
	if r.Frames != int64(len(r.frames)) || r.Bytes != frameBytes {
		t.Errorf("%s: flight.json says %d frames, %d bytes; telemetry.tlog has %d, %d", r.Record, r.Frames, r.Bytes, len(r.frames), frameBytes)
	}
	if r.summary.Noise.Bytes != noiseBytes || reasons != noiseBytes {
		t.Errorf("%s: flight.json says %d noise bytes (%d by reason), noise.jsonl %d", r.Record, r.summary.Noise.Bytes, reasons, noiseBytes)
	}
	if r.Drops.Bytes != 0 {
		t.Errorf("%s: %d bytes dropped", r.Record, r.Drops.Bytes)
	}
	if !slices.IsSorted(r.stamps) {
		t.Errorf("%s: stamps go back", r.Record)
	}
}
