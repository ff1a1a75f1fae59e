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
// ready. It allocates 512 bytes when a system is first seen, at most 256 times, and
// nothing later. Not safe for concurrent use.
type GapCounter struct {
	systems [256]*[256]uint16 // per component: 0x100 + the sequence number that comes next
	total   uint64
}

// Observe takes the next frame in order of arrival, and returns true with the gap if
// frames are missing before it. The first frame of a sender tells nothing. A number that
// came just before is taken for a repeated frame, not for 255 lost ones. A sender that
// starts again shows as a gap: the numbers do not tell a restart from a loss.
func (g *GapCounter) Observe(f *Frame) (Gap, bool) {
	table := g.systems[f.System]
	if table == nil {
		table = new([256]uint16)
		g.systems[f.System] = table
	}
	state := table[f.Component]
	table[f.Component] = 0x100 | uint16(f.Seq+1)
	expected := uint8(state)
	lost := f.Seq - expected
	if state == 0 || lost == 0 || lost == 255 {
		return Gap{}, false
	}
	g.total += uint64(lost)
	return Gap{f.System, f.Component, f.At, expected, f.Seq, int(lost)}, true
}

// Total returns the number of lost frames, of all senders.
func (g *GapCounter) Total() uint64 { return g.total }
