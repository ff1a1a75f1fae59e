package media

import (
	"context"
	"sync"

	"holdfast/firmware/mediapipe"
)

const (
	// Room is how many bytes of all cameras may wait for the recorder.
	Room = 8 << 20
	// smallRoom is kept for what is not data: beginnings, ends, events.
	smallRoom = 256 << 10
	// pieceSize is the most that one read of a camera takes.
	pieceSize = 256 << 10
)

// item is a message that waits, whole but for its session (mediapipe.Seal), and what it costs.
type item struct {
	wire []byte
	cost int
	msg  mediapipe.Message // where wire is nil: encoded when it is sent
}

// queue holds what waits for the recorder, in order. Data finds room or is refused; what is told
// beside it has some room of its own. Safe for concurrent use.
type queue struct {
	mu      sync.Mutex
	items   []item
	bytes   int // of data
	small   int
	most    int
	closed  bool
	wake    chan struct{} // capacity 1: something waits
	room    chan struct{} // closed and replaced when room was made
	drained chan struct{} // closed when it is closed and empty
	lost    int           // events for which there was no room
}

func newQueue(most int) *queue {
	return &queue{most: most, wake: make(chan struct{}, 1), room: make(chan struct{}), drained: make(chan struct{})}
}

// leastCost is what a message of data counts at least, however short: it bounds how many wait, and
// with them what is told beside each.
const leastCost = 4 << 10

// put takes a message of data, and what has to be told before it; false: there is no room.
func (q *queue) put(wire []byte, before ...mediapipe.Message) bool {
	cost := max(cap(wire), leastCost)
	q.mu.Lock()
	defer q.mu.Unlock()
	if cost > q.most-q.bytes {
		return false
	}
	for _, m := range before {
		q.small += smallCost
		q.push(item{msg: m, cost: smallCost})
	}
	q.bytes += cost
	q.push(item{wire: wire, cost: cost})
	return true
}

// putWait is put when there is room; false: ctx has ended.
func (q *queue) putWait(ctx context.Context, wire []byte, before ...mediapipe.Message) bool {
	for {
		q.mu.Lock()
		room := q.room
		q.mu.Unlock()
		if q.put(wire, before...) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-room:
		}
	}
}

// smallCost is what a message that is not data counts.
const smallCost = 512

// tell takes a message that is not data. Events are dropped where a flood of them has filled
// their room; what says how a file ends never is: a file is told of only with its first piece of
// data.
func (q *queue) tell(m mediapipe.Message) {
	_, event := m.(*mediapipe.Event)
	q.mu.Lock()
	defer q.mu.Unlock()
	if event && q.small > smallRoom {
		q.lost++
		return
	}
	q.small += smallCost
	q.push(item{msg: m, cost: smallCost})
}

func (q *queue) push(i item) {
	q.items = append(q.items, i)
	q.notify()
}

func (q *queue) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// first returns the oldest item and leaves it where it is.
func (q *queue) first() (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return item{}, false
	}
	return q.items[0], true
}

// done takes the oldest item away: it was sent.
func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := q.items[0]
	q.items[0] = item{}
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil
	}
	if i.wire != nil {
		q.bytes -= i.cost
	} else {
		q.small -= i.cost
	}
	close(q.room)
	q.room = make(chan struct{})
	q.ended()
}

// waiting returns the bytes that wait.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// empty tells whether nothing waits at all.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) == 0
}

// close says that no more comes.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ended()
}

func (q *queue) ended() {
	if !q.closed || len(q.items) > 0 {
		return
	}
	select {
	case <-q.drained:
	default:
		close(q.drained)
	}
}
