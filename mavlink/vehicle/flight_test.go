package vehicle_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/mavlink/vehicle"
)

// log is what a flight did, from its states.
type log struct {
	phases       []string
	armed, ended time.Duration
	disarmed     time.Duration
	top          float64
}

// watch flies without streams and checks the laws of nature each 10 ms.
func watch(t *testing.T, v *vehicle.Vehicle, until time.Duration) (l log) {
	t.Helper()
	was := v.State()
	for i := 0; v.Step(); i++ {
		if i%4 != 0 {
			continue
		}
		s := v.State()
		if len(l.phases) == 0 || l.phases[len(l.phases)-1] != s.Phase {
			l.phases = append(l.phases, s.Phase)
		}
		if s.Armed && !was.Armed {
			l.armed = s.Elapsed
		}
		if was.Armed && !s.Armed {
			l.disarmed = s.Elapsed
			if s.Height > 0.02 {
				t.Fatalf("disarmed at a height of %v m", s.Height)
			}
		}
		if !s.Armed && (s.Speed != 0 || s.Height > 0.02) {
			t.Fatalf("moves while disarmed: %+v", s)
		}
		if v.Down() > 1e-9 {
			t.Fatalf("%v m below the ground: %+v", v.Down(), s)
		}
		if math.Abs(s.Climb) > 4 || s.Speed > 12 || math.Abs(s.Roll) > 0.7 || math.Abs(s.Pitch) > 0.7 {
			t.Fatalf("wild: %+v", s)
		}
		if s.Battery > was.Battery || math.IsNaN(s.Latitude+s.Longitude+s.Altitude+s.Volts) {
			t.Fatalf("battery or numbers: %+v", s)
		}
		l.top = math.Max(l.top, s.Height)
		was = s
		if until > 0 && s.Elapsed >= until {
			break
		}
	}
	l.ended = was.Elapsed
	return l
}

func TestTimeline(t *testing.T) {
	seconds := []float64{0.5, 1, 2, 4, 7, 11.9, 12, 13, 14, 16, 20, 25, 30, 37, 45, 60, 200}
	for _, sec := range seconds {
		d := time.Duration(sec * float64(time.Second))
		seeds := uint64(2)
		if d > time.Minute {
			seeds = 1
		}
		for seed := range seeds {
			t.Run(fmt.Sprintf("%v/%d", d, seed), func(t *testing.T) {
				v, err := vehicle.New(vehicle.Options{Seed: seed, Duration: d})
				if err != nil {
					t.Fatal(err)
				}
				v.Mute()
				checkTimeline(t, d, watch(t, v, 0))
			})
		}
	}
}

func checkTimeline(t *testing.T, d time.Duration, l log) {
	t.Helper()
	arm, rest := max(5500*time.Millisecond, min(d/5, 8*time.Second)), 2*time.Second
	if d < 12*time.Second {
		arm, rest = d*55/120, d/6
	}
	if l.armed < arm || l.armed > arm+15*time.Millisecond {
		t.Errorf("armed at %v, want %v", l.armed, arm)
	}
	if l.disarmed == 0 || l.ended-l.disarmed < rest-15*time.Millisecond {
		t.Errorf("disarmed at %v of %v", l.disarmed, l.ended)
	}
	// The flight fills the time: it is not over long before it must be.
	if d >= 30*time.Second && l.ended-l.disarmed > rest+12*time.Second {
		t.Errorf("disarmed at %v of %v already", l.disarmed, l.ended)
	}
	switch {
	case d >= 30*time.Second:
		want := "[boot standby armed take-off survey return land landed disarmed]"
		if got := fmt.Sprint(l.phases); got != want {
			t.Errorf("phases %v", got)
		}
		if l.top < 2 {
			t.Errorf("flew %.1f m high", l.top)
		}
	case d >= 12*time.Second && l.top < 0.1:
		t.Errorf("never left the ground: %v", l.phases)
	}
}

