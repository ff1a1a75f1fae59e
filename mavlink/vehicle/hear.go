package vehicle

import (
	"bytes"
	"reflect"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/names"
)

// maxInbox is how many frames may wait for the time they came at.
const maxInbox = 4096

// letter is a frame that was sent to the vehicle.
type letter struct {
	at    time.Duration
	frame mavlink.Frame
}

// Hear hands in bytes that were sent to the vehicle and arrived at the given time since
// power-on. They may be cut anywhere; what is no frame is passed over. It keeps no
// reference to p.
func (v *Vehicle) Hear(at time.Duration, p []byte) { v.scanner.Write(at, p) }

// Receive hands in a frame that was sent to the vehicle and arrived at the given time since
// power-on. The vehicle acts on it in the first step that is not before at; times must not
// fall. It keeps no reference to f.
func (v *Vehicle) Receive(at time.Duration, f *mavlink.Frame) {
	if len(v.inbox) >= maxInbox {
		v.counts.Ignored++
		return
	}
	l := letter{at: at, frame: *f}
	l.frame.Raw = bytes.Clone(f.Raw)
	v.inbox = append(v.inbox, l)
}

// ear takes what the scanner of Hear finds.
type ear struct{ v *Vehicle }

func (e ear) Frame(f *mavlink.Frame) { e.v.Receive(f.At, f) }

func (e ear) Noise(*mavlink.Noise) {}

// read acts on what has arrived by now.
func (v *Vehicle) read() {
	n := 0
	for n < len(v.inbox) && v.inbox[n].at <= v.now {
		v.open(&v.inbox[n].frame)
		n++
	}
	if n > 0 {
		v.inbox = append(v.inbox[:0], v.inbox[n:]...)
	}
}

// open counts a frame and hands its message on, if the vehicle is meant.
func (v *Vehicle) open(f *mavlink.Frame) {
	v.counts.Heard++
	v.counts.tally(uint8(f.Component), names.MessageName(f.ID))
	if v.dark() {
		v.counts.Ignored++
		return
	}
	m, err := v.coder.Decode(f)
	if err != nil {
		v.counts.Unknown++
		return
	}
	from := sender{uint8(f.System), uint8(f.Component)}
	v.watchOthers(from, m)
	if v.meant(m) {
		v.hear(from, m)
	}
}

// meant tells that a message is for everybody or for the autopilot.
func (v *Vehicle) meant(m message.Message) bool {
	system, comp := target(m)
	return (system == 0 || system == v.opt.System) && (comp == 0 || comp == autopilotID)
}

// target is whom a message is for; 0 is everybody, also where the message does not tell.
func target(m message.Message) (system, comp uint8) {
	fields := reflect.ValueOf(m).Elem()
	if f := fields.FieldByName("TargetSystem"); f.IsValid() {
		system = uint8(f.Uint())
	}
	if f := fields.FieldByName("TargetComponent"); f.IsValid() {
		comp = uint8(f.Uint())
	}
	return system, comp
}

// watchOthers notes what is said to anybody and tests ask for.
func (v *Vehicle) watchOthers(from sender, m message.Message) {
	switch m := m.(type) {
	case *common.MessageCameraImageCaptured:
		if from.comp >= cameraID && from.comp <= lastCamera {
			v.counts.Images++
		}
	case *common.MessageCommandAck:
		note(&v.counts.Acks, Ack{At: v.now, Component: from.comp, Command: uint32(m.Command), Result: uint32(m.Result)})
	}
}

// hear acts on a message for the autopilot. What it does not know it leaves alone.
func (v *Vehicle) hear(from sender, m message.Message) {
	switch m := m.(type) {
	case *common.MessageHeartbeat:
		v.hearHeartbeat(from, m)
	case *common.MessageTimesync:
		v.hearTimesync(from, m)
	case *common.MessageCommandLong:
		v.hearOrder(from, order{m.Command, m.Param1, m.Param2})
	case *common.MessageCommandInt:
		v.hearOrder(from, order{m.Command, m.Param1, m.Param2})
	case *common.MessageCommandAck:
		v.hearAck(m)
	case *common.MessageRequestDataStream:
		v.hearDataStream(m)
	case *common.MessageParamRequestList, *common.MessageParamRequestRead, *common.MessageParamSet:
		v.hearParam(from, m)
	case *common.MessageMissionRequestList, *common.MessageMissionRequestInt, *common.MessageMissionRequest:
		v.hearMission(from, m)
	default:
		v.hearLogs(from, m)
	}
}

// hearLogs acts on what has to do with logs.
func (v *Vehicle) hearLogs(from sender, m message.Message) {
	switch m := m.(type) {
	case *common.MessageLogRequestList, *common.MessageLogRequestData, *common.MessageLogErase, *common.MessageLogRequestEnd:
		v.hearPull(m)
	case *common.MessageFileTransferProtocol:
		v.hearFTP(from, m)
	case *ardupilotmega.MessageRemoteLogBlockStatus:
		v.hearBlockStatus(from, m)
	case *common.MessageLoggingAck:
		v.hearLoggingAck(m)
	}
}
