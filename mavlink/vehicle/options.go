package vehicle

import (
	"errors"
	"fmt"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// ErrOption is returned by New for options that contradict each other or are out of range.
var ErrOption = errors.New("option out of range")

// Options describe a flight. The zero value is an ArduPilot-like vehicle, system 1,
// without a camera, that flies until it is stopped or its battery is low, and that asks
// nobody before it arms.
type Options struct {
	Stack    Stack
	Seed     uint64        // picks place, wind, grid and noise
	Duration time.Duration // of the whole run, from power-on to the last frame; 0: no end
	Start    time.Time     // UTC of power-on, for SYSTEM_TIME; the zero time is 2026-01-01
	After    time.Duration // how much longer than Duration it stays powered, on the ground
	Camera   bool          // add a camera (component 100) and a gimbal (component 154)
	System   uint8         // MAVLink system id; 0 is 1

	OldLogs  int    // logs of earlier flights; 0 is 2, a negative number is none
	LogSize  int    // of each of them, in bytes, at least and up to one entry more; 0 is 256 KiB
	EmptyLog bool   // one more old log, of size 0
	LogRate  int    // bytes a second by which the log of this flight grows while armed; 0 is 8000
	LogFile  []byte // what the log of this flight is made of, instead of entries about the flight
	FTP      bool   // MAVLink FTP is served, and said to be in AUTOPILOT_VERSION
	// Malformed mixes bad replies into a log transfer: wrong ids, offsets behind the end,
	// counts above 90, chunks twice and chunks that overlap. The good replies come too.
	Malformed bool

	ArmAuth       bool  // PX4: asks for authorisation before it arms
	ArmAuthSystem uint8 // the system it asks; 0 is its own
	AuxAuth       bool  // ArduPilot: arms only while the onboard computer says it is well
	Force         bool  // arms against the answer, once it has one

	TimeLate  time.Duration // SYSTEM_TIME knows no UTC before this time; 0: before the first fix
	Clock1970 bool          // meanwhile it counts from 1970 on instead of saying 0
	Jumps     []Jump        // of UTC, in SYSTEM_TIME and in what is stamped with it

	RebootAt time.Duration // the autopilot restarts at this time, also in the air; 0: never
	Script   []Scripted    // frames of others that the vehicle forwards, or more of its own
}

// Jump is a step of the vehicle's UTC.
type Jump struct {
	At time.Duration // since power-on
	By time.Duration // ahead, or back if negative
}

// Scripted is a frame sent at a given time, as a router would forward it.
type Scripted struct {
	At     time.Duration // since power-on
	System uint8         // sender; 0 is the vehicle itself for From 1, else 255, a ground station
	From   uint8         // component of the sender; 0 is 190, a ground station
	Msg    message.Message
}

// Command is a COMMAND_LONG of a ground station to a component of the vehicle.
func Command(at time.Duration, comp uint8, cmd common.MAV_CMD, params ...float32) Scripted {
	m := &common.MessageCommandLong{TargetComponent: comp, Command: cmd}
	for i, p := range []*float32{&m.Param1, &m.Param2, &m.Param3, &m.Param4, &m.Param5, &m.Param6, &m.Param7} {
		if i < len(params) {
			*p = params[i]
		}
	}
	return Scripted{At: at, From: groundID, Msg: m}
}

const (
	defaultOldLogs = 2
	defaultLogSize = 256 << 10
	defaultLogRate = 8000 // bytes a second

	maxLogs    = 1000
	maxLogSize = 256 << 20
	maxLogRate = 1 << 20
)

// complete puts in the defaults and returns ErrStack, ErrDuration or ErrOption.
func (o *Options) complete() error {
	if o.Stack != ArduPilot && o.Stack != PX4 {
		return fmt.Errorf("%w: %d", ErrStack, int(o.Stack))
	}
	if o.Duration < 0 {
		return fmt.Errorf("%w: %v", ErrDuration, o.Duration)
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	setDefault(&o.System, 1)
	setDefault(&o.ArmAuthSystem, o.System)
	setDefault(&o.OldLogs, defaultOldLogs)
	setDefault(&o.LogSize, defaultLogSize)
	setDefault(&o.LogRate, defaultLogRate)
	return o.check()
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) check() error {
	switch {
	case o.OldLogs > maxLogs:
		return fmt.Errorf("%w: %d old logs, %d at most", ErrOption, o.OldLogs, maxLogs)
	case o.LogSize < 0 || o.LogSize > maxLogSize:
		return fmt.Errorf("%w: log of %d bytes", ErrOption, o.LogSize)
	case o.LogRate < 0 || o.LogRate > maxLogRate:
		return fmt.Errorf("%w: log of %d bytes a second", ErrOption, o.LogRate)
	case o.TimeLate < 0 || o.RebootAt < 0 || o.After < 0:
		return fmt.Errorf("%w: a time before power-on", ErrOption)
	case o.ArmAuth && o.Stack != PX4:
		return fmt.Errorf("%w: arm authorisation is PX4's", ErrOption)
	case o.AuxAuth && o.Stack != ArduPilot:
		return fmt.Errorf("%w: auxiliary authorisation is ArduPilot's", ErrOption)
	}
	for _, s := range o.Script {
		if s.Msg == nil || s.At < 0 {
			return fmt.Errorf("%w: scripted frame without a message or before power-on", ErrOption)
		}
	}
	return nil
}
