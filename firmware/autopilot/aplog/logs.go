package aplog

import (
	"fmt"
	"strings"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
)

// Logs brings the logs of one autopilot into the record. Not safe for concurrent use.
type Logs struct {
	cfg Config
	now time.Duration
	ids int

	system     uint8
	flavour    uint8
	armed      bool // or not known to be disarmed: nothing may be asked
	armedKnown bool
	flying     bool          // its newest heartbeat says armed: what it streams is recorded
	heard      time.Duration // the autopilot's newest heartbeat
	everHeard  bool
	boot       uint32 // its own clock, ms
	reboots    int
	rebootAt   time.Duration

	pull   *puller
	stream streamer // of the flavour; nil: none
	cross  crosscheck
}

// streamer is how one flavour streams its log.
type streamer interface {
	handle(m message.Message)
	// want says whether the log shall come. It is called each time that may have changed.
	want(on bool, now time.Duration)
	step(now time.Duration) time.Duration
	// active reports whether a log comes, or is asked for.
	active() bool
	rebooted(now time.Duration)
	// close ends the file that is open; false: the Store had no room.
	close(why string, now time.Duration) bool
}

// New returns a Logs that does nothing until it knows the autopilot: see [Logs.SetAutopilot] and
// [Logs.SetArmed].
func New(cfg Config) *Logs {
	l := &Logs{cfg: cfg}
	if l.cfg.Event == nil {
		l.cfg.Event = func(string, string) {}
	}
	if l.cfg.Flight == nil {
		l.cfg.Flight = func() string { return "" }
	}
	if l.cfg.NewID == nil {
		l.cfg.NewID = func() int { l.ids++; return l.ids }
	}
	l.pull = newPuller(l)
	return l
}

// SetAutopilot says who flies: the system id and MAV_AUTOPILOT of its heartbeat. What is under way
// goes on when it is told again; another autopilot begins anew.
func (l *Logs) SetAutopilot(system, flavour uint8) {
	if l.system == system && l.flavour == flavour {
		return
	}
	l.tick()
	l.system, l.flavour = system, flavour
	if l.stream != nil {
		l.stream.close("another autopilot", l.now)
	}
	l.stream = l.newStreamer()
	l.pull.rebooted()
	l.pull.begin(l.now)
}

// SetArmed tells each change of the armed state, and the first one known. An autopilot that is silent
// counts as armed: nothing is asked of it. A stream goes by its heartbeats alone.
func (l *Logs) SetArmed(armed bool) {
	if l.armedKnown && l.armed == armed {
		return
	}
	l.tick()
	l.armedKnown, l.armed = true, armed
	if armed {
		l.pull.stop()
	} else {
		l.pull.begin(l.now)
	}
}

// Known says that a log needs no pull: an earlier run of the program has it.
func (l *Logs) Known(id uint16, timeUTC, size uint32) {
	l.pull.known.add(key{id, timeUTC, size}, -1)
}

// Heard are the ids of the messages that [Logs.Handle] makes use of.
func Heard() []uint32 {
	return []uint32{0, 2, 77, 110, 118, 120, 148, 184, 253, 266, 267}
}

// Handle takes a message that came from the link, with its frame. Neither is kept.
func (l *Logs) Handle(m message.Message, f *mavlink.Frame) {
	if f == nil || l.system == 0 || uint8(f.System) != l.system {
		return
	}
	switch uint8(f.Component) {
	case compAutopilot, compLogger: // ArduPilot sends its stream as the logger
	default:
		return
	}
	l.tick()
	switch m := m.(type) {
	case *ap.MessageHeartbeat:
		l.heartbeat(m)
	case *ap.MessageSystemTime:
		l.clock(m.TimeBootMs)
	case *ap.MessageStatustext:
		l.text(m.Text)
	default:
		l.pull.handle(m)
		if l.stream != nil {
			l.stream.handle(m)
		}
	}
}

