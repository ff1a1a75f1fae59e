package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink"
	"holdfast/mavlink/codec"
)

// sortiePatience is for what takes tens of seconds on an idle machine: a vehicle's way to a
// landing, and the transfer of its logs over a bad line.
const sortiePatience = 3 * time.Minute

// sortie is a flight of holdfast-bench's vehicle with a board that talks to it.
type sortie struct {
	*board
	vehicle, daemon *process
	policy          allow.Options // what the configuration adds to the list
	sum             sortieSum
	said, heard     tlogFile // by the vehicle, as it reached the line; and to it
	records         []*opened
	unsteady        bool // the recorder was stopped in between: not all that was said is in the record
	noTelemetry     bool // the policy leaves it out
	endless         bool // the vehicle ends when finish tells it to
}

// sortieSum is what the vehicle tells at its end.
type sortieSum struct {
	Frames  int `json:"frames"`
	Vehicle struct {
		Lost             uint64            `json:"lost_from_vehicle"`
		Noise            uint64            `json:"noise_bytes"`
		Heard            uint64            `json:"heard"`
		HeardBy          map[string]uint64 `json:"heard_by"`
		LogRequests      uint64            `json:"log_requests"`
		LogRequestsArmed uint64            `json:"log_requests_armed"`
		StreamBytes      int               `json:"stream_bytes"`
		StreamLost       int               `json:"stream_lost"`
		StreamResent     int               `json:"stream_resent"`
		ParamSets        []json.RawMessage `json:"param_sets"`
		ArmRequests      uint64            `json:"arm_requests"`
		ArmAccepted      uint64            `json:"arm_accepted"`
		ArmDenied        uint64            `json:"arm_denied"`
		ArmUnanswered    uint64            `json:"arm_unanswered"`
		ArmHeld          uint64            `json:"arm_held"`
		ArmForced        bool              `json:"arm_forced"`
	} `json:"vehicle"`
}

// endless is --after of a vehicle that stays until finish.
const endless = "1h"

// tlogFile is a .tlog taken apart.
type tlogFile struct {
	stamps []uint64
	frames [][]byte
}

// takeOff starts a vehicle and a board. policy is what the board's configuration adds to the list of
// what is sent; the lines themselves went to newBoard.
func (b *board) takeOff(policy allow.Options, args ...string) *sortie {
	b.t.Helper()
	s := &sortie{board: b, policy: policy, endless: slices.Contains(args, endless)}
	args = append([]string{"vehicle", "--pty", b.path("fc"), "--json", "--tlog", b.path("said.tlog"),
		"--sent-to-vehicle", b.path("heard.tlog"), "--keep-logs", b.path("kept")}, args...)
	s.vehicle = start(b.t, "holdfast-bench", args...)
	waitFor(b.t, patience, "the vehicle's line", func() bool {
		if !s.vehicle.running() {
			b.t.Fatalf("the vehicle has ended: %s", s.vehicle.errs.String())
		}
		_, err := os.Stat(b.path("fc"))
		return err == nil
	})
	s.daemon = b.run()
	return s
}

// until opens the vault while it is being written, until what it says is enough.
func (s *sortie) until(what string, enough func(records []*opened) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(sortiePatience); ; {
		if len(s.board.records()) > 0 {
			if enough(s.board.peek()) {
				return
			}
		}
		if time.Now().After(deadline) || !s.daemon.running() || !s.vehicle.running() {
			s.t.Fatalf("not seen in the record: %s; events %v; the recorder printed %s", what, allEvents(s.board.peek()), s.daemon.errs.String())
		}
		<-time.After(time.Second)
	}
}

// peek opens what there is, whatever state it is in.
func (b *board) peek() []*opened {
	b.t.Helper()
	out := filepath.Join(b.t.TempDir(), "peek")
	run(b.t, "holdfast", "open", b.vault(), "-i", b.operator, "-o", out)
	return readOpened(b.t, out)
}

