package vehicle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/vehicle"
)

// authoriser answers arm requests, with the results in turn; 255 is no answer. target is
// the system it names.
type authoriser struct {
	results []uint8
	target  uint8
	asked   []time.Duration
}

func (a *authoriser) attach(b *board) {
	b.hear = func(_ *mavlink.Frame, m message.Message) {
		c, ok := m.(*common.MessageCommandLong)
		if !ok || c.Command != common.MAV_CMD_ARM_AUTHORIZATION_REQUEST {
			return
		}
		a.asked = append(a.asked, b.at)
		r := a.results[min(len(a.asked), len(a.results))-1]
		if r != 255 {
			b.say(boardID, &common.MessageCommandAck{
				Command: c.Command, Result: common.MAV_RESULT(r), TargetSystem: a.target, TargetComponent: 1,
			})
		}
	}
}

func TestArmAuthorisation(t *testing.T) {
	for _, tt := range []struct {
		name    string
		results []uint8
		target  uint8
		force   bool
		armed   bool
		asked   int
		want    vehicle.Counts
	}{
		{"at once", []uint8{0}, 1, false, true, 1, vehicle.Counts{ArmAccepted: 1}},
		{"denied, then not", []uint8{2, 1, 0}, 1, false, true, 3, vehicle.Counts{ArmDenied: 2, ArmAccepted: 1}},
		{"no answer, then one", []uint8{255, 0}, 1, false, true, 2, vehicle.Counts{ArmUnanswered: 1, ArmAccepted: 1}},
		{"in progress for ever", []uint8{5}, 1, false, false, 0, vehicle.Counts{}},
		{"denied for ever", []uint8{2}, 1, false, false, 0, vehicle.Counts{}},
		{"answer to another system", []uint8{0}, 7, false, false, 0, vehicle.Counts{}},
		{"answer to nobody in particular", []uint8{0}, 0, false, false, 0, vehicle.Counts{}},
		{"denied, forced", []uint8{2}, 1, true, true, 1, vehicle.Counts{ArmDenied: 1, ArmForced: true}},
		{"no answer, forced", []uint8{255}, 1, true, true, 1, vehicle.Counts{ArmUnanswered: 1, ArmForced: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(t, vehicle.Options{Stack: vehicle.PX4, Duration: 40 * time.Second, ArmAuth: true, Force: tt.force}, vehicle.Loss{})
			b.v.Hush()
			a := &authoriser{results: tt.results, target: tt.target}
			a.attach(b)
			b.run(25*time.Second, nil)
			n := b.v.Counts()
			if b.v.State().Armed != tt.armed || tt.asked > 0 && len(a.asked) != tt.asked || int(n.ArmRequests) != len(a.asked) {
				t.Fatalf("armed %v, asked %d times; %+v", b.v.State().Armed, len(a.asked), n)
			}
			if tt.armed && (n.ArmAccepted != tt.want.ArmAccepted || n.ArmDenied != tt.want.ArmDenied || n.ArmUnanswered != tt.want.ArmUnanswered || n.ArmForced != tt.want.ArmForced) {
				t.Errorf("%+v", n)
			}
			for i := 1; i < len(a.asked); i++ {
				if d := a.asked[i] - a.asked[i-1]; d < 3*time.Second || d > 5*time.Second {
					t.Errorf("asked again after %v", d)
				}
			}
			if b.run(time.Minute, nil); b.v.State().Armed || tt.armed != (b.v.State().Phase == "disarmed") {
				t.Errorf("ends as %+v", b.v.State())
			}
		})
	}
}

// Without the option nobody is asked, and an answer to no question does nothing.
func TestArmUnasked(t *testing.T) {
	b := newBoard(t, vehicle.Options{Stack: vehicle.PX4, Duration: 40 * time.Second, ArmAuth: true}, vehicle.Loss{})
	b.v.Hush()
	b.tick = func() {
		if b.at < 7*time.Second {
			b.say(boardID, &common.MessageCommandAck{Command: 3001, TargetSystem: 1, TargetComponent: 1})
		}
	}
	b.run(30*time.Second, nil)
	if b.v.State().Armed || b.v.Counts().ArmAccepted != 0 {
		t.Errorf("armed by an answer that came too soon: %+v", b.v.Counts())
	}
}

// heartbeats sends those of the onboard computer each second while well says how.
func heartbeats(b *board, beat func(at time.Duration) *common.MessageHeartbeat, comp byte) {
	next := time.Duration(0)
	b.tick = func() {
		if b.at < next {
			return
		}
		next = b.at + time.Second
		if m := beat(b.at); m != nil {
			b.say(comp, m)
		}
	}
}

