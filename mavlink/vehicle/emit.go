package vehicle

import (
	"math"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// Component ids, of the vehicle and of others
// (https://mavlink.io/en/messages/common.html#MAV_COMPONENT).
const (
	autopilotID = 1
	cameraID    = 100
	lastCamera  = 105
	gimbalID    = 154
	logID       = 155 // from which ArduPilot sends the blocks of its log
	groundID    = 190
	onboardID   = 191
)

// groundSystem is the system id ground stations use.
const groundSystem = 255

// sender counts its frames on its own.
type sender struct{ system, comp uint8 }

// paramEvery is the pace of the parameter burst after power-on, and paramFrom its start.
const (
	paramFrom  = 300 * time.Millisecond
	paramEvery = 4 * tick
)

// stream is one message sent at a steady rate.
type stream struct {
	hz    float64
	comp  uint8
	build func(*Vehicle) message.Message // nil when there is nothing to say yet
	start time.Duration
	count int64
	id    uint32 // of the message; meaning only if named
	named bool   // id was found out
	off   bool   // not sent, by order
}

// stagger spreads the first sending of streams over their periods, so that those of the
// same rate do not leave in one burst.
func (s *stream) stagger(i int) {
	const golden = 0.6180339887
	_, part := math.Modf(float64(i) * golden)
	s.start = tick + time.Duration(part/s.hz*float64(time.Second))
}

// due tells whether it is time, and counts.
func (s *stream) due(now time.Duration) bool {
	if s.start+time.Duration(float64(s.count)/s.hz*float64(time.Second)) > now {
		return false
	}
	s.count++
	return true
}

// emit queues the frames of this step: events first, then parameters, then streams.
func (v *Vehicle) emit() {
	if v.dark() {
		v.events = v.events[:0]
	}
	for _, m := range v.events {
		v.send(autopilotID, m)
	}
	v.events = v.events[:0]
	since := v.now - v.paramsFrom
	if n := since / paramEvery; since >= 0 && since%paramEvery == 0 && int(n) < len(v.params) {
		v.send(autopilotID, v.paramValue(int(n)))
	}
	if v.camera != nil {
		v.camera.flush(v)
	}
	for i := range v.streams {
		s := &v.streams[i]
		if s.off || !s.due(v.now) || v.lineFree > v.now+lineFull {
			continue
		}
		if m := s.build(v); m != nil {
			s.id, s.named = m.GetID(), true
			v.send(s.comp, m)
		}
	}
	v.emitScript()
	v.emitLogs()
}

const (
	// lineFull is how much may wait for the line before streams skip their turn, as where
	// the buffer of a port has no room.
	lineFull = 250 * time.Millisecond
	// lineBusy is how much may wait for it before logs hold back: telemetry goes first.
	lineBusy = 2 * tick
)

// idle tells that a log may use the line now.
func (v *Vehicle) idle() bool { return v.lineFree <= v.now+lineBusy && !v.done }

// emitLogs sends of the logs what fits the line besides the rest.
func (v *Vehicle) emitLogs() {
	v.emitBlocks()
	v.emitULog()
	v.emitPull()
	v.emitBurst()
}

// emitScript sends the frames of the script that are due.
func (v *Vehicle) emitScript() {
	for len(v.script) > 0 && v.script[0].At <= v.now {
		s := v.script[0]
		v.script = v.script[1:]
		setDefault(&s.From, groundID)
		if s.From == autopilotID {
			setDefault(&s.System, v.opt.System)
		}
		setDefault(&s.System, groundSystem)
		if c, ok := s.Msg.(*common.MessageCommandLong); ok && c.TargetSystem == 0 {
			own := *c
			own.TargetSystem = v.opt.System
			s.Msg = &own
		}
		v.sendAs(sender{s.System, s.From}, s.Msg)
	}
}

// send encodes m as a component of the vehicle.
func (v *Vehicle) send(comp uint8, m message.Message) { v.sendAs(sender{v.opt.System, comp}, m) }

// sendAs encodes m and puts it on the line after what is there.
func (v *Vehicle) sendAs(from sender, m message.Message) {
	seq := v.seqs[from]
	if seq == nil {
		seq = new(uint8)
		v.seqs[from] = seq
	}
	raw, err := v.coder.Encode(from.system, from.comp, *seq, m)
	if err != nil {
		v.err, v.done = err, true
		return
	}
	*seq++
	if from.comp == autopilotID {
		v.sent++
	}
	v.lineFree = max(v.lineFree, v.now) + time.Duration(len(raw))*byteTime
	v.queue = append(v.queue, Emission{At: v.lineFree, Raw: raw})
}
