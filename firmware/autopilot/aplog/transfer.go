package aplog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"path"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"

	"holdfast/storage/segment"
)

// transfer pulls one log. Bytes come in any order into a window, and leave it in order for the
// Store; holes are asked for again until they come or are given up.
type transfer struct {
	l    *Logs
	e    entry
	boot int // the start of the autopilot in which e was listed
	out  output
	w    *window
	size int64    // as far as is known
	high int64    // all before it was asked for
	ftp  *ftpFile // reads the log; nil: LOG_REQUEST_DATA does
	alt  *ftpFile // the same file by FTP: for its checksum, and where LOG_REQUEST_DATA brings nothing; nil: none
	dig  *digest
	sha  hash.Hash // likewise
	crc  uint32    // of what the Store has, as FTP computes it; right as long as nothing was lost

	asked     []segment.Range // the request under way; empty: none
	askedAt   time.Duration
	lastAt    time.Duration
	answered  bool
	burst     bool // it is a burst of FTP, which ends where the autopilot likes
	fresh     int  // new bytes since the request
	came      int  // bytes since the request, new or not
	time      timing
	perKiB    time.Duration // how long 1 KiB takes to come; 0: not measured
	rateAt    time.Duration
	stalls    int
	giveUps   int
	abandoned string // why the rest is given up; "": it is not

	grows     int
	sizeAsked bool
	sizeTries int
	sizeAt    time.Duration
	sizeKnown bool // the autopilot said again how long the log is
	failed    string
}

// maxGrows bounds how often a log is followed that grows while it is pulled.
const maxGrows = 8

// newTransfer pulls e by FTP from ftp, or by LOG_REQUEST_DATA beside alt.
func (l *Logs) newTransfer(e entry, ftp, alt *ftpFile) *transfer {
	t := &transfer{l: l, e: e, boot: l.reboots, w: newWindow(windowSize), size: e.size, ftp: ftp, alt: alt, dig: newDigest(l.flavour), sha: sha256.New()}
	name := fmt.Sprintf("%08d.%s", e.id, map[uint8]string{ArduPilot: "BIN", PX4: "ulg"}[l.flavour])
	source := "pull"
	if ftp != nil {
		source = "ftp"
	}
	if f := t.file(); f != nil {
		f.t, name = t, path.Base(e.path)
	}
	t.out = output{store: l.cfg.Store, f: segment.File{
		ID: l.cfg.NewID(), Kind: segment.KindLog, Source: source, Format: l.format(), Name: name,
		Size: e.size, Of: e.of, Log: int(e.id), UTCUsec: int64(e.utc) * 1e6,
	}}
	return t
}

// file is the log as FTP has it; nil: it is not known there, or FTP failed.
func (t *transfer) file() *ftpFile {
	if t.ftp != nil {
		return t.ftp
	}
	return t.alt
}

// data takes a piece of the log.
func (t *transfer) data(off int64, p []byte) {
	if off < 0 || off >= t.size || len(p) == 0 {
		return
	}
	p = p[:min(int64(len(p)), t.size-off)]
	if t.w == nil {
		return
	}
	t.came += len(p)
	if n := t.w.put(off, p); n > 0 {
		t.fresh += n
		t.stalls, t.giveUps = 0, 0
	}
	if len(t.asked) == 0 {
		return
	}
	if !t.answered {
		t.answered = true
		t.time.answered(t.l.now - t.askedAt)
	}
	t.lastAt = t.l.now
}

func (t *transfer) logData(m *ap.MessageLogData) {
	if t.ftp != nil || m.Id != t.e.id || int(m.Count) > len(m.Data) {
		return
	}
	t.data(int64(m.Ofs), m.Data[:m.Count])
}

// logEntry takes what the autopilot says, asked again, about the size of the log.
func (t *transfer) logEntry(m *ap.MessageLogEntry) {
	if !t.sizeAsked || t.sizeKnown || m.Id != t.e.id {
		return
	}
	t.sizeKnown = true
	if t.e.moves && int64(m.Size) >= t.size {
		t.e.utc = m.TimeUtc // of a log that was still written when it was listed
	}
	t.grown(int64(m.Size))
}

func (t *transfer) grown(size int64) {
	if size <= t.size || t.grows >= maxGrows {
		return
	}
	t.grows++
	t.size, t.e.size, t.out.f.Size = size, size, size
	t.sizeAsked, t.sizeKnown, t.sizeTries = false, false, 0
	if t.ftp != nil {
		t.ftp.reopen() // PX4 reads no further than the file was long when it was opened
	}
}

