package flight

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"holdfast/storage/segment"
)

// Clock says what UTC in an opened record rests on.
type Clock struct {
	// Source is host (kept right by a time service), autopilot (its SYSTEM_TIME, from GPS),
	// host_unsynchronised (a clock that nothing vouches for) or none: stamps are since boot.
	Source string `json:"source"`
	// UncertaintyUsec bounds how far UTC may be off, by what the source claims and how far its
	// pairs disagree; -1: unknown.
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

// weigh picks the source that UTC is taken from. Where pairs of a source contradict each other (an
// autopilot that got its time from GPS late, or whose clock jumped), those that most of them agree
// with count, and the doubt is told; a source without such a majority is passed over.
func weigh(pairs []segment.ClockPair) Clock {
	doubt := ""
	for _, source := range sources {
		c, ok := judge(pairs, source)
		if !ok {
			continue
		}
		if c.Pairs == 0 {
			doubt = "the times of " + source + " contradict each other and were not used"
			continue
		}
		c.Doubt = cmp.Or(c.Doubt, doubt)
		if source == "host_unsynchronised" {
			c.UncertaintyUsec = -1
			c.Doubt = cmp.Or(c.Doubt, "nothing vouches for the board's clock, and the autopilot sent no time")
		}
		return c
	}
	if doubt == "" {
		doubt = "no clock was known"
	}
	return Clock{Source: "none", UncertaintyUsec: -1, Pairs: len(pairs), Doubt: doubt}
}

// judge weighs the pairs of one source; ok is false where it has none, and Pairs is 0 where no
// majority of them agrees.
func judge(pairs []segment.ClockPair, source string) (c Clock, ok bool) {
	var own []segment.ClockPair
	for _, p := range pairs {
		if p.Source == source {
			own = append(own, p)
		}
	}
	if len(own) == 0 {
		return c, false
	}
	slices.SortFunc(own, func(a, b segment.ClockPair) int { return cmp.Compare(offset(a), offset(b)) })
	agreed := majority(own)
	if 2*len(agreed) <= len(own) {
		return c, true
	}
	c = Clock{Source: source, Pairs: len(agreed), OffsetUsec: offset(agreed[len(agreed)/2])}
	if n := len(own) - len(agreed); n > 0 {
		c.Doubt = fmt.Sprintf("%d of %d times of %s contradict the others and were not used", n, len(own), source)
	}
	c.UncertaintyUsec = uncertainty(agreed, c.OffsetUsec)
	return c, true
}

// majority returns the longest row of pairs, which are sorted by offset, that agree within maxSpread.
func majority(own []segment.ClockPair) (best []segment.ClockPair) {
	from := 0
	for to := range own {
		for offset(own[to])-offset(own[from]) > maxSpread {
			from++
		}
		if to+1-from > len(best) {
			best = own[from : to+1]
		}
	}
	return best
}

// uncertainty bounds how far the clock may be off: what the best pair claims, how far it is from
// the offset that was chosen, and half of how far the pairs are apart, for the board's own clock
// drifts.
func uncertainty(own []segment.ClockPair, chosen int64) int64 {
	least := int64(math.MaxInt64)
	for _, p := range own {
		off := offset(p) - chosen
		least = min(least, p.UncertaintyUsec+max(off, -off))
	}
	return least + (offset(own[len(own)-1])-offset(own[0]))/2
}

func offset(p segment.ClockPair) int64 { return p.UTCUsec - p.BootUsec }

// times gives UTC to times since boot.
type times struct{ clock Clock }

// utc returns a time since boot as UTC, and as text; where no clock was known it stays as it is.
func (t times) utc(boot int64) (text string, usec int64) {
	if t.clock.Source == "none" {
		return formatBoot(boot), boot
	}
	return formatUTC(boot + t.clock.OffsetUsec), boot + t.clock.OffsetUsec
}
