// Package autopilot is the part of the recorder that talks to the flight controller: it says who
// is there and what is not well, ties the board's clock to the autopilot's, asks for who the
// autopilot is, its parameters and its mission, sets message rates where the policy wants it, and
// answers requests for authorisation to arm. Other parts that talk to it (its logs, a camera
// component) plug in as a [Sub] and send through a [Sender].
//
// Everything that leaves goes through one list, package allow, and nothing is asked of an
// autopilot that is armed, or was not heard for a moment. The protocols are those of
// https://mavlink.io/en/services/; where ArduPilot and PX4 differ, the code says so.
//
// The package opens no link and no file, and reads no clock: all of it is handed in.
package autopilot

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink"
	"holdfast/mavlink/codec"
	"holdfast/storage/segment"
)

// Out takes frames to a link.
type Out interface {
	// Send hands raw to the link, or returns false where it takes no more now. It never waits
	// and keeps no reference to raw.
	Send(link int, raw []byte) bool
}

// Record takes what goes into the record. Its methods never wait.
type Record interface {
	// Event notes that something happened.
	Event(kind, detail string)
	// Clock notes a clock pair.
	Clock(p segment.ClockPair)
	// PutFile writes a whole file into stream A; f.ID is left to the recorder. It returns false
	// where there is no room for it now: it is offered again.
	PutFile(f segment.File, data []byte) bool
}

// FaultState is a fault that there is, with the number that belongs to it (see [allow.Fault]).
type FaultState struct {
	Fault  allow.Fault
	Number int
}

// Health is how the board is, as the recorder knows it. Sizes are bytes.
type Health struct {
	Lock  bool // every way out is closed, or the board is on the bench and need not be locked
	Vault bool // records are written
	Keys  bool // there is somebody to seal to
	Link  bool // the autopilot's link is heard without loss on the board's side
	Armed bool // some autopilot of the board is armed, as the recorder, which misses no frame, knows it

	// Faults are those of the rest; FaultLock to FaultLink follow from the fields above.
	Faults []FaultState

	FreeBytes, TotalBytes int64
	RAMBytes, RAMUsed     int64
	CPU                   []uint8 // percent, by core; at most eight are told
	Temperature           int8    // of the board, in degrees Celsius; only with HasTemperature
	HasTemperature        bool
	Uptime                time.Duration
	LinkRx, LinkTx        int64 // bytes a second, on the autopilot's link
}

// Config is what a Part works with. Out, Health, Record and Now are needed.
type Config struct {
	Out    Out
	Health func() Health // called 20 times a second at most, but for requests to arm; must not wait
	Record Record
	Now    func() time.Duration // since boot, as the frames' At

	Rates    string // a name of [Profiles]; empty: keep
	Camera   bool   // a camera component plugs in
	Erase    bool   // logs may be erased on the autopilot
	LogBeats bool   // say that there is a logger: component 155
	VetoOn   bool   // deny arming while Lock, Vault, Keys or Link are not well
	// Override tells whether the operator lifts the veto, and why. Called as Health is; may be nil.
	Override func() (reason string, lifted bool)
	Log      *slog.Logger // may be nil
}

// Sender sends messages to the autopilot as one of Holdfast's components. It encodes, asks the
// allow-list and counts sequence numbers by component.
type Sender interface {
	// Send returns false where the list refuses m now, or the link takes no more. Only for the
	// goroutine of [Part.Run]: from the methods of a [Sub].
	Send(comp uint8, m message.Message) bool
	// Autopilot returns whom Send sends to. found is false as long as nobody was heard.
	Autopilot() (a Autopilot, found bool)
}

// Sub is a part that plugs in. All its methods are called by the one goroutine of [Part.Run],
// and must not wait. A message that was not asked for, or comes from anybody, is no error.
type Sub interface {
	// Handle takes a message of one of the ids the Sub was plugged in with, from any sender on
	// the autopilot's link. f.Raw is valid only during the call.
	Handle(m message.Message, f *mavlink.Frame)
	// SetArmed is called when the state is first known and when it changes. It is also called
	// with true when the autopilot falls silent: nothing may be asked until it is heard again.
	SetArmed(armed bool)
	// Step does what is due and returns when it wants to be called next, at the latest.
	Step(now time.Duration) (next time.Duration)
}