// step does what is due. done: all that will come is in the Store.
func (t *transfer) step(now time.Duration) (done bool, next time.Duration) {
	if !t.deliver(now) {
		next = now + storeRetry
	} else if t.w.base >= t.size {
		return t.finish(now)
	} else {
		next = never
	}
	if t.abandoned != "" {
		return false, min(next, t.drain(now))
	}
	return false, min(next, t.request(now))
}

// deliver hands to the Store what is in order, in pieces of putSize, and the rest where the log or
// the window ends. false: the Store has no room.
func (t *transfer) deliver(now time.Duration) bool {
	all := t.w.base+t.w.waiting() >= min(t.size, t.w.room()) || t.abandoned != ""
	for t.w.waiting() >= putSize || (all && t.w.waiting() > 0) {
		if !t.deliverOne(now) {
			return false
		}
	}
	return true
}

func (t *transfer) deliverOne(now time.Duration) bool {
	p := t.w.ready(putSize)
	if !t.out.put(t.w.base, p, now) {
		return false
	}
	t.dig.write(p)
	t.crc = crcFTP(t.crc, p)
	t.sha.Write(p)
	t.w.move(t.w.base + int64(len(p)))
	return true
}

// flush hands over what is in order, however little. false: the Store has no room.
func (t *transfer) flush(now time.Duration) bool {
	for t.w.waiting() > 0 {
		if !t.deliverOne(now) {
			return false
		}
	}
	return true
}

// request sends the next request, if none is under way.
func (t *transfer) request(now time.Duration) time.Duration {
	if t.ftp != nil && !t.ftp.open {
		return t.openFTP(now)
	}
	if t.underWay() {
		if due := t.lastAt + t.time.timeout(); now < due {
			return due
		}
		t.expire()
	}
	if t.stalls >= maxStalls {
		return t.giveUp(now)
	}
	if now < t.rateAt {
		return t.rateAt
	}
	want := t.choose()
	if len(want) == 0 {
		return never // the window is full: the Store has to take some first
	}
	return t.send(want, now)
}

// underWay reports whether the newest request still has to bring something.
func (t *transfer) underWay() bool {
	for len(t.asked) > 0 && t.w.got.has(max(t.asked[0].From, t.w.base), t.asked[0].To) {
		t.asked = t.asked[1:]
	}
	return len(t.asked) > 0
}

func (t *transfer) expire() {
	t.asked = nil
	if t.burst {
		t.burstEnded(t.w.got.end())
	}
	if t.fresh == 0 {
		t.stalls++
		t.time.expired()
	}
}

// burstEnded notes that the autopilot sends nothing of the burst behind pos.
func (t *transfer) burstEnded(pos int64) {
	t.high = min(t.high, max(pos, t.w.base))
	t.asked, t.burst = nil, false
}

// choose returns what to ask for next: the holes in what was asked for, then what lies behind.
func (t *transfer) choose() []segment.Range {
	holes := t.w.got.holes(t.w.base, t.high, 64)
	switch {
	case len(holes) > 0 && t.ftp != nil:
		return t.ftp.pieces(holes)
	case len(holes) > 0:
		return []segment.Range{join(holes, t.bridge())}
	}
	from := max(t.high, t.w.base)
	to := min(t.size, t.w.room())
	if t.ftp == nil {
		to = min(to, from+t.chunk())
	}
	switch {
	case from >= to:
		return nil
	case t.ftp != nil && !t.bursts():
		return t.ftp.pieces([]segment.Range{{From: from, To: to}})
	}
	return []segment.Range{{From: from, To: to}}
}

// bursts reports whether FTP is asked for bursts. How long one is the autopilot decides, so with a
// limit on the rate there are none.
func (t *transfer) bursts() bool { return t.ftp != nil && t.l.cfg.Rate <= 0 }

// chunk is what one request asks for: with a limit on the rate not much more than that of a second.
func (t *transfer) chunk() int64 {
	if r := t.l.cfg.Rate; r > 0 {
		return min(chunkSize, max(r/90*90, 90))
	}
	return chunkSize
}

// measure notes how fast the answer to a request came, if it was long enough to tell.
func (t *transfer) measure() {
	if t.came >= measured && t.lastAt > t.askedAt {
		t.perKiB = (t.lastAt - t.askedAt) * 1024 / time.Duration(t.came)
	}
}

// bridge is up to what distance holes are asked for at once: as much as comes in the time that another
// request takes, or is missed in.
func (t *transfer) bridge() int64 {
	if t.perKiB == 0 || t.l.cfg.Rate > 0 {
		return joinHoles
	}
	turn := max((t.time.smooth+4*t.time.vary)/2, minTurn)
	return min(max(int64(turn*1024/t.perKiB), 512), chunkSize)
}

