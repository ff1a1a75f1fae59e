package vehicle

import (
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/mavlink"
)

// LossKinds is which frames may be lost by chance. A cut takes all.
type LossKinds int

// The kinds there are.
const (
	LoseAll  LossKinds = iota
	LoseLogs           // those that carry or control the transfer of logs
)

// ParseLossKinds returns the kinds of a name, "all" or "log"; else ErrOption.
func ParseLossKinds(name string) (LossKinds, error) {
	switch name {
	case "all":
		return LoseAll, nil
	case "log":
		return LoseLogs, nil
	}
	return 0, fmt.Errorf("%w: kind of loss %q", ErrOption, name)
}

// Cut is a time in which nothing passes, in neither direction.
type Cut struct {
	From   time.Duration // since power-on
	Length time.Duration
}

// Loss describes a bad line.
type Loss struct {
	Probability float64 // of each frame to be lost, 0 to 1
	Seed        uint64
	Kinds       LossKinds
	Cuts        []Cut
}

// Lossy loses frames of a line, each by itself. The same frames at the same times have the
// same fate; the two directions do not touch each other. Not safe for concurrent use.
type Lossy struct {
	loss Loss
	rnd  [2]*rand.Rand
	lost [2]uint64
}

// Direction is where a frame goes.
type Direction int

// The directions of a line.
const (
	FromVehicle Direction = iota
	ToVehicle
)

// NewLossy returns a line, or ErrOption for a probability that is none or a cut before
// power-on.
func NewLossy(l Loss) (*Lossy, error) {
	if !(l.Probability >= 0 && l.Probability <= 1) {
		return nil, fmt.Errorf("%w: loss of %v", ErrOption, l.Probability)
	}
	for _, c := range l.Cuts {
		if c.From < 0 || c.Length < 0 {
			return nil, fmt.Errorf("%w: cut from %v for %v", ErrOption, c.From, c.Length)
		}
	}
	out := &Lossy{loss: l}
	for d := range out.rnd {
		out.rnd[d] = rand.New(rand.NewPCG(l.Seed, uint64(d)))
	}
	return out, nil
}

// Pass tells whether a frame gets through at a time since power-on.
func (l *Lossy) Pass(at time.Duration, d Direction, raw []byte) bool {
	// One draw for each frame, whatever its fate: a cut shifts no later one.
	unlucky := l.rnd[d].Float64() < l.loss.Probability
	if unlucky && l.loss.Kinds == LoseLogs {
		f, ok := mavlink.ParseFrame(raw)
		unlucky = ok && carriesLog(f.ID)
	}
	if !unlucky && !l.cut(at) {
		return true
	}
	l.lost[d]++
	return false
}

func (l *Lossy) cut(at time.Duration) bool {
	for _, c := range l.loss.Cuts {
		if at >= c.From && at-c.From < c.Length {
			return true
		}
	}
	return false
}

// Lost returns how many frames of a direction were lost.
func (l *Lossy) Lost(d Direction) uint64 { return l.lost[d] }

// carriesLog tells the messages of log transfers: LOG_*, FILE_TRANSFER_PROTOCOL,
// REMOTE_LOG_* and LOGGING_*.
func carriesLog(id uint32) bool {
	return id >= 117 && id <= 122 || id == 110 || id == 184 || id == 185 || id >= 266 && id <= 268
}
