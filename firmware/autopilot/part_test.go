package autopilot_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
)

var flavours = map[string]common.MAV_AUTOPILOT{"ardupilot": common.MAV_AUTOPILOT_ARDUPILOTMEGA, "px4": common.MAV_AUTOPILOT_PX4}

func TestHeartbeat(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA), autopilot.Config{LogBeats: true}, 0)
	r.pilot.silent = true
	r.run(5 * time.Second)
	if len(r.out) != 0 {
		t.Fatalf("%d messages left before an autopilot was heard", len(r.out))
	}
	r.pilot.silent = false
	r.run(10 * time.Second)
	kinds := map[common.MAV_TYPE]int{}
	for _, m := range sentOf[*common.MessageHeartbeat](r) {
		kinds[m.Type]++
	}
	for _, kind := range []common.MAV_TYPE{common.MAV_TYPE_ONBOARD_CONTROLLER, common.MAV_TYPE_LOG} {
		if n := kinds[kind]; n < 9 || n > 11 {
			t.Errorf("%v: %d heartbeats in 10 s", kind, n)
		}
	}
	if bits, state := r.beatBits(); bits != allow.BitNoObjection || state != common.MAV_STATE_ACTIVE {
		t.Errorf("custom_mode %b, state %v, want bit 0 and active", bits, state)
	}
}

// TestEverything runs a whole stay on the ground, with losses.
func TestEverything(t *testing.T) {
	for name, kind := range flavours {
		for _, loss := range []float64{0, 0.01, 0.1} {
			t.Run(name+"/"+map[float64]string{0: "0", 0.01: "1%", 0.1: "10%"}[loss], func(t *testing.T) {
				r := newRig(t, newPilot(kind), autopilot.Config{Rates: "survey"}, loss)
				r.run(120 * time.Second)
				complete(t, r)
				r.pilot.arm(true)
				r.run(3 * time.Second)
				if n := len(r.filesOf("params")); n < 2 {
					t.Errorf("%d parameter files, want one more at arming", n)
				}
			})
		}
	}
}

func complete(t *testing.T, r *rig) {
	t.Helper()
	params, missions := r.filesOf("params"), r.filesOf("mission")
	if len(params) == 0 || len(missions) == 0 || len(r.filesOf("autopilot")) == 0 {
		t.Fatalf("files: %d params, %d missions; events %v", len(params), len(missions), r.events)
	}
	last := params[len(params)-1].text
	if !strings.Contains(last, "# Complete: yes, 300 parameters") || len(lines(last)) != 300 {
		t.Errorf("parameters are not complete:\n%.400s", last)
	}
	if got := missions[len(missions)-1].text; len(lines(got)) != 13 || !strings.HasPrefix(got, "QGC WPL 110\n") {
		t.Errorf("mission:\n%s", got)
	}
	if got := r.has("message_rates"); len(got) != 1 || !strings.HasPrefix(got[0], "survey: 17 set") {
		t.Errorf("message_rates: %q", got)
	}
	for id, hz := range autopilot.Profiles["survey"] {
		if got := r.pilot.intervals[id]; math.Abs(float64(got)-1e6/hz) > 1 {
			t.Errorf("interval of %d is %d µs, want %v", id, got, 1e6/hz)
		}
	}
}
