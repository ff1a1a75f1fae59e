package firmware

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock returns the time since the kernel started. It is read once; what follows is
// counted by the monotonic clock, which nothing sets.
func bootClock() func() time.Duration {
	var ts unix.Timespec
	start := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return func() time.Duration { return time.Since(start) }
	}
	boot := time.Duration(ts.Nano())
	return func() time.Duration { return boot + time.Since(start) }
}

// hostClock is the computer's clock and what the kernel says of it (adjtimex(2)): a program
// that keeps it right clears STA_UNSYNC and states the maximum error.
func hostClock() (utc time.Time, synchronised bool, within time.Duration) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	now := time.Now()
	if err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return now, false, 0
	}
	return now, true, time.Duration(t.Maxerror) * time.Microsecond
}
