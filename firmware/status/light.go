package status

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"periph.io/x/conn/v3/gpio"
)

// Show is what the light tells: one thing at a time, the most urgent first.
type Show string

// What the light can show. The patterns are in docs/status.md, and can be told apart from three
// metres away, at night and with gloves on.
const (
	ShowFault     Show = "fault"     // nothing is recorded, or not all of it: do not fly
	ShowStarting  Show = "starting"  // not ready yet
	ShowUnlocked  Show = "unlocked"  // records, but the network is not closed
	ShowMedia     Show = "media"     // telemetry is recorded, photos or video or the log are not
	ShowSealed    Show = "sealed"    // all is sealed and synced: power may be taken away
	ShowRecording Show = "recording" // a flight
	ShowReady     Show = "ready"     // on the ground, all is well
)

const (
	blink = 100 * time.Millisecond
	pause = 200 * time.Millisecond
	turn  = 2 * time.Second // most patterns are this long
)

// pattern is a row of times, on and off by turns, that is repeated.
type pattern []time.Duration

var patterns = map[Show]pattern{
	ShowFault:     {blink, blink}, // five a second, without a pause: red means red
	ShowStarting:  {500 * time.Millisecond, 500 * time.Millisecond},
	ShowUnlocked:  {blink, pause, blink, turn},
	ShowMedia:     {blink, pause, blink, pause, blink, turn},
	ShowSealed:    {turn, 2 * turn},
	ShowRecording: {turn, blink}, // nearly always on
	ShowReady:     {blink, turn},
}

// Health is what the light is chosen by, beside Report.
type Health struct {
	Report
	// MediaRefused: a stream beside telemetry has no room, or its source fails.
	MediaRefused bool
	// Sealed: an operator, or a low battery, has asked for the end, and all is on the medium.
	Sealed bool
	// Unlocked: the board should be locked, and is not.
	Unlocked bool
}

// Choose returns what the light should show.
func Choose(h Health) Show {
	switch {
	case h.State == "fault" || h.RingDrops > 0 && h.State != "recording" && h.State != "standby":
		return ShowFault
	case h.Sealed:
		return ShowSealed
	case h.State == "starting":
		return ShowStarting
	case h.Unlocked:
		return ShowUnlocked
	case h.MediaRefused:
		return ShowMedia
	case h.Armed:
		return ShowRecording
	}
	return ShowReady
}

// Light shows the state of the board on one LED.
type Light struct {
	// Pin is the LED; active high.
	Pin  gpio.PinOut
	Look func() Show
	Log  *slog.Logger
}

// Run shows until ctx ends, and then switches the light off. A pin that fails is logged once: a
// broken light stops nothing.
func (l *Light) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() { l.set(false) }()
	var row pattern
	on, failed := false, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if len(row) == 0 {
			row = slices.Clone(patterns[l.Look()])
			on = false
		}
		on = !on
		if err := l.set(on); err != nil && !failed {
			failed = true
			l.Log.Warn("light", slog.Any("err", err))
		}
		timer.Reset(row[0])
		row = row[1:]
	}
}

func (l *Light) set(on bool) error { return l.Pin.Out(gpio.Level(on)) }
