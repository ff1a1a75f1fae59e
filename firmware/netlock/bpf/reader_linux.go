package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// The number of lost refusals is looked at so often while events come, and once more when none
// has come for so long: a program may be held up between finding the buffer full and counting.
const lostEvery = 50 * time.Millisecond

// A flood must not cost a wake-up for each of its attempts. After a burst within window the
// reader waits for pause and takes what has come together. At most a ring full is read in that
// time, which bounds the cost; the rest is counted.
const (
	burst  = 100
	window = 100 * time.Millisecond
	pause  = 20 * time.Millisecond
)

// Reader hands refusals to a function, from one goroutine of its own.
type Reader struct {
	ring  *ringbuf.Reader
	state *state
	hooks []Hook
	give  func(Event)
	once  sync.Once
	stop  chan struct{}
	done  chan struct{}
	err   error // set before done is closed
}

func newReader(s *state, of []Hook, give func(Event)) (*Reader, error) {
	if s.ring == nil {
		return nil, ErrNoEvents
	}
	ring, err := ringbuf.NewReader(s.ring)
	if err != nil {
		return nil, fmt.Errorf("ring buffer: %w", err)
	}
	r := &Reader{ring: ring, state: s, hooks: of, give: give, stop: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r, nil
}

// Close stops reading and waits until give has returned. What is in the buffer then stays there
// for the next Reader. It returns why reading stopped, if that was an error.
func (r *Reader) Close() error {
	r.once.Do(func() { close(r.stop) })
	err := r.ring.Close()
	<-r.done
	return errors.Join(r.err, err)
}

// Done is closed when reading has stopped, by Close or by an error.
func (r *Reader) Done() <-chan struct{} { return r.done }

func (r *Reader) run() {
	defer close(r.done)
	var rec ringbuf.Record
	n, start, looked := 0, time.Now(), time.Now()
	// What came before this reader wakes nobody, and what was lost is told.
	r.ring.SetDeadline(time.Now())
	for {
		err := r.ring.ReadInto(&rec)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.giveLost()
			r.ring.SetDeadline(time.Time{})
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			return
		case err != nil:
			r.err = fmt.Errorf("ring buffer: %w", err)
			return
		}
		n++
		r.one(rec.RawSample)
		if rec.Remaining > 0 {
			continue
		}
		now := time.Now()
		if now.Sub(looked) >= lostEvery {
			r.giveLost()
			looked = now
		}
		r.ring.SetDeadline(now.Add(lostEvery))
		if n >= burst {
			if now.Sub(start) < window && !r.wait(pause) {
				return
			}
			n, start = 0, now
		}
	}
}

// one hands over a record. One that is not ours cannot come from our programs; it is told as a
// refusal of which nothing is known, so that the number is right.
func (r *Reader) one(p []byte) {
	e, err := Parse(p)
	if err != nil {
		e = Event{Nsec: bootNsec(), UID: -1, Hook: r.hooks[0], Count: 1, Lost: true}
	}
	r.give(e)
}

// giveLost tells how many refusals did not fit since it was last called, by this reader or by
// one before it.
func (r *Reader) giveLost() {
	for _, h := range r.hooks {
		lost, err := sum(r.state.lost, h)
		if err != nil || lost == 0 {
			continue
		}
		var given uint64
		if err := r.state.given.Lookup(uint32(h), &given); err != nil || lost <= given {
			continue
		}
		r.give(Event{Nsec: bootNsec(), UID: -1, Hook: h, Count: int64(lost - given), Lost: true})
		// If this fails they are told twice: rather that than never.
		_ = r.state.given.Put(uint32(h), lost)
	}
}

// wait returns false if the reader is to stop.
func (r *Reader) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.stop:
		return false
	}
}

func bootNsec() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // no kernel with ring buffers lacks this clock
	}
	return t.Nano()
}
