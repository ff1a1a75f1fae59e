package aplog

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/storage/segment"
)

// What ArduPilot does (https://github.com/ArduPilot/ardupilot/blob/master/libraries/AP_Logger/AP_Logger_MAVLink.cpp):
// START from somebody makes it begin a log of its own, block 0 first, unless it streams already.
// It keeps each block until it is acknowledged, sends it again after 100 ms, and has no more than
// 255 of them: when all are waiting, what it would log is dropped and counted in its DMS messages.
// It stops when it sent something and nothing was acknowledged for 10 s. What it streams is no copy
// of the file on its card: both have their own headers and drop messages each for itself.
//
// While nobody takes its stream it does not arm ("Logging failed"), so somebody has to from the
// beginning on. While disarmed it logs no more than the headers, unless LOG_DISARMED is set. They
// are held in memory and become the beginning of the flight's file when the vehicle arms. It goes
// on to log for 15 s after disarming (HAL_LOGGER_ARM_PERSIST, AP_Logger.cpp).
const (
	remoteBlock   = 200
	remoteStop    = uint32(ap.MAV_REMOTE_LOG_DATA_BLOCK_STOP)
	remoteStart   = uint32(ap.MAV_REMOTE_LOG_DATA_BLOCK_START)
	remoteAhead   = 512 // a block further ahead of the others cannot be: 255 are kept at most
	remoteSilence = 11 * time.Second
	remoteTail    = 16 * time.Second // what is logged after disarming
	remoteHead    = 1 << 20          // bytes held before arming: five times the headers of a copter
	remoteAgain   = 5 * time.Second  // a block that was acknowledged comes no more, unless the log is another one
	remoteRefused = 2 * time.Second  // without a block, before it is believed to have stopped

	batchBlocks = 64
	batchReady  = 16
	batchWait   = 30 * time.Millisecond // well below the 100 ms of sending again
	nackEvery   = 100 * time.Millisecond
	nackBlocks  = 8
	startEvery  = time.Second
	orderWindow = 64 << 10

	streamTail = 3 * time.Second // what is logged after disarming
	streamFill = 5 * time.Second // and how long holes may be asked for then
	startsTold = 20              // START sent in vain, until the record is told
)

// streamState is what a stream is at.
type streamState int

const (
	streamOff      streamState = iota
	streamStarting             // the autopilot was asked to begin a log
	streamRunning
	streamEnding // the tail, behind which it is asked to stop
)

// blockStream takes ArduPilot's stream, from the first sight of the autopilot on, and has it begin
// a new log behind each flight.
type blockStream struct {
	l     *Logs
	state streamState
	since time.Duration // of the state
	on    bool          // what comes is to be recorded

	out  *output       // nil: no flight
	head []byte        // what came before the flight; the Store does not have all of it yet
	put  int64         // as much of head the Store has
	zero time.Duration // block 0 came
	got  ranges        // blocks that the Store has
	high int64         // behind the highest block that came
	win  *window
	dig  *digest

	batch   []remoteData
	batchAt time.Duration
	heard   time.Duration // the newest block of this log
	foreign time.Duration // blocks come, but not the first one, since then; 0: no
	startAt time.Duration
	starts  int
	stopped bool // STOP went ahead of START
	nackAt  time.Duration
	stops   int // STOP to be sent still
	stopAt  time.Duration
}

type remoteData struct {
	seq  int64
	data [remoteBlock]byte
}

func (l *Logs) newStreamer() streamer {
	switch {
	case !l.cfg.Mode.streams():
	case l.flavour == ArduPilot:
		return &blockStream{l: l}
	case l.flavour == PX4:
		return &ulogStream{l: l}
	}
	return nil
}

func (s *blockStream) active() bool { return s.out != nil || s.on }

func (s *blockStream) enter(state streamState, now time.Duration) { s.state, s.since = state, now }

