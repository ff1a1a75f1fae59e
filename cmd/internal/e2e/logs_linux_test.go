package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"

	"holdfast/firmware/autopilot/allow"
)

// openedFile is a row of files in flight.json.
type openedFile struct {
	Name      string     `json:"name"`
	Kind      string     `json:"kind"`
	Source    string     `json:"source"`
	Size      int64      `json:"size"`
	Bytes     int64      `json:"bytes"`
	Complete  bool       `json:"complete"`
	Holes     [][2]int64 `json:"holes"`
	LostBytes int64      `json:"lost_bytes"`
	Why       string     `json:"why"`
	Of        string     `json:"of"`
	Log       int        `json:"log"`
	From      string     `json:"from"`
	JoinedIn  string     `json:"joined_in"` // the record where it is whole
	data      []byte
	in        *opened
}

// logFiles are the autopilot's logs in the records they were written into, by how they came.
func logFiles(t testing.TB, records []*opened, source string) (logs []openedFile) {
	t.Helper()
	for _, r := range records {
		for _, f := range r.Files {
			if f.Kind == "log" && f.Source == source && f.From == "" && f.JoinedIn == "" {
				f.data, f.in = readFile(t, filepath.Join(r.dir, f.Name)), r
				logs = append(logs, f)
			}
		}
	}
	return logs
}

