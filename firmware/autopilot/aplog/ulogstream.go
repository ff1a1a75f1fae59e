package aplog

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/storage/segment"
)

// What PX4 does (https://docs.px4.io/main/en/dev_log/logging.html#log-streaming,
// https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/logger/log_writer_mavlink.cpp,
// https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/mavlink/mavlink_ulog.cpp):
// MAV_CMD_LOGGING_START begins a ULog. Its definitions come as LOGGING_DATA_ACKED, one at a time,
// sent again each 50 ms for 2.5 s, after which PX4 gives up; the rest as LOGGING_DATA, which come
// once or never. All of both are counted by one 16-bit number. first_message_offset says where in
// the data a ULog message begins, 255 that none does. PX4 refuses a second stream.
const (
	ulogChunk     = 249
	ulogNone      = 255 // first_message_offset: no message begins here
	ulogAhead     = 16  // messages that may overtake
	ulogLate      = 64  // a message that is so far behind was sent twice
	ulogWait      = 200 * time.Millisecond
	ulogSilence   = 10 * time.Second
	ulogPutWait   = 200 * time.Millisecond
	ulogPutSize   = 16 << 10
	ulogMaxBuffer = 96 << 10 // more than one ULog message
	ulogStops     = 4
)

// ulogStream takes PX4's stream.
type ulogStream struct {
	l     *Logs
	state streamState
	since time.Duration

	cmdAt    time.Duration // the next LOGGING_START or LOGGING_STOP
	tries    int
	stopping bool // LOGGING_STOP goes first
	stops    int  // LOGGING_STOP to be sent still, behind the end
	refused  bool

	out    *output
	dig    *digest
	head   [ulogHeader]byte // of the file, to tell a new one
	next   uint16           // number of the message that follows
	ahead  []ulogMessage    // came early
	wait   time.Duration    // since when a message is missing
	heard  time.Duration
	torn   bool // messages are missing: go on where a ULog message begins
	frames ulogFrames
	buf    []byte // in order, not in the Store
	whole  int    // bytes of buf that are whole messages
	bufAt  time.Duration
	off    int64 // of buf, in the file
	lost   int64 // bytes lost before buf
	total  int64 // bytes lost in all
}

type ulogMessage struct {
	seq   uint16
	first uint8
	data  []byte
	acked bool
}

func (s *ulogStream) active() bool { return s.state != streamOff && !s.refused }

func (s *ulogStream) enter(state streamState, now time.Duration) { s.state, s.since = state, now }

func (s *ulogStream) want(on bool, now time.Duration) {
	switch {
	case on && s.state == streamOff:
		s.force(now, false)
	case on && s.state == streamEnding:
		s.enter(streamRunning, now)
	case !on && s.state == streamRunning:
		s.enter(streamEnding, now)
	case !on && s.state == streamStarting:
		s.enter(streamEnding, now-streamTail)
	}
}

// force has PX4 begin a new log; stop: it is to end another one first.
func (s *ulogStream) force(now time.Duration, stop bool) {
	s.enter(streamStarting, now)
	s.cmdAt, s.tries, s.stopping, s.refused, s.stops = now, 0, stop, false, 0
}

func (s *ulogStream) rebooted(now time.Duration) {
	if s.state == streamRunning || s.state == streamStarting {
		s.force(now, false)
	}
}

func (s *ulogStream) handle(m message.Message) {
	switch m := m.(type) {
	case *ap.MessageCommandAck:
		s.answer(m)
	case *ap.MessageLoggingData:
		if s.mine(m.TargetSystem, m.TargetComponent, m.Length) {
			s.message(ulogMessage{m.Sequence, m.FirstMessageOffset, m.Data[:m.Length], false})
		}
	case *ap.MessageLoggingDataAcked:
		if s.mine(m.TargetSystem, m.TargetComponent, m.Length) {
			s.message(ulogMessage{m.Sequence, m.FirstMessageOffset, m.Data[:m.Length], true})
		}
	}
}

func (s *ulogStream) mine(system, comp, length uint8) bool {
	return system == s.l.system && comp == compOnboard && int(length) <= ulogChunk && s.state != streamOff
}

