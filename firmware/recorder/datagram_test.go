package recorder_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/firmware/recorder"
	"holdfast/mavlink/link"
)

// datagramLine gives one datagram a read.
type datagramLine struct{ *line }

func (datagramLine) Datagrams() bool { return true }

// TestNoPauseForDatagrams: a trickle may gather in a serial line's buffer; datagrams would pile up,
// one pause each. PX4's link by UDP lost half of its frames.
func TestNoPauseForDatagrams(t *testing.T) {
	for _, datagrams := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b, l := newBench(t), newLine(false)
			var pauses atomic.Int64
			cfg := recorder.Config{Pause: func() { pauses.Add(1) }}
			if datagrams {
				cfg.OpenLink = func(string, int) (link.Source, error) { return datagramLine{l}, nil }
			}
			b.record(cfg, l, func(*recorder.Recorder) {
				for i := range 50 {
					l.in <- own(uint8(i), false)
					time.Sleep(20 * time.Millisecond)
				}
			})
			if n := pauses.Load(); (n == 0) != datagrams {
				t.Errorf("datagrams %v: %d pauses", datagrams, n)
			}
		})
	}
}
