package recorder

import (
	"sync/atomic"
	"time"

	"holdfast/storage/segment"
)

// HostClock reads the computer's own clock: the time, and whether something keeps it right,
// within which bound.
type HostClock func() (utc time.Time, synchronised bool, within time.Duration)

// clock decides what the sealed stamps count from. Until the time is known they count from
// boot; then from 1970, with one fixed offset: stamps are never stepped back or forth. The
// pairs in the record are the evidence; the opener weighs them.
type clock struct {
	offset atomic.Int64 // microseconds to add to the time since boot; 0: not known
	last   atomic.Pointer[segment.ClockPair]
	host   HostClock
	next   time.Duration // of the writer alone
}

// hostEvery is how often a pair of the computer's own clock is recorded.
const hostEvery = 10 * time.Second

// learn takes the time of the autopilot where nothing better is known.
func (c *clock) learn(at time.Duration, utcUsec int64) {
	c.offset.CompareAndSwap(0, utcUsec-at.Microseconds())
}

// autopilot keeps the newest pair of the autopilot, so that a record that begins now has one
// from its start.
func (c *clock) autopilot(p segment.ClockPair) {
	c.last.Store(&p)
	c.learn(time.Duration(p.BootUsec)*time.Microsecond, p.UTCUsec)
}

// pairs returns what is known of the time: a fresh pair of the computer's own clock and the
// newest one of the autopilot. It returns nothing where the last call was a moment ago, unless
// force is set.
func (c *clock) pairs(now time.Duration, force bool) (ps []segment.ClockPair) {
	if now < c.next && !force {
		return nil
	}
	c.next = now + hostEvery
	if p := c.last.Load(); p != nil {
		ps = append(ps, *p)
	}
	if c.host == nil {
		return ps
	}
	utc, synchronised, within := c.host()
	p := segment.ClockPair{BootUsec: now.Microseconds(), UTCUsec: utc.UnixMicro(), Source: "host_unsynchronised"}
	if synchronised {
		p.Source, p.UncertaintyUsec = "host", within.Microseconds()
		c.learn(now, p.UTCUsec)
	}
	return append(ps, p)
}
