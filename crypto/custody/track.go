package custody

import (
	"cmp"
	"slices"
	"strconv"
)

// maxTracked bounds how many names a list of records may hold in memory. A recorder has a
// handful.
const maxTracked = 1 << 16

// records is a set of names of records.
type records map[string]struct{}

func (r records) add(name string) {
	if len(r) < maxTracked {
		r[name] = struct{}{}
	}
}

// list returns the names in the order of their numbers.
func (r records) list() []string {
	names := make([]string, 0, len(r))
	for name := range r {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(a[1:], b[1:]), cmp.Compare(a, b))
	})
	return names
}

// newest returns the names that a checkpoint lists: those that fit.
func (r records) newest() []string {
	names := r.list()
	return names[max(0, len(names)-maxNames):]
}

func recordsOf(names []string) records {
	r := make(records, len(names))
	for _, name := range names {
		r.add(name)
	}
	return r
}

// recordNumber is that in the name of a record.
func recordNumber(record string) int64 {
	n, _ := strconv.ParseInt(record[1:], 10, 64) // IsRecord has passed it
	return n
}

// tracker follows what leaves say of records. It refuses nothing: that is Verify's.
type tracker struct {
	next           int64 // number of the next record
	live, deleting records
}

func newTracker(next int64, live, deleting []string) tracker {
	return tracker{next, recordsOf(live), recordsOf(deleting)}
}

func (t *tracker) apply(e Entry) {
	switch e := e.(type) {
	case *FlightKey:
		t.next = max(t.next, recordNumber(e.Record)+1)
		t.live.add(e.Record)
	case *Recovered:
		delete(t.live, e.Record)
	case *Ended:
		delete(t.live, e.Record)
	case *Lost:
		t.lost(e)
	}
}

func (t *tracker) lost(e *Lost) {
	switch {
	case e.Why == WhyDeleted:
		delete(t.live, e.Record)
		t.deleting.add(e.Record)
	case e.Why == WhyUndone && e.Segment == "":
		t.next = max(t.next, recordNumber(e.Record)+1)
		delete(t.live, e.Record)
	}
}
