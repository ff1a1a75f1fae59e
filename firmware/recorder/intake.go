package recorder

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"holdfast/mavlink"
	"holdfast/mavlink/link"
	"holdfast/mavlink/tlog"
	"holdfast/storage/segment"
)

const (
	// readBuffer is one read: more than a UART or a pseudo-terminal ever gives at once.
	readBuffer = 32 << 10
	// trickle in a window is what the reader pauses after: a UART at 921,600 baud brings as
	// much in 11 ms, and the kernel holds four times that.
	trickle       = 1 << 10
	trickleWindow = 10 * time.Millisecond
	// calmAfter is how long little must have come, once, before something is sent to a peer that
	// holds back: one that dumps what it has and closes is never calm. dumpLongest is how long that is
	// believed of one: an autopilot that streams its log is never calm either, and streams only to
	// those who answer.
	calmAfter   = 200 * time.Millisecond
	dumpLongest = 10 * time.Second
	// silenceRule is when a scanner is told that nothing comes (CONTRACT, Frames).
	silenceRule = 100 * time.Millisecond
	// idleWait is how long a read waits where no rule needs it to end sooner.
	idleWait = time.Second
	// silentAfter is when a quiet link becomes an event: three heartbeats.
	silentAfter = 3 * time.Second
	// reopenFirst and reopenMost bound the back-off between tries to open a link.
	reopenFirst = 100 * time.Millisecond
	reopenMost  = 2 * time.Second
	// noFramesAfter is when bytes without a single frame become an event: usually a baud
	// rate that is not the autopilot's.
	noFramesAfter = 5 * time.Second
	// autopilotGone is after how long another autopilot may take the place of a silent one;
	// in the air it takes longer, because a flight must not end by mistake.
	autopilotGone      = 10 * time.Second
	autopilotGoneArmed = 60 * time.Second
)

// intake reads one link: bytes to frames and noise, into the ring. Its methods run on one
// goroutine; the scanner's callbacks run with the ring's lock held.
type intake struct {
	r     *Recorder
	index int
	cfg   Link
	src   link.Source
	scan  *mavlink.Scanner
	gaps  mavlink.GapCounter
	buf   []byte
	taken int64 // bytes received
	calm  bool  // the last window brought little
	// window is when the present one began, inWindow what it has brought.
	window   time.Duration
	lively   time.Duration // when a window last brought much
	joined   time.Duration // when the link was opened
	inWindow int
	drop     bool // what the scanner hands over now finds no room
	skip     bool // it is not wanted: recording has stopped for maintenance

	lastByte  time.Duration
	lastFrame time.Duration
	silent    bool
	noFrames  bool
	lines     segment.LineErrors
	nextLines time.Duration

	ownSystem mavlink.SystemID
	ownKnown  bool
	ownHeard  time.Duration
	armed     bool
	nextPair  time.Duration
}

func newIntake(r *Recorder, index int, cfg Link) *intake {
	in := &intake{r: r, index: index, cfg: cfg, buf: make([]byte, readBuffer)}
	in.scan = mavlink.NewScanner(in)
	return in
}

