package autopilot

import (
	"fmt"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
)

// How long an autopilot may be silent. Its heartbeat comes once a second.
const (
	silentAsk   = 3 * time.Second  // until nothing is asked of it: it may have been armed
	silentGone  = 10 * time.Second // until another one may take its place
	silentArmed = 60 * time.Second // the same, while it is armed
)

// pilot is the autopilot that is spoken to: the first one heard.
type pilot struct {
	p       *Part
	found   bool
	link    int
	system  uint8
	flavour Flavour
	isArmed bool
	heard   time.Duration
	silent  bool // and that was recorded
}

// mayAsk tells whether the autopilot is known to be disarmed.
func (a *pilot) mayAsk() bool {
	return a.found && !a.isArmed && !a.p.health.Armed && a.p.now-a.heard < silentAsk
}

// heartbeat finds the autopilot and follows its state.
func (a *pilot) heartbeat(m *common.MessageHeartbeat, e *entry) {
	if e.frame.Component != allow.ComponentAutopilot || m.Autopilot == common.MAV_AUTOPILOT_INVALID || e.frame.System == 0 {
		return
	}
	same := a.found && e.link == a.link && uint8(e.frame.System) == a.system
	if !same && !a.take(e, m) {
		return
	}
	a.heard, a.silent = max(a.heard, a.p.now), false
	a.flavour = flavourOf(m.Autopilot)
	if on := m.BaseMode&common.MAV_MODE_FLAG_SAFETY_ARMED != 0; on != a.isArmed {
		a.isArmed = on
		a.p.changed(on)
	}
}

func flavourOf(m common.MAV_AUTOPILOT) Flavour {
	if f := Flavour(m); f == ArduPilot || f == PX4 {
		return f
	}
	return Other
}

// take makes the sender of e the autopilot, if there is none or it has been silent for long.
func (a *pilot) take(e *entry, m *common.MessageHeartbeat) bool {
	gone := silentGone
	if a.isArmed {
		gone = silentArmed
	}
	if a.found && a.p.now-a.heard < gone {
		return false
	}
	another := a.found
	a.found, a.link, a.system = true, e.link, uint8(e.frame.System)
	a.p.list.SetSystem(a.system)
	a.p.event("autopilot_found", fmt.Sprintf("system %d, %s", a.system, m.Autopilot))
	if another {
		a.p.boot.forget()
		a.p.restarted()
	}
	return true
}

// step notes that the autopilot is silent.
func (a *pilot) step(now time.Duration) {
	if a.found && !a.silent && now-a.heard >= silentAsk {
		a.silent = true
		a.p.event("autopilot_silent", "")
	}
}

// bootClock follows the autopilot's own time since its start, to notice that it started again.
// Two messages tell that time; an autopilot may count differently in them, so each is followed
// by itself.
type bootClock struct {
	p            *Part
	system, sync start
}

// start is when the autopilot started by one of them, on the board's clock.
type start struct {
	known bool
	at    time.Duration
}

// rebootJump is how far the autopilot's start must seem to move before it is believed to be
// another start: frames wait in buffers, and clocks drift.
const rebootJump = 3 * time.Second

func (b *bootClock) handle(m message.Message, e *entry) {
	switch m := m.(type) {
	case *common.MessageSystemTime:
		b.see(&b.system, time.Duration(m.TimeBootMs)*time.Millisecond, e.frame.At)
	case *common.MessageTimesync:
		if m.Tc1 > 0 { // else it is a request
			b.see(&b.sync, time.Duration(m.Tc1), e.frame.At)
		}
	}
}

// see takes the autopilot's time since its start, heard at at.
func (b *bootClock) see(s *start, boot, at time.Duration) {
	now := start{known: true, at: at - boot}
	was := *s
	*s = now // clocks drift apart, slowly
	if !was.known {
		return
	}
	switch moved := now.at - was.at; {
	case moved > rebootJump:
		b.p.event("autopilot_rebooted", fmt.Sprintf("up for %d s", boot/time.Second))
		b.forget()
		*s = now
		b.p.restarted()
	case moved < -rebootJump:
		b.p.event("autopilot_uptime_jumped", fmt.Sprintf("%d s forward", -moved/time.Second))
	}
}

func (b *bootClock) forget() { b.system, b.sync = start{}, start{} }
