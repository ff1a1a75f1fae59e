package vehicle

import (
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

const (
	armRetry = 3 * time.Second
	// armTimeout is COM_ARM_AUTH_TO as it comes.
	armTimeout = time.Second
	// wellFor is how long the onboard computer is taken to be well after it said so.
	wellFor = 3 * time.Second
	// leastArmed is the shortest time worth arming for.
	leastArmed = 1.0 // s
)

// arming is what stands between the plan and the motors. PX4 asks an authoriser
// (https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/commander/Arming/ArmAuthorization/ArmAuthorization.cpp);
// ArduPilot's auxiliary authorisation is a script on the autopilot that listens for the
// onboard computer.
type arming struct {
	late    bool // not armed when the plan said so
	tryAt   time.Duration
	waiting bool // for an authoriser
	until   time.Duration
	granted bool
	denied  bool // since the last try
	wellAt  time.Duration
	well    bool // it was well when last heard
	heard   bool
}

// mayArm tells that the vehicle may arm in this step. It asks for it where it must.
func (v *Vehicle) mayArm() bool {
	if !v.opt.ArmAuth && !v.opt.AuxAuth {
		return true
	}
	if v.dark() || v.remaining() < leastArmed {
		return false
	}
	ok := v.opt.ArmAuth && v.authorised() || v.opt.AuxAuth && v.companionWell()
	if !ok && v.opt.Force && v.arming.denied {
		v.counts.ArmForced = true
		v.say(common.MAV_SEVERITY_CRITICAL, "Arming forced")
		ok = true
	}
	v.arming.late = v.arming.late || !ok
	return ok
}

// authorised asks at its pace and tells that the answer was yes. An authoriser that is
// still at work is waited for no longer than one that says nothing.
func (v *Vehicle) authorised() bool {
	a := &v.arming
	switch {
	case a.granted:
		return true
	case a.waiting && v.now >= a.until:
		v.counts.ArmUnanswered++
		v.deny("Arm auth: No response")
	case !a.waiting && v.now >= a.tryAt:
		a.waiting, a.denied, a.until = true, false, v.now+armTimeout
		v.counts.ArmRequests++
		v.later(&common.MessageCommandLong{
			TargetSystem: v.opt.ArmAuthSystem, Command: common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, Param1: float32(v.opt.System),
		})
	}
	return false
}

func (v *Vehicle) deny(why string) {
	v.arming.waiting, v.arming.denied, v.arming.tryAt = false, true, v.now+armRetry
	v.say(common.MAV_SEVERITY_CRITICAL, "%s", why)
}

// hearAck takes the answer of the authoriser. PX4 looks at no answer that does not name it
// as the target. The time for which it counts does not matter: it arms at once.
func (v *Vehicle) hearAck(m *common.MessageCommandAck) {
	if !v.arming.waiting || m.Command != common.MAV_CMD_ARM_AUTHORIZATION_REQUEST || m.TargetSystem != v.opt.System {
		return
	}
	switch m.Result {
	case common.MAV_RESULT_IN_PROGRESS:
	case common.MAV_RESULT_ACCEPTED:
		v.counts.ArmAccepted++
		v.arming.waiting, v.arming.granted = false, true
	case common.MAV_RESULT_TEMPORARILY_REJECTED:
		v.counts.ArmDenied++
		v.deny("Arm auth: Temporarily rejected")
	default:
		v.counts.ArmDenied++
		v.deny("Arm auth: Denied")
	}
}

// hearHeartbeat notes how the onboard computer is: well if it is active and bit 0 of its
// custom mode is set.
func (v *Vehicle) hearHeartbeat(from sender, m *common.MessageHeartbeat) {
	if from.system != v.opt.System || from.comp != onboardID || m.Type != common.MAV_TYPE_ONBOARD_CONTROLLER {
		return
	}
	v.arming.heard, v.arming.wellAt = true, v.now
	v.arming.well = m.SystemStatus == common.MAV_STATE_ACTIVE && m.CustomMode&1 != 0
}

// companionWell is the rule of the script on the autopilot; where it fails it says why.
func (v *Vehicle) companionWell() bool {
	a := &v.arming
	fresh := a.heard && v.now-a.wellAt <= wellFor
	if fresh && a.well {
		return true
	}
	if v.now < a.tryAt {
		return false
	}
	why := "not heard"
	if fresh {
		why = "not well"
	}
	v.counts.ArmHeld++
	v.deny("PreArm: Holdfast: " + why)
	return false
}
