package allow_test

import (
	"sync"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

type shareCase struct {
	name      string
	sys, comp uint8
	m         message.Message
	pass      bool
}

var shareCases = []shareCase{
	{"heartbeat", 245, 190, heartbeat(6, 0), true},
	{"heartbeat in the vehicle's system", pilot, 240, heartbeat(18, 0), true},
	{"heartbeat as Holdfast", pilot, 191, heartbeat(18, 0), false},
	{"heartbeat as the autopilot", pilot, 1, heartbeat(18, 0), false},
	{"heartbeat as a camera of Holdfast's", pilot, 103, heartbeat(30, 0), false},
	{"heartbeat of nobody", 0, 190, heartbeat(18, 0), false},
	{"heartbeat with bits", 245, 190, heartbeat(18, 3), false},
	{"heartbeat of an autopilot", 9, 1, with(heartbeat(2, 0), func(m *common.MessageHeartbeat) { m.Autopilot = 3 }), false},
	{"arm", 245, 190, command(common.MAV_CMD_COMPONENT_ARM_DISARM, 1), true},
	{"arm somebody else", 245, 190, with(command(common.MAV_CMD_COMPONENT_ARM_DISARM, 1), func(m *common.MessageCommandLong) { m.TargetSystem = 255 }), false},
	{"command to all", 245, 190, with(command(common.MAV_CMD_COMPONENT_ARM_DISARM, 1), func(m *common.MessageCommandLong) { m.TargetSystem = 0 }), false},
	{"command to the radio", 245, 190, with(command(common.MAV_CMD_COMPONENT_ARM_DISARM, 1), func(m *common.MessageCommandLong) { m.TargetComponent = 68 }), false},
	{"command to the gimbal", 245, 190, with(command(common.MAV_CMD_DO_MOUNT_CONTROL), func(m *common.MessageCommandLong) { m.TargetComponent = 154 }), true},
	{"take-off", 245, 190, &common.MessageCommandInt{TargetSystem: pilot, TargetComponent: 1, Command: common.MAV_CMD_NAV_TAKEOFF}, true},
	{"log stream", 245, 190, command(common.MAV_CMD_LOGGING_START), false},
	{"log stream as an int", 245, 190, &common.MessageCommandInt{TargetSystem: pilot, TargetComponent: 1, Command: common.MAV_CMD_LOGGING_START}, false},
	{"request to authorise", 245, 190, command(common.MAV_CMD_ARM_AUTHORIZATION_REQUEST), false},
	{"authorise", 245, 190, ack(common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, 0), false},
	{"answer", 245, 190, ack(common.MAV_CMD_DO_MOUNT_CONTROL, 0), true},
	{"answer to the ground", 245, 190, with(ack(common.MAV_CMD_DO_MOUNT_CONTROL, 0), func(m *common.MessageCommandAck) { m.TargetSystem = 255 }), false},
	{"set-point", 245, 190, &common.MessageSetPositionTargetLocalNed{TargetSystem: pilot, TargetComponent: 1, X: 4}, true},
	{"set-point for all", 245, 190, &common.MessageSetPositionTargetLocalNed{X: 4}, false},
	{"manual control", 245, 190, &common.MessageManualControl{Target: pilot, X: 4}, true},
	{"manual control of somebody", 245, 190, &common.MessageManualControl{Target: 255, X: 4}, false},
	{"parameter", 245, 190, &common.MessageParamSet{TargetSystem: pilot, TargetComponent: 1, ParamId: "MPC_XY_CRUISE"}, true},
	{"mission", 245, 190, &common.MessageMissionItemInt{TargetSystem: pilot, TargetComponent: 1}, true},
	{"mode", 245, 190, &common.MessageSetMode{TargetSystem: pilot}, true},
	{"odometry", 245, 197, &common.MessageOdometry{X: 1}, true},
	{"obstacles", 245, 196, &common.MessageObstacleDistance{}, true},
	{"timesync", 245, 197, &common.MessageTimesync{Ts1: 4}, true},
	{"timesync to the ground", 245, 197, &common.MessageTimesync{Ts1: 4, TargetSystem: 255}, false},
	{"follow", 245, 197, &common.MessageFollowTarget{Lat: 4}, true},
	{"follow with a state", 245, 197, &common.MessageFollowTarget{CustomState: 4}, false},
	{"system time", 245, 190, &common.MessageSystemTime{TimeUnixUsec: 4}, false},
	{"ftp", 245, 190, ftp(3, "/APM/LOGS"), false},
	{"text", 245, 190, text("Holdfast: network lock open"), false},
	{"tunnel", 245, 190, &common.MessageTunnel{TargetSystem: pilot, TargetComponent: 1}, false},
	{"corrections", 245, 190, &common.MessageGpsRtcmData{Len: 4}, false},
	{"named value", 245, 190, &common.MessageNamedValueFloat{Name: "x"}, false},
	{"log list", 245, 190, &common.MessageLogRequestList{TargetSystem: pilot, TargetComponent: 1}, false},
	{"log erase", 245, 190, &common.MessageLogErase{TargetSystem: pilot, TargetComponent: 1}, false},
	{"remote id", 245, 190, &common.MessageOpenDroneIdSelfId{TargetSystem: pilot, TargetComponent: 1}, false},
	{"extended parameter", 245, 190, &common.MessageParamExtSet{TargetSystem: pilot, TargetComponent: 1, ParamValue: "x"}, false},
	{"tune", 245, 190, &common.MessagePlayTune{TargetSystem: pilot, TargetComponent: 1, Tune: "x"}, false},
}

func TestShare(t *testing.T) {
	for _, c := range shareCases {
		if err := list(everything).CheckShare(encode(t, c.sys, c.comp, c.m)); (err == nil) != c.pass {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestConcurrent: shares ask while Holdfast asks, for the race detector.
func TestConcurrent(t *testing.T) {
	l := list(everything)
	own, share := encode(t, pilot, 191, heartbeat(18, 1)), encode(t, 245, 190, heartbeat(6, 0))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if err := l.CheckShare(share); err != nil {
					t.Error(err)
				}
				if err := l.Check(own, true); err != nil {
					t.Error(err)
				}
				l.SetSystem(pilot)
			}
		})
	}
	wg.Wait()
}
