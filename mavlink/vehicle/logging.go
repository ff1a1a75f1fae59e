package vehicle

import (
	"math"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// PX4's log stream, as its logger and its MAVLink module behave
// (https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/logger/log_writer_mavlink.cpp,
// https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/mavlink/mavlink_ulog.cpp).
const (
	loggingChunk = 249
	// ulogQueue is how many chunks may wait; behind it the oldest is lost.
	ulogQueue    = 16
	ulogTimeout  = 50 * time.Millisecond
	ulogMaxTries = 50
	noStart      = math.MaxUint8 // first_message_offset where no message begins in a chunk
)

// chunk is what one LOGGING_DATA or LOGGING_DATA_ACKED carries.
type chunk struct {
	seq   uint16
	first uint8
	n     uint8
	data  [loggingChunk]byte
}

// ulogStream sends the log of the flight to one client: what is needed to read it by
// acknowledged chunks, one by one, the rest without. While the acknowledged part lasts,
// the logger stands still and what it would have written is lost to the stream. The last
// chunk stays behind until it is full, also at the end of the flight.
type ulogStream struct {
	to      sender
	startup []chunk // to be acknowledged
	queue   []chunk
	current chunk
	tries   int
	sentAt  time.Duration
}

// startULog begins the stream; format 0 is ULog, and the only one.
func (v *Vehicle) startULog(from sender, format float32) common.MAV_RESULT {
	switch {
	case v.opt.Stack != PX4 || format != 0:
		return common.MAV_RESULT_UNSUPPORTED
	case v.ulog != nil:
		return common.MAV_RESULT_TEMPORARILY_REJECTED
	}
	l := v.openLog()
	s := &ulogStream{to: from}
	for _, m := range l.header {
		s.add(v, m, &s.startup)
	}
	// What is left is sent by this way too, so that the rest begins with a chunk.
	if s.current.n > 0 {
		s.publish(&s.startup)
	}
	v.ulog = s
	return common.MAV_RESULT_ACCEPTED
}

func (v *Vehicle) stopULog() common.MAV_RESULT {
	if v.opt.Stack != PX4 {
		return common.MAV_RESULT_UNSUPPORTED
	}
	v.ulog = nil
	return common.MAV_RESULT_ACCEPTED
}

// add writes one message of the log into chunks.
func (s *ulogStream) add(v *Vehicle, m []byte, to *[]chunk) {
	v.counts.StreamBytes += uint64(len(m))
	if s.current.first == noStart {
		s.current.first = s.current.n
	}
	for len(m) > 0 {
		n := copy(s.current.data[s.current.n:], m)
		s.current.n += uint8(n)
		if m = m[n:]; s.current.n == loggingChunk {
			s.publish(to)
		}
	}
}

func (s *ulogStream) publish(to *[]chunk) {
	*to = append(*to, s.current)
	s.current = chunk{seq: s.current.seq + 1, first: noStart}
}

// offer takes an entry of the log.
func (s *ulogStream) offer(v *Vehicle, entry []byte) {
	if len(s.startup) > 0 {
		v.counts.StreamLost += uint64(len(entry))
		return
	}
	s.add(v, entry, &s.queue)
	for len(s.queue) > ulogQueue {
		v.counts.StreamLost += uint64(s.queue[0].n)
		s.queue = s.queue[1:]
	}
}

// emitULog sends what waits. A client that acknowledges nothing ends the stream.
func (v *Vehicle) emitULog() {
	s := v.ulog
	if s == nil || v.dark() {
		return
	}
	if len(s.startup) > 0 {
		v.sendAcked(s)
		return
	}
	for len(s.queue) > 0 && v.idle() {
		v.send(autopilotID, s.queue[0].plain(s.to))
		s.queue = s.queue[1:]
	}
}

func (v *Vehicle) sendAcked(s *ulogStream) {
	if s.tries > 0 && v.now-s.sentAt <= ulogTimeout || !v.idle() {
		return
	}
	if s.tries >= ulogMaxTries {
		v.ulog = nil
		return
	}
	if s.tries > 0 {
		v.counts.StreamResent++
	}
	s.tries, s.sentAt = s.tries+1, v.now
	v.send(autopilotID, s.startup[0].acked(s.to))
}

// hearLoggingAck takes the acknowledgement of the chunk that is under way.
func (v *Vehicle) hearLoggingAck(m *common.MessageLoggingAck) {
	s := v.ulog
	if s == nil || len(s.startup) == 0 || s.tries == 0 || s.startup[0].seq != m.Sequence {
		return
	}
	s.startup, s.tries = s.startup[1:], 0
}

func (c chunk) plain(to sender) message.Message {
	return &common.MessageLoggingData{
		TargetSystem: to.system, TargetComponent: to.comp, Sequence: c.seq, Length: c.n, FirstMessageOffset: c.first, Data: c.data,
	}
}

func (c chunk) acked(to sender) message.Message {
	return &common.MessageLoggingDataAcked{
		TargetSystem: to.system, TargetComponent: to.comp, Sequence: c.seq, Length: c.n, FirstMessageOffset: c.first, Data: c.data,
	}
}
