package recorder

import (
	"sync"
	"time"

	"holdfast/storage/segment"
)

const (
	// batchBytes closes a batch: about one zstd block, so that compression has something to
	// work with and a batch is handed over soon.
	batchBytes = 128 << 10
	// ringBytes is what may wait between the readers and the writer: 45 s at 921,600 baud.
	ringBytes = 4 << 20
	// ringBatches bounds the number of batches, which arming changes can make small.
	ringBatches = 512
	// chunkRoom is the room that the next read needs at most: the read buffer, what a scanner
	// holds back, and the stamps that are added to them.
	chunkRoom = 256 << 10
	// batchGaps and batchEvents bound the lists of a batch; the rest is counted.
	batchGaps   = 32
	batchEvents = 64
	batchPairs  = 16
)

// batch is a run of entries and noise that go into one block. It begins where the arming
// state changes, so a batch lies in one record.
type batch struct {
	block segment.Block
	since time.Duration // when its first entry, noise or event came; 0 where there is none
	first time.Duration // arrival of the first entry or noise; 0 where there is none
	arm   armChange
}

type armChange int8

const (
	armSame armChange = iota
	armOn
	armOff
)

func (b *batch) empty() bool {
	return b.block.Meta.Frames == 0 && len(b.block.Noise) == 0 && len(b.block.Meta.Events) == 0 &&
		b.block.Meta.Drops == nil && len(b.block.Meta.Lines) == 0 && len(b.block.Sent) == 0 && b.arm == armSame
}

// start notes the first entry or noise run.
func (b *batch) start(at time.Duration, offset int64) {
	if b.first == 0 {
		b.first, b.block.Meta.Offset = max(at, 1), offset
		b.touch(at)
	}
}

func (b *batch) touch(at time.Duration) {
	if b.since == 0 {
		b.since = max(at, 1)
	}
}

func (b *batch) size() int { return len(b.block.Data) + len(b.block.Noise) + len(b.block.Sent) }

func (b *batch) reset() {
	b.block.Data, b.block.Noise, b.block.Sent = b.block.Data[:0], b.block.Noise[:0], b.block.Sent[:0]
	b.block.Meta = segment.Meta{}
	b.since, b.first, b.arm, b.block.Stored = 0, 0, armSame, false
}

// ring stands between the readers of the links and the one writer. It is bounded: a source
// that can wait is made to wait; what comes from one that cannot is dropped, and counted.
type ring struct {
	mu      sync.Mutex
	space   sync.Cond
	cur     *batch
	queue   []*batch
	free    []*batch
	bytes   int // of all batches in the queue, not yet released
	waiting int // batches in the queue or with the writer
	drops   segment.Drops
	stopped bool
	muted   bool          // nothing is taken in
	skipped segment.Drops // what came meanwhile
	// armHeard: a heartbeat has told whether the vehicle is armed.
	armHeard bool
	wake     chan struct{} // capacity 1: something the writer should look at
	// begin fills in what each new batch starts with. Called with mu held.
	begin func(*batch)
}

func newRing(begin func(*batch)) *ring {
	r := &ring{wake: make(chan struct{}, 1), begin: begin}
	r.space.L = &r.mu
	return r
}

func (r *ring) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// current returns the batch that is being filled. mu must be held.
func (r *ring) current() *batch {
	if r.cur == nil {
		if n := len(r.free); n > 0 {
			r.cur, r.free = r.free[n-1], r.free[:n-1]
		} else {
			r.cur = &batch{}
		}
		r.begin(r.cur)
	}
	return r.cur
}

// turn hands the current batch over. mu must be held.
func (r *ring) turn() {
	if r.cur == nil || r.cur.empty() {
		return
	}
	r.queue = append(r.queue, r.cur)
	r.bytes += r.cur.size()
	r.waiting++
	r.cur = nil
	r.notify()
}

func (r *ring) hasRoom() bool {
	return r.bytes+chunkRoom <= ringBytes && r.waiting < ringBatches
}

// admit waits for room where the source can be held back, and tells whether there is some.
// mu must be held.
func (r *ring) admit(holdsBack bool) bool {
	for holdsBack && !r.hasRoom() && !r.stopped {
		r.space.Wait()
	}
	return r.hasRoom()
}

// drop counts what found no room. mu must be held.
func (r *ring) drop(at time.Duration, frames, noise int, bytes int) {
	d := &r.drops
	if d.Bytes == 0 {
		d.BootUsec = at.Microseconds()
	}
	d.LastBootUsec = at.Microseconds()
	d.Frames += int64(frames)
	d.NoiseBytes += int64(noise)
	d.Bytes += int64(bytes)
}

// mute has what comes in counted and dropped, or taken in again, and returns what was dropped.
func (r *ring) mute(on bool) (skipped segment.Drops) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !on {
		skipped, r.skipped = r.skipped, segment.Drops{}
	}
	r.muted = on
	return skipped
}

// discard drops what waits, and counts it.
func (r *ring) discard() {
	for range r.ready(true) {
		b := r.head()
		r.mu.Lock()
		r.skipped.Frames += int64(b.block.Meta.Frames)
		r.skipped.Bytes += int64(b.size())
		r.mu.Unlock()
		r.release()
	}
}

// armKnown tells whether a heartbeat has told the arming state.
func (r *ring) armKnown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.armHeard
}

// skip counts what came while nothing is taken in. mu must be held.
func (r *ring) skip(frames, bytes int) {
	r.skipped.Frames += int64(frames)
	r.skipped.Bytes += int64(bytes)
}

// oldest returns since when the oldest entry or event waits, and whether entries are among
// what waits.
func (r *ring) oldest() (since time.Duration, entries, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.cur
	if len(r.queue) > 0 {
		b = r.queue[0]
	}
	if b == nil || b.empty() {
		return 0, false, false
	}
	return b.since, b.first > 0 || len(r.queue) > 0, true
}

// ready returns how many batches wait to be written, with all set the one that is still
// being filled among them.
func (r *ring) ready(all bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if all {
		r.addDrops()
		r.turn()
	}
	return len(r.queue)
}

// behind tells that a full batch waits, more than a second of a UART at 921,600 baud: a source
// faster than that, or a medium that stalled a moment ago.
func (r *ring) behind() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes >= batchBytes
}

// head returns the oldest batch that waits; release takes it out.
func (r *ring) head() *batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queue[0]
}

// addDrops puts the count of what was dropped into the current batch. mu must be held.
func (r *ring) addDrops() {
	if r.drops.Bytes == 0 {
		return
	}
	d := r.drops
	b := r.current()
	b.block.Meta.Drops = &d
	b.touch(time.Duration(d.BootUsec) * time.Microsecond)
	r.drops = segment.Drops{}
}

// release takes the oldest batch out: the writer is done with it.
func (r *ring) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.queue[0]
	r.queue = append(r.queue[:0], r.queue[1:]...)
	r.bytes -= b.size()
	r.waiting--
	b.reset()
	if cap(b.block.Data)+cap(b.block.Noise)+cap(b.block.Sent) <= 4*batchBytes && len(r.free) < ringBytes/batchBytes {
		r.free = append(r.free, b)
	}
	r.space.Broadcast()
}

// stop lets waiting readers go.
func (r *ring) stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.space.Broadcast()
	r.notify()
}
