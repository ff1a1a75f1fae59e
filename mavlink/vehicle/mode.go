package vehicle

import (
	"fmt"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// copterMode is ArduPilot Copter's custom_mode in a phase.
func copterMode(p phase) uint32 {
	const stabilize, auto, rtl, land = 0, 3, 6, 9
	switch p {
	case armed, takeOff, surveying:
		return auto
	case returning:
		return rtl
	case landing, landed:
		return land
	}
	return stabilize
}

// px4Mode is PX4's custom_mode in a phase: main mode in byte 2, sub mode in byte 3.
func px4Mode(p phase) uint32 {
	const position, auto = 3 << 16, 4 << 16
	const takeoff, mission, rtl, land = 2 << 24, 4 << 24, 5 << 24, 6 << 24
	switch p {
	case armed, takeOff:
		return auto | takeoff
	case surveying:
		return auto | mission
	case returning:
		return auto | rtl
	case landing, landed:
		return auto | land
	}
	return position
}

func (v *Vehicle) customMode() uint32 {
	if v.opt.Stack == PX4 {
		return px4Mode(v.pilot.phase)
	}
	return copterMode(v.pilot.phase)
}

func heartbeat(v *Vehicle) message.Message {
	m := &common.MessageHeartbeat{
		Type: common.MAV_TYPE_QUADROTOR, Autopilot: common.MAV_AUTOPILOT_ARDUPILOTMEGA,
		BaseMode:   common.MAV_MODE_FLAG_CUSTOM_MODE_ENABLED | common.MAV_MODE_FLAG_STABILIZE_ENABLED,
		CustomMode: v.customMode(), SystemStatus: v.systemStatus(), MavlinkVersion: 3,
	}
	if v.opt.Stack == PX4 {
		m.Autopilot = common.MAV_AUTOPILOT_PX4
	}
	if v.pilot.armed() {
		m.BaseMode |= common.MAV_MODE_FLAG_SAFETY_ARMED | common.MAV_MODE_FLAG_GUIDED_ENABLED | common.MAV_MODE_FLAG_AUTO_ENABLED
	} else {
		m.BaseMode |= common.MAV_MODE_FLAG_MANUAL_INPUT_ENABLED
	}
	return m
}

func (v *Vehicle) systemStatus() common.MAV_STATE {
	switch p := v.pilot.phase; {
	case p == boot && v.now < v.plan.gpsAt/2:
		return common.MAV_STATE_BOOT
	case p == boot:
		return common.MAV_STATE_CALIBRATING
	case v.pilot.armed():
		return common.MAV_STATE_ACTIVE
	}
	return common.MAV_STATE_STANDBY
}

func extendedState(v *Vehicle) message.Message {
	m := &common.MessageExtendedSysState{VtolState: common.MAV_VTOL_STATE_MC, LandedState: common.MAV_LANDED_STATE_ON_GROUND}
	if !v.body.onGround {
		m.LandedState = common.MAV_LANDED_STATE_IN_AIR
		switch v.pilot.phase {
		case takeOff:
			m.LandedState = common.MAV_LANDED_STATE_TAKEOFF
		case landing:
			m.LandedState = common.MAV_LANDED_STATE_LANDING
		}
	}
	return m
}

// missionSeq is the number of the mission item flown to: 0 is home, 1 the take-off, then
// the grid, at last the return. In the air the grid is flown in laps.
func (v *Vehicle) missionSeq() uint16 {
	switch p := v.pilot.phase; {
	case p < takeOff:
		return 0
	case p == takeOff:
		return 1
	case p == surveying:
		return uint16(2 + v.pilot.next)
	}
	return v.missionTotal()
}

func (v *Vehicle) missionTotal() uint16 { return uint16(2 + len(v.plan.grid)) }

// missionID tells one plan from another; the survey of this flight never changes.
const missionID = 0x5f3a11d2

func missionCurrent(v *Vehicle) message.Message {
	m := &common.MessageMissionCurrent{
		Seq: v.missionSeq(), Total: v.missionTotal(), MissionId: missionID,
		MissionState: common.MISSION_STATE_NOT_STARTED, MissionMode: 2,
	}
	switch p := v.pilot.phase; {
	case p == takeOff || p == surveying:
		m.MissionState, m.MissionMode = common.MISSION_STATE_ACTIVE, 1
	case p > surveying:
		m.MissionState = common.MISSION_STATE_COMPLETE
	}
	return m
}

func (v *Vehicle) missionReached(waypoint int) {
	v.later(&common.MessageMissionItemReached{Seq: uint16(2 + waypoint)})
	if v.opt.Stack == ArduPilot {
		v.say(common.MAV_SEVERITY_INFO, "Reached command #%d", 2+waypoint)
	}
}

// later queues a message of the autopilot for this step.
func (v *Vehicle) later(m message.Message) { v.events = append(v.events, m) }

func (v *Vehicle) say(s common.MAV_SEVERITY, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	v.later(&common.MessageStatustext{Severity: s, Text: text})
	v.logText(s, text)
}

// announce sends what an autopilot says when a phase begins. The HEARTBEAT goes out at
// once, as autopilots do when mode or arming change.
func (v *Vehicle) announce(p phase) {
	v.later(heartbeat(v))
	info := common.MAV_SEVERITY_INFO
	switch p {
	case standby:
		v.later(globalOrigin(v))
		v.later(homePosition(v))
		v.say(info, "Origin set, GPS is in use")
		v.say(info, "Pre-arm checks passed")
	case armed:
		v.ack(common.MAV_CMD_COMPONENT_ARM_DISARM)
		v.say(common.MAV_SEVERITY_NOTICE, "Motors armed")
		v.later(homePosition(v))
	case takeOff:
		v.ack(common.MAV_CMD_NAV_TAKEOFF)
		v.say(info, "Take-off to %.1f m", v.plan.height)
	case surveying:
		v.later(&common.MessageMissionItemReached{Seq: 1})
		v.say(info, "Survey of %d waypoints begins", len(v.plan.grid))
	case returning:
		v.sayWhyHome()
	case landing:
		v.say(info, "Landing")
	case landed:
		v.say(info, "Ground contact")
	case disarmed:
		v.ack(common.MAV_CMD_COMPONENT_ARM_DISARM)
		v.say(common.MAV_SEVERITY_NOTICE, "Motors disarmed")
	}
	if v.opt.Stack == PX4 {
		v.later(v.event(p))
	}
}

func (v *Vehicle) sayWhyHome() {
	if v.power.left() < lowBattery {
		v.say(common.MAV_SEVERITY_WARNING, "Battery low, %.0f %% left, returning", v.power.left()*100)
		return
	}
	v.say(common.MAV_SEVERITY_INFO, "Survey over, returning")
}

func (v *Vehicle) ack(c common.MAV_CMD) {
	v.later(&common.MessageCommandAck{Command: c, TargetSystem: 255, TargetComponent: 190})
}
