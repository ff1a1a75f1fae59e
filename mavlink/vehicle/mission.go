package vehicle

import (
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// hearMission serves the survey as a mission (https://mavlink.io/en/services/mission.html).
// There are no fence and no rally points. Nothing can be uploaded.
func (v *Vehicle) hearMission(from sender, m message.Message) {
	switch m := m.(type) {
	case *common.MessageMissionRequestList:
		count := &common.MessageMissionCount{TargetSystem: from.system, TargetComponent: from.comp, MissionType: m.MissionType}
		if m.MissionType == common.MAV_MISSION_TYPE_MISSION {
			count.Count, count.OpaqueId = v.missionTotal()+1, missionID
		}
		v.later(count)
	case *common.MessageMissionRequestInt:
		v.answerItem(from, m.Seq, m.MissionType, func(item *common.MessageMissionItemInt) message.Message { return item })
	case *common.MessageMissionRequest:
		v.answerItem(from, m.Seq, m.MissionType, floatItem)
	}
}

func (v *Vehicle) answerItem(from sender, seq uint16, kind common.MAV_MISSION_TYPE, as func(*common.MessageMissionItemInt) message.Message) {
	if kind != common.MAV_MISSION_TYPE_MISSION || seq > v.missionTotal() {
		v.later(&common.MessageMissionAck{
			TargetSystem: from.system, TargetComponent: from.comp, Type: common.MAV_MISSION_INVALID_SEQUENCE, MissionType: kind,
		})
		return
	}
	item := v.missionItem(seq)
	item.TargetSystem, item.TargetComponent = from.system, from.comp
	v.later(as(item))
}

// missionItem is one item of the flight: see missionSeq.
func (v *Vehicle) missionItem(seq uint16) *common.MessageMissionItemInt {
	item := &common.MessageMissionItemInt{
		Seq: seq, Frame: common.MAV_FRAME_GLOBAL_RELATIVE_ALT_INT, Command: common.MAV_CMD_NAV_WAYPOINT, Autocontinue: 1,
	}
	if seq == v.missionSeq() {
		item.Current = 1
	}
	var at vec
	switch {
	case seq == 0:
		item.Frame = common.MAV_FRAME_GLOBAL_INT
		item.Z = float32(v.nav.homeAlt)
	case seq == 1:
		item.Command, item.Z = common.MAV_CMD_NAV_TAKEOFF, float32(v.plan.height)
	case seq == v.missionTotal():
		item.Command = common.MAV_CMD_NAV_RETURN_TO_LAUNCH
		return item
	default:
		at = v.plan.grid[seq-2]
		item.Z = float32(-at[2])
	}
	item.X, item.Y = v.nav.e7(at)
	return item
}

// floatItem is an item as MISSION_REQUEST, the older request, asks for it.
func floatItem(i *common.MessageMissionItemInt) message.Message {
	return &common.MessageMissionItem{
		TargetSystem: i.TargetSystem, TargetComponent: i.TargetComponent, Seq: i.Seq, Frame: floatFrame(i.Frame), Command: i.Command,
		Current: i.Current, Autocontinue: i.Autocontinue, Param1: i.Param1, Param2: i.Param2, Param3: i.Param3, Param4: i.Param4,
		X: float32(float64(i.X) / 1e7), Y: float32(float64(i.Y) / 1e7), Z: i.Z, MissionType: i.MissionType,
	}
}

func floatFrame(f common.MAV_FRAME) common.MAV_FRAME {
	if f == common.MAV_FRAME_GLOBAL_INT {
		return common.MAV_FRAME_GLOBAL
	}
	return common.MAV_FRAME_GLOBAL_RELATIVE_ALT
}
