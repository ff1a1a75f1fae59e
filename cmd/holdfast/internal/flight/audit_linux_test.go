package flight_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/crypto/custody"
	"holdfast/crypto/open"
	"holdfast/firmware/evidence"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// line gives the vault a line of the audit and makes it durable.
func (b *board) line(line string) {
	b.t.Helper()
	if !b.v.Audit([]byte(line)) {
		b.t.Fatal("a line was not taken")
	}
	b.clock += time.Second
	b.finish()
}

func attempt(usec int64, change func(*evidence.Attempt)) string {
	a := &evidence.Attempt{Usec: usec, SeenUsec: usec + 40, Layer: "cgroup-bpf", What: "connect", PID: 77, UID: 1000,
		Program: "/usr/bin/curl", Protocol: "tcp", Destination: "192.0.2.1:443", Count: 1}
	if change != nil {
		change(a)
	}
	p, err := evidence.Marshal(a)
	if err != nil {
		panic(err)
	}
	return string(p)
}

// auditLines decodes audit.jsonl.
func auditLines(t *testing.T, out string) (lines []map[string]any) {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(out, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(p)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, m)
	}
	return lines
}

// TestAudit: attempts stand in audit.jsonl, with UTC, in order of time among the recorder's events;
// what is no line is counted; flight.json has the counts.
func TestAudit(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	const utc = 1_700_000_000_000_000
	b.block(3, 0, segment.Meta{Clock: []segment.ClockPair{{BootUsec: b.clock.Microseconds(), UTCUsec: utc, Source: "host"}},
		Events: []segment.Event{{BootUsec: b.clock.Microseconds() + 10, Kind: "armed", Link: "fc"}}})
	zero := time.Hour.Microseconds()
	b.line(attempt(zero+2_000_000, nil))
	b.line("nonsense\n{}\n" + attempt(zero+3_000_000, func(a *evidence.Attempt) { a.What, a.Count, a.Program, a.Layer = "summary", 9_000, "", "nft-inet" }))
	b.block(1, 0, segment.Meta{Events: []segment.Event{{BootUsec: zero + 2_500_000, Kind: "disarmed", Link: "fc"}}})
	b.check(b.v.Close())
	s, out := b.open()
	if s.State != vault.StateClean || s.Audit.Events != 2 || s.Audit.Lines != 2 || s.Audit.Attempts != 9_001 || s.Audit.BadLines != 2 ||
		s.Audit.ByLayer["cgroup-bpf"] != 1 || s.Audit.ByLayer["nft-inet"] != 9_000 {
		t.Errorf("%s %+v", s.State, s.Audit)
	}
	if i := slices.IndexFunc(s.Segments, func(r flight.SegmentReport) bool { return r.Name == "X000001.age" }); i < 0 || s.Segments[i].Frames != 2 {
		t.Errorf("segments %+v", s.Segments)
	}
	lines := auditLines(t, out)
	var events []string
	for _, m := range lines {
		events = append(events, m["event"].(string))
	}
	if want := []string{"armed", "attempt", "disarmed", "attempt"}; !slices.Equal(events, want) {
		t.Fatalf("events %q, want %q", events, want)
	}
	a := lines[1]
	at := utc + int64(2_000_000) - 1 // the clock of this board moves by a microsecond when it is read
	if a["program"] != "/usr/bin/curl" || a["destination"] != "192.0.2.1:443" || a["layer"] != "cgroup-bpf" || a["boot_usec"] != float64(zero+2_000_000) ||
		int64(a["time_usec"].(float64))-at > 100 || !strings.HasPrefix(a["time"].(string), "2023-11-14T22:13:") || a["pid"] != 77.0 || a["count"] != 1.0 {
		t.Errorf("%v", a)
	}
	if left, _ := filepath.Glob(filepath.Join(out, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestAuditWithoutTelemetry: a record of attempts alone, after a cut, in its open form.
func TestAuditWithoutTelemetry(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	for i := range 5 {
		b.line(attempt(int64(i), func(a *evidence.Attempt) { a.PID = i + 1 }))
	}
	s, out := b.open() // as a cut now would leave it
	if s.State != vault.StateCut || s.Audit.Lines != 5 || s.Clock.Source != "none" {
		t.Errorf("%s %+v %+v", s.State, s.Audit, s.Clock)
	}
	if lines := auditLines(t, out); len(lines) != 5 || lines[4]["pid"] != 5.0 || lines[0]["time"] != "boot+0.000000s" {
		t.Errorf("%v", lines)
	}
	b.check(b.v.Close())
}

// TestAuditApart: a segment that was changed is read below unverified/, and not into audit.jsonl.
func TestAuditApart(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	b.block(3, 0, segment.Meta{})
	b.line(attempt(1, nil))
	b.check(b.v.Close())
	d, r := b.record()
	var own custody.RecordReport
	for _, s := range r.Segments {
		place, state := s.Size, custody.VerdictClean
		if s.Stream == 'X' {
			place, state = 0, custody.VerdictTampered
		}
		own.Segments = append(own.Segments, custody.SegmentReport{Name: s.File[:7], File: s.File, State: state, Bytes: s.Size, PlaceBytes: place})
	}
	out := filepath.Join(t.TempDir(), "out")
	o := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(b.operator), Custody: func(vault.Device, string) *custody.RecordReport { return &own }}
	s, err := o.Open(d, r, out)
	b.check(err)
	if s.Audit.Lines != 0 || s.State != vault.StateTampered || len(auditLines(t, out)) != 0 || len(auditLines(t, filepath.Join(out, "unverified"))) != 1 {
		t.Errorf("%s %+v", s.State, s.Audit)
	}
}

// TestPeekPastAudit: the times of a listing are those of telemetry, whatever stream comes last.
func TestPeekPastAudit(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	for i := range 3 {
		b.block(1, 0, segment.Meta{})
		b.line(attempt(int64(i), nil))
		b.clock += 11 * time.Second
		b.finish()
	}
	b.check(b.v.Close())
	_, r := b.record()
	times, err := (&flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(b.operator)}).Peek(r)
	b.check(err)
	if times.Start == times.End || !strings.HasPrefix(times.Start, "boot+36") {
		t.Errorf("%+v", times)
	}
}
