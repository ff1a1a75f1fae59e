package autopilot

import (
	"fmt"
	"strings"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/storage/segment"
)

const (
	paramSettle  = 5 * time.Second         // after the first change, until it is written
	paramSilence = 2 * time.Second         // without any parameter, until it is asked again
	paramEvery   = 50 * time.Millisecond   // between two requests of missing ones
	paramTries   = 6                       // rounds without anything new, until it is given up
	paramRound   = 1500 * time.Millisecond // from the last request of a round to the next round
	paramPause   = 30 * time.Second        // between two files, but at arming
	maxParams    = 16384
	noIndex      = 65535 // of a PARAM_VALUE that was not asked by index
	// counters is how ArduPilot's run time and boot count begin: they change by themselves, all
	// the time, which is no change.
	counters = "STAT_"
	// namesTold is how many names an event has at most.
	namesTold = 8
)

// param is a parameter as PARAM_VALUE gave it.
type param struct {
	value float32
	kind  common.MAV_PARAM_TYPE
}

// paramState is where the transfer of all parameters stands.
type paramState uint8

const (
	paramsWanted  paramState = iota // to be asked when that is allowed
	paramsListed                    // the list was asked
	paramsFilling                   // missing ones are asked by index
	paramsDone                      // all are there, or the rest was given up
)

// params keeps all parameters, and writes them into the record at arming and after changes
// (https://mavlink.io/en/services/parameter.html).
type params struct {
	p       *Part
	state   paramState
	values  map[string]param
	have    []bool // by index
	count   int    // of have that are true
	next    time.Duration
	tries   int
	cursor  int // the index that is looked at next in a round
	news    bool
	gaveUp  bool
	changed time.Duration // of the first change that was not written
	dirty   bool
	written time.Duration
	touched []string // names of parameters that changed since then
	file    pending
}

func newParams(p *Part) *params { return &params{p: p, values: map[string]param{}} }

// rebooted asks anew; what is known is kept until then.
func (s *params) rebooted() {
	s.state, s.tries, s.next, s.have, s.count, s.gaveUp = paramsWanted, 0, 0, nil, 0, false
}

// armed writes what is known; nothing is asked.
func (s *params) armed(on bool) {
	if on && len(s.values) > 0 {
		s.write()
	}
}

func (s *params) handle(m message.Message, _ *entry) {
	v, ok := m.(*common.MessageParamValue)
	if !ok || v.ParamId == "" || len(s.values) >= maxParams {
		return
	}
	// PX4 adds a checksum over all of them, which is no parameter.
	if v.ParamId == "_HASH_CHECK" {
		return
	}
	s.keep(v)
	s.index(v)
}

// keep takes the value.
func (s *params) keep(v *common.MessageParamValue) {
	now := param{v.ParamValue, v.ParamType}
	old, known := s.values[v.ParamId]
	if known && old.same(now) {
		return
	}
	s.values[v.ParamId] = now
	if strings.HasPrefix(v.ParamId, counters) && known {
		return
	}
	if !s.dirty {
		s.dirty, s.changed = true, s.p.now
	}
	if known {
		s.touched = append(s.touched, paramName(v.ParamId))
	}
}

// index notes that a parameter of the list came.
func (s *params) index(v *common.MessageParamValue) {
	total, i := int(v.ParamCount), int(v.ParamIndex)
	if i == noIndex || i >= total || total > maxParams || s.state == paramsWanted {
		return
	}
	if len(s.have) != total {
		s.have, s.count = make([]bool, total), 0
	}
	if !s.have[i] {
		s.have[i], s.news = true, true
		s.count++
	}
	if s.state == paramsListed {
		s.next = s.p.now + paramSilence
	}
	if s.count == total && s.state != paramsDone {
		s.done("")
	}
}

func (s *params) step(now time.Duration) time.Duration {
	due := s.file.step(s.p, now)
	if s.dirty && s.state == paramsDone {
		at := max(s.changed+paramSettle, s.written+paramPause)
		if now >= at {
			s.write()
		}
		due = min(due, max(at, now+time.Millisecond))
	}
	if s.state == paramsDone || !s.p.pilot.mayAsk() {
		return due
	}
	if now >= s.next {
		s.ask(now)
	}
	return min(due, s.next)
}

// ask sends the next request.
func (s *params) ask(now time.Duration) {
	switch {
	case s.state == paramsWanted, s.state == paramsListed && len(s.have) == 0:
		if s.tries++; s.tries > paramTries {
			s.done("no answer")
			return
		}
		s.state, s.next = paramsListed, now+paramSilence
		s.p.tell(&common.MessageParamRequestList{TargetSystem: s.p.pilot.system, TargetComponent: allow.ComponentAutopilot})
	case s.state == paramsListed:
		s.state, s.tries, s.cursor, s.news, s.next = paramsFilling, 0, 0, false, now
		fallthrough
	default:
		s.fill(now)
	}
}

// fill asks for the next missing parameter of this round.
func (s *params) fill(now time.Duration) {
	for ; s.cursor < len(s.have); s.cursor++ {
		if s.have[s.cursor] {
			continue
		}
		s.p.tell(&common.MessageParamRequestRead{TargetSystem: s.p.pilot.system, TargetComponent: allow.ComponentAutopilot,
			ParamIndex: int16(s.cursor)})
		s.cursor++
		s.next = now + paramEvery
		return
	}
	if s.tries++; s.news {
		s.tries = 0
	}
	s.cursor, s.news, s.next = 0, false, now+paramRound
	if s.tries >= paramTries {
		s.done(fmt.Sprintf("%d of %d did not come", len(s.have)-s.count, len(s.have)))
	}
}

// done ends the transfer; why is set where something is missing.
func (s *params) done(why string) {
	s.state = paramsDone
	s.gaveUp = why != ""
	if s.gaveUp {
		s.p.event("parameters_incomplete", why)
	}
	if len(s.values) > 0 {
		s.write()
	}
}

// write puts all that is known into the record.
func (s *params) write() {
	s.dirty, s.written = false, s.p.now
	if n := len(s.touched); n > 0 {
		s.p.event("parameters_changed", fmt.Sprintf("%d: %s", n, strings.Join(s.touched[:min(n, namesTold)], ", ")))
		s.touched = nil
	}
	s.file.put(s.p, segment.KindParams, "param", "parameters.param", paramFile(s))
}

// complete tells whether every parameter of the autopilot is known.
func (s *params) complete() bool { return s.state == paramsDone && !s.gaveUp }

// paramName makes a name that came over the wire fit to be written.
func paramName(name string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r
		}
		return '?'
	}, name)
}