// join makes one range of the first holes that lie close to each other: an autopilot answers one
// request at a time, so bytes that come twice cost less than another one.
func join(holes []segment.Range, bridge int64) segment.Range {
	r := holes[0]
	for _, h := range holes[1:] {
		if h.From-r.To > bridge || h.To-r.From > chunkSize {
			break
		}
		r.To = h.To
	}
	r.To = min(r.To, r.From+chunkSize)
	return r
}

func (t *transfer) send(want []segment.Range, now time.Duration) time.Duration {
	fresh, ok := want[0].From >= t.high, false
	burst := fresh && t.bursts()
	if t.ftp != nil {
		want, ok = t.ftp.read(want, burst, now)
	} else {
		r := want[0]
		ok = t.l.ask(&ap.MessageLogRequestData{TargetSystem: t.l.system, TargetComponent: compAutopilot,
			Id: t.e.id, Ofs: uint32(r.From), Count: uint32(r.To - r.From)})
	}
	if !ok {
		return now + outRetry
	}
	t.measure()
	t.asked, t.askedAt, t.lastAt, t.answered, t.fresh, t.came = want, now, now, false, 0, 0
	t.burst = burst
	t.pace(now)
	if last := want[len(want)-1]; fresh {
		t.high = max(t.high, last.To)
	}
	return now + t.time.timeout()
}

// pace notes when the next request may go.
func (t *transfer) pace(now time.Duration) {
	if t.l.cfg.Rate <= 0 {
		return
	}
	var n int64
	for _, r := range t.asked {
		n += r.To - r.From
	}
	t.rateAt = max(now, t.rateAt) + time.Duration(float64(n)/float64(t.l.cfg.Rate)*float64(time.Second))
}

// giveUp leaves the hole at the front; after some in a row, the rest.
func (t *transfer) giveUp(now time.Duration) time.Duration {
	if !t.flush(now) {
		return now + storeRetry
	}
	t.stalls = 0
	if t.ftp == nil && t.alt != nil {
		t.tryFTP()
		return now
	}
	if t.giveUps++; t.giveUps >= maxGiveUps {
		t.abandon("the autopilot does not send it")
		return now
	}
	hole := t.hole(max(t.high, t.w.base+1))
	t.skip(hole.To, fmt.Sprintf("asked for %d times in vain", maxStalls))
	return now
}

// hole is the one at base, which ends at limit at the latest.
func (t *transfer) hole(limit int64) segment.Range {
	h := t.w.got.holes(t.w.base, min(limit, t.size), 1)
	if len(h) == 0 {
		return segment.Range{From: t.w.base, To: t.w.base}
	}
	return h[0]
}

func (t *transfer) skip(to int64, why string) {
	t.out.lose(t.w.base, to, why)
	t.dig.gap(to - t.w.base)
	t.w.move(to)
}

func (t *transfer) abandon(why string) {
	if t.abandoned == "" {
		t.abandoned, t.asked = why, nil
	}
}

// drain brings what the window holds of an abandoned log into the Store.
func (t *transfer) drain(now time.Duration) time.Duration {
	for t.w.base < t.size {
		if !t.flush(now) {
			return now + storeRetry
		}
		if t.w.base < t.size {
			t.skip(t.hole(t.size).To, t.abandoned)
		}
	}
	return now
}

// finish asks whether the log has grown, has its checksum compared, and ends the file.
func (t *transfer) finish(now time.Duration) (done bool, next time.Duration) {
	if t.abandoned == "" {
		if wait := t.askSize(now); wait > 0 {
			return false, wait
		}
		if t.w.base < t.size {
			return false, now
		}
		if wait := t.check(now); wait > 0 {
			return false, wait
		}
	}
	if t.out.whole == 0 {
		t.out.f.SHA256 = hex.EncodeToString(t.sha.Sum(nil))
	}
	if !t.out.end(t.size, t.failed, now) {
		return false, now + storeRetry
	}
	return true, now
}

// askSize asks for the entry of the log once more. 0: that is answered, or never will be.
func (t *transfer) askSize(now time.Duration) time.Duration {
	if t.sizeKnown || !t.e.listed {
		return 0
	}
	if t.sizeAsked && now < t.sizeAt {
		return t.sizeAt
	}
	if t.sizeTries >= 3 {
		return 0
	}
	if !t.l.ask(&ap.MessageLogRequestList{TargetSystem: t.l.system, TargetComponent: compAutopilot, Start: t.e.id, End: t.e.id}) {
		return now + outRetry
	}
	t.sizeAsked, t.sizeAt = true, now+listTimeout
	t.sizeTries++
	return t.sizeAt
}

// whole reports whether every byte came and nothing says that one is wrong.
func (t *transfer) isWhole() bool {
	return t.abandoned == "" && t.failed == "" && t.out.whole == 0 && t.w.base >= t.size
}
