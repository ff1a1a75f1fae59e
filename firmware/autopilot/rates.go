package autopilot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink/names"
)

// Profiles are message rates in Hz by message id. Only what a profile names is set, on the
// autopilot's link to this board alone; "keep" sets nothing. "full" fits 921,600 baud, "survey"
// 115,200, "low" 57,600.
var Profiles = map[string]map[uint32]float64{
	"keep": {},
	"survey": {1: 1, 2: 1, 24: 5, 30: 10, 32: 5, 33: 5, 36: 2, 42: 1, 65: 2, 74: 4, 147: 1, 116: 2, 231: 1,
		230: 1, 241: 1, 245: 1, 242: 0.2},
	"full": {1: 2, 2: 2, 24: 10, 27: 25, 30: 50, 31: 25, 32: 25, 33: 10, 36: 10, 42: 2, 62: 10, 65: 10, 74: 10,
		83: 10, 85: 10, 116: 10, 129: 10, 147: 2, 168: 2, 193: 2, 225: 1, 230: 2, 231: 2, 241: 5, 242: 0.5, 245: 2, 290: 2, 291: 5, 11030: 5},
	"low": {1: 0.5, 2: 0.5, 24: 1, 30: 2, 32: 1, 33: 2, 36: 0.5, 42: 0.5, 65: 0.5, 74: 1, 147: 0.5, 241: 0.5, 245: 0.5, 242: 0.1},
}

const (
	rateTry   = time.Second
	rateTries = 4
	rateClose = 1.5 // how many times an interval may be what was asked
)

// rateResult is what became of one message's rate.
type rateResult uint8

const (
	rateOpen rateResult = iota
	rateVerified
	rateDiffers
	rateRefused
	rateUnanswered
)

// rates sets the intervals of a profile (MAV_CMD_SET_MESSAGE_INTERVAL,
// https://mavlink.io/en/mavgen_python/howto_requestmessages.html), one after the other, and asks
// whether they hold. An autopilot that does not know the command and is an ArduPilot is asked
// for data streams.
type rates struct {
	nothing
	p       *Part
	profile map[uint32]float64
	ids     []uint32
	at      int  // of ids
	verify  bool // the interval was set, and is asked back
	tries   int
	next    time.Duration
	results map[uint32]rateResult
	done    bool
}

func newRates(p *Part, profile map[uint32]float64) *rates {
	r := &rates{p: p, profile: profile, ids: slices.Sorted(maps.Keys(profile))}
	r.rebooted()
	return r
}

func (r *rates) rebooted() {
	r.at, r.verify, r.tries, r.next, r.results = 0, false, 0, 0, map[uint32]rateResult{}
	r.done = len(r.ids) == 0
}

func (r *rates) step(now time.Duration) time.Duration {
	if r.done || !r.p.pilot.mayAsk() {
		return now + idle
	}
	if now < r.next {
		return r.next
	}
	if r.tries++; r.tries > rateTries {
		r.settle(rateUnanswered)
		return now + time.Millisecond
	}
	id := r.ids[r.at]
	r.next = now + rateTry
	if r.verify {
		r.p.command(common.MAV_CMD_GET_MESSAGE_INTERVAL, r.tries-1, float32(id), 0)
	} else {
		r.p.command(common.MAV_CMD_SET_MESSAGE_INTERVAL, r.tries-1, float32(id), r.interval(id))
	}
	return r.next
}

// interval is what a profile wants for id, in microseconds.
func (r *rates) interval(id uint32) float32 { return float32(1e6 / r.profile[id]) }

func (r *rates) handle(m message.Message, _ *entry) {
	if r.done || r.tries == 0 {
		return
	}
	switch m := m.(type) {
	case *common.MessageCommandAck:
		r.acked(m)
	case *common.MessageMessageInterval:
		if r.verify && uint32(m.MessageId) == r.ids[r.at] {
			r.verified(m)
		}
	}
}