func (s *blockStream) want(on bool, now time.Duration) {
	s.on = on
	switch {
	case s.state == streamOff:
		s.force(now)
	case on && s.state == streamEnding:
		s.enter(streamRunning, now) // armed again: it never stopped
	case !on && s.state == streamRunning && s.out != nil:
		s.enter(streamEnding, now)
	case !on && s.state == streamStarting && s.out != nil:
		s.enter(streamEnding, now-remoteTail-streamFill)
	}
}

// force makes the autopilot begin a new log, whatever it is at.
func (s *blockStream) force(now time.Duration) {
	s.enter(streamStarting, now)
	s.starts, s.startAt, s.foreign, s.stops, s.stopped = 0, now, 0, 0, false
}

func (s *blockStream) rebooted(now time.Duration) {
	if s.state == streamRunning || s.state == streamStarting {
		s.force(now)
	}
}

func (s *blockStream) handle(m message.Message) {
	b, ok := m.(*ap.MessageRemoteLogDataBlock)
	if !ok || b.TargetSystem != s.l.system || b.TargetComponent != compLogger || b.Seqno > 0x7fffffff {
		return
	}
	seq := int64(b.Seqno)
	switch s.state {
	case streamOff:
		s.stray()
		return
	case streamStarting:
		if seq != 0 {
			s.notFirst()
			return
		}
		if !s.begin("the autopilot began a new log") {
			return // the Store has no room to end the one before: the block comes again
		}
	}
	s.block(seq, &b.Data)
}

// stray has a stream stopped that nobody wants: the STOP was lost.
func (s *blockStream) stray() {
	if s.stops == 0 && s.l.now >= s.stopAt+startEvery {
		s.stops, s.stopAt = 1, s.l.now
	}
}

// notFirst notices a stream that was under way before this program was: it goes on without the
// headers that make it readable, and has to begin anew.
func (s *blockStream) notFirst() {
	switch {
	case s.foreign == 0:
		s.foreign = s.l.now
	case s.l.now-s.foreign > 2*time.Second:
		s.force(s.l.now)
	}
}

// begin takes the log whose first block came.
func (s *blockStream) begin(why string) bool {
	if s.out != nil && (!s.flush(s.l.now) || !s.end(why, s.l.now)) {
		return false
	}
	s.got, s.high, s.batch, s.win, s.dig = ranges{}, 0, s.batch[:0], nil, nil
	s.head, s.put = nil, 0
	if s.l.cfg.Mode == Both {
		s.win, s.dig = newWindow(orderWindow), newDigest(ArduPilot)
	}
	s.enter(streamRunning, s.l.now)
	if s.on {
		s.open()
	}
	return true
}

// open begins the file of a flight, with what came before it.
func (s *blockStream) open() {
	s.out = &output{store: s.l.cfg.Store, f: segment.File{ID: s.l.cfg.NewID(), Kind: segment.KindLog, Source: "stream", Format: "bin", Name: "stream.BIN"}}
	s.l.cfg.Event("log_stream_began", fmt.Sprintf("flavour=ardupilot file=%d", s.out.f.ID))
}

// block takes a block of the log. It is acknowledged only once the Store has it.
func (s *blockStream) block(seq int64, data *[remoteBlock]byte) {
	if seq >= s.high+remoteAhead {
		return
	}
	quiet := s.l.now-s.heard > remoteAgain
	again := seq == 0 && s.got.has(0, 1) && s.l.now-s.zero > remoteAgain
	if s.heard = s.l.now; seq == 0 {
		s.zero = s.l.now
	}
	switch {
	case again: // it began anew without our knowing, and which log a block is of nobody could tell
		s.force(s.l.now)
		return
	case s.got.has(seq, seq+1):
		s.status(uint32(seq), ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK) // the first one was lost
		return
	case s.out == nil:
		s.hold(seq, data)
		return
	}
	had := slices.ContainsFunc(s.batch, func(b remoteData) bool { return b.seq == seq })
	if had || len(s.batch) >= batchBlocks || len(s.got.r) >= maxRanges-batchBlocks {
		return // no room: it comes again
	}
	if len(s.batch) == 0 {
		s.batchAt = s.l.now
	}
	if quiet {
		s.batchAt -= batchWait // it looks each second whether all it sent waits since 10 s before
	}
	s.batch = append(s.batch, remoteData{seq, *data})
	s.high = max(s.high, seq+1)
}