// Rebooter is a [Sub] that wants to know that the autopilot started again, or that another one
// took its place.
type Rebooter interface{ Rebooted() }

// Flavour is which autopilot it is.
type Flavour uint8

// Flavours. Other autopilots are spoken to as the protocols say.
const (
	Other     Flavour = 0
	ArduPilot Flavour = Flavour(common.MAV_AUTOPILOT_ARDUPILOTMEGA)
	PX4       Flavour = Flavour(common.MAV_AUTOPILOT_PX4)
)

// Autopilot is who was found.
type Autopilot struct {
	Link    int
	System  uint8
	Flavour Flavour
	Armed   bool // or not known
}

// idle is how long Run sleeps at most.
const idle = time.Second

// lookEvery is how often the health is read at most: log data wake Run a thousand times a second.
const lookEvery = 50 * time.Millisecond

// Part talks to one autopilot.
type Part struct {
	cfg   Config
	log   *slog.Logger
	codec *codec.Codec
	list  *allow.List
	ring  ring
	seq   [256]uint8 // by component
	subs  []plugged
	parts []piece

	now    time.Duration // of the step or frame that is worked on
	health Health
	looked time.Duration // when health was read; 0: never
	well   wellness
	pilot  pilot
	boot   bootClock
	texts  *faultTexts
	stats  Stats
}

type plugged struct {
	sub  Sub
	ids  map[uint32]bool
	next time.Duration
	told armedTold
}

type armedTold uint8

const (
	toldNothing armedTold = iota
	toldArmed
	toldDisarmed
)

// piece is one feature: a state machine of Part.
type piece interface {
	handle(m message.Message, e *entry) // from the autopilot itself
	step(now time.Duration) time.Duration
	armed(on bool) // at each change
	rebooted()     // the autopilot started again, or is another one
}

// Stats counts what a Part did since it was made.
type Stats struct {
	Heard   uint64 // frames of interest
	Dropped uint64 // of those, lost because Run did not keep up
	Sent    uint64
	Refused uint64 // by the allow-list: a mistake in this program
	Failed  uint64 // the link took no more
}

// New returns a Part that does nothing until Run.
func New(cfg Config) *Part {
	p := &Part{cfg: cfg, log: cfg.Log, codec: codec.New()}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	profile := Profiles[cfg.Rates]
	p.list = allow.New(allow.Options{Rates: len(profile) > 0, EraseLogs: cfg.Erase, Veto: cfg.VetoOn, Camera: cfg.Camera})
	p.ring.init()
	p.pilot.p, p.boot.p = p, p
	p.texts = newTexts(p)
	p.parts = []piece{
		&beat{p: p}, &computer{p: p}, &storage{p: p}, p.texts, &clocks{p: p}, &identity{p: p},
		newParams(p), newMission(p), newRates(p, profile), &veto{p: p},
	}
	return p
}

// Sender returns the way out for those that plug in.
func (p *Part) Sender() Sender { return (*sender)(p) }

// List returns the allow-list, for shares: CheckShare may be called by anybody.
func (p *Part) List() *allow.List { return p.list }

// Plug adds s, which wants messages with these ids. Only before Run and before frames come.
func (p *Part) Plug(s Sub, ids ...uint32) {
	pl := plugged{sub: s, ids: map[uint32]bool{}}
	for _, id := range ids {
		pl.ids[id] = true
		p.ring.want(id)
	}
	p.subs = append(p.subs, pl)
}

// Heard takes a frame that came on a link. It copies what is of interest and never waits for
// anything but another such copy. Safe for concurrent use.
func (p *Part) Heard(link int, f *mavlink.Frame) {
	if f.Known && p.ring.wanted(f.ID) {
		p.ring.put(link, f)
	}
}