// kept are the logs that the vehicle had at its end, the oldest first.
func (s *sortie) kept() (logs [][]byte) {
	s.t.Helper()
	files, err := os.ReadDir(s.path("kept"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		logs = append(logs, readFile(s.t, filepath.Join(s.path("kept"), f.Name())))
	}
	return logs
}

// wantPulled wants each log of the vehicle among those that were pulled, byte for byte, and that of
// the flight in the flight's folder too.
func (s *sortie) wantPulled(source string) {
	s.t.Helper()
	pulled := logFiles(s.t, s.records, source)
	kept := s.kept()
	for i, want := range kept {
		if !containsLog(pulled, want) {
			s.t.Errorf("log %d of %d, %d bytes, is not among %s", i+1, len(kept), len(want), describeLogs(pulled))
		}
	}
	last := kept[len(kept)-1]
	for _, f := range s.flight().Files {
		if f.Kind == "log" && f.Source == source && bytes.Equal(readFile(s.t, filepath.Join(s.flight().dir, f.Name)), last) {
			return
		}
	}
	s.t.Errorf("the log of the flight, %d bytes, is not in its folder: %s", len(last), describeLogs(s.flight().Files))
}

// containsLog tells whether a log came, whole or with its holes told.
func containsLog(logs []openedFile, want []byte) bool {
	for _, f := range logs {
		whole := f.Complete && len(f.Holes) == 0 && f.LostBytes == 0
		if whole && bytes.Equal(f.data, want) || !whole && f.Size == int64(len(want)) && f.LostBytes < f.Size/2 && sameOutside(f.data, want, f.Holes) == nil {
			return true
		}
	}
	return false
}

func describeLogs(logs []openedFile) (text string) {
	for _, f := range logs {
		text += fmt.Sprintf("\n%s: %d of %d bytes, complete %v, holes %v, lost %d, %s, of %s", f.Name, f.Bytes, f.Size, f.Complete, f.Holes, f.LostBytes, f.Why, f.Of)
	}
	return text
}

// logCase is one flight whose logs are brought in.
type logCase struct{ stack, loss, mode string }

// logCases are all of them, or one flavour for each loss and mode.
func logCases() (cases []logCase) {
	for i, loss := range []string{"0", "0.01", "0.1"} {
		for j, mode := range []string{"pull", "stream"} {
			for k, stack := range []string{"ardupilot", "px4"} {
				if long || (i+j)%2 == k {
					cases = append(cases, logCase{stack, loss, mode})
				}
			}
		}
	}
	return cases
}

func (c logCase) String() string { return fmt.Sprintf("%s, %s, loss %s", c.mode, c.stack, c.loss) }

// TestLogs: whatever is lost on the line, in either direction, the logs that are opened are what the
// vehicle served, byte for byte, or say exactly what is missing.
func TestLogs(t *testing.T) {
	t.Parallel()
	flights := map[logCase]*sortie{}
	for _, c := range logCases() {
		b := newBoard(t, "[policy]", fmt.Sprintf("autopilot_log = %q", c.mode))
		flights[c] = b.takeOff(allow.Options{}, "--stack", c.stack, "--loss", c.loss, "--loss-seed", "3", "--duration", "14s", "--after", endless,
			"--log-size", "16000", "--old-logs", "1", "--log-rate", "6000")
	}
	for _, c := range logCases() {
		s := flights[c]
		if c.mode == "pull" {
			s.until("two pulled logs: "+c.String(), func(r []*opened) bool { return events(r, "log_pulled", "") >= 2 })
			s.finish().wantPulled("pull")
			continue
		}
		s.until("the end of the stream: "+c.String(), func(r []*opened) bool { return streamEnded(r) })
		s.finish().wantStreamed(c)
	}
}

// streamEnded tells that a streamed log has its end.
func streamEnded(records []*opened) bool {
	return events(records, "log_stream_ended", "") > 0
}

// wantStreamed wants what is opened of a streamed log to be what the frames carried that reached
// the board, and nothing missing that is not told.
func (s *sortie) wantStreamed(c logCase) {
	s.t.Helper()
	logs := logFiles(s.t, s.records, "stream")
	if len(logs) != 1 {
		s.t.Fatalf("%v: %d streamed logs: %s", c, len(logs), describeLogs(logs))
	}
	if c.stack == "px4" {
		s.wantULog(c, logs[0])
		return
	}
	served, came, all := s.blocks()
	if err := sameOutside(logs[0].data, served, logs[0].Holes); err != nil || int(logs[0].Size) != len(served) {
		s.t.Errorf("%v: %v; served were %d bytes: %s", c, err, len(served), describeLogs(logs))
	}
	if hole, ok := wrongHole(came, logs[0]); !ok {
		s.t.Errorf("%v: block %d: came %v, which is not what is told: %s", c, hole, came[hole], describeLogs(logs))
	}
	// What the autopilot had not sent yet when the stream was ended some seconds after the landing,
	// nobody knows of but itself.
	if sent := s.sum.Vehicle.StreamBytes; len(served) < 10_000 || all > sent {
		s.t.Errorf("%v: %d bytes came of streams of %d", c, all, sent)
	}
}

// blocks puts together what ArduPilot's stream brought to the board: of the flight, whose log is the
// longest one. It begins a new one behind that. all is the size of all logs.
func (s *sortie) blocks() (served []byte, came map[uint32]bool, all int) {
	came = map[uint32]bool{}
	var longest []byte
	var longestCame map[uint32]bool
	for _, m := range decode(s.said.frames) {
		b, ok := m.(*ardupilotmega.MessageRemoteLogDataBlock)
		if !ok {
			continue
		}
		if b.Seqno == 0 && len(came) > 37 { // so many may come again
			all += len(served)
			if len(served) > len(longest) {
				longest, longestCame = served, came
			}
			served, came = nil, map[uint32]bool{}
		}
		came[uint32(b.Seqno)] = true
		if missing := (int(b.Seqno)+1)*len(b.Data) - len(served); missing > 0 {
			served = append(served, make([]byte, missing)...)
		}
		copy(served[int(b.Seqno)*len(b.Data):], b.Data[:])
	}
	all += len(served)
	if len(longest) > len(served) {
		return longest, longestCame, all
	}
	return served, came, all
}

// wrongHole finds a block that came and is told to be missing, or the other way round.
func wrongHole(came map[uint32]bool, f openedFile) (block uint32, ok bool) {
	const size = 200
	missing := map[uint32]bool{}
	for _, h := range f.Holes {
		for at := h[0]; at < h[1]; at += size {
			missing[uint32(at/size)] = true
		}
	}
	for n := range uint32(f.Size / size) {
		if came[n] == missing[n] {
			return n, false
		}
	}
	for n := range came {
		if int64(n+1)*size > f.Size {
			return n, false
		}
	}
	return 0, true
}
