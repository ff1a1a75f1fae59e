package autopilot

import (
	"fmt"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/storage/segment"
)

// Bounds of a time that is believed: before 2020 an autopilot has no fix and counts from 1970.
const (
	earliestUTC = 1577836800_000_000 // 2020-01-01, in microseconds
	latestUTC   = 7258118400_000_000 // 2200-01-01
)

// What a clock pair may be wrong by, besides half of the round trip.
const (
	// gpsDoubt is assumed of the autopilot's UTC: it is set when a message of the GPS comes,
	// which is late by its own transport.
	gpsDoubt = 100 * time.Millisecond
	// transportDoubt is added as long as no round trip was measured: SYSTEM_TIME waits in buffers.
	transportDoubt = 200 * time.Millisecond
	// quantum is the step of SYSTEM_TIME's time since start.
	quantum = time.Millisecond
	// drift is how far two quartz clocks part, as a part of the time since they were compared.
	drift = 1e-4
)

const (
	syncFast   = time.Second
	syncSlow   = 10 * time.Second
	syncGood   = 10 // round trips until it is slow
	syncWait   = time.Second
	pairEvery  = time.Second
	clockJump  = time.Second
	syncWindow = 60 * time.Second // how long the best round trip counts
)

// clocks ties the board's clock, the autopilot's time since its start, and UTC to each other
// (https://mavlink.io/en/services/timesync.html). Nothing is ever stepped by it: pairs and
// events are evidence for whoever opens the record.
type clocks struct {
	p       *Part
	next    time.Duration
	asked   int64 // nanoseconds of the request that is out; 0: none
	good    int
	best    offset
	paired  time.Duration
	hasPair bool
	utc     int64 // UTC at the board's start, in microseconds, by the last SYSTEM_TIME; 0: none
	noTime  bool  // it was recorded that the autopilot does not know the time
}

// offset is the board's clock at the autopilot's start, with what it may be wrong by.
type offset struct {
	known bool
	start time.Duration
	doubt time.Duration
	at    time.Duration
}

// within returns the doubt at a later time.
func (o *offset) within(now time.Duration) time.Duration {
	return o.doubt + time.Duration(float64(now-o.at)*drift)
}

func (s *clocks) armed(bool) {}

func (s *clocks) rebooted() { s.good, s.best, s.asked, s.next = 0, offset{}, 0, 0 }

func (s *clocks) step(now time.Duration) time.Duration {
	if !s.p.pilot.found {
		return now + idle
	}
	interval := syncFast
	if s.good >= syncGood {
		interval = syncSlow
	}
	if every(&s.next, now, interval) {
		s.asked = max(1, int64(s.p.cfg.Now()))
		s.p.tell(&common.MessageTimesync{Ts1: s.asked})
	}
	return max(s.next, now+time.Millisecond)
}

func (s *clocks) handle(m message.Message, e *entry) {
	switch m := m.(type) {
	case *common.MessageTimesync:
		if m.Tc1 == 0 {
			s.answer(m)
		} else {
			s.answered(m, e.frame.At)
		}
	case *common.MessageSystemTime:
		s.systemTime(m, e)
	}
}

// answer tells the autopilot the board's time since its start.
func (s *clocks) answer(m *common.MessageTimesync) {
	if m.Ts1 > 0 {
		s.p.tell(&common.MessageTimesync{Tc1: max(1, int64(s.p.cfg.Now())), Ts1: m.Ts1})
	}
}

// answered takes a round trip: the autopilot's time lies between the board's two.
func (s *clocks) answered(m *common.MessageTimesync, at time.Duration) {
	trip := at - time.Duration(m.Ts1)
	if s.asked == 0 || m.Ts1 != s.asked || m.Tc1 < 0 || trip < 0 || trip > syncWait {
		return
	}
	s.asked = 0
	s.good++
	o := offset{known: true, start: time.Duration(m.Ts1) + trip/2 - time.Duration(m.Tc1), doubt: trip / 2, at: at}
	if !s.best.known || o.doubt <= s.best.within(at) || at-s.best.at > syncWindow {
		s.best = o
	}
}

// systemTime makes a clock pair of the autopilot's UTC.
func (s *clocks) systemTime(m *common.MessageSystemTime, e *entry) {
	if m.TimeUnixUsec < earliestUTC || m.TimeUnixUsec > latestUTC {
		if !s.noTime && s.utc == 0 {
			s.noTime = true
			s.p.event("autopilot_time_unknown", "")
		}
		return
	}
	at, doubt := s.taken(m, e.frame.At)
	s.jumped(int64(m.TimeUnixUsec)-at.Microseconds(), doubt)
	if s.hasPair && e.frame.At-s.paired < pairEvery {
		return
	}
	s.paired, s.hasPair = e.frame.At, true
	s.p.cfg.Record.Clock(segment.ClockPair{BootUsec: at.Microseconds(), UTCUsec: int64(m.TimeUnixUsec), Source: "autopilot",
		UncertaintyUsec: doubt.Microseconds(), Link: e.link})
}

// taken returns when SYSTEM_TIME was made, on the board's clock, and what the pair may be wrong
// by. A time that lies far from its arrival shows that the two clocks no longer
// run alike: then its arrival is all that is known, and the clocks are compared anew. What lies
// between it and its arrival may be either, and counts as doubt.
func (s *clocks) taken(m *common.MessageSystemTime, arrived time.Duration) (at, doubt time.Duration) {
	if s.best.known {
		at, doubt = s.best.start+time.Duration(m.TimeBootMs)*time.Millisecond, s.best.within(arrived)+quantum
		if late := max(arrived-at, at-arrived); late <= transportDoubt+doubt {
			return min(at, arrived), doubt + gpsDoubt + late
		}
		s.rebooted()
	}
	return arrived, gpsDoubt + transportDoubt
}

// jumped notes that the autopilot's UTC became known, or was stepped.
func (s *clocks) jumped(utc int64, doubt time.Duration) {
	was := s.utc
	s.utc = utc
	moved := utc - was
	switch {
	case was == 0:
		s.p.event("autopilot_time_known", fmt.Sprintf("within %d ms", doubt.Milliseconds()))
	case moved > clockJump.Microseconds():
		s.p.event("autopilot_time_jumped", fmt.Sprintf("%d ms forward", moved/1000))
	case -moved > clockJump.Microseconds():
		s.p.event("autopilot_time_jumped", fmt.Sprintf("%d ms back", -moved/1000))
	}
}
