package aplog

import (
	"cmp"
	"maps"
	"slices"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
)

// entry is a log that the autopilot says it has.
type entry struct {
	id     uint16
	utc    uint32 // seconds since 1970 as the autopilot says; 0: it does not
	size   int64
	path   string // for FTP; "" where it is not known
	num    int    // of logs in its list
	moves  bool   // its number is no name: PX4 counts its logs anew with each list, in the order of the folder
	listed bool   // LOG_ENTRY named it, so LOG_REQUEST_DATA brings it
	of     string // the flight it is about
	age    int    // of the logs that came since the list before: 0 the newest; -1: not one of them
	// stream is the streamed copy of the log; nil: there is none.
	stream *streamed
}

// key leaves out a number that may be another log's tomorrow, where there is a time to go by.
func (e entry) key() key {
	if e.moves && e.utc != 0 {
		return key{0, e.utc, uint32(e.size)}
	}
	return key{e.id, e.utc, uint32(e.size)}
}

// lister collects the entries that LOG_REQUEST_LIST brings, and asks again for what is missing.
// ArduPilot counts its logs from 1, oldest first; PX4 from 0, as they lie in the folder
// (https://github.com/ArduPilot/ardupilot/blob/master/libraries/AP_Logger/AP_Logger_MAVLinkLogTransfer.cpp,
// https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/mavlink/mavlink_log_handler.cpp).
//
// Each entry says how many logs there are. Entries that disagree about it are kept apart, as lists
// of their own: a log came or went meanwhile, or one of them is damaged.
type lister struct {
	l      *Logs
	lists  []*logList
	first  uint16
	asked  bool
	lastAt time.Duration // of the request or the newest entry
	fresh  bool
	tries  int
	until  time.Duration // whatever comes, it ends then
}

// logList is a list of num logs, as far as it came.
type logList struct {
	num  int
	got  map[uint16]entry
	last time.Duration
}

// listTimeout is long: ArduPilot looks at each file before it answers for it.
const (
	listTimeout = time.Second
	listTries   = 10
	listLongest = 5 * time.Minute
	maxLists    = 4
)

func (l *Logs) newLister() *lister {
	s := &lister{l: l}
	if l.flavour == ArduPilot {
		s.first = 1
	}
	return s
}

func (s *lister) handle(m *ap.MessageLogEntry) {
	if !s.asked {
		return
	}
	s.lastAt = s.l.now
	if m.NumLogs == 0 {
		s.listOf(0) // with no logs there is no entry
		return
	}
	at := int(m.Id) - int(s.first)
	if at < 0 || at >= int(m.NumLogs) {
		return
	}
	list := s.listOf(int(m.NumLogs))
	if list == nil || len(list.got) >= maxEntries {
		return
	}
	if _, had := list.got[m.Id]; !had {
		list.got[m.Id], s.fresh = entry{id: m.Id, utc: m.TimeUtc, size: int64(m.Size), num: int(m.NumLogs), moves: s.l.flavour == PX4, listed: true}, true
	}
	list.last = s.l.now
}

// listOf is the list of num logs; nil: there are too many lists.
func (s *lister) listOf(num int) *logList {
	for _, list := range s.lists {
		if list.num == num {
			return list
		}
	}
	if len(s.lists) >= maxLists {
		return nil
	}
	list := &logList{num: num, got: map[uint16]entry{}}
	s.lists = append(s.lists, list)
	return list
}

// best is the list that lacks least; nil: nothing came.
func (s *lister) best() *logList {
	if len(s.lists) == 0 {
		return nil
	}
	return slices.MinFunc(s.lists, func(a, b *logList) int {
		return cmp.Or(cmp.Compare(a.lacks(), b.lacks()), cmp.Compare(b.last, a.last))
	})
}

func (l *logList) lacks() int { return min(l.num, maxEntries) - len(l.got) }

// missing is the span of ids that have not come. Of more than maxEntries only the newest count.
func (s *lister) missing() (from, to uint16, none bool) {
	list := s.best()
	if list == nil {
		return 0, 0xffff, false
	}
	none = true
	for i := max(0, list.num-maxEntries); i < list.num; i++ {
		id := s.first + uint16(i)
		if _, had := list.got[id]; had {
			continue
		}
		if none {
			from, none = id, false
		}
		to = id
	}
	return from, to, none
}

// step asks, waits and asks again. ok tells, once done, whether the autopilot answered at all.
func (s *lister) step(now time.Duration) (done, ok bool, next time.Duration) {
	from, to, none := s.missing()
	if none || s.tries >= listTries || (s.asked && now > s.until) {
		return true, len(s.lists) > 0, now
	}
	if s.asked && now-s.lastAt < listTimeout {
		return false, false, s.lastAt + listTimeout
	}
	if !s.l.ask(&ap.MessageLogRequestList{TargetSystem: s.l.system, TargetComponent: compAutopilot, Start: from, End: to}) {
		return false, false, now + outRetry
	}
	if !s.asked {
		s.until = now + listLongest
	}
	s.tries++
	if s.fresh {
		s.tries = 1
	}
	s.asked, s.fresh, s.lastAt = true, false, now
	return false, false, now + listTimeout
}

// entries returns what came, the newest first.
func (s *lister) entries() []entry {
	var out []entry
	if list := s.best(); list != nil {
		out = slices.Collect(maps.Values(list.got))
	}
	slices.SortFunc(out, func(a, b entry) int {
		if s.l.flavour == PX4 && a.utc != b.utc {
			return cmp.Compare(b.utc, a.utc)
		}
		return cmp.Compare(b.id, a.id)
	})
	return out
}