func (r *rates) acked(m *common.MessageCommandAck) {
	if m.TargetSystem != 0 && !r.p.forUs(m.TargetSystem, m.TargetComponent) {
		return
	}
	set := !r.verify && m.Command == common.MAV_CMD_SET_MESSAGE_INTERVAL
	get := r.verify && m.Command == common.MAV_CMD_GET_MESSAGE_INTERVAL
	switch {
	case set && m.Result == common.MAV_RESULT_ACCEPTED:
		r.verify, r.tries, r.next = true, 0, 0
	case set && m.Result == common.MAV_RESULT_UNSUPPORTED && r.at == 0 && r.p.pilot.flavour == ArduPilot:
		r.streams()
	case set && m.Result != common.MAV_RESULT_IN_PROGRESS && m.Result != common.MAV_RESULT_TEMPORARILY_REJECTED:
		r.settle(rateRefused)
	case get && (m.Result == common.MAV_RESULT_UNSUPPORTED || m.Result == common.MAV_RESULT_DENIED || m.Result == common.MAV_RESULT_FAILED):
		r.settle(rateUnanswered)
	}
}

func (r *rates) verified(m *common.MessageMessageInterval) {
	want := float64(r.interval(r.ids[r.at]))
	got := float64(m.IntervalUs)
	if got > 0 && got <= want*rateClose && got*rateClose >= want {
		r.settle(rateVerified)
		return
	}
	r.settle(rateDiffers)
}

// settle goes on to the next message.
func (r *rates) settle(result rateResult) {
	r.results[r.ids[r.at]] = result
	r.verify, r.tries, r.next = false, 0, 0
	if r.at++; r.at == len(r.ids) {
		r.done = true
		r.p.event("message_rates", r.summary())
	}
}

// summary says what became of all.
func (r *rates) summary() string {
	by := map[rateResult][]string{}
	for _, id := range r.ids {
		by[r.results[id]] = append(by[r.results[id]], names.MessageName(id))
	}
	text := fmt.Sprintf("%s: %d set", r.p.cfg.Rates, len(by[rateVerified]))
	for _, other := range []struct {
		result rateResult
		word   string
	}{{rateDiffers, "other than asked"}, {rateRefused, "refused"}, {rateUnanswered, "not confirmed"}} {
		if list := by[other.result]; len(list) > 0 {
			text += fmt.Sprintf("; %s: %s", other.word, strings.Join(list, ", "))
		}
	}
	return text
}

// streamOf groups messages as ArduPilot's streams do (MAV_DATA_STREAM).
var streamOf = map[common.MAV_DATA_STREAM][]uint32{
	common.MAV_DATA_STREAM_RAW_SENSORS:     {27, 29, 129, 116},
	common.MAV_DATA_STREAM_EXTENDED_STATUS: {1, 24, 42, 62},
	common.MAV_DATA_STREAM_RC_CHANNELS:     {36, 65},
	common.MAV_DATA_STREAM_POSITION:        {32, 33},
	common.MAV_DATA_STREAM_EXTRA1:          {30, 178},
	common.MAV_DATA_STREAM_EXTRA2:          {74},
	common.MAV_DATA_STREAM_EXTRA3:          {2, 147, 168, 193, 241},
}

// streams asks for the data streams of the profile, each at the greatest rate of its messages.
// Nothing confirms that.
func (r *rates) streams() {
	r.done = true
	for _, stream := range slices.Sorted(maps.Keys(streamOf)) {
		rate := 0.0
		for _, id := range streamOf[stream] {
			rate = max(rate, r.profile[id])
		}
		if rate > 0 {
			r.p.tell(&common.MessageRequestDataStream{TargetSystem: r.p.pilot.system, TargetComponent: allow.ComponentAutopilot,
				ReqStreamId: stream, ReqMessageRate: uint16(max(1, rate)), StartStop: 1})
		}
	}
	r.p.event("message_rates", r.p.cfg.Rates+": by data streams, not confirmed")
}