// events counts the events of one kind whose detail has words in it.
func events(records []*opened, kind, words string) (n int) {
	for _, r := range records {
		for _, e := range r.events {
			if e.Event == kind && strings.Contains(e.Detail, words) {
				n++
			}
		}
	}
	return n
}

// finish waits for the end of the vehicle, or brings it about, ends the recorder, and holds
// everything to what is promised for every flight.
func (s *sortie) finish() *sortie {
	s.t.Helper()
	if s.endless {
		_ = s.vehicle.cmd.Process.Signal(syscall.SIGINT)
	}
	if code := s.vehicle.wait(sortiePatience); code != 0 && code != 130 {
		s.t.Fatalf("the vehicle ended with %d: %s", code, s.vehicle.errs.String())
	}
	if err := json.Unmarshal([]byte(s.vehicle.out.String()), &s.sum); err != nil {
		s.t.Fatalf("%v in %q", err, s.vehicle.out.String())
	}
	if !s.unsteady {
		s.waitFrames(s.sum.Frames)
		if drops, _ := s.health()["ring_drops"].(float64); drops != 0 {
			s.t.Errorf("%v frames found no room", drops)
		}
	}
	s.daemon.stop()
	s.said, s.heard = readTlog(s.t, s.path("said.tlog")), readTlog(s.t, s.path("heard.tlog"))
	s.records = s.open(0)
	s.checkPromises()
	return s
}

