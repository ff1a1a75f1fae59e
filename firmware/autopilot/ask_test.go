package autopilot_test

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
)

// asked counts what was asked of the autopilot.
func asked(r *rig) (n int) {
	for _, s := range r.out {
		switch s.m.(type) {
		case *common.MessageCommandLong, *common.MessageParamRequestList, *common.MessageParamRequestRead, *common.MessageMissionRequestList,
			*common.MessageMissionRequestInt, *common.MessageMissionAck, *common.MessageRequestDataStream:
			n++
		}
	}
	return n
}

// TestNothingIsAskedWhileArmed, nor of an autopilot that is silent; both are made up for later.
func TestNothingIsAskedWhileArmed(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA)
	pilot.armed = true
	r := newRig(t, pilot, autopilot.Config{Rates: "full"}, 0)
	r.run(30 * time.Second)
	if n := asked(r); n != 0 {
		t.Fatalf("%d requests while armed", n)
	}
	if len(sentOf[*common.MessageHeartbeat](r)) == 0 {
		t.Fatal("and no heartbeat")
	}
	pilot.arm(false)
	r.run(1500 * time.Millisecond)
	if asked(r) == 0 {
		t.Fatal("nothing was asked after disarming")
	}
	pilot.silent = true
	r.run(4 * time.Second)
	before := asked(r)
	r.run(20 * time.Second)
	if n := asked(r) - before; n != 0 {
		t.Errorf("%d requests to an autopilot that is silent", n)
	}
	pilot.silent = false
	r.run(120 * time.Second)
	if len(r.filesOf("params")) == 0 || len(r.filesOf("mission")) == 0 || len(r.has("message_rates")) != 1 {
		t.Errorf("not made up for: %v", r.events)
	}
	if got := r.has("autopilot_silent"); len(got) != 1 {
		t.Errorf("autopilot_silent: %q", got)
	}
}

// TestRecorderKnowsThatItIsArmed, where the heartbeat that says so was lost here.
func TestRecorderKnowsThatItIsArmed(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{Rates: "full"}, 0)
	r.health.Armed = true
	r.run(30 * time.Second)
	if n := asked(r); n != 0 {
		t.Errorf("%d requests while the recorder says armed", n)
	}
	r.health.Armed = false
	r.run(2 * time.Second)
	if asked(r) == 0 {
		t.Error("nothing was asked afterwards")
	}
}

// TestArmedInTheMiddle stops every transfer at the heartbeat that says armed.
func TestArmedInTheMiddle(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_PX4)
	r := newRig(t, pilot, autopilot.Config{Rates: "survey"}, 0)
	r.run(1200 * time.Millisecond) // the list of parameters is on its way
	pilot.arm(true)
	r.run(2 * delay)
	before := asked(r)
	r.run(20 * time.Second)
	if n := asked(r) - before; n != 0 {
		t.Errorf("%d requests after arming", n)
	}
	if n := len(r.filesOf("autopilot")); n != 2 {
		t.Errorf("%d identities: one when it was found, one in the flight's record", n)
	}
	files := r.filesOf("params")
	if len(files) == 0 || !strings.Contains(files[0].text, "# Complete: no, ") {
		t.Errorf("what was known at arming is not in the record: %d files", len(files))
	}
	pilot.arm(false)
	r.run(60 * time.Second)
	complete(t, r)
}

// TestRebootInTheAir: noticed, nothing asked, all learnt again after landing.
func TestRebootInTheAir(t *testing.T) {
	for name, kind := range flavours {
		pilot := newPilot(kind)
		r := newRig(t, pilot, autopilot.Config{Rates: "survey"}, 0)
		r.run(60 * time.Second)
		complete(t, r)
		pilot.arm(true)
		r.run(10 * time.Second)
		before := asked(r)
		pilot.reboot()
		r.run(20 * time.Second)
		if got := r.has("autopilot_rebooted"); len(got) != 1 {
			t.Errorf("%s: autopilot_rebooted %q", name, got)
		}
		if n := asked(r) - before; n != 0 {
			t.Errorf("%s: %d requests in the air", name, n)
		}
		pilot.arm(false)
		r.run(60 * time.Second)
		if got := r.has("message_rates"); len(got) != 2 || len(pilot.intervals) != len(autopilot.Profiles["survey"]) {
			t.Errorf("%s: rates after landing: %q", name, got)
		}
		if n := len(r.filesOf("autopilot")); n != 3 { // found, armed, learnt again
			t.Errorf("%s: %d identities", name, n)
		}
	}
}