// run opens the link, reads until it is lost, and opens it again, until ctx ends or the input
// is a file that was read to its end.
func (in *intake) run(ctx context.Context) {
	wait := reopenFirst
	failing := false
	for ctx.Err() == nil {
		src, err := in.r.cfg.OpenLink(in.cfg.Device, in.cfg.Baud)
		in.r.tried(in.index)
		if err == nil {
			wait, failing = reopenFirst, false
			if in.serve(ctx, src) {
				return
			}
			continue
		}
		if !failing {
			failing = true
			in.event("link_unavailable", err.Error())
			in.r.problem("link " + in.cfg.Name + ": " + err.Error())
		}
		sleep(ctx, wait)
		wait = min(2*wait, reopenMost)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// serve reads src until it fails; done says that no more will ever come.
func (in *intake) serve(ctx context.Context, src link.Source) (done bool) {
	in.src = src
	stop := context.AfterFunc(ctx, func() { src.Close() })
	defer stop()
	now := in.r.cfg.Now()
	in.lastByte, in.lastFrame, in.silent, in.noFrames = now, now, false, false
	in.event("link_open", in.cfg.Device)
	in.r.problem("")
	in.connect(src)
	err := in.read()
	in.connect(nil)
	src.Close()
	in.locked(true, func() { in.scan.End(in.r.cfg.Now()) })
	if ctx.Err() != nil {
		in.event("link_closed", "the recorder stops")
		return true
	}
	if errors.Is(err, io.EOF) {
		in.event("link_end", "end of the file")
		return true
	}
	in.event("link_lost", err.Error())
	in.r.problem("link " + in.cfg.Name + ": " + err.Error())
	in.r.log.Warn("link lost", slog.String("link", in.cfg.Name), slog.Any("err", err))
	return false
}

// connect has what is sent go to src, where that takes anything; nil: nowhere.
func (in *intake) connect(src link.Source) {
	dst, _ := src.(io.Writer)
	// Only over TCP may a peer be one that ends its dump by closing, and resets it when it is answered.
	patient := src != nil && src.HoldsBack() && strings.HasPrefix(in.cfg.Device, "tcp:")
	in.r.outlets[in.index].open(dst, patient)
	in.lively = in.r.cfg.Now()
	in.joined = in.lively
	in.r.setLinkUp(in.index, src != nil)
}

// read moves bytes from the source to the scanner until the source fails.
func (in *intake) read() error {
	for {
		wait := idleWait
		if in.scan.Pending() > 0 {
			wait = silenceRule
		}
		n, err := in.src.Read(in.buf, wait)
		now := in.r.cfg.Now()
		if n > 0 {
			in.take(now, in.buf[:n])
			if in.trickles(now, n) && in.r.cfg.Pause != nil && !datagrams(in.src) {
				in.r.cfg.Pause()
			}
		}
		if errors.Is(err, link.ErrSilent) {
			in.quiet(now)
			err = nil
		}
		in.lineErrors(now)
		if err != nil {
			return err
		}
	}
}

// datagrams tells whether a read gives one datagram. To pause then lets nothing gather: each would
// wait by itself, and what comes at more than the rate of the pauses would pile up and be lost.
func datagrams(src link.Source) bool {
	d, ok := src.(interface{ Datagrams() bool })
	return ok && d.Datagrams()
}

// trickles tells whether so little comes that it can be let gather for a moment: the last window
// brought little, and so did this read.
func (in *intake) trickles(now time.Duration, n int) bool {
	if now-in.window >= trickleWindow {
		if in.calm = in.inWindow < trickle; !in.calm {
			in.lively = now
		}
		in.window, in.inWindow = now, 0
		if now-in.lively >= calmAfter || now-in.joined >= dumpLongest {
			in.r.outlets[in.index].calm.Store(true)
		}
	}
	in.inWindow += n
	return in.calm && n < trickle
}

func (in *intake) take(now time.Duration, p []byte) {
	if in.silent {
		in.silent = false
		in.event("link_resumed", "")
	}
	in.lastByte = now
	in.locked(in.src.HoldsBack(), func() {
		in.taken += int64(len(p))
		in.scan.Write(now, p)
	})
	in.r.bytes.Add(int64(len(p)))
	in.checkFrames(now)
}

// checkFrames tells of bytes that never become frames.
func (in *intake) checkFrames(now time.Duration) {
	if in.noFrames || now-in.lastFrame < noFramesAfter {
		return
	}
	in.noFrames = true
	in.event("no_frames", "bytes arrive, but no MAVLink frame: wrong baud rate or wiring?")
	in.r.problem("link " + in.cfg.Name + ": bytes arrive, but no MAVLink frame; check baud and wiring")
}

func (in *intake) quiet(now time.Duration) {
	in.r.outlets[in.index].calm.Store(true)
	if in.scan.Pending() > 0 {
		in.locked(true, func() { in.scan.Idle(now) })
	}
	if !in.silent && now-in.lastByte >= silentAfter {
		in.silent = true
		in.event("link_silent", "")
	}
}

// locked runs f with the ring's lock held. What f's scanner hands over is dropped and counted
// where there is no room and the source cannot wait.
func (in *intake) locked(holdsBack bool, f func()) {
	rg := in.r.ring
	rg.mu.Lock()
	defer rg.mu.Unlock()
	if in.skip && !rg.muted {
		in.scan.End(in.r.cfg.Now()) // what was begun during the maintenance is not for the next record
	}
	in.skip = rg.muted
	// A stopping recorder keeps what still comes: it is bounded by one read.
	in.drop = in.skip || !rg.admit(holdsBack) && !rg.stopped
	first := rg.cur == nil || rg.cur.first == 0
	f()
	if first {
		rg.notify()
	}
}

func (in *intake) event(kind, detail string) {
	rg := in.r.ring
	rg.mu.Lock()
	defer rg.mu.Unlock()
	in.eventLocked(in.r.cfg.Now(), kind, detail)
	rg.notify()
}

func (in *intake) eventLocked(at time.Duration, kind, detail string) {
	in.r.ring.note(at, segment.Event{Kind: kind, Link: in.cfg.Name, Detail: detail})
}

// Event notes something in the record that is open, or is begun next. Safe for concurrent use, but
// not from Config.Tap.
func (r *Recorder) Event(kind, detail string) { r.event(kind, detail) }

// Clock notes a clock pair of the autopilot.
func (r *Recorder) Clock(p segment.ClockPair) {
	r.clock.autopilot(p)
	r.ring.mu.Lock()
	defer r.ring.mu.Unlock()
	if r.ring.muted {
		return
	}
	m := &r.ring.current().block.Meta
	if len(m.Clock) < batchPairs {
		m.Clock = append(m.Clock, p)
	}
}

// event notes something that is about no link.
func (r *Recorder) event(kind, detail string) {
	r.ring.mu.Lock()
	defer r.ring.mu.Unlock()
	r.ring.note(r.cfg.Now(), segment.Event{Kind: kind, Detail: detail})
	r.ring.notify()
}

// note adds an event to the current batch. mu must be held.
func (r *ring) note(at time.Duration, e segment.Event) {
	b := r.current()
	b.touch(at)
	m := &b.block.Meta
	if len(m.Events) >= batchEvents {
		m.EventsMore++
		return
	}
	e.BootUsec = at.Microseconds()
	m.Events = append(m.Events, e)
}

// lineErrors notes the UART's own counters when they changed, at most once a second.
func (in *intake) lineErrors(now time.Duration) {
	if now < in.nextLines {
		return
	}
	in.nextLines = now + time.Second
	c, ok := in.src.LineErrors()
	if !ok {
		return
	}
	l := segment.LineErrors{Link: in.index, Overrun: c.Overrun, Buffer: c.BufOverrun, Framing: c.Framing, Parity: c.Parity, Break: c.Break}
	if l == in.lines || l == (segment.LineErrors{Link: in.index}) {
		return
	}
	in.lines = l
	rg := in.r.ring
	rg.mu.Lock()
	defer rg.mu.Unlock()
	b := rg.current()
	b.touch(now)
	b.block.Meta.Lines = append(b.block.Meta.Lines, l)
}

// Frame takes a frame from the scanner. The ring's lock is held.
func (in *intake) Frame(f *mavlink.Frame) {
	in.lastFrame, in.noFrames = f.At, false
	in.r.frames.Add(1)
	gap, jumped := in.gaps.Observe(f)
	switch {
	case in.skip:
		in.r.ring.skip(1, len(f.Raw))
	case in.drop:
		in.r.ring.drop(f.At, 1, 0, len(f.Raw))
		in.r.drops.Add(1)
	}
	if in.r.cfg.Tap != nil {
		in.r.cfg.Tap(in.index, f)
	}
	switch f.ID {
	case mavlink.MsgHeartbeat:
		in.heartbeat(f)
	case mavlink.MsgSystemTime:
		in.systemTime(f)
	}
	if in.ownKnown && f.System == in.ownSystem {
		in.r.pose.observe(f)
	}
	if in.drop {
		return
	}
	b := in.r.ring.current()
	if jumped {
		in.gap(b, gap)
	}
	if in.r.cfg.NoTelemetry { // what was sent and what happened still needs a record
		b.start(f.At, f.Offset)
		return
	}
	in.append(b, f)
	if b.size() >= batchBytes {
		in.r.ring.turn()
	}
}

func (in *intake) append(b *batch, f *mavlink.Frame) {
	m := &b.block.Meta
	if !f.Known {
		m.Unknown = append(m.Unknown, m.Frames)
	}
	if in.r.several {
		if n := len(m.Runs); n > 0 && m.Runs[n-1][0] == in.index {
			m.Runs[n-1][1]++
		} else {
			m.Runs = append(m.Runs, [2]int{in.index, 1})
		}
	}
	m.Frames++
	b.block.Data = tlog.AppendEntry(b.block.Data, stamp(f.At, m.StampOffset), f.Raw)
	b.start(f.At, f.Offset)
}

func stamp(at time.Duration, offset int64) uint64 { return uint64(at.Microseconds() + offset) }

func (in *intake) gap(b *batch, g mavlink.Gap) {
	in.r.gaps.Add(int64(g.Lost))
	m := &b.block.Meta
	if len(m.Gaps) < batchGaps {
		m.Gaps = append(m.Gaps, segment.Gap{BootUsec: g.At.Microseconds(), Link: in.index, System: uint8(g.System),
			Component: uint8(g.Component), Expected: g.Expected, Got: g.Got, Lost: g.Lost})
		return
	}
	if m.GapsMore == nil {
		m.GapsMore = &segment.GapsMore{}
	}
	m.GapsMore.Gaps++
	m.GapsMore.Lost += g.Lost
}

// Noise takes bytes that belong to no frame. The ring's lock is held.
func (in *intake) Noise(n *mavlink.Noise) {
	in.r.noise.Add(int64(len(n.Data)))
	switch {
	case in.skip:
		in.r.ring.skip(0, len(n.Data))
		return
	case in.r.cfg.NoTelemetry:
		return
	case in.drop:
		in.r.ring.drop(n.At, 0, len(n.Data), len(n.Data))
		return
	}
	b := in.r.ring.current()
	run := segment.NoiseRun{Offset: n.Offset, StampUsec: stamp(n.At, b.block.Meta.StampOffset), Link: uint8(in.index), Reason: uint8(n.Reason), Data: n.Data}
	b.block.Noise = segment.AppendNoise(b.block.Noise, run)
	b.start(n.At, n.Offset)
	if b.size() >= batchBytes {
		in.r.ring.turn()
	}
}
