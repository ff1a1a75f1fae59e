package mavlink

import "time"

// Gap says that frames of one sender are missing before a frame that came.
type Gap struct {
	System    SystemID
	Component ComponentID
	At        time.Duration // arrival of the frame behind the gap
	Expected  uint8         // sequence number that should have come
	Got       uint8         // sequence number that came
	Lost      int           // frames missing: at least so many, since numbers wrap at 256
}

// GapCounter watches the sequence numbers of each (system, component). The zero value is
// ready. It allocates 2 KiB when a system is first seen, at most 256 times, and
// nothing later. Not safe for concurrent use.
type GapCounter struct {
	// Per component: 0x100 + the sequence number that comes next, and above that a bit for
	// each of the lateFrames numbers before the newest one, the nearest lowest: 1 when it did
	// not come.
	systems [256]*[256]uint64
	total   uint64
}

// lateFrames is how far behind the newest frame one may come that was overtaken. PX4 numbers and
// sends from two threads of one link, so that one overtakes up to 17 others
// (https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/mavlink/mavlink_main.cpp).
const lateFrames = 40

// Observe takes the next frame in order of arrival, and returns true with the gap if
// frames are missing before it. The first frame of a sender tells nothing. A number that
// came just before is taken for a repeated frame, not for 255 lost ones, and one that was
// missing among the few before the newest for a late frame, not for some 250 lost ones: it
// stays counted as missing. A sender that starts again shows as a gap: the numbers do not
// tell a restart from a loss.
func (g *GapCounter) Observe(f *Frame) (Gap, bool) {
	table := g.systems[f.System]
	if table == nil {
		table = new([256]uint64)
		g.systems[f.System] = table
	}
	state := table[f.Component]
	expected := uint8(state)
	lost := f.Seq - expected
	if state != 0 && late(&table[f.Component], expected-1-f.Seq) {
		return Gap{}, false
	}
	table[f.Component] = 0x100 | uint64(f.Seq+1)
	if state == 0 || lost == 255 {
		return Gap{}, false
	}
	table[f.Component] |= missed(state>>9, lost) << 9
	if lost == 0 {
		return Gap{}, false
	}
	g.total += uint64(lost)
	return Gap{f.System, f.Component, f.At, expected, f.Seq, int(lost)}, true
}

// late reports whether the number that lies behind before the newest one was missing. It is not
// any more then.
func late(state *uint64, behind uint8) bool {
	if behind == 0 || behind > lateFrames || *state>>(8+behind)&1 == 0 {
		return false
	}
	*state &^= 1 << (8 + behind)
	return true
}

// missed returns which numbers before a new frame did not come, lost of them directly before it.
func missed(before uint64, lost uint8) uint64 {
	if lost > lateFrames {
		lost = lateFrames // many: what lay before them is out of reach
	}
	// The frame that was the newest came, and lies behind the lost ones.
	return (before<<(lost+1) | 1<<lost - 1) & (1<<lateFrames - 1)
}

// Total returns the number of lost frames, of all senders.
func (g *GapCounter) Total() uint64 { return g.total }
