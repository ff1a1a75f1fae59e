package vehicle

import (
	"math"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// Component ids of a system.
const (
	autopilotID = 1
	cameraID    = 100
	gimbalID    = 154
)

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
	for _, m := range v.events {
		v.send(autopilotID, m)
	}
	v.events = v.events[:0]
	if n := (v.now - paramFrom) / paramEvery; v.now >= paramFrom && (v.now-paramFrom)%paramEvery == 0 && int(n) < len(v.params) {
		v.send(autopilotID, v.paramValue(int(n)))
	}
	if v.camera != nil {
		v.camera.flush(v)
	}
	for i := range v.streams {
		s := &v.streams[i]
		if !s.due(v.now) {
			continue
		}
		if m := s.build(v); m != nil {
			v.send(s.comp, m)
		}
	}
}

// send encodes m and puts it on the line after what is there.
func (v *Vehicle) send(comp uint8, m message.Message) {
	seq := v.seqs[comp]
	if seq == nil {
		seq = new(uint8)
		v.seqs[comp] = seq
	}
	raw, err := v.coder.Encode(v.opt.System, comp, *seq, m)
	if err != nil {
		v.err, v.done = err, true
		return
	}
	*seq++
	if comp == autopilotID {
		v.sent++
	}
	v.lineFree = max(v.lineFree, v.now) + time.Duration(len(raw))*byteTime
	v.queue = append(v.queue, Emission{At: v.lineFree, Raw: raw})
}
