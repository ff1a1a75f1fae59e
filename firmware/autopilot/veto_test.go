package autopilot_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
)

// ask sends PX4's request for authorisation and returns the answers: two that are the same.
func ask(r *rig, system, component uint8) []*common.MessageCommandAck {
	before := len(sentOf[*common.MessageCommandAck](r))
	r.pilot.say(&common.MessageCommandLong{TargetSystem: system, TargetComponent: component, Command: common.MAV_CMD_ARM_AUTHORIZATION_REQUEST})
	r.run(50 * time.Millisecond)
	return sentOf[*common.MessageCommandAck](r)[before:]
}

func answered(t *testing.T, name string, got []*common.MessageCommandAck, result common.MAV_RESULT, param2 int32) {
	t.Helper()
	if len(got) != 2 || *got[0] != *got[1] || got[0].Result != result || got[0].ResultParam2 != param2 || got[0].Progress != 0 || got[0].TargetSystem != 1 {
		t.Errorf("%s: answers %+v", name, got)
	}
}

func TestVeto(t *testing.T) {
	for _, f := range []allow.Fault{allow.FaultLock, allow.FaultVault, allow.FaultKeys, allow.FaultLink} {
		r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{VetoOn: true}, 0)
		r.run(2 * time.Second)
		answered(t, "well", ask(r, 1, 0), common.MAV_RESULT_ACCEPTED, 5)
		setFault(&r.health, f, true)
		answered(t, f.String(), ask(r, 1, 0), common.MAV_RESULT_DENIED, 0)
		for range 3 { // PX4 repeats what it does not see answered
			answered(t, f.String(), ask(r, 1, 191), common.MAV_RESULT_DENIED, 0)
		}
		r.run(5 * time.Second)
		if got := r.has("arming_denied"); !slices.Equal(got, []string{f.String()}) {
			t.Errorf("%v: arming_denied %q", f, got)
		}
		if !slices.Contains(r.texts(), f.DeniedText()) {
			t.Errorf("%v: texts %q", f, r.texts())
		}
		if bits, _ := r.beatBits(); bits&allow.BitNoObjection != 0 {
			t.Errorf("%v: custom_mode %b", f, bits)
		}
		setFault(&r.health, f, false)
		answered(t, "well again", ask(r, 1, 0), common.MAV_RESULT_ACCEPTED, 5)
	}
}

// TestVetoIsNeverInTheAir: what is armed, or may be, is never denied.
func TestVetoIsNeverInTheAir(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_PX4)
	r := newRig(t, pilot, autopilot.Config{VetoOn: true}, 0)
	r.run(2 * time.Second)
	r.health.Lock = false
	pilot.arm(true)
	r.run(time.Second)
	answered(t, "armed", ask(r, 1, 0), common.MAV_RESULT_ACCEPTED, 5)
	if got := r.has("armed_against_veto"); !slices.Equal(got, []string{"lock"}) {
		t.Errorf("armed_against_veto: %q", got)
	}
	pilot.arm(false)
	r.run(time.Second)
	pilot.silent = true
	r.run(4 * time.Second)
	answered(t, "silent", ask(r, 1, 0), common.MAV_RESULT_ACCEPTED, 5)
	if len(r.has("arming_denied")) != 0 {
		t.Errorf("%v", r.events)
	}
}

// TestVetoIsOff by default, and does not answer for others.
func TestVetoIsOff(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{}, 0)
	r.health.Lock = false
	r.run(2 * time.Second)
	if got := ask(r, 1, 0); len(got) != 0 {
		t.Errorf("answers %+v", got)
	}
	if bits, _ := r.beatBits(); bits&allow.BitNoObjection == 0 {
		t.Errorf("custom_mode %b", bits)
	}
	r.pilot.arm(true)
	r.run(time.Second)
	if len(r.has("armed_against_veto")) != 0 {
		t.Errorf("%v", r.events)
	}
	r = newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{VetoOn: true}, 0)
	r.run(2 * time.Second)
	if got := append(ask(r, 10, 0), ask(r, 1, 100)...); len(got) != 0 {
		t.Errorf("answers for somebody else: %+v", got)
	}
	// A ground station cannot ask.
	r.say(255, 190, &common.MessageCommandLong{TargetSystem: 1, Command: common.MAV_CMD_ARM_AUTHORIZATION_REQUEST})
	r.run(time.Second)
	if got := sentOf[*common.MessageCommandAck](r); len(got) != 0 {
		t.Errorf("answers to a ground station: %+v", got)
	}
}

func TestOverride(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_PX4)
	r := newRig(t, pilot, autopilot.Config{VetoOn: true}, 0)
	r.run(2 * time.Second)
	r.override, r.lifted = "search for a missing person", true
	answered(t, "well", ask(r, 1, 0), common.MAV_RESULT_ACCEPTED, 5)
	if len(r.has("arming_override")) != 0 {
		t.Error("recorded although nothing was to be lifted")
	}
	r.health.Keys = false
	for range 2 {
		answered(t, "lifted", ask(r, 1, 0), common.MAV_RESULT_ACCEPTED, 5)
		pilot.arm(true)
		r.run(2 * time.Second)
		if bits, state := r.beatBits(); bits != allow.BitNoObjection|allow.FaultKeys.Bit() || state != common.MAV_STATE_CRITICAL {
			t.Errorf("custom_mode %b, %v", bits, state)
		}
		pilot.arm(false)
		r.run(2 * time.Second)
	}
	if got := r.has("arming_override"); len(got) != 2 || got[0] != "keys: search for a missing person" {
		t.Errorf("arming_override: %q", got)
	}
	if len(r.has("armed_against_veto")) != 0 || len(r.has("arming_denied")) != 0 {
		t.Errorf("%v", r.events)
	}
}

// TestScriptDenies: ArduPilot says that the script refused.
func TestScriptDenies(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA), autopilot.Config{VetoOn: true}, 0)
	r.run(2 * time.Second)
	r.health.Vault = false
	r.run(2 * time.Second)
	r.pilot.say(&common.MessageStatustext{Text: "PreArm: Holdfast: recording has stopped"})
	r.pilot.say(&common.MessageStatustext{Text: "Arm: Holdfast: recording has stopped"})
	r.run(time.Second)
	if got := r.has("arming_denied"); !slices.Equal(got, []string{"vault"}) {
		t.Errorf("%q", got)
	}
}

// TestScriptAndListAgree on the bits and what they are called.
func TestScriptAndListAgree(t *testing.T) {
	script := readFile(t, armingScript)
	for bit, f := range map[string]allow.Fault{"1 << 1": allow.FaultLock, "1 << 2": allow.FaultVault, "1 << 3": allow.FaultKeys} {
		if line := "{ " + bit + ", \"" + f.Text(false, 0) + "\" }"; !strings.Contains(script, line) || f.Bit() != 1<<f {
			t.Errorf("the script lacks %s", line)
		}
	}
}