// answer takes what PX4 says to LOGGING_START and LOGGING_STOP.
func (s *ulogStream) answer(m *ap.MessageCommandAck) {
	if m.TargetComponent != 0 && m.TargetComponent != compOnboard {
		return
	}
	done := m.Result == ap.MAV_RESULT_ACCEPTED
	switch {
	case m.Command == common.MAV_CMD_LOGGING_STOP && m.Result != ap.MAV_RESULT_IN_PROGRESS:
		if s.stops = 0; s.stopping {
			s.stopping, s.cmdAt = false, s.l.now
		}
	case m.Command != common.MAV_CMD_LOGGING_START || s.state != streamStarting || done || m.Result == ap.MAV_RESULT_IN_PROGRESS:
	case m.Result == ap.MAV_RESULT_TEMPORARILY_REJECTED: // it streams already, or its logger does not run
		s.stopping, s.cmdAt = true, s.l.now+startEvery
	default:
		s.refused = true
		s.l.cfg.Event("log_stream_refused", fmt.Sprintf("result=%d", m.Result))
	}
}

// message takes one in its turn, or keeps it for its turn.
func (s *ulogStream) message(m ulogMessage) {
	if m.seq == 0 && bytes.HasPrefix(m.data, ulogMagic) && s.isNew(m.data) {
		if !s.begin() {
			return
		}
	}
	if s.out == nil {
		s.headless()
		return
	}
	s.heard = s.l.now
	d := int16(m.seq - s.next)
	switch {
	case d < 0 && d > -ulogLate:
		if m.acked && s.put(true, s.l.now) { // the first acknowledgement was lost, or had to wait
			s.ack(m.seq)
		}
	case d == 0:
		s.take(m)
	case m.acked || d < 0 || d > ulogAhead: // nothing before it comes any more
		s.takeAhead(m.seq)
		s.skip(m.seq)
		s.take(m)
	default:
		s.keep(m)
	}
}

// isNew reports whether data, with a file's header, begin another file than the one that is open,
// and are not the first message of that one sent again.
func (s *ulogStream) isNew(data []byte) bool {
	return s.out == nil || s.next >= ulogLate || len(data) >= ulogHeader && !bytes.Equal(s.head[:], data[:ulogHeader])
}

// headless notices a stream that was under way before this program was.
func (s *ulogStream) headless() {
	if s.state == streamStarting && !s.stopping && s.tries > 0 {
		s.stopping, s.cmdAt = true, s.l.now
	}
}

// begin opens a file; false: the Store has no room to end the one before.
func (s *ulogStream) begin() bool {
	if s.state == streamEnding || s.out != nil && !s.end("PX4 began a new log", s.l.now) {
		return false
	}
	*s = ulogStream{l: s.l, state: streamRunning, since: s.l.now, buf: s.buf[:0]}
	s.frames.left = ulogHeader
	s.out = &output{store: s.l.cfg.Store, f: segment.File{ID: s.l.cfg.NewID(), Kind: segment.KindLog, Source: "stream", Format: "ulg", Name: "stream.ulg"}}
	if s.l.cfg.Mode == Both {
		s.dig = newDigest(PX4)
	}
	s.l.cfg.Event("log_stream_began", fmt.Sprintf("flavour=px4 file=%d", s.out.f.ID))
	return true
}

// keep holds a message that came early.
func (s *ulogStream) keep(m ulogMessage) {
	if len(s.ahead) == 0 {
		s.wait = s.l.now
	}
	for _, a := range s.ahead {
		if a.seq == m.seq {
			return
		}
	}
	m.data = slices.Clone(m.data)
	s.ahead = append(s.ahead, m)
}

// take appends the message that is next, and those kept that follow it. One that PX4 wants
// acknowledged goes to the Store at once: PX4 waits. It is acknowledged only when the Store has it;
// where there is no room, PX4 sends it again, which is the time to try again.
func (s *ulogStream) take(m ulogMessage) {
	if len(s.buf)+ulogChunk > ulogMaxBuffer && !s.put(false, s.l.now) {
		if m.acked {
			return // comes again
		}
		s.skip(m.seq + 1) // no room for it, anywhere
		return
	}
	s.append(m)
	s.next = m.seq + 1
	if m.acked && s.put(true, s.l.now) {
		s.ack(m.seq)
	}
	for i, a := range s.ahead {
		if a.seq == s.next {
			s.ahead = slices.Delete(s.ahead, i, i+1)
			s.wait = s.l.now
			s.take(a)
			return
		}
	}
}

