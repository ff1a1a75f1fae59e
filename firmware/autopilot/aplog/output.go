package aplog

import (
	"time"

	"holdfast/storage/segment"
)

// output is one file that goes into the Store.
type output struct {
	store Store
	f     segment.File // what all its blocks say
	lost  []segment.Range
	told  int // how many of lost a block has told
	whole int64
	why   string
	last  uint64 // number of its newest block
	bytes int64
}

func (o *output) block(off int64, now time.Duration) segment.File {
	f := o.f
	f.Offset, f.BootUsec = off, now.Microseconds()
	if fresh := o.lost[o.told:]; len(fresh) > 0 {
		f.Lost, f.Why = fresh[:min(len(fresh), maxTold)], o.why
	}
	return f
}

// put hands over data that lies at off; false: the Store has no room now.
func (o *output) put(off int64, data []byte, now time.Duration) bool {
	if o.f.BeganUsec == 0 {
		o.f.BeganUsec = now.Microseconds()
	}
	f := o.block(off, now)
	if !o.hand(f, data) {
		return false
	}
	o.told += len(f.Lost)
	o.bytes += int64(len(data))
	return true
}

func (o *output) hand(f segment.File, data []byte) bool {
	n, ok := o.store.Put(f, data)
	if ok {
		o.last = n
	}
	return ok
}

// lose notes that a range of the file will not come, and why.
func (o *output) lose(from, to int64, why string) {
	if from >= to {
		return
	}
	o.why = why
	o.whole += to - from
	if n := len(o.lost); n > o.told && o.lost[n-1].To == from {
		o.lost[n-1].To = to
		return
	}
	o.lost = append(o.lost, segment.Range{From: from, To: to})
	o.trim()
}

// trim forgets ranges that blocks have told, when there are too many to repeat at the end.
func (o *output) trim() {
	if o.told > maxTold && len(o.lost) > 2*maxTold {
		o.lost = append([]segment.Range(nil), o.lost[o.told:]...)
		o.told = 0
	}
}

// end says that no more comes. size is that of the whole file, 0 if it is not known. It may be
// called again until it is true. The last block repeats all lost ranges where they are few.
func (o *output) end(size int64, why string, now time.Duration) bool {
	for len(o.lost)-o.told > maxTold {
		f := o.block(size, now)
		if !o.hand(f, nil) {
			return false
		}
		o.told += len(f.Lost)
	}
	f := o.block(size, now)
	if len(o.lost) <= maxTold {
		f.Lost = o.lost
	}
	if f.Why = o.why; why != "" {
		f.Why = why
	}
	f.Size, f.End = size, true
	return o.hand(f, nil)
}
