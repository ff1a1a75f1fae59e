package autopilot

import (
	"slices"
	"sync"

	"holdfast/mavlink"
)

// ringSize is how many frames wait for Run at most: at 921,600 baud more than half a second of
// log data.
const ringSize = 1024

// smallIDs are the ids that a bit set holds; the few greater ones are in a list.
const smallIDs = 1024

// baseIDs are the messages that the pieces of this package look at.
var baseIDs = []uint32{0, 2, 22, 42, 44, 47, 73, 76, 77, 111, 148, 244, 253}

// ring keeps frames between the reader's goroutine and that of Run.
type ring struct {
	ids   [smallIDs]bool // fixed before frames come
	big   []uint32
	ready chan struct{}

	mu      sync.Mutex
	slots   []slot
	first   int
	count   int
	heard   uint64
	dropped uint64
	stats   Stats // of Run's goroutine, as it last published them
}

type slot struct {
	link  int
	size  int
	frame mavlink.Frame // Raw is set when it is taken
	raw   [mavlink.MaxFrameSize]byte
}

// entry is a frame that was taken from the ring. frame.Raw lies in raw.
type entry struct {
	link  int
	frame mavlink.Frame
	raw   [mavlink.MaxFrameSize]byte
}

func (r *ring) init() {
	r.ready = make(chan struct{}, 1)
	r.slots = make([]slot, ringSize)
	for _, id := range baseIDs {
		r.want(id)
	}
}

func (r *ring) want(id uint32) {
	if id < smallIDs {
		r.ids[id] = true
	} else if !slices.Contains(r.big, id) {
		r.big = append(r.big, id)
	}
}

func (r *ring) wanted(id uint32) bool {
	if id < smallIDs {
		return r.ids[id]
	}
	return slices.Contains(r.big, id)
}

// put copies f. Where the ring is full, or the frame longer than frames are, it is counted as
// dropped: every protocol here asks again for what did not come.
func (r *ring) put(link int, f *mavlink.Frame) {
	r.mu.Lock()
	r.heard++
	if r.count == len(r.slots) || len(f.Raw) > mavlink.MaxFrameSize {
		r.dropped++
		r.mu.Unlock()
		return
	}
	s := &r.slots[(r.first+r.count)%len(r.slots)]
	r.count++
	s.link, s.frame = link, *f
	s.frame.Raw = nil
	s.size = copy(s.raw[:], f.Raw)
	r.mu.Unlock()
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// take moves the oldest frame into e. It returns false where there is none.
func (r *ring) take(e *entry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == 0 {
		return false
	}
	s := &r.slots[r.first]
	r.first = (r.first + 1) % len(r.slots)
	r.count--
	e.link, e.frame = s.link, s.frame
	n := copy(e.raw[:], s.raw[:s.size])
	e.frame.Raw = e.raw[:n]
	return true
}