func TestEndlessFlightLandsOnLowBattery(t *testing.T) {
	v, err := vehicle.New(vehicle.Options{Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	v.Mute()
	if l := watch(t, v, 60*time.Second); l.phases[len(l.phases)-1] != "survey" {
		t.Fatalf("after 60 s: %v", l.phases)
	}
	v.Drain(0.25)
	l := watch(t, v, 240*time.Second)
	if l.phases[len(l.phases)-1] != "disarmed" || v.State().Battery < 0.1 {
		t.Errorf("phases %v, battery %.2f", l.phases, v.State().Battery)
	}
}

var minutes = map[vehicle.Stack][]heard{}

// minute is one flight per stack that the tests below read, one after the other.
func minute(t *testing.T, stack vehicle.Stack) []heard {
	t.Helper()
	if minutes[stack] == nil {
		minutes[stack] = fly(t, vehicle.Options{Stack: stack, Seed: 5, Duration: time.Minute, Start: start})
	}
	return minutes[stack]
}

func TestArmingIsHeard(t *testing.T) {
	for _, stack := range stacks {
		beats, at := of[*common.MessageHeartbeat](minute(t, stack))
		changes, armed := 0, false
		for i, b := range beats {
			if want := map[vehicle.Stack]common.MAV_AUTOPILOT{vehicle.ArduPilot: 3, vehicle.PX4: 12}[stack]; b.Autopilot != want {
				t.Fatalf("%v: autopilot %v", stack, b.Autopilot)
			}
			if on := b.BaseMode&common.MAV_MODE_FLAG_SAFETY_ARMED != 0; on != armed {
				armed = on
				changes++
				if on && (at[i] < 8*time.Second || at[i] > 8020*time.Millisecond) || !on && at[i] > 58*time.Second {
					t.Errorf("%v: armed %v at %v", stack, on, at[i])
				}
			}
		}
		if changes != 2 || armed {
			t.Errorf("%v: arming changed %d times", stack, changes)
		}
		modes := map[uint32]bool{}
		for _, b := range beats {
			modes[b.CustomMode] = true
		}
		if want := map[vehicle.Stack]int{vehicle.ArduPilot: 4, vehicle.PX4: 5}[stack]; len(modes) != want {
			t.Errorf("%v: modes %v", stack, modes)
		}
	}
}

func TestSpeedFitsPosition(t *testing.T) {
	msgs, _ := of[*common.MessageLocalPositionNed](minute(t, vehicle.ArduPilot))
	if len(msgs) < 2000 {
		t.Fatalf("%d positions", len(msgs))
	}
	// A quarter of a second apart, the mean speed between is what the steps say.
	const span = 12
	for i := span; i < len(msgs); i++ {
		a, b := msgs[i-span], msgs[i]
		dt := float64(b.TimeBootMs-a.TimeBootMs) / 1000
		var mean [3]float64
		for _, m := range msgs[i-span : i] {
			mean[0] += float64(m.Vx) / span
			mean[1] += float64(m.Vy) / span
			mean[2] += float64(m.Vz) / span
		}
		for k, moved := range [3]float64{float64(b.X - a.X), float64(b.Y - a.Y), float64(b.Z - a.Z)} {
			if diff := math.Abs(moved/dt - mean[k]); diff > 0.25 {
				t.Fatalf("at %d ms axis %d: moved at %.2f m/s, says %.2f", b.TimeBootMs, k, moved/dt, mean[k])
			}
		}
	}
}

func TestGPSFitsEstimate(t *testing.T) {
	all := minute(t, vehicle.ArduPilot)
	var last *common.MessageGlobalPositionInt
	fixes := map[common.GPS_FIX_TYPE]bool{}
	for _, h := range all {
		switch m := h.frame.Message.(type) {
		case *common.MessageGlobalPositionInt:
			last = m
		case *common.MessageGpsRawInt:
			fixes[m.FixType] = true
			if last == nil || last.Lat == 0 {
				continue
			}
			north := float64(m.Lat-last.Lat) * 0.0111319
			up := float64(m.Alt-last.Alt) / 1000
			speed := math.Hypot(float64(last.Vx), float64(last.Vy)) / 100
			if math.Abs(north) > 2.5 || math.Abs(up) > 2.5 || math.Abs(float64(m.Vel)/100-speed) > 0.6 {
				t.Fatalf("at %v: %.2f m north, %.2f m up, %d cm/s beside %.2f m/s", h.at, north, up, m.Vel, speed)
			}
		}
	}
	if !fixes[1] || !fixes[2] || !fixes[3] {
		t.Errorf("fix types seen: %v", fixes)
	}
}

func TestAttitudeFitsAcceleration(t *testing.T) {
	var att *common.MessageAttitude
	var before *common.MessageLocalPositionNed
	var down, side, n float64
	for _, h := range minute(t, vehicle.ArduPilot) {
		switch m := h.frame.Message.(type) {
		case *common.MessageAttitude:
			att = m
		case *common.MessageLocalPositionNed:
			before = m
		case *common.MessageHighresImu:
			if att == nil || before == nil || before.Z > -3 {
				continue
			}
			// Turned upright the mean force carries the weight; what is sideways in the
			// body is drag and vibration only, since the rotors push along its axis.
			sr, cr := math.Sincos(float64(att.Roll))
			sp, cp := math.Sincos(float64(att.Pitch))
			down -= -sp*float64(m.Xacc) + sr*cp*float64(m.Yacc) + cr*cp*float64(m.Zacc)
			side += math.Hypot(float64(m.Xacc), float64(m.Yacc))
			n++
		}
	}
	if n < 1000 || math.Abs(down/n-9.81) > 0.25 || side/n > 3 {
		t.Errorf("of %v readings in the air the mean upward is %.2f m/s², sideways %.2f", n, down/n, side/n)
	}
}

func TestTiltAccelerates(t *testing.T) {
	// Over the survey, acceleration from speed equals thrust by tilt less drag; drag grows
	// with speed, so the two correlate strongly but not fully.
	atts, _ := of[*common.MessageAttitude](minute(t, vehicle.ArduPilot))
	vels := map[uint32]*common.MessageLocalPositionNed{}
	pos, _ := of[*common.MessageLocalPositionNed](minute(t, vehicle.ArduPilot))
	for _, p := range pos {
		vels[p.TimeBootMs/20] = p
	}
	var xy, xx, yy float64
	for _, a := range atts {
		p, q := vels[a.TimeBootMs/20-3], vels[a.TimeBootMs/20+3]
		if p == nil || q == nil || p.Z > -3 {
			continue
		}
		dt := float64(q.TimeBootMs-p.TimeBootMs) / 1000
		sin, cos := math.Sincos(float64(a.Yaw))
		forward := (float64(q.Vx-p.Vx)*cos + float64(q.Vy-p.Vy)*sin) / dt
		lean := -9.81 * math.Tan(float64(a.Pitch))
		xy, xx, yy = xy+forward*lean, xx+forward*forward, yy+lean*lean
	}
	if r := xy / math.Sqrt(xx*yy); !(r > 0.6) {
		t.Errorf("correlation of tilt and acceleration is %.2f", r)
	}
}

func TestQuaternionFitsEuler(t *testing.T) {
	var q *common.MessageAttitudeQuaternion
	sum, seen := 0.0, 0.0
	for _, h := range minute(t, vehicle.PX4) {
		switch m := h.frame.Message.(type) {
		case *common.MessageAttitudeQuaternion:
			q = m
		case *common.MessageAttitude:
			if q == nil || m.TimeBootMs-q.TimeBootMs > 10 {
				continue
			}
			w, x, y, z := float64(q.Q1), float64(q.Q2), float64(q.Q3), float64(q.Q4)
			roll := math.Atan2(2*(w*x+y*z), 1-2*(x*x+y*y))
			pitch := math.Asin(2 * (w*y - z*x))
			yaw := math.Atan2(2*(w*z+x*y), 1-2*(y*y+z*z))
			// The two are up to 10 ms apart.
			off := math.Abs(roll-float64(m.Roll)) + math.Abs(pitch-float64(m.Pitch)) + math.Abs(math.Remainder(yaw-float64(m.Yaw), 2*math.Pi))
			if off > 0.06 {
				t.Fatalf("at %v: %+v beside %+v", h.at, q, m)
			}
			sum, seen = sum+off, seen+1
		}
	}
	if seen < 1000 || sum/seen > 0.006 {
		t.Errorf("mean difference %v rad of %v", sum/seen, seen)
	}
}

func TestConsumptionFitsCurrent(t *testing.T) {
	for _, stack := range stacks {
		msgs, at := of[*common.MessageBatteryStatus](minute(t, stack))
		mah, drop := 0.0, 0.0
		for i := 1; i < len(msgs); i++ {
			mah += float64(msgs[i-1].CurrentBattery) * 10 * (at[i] - at[i-1]).Hours()
			if msgs[i].CurrentConsumed < msgs[i-1].CurrentConsumed {
				t.Fatalf("%v: consumption falls at %v", stack, at[i])
			}
			drop = math.Max(drop, float64(msgs[0].Voltages[0])-float64(msgs[i].Voltages[0]))
		}
		if last := float64(msgs[len(msgs)-1].CurrentConsumed); math.Abs(last-mah) > 0.03*mah+2 || mah < 50 {
			t.Errorf("%v: consumed %.0f mAh, current adds up to %.0f", stack, last, mah)
		}
		if drop < 50 {
			t.Errorf("%v: a cell sags by %.0f mV only", stack, drop)
		}
	}
}

func TestSystemTime(t *testing.T) {
	msgs, _ := of[*common.MessageSystemTime](minute(t, vehicle.ArduPilot))
	if len(msgs) < 59 || msgs[0].TimeUnixUsec != 0 {
		t.Fatalf("%d messages, first %+v", len(msgs), msgs[0])
	}
	for _, m := range msgs[10:] {
		got := time.UnixMicro(int64(m.TimeUnixUsec)).Sub(start) - time.Duration(m.TimeBootMs)*time.Millisecond
		if got < 0 || got >= time.Millisecond {
			t.Fatalf("%+v is %v off", m, got)
		}
	}
}

func TestRangefinderFitsTerrain(t *testing.T) {
	var terrain *common.MessageTerrainReport
	seen := 0
	for _, h := range minute(t, vehicle.ArduPilot) {
		switch m := h.frame.Message.(type) {
		case *common.MessageTerrainReport:
			terrain = m
		case *ardupilotmega.MessageRangefinder:
			if terrain == nil {
				continue
			}
			seen++
			if diff := float64(m.Distance - terrain.CurrentHeight); diff < -2 || diff > 3 {
				t.Fatalf("at %v: %v m beside %v m", h.at, m.Distance, terrain.CurrentHeight)
			}
		}
	}
	if seen < 400 {
		t.Errorf("%d readings", seen)
	}
}

func TestMissionAdvances(t *testing.T) {
	for _, stack := range stacks {
		reached, _ := of[*common.MessageMissionItemReached](minute(t, stack))
		if len(reached) < 3 {
			t.Fatalf("%v: %d waypoints", stack, len(reached))
		}
		for i, r := range reached {
			if int(r.Seq) != i+1 {
				t.Errorf("%v: waypoint %d is item %d", stack, i, r.Seq)
			}
		}
	}
}