// TestOddClocks: an autopilot that answers TIMESYNC by another clock than SYSTEM_TIME has not
// started again and again.
func TestOddClocks(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_PX4)
	pilot.odd, pilot.utc = 50*365*24*time.Hour, 1790000000_000_000
	r := newRig(t, pilot, autopilot.Config{}, 0.05)
	r.run(60 * time.Second)
	if got := append(r.has("autopilot_rebooted"), r.has("autopilot_uptime_jumped")...); len(got) != 0 {
		t.Errorf("%q", got)
	}
	for _, p := range r.pairs {
		if wrong := p.UTCUsec - p.BootUsec - pilot.utc; max(wrong, -wrong) > p.UncertaintyUsec {
			t.Errorf("%+v is wrong by %d µs", p, wrong)
		}
	}
}

func TestIdentity(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA), autopilot.Config{}, 0)
	r.run(30 * time.Second)
	files := r.filesOf("autopilot")
	if len(files) != 1 {
		t.Fatalf("%d files", len(files))
	}
	for _, part := range []string{`"uid": "1122334455667788"`, `"uid2": "0102030000`, `"flight_version": "4.6.2"`, `"flight_git": "abcd1234"`,
		`"autopilot": "ardupilot"`, `"vendor_id": 7`} {
		if !strings.Contains(files[0].text, part) {
			t.Errorf("lacks %s:\n%s", part, files[0].text)
		}
	}
	if f := files[0]; !f.End || f.Size != int64(len(f.text)) || len(f.SHA256) != 64 || f.Format != "json" || f.Source != "autopilot" {
		t.Errorf("%+v", f.File)
	}
}

// TestDumbAutopilot: one that answers nothing is not asked for ever.
func TestDumbAutopilot(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_PX4)
	pilot.dumb = true
	r := newRig(t, pilot, autopilot.Config{Rates: "low"}, 0)
	r.run(5 * time.Minute)
	before := asked(r)
	r.run(5 * time.Minute)
	if n := asked(r) - before; n != 0 {
		t.Errorf("%d requests after 5 minutes without an answer", n)
	}
	for _, kind := range []string{"autopilot_identity_unknown", "parameters_incomplete", "mission_incomplete", "message_rates"} {
		if len(r.has(kind)) != 1 {
			t.Errorf("%s: %q", kind, r.has(kind))
		}
	}
}

// TestParameterHole: what never comes is given up, and said.
func TestParameterHole(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA)
	pilot.hidden = map[int]bool{7: true, 211: true}
	r := newRig(t, pilot, autopilot.Config{}, 0.1)
	r.run(2 * time.Minute)
	if got := r.has("parameters_incomplete"); !slices.Equal(got, []string{"2 of 300 did not come"}) {
		t.Errorf("%q", got)
	}
	files := r.filesOf("params")
	if len(files) == 0 || !strings.Contains(files[len(files)-1].text, "# Complete: no, 298 of 300") {
		t.Errorf("files: %v", files)
	}
	// A bounded rate: never two requests within 50 ms.
	last := time.Duration(-time.Hour)
	for _, s := range r.out {
		if _, ok := s.m.(*common.MessageParamRequestRead); ok {
			if s.at-last < 50*time.Millisecond {
				t.Fatalf("two requests within %v", s.at-last)
			}
			last = s.at
		}
	}
}

