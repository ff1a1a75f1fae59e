package flight

import (
	"slices"

	"holdfast/storage/segment"
)

// Clock says what UTC in an opened record rests on.
type Clock struct {
	// Source is host (kept right by a time service), autopilot (its SYSTEM_TIME, from GPS),
	// host_unsynchronised (a clock that nothing vouches for) or none: stamps are since boot.
	Source string `json:"source"`
	// UncertaintyUsec is what the source claims plus how far its pairs disagree; -1: unknown.
	UncertaintyUsec int64  `json:"uncertainty_usec"`
	Pairs           int    `json:"pairs"`
	OffsetUsec      int64  `json:"offset_usec"` // UTC minus time since boot
	Doubt           string `json:"doubt,omitempty"`
}

// maxSpread is how far the pairs of a source may disagree before it is not believed. A board's
// crystal is off by 100 parts in a million at most, which is 0.36 s in an hour.
const maxSpread = 5_000_000

// sources in the order in which they are believed.
var sources = []string{"host", "autopilot", "host_unsynchronised"}

// weigh picks the source that UTC is taken from. A source whose pairs contradict each other (a
// recording played back too fast, a clock that was set) is passed over and said so.
func weigh(pairs []segment.ClockPair) Clock {
	doubt := ""
	for _, source := range sources {
		c, spread, ok := judge(pairs, source)
		if !ok {
			continue
		}
		if spread > maxSpread {
			doubt = "the times of " + source + " contradict each other and were not used"
			continue
		}
		c.Doubt = doubt
		if source == "host_unsynchronised" {
			c.UncertaintyUsec = -1
			if doubt == "" {
				c.Doubt = "nothing vouches for the board's clock, and the autopilot sent no time"
			}
		}
		return c
	}
	if doubt == "" {
		doubt = "no clock was known"
	}
	return Clock{Source: "none", UncertaintyUsec: -1, Pairs: len(pairs), Doubt: doubt}
}

func judge(pairs []segment.ClockPair, source string) (c Clock, spread int64, ok bool) {
	var offsets []int64
	var within int64
	for _, p := range pairs {
		if p.Source == source {
			offsets = append(offsets, p.UTCUsec-p.BootUsec)
			within = max(within, p.UncertaintyUsec)
		}
	}
	if len(offsets) == 0 {
		return c, 0, false
	}
	slices.Sort(offsets)
	spread = offsets[len(offsets)-1] - offsets[0]
	middle := offsets[len(offsets)/2]
	return Clock{Source: source, UncertaintyUsec: within + spread/2, Pairs: len(offsets), OffsetUsec: middle}, spread, true
}

// times gives UTC to times since boot.
type times struct{ clock Clock }

// utc returns a time since boot as UTC, and as text; where no clock was known it stays as it is.
func (t times) utc(boot int64) (text string, usec int64) {
	if t.clock.Source == "none" {
		return formatBoot(boot), boot
	}
	return formatUTC(boot + t.clock.OffsetUsec), boot + t.clock.OffsetUsec
}