func readTlog(t testing.TB, path string) (f tlogFile) {
	t.Helper()
	var err error
	if f.stamps, f.frames, err = splitTlog(readFile(t, path)); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

// checkPromises: nothing is lost of what the vehicle said, nothing outside the list reached it, what
// reached it is in the record, no setting was changed, no log was asked for while armed.
func (s *sortie) checkPromises() {
	s.t.Helper()
	if s.sum.Vehicle.LogRequestsArmed != 0 {
		s.t.Errorf("%d requests for logs while armed", s.sum.Vehicle.LogRequestsArmed)
	}
	if len(s.sum.Vehicle.ParamSets) != 0 && len(s.shares(true)) == 0 {
		s.t.Errorf("settings were changed: %s", s.sum.Vehicle.ParamSets)
	}
	if s.sum.Vehicle.Noise != 0 {
		s.t.Errorf("%d bytes that are no frame went to the vehicle", s.sum.Vehicle.Noise)
	}
	for _, r := range s.records {
		checkRecordCounts(s.t, r)
	}
	if !s.unsteady && !s.noTelemetry {
		wantFrames(s.t, "telemetry", allFrames(s.records), s.said.frames)
		sent := sentFrames(s.t, s.records)
		if more := len(sent) - len(s.heard.frames); more > 0 && more <= lastSent {
			sent = sent[:len(s.heard.frames)]
		}
		wantFrames(s.t, "sent.tlog", sent, s.heard.frames)
	}
	if n, err := s.outside(); err != nil {
		s.t.Errorf("%d of %d frames to the vehicle are outside the list, the first: %v", n, len(s.heard.frames), err)
	}
}

// lastSent is how many frames may lie in the line, sent and not heard, when the vehicle is switched off.
const lastSent = 4

// sentFrames are those that the records say went out.
func sentFrames(t testing.TB, records []*opened) (frames [][]byte) {
	for _, r := range records {
		frames = append(frames, readTlog(t, filepath.Join(r.dir, "sent.tlog")).frames...)
	}
	return frames
}

// sentLine is a line of sent.jsonl.
type sentLine struct {
	Origin    string `json:"origin"`
	Outcome   string `json:"outcome"`
	MessageID int64  `json:"message_id"`
	Name      string `json:"name"`
	Raw       string `json:"raw"`
}

func (s *sortie) sentLines() (lines []sentLine) {
	for _, r := range s.records {
		lines = append(lines, jsonLines[sentLine](s.t, filepath.Join(r.dir, "sent.jsonl"))...)
	}
	return lines
}

// shares lists the shares of the configuration, those that write or the others.
func (b *board) shares(write bool) (paths []string) {
	text := string(readFile(b.t, b.config()))
	for _, table := range strings.Split(text, "[[share]]")[1:] {
		if strings.Contains(table, `mode = "write"`) == write {
			_, path, _ := strings.Cut(table, `path = "`)
			path, _, _ = strings.Cut(path, `"`)
			paths = append(paths, path)
		}
	}
	return paths
}

// lateness is how much older than a frame of the board what it knew of the vehicle may be: it takes
// the frame some time to get to the line and to be read, on a machine that has other things to do.
const lateness = 700_000 // microseconds

// outside holds every frame that reached the vehicle against the list, with the armed state that
// the board had heard of when it was sent, and returns how many do not fit.
func (s *sortie) outside() (n int, first error) {
	list := allow.New(s.policy)
	list.SetSystem(1)
	program := len(s.shares(true)) > 0
	states := s.armedStates()
	for i, f := range s.heard.frames {
		err := list.Check(f, states.at(s.heard.stamps[i]))
		if err != nil && !states.at(s.heard.stamps[i]-lateness) {
			err = list.Check(f, false)
		}
		if err != nil && program && !holdfasts(f) {
			err = list.CheckShare(f)
		}
		if err == nil {
			continue
		}
		if n++; first == nil {
			first = fmt.Errorf("%w: %x", err, f)
		}
	}
	return n, first
}

// holdfasts tells a frame of the components that Holdfast speaks as.
func holdfasts(frame []byte) bool {
	s := parseSpan(frame)
	return frame[5] == 1 && (s.comp == allow.ComponentComputer || s.comp == allow.ComponentLog || s.comp >= allow.ComponentCamera && s.comp < allow.ComponentCamera+allow.Cameras)
}

// armedStates are the vehicle's heartbeats.
type armedStates struct {
	from  []uint64
	armed []bool
}

func (s *sortie) armedStates() (a armedStates) {
	for i, f := range s.said.frames {
		if armed, known := isArmed(f); known && f[5] == 1 {
			a.from, a.armed = append(a.from, s.said.stamps[i]), append(a.armed, armed)
		}
	}
	return a
}

// at is the newest state at a time; true where nothing was heard, as the list takes it.
func (a armedStates) at(stamp uint64) bool {
	i, exact := slices.BinarySearch(a.from, stamp)
	switch {
	case exact:
		return a.armed[i]
	case i == 0:
		return true
	}
	return a.armed[i-1]
}

// flight is the one flight record.
func (s *sortie) flight() *opened {
	s.t.Helper()
	var found *opened
	for _, r := range s.records {
		if r.Kind == "flight" {
			if found != nil {
				s.t.Fatalf("two flights: %s and %s", found.Record, r.Record)
			}
			found = r
		}
	}
	if found == nil {
		s.t.Fatalf("no flight among %d records", len(s.records))
	}
	return found
}

// decode decodes what frames hold; frames of unknown messages are left out.
func decode(frames [][]byte) (messages []message.Message) {
	c := codec.New()
	for _, raw := range frames {
		f, ok := mavlink.ParseFrame(raw)
		if !ok {
			continue
		}
		if m, err := c.Decode(&f); err == nil {
			messages = append(messages, m)
		}
	}
	return messages
}

// sameOutside compares a file that came with holes with the whole.
func sameOutside(got, want []byte, holes [][2]int64) error {
	if len(got) > len(want) {
		return fmt.Errorf("%d bytes, the vehicle served %d", len(got), len(want))
	}
	got, want = bytes.Clone(got), bytes.Clone(want[:len(got)])
	for _, h := range holes {
		to := min(h[1], int64(len(got)))
		if h[0] < to {
			clear(got[h[0]:to])
			clear(want[h[0]:to])
		}
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("byte %d differs", firstDifference(got, want))
	}
	return nil
}