func (s *ulogStream) ack(seq uint16) {
	s.l.cfg.Out.Send(compOnboard, &ap.MessageLoggingAck{TargetSystem: s.l.system, TargetComponent: compAutopilot, Sequence: seq})
}

// append takes the data of a message; behind a gap only from where a ULog message begins.
func (s *ulogStream) append(m ulogMessage) {
	data := m.data
	if s.torn {
		skip := len(data)
		if m.first != ulogNone {
			skip = min(int(m.first), len(data))
			s.torn = false
		}
		s.gone(skip)
		data = data[skip:]
	}
	if s.off == 0 && len(s.buf) < ulogHeader {
		copy(s.head[len(s.buf):], data)
	}
	if len(s.buf) == 0 {
		s.bufAt = s.l.now
	}
	if end := s.frames.advance(data); end >= 0 {
		s.whole = len(s.buf) + end
	}
	s.buf = append(s.buf, data...)
}

func (s *ulogStream) gone(n int) {
	s.lost += int64(n)
	s.total += int64(n)
}

// skip gives up the messages before seq. Where in the file they would have been is not known, so
// the part of a ULog message that came goes, too, as far as the Store does not have it, and what
// follows begins with a message: the file stays one that can be read.
func (s *ulogStream) skip(seq uint16) {
	s.put(false, s.l.now) // what was before the loss lies before it in the file
	missing := int(seq - s.next)
	s.ahead = slices.DeleteFunc(s.ahead, func(a ulogMessage) bool { return a.seq-s.next < seq-s.next })
	s.gone(missing * ulogChunk) // most are full
	s.gone(len(s.buf) - s.whole)
	s.buf = s.buf[:s.whole]
	s.frames = ulogFrames{}
	s.torn, s.next = true, seq
	s.out.why = "messages of the stream were lost"
	s.dig.torn()
}

// put hands to the Store what is whole in buf, or all of it. false: there is no room.
func (s *ulogStream) put(all bool, now time.Duration) bool {
	for {
		n := s.whole
		if all {
			n = len(s.buf)
		}
		if n == 0 {
			return true
		}
		if !s.putPiece(min(n, putSize), now) {
			return false
		}
	}
}

func (s *ulogStream) putPiece(n int, now time.Duration) bool {
	s.out.f.LostBytes, s.out.f.Why = s.lost, ""
	if s.lost > 0 {
		s.out.f.Why = s.out.why
	}
	ok := s.out.put(s.off, s.buf[:n], now)
	s.out.f.LostBytes, s.out.f.Why = 0, ""
	if !ok {
		return false
	}
	s.dig.write(s.buf[:n])
	s.off += int64(n)
	s.lost = 0
	s.buf = append(s.buf[:0], s.buf[n:]...)
	s.whole = max(0, s.whole-n)
	s.bufAt = now
	return true
}

func (s *ulogStream) step(now time.Duration) time.Duration {
	next := never
	switch s.state {
	case streamStarting:
		next = s.start(now)
	case streamRunning:
		next = s.watch(now)
	case streamEnding:
		next = s.ending(now)
	case streamOff:
		next = s.stopOnce(now)
	}
	if s.out == nil {
		return next
	}
	return min(next, s.late(now), s.putDue(now))
}

func (s *ulogStream) command(cmd common.MAV_CMD) bool {
	ok := s.l.cfg.Out.Send(compOnboard, &ap.MessageCommandLong{TargetSystem: s.l.system, TargetComponent: compAutopilot,
		Command: cmd, Confirmation: uint8(min(s.tries, 255))})
	if ok {
		s.tries++
	}
	return ok
}

