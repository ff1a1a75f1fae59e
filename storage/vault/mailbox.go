package vault

import (
	"io"
	"slices"
	"sync"
	"time"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
)

// mediaAnswer is how long the end of a record waits for Media.
const mediaAnswer = 2 * time.Second

// place is what Media needs to know of the record that it writes into. But for what the mailbox
// guards, the counters are those of the goroutine of Media.
type place struct {
	rec      *record
	to       map[byte]age.Recipient
	segments map[byte]int // highest number
	blocks   map[byte]uint64
	refused  map[byte]bool // the last segment was, and leaf X says so

	header  segment.Header // mailbox.mu
	using   int            // mailbox.mu: segments that are open, and calls that may begin one
	retired bool           // mailbox.mu: no call begins one any more
}

// mediaSegment is a segment as both goroutines know it.
type mediaSegment struct {
	*place
	letter byte
	number int

	synced durable // mailbox.mu
}

type mediaKind int

const (
	mediaOpened mediaKind = iota
	mediaSealed
	mediaFailed
	mediaRefused
	mediaUndone
)

// mediaEvent is what the public log must hear of a segment.
type mediaEvent struct {
	kind  mediaKind
	seg   *mediaSegment
	span  span
	cause string
}

// mailbox lies between the goroutine of Media and that of the vault. It is empty and ready where
// notify and wake are set.
type mailbox struct {
	notify func()
	wake   chan struct{}

	mu     sync.Mutex
	place  *place // where segments are begun; nil: nowhere
	events []mediaEvent
	waits  int       // segments that no leaf C or X names
	grew   bool      // the durable part of one has, since grown was called
	held   int       // what is in use of places that are retired
	idle   func()    // called once, when that is nothing
	lock   io.Closer // of the vault, which was closed meanwhile: closed then, too
}

// enter returns where segments are begun, and keeps its record from being ended until leave.
func (b *mailbox) enter() *place {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.place != nil {
		b.place.using++
	}
	return b.place
}

// begin keeps a record from being ended while a segment is open.
func (b *mailbox) begin(p *place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.using++
	b.waits++
	if p.retired {
		b.held++
	}
}

// leave takes back an enter or a begin.
func (b *mailbox) leave(p *place) {
	if p == nil {
		return
	}
	b.mu.Lock()
	p.using--
	var idle func()
	var lock io.Closer
	if p.retired {
		if b.held--; b.held == 0 {
			idle, lock, b.idle, b.lock = b.idle, b.lock, nil, nil
		}
	}
	left := p.retired && p.using == 0
	b.mu.Unlock()
	if idle != nil {
		idle()
	}
	if lock != nil {
		_ = lock.Close()
	}
	if left {
		b.tell()
	}
}

func (b *mailbox) tell() {
	if b.notify != nil {
		b.notify()
	}
}

// now returns where segments are begun.
func (b *mailbox) now() *place {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.place
}

// mayBegin tells whether a checkpoint has room for one segment more.
func (b *mailbox) mayBegin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waits < maxMediaSegments
}

// named takes a segment from those that wait; stays says that its open line does not go.
func (b *mailbox) named(stays bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !stays {
		b.waits--
	}
}

// post hands an event over.
func (b *mailbox) post(e mediaEvent) {
	b.mu.Lock()
	b.events = append(b.events, e)
	b.mu.Unlock()
	b.tell()
}

// take returns the events since the last call, in order.
func (b *mailbox) take() (events []mediaEvent, grew bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events, grew = b.events, b.grew
	b.events, b.grew = nil, false
	return events, grew
}

// durable notes what a sync has covered.
func (b *mailbox) durable(s *mediaSegment, d durable) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.synced, b.grew = d, true
}

// syncedOf returns what syncs have covered.
func (b *mailbox) syncedOf(s *mediaSegment) durable {
	b.mu.Lock()
	defer b.mu.Unlock()
	return s.synced
}

// header returns the header of a segment.
func (b *mailbox) header(s *mediaSegment) *segment.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := s.place.header
	h.Stream, h.Segment = string(s.letter), s.number
	return &h
}

