package mavlink

import "time"

// arrivals remembers when the pending bytes came. It is asked in the order of offsets.
type arrivals struct {
	list []arrival
	next int // entries before it are used up
}

// arrival says that bytes before the offset end, and behind the entry before, came at at.
type arrival struct {
	end int64
	at  time.Duration
}

// add says that the bytes up to the offset end, as far as they are new, came at at.
func (a *arrivals) add(end int64, at time.Duration) {
	if a.next == len(a.list) {
		a.list, a.next = a.list[:0], 0
	}
	if n := len(a.list); n > 0 {
		if a.list[n-1].end >= end {
			return
		}
		if a.list[n-1].at == at {
			a.list[n-1].end = end
			return
		}
	}
	a.list = append(a.list, arrival{end, at})
}

// of returns the arrival of the byte at off, now if it came with the bytes being written.
func (a *arrivals) of(off int64, now time.Duration) time.Duration {
	for a.next < len(a.list) && a.list[a.next].end <= off {
		a.next++
	}
	if a.next == len(a.list) {
		return now
	}
	return a.list[a.next].at
}

// forget drops what concerns only bytes before off.
func (a *arrivals) forget(off int64) {
	a.of(off, 0)
	if a.next > 0 {
		a.list = a.list[:copy(a.list, a.list[a.next:])]
		a.next = 0
	}
}
