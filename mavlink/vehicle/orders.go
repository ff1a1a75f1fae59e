package vehicle

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// order is what a COMMAND_LONG or COMMAND_INT asks for; no command here takes more than
// two parameters.
type order struct {
	id     common.MAV_CMD
	p1, p2 float32
}

// hearOrder carries a command out and answers it
// (https://mavlink.io/en/services/command.html).
func (v *Vehicle) hearOrder(from sender, o order) {
	var result common.MAV_RESULT
	switch o.id {
	case common.MAV_CMD_REQUEST_MESSAGE:
		result = v.requestMessage(messageID(o.p1))
	case common.MAV_CMD_SET_MESSAGE_INTERVAL:
		result = v.setInterval(messageID(o.p1), o.p2)
	case common.MAV_CMD_GET_MESSAGE_INTERVAL:
		result = v.getInterval(messageID(o.p1))
	case common.MAV_CMD_REQUEST_AUTOPILOT_CAPABILITIES:
		result = v.requestMessage((&common.MessageAutopilotVersion{}).GetID())
	case common.MAV_CMD_LOGGING_START:
		result = v.startULog(from, o.p1)
	case common.MAV_CMD_LOGGING_STOP:
		result = v.stopULog()
	default:
		result = common.MAV_RESULT_UNSUPPORTED
	}
	v.later(&common.MessageCommandAck{
		Command: o.id, Result: result, TargetSystem: from.system, TargetComponent: from.comp,
	})
}

// messageID reads a parameter as an id; what is none becomes an id that no message has.
func messageID(p float32) uint32 {
	if !(p >= 0 && p < 1<<24) {
		return math.MaxUint32
	}
	return uint32(p)
}

// refusal is what a stack answers where it has no such message.
func (v *Vehicle) refusal() common.MAV_RESULT {
	if v.opt.Stack == PX4 {
		return common.MAV_RESULT_DENIED
	}
	return common.MAV_RESULT_FAILED
}

func (v *Vehicle) requestMessage(id uint32) common.MAV_RESULT {
	s := v.streamOf(id)
	if s == nil {
		return v.refusal()
	}
	m := s.build(v)
	if m == nil {
		return common.MAV_RESULT_TEMPORARILY_REJECTED
	}
	v.later(m)
	return common.MAV_RESULT_ACCEPTED
}

// setInterval changes the rate of a message: microseconds between two of them, 0 for the
// usual rate, -1 for none (https://mavlink.io/en/messages/common.html#MAV_CMD_SET_MESSAGE_INTERVAL).
func (v *Vehicle) setInterval(id uint32, usec float32) common.MAV_RESULT {
	s := v.streamOf(id)
	const shortest, longest = 1000, 3600e6 // µs
	switch {
	case s == nil:
		return v.refusal()
	case usec == -1:
		s.off = true
	case usec == 0:
		v.retime(s, v.usualRate(s))
	case usec >= shortest && usec <= longest:
		v.retime(s, 1e6/float64(usec))
	default:
		return common.MAV_RESULT_DENIED
	}
	return common.MAV_RESULT_ACCEPTED
}

// usualRate is the rate a stream of the autopilot has before anybody changes it.
func (v *Vehicle) usualRate(s *stream) float64 {
	for i, usual := range autopilotStreams(v.opt.Stack) {
		if s == &v.streams[i] {
			return usual.hz
		}
	}
	return s.hz
}

// retime gives a stream another rate, from its next turn on.
func (v *Vehicle) retime(s *stream, hz float64) {
	s.off, s.hz, s.count = false, hz, 0
	s.start = v.now + time.Duration(float64(time.Second)/hz)
}

func (v *Vehicle) getInterval(id uint32) common.MAV_RESULT {
	m := &common.MessageMessageInterval{MessageId: uint16(min(id, math.MaxUint16))}
	if s := v.streamOf(id); s != nil {
		m.IntervalUs = int32(1e6 / s.hz)
		if s.off {
			m.IntervalUs = -1
		}
	}
	v.later(m)
	return common.MAV_RESULT_ACCEPTED
}