// TestParameterChanges are written once they have settled, and counters alone are no change.
func TestParameterChanges(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA)
	pilot.params[5].ParamId = "STAT_RUNTIME"
	r := newRig(t, pilot, autopilot.Config{}, 0)
	r.run(60 * time.Second)
	n := len(r.filesOf("params"))
	for i := range 20 {
		m := pilot.params[i%3]
		m.ParamValue, m.ParamIndex = float32(1000+i), 65535
		pilot.say(&m)
		counter := pilot.params[5]
		counter.ParamValue = float32(i)
		pilot.say(&counter)
		r.run(100 * time.Millisecond)
	}
	r.run(40 * time.Second)
	files := r.filesOf("params")[n:]
	if len(files) != 1 || !strings.Contains(files[0].text, "1\t1\tPRM_001\t1019\t9\n") {
		t.Fatalf("%d files after 20 changes", len(files))
	}
	if got := r.has("parameters_changed"); len(got) != 1 || !strings.HasPrefix(got[0], "20: PRM_000, PRM_001") {
		t.Errorf("%q", got)
	}
	for i := range 100 {
		counter := pilot.params[5]
		counter.ParamValue = float32(100 + i)
		pilot.say(&counter)
		r.run(time.Second)
	}
	if got := len(r.filesOf("params")) - n; got != 1 {
		t.Errorf("a counter made %d files", got-1)
	}
}

// TestParameterTypes: PX4 sends the bits of integers, ArduPilot their numbers.
func TestParameterTypes(t *testing.T) {
	for name, c := range map[string]struct {
		kind  common.MAV_AUTOPILOT
		value float32
		want  string
	}{
		"px4":       {common.MAV_AUTOPILOT_PX4, math.Float32frombits(0xFFFFFFF6), "1\t1\tPRM_002\t-10\t6\n"},
		"ardupilot": {common.MAV_AUTOPILOT_ARDUPILOTMEGA, -10, "1\t1\tPRM_002\t-10\t6\n"},
	} {
		pilot := newPilot(c.kind)
		pilot.params[2].ParamValue, pilot.params[2].ParamType = c.value, common.MAV_PARAM_TYPE_INT32
		r := newRig(t, pilot, autopilot.Config{}, 0)
		r.run(20 * time.Second)
		if text := r.filesOf("params")[0].text; !strings.Contains(text, c.want) || !strings.Contains(text, "1\t1\tPRM_299\t74.75\t9\n") {
			t.Errorf("%s:\n%.300s", name, text)
		}
	}
}

// TestMission is read again after each sign of a change, and written where it did change.
func TestMission(t *testing.T) {
	for name, c := range map[string]struct {
		id     uint32
		change func(r *rig)
		within time.Duration
	}{
		"by its id":     {7, func(r *rig) { r.pilot.missionID = 8 }, 10 * time.Second},
		"by its length": {0, func(r *rig) { r.pilot.mission = r.pilot.mission[:6] }, 10 * time.Second},
		"uploaded by a ground station": {7, func(r *rig) {
			r.pilot.say(&common.MessageMissionAck{TargetSystem: 255, TargetComponent: 190})
		}, 10 * time.Second},
		"without a sign": {0, func(*rig) {}, 70 * time.Second},
	} {
		pilot := newPilot(common.MAV_AUTOPILOT_PX4)
		pilot.missionID = c.id
		r := newRig(t, pilot, autopilot.Config{}, 0.02)
		r.run(20 * time.Second)
		first := r.filesOf("mission")
		if len(first) != 1 || !strings.Contains(first[0].text, "\n3\t0\t3\t16\t0\t0\t0\t0\t47.3977421\t8.5455939\t30\t1\n") {
			t.Fatalf("%s: %v", name, first)
		}
		pilot.mission = slices.Clone(pilot.mission)
		pilot.mission[3].Z = 55
		c.change(r)
		r.run(c.within)
		if all := r.filesOf("mission"); len(all) != 2 || !strings.Contains(all[1].text, "47.3977421\t8.5455939\t55\t1\n") {
			t.Errorf("%s: the change is not in the record: %d files", name, len(all))
		}
		pilot.arm(true)
		r.run(time.Second)
		if all := r.filesOf("mission"); len(all) != 3 || all[2].text != all[1].text {
			t.Errorf("%s: %d files after arming", name, len(all))
		}
		pilot.missionID, pilot.mission = pilot.missionID+1, pilot.mission[:4]
		r.run(5 * time.Second)
		pilot.arm(false)
		r.run(10 * time.Second)
		if all := r.filesOf("mission"); len(all) != 4 || len(lines(all[3].text)) != 5 {
			t.Errorf("%s: %d files after landing", name, len(all))
		}
	}
}

