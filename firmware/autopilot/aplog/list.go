package aplog

import (
	"cmp"
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
	listed bool   // LOG_ENTRY named it, so LOG_REQUEST_DATA brings it
	of     string // the flight it is about
	age    int    // of the logs that came since the list before: 0 the newest; -1: not one of them
	// stream is the streamed copy of the log; nil: there is none.
	stream *streamed
}

func (e entry) key() key { return key{e.id, e.utc, uint32(e.size)} }

// lister collects the entries that LOG_REQUEST_LIST brings, and asks again for what is missing.
// ArduPilot counts its logs from 1, oldest first; PX4 from 0, as they lie in the folder
// (https://github.com/ArduPilot/ardupilot/blob/master/libraries/AP_Logger/AP_Logger_MAVLinkLogTransfer.cpp,
// https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/mavlink/mavlink_log_handler.cpp).
type lister struct {
	l      *Logs
	got    map[uint16]entry
	num    int // logs there are; -1: nobody said yet
	first  uint16
	asked  bool
	lastAt time.Duration // of the request or the newest entry
	fresh  bool
	tries  int
	until  time.Duration // whatever comes, it ends then
}

// listTimeout is long: ArduPilot looks at each file before it answers for it.
const (
	listTimeout = time.Second
	listTries   = 10
	listLongest = 5 * time.Minute
)

func (l *Logs) newLister() *lister {
	s := &lister{l: l, got: map[uint16]entry{}, num: -1}
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
	if n := int(m.NumLogs); n != s.num {
		// A log came or went: what was said before is about another list.
		clear(s.got)
		s.num, s.fresh = n, true
	}
	at := int(m.Id) - int(s.first)
	if at < 0 || at >= s.num || len(s.got) >= maxEntries {
		return
	}
	if _, had := s.got[m.Id]; !had {
		s.got[m.Id], s.fresh = entry{id: m.Id, utc: m.TimeUtc, size: int64(m.Size), listed: true}, true
	}
}

// missing is the span of ids that have not come. Of more than maxEntries only the newest count.
func (s *lister) missing() (from, to uint16, none bool) {
	if s.num < 0 {
		return 0, 0xffff, false
	}
	none = true
	for i := max(0, s.num-maxEntries); i < s.num; i++ {
		id := s.first + uint16(i)
		if _, had := s.got[id]; had {
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
		return true, s.num >= 0, now
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
	out := make([]entry, 0, len(s.got))
	for _, e := range s.got {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int {
		if s.l.flavour == PX4 && a.utc != b.utc {
			return cmp.Compare(b.utc, a.utc)
		}
		return cmp.Compare(b.id, a.id)
	})
	return out
}
