// Package vehicle simulates a multirotor for the bench: its flight and the MAVLink 2
// frames its autopilot sends meanwhile, ArduPilot-like or PX4-like.
//
// The airframe is a point mass with attitude, thrust lag, drag, wind and a battery; it
// boots, finds its position, arms, flies a survey grid, returns, lands and disarms. What
// the frames say comes from that one state, so attitude fits acceleration, speed fits
// position and consumption fits current. Messages and enumerations are gomavlib's
// (https://mavlink.io/en/messages/); frames leave at the pace of a 921,600 baud line.
//
// What is sent to it, by Hear or Receive, it answers as those stacks do: settings, mission,
// message rates, its logs (streamed, pulled and by MAVLink FTP), clocks, and whether it may
// arm. It takes no order that moves it: the flight is the plan's. It reads no clock and
// opens no device. It is no aid for tuning a controller.
package vehicle

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/codec"
)

// Stack is the autopilot software to behave like.
type Stack int

// The stacks there are.
const (
	ArduPilot Stack = iota
	PX4
)

// String returns the name that ParseStack takes.
func (s Stack) String() string {
	switch s {
	case ArduPilot:
		return "ardupilot"
	case PX4:
		return "px4"
	}
	return fmt.Sprintf("stack(%d)", int(s))
}

// ErrStack is returned for a stack that is neither ArduPilot nor PX4.
var ErrStack = errors.New("unknown autopilot stack")

// ErrDuration is returned by New for a negative duration.
var ErrDuration = errors.New("flight duration is negative")

// ParseStack returns the stack of a name, "ardupilot" or "px4"; else ErrStack.
func ParseStack(name string) (Stack, error) {
	for _, s := range []Stack{ArduPilot, PX4} {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrStack, name)
}

// Emission is one frame leaving the vehicle.
type Emission struct {
	At  time.Duration // since power-on, when its last byte is on the line; never falls
	Raw []byte        // the frame; the caller may keep it
}

// State is a view of the flight, true values without sensor noise.
type State struct {
	Phase     string        // boot, standby, armed, take-off, survey, return, land, landed, disarmed
	Elapsed   time.Duration // since power-on
	Armed     bool
	Latitude  float64 // degrees
	Longitude float64 // degrees
	Altitude  float64 // m above mean sea level
	Height    float64 // m above the ground below
	Speed     float64 // m/s over ground
	Climb     float64 // m/s, up is positive
	Roll      float64 // rad
	Pitch     float64 // rad
	Battery   float64 // what is left, 0 to 1
	Volts     float64
	Amperes   float64
}

const (
	tick = 2500 * time.Microsecond // one step of the physics
	// byteTime is ten bit times at 921,600 baud.
	byteTime = 10 * time.Second / 921600
)

// Vehicle is one simulated flight. The same options and the same frames heard at the same
// times give the same frames, byte for byte, on the same architecture. Not safe for
// concurrent use.
type Vehicle struct {
	opt  Options
	plan plan

	now      time.Duration
	lineFree time.Duration
	body     body
	air      air
	pilot    pilot
	power    power
	nav      nav
	sense    *rand.Rand // noise of sensors

	streams []stream
	params  []param
	events  []message.Message // of the autopilot, for the next tick
	seqs    map[sender]*uint8
	sent    uint32 // frames of component 1
	coder   *codec.Codec
	camera  *camera
	eventNo uint16

	scanner    *mavlink.Scanner // of Hear
	inbox      []letter
	bootAt     time.Duration // the last restart
	paramsFrom time.Duration // when the burst of parameters began, or begins
	arming     arming
	logs       logbook
	pull       pull
	files      ftpServer
	blocks     *blockStream // ArduPilot, while a client is there
	ulog       *ulogStream  // PX4, likewise
	script     []Scripted
	counts     Counts

	queue []Emission
	done  bool
	err   error
}

// converse sets up what has to do with others.
func (v *Vehicle) converse() {
	v.scanner = mavlink.NewScanner(ear{v})
	v.paramsFrom = paramFrom
	v.logs = newLogbook(&v.opt)
	v.script = slices.Clone(v.opt.Script)
	slices.SortStableFunc(v.script, func(a, b Scripted) int { return cmp.Compare(a.At, b.At) })
}

// New returns a vehicle that is about to be powered on, or ErrStack, ErrDuration
// or ErrOption.
func New(o Options) (*Vehicle, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	// One source per concern, so that a camera changes no sensor and a sensor no wind.
	place := rand.New(rand.NewPCG(o.Seed, 1))
	v := &Vehicle{
		opt:   o,
		plan:  newPlan(o.Duration, place),
		air:   newAir(rand.New(rand.NewPCG(o.Seed, 2))),
		power: newPower(),
		sense: rand.New(rand.NewPCG(o.Seed, 3)),
		seqs:  map[sender]*uint8{},
		coder: codec.New(),
	}
	v.nav = newNav(place)
	v.body.att[2] = wrapPi(place.Float64() * 6.28)
	v.body.onGround = true
	v.pilot.yaw = v.body.att[2]
	v.streams, v.params = autopilotStreams(o.Stack), autopilotParams(o.Stack)
	if o.Camera {
		v.camera = newCamera(rand.New(rand.NewPCG(o.Seed, 4)))
		v.streams = append(v.streams, cameraStreams()...)
	}
	for i := range v.streams {
		v.streams[i].stagger(i)
	}
	v.converse()
	return v, nil
}

// Next returns the next frame in order of time, and false when the flight is over.
func (v *Vehicle) Next() (Emission, bool) {
	for len(v.queue) == 0 && !v.done {
		v.step()
	}
	if len(v.queue) == 0 {
		return Emission{}, false
	}
	e := v.queue[0]
	if v.over(e.At) {
		v.queue, v.done = nil, true
		return Emission{}, false
	}
	v.queue = v.queue[1:]
	return e, true
}

// over tells that a time is behind the end of the run.
func (v *Vehicle) over(at time.Duration) bool {
	return v.opt.Duration > 0 && at > v.opt.Duration+v.opt.After
}

// Err returns why Next ended early: a message that gomavlib cannot encode; else nil.
func (v *Vehicle) Err() error { return v.err }

// State returns the state at the time of the last step. Next works ahead of what it
// returns by at most one step of 2.5 ms and the frames waiting for the line.
func (v *Vehicle) State() State {
	b := &v.body
	lat, lon := v.nav.latLon(b.pos)
	return State{
		Phase: v.pilot.phase.String(), Elapsed: v.now, Armed: v.pilot.armed(),
		Latitude: lat, Longitude: lon,
		Altitude: v.nav.homeAlt - b.pos[2], Height: b.height(),
		Speed: b.vel.horizontal(), Climb: -b.vel[2],
		Roll: b.att[0], Pitch: b.att[1],
		Battery: v.power.left(), Volts: v.power.volts, Amperes: v.power.amps,
	}
}

// step advances the world by one tick and queues what is due in it.
func (v *Vehicle) step() {
	v.queue = v.queue[:0]
	v.now += tick
	if v.over(v.now) {
		v.done = true
		return
	}
	if v.rebooting() {
		v.reboot()
	}
	v.read()
	dt := tick.Seconds()
	v.air.step(dt, v.body.height())
	cmd := v.fly(dt)
	v.body.step(dt, cmd, v.air.wind)
	v.power.step(dt, v.body.thrust, v.pilot.armed())
	if v.camera != nil {
		v.camera.step(v)
	}
	v.writeLog()
	v.emit()
}
