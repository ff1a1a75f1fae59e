package aplog

import (
	"fmt"
	"math"
	"slices"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// phase is what a puller is at.
//
//	idle -> rest -> list -> files -> pull -> list (once more) ... -> confirm -> list -> erase -> idle
//
// Arming leads to idle from everywhere, disarming to rest.
type phase int

const (
	phaseIdle    phase = iota
	phaseRest          // waits, so that the autopilot can end its log
	phaseList          // LOG_REQUEST_LIST
	phaseFiles         // FTP: where the files of the logs are
	phasePull          // one log after the other
	phaseConfirm       // the medium is read back, before an erase
	phaseErase         // the autopilot erases
)

// puller decides which logs are pulled, and when.
type puller struct {
	l     *Logs
	phase phase
	at    time.Duration // end of the rest, or of waiting for the erase
	busy  bool          // the autopilot was asked for something since LOG_REQUEST_END
	ends  int           // how often LOG_REQUEST_END may be tried still
	dead  bool          // the link was silent

	list   *lister
	files  *ftpLister
	client ftpClient
	noFTP  bool

	queue   []entry
	cur     *transfer
	parked  []*transfer // interrupted by arming, newest last
	closing *transfer   // its FTP session is being ended
	tried   map[uint16]int
	rounds  int
	pulled  int  // in this round
	stale   bool // PX4 may have a file open under a number that was another log's before the list

	known   known
	flights flights
	eraser  eraser
}

const (
	maxRounds = 3 // lists in a row, for logs that came or grew meanwhile
	maxTries  = 2 // of a log that fails its checksum
	maxParked = 4
	yieldFor  = 30 * time.Second // to a pilot who wants to arm
)

func newPuller(l *Logs) *puller {
	p := &puller{l: l}
	p.client.l = l
	return p
}

// begin has the list asked for, after a rest.
func (p *puller) begin(now time.Duration) {
	if p.l.armed || !p.l.armedKnown || p.l.flavour == 0 {
		return
	}
	p.park(now)
	p.eraser.stop()
	rest := settle
	if p.l.flavour == ArduPilot {
		rest = settleAP
	}
	p.phase, p.at, p.rounds, p.tried = phaseRest, now+rest, 0, map[uint16]int{}
}

// stop ends all requests at once: the vehicle is armed.
func (p *puller) stop() {
	p.flights.note(p.l.cfg.Flight())
	p.park(p.l.now)
	p.phase = phaseIdle
	p.halt()
}

// yield makes room for a pilot who was refused arming.
func (p *puller) yield(now time.Duration) {
	if p.phase == phaseIdle || p.phase == phaseRest {
		return
	}
	p.l.cfg.Event("log_pull_yields", "why=arming")
	p.park(now)
	p.halt()
	p.phase, p.at = phaseRest, now+yieldFor
}

// halt has LOG_REQUEST_END sent, if anything was asked.
func (p *puller) halt() {
	p.client.cancel()
	p.list, p.files, p.queue, p.closing = nil, nil, nil, nil
	p.eraser.stop()
	if p.busy {
		p.busy, p.ends = false, endTries
		p.sendEnd()
	}
}

// endTries bounds LOG_REQUEST_END on a link that takes nothing.
const endTries = 20

// sendEnd stops what an autopilot sends. An armed one, or one that is silent, gets nothing of a pull, not even this, and
// stops by itself: ArduPilot at arming, PX4 where the piece ends that it was asked for.
func (p *puller) sendEnd() {
	if p.l.armed || !p.l.alive() {
		p.ends = 0
	}
	if p.ends == 0 {
		return
	}
	p.ends--
	if p.l.cfg.Out.Send(compOnboard, &ap.MessageLogRequestEnd{TargetSystem: p.l.system, TargetComponent: compAutopilot}) {
		p.ends = 0
	}
}

// park keeps the log that is being pulled for later.
func (p *puller) park(now time.Duration) {
	p.client.cancel()
	t := p.cur
	p.cur, p.closing = nil, nil
	if t == nil {
		return
	}
	t.flush(now)
	t.asked, t.burst, t.stalls = nil, false, 0
	if f := t.file(); f != nil {
		f.park()
	}
	for _, old := range p.parked { // only the newest keeps what came out of order
		old.shrink()
	}
	p.parked = append(p.parked, t)
}

// shrink gives back the memory of a window. What lay in it behind a hole is asked for again.
func (t *transfer) shrink() {
	if t.w != nil && t.w.waiting() == 0 {
		t.high = t.w.base
		t.w = &window{base: t.w.base}
	}
}

func (t *transfer) grow() {
	if len(t.w.buf) == 0 {
		t.w.buf = make([]byte, windowSize)
	}
}

// rebooted forgets what an autopilot forgets: sessions, and what numbers its logs have.
func (p *puller) rebooted() {
	p.park(p.l.now)
	for _, t := range p.parked {
		if f := t.file(); f != nil {
			f.lost()
		}
	}
	p.client.cancel()
	p.noFTP = false
	p.list, p.files, p.queue, p.closing, p.phase = nil, nil, nil, nil, phaseIdle
	p.eraser.stop()
}

func (p *puller) handle(m message.Message) {
	switch m := m.(type) {
	case *ap.MessageLogEntry:
		if p.list != nil {
			p.list.handle(m)
		} else if p.cur != nil {
			p.cur.logEntry(m)
		}
	case *ap.MessageLogData:
		if p.cur != nil {
			p.cur.logData(m)
		}
	case *ap.MessageFileTransferProtocol:
		p.handleFTP(m)
	case *ap.MessageAutopilotVersion:
		p.noFTP = m.Capabilities&ap.MAV_PROTOCOL_CAPABILITY_FTP == 0
	}
}

func (p *puller) handleFTP(m *ap.MessageFileTransferProtocol) {
	if m.TargetSystem != p.l.system || m.TargetComponent != compOnboard {
		return
	}
	f, ok := decodeFTP(m)
	if !ok || p.client.handle(f) {
		return
	}
	if p.cur != nil && p.cur.ftp != nil && (f.reqOp == ftpRead || f.reqOp == ftpBurst) {
		p.cur.ftp.handle(f)
	}
}

func (p *puller) step(now time.Duration) time.Duration {
	if p.sendEnd(); p.ends > 0 {
		return now + outRetry
	}
	if p.phase == phaseIdle {
		return never
	}
	if !p.l.mayAsk() {
		p.dead = true
		return now + time.Second
	}
	if p.dead {
		p.revive()
	}
	return p.stepPhase(now)
}

// revive goes on after a silence: what was asked in it is no sign of a log that cannot be read.
func (p *puller) revive() {
	p.dead = false
	if p.cur != nil {
		p.cur.asked, p.cur.stalls, p.cur.time.shift = nil, 0, 0
	}
	p.client.tries = 0
}

func (p *puller) stepPhase(now time.Duration) time.Duration {
	for range 64 { // a phase may lead to the next at once, but not for ever
		before := p.phase
		if next := p.stepOne(now); next > now || p.phase == phaseIdle {
			return next
		} else if before == p.phase && p.phase != phasePull && p.phase != phaseFiles {
			return now + outRetry
		}
	}
	return now + outRetry
}

func (p *puller) stepOne(now time.Duration) time.Duration {
	switch p.phase {
	case phaseRest:
		switch {
		case now < p.at:
			return p.at
		case p.l.stream != nil && p.l.stream.active() && !p.l.cfg.Disarmed:
			return now + outRetry // its tail comes first
		}
		p.startList()
	case phaseList:
		return p.stepList(now)
	case phaseFiles:
		return p.stepFiles(now)
	case phasePull:
		return p.stepPull(now)
	case phaseConfirm, phaseErase:
		return p.eraser.step(p, now)
	}
	return now
}

func (p *puller) startList() {
	p.phase, p.list, p.busy = phaseList, p.l.newLister(), true
	p.queue, p.pulled = nil, 0
	p.rounds++
}

func (p *puller) stepList(now time.Duration) time.Duration {
	done, ok, next := p.list.step(now)
	if !done {
		return next
	}
	logs := p.list.entries()
	p.list = nil
	if p.eraser.listed(p, logs, ok, now) {
		return now
	}
	if !ok {
		why := "no answer to LOG_REQUEST_LIST"
		if p.l.flavour == PX4 {
			why += ": it has no logs, or does not know the request"
		}
		p.l.cfg.Event("log_list_failed", fmt.Sprintf("why=%q", why))
	}
	p.queue, p.phase = logs, phaseFiles
	p.files = p.l.newFTPLister(&p.client)
	p.files.done = p.noFTP || ok && !p.anyNew(logs)
	return now
}

func (p *puller) stepFiles(now time.Duration) time.Duration {
	if next := p.files.step(now); !p.files.done {
		return next
	}
	files := p.files.files
	p.noFTP = p.noFTP || p.files.silent
	p.files = nil
	if len(p.queue) == 0 {
		p.queue = asEntries(files, p.l.flavour)
	} else {
		match(p.queue, files, p.l.flavour)
	}
	p.flights.note(p.l.cfg.Flight())
	p.flights.assign(p.queue)
	p.l.cross.pair(p.queue)
	p.eraser.list = append([]entry(nil), p.queue...)
	p.stale = p.l.flavour == PX4
	p.phase = phasePull
	return now
}

// anyNew reports whether a list holds a log that is to be pulled.
func (p *puller) anyNew(logs []entry) bool {
	for _, e := range logs {
		if p.wanted(e) {
			return true
		}
	}
	return len(p.parked) > 0
}

// wanted reports whether a log is to be pulled. One without bytes is not: it holds up nothing.
func (p *puller) wanted(e entry) bool {
	return e.size > 0 && p.tried[e.id] < maxTries && !p.known.has(e.key(), p.l.reboots) && !p.knownBefore(e.key())
}

// stepPull pulls the logs of the queue, the newest first.
func (p *puller) stepPull(now time.Duration) time.Duration {
	if p.closing != nil {
		return p.stepClosing(now)
	}
	if p.cur == nil && !p.take(now) {
		return p.finish(now)
	}
	if !p.freshen() {
		return now + outRetry
	}
	done, next := p.cur.step(now)
	if !done {
		return next
	}
	p.completed(p.cur)
	if p.cur.ftp != nil && p.cur.ftp.open {
		f := p.cur.ftp
		p.closing = p.cur
		p.client.call(ftpMessage{op: ftpTerminate, session: f.session}, p.cur.time.timeout(), func(ftpMessage, bool) { p.closing = nil })
	}
	p.cur = nil
	return now
}

// freshen has PX4 close the file it has open: it reads on in that one as long as the number that is
// asked for stays the same, whatever log has that number in a newer list. Asked for another one, behind
// its end, it opens that and sends nothing. false: not now.
func (p *puller) freshen() bool {
	if !p.stale || p.cur.ftp != nil {
		return true
	}
	if e := p.cur.e; e.num > 1 {
		other := uint16(0)
		if e.id == 0 {
			other = 1
		}
		if !p.l.ask(&ap.MessageLogRequestData{TargetSystem: p.l.system, TargetComponent: compAutopilot, Id: other, Ofs: math.MaxUint32}) {
			return false
		}
	}
	p.stale = false
	return true
}

func (p *puller) stepClosing(now time.Duration) time.Duration {
	next := p.client.step(now)
	if p.closing == nil {
		return now
	}
	return next
}

// take makes the next log the one that is pulled; false: there is none.
func (p *puller) take(now time.Duration) bool {
	for len(p.queue) > 0 {
		e := p.queue[0]
		p.queue = p.queue[1:]
		if t := p.unpark(e); t != nil {
			p.cur = t
			return true
		}
		if !p.wanted(e) {
			continue
		}
		p.tried[e.id]++
		p.cur = p.start(e)
		return true
	}
	return p.takeGone(now)
}

// start pulls a log. ArduPilot's FTP is as fast as LOG_REQUEST_DATA and does not hold up arming; PX4's
// takes a request for each 239 bytes. A log whose checksum was wrong comes in the other way.
func (p *puller) start(e entry) *transfer {
	first := p.tried[e.id] <= 1
	if e.path == "" || p.l.flavour == ArduPilot && !first {
		return p.l.newTransfer(e, nil, nil)
	}
	f := &ftpFile{c: &p.client, path: e.path}
	if p.l.flavour == PX4 && e.listed && first {
		return p.l.newTransfer(e, nil, f)
	}
	return p.l.newTransfer(e, f, nil)
}

// unpark finds the interrupted pull of a log: by its number and time, or by time and size where an
// autopilot that began anew numbers its logs in another way.
func (p *puller) unpark(e entry) *transfer {
	for i, t := range p.parked {
		if !t.is(e) || !t.exactly(e) && slices.ContainsFunc(p.queue, t.exactly) {
			continue
		}
		p.parked = append(p.parked[:i:i], p.parked[i+1:]...)
		t.grow()
		t.resumed(e)
		if f := t.file(); f != nil {
			f.opens, f.again = 0, 0
		}
		t.grown(e.size)
		return t
	}
	return nil
}

func (t *transfer) is(e entry) bool {
	switch {
	case e.moves && e.path != "" && t.e.path != "":
		return e.path == t.e.path && e.size >= t.size
	case t.e.utc != 0 && t.e.utc == e.utc:
		return e.size == t.size || e.size > t.size && t.e.id == e.id
	}
	return t.e.id == e.id && e.size >= t.size && t.boot == t.l.reboots && (!e.moves || e.num == t.e.num)
}

func (t *transfer) exactly(e entry) bool {
	return t.e.utc != 0 && t.e.utc == e.utc && t.size == e.size
}

// resumed takes what the newest list knows about the log: its number now, and the flight that it was
// of, if that had not ended when the pull began.
func (t *transfer) resumed(e entry) {
	t.e.id, t.e.utc, t.e.num, t.boot = e.id, e.utc, e.num, t.l.reboots
	if e.of != "" {
		t.e.of, t.out.f.Of = e.of, e.of
	}
	if e.stream != nil {
		t.e.stream = e.stream
	}
}

// takeGone ends the interrupted pulls of logs that are not there any more.
func (p *puller) takeGone(now time.Duration) bool {
	if len(p.parked) == 0 {
		return false
	}
	t := p.parked[0]
	p.parked = p.parked[1:]
	t.grow()
	t.abandon("the autopilot has it no more")
	p.cur = t
	return true
}

// completed tells how the pull of a log ended, and remembers it.
func (p *puller) completed(t *transfer) {
	p.pulled++
	retry := t.failed != "" && p.tried[t.e.id] < maxTries
	if !retry {
		p.known.add(t.e.key(), p.l.reboots)
		if x := t.e.key(); p.l.cfg.Pulled != nil && x.utc != 0 && t.isWhole() {
			p.l.cfg.Pulled(x.id, x.utc, x.size)
		}
	} else {
		p.queue = append([]entry{t.e}, p.queue...)
	}
	kind := "log_pulled"
	if !t.isWhole() {
		kind = "log_pulled_with_holes"
	} else {
		p.eraser.whole(t)
	}
	p.l.cfg.Event(kind, fmt.Sprintf("log=%d bytes=%d of=%d lost=%d source=%s checksum=%s why=%q",
		t.e.id, t.out.bytes, t.size, t.out.whole, t.out.f.Source, t.crcWord(), t.failed+t.out.why))
	p.l.cross.pulled(p.l, t)
}

func (t *transfer) crcWord() string {
	f := t.file()
	if f == nil {
		return "none"
	}
	return [...]string{"none", "none", "right", "none", "unanswered", "wrong"}[f.crc]
}

// finish looks for logs that came meanwhile, and otherwise lets the autopilot log as usual.
func (p *puller) finish(now time.Duration) time.Duration {
	if p.pulled > 0 && p.rounds < maxRounds {
		p.startList()
		return now
	}
	if p.eraser.begin(p, now) {
		return now
	}
	return p.done()
}

func (p *puller) done() time.Duration {
	p.phase = phaseIdle
	p.halt()
	return never
}

// close ends the files of all logs that are pulled in part.
func (p *puller) close(why string, now time.Duration) bool {
	p.park(now)
	for len(p.parked) > 0 {
		t := p.parked[0]
		t.abandon(why)
		if t.drain(now) > now || !t.out.end(t.size, "", now) {
			return false
		}
		p.parked = p.parked[1:]
	}
	return true
}
