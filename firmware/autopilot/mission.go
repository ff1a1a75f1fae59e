package autopilot

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/storage/segment"
)

const (
	missionTry    = time.Second
	missionTries  = 6
	missionSettle = 2 * time.Second // after a sign of a change
	missionLater  = 30 * time.Second
	missionAgain  = 60 * time.Second // where the autopilot does not tell of changes
	maxItems      = 8192
)

// missionState is where the transfer of the mission stands.
type missionState uint8

const (
	missionWanted  missionState = iota // to be asked when that is allowed
	missionCounted                     // the count was asked
	missionItems                       // items are asked, one after the other
	missionDone
)

// mission keeps the mission, and writes it into the record at arming and after changes
// (https://mavlink.io/en/services/mission.html). It is asked again at any sign that somebody
// changed it, as soon as the vehicle is disarmed.
type mission struct {
	p     *Part
	state missionState
	next  time.Duration
	tries int
	fails int
	want  int // items
	items []common.MessageMissionItemInt
	// whole is the mission that came last, as a file; nil: none yet. stale: it changed since.
	whole []byte
	stale bool
	read  time.Duration
	id    uint32 // mission_id of MISSION_CURRENT; 0: not told
	total uint16
	file  pending
}

func newMission(p *Part) *mission { return &mission{p: p} }

func (s *mission) rebooted() { s.ask(0); s.id, s.total, s.fails = 0, 0, 0 }

// ask begins anew after a while.
func (s *mission) ask(after time.Duration) {
	s.state, s.tries, s.items, s.next = missionWanted, 0, nil, s.p.now+after
}

// armed writes the mission as it is known, and says where it may have changed.
func (s *mission) armed(on bool) {
	switch {
	case !on:
	case s.whole == nil:
		s.p.event("mission_unknown", "")
	default:
		if s.stale {
			s.p.event("mission_outdated", "it was changed, and not yet read again")
		}
		s.file.put(s.p, segment.KindMission, "waypoints", "mission.waypoints", s.whole)
	}
	if on && s.state != missionDone {
		s.ask(0)
	}
}

func (s *mission) handle(m message.Message, _ *entry) {
	switch m := m.(type) {
	case *common.MessageMissionCount:
		s.counted(m)
	case *common.MessageMissionItemInt:
		s.item(m)
	case *common.MessageMissionAck:
		s.acked(m)
	case *common.MessageMissionCurrent:
		s.current(m)
	}
}

// ours tells whether an answer is for us; ArduPilot before 4.1 leaves the component 0.
func (s *mission) ours(system, component uint8) bool {
	return s.p.forUs(system, component) || system == s.p.pilot.system && component == 0
}

func (s *mission) counted(m *common.MessageMissionCount) {
	if s.state != missionCounted || m.MissionType != 0 || !s.ours(m.TargetSystem, m.TargetComponent) {
		return
	}
	if m.Count > maxItems {
		s.fail(fmt.Sprintf("%d items", m.Count))
		return
	}
	s.want, s.items, s.tries, s.state = int(m.Count), nil, 0, missionItems
	s.next = s.p.now
	if s.want == 0 {
		s.finish()
	}
}

func (s *mission) item(m *common.MessageMissionItemInt) {
	if s.state != missionItems || m.MissionType != 0 || int(m.Seq) != len(s.items) || !s.ours(m.TargetSystem, m.TargetComponent) {
		return
	}
	s.items = append(s.items, *m)
	s.tries, s.next = 0, s.p.now
	if len(s.items) == s.want {
		s.finish()
	}
}

// acked hears of our own request that was refused, or of somebody else who changed the mission.
func (s *mission) acked(m *common.MessageMissionAck) {
	if m.MissionType != 0 {
		return
	}
	if s.ours(m.TargetSystem, m.TargetComponent) {
		if m.Type != common.MAV_MISSION_ACCEPTED && (s.state == missionCounted || s.state == missionItems) {
			s.fail(fmt.Sprintf("refused: %s", m.Type))
		}
		return
	}
	if m.Type == common.MAV_MISSION_ACCEPTED {
		s.outdated()
	}
}