func (s *ulogStream) start(now time.Duration) time.Duration {
	switch {
	case s.refused:
		return never
	case now < s.cmdAt:
		return s.cmdAt
	case !s.l.alive():
		return now + startEvery/4
	}
	cmd := common.MAV_CMD(common.MAV_CMD_LOGGING_START)
	if s.stopping {
		cmd = common.MAV_CMD_LOGGING_STOP
	}
	if !s.command(cmd) {
		return now + outRetry
	}
	s.stopping = false
	s.cmdAt = now + startEvery
	if cmd == common.MAV_CMD_LOGGING_STOP {
		s.cmdAt = now + startEvery/4
	}
	return s.cmdAt
}

func (s *ulogStream) watch(now time.Duration) time.Duration {
	due := max(s.heard, s.since) + ulogSilence
	switch {
	case now < due:
		return due
	case !s.l.alive():
		return now + time.Second
	}
	s.l.cfg.Event("log_stream_silent", "why=\"asked to begin anew\"")
	s.force(now, true)
	return now
}

func (s *ulogStream) ending(now time.Duration) time.Duration {
	if due := s.since + streamTail; now < due {
		return due
	}
	if s.out != nil && !s.end("", now) {
		return now + storeRetry
	}
	s.enter(streamOff, now)
	s.stops, s.cmdAt, s.tries = ulogStops, now, 0
	return now
}

// stopOnce sends LOGGING_STOP until it is answered, or some times.
func (s *ulogStream) stopOnce(now time.Duration) time.Duration {
	switch {
	case s.stops == 0:
		return never
	case now < s.cmdAt:
		return s.cmdAt
	case s.command(common.MAV_CMD_LOGGING_STOP):
		s.stops--
		s.cmdAt = now + startEvery
	default:
		s.cmdAt = now + outRetry
	}
	return s.cmdAt
}

// late gives up a message for which the others have waited long enough.
func (s *ulogStream) late(now time.Duration) time.Duration {
	if len(s.ahead) == 0 {
		return never
	}
	if due := s.wait + ulogWait; now < due {
		return due
	}
	s.takeFirst()
	return now + outRetry
}

// takeAhead takes what came early and lies before seq, with gaps between.
func (s *ulogStream) takeAhead(seq uint16) {
	for len(s.ahead) > 0 && s.firstAhead()-s.next < seq-s.next {
		s.takeFirst()
	}
}

func (s *ulogStream) firstAhead() uint16 {
	return slices.MinFunc(s.ahead, func(a, b ulogMessage) int { return int(a.seq-s.next) - int(b.seq-s.next) }).seq
}

// takeFirst gives up what is missing before the first message that came early, and takes that.
func (s *ulogStream) takeFirst() {
	seq := s.firstAhead()
	i := slices.IndexFunc(s.ahead, func(a ulogMessage) bool { return a.seq == seq })
	first := s.ahead[i]
	s.ahead = slices.Delete(s.ahead, i, i+1)
	s.skip(seq)
	s.take(first)
}

func (s *ulogStream) putDue(now time.Duration) time.Duration {
	if s.whole == 0 {
		return never
	}
	if due := s.bufAt + ulogPutWait; now < due && s.whole < ulogPutSize {
		return due
	}
	if !s.put(false, now) {
		return now + storeRetry
	}
	return never
}

// end ends the file, with what is there of a last message. It may be called again until it is true.
func (s *ulogStream) end(why string, now time.Duration) bool {
	for len(s.ahead) > 0 {
		s.takeFirst()
	}
	if !s.put(true, now) {
		return false
	}
	s.out.f.LostBytes = s.lost
	if !s.out.end(s.off, why, now) {
		s.out.f.LostBytes = 0
		return false
	}
	if s.dig != nil {
		s.l.cross.streamed(&streamed{file: s.out.f.ID, bytes: s.off, lost: s.total, dig: s.dig})
	}
	s.l.cfg.Event("log_stream_ended", fmt.Sprintf("file=%d bytes=%d lost=%d why=%q", s.out.f.ID, s.off, s.total, why))
	s.out, s.dig, s.lost = nil, nil, 0
	return true
}

func (s *ulogStream) close(why string, now time.Duration) bool {
	if s.state == streamOff {
		return true
	}
	if s.out != nil && !s.end(why, now) {
		return false
	}
	s.command(common.MAV_CMD_LOGGING_STOP)
	s.enter(streamOff, now)
	return true
}
