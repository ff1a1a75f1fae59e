package recorder_test

import (
	"encoding/binary"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/firmware/recorder"
	"holdfast/mavlink"
	"holdfast/storage/segment"
)

// decades is between the time of synctest, 2000, and one that a recorder believes.
const decades = 30 * 365 * 24 * time.Hour

// hostClock is a computer's clock that somebody sets.
type hostClock struct {
	mu     sync.Mutex
	ahead  time.Duration // of the time of the test
	synced bool
}

func (c *hostClock) set(ahead time.Duration, synced bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead, c.synced = ahead, synced
}

func (c *hostClock) read() (time.Time, bool, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(decades + c.ahead), c.synced, 3 * time.Millisecond
}

// systemTime is what an autopilot says of the time.
func systemTime(seq uint8, at time.Time) []byte {
	p := make([]byte, 12)
	binary.LittleEndian.PutUint64(p, uint64(at.UnixMicro()))
	p[11] = 1
	return frame(seq, 1, 1, mavlink.MsgSystemTime, p...)
}

// TestStampsNeverStep: whatever anybody does to the clocks of board and autopilot, stamps go on
// from where they were: one offset for good, once a time is known. What the clocks said stands
// in the record, with how far each can be off.
func TestStampsNeverStep(t *testing.T) {
	for _, tt := range []struct {
		name   string
		synced bool // the board's own clock, at the start
		source string
	}{{"a clock that is kept right", true, "host"}, {"the autopilot's", false, "autopilot"}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, l, host := newBench(t), newLine(true), &hostClock{synced: tt.synced}
				b.record(recorder.Config{Host: host.read}, l, func(*recorder.Recorder) {
					for i, step := range []time.Duration{0, -time.Hour, 24 * time.Hour, -10 * 365 * 24 * time.Hour, 5 * time.Second} {
						host.set(step, tt.synced || i%2 == 1)
						for range 12 {
							l.in <- append(own(uint8(i), false), systemTime(uint8(i), time.Now().Add(decades+3*step))...)
							time.Sleep(time.Second)
						}
					}
				})
				offsets, last := map[int64]bool{}, int64(0)
				pairs := map[string][]segment.ClockPair{}
				for _, o := range b.read() {
					for _, m := range o.metas {
						if m.BootUsec < last {
							t.Errorf("block %d is of %d, the one before of %d", m.Block, m.BootUsec, last)
						}
						last = m.BootUsec
						if m.StampOffset != 0 {
							offsets[m.StampOffset] = true
						}
						for _, p := range m.Clock {
							pairs[p.Source] = append(pairs[p.Source], p)
						}
					}
				}
				want := b.start.Add(decades - time.Second).UnixMicro()
				if len(offsets) != 1 || !offsets[want] {
					t.Errorf("offsets of stamps %v, want %d alone", offsets, want)
				}
				all := pairs[tt.source]
				if len(all) < 5 || all[0].UTCUsec-all[0].BootUsec != want || all[0].UncertaintyUsec == 0 {
					t.Fatalf("pairs of %s: %+v", tt.source, all)
				}
				if end := all[len(all)-1]; end.UTCUsec-end.BootUsec == want {
					t.Error("the record does not show that the clock was set")
				}
			})
		})
	}
}