// move says where segments are begun from now on, and tells Media to end the others.
func (b *mailbox) move(p *place) {
	b.mu.Lock()
	if b.place != nil {
		b.place.retired = true
		b.held += b.place.using
	}
	b.place = p
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// left tells that Media writes nothing into the record of a place any more.
func (b *mailbox) left(p *place) bool {
	if p == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return p.retired && p.using == 0
}

// moveMedia has Media write into a record, or into none.
func (v *Vault) moveMedia(r *record) {
	if v.media == nil {
		return
	}
	if r == nil {
		v.media.box.move(nil)
		return
	}
	r.media = &place{rec: r, to: map[byte]age.Recipient{}, segments: map[byte]int{}, blocks: map[byte]uint64{}, refused: map[byte]bool{}, header: *r.t.header(0)}
	for _, letter := range []byte{segment.StreamVideo, segment.StreamPhoto} {
		r.media.to[letter] = r.recipient(letter)
	}
	v.media.box.move(r.media)
}

// headMedia gives Media the header that holds from now on.
func (v *Vault) headMedia() {
	if v.media == nil || v.rec == nil {
		return
	}
	b := &v.media.box
	b.mu.Lock()
	defer b.mu.Unlock()
	v.rec.media.header = *v.rec.t.header(0)
}

// awaitMedia waits until Media has ended its segments of records that have ended, for a while.
func (v *Vault) awaitMedia() {
	if v.media == nil {
		return
	}
	idle := make(chan struct{})
	if v.media.box.whenIdle(func() { close(idle) }) {
		select {
		case <-idle:
		case <-time.After(mediaAnswer):
		}
	}
	v.endRecords()
}

// whenIdle has do called when all retired places are left, where they are not: then busy is true.
func (b *mailbox) whenIdle(do func()) (busy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == 0 {
		return false
	}
	b.idle = do
	return true
}

// closeMedia gives the lock of the vault up, where Media does not answer when it does: until then
// it may still write, and nobody else must call what it writes whole.
func (v *Vault) closeMedia(lock io.Closer) error {
	if v.media == nil {
		return lock.Close()
	}
	b := &v.media.box
	b.mu.Lock()
	held := b.held > 0
	if held {
		b.lock = lock
	}
	b.mu.Unlock()
	if held {
		return nil
	}
	return lock.Close()
}

// mediaStep takes what Media says, and ends records that it has left.
func (v *Vault) mediaStep() {
	if v.media == nil {
		return
	}
	if v.drainMedia(); len(v.ending) > 0 {
		v.endRecords()
	}
}

// drainMedia adds the leaves of what Media says, in memory.
func (v *Vault) drainMedia() {
	if v.media == nil {
		return
	}
	events, grew := v.media.box.take()
	for _, e := range events {
		v.hearMedia(e)
	}
	if grew {
		v.flushes++ // the open lines of the next checkpoint say more
	}
}

// hearMedia adds the leaves of one event.
func (v *Vault) hearMedia(e mediaEvent) {
	s := e.seg
	r, name := s.rec, segmentName(s.letter, s.number)
	switch e.kind {
	case mediaOpened:
		r.top[string(s.letter)] = int64(s.number)
		v.log.add(&custody.Opened{Record: r.id.String(), Segment: name})
		v.mediaOpen = append(v.mediaOpen, s)
	case mediaSealed:
		v.forgetMedia(s)
		d := v.media.box.syncedOf(s)
		v.queue(&closeJob{rec: r, stream: s.letter, dir: v.path(r.id.String()), number: s.number, durable: d, closed: d, span: e.span,
			second: true, state: closeRename})
	case mediaFailed:
		v.forgetMedia(s)
		d := v.media.box.syncedOf(s)
		v.log.add(lostLeaf(r.id, s.letter, s.number, &d))
		v.log.want()
		v.media.box.named(false)
		v.event("segment_failed", e.cause)
	case mediaRefused:
		v.event("media_refused", string(s.letter))
		v.refusedLeaves(r, s.letter, s.number)
	case mediaUndone:
		v.log.add(&custody.Lost{Record: r.id.String(), Segment: name, Why: custody.WhyUndone})
	}
}

func (v *Vault) forgetMedia(s *mediaSegment) {
	v.mediaOpen = slices.DeleteFunc(v.mediaOpen, func(o *mediaSegment) bool { return o == s })
}

// eachMedia calls do for each segment of Media that has a leaf O and is being written.
func (v *Vault) eachMedia(do func(s *mediaSegment, d *durable)) {
	for _, s := range v.mediaOpen {
		d := v.media.box.syncedOf(s)
		do(s, &d)
	}
}