// TestNoMission is a mission, too.
func TestNoMission(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_PX4)
	pilot.mission = nil
	r := newRig(t, pilot, autopilot.Config{}, 0)
	r.run(10 * time.Second)
	if all := r.filesOf("mission"); len(all) != 1 || all[0].text != "QGC WPL 110\n" {
		t.Errorf("%v", all)
	}
}

// TestRates says what became of each.
func TestRates(t *testing.T) {
	for name, c := range map[string]struct {
		kind    common.MAV_AUTOPILOT
		refuse  common.MAV_RESULT
		want    string
		streams int
	}{
		"no command, ArduPilot": {common.MAV_AUTOPILOT_ARDUPILOTMEGA, common.MAV_RESULT_UNSUPPORTED, "low: by data streams, not confirmed", 6},
		"no command, PX4":       {common.MAV_AUTOPILOT_PX4, common.MAV_RESULT_UNSUPPORTED, "low: 0 set; refused: SYS_STATUS, SYSTEM_TIME, ", 0},
		"refused":               {common.MAV_AUTOPILOT_ARDUPILOTMEGA, common.MAV_RESULT_DENIED, "low: 0 set; refused: SYS_STATUS, ", 0},
		"all but one":           {common.MAV_AUTOPILOT_PX4, 0, "low: 13 set; other than asked: ATTITUDE", 0},
	} {
		pilot := newPilot(c.kind)
		pilot.noRates, pilot.ignored = c.refuse, map[uint32]bool{30: true}
		r := newRig(t, pilot, autopilot.Config{Rates: "low"}, 0)
		r.run(60 * time.Second)
		if got := r.has("message_rates"); len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%s: %q", name, got)
		}
		if n := len(sentOf[*common.MessageRequestDataStream](r)); n != c.streams {
			t.Errorf("%s: %d streams asked", name, n)
		}
	}
}

// TestKeep sets nothing.
func TestKeep(t *testing.T) {
	for _, profile := range []string{"", "keep"} {
		r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{Rates: profile}, 0)
		r.run(30 * time.Second)
		for _, m := range sentOf[*common.MessageCommandLong](r) {
			if m.Command != common.MAV_CMD_REQUEST_MESSAGE {
				t.Errorf("%q: command %v", profile, m.Command)
			}
		}
		if len(r.has("message_rates")) != 0 {
			t.Errorf("%q: %v", profile, r.events)
		}
	}
}

// TestProfilesAreOnTheList: no profile asks for what the list refuses.
func TestProfilesAreOnTheList(t *testing.T) {
	for name, profile := range autopilot.Profiles {
		for id, hz := range profile {
			if !slices.Contains(allow.RateIDs(), id) || hz < 0.1 || hz > 50 {
				t.Errorf("%s: %d at %v Hz", name, id, hz)
			}
		}
	}
}

// TestNoRoom: a file that the recorder did not take is offered until it does.
func TestNoRoom(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{}, 0)
	r.full = true
	r.run(30 * time.Second)
	r.full = false
	r.run(2 * time.Second)
	for _, kind := range []string{"params", "mission", "autopilot"} {
		if n := len(r.filesOf(kind)); n != 1 {
			t.Errorf("%s: %d files", kind, n)
		}
	}
}

