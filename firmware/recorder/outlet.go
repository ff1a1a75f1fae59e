package recorder

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/storage/segment"
)

const (
	// outletFrames and outletBytes bound what waits for a line. At 921,600 baud the bytes take a
	// third of a second.
	outletFrames = 256
	outletBytes  = 32 << 10
	// refusedRate is how many refused frames of one origin are recorded whole each second; the
	// others are counted. A program that floods a share must not fill the medium.
	refusedRate = 32
	// sentBatch bounds what was sent in one batch (bytes); the format allows 1 MiB.
	sentBatch = 256 << 10
)

// OriginOwn is the origin of what this program sends itself. Others are shares, from 1.
const OriginOwn = 0

// outlet is the way out on one link: a bounded queue and one goroutine, so that a line that
// takes nothing holds up nobody.
type outlet struct {
	r    *Recorder
	link int
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	queue []outgoing
	bytes int
	dst   io.Writer // of the open link; nil: none
	// patient: the other end holds back what is not read yet. It may throw that away when it
	// closes a connection on which it has not read what was sent (RFC 1122, section 4.2.2.13), so
	// nothing is sent while much of it comes from the beginning on.
	patient bool
	calm    atomic.Bool // it is no dump: little came in for a while, or much for long
}

type outgoing struct {
	origin uint8
	raw    []byte
}

// refusals counts what an origin was refused in the present second.
type refusals struct {
	second time.Duration
	n      int
	more   int64 // not recorded whole
}

// Send queues a frame for a link's autopilot and tells whether it was taken. It never waits. What
// the allow-list refuses, and what a share could not get rid of, is in the record as well as what
// went out. raw may be used again. Safe for concurrent use, but not from Config.Tap.
func (r *Recorder) Send(link int, origin uint8, raw []byte) bool {
	if link < 0 || link >= len(r.outlets) {
		return false
	}
	if r.cfg.Allow == nil {
		return false // nothing is ever sent
	}
	if err := r.cfg.Allow(origin, raw); err != nil {
		r.refused(link, origin, raw, err)
		return false
	}
	o := r.outlets[link]
	if o.put(origin, raw) {
		return true
	}
	if origin != OriginOwn { // our own parts try again
		r.sent(link, origin, segment.SentFailed, raw)
	}
	return false
}

// Refuse records a frame that an origin wanted to send and may not.
func (r *Recorder) Refuse(link int, origin uint8, raw []byte) {
	r.refused(link, origin, raw, nil)
}

func (r *Recorder) refused(link int, origin uint8, raw []byte, why error) {
	now := r.cfg.Now()
	rg := r.ring
	rg.mu.Lock()
	f := r.refusals[origin]
	if f == nil {
		f = &refusals{second: now}
		r.refusals[origin] = f
	}
	if now-f.second >= time.Second {
		f.tell(r, now, origin)
		f.second, f.n = now, 0
	}
	f.n++
	whole := f.n <= refusedRate
	if !whole {
		f.more++
	}
	rg.mu.Unlock()
	if whole {
		r.sent(link, origin, segment.SentRefused, raw)
	}
	if origin == OriginOwn {
		// A fault of ours: the list kept it in.
		r.log.Error("not sent: outside the allow-list", slog.Any("err", why))
	}
}

// tell counts what was not recorded whole. The ring's lock is held.
func (f *refusals) tell(r *Recorder, now time.Duration, origin uint8) {
	if f.more == 0 {
		return
	}
	r.ring.note(now, segment.Event{Kind: "sent_refused_more", Detail: r.originName(origin) + ": " + strconv.FormatInt(f.more, 10)})
	f.more = 0
}

func (r *Recorder) originName(origin uint8) string {
	if int(origin) < len(r.cfg.Origins) {
		return r.cfg.Origins[origin]
	}
	return "unknown"
}

// sent puts what became of a frame into the record.
func (r *Recorder) sent(link int, origin, outcome uint8, raw []byte) {
	now := r.cfg.Now()
	rg := r.ring
	rg.mu.Lock()
	defer rg.mu.Unlock()
	if rg.muted {
		return
	}
	b := rg.current()
	if len(b.block.Sent) > sentBatch {
		b.block.Meta.EventsMore++
		return
	}
	b.touch(now)
	b.block.Sent = segment.AppendSent(b.block.Sent, segment.SentRun{StampUsec: stamp(now, b.block.Meta.StampOffset), Link: uint8(link),
		Origin: origin, Outcome: outcome, Data: raw})
}

func (o *outlet) put(origin uint8, raw []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dst == nil || o.patient && !o.calm.Load() || len(o.queue) >= outletFrames || o.bytes+len(raw) > outletBytes {
		return false
	}
	o.queue = append(o.queue, outgoing{origin, append([]byte(nil), raw...)})
	o.bytes += len(raw)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// open has the queue go to dst; nil: the link is gone, and so is what waited for it.
func (o *outlet) open(dst io.Writer, patient bool) {
	o.calm.Store(false)
	o.mu.Lock()
	lost := o.queue
	o.queue, o.bytes, o.dst, o.patient = nil, 0, dst, patient
	o.mu.Unlock()
	for _, f := range lost {
		o.r.sent(o.link, f.origin, segment.SentFailed, f.raw)
	}
}

func (o *outlet) take() (f outgoing, dst io.Writer, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 || o.dst == nil {
		return f, nil, false
	}
	f, o.queue = o.queue[0], o.queue[1:]
	o.bytes -= len(f.raw)
	return f, o.dst, true
}

// run sends until ctx ends.
func (o *outlet) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		}
		for ctx.Err() == nil {
			f, dst, ok := o.take()
			if !ok {
				break
			}
			outcome := uint8(segment.SentOut)
			n, err := dst.Write(f.raw)
			if err != nil || n < len(f.raw) {
				outcome = segment.SentFailed
			}
			o.r.sentBytes.Add(int64(n))
			o.r.sent(o.link, f.origin, outcome, f.raw)
		}
	}
}