// streamOf finds the autopilot's stream of a message id. A stream has to build one message
// to be known by its id, as if there were a position; noise drawn for that must not change
// what the flight draws.
func (v *Vehicle) streamOf(id uint32) *stream {
	sense, ready := v.sense, v.plan.readyAt
	v.plan.readyAt = 0
	defer func() { v.sense, v.plan.readyAt = sense, ready }()
	for i := range v.streams {
		s := &v.streams[i]
		if s.comp != autopilotID {
			continue
		}
		if !s.named {
			v.sense = rand.New(rand.NewPCG(0, 0))
			m := s.build(v)
			if m == nil {
				continue
			}
			s.id, s.named = m.GetID(), true
		}
		if s.id == id {
			return s
		}
	}
	return nil
}

// dataStreams are the message ids of ArduPilot's stream groups, as far as the vehicle
// sends them (https://ardupilot.org/dev/docs/mavlink-requesting-data.html).
var dataStreams = map[common.MAV_DATA_STREAM][]uint32{
	common.MAV_DATA_STREAM_RAW_SENSORS:     {27, 116, 129, 29, 137},
	common.MAV_DATA_STREAM_EXTENDED_STATUS: {1, 125, 152, 42, 24, 124, 62, 162},
	common.MAV_DATA_STREAM_RC_CHANNELS:     {36, 65},
	common.MAV_DATA_STREAM_POSITION:        {33, 32},
	common.MAV_DATA_STREAM_EXTRA1:          {30, 178, 31},
	common.MAV_DATA_STREAM_EXTRA2:          {74},
	common.MAV_DATA_STREAM_EXTRA3:          {163, 2, 136, 132, 173, 147, 168, 193, 226, 241},
}

// hearDataStream changes the rate of a group of messages. PX4 knows no groups.
func (v *Vehicle) hearDataStream(m *common.MessageRequestDataStream) {
	if v.opt.Stack != ArduPilot {
		return
	}
	const most = 1000 // Hz
	for group, ids := range dataStreams {
		if m.ReqStreamId != group && m.ReqStreamId != common.MAV_DATA_STREAM_ALL {
			continue
		}
		for _, id := range ids {
			s := v.streamOf(id)
			switch {
			case s == nil:
			case m.StartStop == 0 || m.ReqMessageRate == 0:
				s.off = true
			case m.ReqMessageRate <= most:
				v.retime(s, float64(m.ReqMessageRate))
			}
		}
	}
}

// hearParam serves settings (https://mavlink.io/en/services/parameter.html).
func (v *Vehicle) hearParam(from sender, m message.Message) {
	switch m := m.(type) {
	case *common.MessageParamRequestList:
		v.paramsFrom = v.now + paramEvery
	case *common.MessageParamRequestRead:
		if i := int(m.ParamIndex); i >= 0 && i < len(v.params) {
			v.later(v.paramValue(i))
		} else if i < 0 {
			v.answerParam(v.paramNamed(m.ParamId))
		}
	case *common.MessageParamSet:
		i := v.paramNamed(m.ParamId)
		note(&v.counts.ParamSets, ParamSet{
			At: v.now, System: from.system, Component: from.comp, Name: m.ParamId, Value: m.ParamValue,
			Known: i >= 0, Armed: v.pilot.armed(),
		})
		if i >= 0 {
			v.setParam(i, m.ParamValue)
		}
		v.answerParam(i)
	}
}

func (v *Vehicle) paramNamed(name string) int {
	for i, p := range v.params {
		if p.name == name {
			return i
		}
	}
	return -1
}

// setParam takes a value over, by the stack's way to send integers.
func (v *Vehicle) setParam(i int, value float32) {
	p := &v.params[i]
	switch {
	case p.integer && v.opt.Stack == PX4:
		p.value = float64(int32(math.Float32bits(value)))
	case p.integer:
		p.value = math.Trunc(float64(value))
	default:
		p.value = float64(value)
	}
}

// answerParam sends a setting that was asked for by name. ArduPilot does not look up its
// number for that and sends 65535.
func (v *Vehicle) answerParam(i int) {
	if i < 0 {
		return
	}
	m := v.paramValue(i)
	if p, ok := m.(*common.MessageParamValue); ok && v.opt.Stack == ArduPilot {
		p.ParamIndex = math.MaxUint16
	}
	v.later(m)
}