// current sees the mission's id and length change, where the autopilot tells them.
func (s *mission) current(m *common.MessageMissionCurrent) {
	changed := s.id != 0 && m.MissionId != 0 && m.MissionId != s.id || s.total != 0 && m.Total != 0 && m.Total != s.total
	if m.MissionId != 0 {
		s.id = m.MissionId
	}
	if m.Total != 0 {
		s.total = m.Total
	}
	if changed {
		s.outdated()
	}
}

func (s *mission) outdated() {
	s.p.event("mission_changed", "")
	s.stale, s.fails = true, 0
	s.ask(missionSettle)
}

func (s *mission) step(now time.Duration) time.Duration {
	due := s.file.step(s.p, now)
	if s.state == missionDone && s.id == 0 && s.whole != nil && now-s.read >= missionAgain {
		s.ask(0)
	}
	if s.state == missionDone || !s.p.pilot.mayAsk() {
		return due
	}
	if now >= s.next {
		s.request(now)
	}
	return min(due, s.next)
}

// request asks for the count, or for the next item.
func (s *mission) request(now time.Duration) {
	if s.tries++; s.tries > missionTries {
		s.fail("no answer")
		return
	}
	s.next = now + missionTry
	to := s.p.pilot.system
	if s.state == missionItems {
		s.p.tell(&common.MessageMissionRequestInt{TargetSystem: to, TargetComponent: allow.ComponentAutopilot, Seq: uint16(len(s.items))})
		return
	}
	s.state = missionCounted
	s.p.tell(&common.MessageMissionRequestList{TargetSystem: to, TargetComponent: allow.ComponentAutopilot})
}

// fail gives up for a while, or for good.
func (s *mission) fail(why string) {
	if s.fails++; s.fails < 3 {
		s.ask(missionLater)
		return
	}
	s.state, s.items = missionDone, nil
	s.p.event("mission_incomplete", why)
}

// finish ends the transfer and keeps what came.
func (s *mission) finish() {
	s.p.tell(&common.MessageMissionAck{TargetSystem: s.p.pilot.system, TargetComponent: allow.ComponentAutopilot,
		Type: common.MAV_MISSION_ACCEPTED})
	data := missionFile(s.items)
	same := s.whole != nil && bytes.Equal(data, s.whole)
	s.state, s.items, s.stale, s.fails, s.whole, s.read = missionDone, nil, false, 0, data, s.p.now
	if !same {
		s.file.put(s.p, segment.KindMission, "waypoints", "mission.waypoints", data)
	}
}

// missionFile writes items as plain text, the format that ground stations share
// (https://mavlink.io/en/file_formats/#mission_plain_text_file).
func missionFile(items []common.MessageMissionItemInt) []byte {
	var b bytes.Buffer
	b.WriteString("QGC WPL 110\n")
	for i := range items {
		m := &items[i]
		x, y := position(m)
		fmt.Fprintf(&b, "%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", m.Seq, m.Current, m.Frame, m.Command,
			number(m.Param1), number(m.Param2), number(m.Param3), number(m.Param4), x, y, number(m.Z), m.Autocontinue)
	}
	return b.Bytes()
}

func number(v float32) string { return strconv.FormatFloat(float64(v), 'f', -1, 32) }

// position returns x and y of an item: degrees in frames of the earth, metres in local ones,
// as they are in MAV_FRAME_MISSION.
func position(m *common.MessageMissionItemInt) (x, y string) {
	switch m.Frame {
	case common.MAV_FRAME_MISSION:
		return strconv.Itoa(int(m.X)), strconv.Itoa(int(m.Y))
	case common.MAV_FRAME_LOCAL_NED, common.MAV_FRAME_LOCAL_ENU, common.MAV_FRAME_LOCAL_OFFSET_NED, common.MAV_FRAME_BODY_NED,
		common.MAV_FRAME_BODY_OFFSET_NED, common.MAV_FRAME_BODY_FRD, common.MAV_FRAME_LOCAL_FRD, common.MAV_FRAME_LOCAL_FLU:
		return fixed(m.X, 1e4), fixed(m.Y, 1e4)
	}
	return fixed(m.X, 1e7), fixed(m.Y, 1e7)
}

func fixed(v int32, scale float64) string {
	return strconv.FormatFloat(float64(v)/scale, 'f', -1, 64)
}
