package autopilot

import (
	"strings"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// approvalSeconds is how long PX4 may use an approval: with COM_ARM_AUTH_MET 1 the second command
// to arm comes after it.
const approvalSeconds = 5

// answerAgain is after what time an answer is sent a second time. PX4 passes over one that is not later
// on its clock than its request; in its simulation that clock stands still for 4 ms at a time, and an
// answer takes less than one. What comes when it waits no more it passes over, too.
const answerAgain = 10 * time.Millisecond

// denialAgain is how long a denial is not recorded again: PX4 repeats its request.
const denialAgain = 3 * time.Second

// veto answers requests for authorisation to arm
// (https://mavlink.io/en/services/arm_authorization.html). ArduPilot asks nobody: a script of
// ours in it reads the bits of the heartbeat. In the air nothing is denied: the request of a
// vehicle that is armed, or whose state is not known, is accepted.
type veto struct {
	nothing
	p          *Part
	denied     time.Duration
	hasDenied  bool
	overridden bool                      // and that was recorded, since the last disarming
	again      *common.MessageCommandAck // to be sent once more; nil: nothing is
	againAt    time.Duration
}

func (v *veto) step(now time.Duration) time.Duration {
	if v.again == nil {
		return now + idle
	}
	if now >= v.againAt {
		v.p.tell(v.again)
		v.again = nil
		return now + idle
	}
	return v.againAt
}

func (v *veto) handle(m message.Message, e *entry) {
	switch m := m.(type) {
	case *common.MessageCommandLong:
		if m.Command == common.MAV_CMD_ARM_AUTHORIZATION_REQUEST {
			v.request(m, e)
		}
	case *common.MessageStatustext:
		v.script(m)
	}
}

// request answers PX4. It sends target_system = COM_ARM_AUTH_ID and leaves the component 0.
func (v *veto) request(m *common.MessageCommandLong, e *entry) {
	us := m.TargetSystem == v.p.pilot.system && (m.TargetComponent == 0 || v.p.forUs(m.TargetSystem, m.TargetComponent))
	if !us || !v.p.cfg.VetoOn {
		return
	}
	v.p.look(true)
	if !v.p.pilot.mayAsk() || !v.p.objects() {
		v.lifted()
		v.answer(e, common.MAV_RESULT_ACCEPTED, approvalSeconds)
		return
	}
	if !v.answer(e, common.MAV_RESULT_DENIED, int32(common.MAV_ARM_AUTH_DENIED_REASON_GENERIC)) {
		return // what was not said is no denial; PX4 asks again
	}
	if v.deny() {
		v.p.texts.urgent = v.p.well.cause.DeniedText()
	}
}

// answer answers at once, and again; false: the link took nothing.
func (v *veto) answer(e *entry, result common.MAV_RESULT, param2 int32) bool {
	m := &common.MessageCommandAck{Command: common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, Result: result, ResultParam2: param2,
		TargetSystem: uint8(e.frame.System), TargetComponent: uint8(e.frame.Component)}
	v.again = nil
	if !v.p.tell(m) {
		return false
	}
	v.again, v.againAt = m, v.p.now+answerAgain
	return true
}

// deny records a denial, unless the same one was recorded just now.
func (v *veto) deny() bool {
	if v.hasDenied && v.p.now-v.denied < denialAgain {
		return false
	}
	v.denied, v.hasDenied = v.p.now, true
	v.p.event("arming_denied", v.p.well.cause.String())
	return true
}

// script hears that the script in ArduPilot refused to arm. "PreArm:" is the same text outside
// of an attempt (AP_Arming::check_failed).
func (v *veto) script(m *common.MessageStatustext) {
	if v.p.cfg.VetoOn && v.p.objects() && strings.HasPrefix(m.Text, "Arm: Holdfast") {
		v.deny()
	}
}

// lifted records once until disarming that arming is allowed by the operator alone.
func (v *veto) lifted() {
	if v.p.well.lifted && v.p.well.cause != 0 && !v.overridden {
		v.overridden = true
		v.p.event("arming_override", v.p.well.cause.String()+": "+v.p.well.override)
	}
}

// armed records that the vehicle was armed all the same.
func (v *veto) armed(on bool) {
	if !on {
		v.overridden = false
		return
	}
	v.p.look(true)
	v.lifted()
	if v.p.objects() {
		v.p.event("armed_against_veto", v.p.well.cause.String())
	}
}
