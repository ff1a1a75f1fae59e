package vehicle_test

import (
	"math"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/vehicle"
)

func order(cmd common.MAV_CMD, params ...float32) message.Message {
	m := vehicle.Command(0, 1, cmd, params...).Msg.(*common.MessageCommandLong)
	m.TargetSystem = 1
	return m
}

func TestOrders(t *testing.T) {
	const accepted, rejected, denied, unsupported, failed = 0, 1, 2, 3, 4
	for _, tt := range []struct {
		name        string
		m           message.Message
		copter, px4 uint64
	}{
		{"request a message", order(512, 148), accepted, accepted},
		{"before there is a position", order(512, 32), rejected, rejected},
		{"no such message", order(512, 9999), failed, denied},
		{"no id", order(512, -1), failed, denied},
		{"not a number", order(512, float32(math.NaN())), failed, denied},
		{"set a rate", order(511, 30, 100_000), accepted, accepted},
		{"too fast", order(511, 30, 1), denied, denied},
		{"not a rate", order(511, 30, float32(math.NaN())), denied, denied},
		{"rate of nothing", order(511, 9999, 1e6), failed, denied},
		{"capabilities", order(520, 1), accepted, accepted},
		{"arm", order(400, 1), unsupported, unsupported},
		{"restart", order(246, 1), unsupported, unsupported},
		{"log stream", order(2510, 0), unsupported, accepted},
		{"as COMMAND_INT", &common.MessageCommandInt{TargetSystem: 1, TargetComponent: 1, Command: 512, Param1: 148}, accepted, accepted},
		{"to all", &common.MessageCommandLong{Command: 512, Param1: 148}, accepted, accepted},
		{"to a camera", &common.MessageCommandLong{TargetSystem: 1, TargetComponent: 100, Command: 2000}, 99, 99},
		{"to another system", &common.MessageCommandLong{TargetSystem: 9, TargetComponent: 1, Command: 512, Param1: 148}, 99, 99},
	} {
		for i, stack := range stacks {
			b := newBoard(t, vehicle.Options{Stack: stack, Duration: 9 * time.Second}, vehicle.Loss{})
			b.run(time.Second, nil)
			acks := collect[*common.MessageCommandAck](b)
			b.say(boardID, tt.m)
			b.run(1200*time.Millisecond, nil)
			got := uint64(99)
			if len(*acks) == 1 && (*acks)[0].TargetComponent == boardID && (*acks)[0].TargetSystem == 1 {
				got = uint64((*acks)[0].Result)
			}
			if want := []uint64{tt.copter, tt.px4}[i]; got != want {
				t.Errorf("%s, %v: %d, want %d", tt.name, stack, got, want)
			}
		}
	}
}

// A rate that was set holds, is told, and goes back to the usual one.
func TestMessageInterval(t *testing.T) {
	for _, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 60 * time.Second}, vehicle.Loss{})
		att := collect[*common.MessageAttitude](b)
		told := collect[*common.MessageMessageInterval](b)
		second := func(m message.Message) (n int, usec int32) {
			b.say(boardID, m)
			b.run(b.at+50*time.Millisecond, nil)
			*att, *told = nil, nil
			b.say(boardID, order(510, 30))
			b.run(b.at+time.Second, nil)
			if len(*told) != 1 {
				t.Fatalf("told %v", *told)
			}
			return len(*att), (*told)[0].IntervalUs
		}
		if n, usec := second(order(511, 30, 200_000)); n < 4 || n > 6 || usec != 200_000 {
			t.Errorf("%v: %d a second, %d µs", stack, n, usec)
		}
		if n, usec := second(order(511, 30, -1)); n != 0 || usec != -1 {
			t.Errorf("%v: off: %d, %d µs", stack, n, usec)
		}
		if n, usec := second(order(511, 30, 0)); n < 48 || n > 52 || usec != 20_000 {
			t.Errorf("%v: usual: %d, %d µs", stack, n, usec)
		}
		// Groups are ArduPilot's; EXTRA1 holds ATTITUDE.
		n, _ := second(&common.MessageRequestDataStream{TargetSystem: 1, TargetComponent: 1, ReqStreamId: 10, ReqMessageRate: 3, StartStop: 1})
		if want := map[vehicle.Stack]int{vehicle.ArduPilot: 3, vehicle.PX4: 50}[stack]; n < want-1 || n > want+2 {
			t.Errorf("%v: group: %d a second", stack, n)
		}
	}
}

