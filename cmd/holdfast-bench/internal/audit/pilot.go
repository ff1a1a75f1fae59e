package audit

import (
	"time"

	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// pilot does with a vault what the recorder does: entries arrive at their own pace, wait for the
// flush interval, are appended and flushed; clean-up is done when no flush is due.
type pilot struct {
	v     *vault.Vault
	now   *time.Duration
	start time.Duration // when the first entry arrives
	base  uint64        // its number
	next  uint64        // number of the next entry to be appended
	// durable: every entry below was flushed with success.
	durable  uint64
	want     vault.Kind
	steady   bool          // a record of the wanted kind is open and was flushed to
	since    time.Duration // since when it is so
	retryAt  time.Duration
	nextRoom time.Duration
	faults   int
	ends     func(error) bool // ends the run where it returns true; other faults are met
}

// period is the time between two entries.
const period = 10 * time.Millisecond

type phase struct {
	kind vault.Kind
	last time.Duration
}

// arrived returns the number behind the newest entry that has arrived.
func (p *pilot) arrived() uint64 { return p.base + uint64((*p.now-p.start)/period) }

// at is when entry n arrived.
func (p *pilot) at(n uint64) time.Duration { return p.start + time.Duration(n-p.base+1)*period }

// run does the phases and ends the record.
func (p *pilot) run(phases ...phase) error {
	for _, ph := range phases {
		p.want, p.steady = ph.kind, false
		p.v.SetArmed(ph.kind == vault.Flight)
		for end := *p.now + ph.last; *p.now < end; {
			if err := p.tick(); err != nil && p.fault(err) {
				return err
			}
		}
	}
	if err := p.drain(); err != nil && p.fault(err) {
		return err
	}
	p.steady = false
	return p.v.End()
}

// fault backs off as the recorder does.
func (p *pilot) fault(err error) bool {
	p.faults++
	p.retryAt = *p.now + 250*time.Millisecond
	return p.ends(err)
}

func (p *pilot) tick() error {
	now := *p.now
	if now >= p.nextRoom {
		p.nextRoom = now + time.Second
		if err := p.v.Room(); err != nil {
			return err
		}
		if err := p.v.Prepare(); err != nil {
			return err
		}
	}
	if p.due() {
		return p.drain()
	}
	left := time.Second
	if p.durable < p.arrived() {
		left = p.at(p.durable) + p.v.Interval() - now
	}
	if !p.v.StepWithin(left) {
		*p.now = max(*p.now, now+period)
	}
	return nil
}

func (p *pilot) due() bool {
	if *p.now < p.retryAt || p.durable >= p.arrived() {
		return false
	}
	if p.v.Record().Number != 0 && p.v.Record().Kind != p.want { // a change of the arm bit wakes the recorder
		return true
	}
	return *p.now >= p.at(p.durable)+p.v.Interval()
}

// drain makes what has arrived durable, in a record of the kind that is wanted.
func (p *pilot) drain() error {
	if was := p.v.Record(); was.Kind != p.want {
		if err := p.change(was); err != nil {
			return err
		}
	}
	if err := p.append(); err != nil {
		return err
	}
	if err := p.v.Flush(); err != nil {
		return err
	}
	p.durable = p.next
	if !p.steady {
		p.steady, p.since = true, *p.now
	}
	return nil
}

// change begins the next record: what has come until now belongs to the old one.
func (p *pilot) change(was vault.RecordID) error {
	if was.Number != 0 {
		if err := p.append(); err != nil {
			return err
		}
	}
	if was.Kind == vault.Flight && p.durable < p.next {
		if err := p.v.Flush(); err != nil {
			return err
		}
		p.durable = p.next
	}
	return p.v.Begin(p.want, vault.RecordID{})
}

func (p *pilot) append() error {
	to := p.arrived()
	if p.next >= to {
		return nil
	}
	var data []byte
	n := p.next
	for ; n < to; n++ {
		data = appendEntry(data, n)
	}
	b := segment.Block{Meta: segment.Meta{Frames: int(n - p.next)}, Data: data}
	p.next = n
	return p.v.Append(&b)
}

// promised returns the number behind the newest entry that a cut at this time may not cost:
// 250 ms while armed, 1 s else.
func (p *pilot) promised(cut time.Duration) uint64 {
	age := time.Second
	if p.want == vault.Flight && p.steady && cut-p.since > age {
		age = 250 * time.Millisecond
	}
	n := p.durable
	for p.at(n) <= cut-age {
		n++
	}
	return n
}
