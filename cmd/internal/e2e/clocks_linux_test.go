package e2e_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot/allow"
)

// clockCases are clocks that are not right.
var clockCases = map[string][]string{
	"1970, and GPS late": {"--time-late", "6s", "--clock-1970"},
	"forward":            {"--clock-jump", "5s,2h", "--clock-jump", "7s,-2h"},
	"back":               {"--clock-jump", "5s,-90m", "--clock-jump", "7s,90m"},
}

// TestClocks: whatever the autopilot says of the time, stamps rise, frames stay in the order in which
// they came, and UTC is within what the record says it is, with the doubt told.
func TestClocks(t *testing.T) {
	t.Parallel()
	flights := map[string]*sortie{}
	for name, args := range clockCases {
		stack := "ardupilot"
		if name == "back" {
			stack = "px4"
		}
		flights[name] = newBoard(t, "[policy]", `autopilot_log = "off"`).takeOff(allow.Options{}, append(args, "--stack", stack, "--duration", "20s", "--after", "3s")...)
	}
	for name, s := range flights {
		s.finish() // the order of frames, and rising stamps, among others
		at := map[string]uint64{}
		for i, f := range s.said.frames {
			at[string(f)] = s.said.stamps[i]
		}
		doubted := false
		for _, r := range s.records {
			doubted = doubted || r.Clock.Doubt != ""
			r.wantUTC(t, name, at)
		}
		if f := s.flight(); f.Clock.Source == "none" || f.Clock.UncertaintyUsec < 0 {
			t.Errorf("%s: the flight's clock: %+v", name, f.Clock)
		}
		if !doubted && s.flight().Clock.Source == "autopilot" {
			t.Errorf("%s: no record doubts the autopilot's clock", name)
		}
	}
}

// wantUTC holds the stamps of a record against the times at which the vehicle said its frames.
func (o *opened) wantUTC(t *testing.T, name string, at map[string]uint64) {
	t.Helper()
	const earliest = 1577836800_000_000 // 2020
	if o.Clock.Source == "none" || o.Clock.UncertaintyUsec < 0 {
		if o.Clock.Doubt == "" || o.Clock.Source == "none" && o.stamps[0] > earliest {
			t.Errorf("%s: %s: %+v, stamps from %d", name, o.Record, o.Clock, o.stamps[0])
		}
		return
	}
	var off []int64
	for i, f := range o.frames {
		if said, ok := at[string(f)]; ok {
			off = append(off, int64(o.stamps[i]-said))
		}
	}
	slices.Sort(off)
	// A frame comes some time after it was said, on a busy machine much: half of them do not.
	if middle := off[len(off)/2]; max(middle, -middle) > o.Clock.UncertaintyUsec {
		t.Errorf("%s: %s is off by %d us, and says %+v", name, o.Record, middle, o.Clock)
	}
}

// TestRebootInTheAir: a vehicle that starts again in the air flies on in one record. Nothing is asked
// of it there; on the ground, who it is and its settings are learnt anew.
func TestRebootInTheAir(t *testing.T) {
	t.Parallel()
	flights := map[string]*sortie{}
	for _, stack := range []string{"ardupilot", "px4"} {
		flights[stack] = newBoard(t, "[policy]", `autopilot_log = "both"`).takeOff(allow.Options{}, "--stack", stack, "--duration", "22s", "--after", "25s",
			"--reboot-at", "12s", "--log-size", "9000", "--log-rate", "3000")
	}
	for stack, s := range flights {
		s.finish()
		flight := s.flight()
		if events(s.records, "autopilot_rebooted", "") != 1 {
			t.Errorf("%s: the record does not tell of it: %v", stack, allEvents(s.records))
		}
		if who, settings := s.askedAfterLanding(); who == 0 || settings == 0 {
			t.Errorf("%s: after the landing it was asked %d times who it is, and %d times for its parameters", stack, who, settings)
		}
		learnt := map[string]int{}
		// The first answers come while the record of the flight is still open.
		for _, r := range s.records[slices.Index(s.records, flight):] {
			for _, f := range r.Files {
				if f.Complete && f.From == "" {
					learnt[f.Kind]++
				}
			}
		}
		if learnt["params"] == 0 || learnt["autopilot"] == 0 || learnt["mission"] == 0 || learnt["log"] == 0 {
			t.Errorf("%s: learnt from the flight on: %v", stack, learnt)
		}
		if len(flight.frames) < 8000 {
			t.Errorf("%s: %d frames in the flight: it ends with the reboot: %s", stack, len(flight.frames), filepath.Base(flight.dir))
		}
	}
}

// askedAfterLanding counts the requests that came after the last heartbeat that says armed.
func (s *sortie) askedAfterLanding() (who, settings int) {
	states, landed := s.armedStates(), uint64(0)
	for i, armed := range states.armed {
		if armed {
			landed = states.from[i]
		}
	}
	for i, f := range s.heard.frames {
		if s.heard.stamps[i] < landed {
			continue
		}
		switch decodeOne(f).(type) {
		case *common.MessageCommandLong:
			who++
		case *common.MessageParamRequestList:
			settings++
		}
	}
	return who, settings
}