func TestParameters(t *testing.T) {
	for i, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 60 * time.Second}, vehicle.Loss{})
		b.run(5*time.Second, nil)
		got := collect[*common.MessageParamValue](b)
		all := len(vehicle.ParamWords(stack)) / 2
		b.say(boardID, &common.MessageParamRequestList{TargetSystem: 1, TargetComponent: 1})
		b.run(9*time.Second, nil)
		if len(*got) != all || int((*got)[all-1].ParamIndex) != all-1 {
			t.Fatalf("%v: %d parameters, want %d", stack, len(*got), all)
		}
		name, second := (*got)[0].ParamId, (*got)[1].ParamId
		ask := func(m message.Message) *common.MessageParamValue {
			*got = nil
			b.say(boardID, m)
			b.run(b.at+100*time.Millisecond, nil)
			if len(*got) == 0 {
				return nil
			}
			return (*got)[0]
		}
		byName := []uint16{65535, 0}[i]
		if p := ask(&common.MessageParamRequestRead{TargetSystem: 1, TargetComponent: 1, ParamId: name, ParamIndex: -1}); p == nil || p.ParamId != name || p.ParamIndex != byName {
			t.Errorf("%v: by name: %+v", stack, p)
		}
		if p := ask(&common.MessageParamRequestRead{TargetSystem: 1, TargetComponent: 1, ParamIndex: 1}); p == nil || p.ParamId != second || p.ParamIndex != 1 {
			t.Errorf("%v: by index: %+v", stack, p)
		}
		if p := ask(&common.MessageParamRequestRead{TargetSystem: 1, TargetComponent: 1, ParamIndex: 30000}); p != nil {
			t.Errorf("%v: no such index: %+v", stack, p)
		}
		if p := ask(&common.MessageParamSet{TargetSystem: 1, TargetComponent: 1, ParamId: name, ParamValue: 0.25}); p == nil || p.ParamValue != 0.25 {
			t.Errorf("%v: set: %+v", stack, p)
		}
		if p := ask(&common.MessageParamSet{TargetSystem: 1, TargetComponent: 1, ParamId: "NO_SUCH", ParamValue: 1}); p != nil {
			t.Errorf("%v: set of nothing: %+v", stack, p)
		}
		sets := b.v.Counts().ParamSets
		if len(sets) != 2 || sets[0].Name != name || !sets[0].Known || sets[0].Value != 0.25 || sets[0].Component != boardID || sets[1].Known {
			t.Errorf("%v: noted %+v", stack, sets)
		}
	}
}

func TestMission(t *testing.T) {
	for _, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 60 * time.Second}, vehicle.Loss{})
		counts, acks := collect[*common.MessageMissionCount](b), collect[*common.MessageMissionAck](b)
		items, floats := collect[*common.MessageMissionItemInt](b), collect[*common.MessageMissionItem](b)
		ask := func(m message.Message) {
			b.say(boardID, m)
			b.run(b.at+50*time.Millisecond, nil)
		}
		ask(&common.MessageMissionRequestList{TargetSystem: 1, TargetComponent: 1})
		ask(&common.MessageMissionRequestList{TargetSystem: 1, TargetComponent: 1, MissionType: 1})
		if len(*counts) != 2 || (*counts)[0].Count < 10 || (*counts)[0].TargetComponent != boardID || (*counts)[1].Count != 0 {
			t.Fatalf("%v: %+v", stack, *counts)
		}
		n := (*counts)[0].Count
		for seq := range n + 1 {
			ask(&common.MessageMissionRequestInt{TargetSystem: 1, TargetComponent: 1, Seq: seq})
			ask(&common.MessageMissionRequest{TargetSystem: 1, TargetComponent: 1, Seq: seq})
		}
		if len(*items) != int(n) || len(*floats) != int(n) || len(*acks) != 2 || (*acks)[0].Type != common.MAV_MISSION_INVALID_SEQUENCE {
			t.Fatalf("%v: %d items, %d floats of %d, %v", stack, len(*items), len(*floats), n, *acks)
		}
		for i, item := range *items {
			if int(item.Seq) != i || math.Abs(float64(item.X)/1e7-float64((*floats)[i].X)) > 1e-4 {
				t.Errorf("%v: item %d: %+v, %+v", stack, i, item, (*floats)[i])
			}
		}
		if (*items)[1].Command != common.MAV_CMD_NAV_TAKEOFF || (*items)[n-1].Command != common.MAV_CMD_NAV_RETURN_TO_LAUNCH {
			t.Errorf("%v: %+v", stack, *items)
		}
	}
}