func (s *blockStream) status(seq uint32, what ap.MAV_REMOTE_LOG_DATA_BLOCK_STATUSES) bool {
	return s.l.cfg.Out.Send(compLogger, &ap.MessageRemoteLogBlockStatus{TargetSystem: s.l.system, TargetComponent: compAutopilot, Seqno: seq, Status: what})
}

func (s *blockStream) step(now time.Duration) time.Duration {
	next := s.sendStop(now)
	switch s.state {
	case streamStarting:
		next = min(next, s.start(now))
	case streamRunning:
		next = min(next, s.watch(now))
	case streamEnding:
		next = min(next, s.ending(now))
	}
	return min(next, s.flushDue(now), s.nack(now))
}

func (s *blockStream) sendStop(now time.Duration) time.Duration {
	switch {
	case s.stops == 0:
		return never
	case now < s.stopAt:
		return s.stopAt
	case s.status(remoteStop, ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK):
		s.stops--
		s.stopAt = now + startEvery/2
	default:
		s.stopAt = now + outRetry
	}
	return s.stopAt
}

// start asks for a log. STOP goes ahead of the first START: an autopilot that streams already
// would not begin one.
func (s *blockStream) start(now time.Duration) time.Duration {
	if now < s.startAt || !s.l.alive() {
		return max(s.startAt, now+startEvery/4)
	}
	if !s.stopped && !s.status(remoteStop, ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK) {
		return now + outRetry
	}
	s.stopped = true
	s.status(remoteStart, ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK)
	s.startAt = now + startEvery
	if s.l.pull.busy {
		return s.startAt // ArduPilot logs nothing while its logs are read
	}
	if s.starts++; s.starts >= startsTold {
		s.startAt = now + 10*startEvery
	}
	if s.starts == startsTold {
		s.l.cfg.Event("log_stream_silent", "why=\"no blocks come; LOG_BACKEND_TYPE may lack MAVLink\"")
	}
	return s.startAt
}

// watch notices that the stream fell silent: the autopilot has stopped it by then.
func (s *blockStream) watch(now time.Duration) time.Duration {
	if s.out == nil {
		return s.arm(now)
	}
	due := max(s.heard, s.since) + remoteSilence
	if now < due {
		return s.startAgain(now, due)
	}
	if s.l.alive() {
		s.l.cfg.Event("log_stream_silent", "why=\"asked to begin anew\"")
		s.force(now)
		return now
	}
	return now + time.Second
}

// ending waits for the tail, and a while for holes, and ends the file.
func (s *blockStream) ending(now time.Duration) time.Duration {
	due := s.since + remoteTail
	if holes := s.got.reach(0) < s.high; holes {
		due += streamFill
	}
	if now < due {
		return due
	}
	if s.out != nil && (!s.flush(now) || !s.end("", now)) {
		return now + storeRetry
	}
	s.force(now) // the next flight has a log of its own
	return now
}

func (s *blockStream) flushDue(now time.Duration) time.Duration {
	if s.out == nil || len(s.batch) == 0 && s.head == nil {
		return never
	}
	if due := s.batchAt + batchWait; now < due && len(s.batch) < batchReady && s.head == nil {
		return due
	}
	if !s.flush(now) {
		return now + storeRetry
	}
	return never
}

