package flight

import (
	"strings"
	"testing"

	"holdfast/storage/segment"
)

// pairsOf makes one pair a second from a time since boot on, all of one offset.
func pairsOf(source string, from, n int, offsetUsec, within int64) (ps []segment.ClockPair) {
	for i := range n {
		boot := int64(from+i) * 1_000_000
		ps = append(ps, segment.ClockPair{BootUsec: boot, UTCUsec: boot + offsetUsec, Source: source, UncertaintyUsec: within})
	}
	return ps
}

// TestWeigh: clocks that start in 1970, that get their time late, that jump forward and back. UTC
// comes from what most pairs agree on, with an uncertainty that holds, and doubt is told.
func TestWeigh(t *testing.T) {
	const good, hour = 1_790_000_000_000_000, 3_600_000_000
	join := func(lists ...[]segment.ClockPair) (all []segment.ClockPair) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	for _, c := range []struct {
		name    string
		pairs   []segment.ClockPair
		source  string
		offset  int64
		within  int64
		doubted bool
	}{
		{"steady", pairsOf("autopilot", 0, 60, good, 200_000), "autopilot", good, 200_000, false},
		{"one exact pair bounds the others", join(pairsOf("autopilot", 0, 9, good, 200_000), pairsOf("autopilot", 9, 1, good, 3_000)), "autopilot", good, 3_000, false},
		{"a jump forward, and back", join(pairsOf("autopilot", 0, 40, good, 5_000), pairsOf("autopilot", 40, 9, good+hour, 5_000), pairsOf("autopilot", 49, 20, good, 5_000)),
			"autopilot", good, 5_000, true},
		{"a jump for good, late", join(pairsOf("autopilot", 0, 40, good, 5_000), pairsOf("autopilot", 40, 30, good-hour, 5_000)), "autopilot", good, 5_000, true},
		{"half and half", join(pairsOf("autopilot", 0, 30, good, 5_000), pairsOf("autopilot", 30, 30, good-hour, 5_000)), "none", 0, -1, true},
		{"half and half, and a host", join(pairsOf("autopilot", 0, 2, good, 0), pairsOf("autopilot", 2, 2, 0, 0), pairsOf("host_unsynchronised", 0, 3, 7, 0)),
			"host_unsynchronised", 7, -1, true},
		{"a host that is kept right", join(pairsOf("autopilot", 0, 9, good+hour, 0), pairsOf("host", 0, 2, good, 900)), "host", good, 900, false},
		{"drift", join(pairsOf("autopilot", 0, 1, good, 1_000), pairsOf("autopilot", 1, 1, good+400, 1_000)), "autopilot", good + 400, 1_200, false},
		{"nothing", nil, "none", 0, -1, true},
	} {
		got := weigh(c.pairs)
		if got.Source != c.source || got.OffsetUsec != c.offset || got.UncertaintyUsec != c.within || (got.Doubt != "") != c.doubted {
			t.Errorf("%s: %+v", c.name, got)
		}
		if c.doubted && strings.Contains(c.name, "jump") && !strings.Contains(got.Doubt, "contradict") {
			t.Errorf("%s: %q", c.name, got.Doubt)
		}
	}
}