func TestTimesyncIsAnswered(t *testing.T) {
	for _, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 9 * time.Second}, vehicle.Loss{})
		got := collect[*common.MessageTimesync](b)
		b.run(2*time.Second, nil)
		*got = nil
		b.say(boardID, &common.MessageTimesync{Ts1: 123456789})
		b.say(boardID, &common.MessageTimesync{Tc1: 5, Ts1: 7}) // an answer, to nobody's request
		asked := b.at
		b.run(2100*time.Millisecond, nil)
		var answers []*common.MessageTimesync
		for _, m := range *got {
			if m.Tc1 != 0 {
				answers = append(answers, m)
			}
		}
		if len(answers) != 1 || answers[0].Ts1 != 123456789 || answers[0].TargetComponent != boardID {
			t.Fatalf("%v: %+v", stack, answers)
		}
		if at := time.Duration(answers[0].Tc1); at < asked || at > asked+20*time.Millisecond {
			t.Errorf("%v: asked at %v, answered %v", stack, asked, at)
		}
	}
}

// The clock of the vehicle as it comes late, starts in 1970, and jumps.
func TestClockOptions(t *testing.T) {
	for _, stack := range stacks {
		o := vehicle.Options{
			Stack: stack, Start: start, Duration: 30 * time.Second, TimeLate: 10 * time.Second,
			Jumps: []vehicle.Jump{{At: 15 * time.Second, By: time.Hour}, {At: 20 * time.Second, By: -2 * time.Hour}},
		}
		for _, o.Clock1970 = range []bool{false, true} {
			b := newBoard(t, o, vehicle.Loss{})
			b.v.Hush()
			seen := 0
			b.hear = func(_ *mavlink.Frame, m message.Message) {
				s, ok := m.(*common.MessageSystemTime)
				if !ok {
					return
				}
				seen++
				want := start.Add(time.Duration(s.TimeBootMs) * time.Millisecond)
				switch up := time.Duration(s.TimeBootMs) * time.Millisecond; {
				case up < 10*time.Second && !o.Clock1970:
					want = time.UnixMicro(0)
				case up < 10*time.Second:
					want = time.UnixMilli(int64(s.TimeBootMs))
				case up >= 20*time.Second:
					want = want.Add(-time.Hour)
				case up >= 15*time.Second:
					want = want.Add(time.Hour)
				}
				if d := time.UnixMicro(int64(s.TimeUnixUsec)).Sub(want).Abs(); d > 2*time.Millisecond {
					t.Errorf("%v: at %d ms %d µs, %v off", stack, s.TimeBootMs, s.TimeUnixUsec, d)
				}
			}
			if b.run(time.Minute, nil); seen < 29 {
				t.Errorf("%v: SYSTEM_TIME came %d times", stack, seen)
			}
		}
	}
}

// A restart in the air: silence, then numbers and boot time from the start, armed all along.
func TestReboot(t *testing.T) {
	for _, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 40 * time.Second, RebootAt: 20 * time.Second, Camera: true}, vehicle.Loss{})
		var silent time.Duration
		var last, lastBeat time.Duration
		seq := -1
		b.hear = func(f *mavlink.Frame, m message.Message) {
			if f.Component != 1 {
				return
			}
			if b.at-last > silent {
				silent, seq = b.at-last, int(f.Seq)
			}
			last = b.at
			switch m := m.(type) {
			case *common.MessageHeartbeat:
				lastBeat = b.at
				if armed := m.BaseMode&common.MAV_MODE_FLAG_SAFETY_ARMED != 0; !armed && b.at > 19*time.Second && b.at < 30*time.Second {
					t.Errorf("%v: disarmed at %v", stack, b.at)
				}
			case *common.MessageAttitude:
				want := b.at
				if b.at > 20*time.Second {
					want -= 20 * time.Second
				}
				if d := time.Duration(m.TimeBootMs)*time.Millisecond - want; d.Abs() > 30*time.Millisecond {
					t.Fatalf("%v: boot time %d ms at %v", stack, m.TimeBootMs, b.at)
				}
			}
		}
		params := collect[*common.MessageParamValue](b)
		b.run(21*time.Second, nil)
		*params = nil
		b.say(boardID, &common.MessageParamRequestList{TargetSystem: 1, TargetComponent: 1}) // nobody hears it
		b.run(40*time.Second, nil)
		if silent < 1400*time.Millisecond || silent > 1700*time.Millisecond || seq != 0 || lastBeat < 39*time.Second {
			t.Errorf("%v: silent for %v, then number %d, last heartbeat %v", stack, silent, seq, lastBeat)
		}
		if len(*params) != len(vehicle.ParamWords(stack))/2 {
			t.Errorf("%v: %d parameters after the restart", stack, len(*params))
		}
		logs := b.v.Logs()
		if n := b.v.Counts(); len(logs) != 4 || n.Ignored != 1 {
			t.Errorf("%v: %d logs, %+v", stack, len(logs), n)
		}
		for _, l := range logs {
			if _, err := readLog(stack, l.Data); err != nil {
				t.Errorf("%s: %v", l.Path, err)
			}
		}
	}
}