// flush hands the batch to the Store, blocks that follow each other at once, and acknowledges what
// the Store took. false: it had no room for the rest.
func (s *blockStream) flush(now time.Duration) bool {
	if !s.putHead(now) {
		return false
	}
	slices.SortFunc(s.batch, func(a, b remoteData) int { return cmp.Compare(a.seq, b.seq) })
	var p []byte
	for len(s.batch) > 0 {
		n := 1
		for n < len(s.batch) && s.batch[n].seq == s.batch[0].seq+int64(n) {
			n++
		}
		p = p[:0]
		for i := range s.batch[:n] {
			p = append(p, s.batch[i].data[:]...)
		}
		first := s.batch[0].seq
		if !s.out.put(first*remoteBlock, p, now) {
			return false
		}
		s.taken(first, first+int64(n), p)
		s.batch = slices.Delete(s.batch, 0, n)
	}
	return true
}

// taken acknowledges blocks that the Store has.
func (s *blockStream) taken(from, to int64, p []byte) {
	s.got.add(from, to)
	for seq := from; seq < to; seq++ {
		s.status(uint32(seq), ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK)
	}
	if s.win == nil {
		return
	}
	if over := to*remoteBlock - s.win.room(); over > 0 {
		s.order(s.win.base + over)
	}
	s.win.put(from*remoteBlock, p)
	s.order(0)
}

// order hands to the digest what is in order, and leaves holes before pos.
func (s *blockStream) order(pos int64) {
	for {
		for s.win.waiting() > 0 {
			p := s.win.ready(orderWindow)
			s.dig.write(p)
			s.win.move(s.win.base + int64(len(p)))
		}
		if s.win.base >= pos {
			return
		}
		hole := s.win.got.holes(s.win.base, pos, 1)[0]
		s.dig.gap(hole.To - hole.From)
		s.win.move(hole.To)
	}
}

// nack asks for blocks that are missing before the highest one.
func (s *blockStream) nack(now time.Duration) time.Duration {
	if s.state != streamRunning && s.state != streamEnding || s.got.reach(0) >= s.high {
		return never
	}
	if now < s.nackAt {
		return s.nackAt
	}
	s.nackAt = now + nackEvery
	left := nackBlocks
	for _, h := range s.got.holes(0, s.high, nackBlocks+batchBlocks) {
		for seq := h.From; seq < h.To && left > 0; seq++ {
			if !slices.ContainsFunc(s.batch, func(b remoteData) bool { return b.seq == seq }) {
				s.status(uint32(seq), ap.MAV_REMOTE_LOG_DATA_BLOCK_NACK)
				left--
			}
		}
	}
	return s.nackAt
}

// end ends the file; what did not come is lost. It may be called again until it is true.
func (s *blockStream) end(why string, now time.Duration) bool {
	s.loseHoles()
	size := s.high * remoteBlock
	if !s.out.end(size, why, now) {
		return false
	}
	if s.win != nil {
		s.order(size)
		s.l.cross.streamed(&streamed{file: s.out.f.ID, bytes: s.out.bytes, lost: s.out.whole, dig: s.dig})
	}
	s.l.cfg.Event("log_stream_ended", fmt.Sprintf("file=%d bytes=%d lost=%d why=%q", s.out.f.ID, s.out.bytes, s.out.whole, why))
	s.out = nil
	return true
}

// loseHoles notes what is missing as lost. It takes the holes into got: they are not lost twice.
func (s *blockStream) loseHoles() {
	holes := s.got.holes(0, s.high, maxRanges+1)
	for _, h := range holes {
		s.out.lose(h.From*remoteBlock, h.To*remoteBlock, "the autopilot did not send it again")
	}
	if s.high > 0 {
		s.got = ranges{r: []segment.Range{{From: 0, To: s.high}}}
	}
}

func (s *blockStream) close(why string, now time.Duration) bool {
	if s.state == streamOff {
		return true
	}
	if s.out != nil && (!s.flush(now) || !s.end(why, now)) {
		return false
	}
	s.status(remoteStop, ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK)
	s.enter(streamOff, now)
	return true
}
