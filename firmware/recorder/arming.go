package recorder

import (
	"fmt"
	"time"

	"holdfast/mavlink"
	"holdfast/storage/segment"
)

// componentAutopilot is MAV_COMP_ID_AUTOPILOT1.
const componentAutopilot = 1

// autopilotInvalid is MAV_AUTOPILOT_INVALID: the sender is no flight controller (a ground
// station, a gimbal, a camera).
const autopilotInvalid = 8

// heartbeat follows the arm bit of the link's own autopilot and of nobody else: a second
// autopilot or a gimbal on the same line must not begin or end a flight.
func (in *intake) heartbeat(f *mavlink.Frame) {
	hb, ok := mavlink.DecodeHeartbeat(f)
	if !ok || f.Component != componentAutopilot || hb.Autopilot == autopilotInvalid {
		return
	}
	if !in.own(f) {
		return
	}
	in.ownHeard = f.At
	if hb.Armed() == in.armed && in.r.ring.armHeard {
		return
	}
	in.armed = hb.Armed()
	in.r.armChanged(in, f.At)
}

// own tells whether f is from the link's own autopilot: the first one heard, or another one
// once that has been silent for long.
func (in *intake) own(f *mavlink.Frame) bool {
	if in.ownKnown && f.System == in.ownSystem {
		return true
	}
	gone := autopilotGone
	if in.armed {
		gone = autopilotGoneArmed
	}
	if in.ownKnown && f.At-in.ownHeard < gone {
		return false
	}
	if in.ownKnown {
		in.eventLocked(f.At, "autopilot_changed", fmt.Sprintf("system %d is silent, following system %d", in.ownSystem, f.System))
	}
	in.ownSystem, in.ownKnown = f.System, true
	return true
}

// armChanged starts a new batch where the arming state of the board changes, so that a
// record can begin exactly there. The ring's lock is held.
func (r *Recorder) armChanged(in *intake, at time.Duration) {
	armed := false
	for _, i := range r.intakes {
		armed = armed || i.armed
	}
	if armed == r.armed.Load() && r.ring.armHeard {
		return
	}
	r.ring.armHeard = true
	r.armedAt.Store(int64(at))
	r.armed.Store(armed)
	r.tellNow()
	b := r.ring.current()
	if b.first > 0 || b.arm != armSame {
		r.ring.turn()
		b = r.ring.current()
	}
	b.arm = armOff
	kind := "disarmed"
	if armed {
		b.arm, kind = armOn, "armed"
	}
	in.eventLocked(at, kind, "")
	r.ring.notify()
}

// earliestTime is 2020-01-01 in microseconds: an autopilot without a fix sends 0 or the time
// since it started.
const earliestTime = 1577836800_000_000

// pairEvery bounds how often a clock pair of one source is recorded.
const pairEvery = time.Second

// autopilotUncertainty is what is assumed of SYSTEM_TIME: the autopilot sets it from GPS, and
// it waits in buffers on its way here.
const autopilotUncertainty = 200 * time.Millisecond

// systemTime takes the time of the link's own autopilot as a clock pair.
func (in *intake) systemTime(f *mavlink.Frame) {
	t, ok := mavlink.DecodeSystemTime(f)
	if !ok || t.UnixUsec < earliestTime || t.UnixUsec > latestTime || f.At < in.nextPair {
		return
	}
	if f.Component != componentAutopilot || !in.ownKnown || f.System != in.ownSystem {
		return
	}
	in.nextPair = f.At + pairEvery
	p := segment.ClockPair{BootUsec: f.At.Microseconds(), UTCUsec: int64(t.UnixUsec), Source: "autopilot",
		UncertaintyUsec: autopilotUncertainty.Microseconds(), Link: in.index}
	in.r.clock.autopilot(p)
	if in.drop {
		return
	}
	m := &in.r.ring.current().block.Meta
	m.Clock = append(m.Clock, p)
}

// latestTime is 2200-01-01 in microseconds.
const latestTime = 7258118400_000_000