// Stats returns the counts. Safe for concurrent use.
func (p *Part) Stats() Stats {
	p.ring.mu.Lock()
	defer p.ring.mu.Unlock()
	s := p.ring.stats
	s.Heard, s.Dropped = p.ring.heard, p.ring.dropped
	return s
}

// ErrConfig is returned by Run where the Config lacks something.
var ErrConfig = errors.New("autopilot: Out, Health, Record and Now are needed")

// Run works until ctx ends, and returns nil then. It is called once.
func (p *Part) Run(ctx context.Context) error {
	if p.cfg.Out == nil || p.cfg.Health == nil || p.cfg.Record == nil || p.cfg.Now == nil {
		return ErrConfig
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.ring.ready:
		case <-timer.C:
		}
		next := p.turn(p.cfg.Now())
		timer.Reset(max(time.Millisecond, min(idle, next-p.cfg.Now())))
	}
}

// turn works on all that was heard and all that is due, and returns when something is due next.
func (p *Part) turn(now time.Duration) time.Duration {
	p.now = max(p.now, now)
	p.look(false)
	var e entry
	for range ringSize {
		if !p.ring.take(&e) {
			break
		}
		p.frame(&e)
	}
	p.now = max(p.now, now)
	next := p.due(p.now)
	p.publish()
	return next
}

// due runs every state machine once.
func (p *Part) due(now time.Duration) time.Duration {
	p.pilot.step(now)
	next := now + idle
	for _, part := range p.parts {
		next = min(next, part.step(now))
	}
	for i := range p.subs {
		s := &p.subs[i]
		p.tellArmed(s)
		s.next = s.sub.Step(now)
		next = min(next, s.next)
	}
	return next
}

// frame hands a frame to whom it concerns.
func (p *Part) frame(e *entry) {
	m, err := p.codec.Decode(&e.frame)
	if err != nil {
		return
	}
	if hb, ok := m.(*common.MessageHeartbeat); ok {
		p.pilot.heartbeat(hb, e)
	}
	if !p.pilot.found || e.link != p.pilot.link {
		return
	}
	if p.fromPilot(&e.frame) {
		p.boot.handle(m, e)
		for _, part := range p.parts {
			part.handle(m, e)
		}
	} else {
		p.answerOthers(m, e)
	}
	for i := range p.subs {
		if p.subs[i].ids[e.frame.ID] {
			p.subs[i].sub.Handle(m, &e.frame)
		}
	}
}

func (p *Part) fromPilot(f *mavlink.Frame) bool {
	return uint8(f.System) == p.pilot.system && f.Component == allow.ComponentAutopilot
}

// answerOthers looks at what comes over the autopilot's link from somebody else: a ground
// station behind its radio.
func (p *Part) answerOthers(m message.Message, e *entry) {
	for _, part := range p.parts {
		if s, ok := part.(*storage); ok {
			s.handle(m, e)
		}
	}
}

// tellArmed tells a Sub of the state when it changed.
func (p *Part) tellArmed(s *plugged) {
	if !p.pilot.found {
		return
	}
	state := toldDisarmed
	if !p.pilot.mayAsk() {
		state = toldArmed
	}
	if s.told != state {
		s.told = state
		s.sub.SetArmed(state == toldArmed)
	}
}

// changed tells every piece that the vehicle was armed or disarmed.
func (p *Part) changed(armed bool) {
	for _, part := range p.parts {
		part.armed(armed)
	}
	for i := range p.subs {
		p.tellArmed(&p.subs[i])
	}
}

// restarted tells everybody that what was known of the autopilot may no longer hold.
func (p *Part) restarted() {
	for _, part := range p.parts {
		part.rebooted()
	}
	for _, s := range p.subs {
		if r, ok := s.sub.(Rebooter); ok {
			r.Rebooted()
		}
	}
}

func (p *Part) event(kind, detail string) { p.cfg.Record.Event(kind, detail) }

// publish makes the counts of this goroutine readable by others.
func (p *Part) publish() {
	p.ring.mu.Lock()
	defer p.ring.mu.Unlock()
	p.ring.stats = p.stats
}