// TestAnotherAutopilot takes the place of one that is gone, and not before.
func TestAnotherAutopilot(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_PX4)
	r := newRig(t, pilot, autopilot.Config{}, 0)
	other := func() {
		r.sayOn(1, 9, 1, &common.MessageHeartbeat{Type: 2, Autopilot: common.MAV_AUTOPILOT_ARDUPILOTMEGA, MavlinkVersion: 3})
		r.run(time.Second)
	}
	r.run(2 * time.Second)
	for range 20 {
		other()
	}
	if a, found := r.p.Sender().Autopilot(); !found || a.System != 1 || a.Link != 0 || a.Flavour != autopilot.PX4 {
		t.Fatalf("%+v", a)
	}
	pilot.silent = true
	r.list.SetSystem(9)
	r.expectOther = true
	for range 12 {
		other()
	}
	if a, _ := r.p.Sender().Autopilot(); a.System != 9 || a.Link != 1 || a.Flavour != autopilot.ArduPilot {
		t.Errorf("%+v", a)
	}
	// Nobody else is an autopilot: a gimbal, a ground station, a camera.
	if len(r.has("autopilot_found")) != 2 {
		t.Errorf("%v", r.events)
	}
}

// TestEveryParameterType, in both encodings.
func TestEveryParameterType(t *testing.T) {
	bits := math.Float32frombits
	for _, c := range []struct {
		kind        common.MAV_PARAM_TYPE
		px4, number float32
		want        string
	}{
		{common.MAV_PARAM_TYPE_UINT8, bits(200), 200, "200"},
		{common.MAV_PARAM_TYPE_INT8, bits(0xFFFFFFFE), -2, "-2"},
		{common.MAV_PARAM_TYPE_UINT16, bits(60000), 60000, "60000"},
		{common.MAV_PARAM_TYPE_INT16, bits(0xFFFF8000), -32768, "-32768"},
		{common.MAV_PARAM_TYPE_UINT32, bits(4000000000), 4000000000, "4000000000"},
		{common.MAV_PARAM_TYPE_INT32, bits(0x7FFFFF), 8388607, "8388607"},
		{common.MAV_PARAM_TYPE_REAL32, 0.1, 0.1, "0.1"},
		{common.MAV_PARAM_TYPE_REAL32, 1e-7, 1e-7, "0.0000001"},
		{common.MAV_PARAM_TYPE_REAL64, 2.5, 2.5, "2.5"},
	} {
		for flavour, value := range map[common.MAV_AUTOPILOT]float32{common.MAV_AUTOPILOT_PX4: c.px4, common.MAV_AUTOPILOT_ARDUPILOTMEGA: c.number} {
			pilot := newPilot(flavour)
			pilot.params = []common.MessageParamValue{{ParamId: "BAD\nNAME", ParamValue: value, ParamType: c.kind, ParamCount: 1}}
			r := newRig(t, pilot, autopilot.Config{}, 0)
			r.run(5 * time.Second)
			line := lines(r.filesOf("params")[0].text)
			if want := "1\t1\tBAD?NAME\t" + c.want + "\t" + strconv.Itoa(int(c.kind)); len(line) != 1 || line[0] != want {
				t.Errorf("%v, %v: %q, want %q", flavour, c.kind, line, want)
			}
		}
	}
}

// TestMissionFrames: what x and y mean hangs on the frame.
func TestMissionFrames(t *testing.T) {
	for frame, want := range map[common.MAV_FRAME]string{
		common.MAV_FRAME_GLOBAL_INT: "-1.5\t2.5\t", common.MAV_FRAME_LOCAL_NED: "-1500\t2500\t", common.MAV_FRAME_MISSION: "-15000000\t25000000\t",
	} {
		pilot := newPilot(common.MAV_AUTOPILOT_PX4)
		pilot.mission = []common.MessageMissionItemInt{{Frame: frame, X: -15000000, Y: 25000000, Param1: float32(math.NaN())}}
		r := newRig(t, pilot, autopilot.Config{}, 0)
		r.run(5 * time.Second)
		if text := r.filesOf("mission")[0].text; !strings.Contains(text, "NaN\t0\t0\t0\t"+want) {
			t.Errorf("%v: %q", frame, text)
		}
	}
}
