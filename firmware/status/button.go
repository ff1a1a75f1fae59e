package status

import (
	"context"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// Press is what somebody did with the button.
type Press string

// Presses, by how long the button was held. Each is acted on when the button is let go, so that
// the longest of them is not the shortest one first.
const (
	PressMark     Press = "mark"     // shortly: an event in the record
	PressSeal     Press = "seal"     // 3 s: end the record and sync, or go on recording
	PressOverride Press = "override" // 10 s: lift the arming veto
)

const (
	// pollEvery is how often the button is read: a finger takes longer, and a switch bounces
	// for a shorter time.
	pollEvery     = 25 * time.Millisecond
	bounce        = 3 // readings that must agree
	sealAfter     = 3 * time.Second
	overrideAfter = 10 * time.Second
	// stuckAfter is when a button is taken for stuck, or wet: it does nothing then.
	stuckAfter = 30 * time.Second
)

// Button tells of presses. The switch pulls the line to ground.
type Button struct {
	Pin  gpio.PinIn
	Tell func(Press)
}

// Run reads the button until ctx ends.
func (b *Button) Run(ctx context.Context) {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	down, same, held := false, 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if now := b.Pin.Read() == gpio.Low; now != down {
			if same++; same < bounce {
				continue
			}
			down = now
			if !down {
				b.released(time.Duration(held) * pollEvery)
			}
			held = 0
		}
		same = 0
		if down {
			held++
		}
	}
}

func (b *Button) released(after time.Duration) {
	switch {
	case after >= stuckAfter:
	case after >= overrideAfter:
		b.Tell(PressOverride)
	case after >= sealAfter:
		b.Tell(PressSeal)
	default:
		b.Tell(PressMark)
	}
}