func TestAuxiliaryAuthorisation(t *testing.T) {
	good := common.MessageHeartbeat{Type: common.MAV_TYPE_ONBOARD_CONTROLLER, Autopilot: 8, SystemStatus: common.MAV_STATE_ACTIVE, CustomMode: 1}
	with := func(change func(*common.MessageHeartbeat)) func(time.Duration) *common.MessageHeartbeat {
		m := good
		change(&m)
		return func(time.Duration) *common.MessageHeartbeat { return &m }
	}
	always := with(func(*common.MessageHeartbeat) {})
	for _, tt := range []struct {
		name  string
		beat  func(time.Duration) *common.MessageHeartbeat
		comp  byte
		force bool
		armed bool
		says  string
	}{
		{"well", always, 191, false, true, ""},
		{"other modes too", with(func(m *common.MessageHeartbeat) { m.CustomMode = 0xF3 }), 191, false, true, ""},
		{"silent", func(time.Duration) *common.MessageHeartbeat { return nil }, 191, false, false, "not heard"},
		{"not well", with(func(m *common.MessageHeartbeat) { m.CustomMode = 2 }), 191, false, false, "not well"},
		{"critical", with(func(m *common.MessageHeartbeat) { m.SystemStatus = common.MAV_STATE_CRITICAL }), 191, false, false, "not well"},
		{"another component", always, 190, false, false, "not heard"},
		{"another type", with(func(m *common.MessageHeartbeat) { m.Type = common.MAV_TYPE_GCS }), 191, false, false, "not heard"},
		{"well, then silent", func(at time.Duration) *common.MessageHeartbeat {
			if at > 3*time.Second {
				return nil
			}
			return always(at)
		}, 191, false, false, "not heard"},
		{"well too late", func(at time.Duration) *common.MessageHeartbeat {
			if at < 12*time.Second {
				return nil
			}
			return always(at)
		}, 191, false, true, "not heard"},
		{"forced", func(time.Duration) *common.MessageHeartbeat { return nil }, 191, true, true, "not heard"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(t, vehicle.Options{Duration: 40 * time.Second, AuxAuth: true, Force: tt.force}, vehicle.Loss{})
			b.v.Hush()
			heartbeats(b, tt.beat, tt.comp)
			texts := collect[*common.MessageStatustext](b)
			b.run(19*time.Second, nil)
			said := 0
			for _, s := range *texts {
				if strings.HasPrefix(s.Text, "PreArm: Holdfast: ") {
					said++
					if !strings.HasSuffix(s.Text, tt.says) || tt.says == "" {
						t.Errorf("says %q", s.Text)
					}
				}
			}
			n := b.v.Counts()
			if b.v.State().Armed != tt.armed || said != int(n.ArmHeld) || (said > 0) != (tt.says != "") || n.ArmForced != tt.force {
				t.Errorf("armed %v, said %d times, %+v", b.v.State().Armed, said, n)
			}
		})
	}
}

// A flight that begins late still ends in time.
func TestLateArmingLandsInTime(t *testing.T) {
	for wait := 6; wait < 20; wait++ {
		b := newBoard(t, vehicle.Options{Stack: vehicle.PX4, Duration: 20 * time.Second, ArmAuth: true}, vehicle.Loss{})
		b.v.Hush()
		a := &authoriser{results: []uint8{255}, target: 1}
		a.attach(b)
		b.run(time.Duration(wait)*time.Second, nil)
		a.results = []uint8{0}
		b.run(time.Minute, nil)
		if s := b.v.State(); s.Armed || s.Height > 0.05 {
			t.Errorf("allowed at %d s: ends %+v", wait, s)
		}
	}
}

func TestScript(t *testing.T) {
	o := vehicle.Options{Duration: 9 * time.Second, Script: []vehicle.Scripted{
		vehicle.Command(3*time.Second, 100, common.MAV_CMD_IMAGE_START_CAPTURE, 0, 2, 5),
		vehicle.Command(2*time.Second, 101, common.MAV_CMD_REQUEST_MESSAGE, 259),
		{At: 4 * time.Second, From: 1, Msg: &common.MessageCameraTrigger{Seq: 9}},
		{At: 4 * time.Second, System: 42, From: 7, Msg: &common.MessagePing{}},
	}}
	b := newBoard(t, o, vehicle.Loss{})
	type sent struct {
		system mavlink.SystemID
		comp   mavlink.ComponentID
		seq    uint8
		at     time.Duration
	}
	got := map[uint32][]sent{}
	commands := collect[*common.MessageCommandLong](b)
	next := b.hear
	b.hear = func(f *mavlink.Frame, m message.Message) {
		next(f, m)
		got[m.GetID()] = append(got[m.GetID()], sent{f.System, f.Component, f.Seq, b.at.Truncate(10 * time.Millisecond)})
	}
	b.run(time.Minute, nil)
	if g := got[76]; len(g) != 2 || g[0] != (sent{255, 190, 0, 2 * time.Second}) || g[1] != (sent{255, 190, 1, 3 * time.Second}) {
		t.Errorf("commands %+v", g)
	}
	if c := (*commands)[1]; c.TargetSystem != 1 || c.TargetComponent != 100 || c.Param2 != 2 || c.Param3 != 5 {
		t.Errorf("%+v", c)
	}
	if g := got[112]; len(g) != 1 || g[0].system != 1 || g[0].comp != 1 {
		t.Errorf("trigger %+v", g)
	}
	if g := got[4]; len(g) != 1 || g[0].system != 42 || g[0].comp != 7 {
		t.Errorf("ping %+v", g)
	}
}

// What cameras and others answer is counted.
func TestOthersAreCounted(t *testing.T) {
	b := newBoard(t, vehicle.Options{Duration: 9 * time.Second}, vehicle.Loss{})
	b.run(time.Second, nil)
	b.say(100, &common.MessageCameraImageCaptured{ImageIndex: 3})
	b.say(105, &common.MessageCameraImageCaptured{ImageIndex: 4})
	b.say(106, &common.MessageCameraImageCaptured{ImageIndex: 5})
	b.say(100, &common.MessageCommandAck{Command: 2000, Result: 0, TargetSystem: 255, TargetComponent: 190})
	b.v.Hear(b.at, []byte("noise \xFD on the line"))
	b.run(2*time.Second, nil)
	n := b.v.Counts()
	if n.Images != 2 || len(n.Acks) != 1 || n.Acks[0].Command != 2000 || n.Acks[0].Component != 100 || n.Heard != 4 || n.HeardBy["100/CAMERA_IMAGE_CAPTURED"] != 1 {
		t.Errorf("%+v", n)
	}
}
