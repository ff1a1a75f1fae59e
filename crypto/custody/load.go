package custody

import (
	"errors"
	"fmt"
	"io"
)

// State is where a log is gone on with.
type State struct {
	Frontier *Frontier // of all whole leaves of log.bin
	Bytes    int64     // that they take; the caller cuts log.bin to it
	Torn     int64     // bytes behind them
	Boot     int64     // the last boot's number, 0 where there is none
	Next     int64     // number of the next record, from 1
	Live     []string  // records that have not ended, by number
	Deleting []string  // records with a leaf X deleted whose folder may still be there, by number

	Newest *Checkpoint // nil where no slot holds a valid one
	Signed int64       // leaves that Newest counts
	Slots  string      // SlotsGood and so on

	// Lost means that log.bin is shorter than Newest says: leaves that were signed are gone. All
	// of the above but Newest, Signed, Slots and Next is then what log.bin says. The caller keeps
	// the old log.bin aside.
	Lost bool

	slot  int // that holds Newest; -1 without
	track tracker
}

// Load finds where to go on. slots are the contents of cp.A and cp.B, nil where there is none;
// size is the length of log.bin, and open returns a reader of it from an offset. It reads
// only what the newest checkpoint does not count: all of log.bin where there is no valid one,
// or where log.bin is shorter than it says.
//
// All of it may be hostile. What is no valid checkpoint of this device makes its slot bad,
// what is no whole and canonical leaf ends the log; an error is one of open or of its reader.
// Load takes a checkpoint's word for what it counts, and its key for good: whether the log is
// right is for a verifier to say, who begins at its first leaf.
func Load(device string, slots [2][]byte, size int64, open func(offset int64) (io.Reader, error)) (*State, error) {
	st := &State{Frontier: &Frontier{}, slot: -1, track: newTracker(1, nil, nil)}
	valid := st.readSlots(device, slots)
	c := st.Newest
	switch {
	case c == nil:
	case c.LogBytes > size:
		st.Lost = true
		st.track.next = c.Next // a number is never used twice
	default:
		st.Frontier, _ = NewFrontier(c.Size, c.Frontier) // wellFormed has passed it
		st.Bytes, st.Boot = c.LogBytes, c.Boot
		st.track = newTracker(c.Next, c.Live, c.Deleting)
	}
	records, err := st.readLog(size, open)
	if err != nil {
		return nil, err
	}
	st.Torn = size - st.Bytes
	st.Slots = slotsWord(valid, records)
	st.Next, st.Live, st.Deleting = st.track.next, st.track.live.list(), st.track.deleting.list()
	return st, nil
}

// readSlots finds the newest checkpoint, and returns how many slots hold a valid one.
func (st *State) readSlots(device string, slots [2][]byte) (valid int) {
	for i, msg := range slots {
		c, err := ParseCheckpoint(msg)
		if err != nil || c.Device != device || !c.wellFormed() {
			continue
		}
		valid++
		if st.Newest == nil || st.Newest.before(c) {
			st.Newest, st.Signed, st.slot = c, c.Size, i
		}
	}
	return valid
}

// wellFormed tells whether the numbers of c can be those of one log.
func (c *Checkpoint) wellFormed() bool {
	f, err := NewFrontier(c.Size, c.Frontier)
	return err == nil && f.Root() == c.Root && c.Size > 0 && c.Boot > 0 && c.Next > 0 &&
		c.LogBytes >= c.Size*(leafHead+minBody+leafTail)
}

// before orders checkpoints by leaves, then boot, then time.
func (c *Checkpoint) before(d *Checkpoint) bool {
	switch {
	case c.Size != d.Size:
		return c.Size < d.Size
	case c.Boot != d.Boot:
		return c.Boot < d.Boot
	}
	return c.T < d.T
}

// readLog goes on from st.Bytes up to the first bytes that are no leaf, and tells whether there
// was a leaf other than B, L and E.
func (st *State) readLog(size int64, open func(int64) (io.Reader, error)) (records bool, err error) {
	from := st.Bytes
	if from >= size {
		return false, nil
	}
	file, err := open(from)
	if err != nil {
		return false, fmt.Errorf("open log: %w", err)
	}
	r := NewReader(io.LimitReader(file, size-from))
	for {
		l, err := r.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, ErrLeaf) {
			return records, nil
		}
		if err != nil {
			return false, err
		}
		e, err := l.Entry()
		if err != nil {
			return records, nil
		}
		st.take(l, e)
		st.Bytes = from + r.Offset()
		records = records || l.Kind != KindBoot && l.Kind != KindLock && l.Kind != KindEpoch
	}
}

func (st *State) take(l Leaf, e Entry) {
	st.Frontier.Add(l.Hash())
	st.track.apply(e)
	if b, ok := e.(*Boot); ok {
		st.Boot = b.Boot
	}
}

func slotsWord(valid int, records bool) string {
	switch {
	case valid == 2:
		return SlotsGood
	case valid == 1:
		return SlotsTorn
	case records:
		return SlotsBad
	}
	return SlotsNone
}