func (l *Logs) tick() { l.now = max(l.now, l.cfg.Now()) }

func (l *Logs) heartbeat(m *ap.MessageHeartbeat) {
	if uint8(m.Autopilot) != l.flavour {
		return
	}
	l.heard, l.everHeard = l.now, true
	l.flying = m.BaseMode&ap.MAV_MODE_FLAG_SAFETY_ARMED != 0
	// The caller is told the same by the same message; who is first does not matter.
	if l.flying {
		l.SetArmed(true)
	}
}

// clock notices that the autopilot began anew: its clock went back by more than reordering does.
func (l *Logs) clock(bootMs uint32) {
	if bootMs+5000 < l.boot {
		l.Rebooted()
	}
	l.boot = bootMs
}

// Rebooted says that the autopilot began anew. Logs notices by itself where the autopilot sends
// SYSTEM_TIME, which it need not.
func (l *Logs) Rebooted() {
	l.tick()
	if l.reboots > 0 && l.now-l.rebootAt < rebootOnce {
		return
	}
	l.reboots++
	l.rebootAt = l.now
	l.cfg.Event("log_autopilot_rebooted", fmt.Sprintf("reboots=%d", l.reboots))
	l.pull.rebooted()
	l.pull.begin(l.now)
	if l.stream != nil {
		l.stream.rebooted(l.now)
	}
}

// text looks for ArduPilot refusing to arm because a log is being read, or because nobody takes its
// stream (https://github.com/ArduPilot/ardupilot/blob/master/libraries/AP_Arming/AP_Arming.cpp,
// logging_checks). The pilot is first.
func (l *Logs) text(s string) {
	if b, ok := l.stream.(*blockStream); ok && strings.HasSuffix(s, "rm: Logging failed") { // Arm, PreArm
		b.refused(l.now)
	}
	if strings.HasPrefix(s, "Arm: ") && strings.Contains(strings.ToLower(s), "downloading logs") {
		l.pull.yield(l.now)
	}
}

// Step does what is due at now, the time since boot. It wants to be called again at next, on the
// same clock, or earlier, and soon after messages were handled.
func (l *Logs) Step(now time.Duration) (next time.Duration) {
	l.now = max(l.now, now)
	next = never
	if l.stream != nil {
		if l.alive() { // in a silence all stays as it is: the vehicle may fly on
			l.stream.want(l.flying || l.cfg.Disarmed, l.now)
		}
		next = l.stream.step(l.now)
	}
	if l.cfg.Mode.pulls() {
		next = min(next, l.pull.step(l.now))
	}
	return min(next, l.cross.step(l, l.now))
}

// Busy reports whether a pull is under way or about to begin: the logs that the autopilot holds may
// not all be in the record.
func (l *Logs) Busy() bool { return l.cfg.Mode.pulls() && l.pull.phase != phaseIdle }

// alive reports whether the autopilot was heard lately.
func (l *Logs) alive() bool {
	return l.everHeard && l.armedKnown && l.now-l.heard < silence
}

// mayAsk reports whether a pull may send requests now.
func (l *Logs) mayAsk() bool {
	return l.cfg.Mode.pulls() && l.alive() && !l.armed && (l.flavour == ArduPilot || l.flavour == PX4)
}

// ask sends a request that only a disarmed autopilot gets.
func (l *Logs) ask(m message.Message) bool { return l.mayAsk() && l.cfg.Out.Send(compOnboard, m) }

// Close ends all files that are open, as a program that stops does. false: the Store had no room,
// and Close wants to be called again. Nothing else may be called behind it.
func (l *Logs) Close() bool {
	l.tick()
	ok := l.stream == nil || l.stream.close("the recorder stopped", l.now)
	return l.pull.close("the recorder stopped", l.now) && ok
}

func (l *Logs) format() string {
	if l.flavour == PX4 {
		return "ulg"
	}
	return "bin"
}
