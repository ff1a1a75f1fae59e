package netaudit

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// probe finds out what this kernel lacks.
func (b *board) probe() error {
	b.out.Lacks, b.out.Families = map[int]string{}, families()
	for i, a := range b.attacks {
		if a.lacks == nil {
			continue
		}
		if why := a.lacks(); why != "" {
			b.out.Lacks[i+1] = why
		}
	}
	return nil
}

// note keeps how an attack went wrong; the first word counts.
func (b *board) note(id int, err string) {
	err, _, _ = strings.Cut(err, " (MEMLOCK") // advice that does not apply
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out.Errs == nil {
		b.out.Errs = map[int]string{}
	}
	if b.out.Errs[id] == "" {
		b.out.Errs[id] = err
	}
}

// steady are the attacks that are no races.
func (b *board) steady(ids []int) []int {
	return slices.DeleteFunc(slices.Clone(ids), func(id int) bool { return b.attacks[id-1].race != nil })
}

// handle does what hands do.
func (b *board) handle() {
	for _, id := range b.steady(b.job.IDs) {
		if a := b.attacks[id-1]; a.hand != nil {
			if err := a.hand(b, b.trial(id)); err != nil {
				b.note(id, err.Error())
			}
		}
	}
}

// stimulate lets the far side send what attacks want sent.
func (b *board) stimulate() error {
	var frames []sent
	for _, id := range b.steady(b.job.IDs) {
		if a := b.attacks[id-1]; a.far != nil {
			frames = append(frames, a.far(id)...)
		}
	}
	// Twice: under a lock the second may meet what the first has changed.
	for range 2 {
		if len(frames) == 0 {
			break
		}
		if _, err := b.far.call(request{Op: "send", Frames: frames}); err != nil {
			return err
		}
		time.Sleep(breath)
	}
	return nil
}

// races repeats each race.
func (b *board) races() error {
	for _, id := range b.job.IDs {
		if b.attacks[id-1].race == nil {
			continue
		}
		if err := b.raceOf(id); err != nil {
			return fmt.Errorf("%s: %w", b.attacks[id-1].name, err)
		}
	}
	return nil
}

// raceLink is the name under which a link of a race is attacked.
const raceLink = "new0"

func (b *board) raceOf(id int) error {
	if _, err := b.inside.call(request{Op: "flood", IDs: []int{id}, Name: raceLink}); err != nil {
		return err
	}
	arrived := 0
	for k := range b.job.Repeats {
		t := b.trial(id)
		if err := b.attacks[id-1].race(b, t, k); err != nil {
			b.note(id, err.Error())
		}
		a, err := b.far.call(request{Op: "wait", IDs: []int{id}, Kinds: [][]string{b.attacks[id-1].want}, Names: []string{raceFar(id, k)}, Millis: int(settleRepeat.Milliseconds())})
		if err != nil {
			return err
		}
		arrived += len(a.Arrived)
		t.close()
	}
	if b.out.Repeats == nil {
		b.out.Repeats = map[int]int{}
	}
	b.out.Repeats[id] = arrived
	_, err := b.inside.call(request{Op: "calm"})
	return err
}

func raceFar(id, k int) string { return ownFar(id, "r"+strconv.Itoa(k)) }

// judge waits for what is still on its way, and counts.
func (b *board) judge() error {
	ids := b.steady(b.job.IDs)
	limit := settle
	q := request{Op: "wait", IDs: ids}
	for _, id := range ids {
		a := b.attacks[id-1]
		q.Kinds = append(q.Kinds, a.want)
		if a.hand != nil && len(a.links) > 0 {
			limit = settleLinks
		}
	}
	q.Millis = int(limit.Milliseconds())
	a, err := b.far.call(q)
	if err != nil {
		return err
	}
	b.out.Arrived = a.Arrived
	for id, n := range b.out.Repeats {
		if n > 0 {
			b.out.Arrived = append(b.out.Arrived, id)
		}
	}
	sort.Ints(b.out.Arrived)
	if _, err := b.inside.call(request{Op: "loopback", Name: "under the lock"}); err != nil {
		b.out.Loopback = err.Error()
	}
	if a, err = b.far.call(request{Op: "report"}); err != nil {
		return err
	}
	b.out.Seen, b.out.Lost = a.Seen, a.Lost
	return nil
}

// startFlood sends on a link of that name without a pause, in every way that the attacker may.
func (c *crew) startFlood(id int, name string) {
	c.flood.Store(true)
	t := c.trial(id)
	c.wg.Go(func() {
		for c.flood.Load() {
			floodOnce(t, name)
		}
	})
}

// floodOnce tries a message to a neighbour that must be asked for, one to all, and a raw frame.
func floodOnce(t *trial, name string) {
	index, err := linkIndex(name)
	if err != nil {
		nap()
		return
	}
	defer t.close()
	if fd, err := t.socket(unix.AF_INET6, unix.SOCK_DGRAM, 0); err == nil {
		to := &unix.SockaddrInet6{Port: sinkPort, ZoneId: uint32(index), Addr: [16]byte{0xff, 2, 15: 1}}
		_ = unix.Sendto(fd, t.mark(), 0, to) // refused, mostly
	}
	if fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
		if unix.BindToDevice(fd, name) == nil {
			_ = unix.Sendto(fd, t.mark(), 0, &unix.SockaddrInet4{Port: sinkPort, Addr: [4]byte{255, 255, 255, 255}}) // the same
		}
	}
	if fd, err := t.socket(unix.AF_PACKET, unix.SOCK_RAW, 0); err == nil {
		_ = unix.Sendto(fd, t.frame4(), 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6}) // the same
	}
	nap()
}

// nap lets others run.
func nap() { time.Sleep(100 * time.Microsecond) }
