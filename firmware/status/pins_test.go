package status_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpiotest"

	"holdfast/firmware/status"
)

// lamp is a fake LED that notes when it was switched.
type lamp struct {
	gpiotest.Pin
	began time.Time
	mu    sync.Mutex
	log   []string
	fail  error
}

func (l *lamp) Out(level gpio.Level) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	sign := "-"
	if level {
		sign = "+"
	}
	l.log = append(l.log, fmt.Sprintf("%s%d", sign, time.Since(l.began).Milliseconds()))
	return errors.Join(l.fail, l.Pin.Out(level))
}

// TestPatterns: each state has its own pattern, from its beginning, and the light is off at the end.
func TestPatterns(t *testing.T) {
	want := map[status.Show]string{
		status.ShowFault:     "+0 -100 +200 -300 +400 -500",
		status.ShowStarting:  "+0 -500 +1000 -1500",
		status.ShowUnlocked:  "+0 -100 +300 -400 +2400",
		status.ShowMedia:     "+0 -100 +300 -400 +600 -700 +2700",
		status.ShowSealed:    "+0 -2000 +6000",
		status.ShowRecording: "+0 -2000 +2100",
		status.ShowReady:     "+0 -100 +2100",
	}
	for show, begin := range want {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 7*time.Second)
			defer stop()
			pin := &lamp{began: time.Now()}
			(&status.Light{Pin: pin, Look: func() status.Show { return show }, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
			if got := strings.Join(pin.log, " "); !strings.HasPrefix(got, begin) {
				t.Errorf("%s: %s, want %s", show, got, begin)
			}
			if pin.L != gpio.Low {
				t.Errorf("%s: the light is left on", show)
			}
		})
	}
}

// TestLightThatFails goes on, and says so once.
func TestLightThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		var b strings.Builder
		pin := &lamp{began: time.Now(), fail: errors.New("broken")}
		(&status.Light{Pin: pin, Look: func() status.Show { return status.ShowFault }, Log: slog.New(slog.NewTextHandler(&b, nil))}).Run(ctx)
		if n := strings.Count(b.String(), "broken"); n != 1 || len(pin.log) < 8 {
			t.Errorf("%d lines, %d tries", n, len(pin.log))
		}
	})
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		change func(*status.Health)
		want   status.Show
	}{
		{func(*status.Health) {}, status.ShowReady},
		{func(h *status.Health) { h.Armed = true }, status.ShowRecording},
		{func(h *status.Health) { h.State = "starting" }, status.ShowStarting},
		{func(h *status.Health) { h.Unlocked = true }, status.ShowUnlocked},
		{func(h *status.Health) { h.MediaRefused, h.Armed = true, true }, status.ShowMedia},
		{func(h *status.Health) { h.Sealed = true }, status.ShowSealed},
		{func(h *status.Health) { h.State, h.Sealed, h.Unlocked, h.MediaRefused = "fault", true, true, true }, status.ShowFault},
	} {
		h := status.Health{Report: status.Report{State: "standby"}}
		c.change(&h)
		if got := status.Choose(h); got != c.want {
			t.Errorf("%+v: %s, want %s", h, got, c.want)
		}
	}
}

// TestButton: how long it is held says what it means; bouncing is no press, a stuck one neither.
func TestButton(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		pin := &gpiotest.Pin{L: gpio.High}
		var got []status.Press
		done := make(chan struct{})
		go func() {
			(&status.Button{Pin: pin, Tell: func(p status.Press) { got = append(got, p) }}).Run(ctx)
			close(done)
		}()
		set := func(l gpio.Level, d time.Duration) {
			if err := pin.Out(l); err != nil {
				t.Error(err)
			}
			time.Sleep(d)
		}
		for _, held := range []time.Duration{10 * time.Millisecond, 300 * time.Millisecond, 4 * time.Second, 12 * time.Second, time.Minute} {
			set(gpio.Low, held)
			set(gpio.High, time.Second)
		}
		for range 20 { // a bad contact
			set(gpio.Low, 20*time.Millisecond)
			set(gpio.High, 20*time.Millisecond)
		}
		time.Sleep(time.Second)
		stop()
		<-done
		if want := []status.Press{status.PressMark, status.PressSeal, status.PressOverride}; !slices.Equal(got, want) {
			t.Errorf("presses %q, want %q", got, want)
		}
	})
}

// TestNoPin: a name that this machine does not have is an error and nothing worse.
func TestNoPin(t *testing.T) {
	for _, name := range []string{"", "no such line", "/sys/class/leds/none", "../../etc"} {
		if _, err := status.OpenLight(name); err == nil {
			t.Errorf("light %q", name)
		}
		if _, err := status.OpenButton(name); err == nil {
			t.Errorf("button %q", name)
		}
	}
}
