package netlock

import (
	"errors"
	"maps"
	"testing"
)

// TestUnnamed: what the tables counted and nobody named is told once, a look later, so that a
// report on its way is not counted twice.
func TestUnnamed(t *testing.T) {
	c := tableCounts{named: map[string]int64{}, told: map[string]int64{}}
	for i, step := range []struct {
		counted uint64
		named   int64 // in all
		want    int64
	}{
		{0, 0, 0},
		{5, 5, 0},   // all named
		{8, 5, 0},   // three on their way, or not
		{8, 8, 0},   // they came
		{20, 10, 0}, // ten missing
		{20, 10, 10},
		{20, 10, 0},     // told once
		{1020, 40, 0},   // a flood
		{2020, 60, 970}, // what was missing before, and not what is new
		{2020, 60, 980}, // the rest
		{2020, 60, 0},
	} {
		c.named[NftInet] = step.named
		got := c.unnamed(map[string]uint64{NftInet: step.counted})
		if got[NftInet] != step.want {
			t.Errorf("step %d: told %d, want %d", i, got[NftInet], step.want)
		}
	}
	if all := c.named[NftInet] + c.told[NftInet]; all != 2020 {
		t.Errorf("%d of 2020", all)
	}
}

// TestCovered: a table family that the kernel lacks is made up for by BPF at the links, and by
// nothing else; one that broke is not.
func TestCovered(t *testing.T) {
	for name, c := range map[string]struct {
		bridge, tc string
		missing    int
	}{
		"all":                {StateOK, StateOK, 0},
		"no bridge, tc":      {StateMissing, StateOK, 0},
		"no bridge, no tc":   {StateMissing, StateMissing, 1},
		"no bridge, tc bad":  {StateMissing, StateBroken, 1},
		"bridge broken, tc":  {StateBroken, StateOK, 1},
		"bridge left out":    {StateLeftOut, StateOK, 1},
		"no tc, bridge good": {StateOK, StateMissing, 0},
	} {
		l := &Lock{}
		l.add(&layer{name: NftInet, needed: true, state: StateOK})
		l.add(&layer{name: NftBridge, needed: true, state: c.bridge})
		l.add(&layer{name: TC, state: c.tc})
		if got := l.missing(); len(got) != c.missing {
			t.Errorf("%s: missing %v, want %d", name, got, c.missing)
		}
	}
}

// TestNeededMissing: a layer that the board must have and does not is named with its reason.
func TestNeededMissing(t *testing.T) {
	l := &Lock{}
	y := &layer{name: Swap, needed: true}
	y.set(StateBroken, errors.New("/dev/zram0 is in use\nand more"))
	l.add(y)
	if got := l.missing(); len(got) != 1 || got[0] != "swap broken (/dev/zram0 is in use)" {
		t.Errorf("missing %q", got)
	}
	if _, there := maps.Clone(leaks)[Swap]; there {
		t.Error("this build leaks")
	}
}
