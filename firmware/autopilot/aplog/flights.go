package aplog

import "slices"

// maxFlights bounds the flights that are remembered between two lists.
const maxFlights = 64

// flights tells which log is of which flight: those that came between two lists are of the flights
// that ended between them.
type flights struct {
	ended   []string       // since the newest list
	last    string         // the newest that a list has dealt with
	seen    map[key]string // the logs of the newest list, and their flights
	had     []entry        // the same
	hasSeen bool
}

// note remembers the newest flight that has ended. It is called at each arming and list.
func (f *flights) note(name string) {
	if name == "" || name == f.last || slices.Contains(f.ended, name) {
		return
	}
	f.ended = append(f.ended, name)
	f.ended = f.ended[max(0, len(f.ended)-maxFlights):]
}

// assign says of the logs of a list, the newest first, which flight they are about. Where as many
// came as flights ended, each has its own; otherwise only the newest of both are sure to belong
// together. What was said of a log before stays true, also of one that has grown since without a flight.
func (f *flights) assign(logs []entry) {
	fresh := f.fresh(logs)
	n := len(f.ended)
	for i := range logs {
		logs[i].of = f.before(logs[i], n)
	}
	for i, at := range fresh {
		if logs[at].age = i; n > 0 && (len(fresh) == n || i == 0) {
			logs[at].of = f.ended[n-1-i]
		}
	}
	if n > 0 {
		f.last, f.ended = f.ended[n-1], nil
	}
	f.hasSeen, f.seen = true, make(map[key]string, len(logs))
	f.had = append([]entry(nil), logs...)
	for _, e := range logs {
		f.seen[e.key()] = e.of
	}
}

// before is the flight that the list before gave a log, while n flights have ended since.
func (f *flights) before(e entry, n int) string {
	if of, ok := f.seen[e.key()]; ok || n > 0 {
		return of
	}
	for _, old := range f.had {
		if e.continues(old) {
			return old.of
		}
	}
	return ""
}

// continues tells whether e is the log old, which may have grown.
func (e entry) continues(old entry) bool {
	switch {
	case e.size < old.size:
		return false
	case e.moves && e.path != "" && old.path != "":
		return e.path == old.path
	case e.utc != 0 && e.utc == old.utc && e.size == old.size:
		return true
	}
	return e.id == old.id && e.num >= old.num && (!e.moves || e.num == old.num) // fewer: some were erased
}

// fresh are the indexes of logs that came or grew since the list before. In the first list of all
// only the newest log counts: how old the others are nobody knows.
func (f *flights) fresh(logs []entry) []int {
	var out []int
	for i := range logs {
		logs[i].age = -1
		if logs[i].size > 0 && !f.has(logs[i]) && (f.hasSeen || len(out) == 0) {
			out = append(out, i)
		}
	}
	return out
}

func (f *flights) has(e entry) bool {
	_, ok := f.seen[e.key()]
	return ok
}
