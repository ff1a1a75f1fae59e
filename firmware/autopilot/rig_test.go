package autopilot_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink"
	"holdfast/mavlink/codec"
	"holdfast/storage/segment"
)

// delay is what a frame takes from one end of the line to the other.
const delay = 4 * time.Millisecond

// event is one that went into the record.
type event struct {
	at           time.Duration
	kind, detail string
}

// file is one that went into stream A.
type file struct {
	segment.File
	at   time.Duration
	text string
}

// sent is a message that left.
type sent struct {
	at   time.Duration
	comp uint8
	m    message.Message
}

// rig is a Part at one end of a line that loses frames, and a simulated autopilot at the other,
// on a clock that stands still unless the rig moves it.
type rig struct {
	t           *testing.T
	p           *autopilot.Part
	now         time.Duration
	next        time.Duration
	rand        *rand.Rand
	loss        float64
	codec       *codec.Codec
	list        *allow.List // a second one, which knows the true state of the vehicle
	queue       []flight    // frames on their way, in order of arrival
	seq         uint8
	mute        bool // the line takes no more
	expectOther bool // what leaves may still be for the autopilot before

	pilot  *fakePilot
	health autopilot.Health
	full   bool // the recorder has no room for a file

	override string
	lifted   bool

	events []event
	files  []file
	pairs  []segment.ClockPair
	out    []sent
	seqs   [][2]uint8 // component and sequence number of each frame
}

type flight struct {
	at   time.Duration
	up   bool // to the autopilot
	link int
	raw  []byte
}

func well() autopilot.Health {
	return autopilot.Health{Lock: true, Vault: true, Keys: true, Link: true, FreeBytes: 20 << 30, TotalBytes: 32 << 30,
		RAMBytes: 512 << 20, RAMUsed: 100 << 20, CPU: []uint8{10, 20, 30, 40}, Temperature: 50, HasTemperature: true}
}

func newRig(t *testing.T, pilot *fakePilot, cfg autopilot.Config, loss float64) *rig {
	r := &rig{t: t, now: 5 * time.Second, rand: rand.New(rand.NewPCG(7, 11)), loss: loss, codec: codec.New(), pilot: pilot, health: well()}
	r.list = allow.New(allow.Options{Rates: cfg.Rates != "" && cfg.Rates != "keep", EraseLogs: cfg.Erase, Veto: cfg.VetoOn, Camera: cfg.Camera})
	r.list.SetSystem(pilot.system)
	cfg.Out, cfg.Record = r, r
	cfg.Health = func() autopilot.Health { return r.health }
	cfg.Now = func() time.Duration { return r.now }
	cfg.Override = func() (string, bool) { return r.override, r.lifted }
	r.p = autopilot.New(cfg)
	pilot.r = r
	pilot.started = r.now - pilot.up
	return r
}

func (r *rig) Event(kind, detail string) { r.events = append(r.events, event{r.now, kind, detail}) }
func (r *rig) Clock(p segment.ClockPair) { r.pairs = append(r.pairs, p) }
func (r *rig) PutFile(f segment.File, data []byte) bool {
	if r.full {
		return false
	}
	r.files = append(r.files, file{f, r.now, string(data)})
	return true
}

// Send is the line's end on the board. What leaves is held against the list again.
func (r *rig) Send(link int, raw []byte) bool {
	if r.mute {
		return false
	}
	if err := r.list.Check(raw, r.pilot.armed); err != nil && !r.expectOther {
		r.t.Errorf("at %v: left and should not have: %v", r.now, err)
	}
	f, _ := mavlink.ParseFrame(raw)
	m, err := r.codec.Decode(&f)
	if err != nil {
		r.t.Fatal(err)
	}
	r.out = append(r.out, sent{r.now, uint8(f.Component), m})
	r.seqs = append(r.seqs, [2]uint8{uint8(f.Component), f.Seq})
	r.post(true, link, raw)
	return true
}

func (r *rig) post(up bool, link int, raw []byte) {
	if r.rand.Float64() >= r.loss {
		r.queue = append(r.queue, flight{r.now + delay, up, link, slices.Clone(raw)})
	}
}

// say sends m from the autopilot's end.
func (r *rig) say(system, comp uint8, m message.Message) { r.sayOn(0, system, comp, m) }

func (r *rig) sayOn(link int, system, comp uint8, m message.Message) {
	raw, err := r.codec.Encode(system, comp, r.seq, m)
	if err != nil {
		r.t.Fatal(err)
	}
	r.seq++
	r.post(false, link, raw)
}

// run moves the clock on.
func (r *rig) run(d time.Duration) {
	for end := r.now + d; r.now < end; {
		r.now += time.Millisecond
		for len(r.queue) > 0 && r.queue[0].at <= r.now {
			r.deliver(r.queue[0])
			r.queue = r.queue[1:]
		}
		r.pilot.step()
		if r.now >= r.next {
			r.next = r.p.Turn(r.now)
		}
	}
}

func (r *rig) deliver(fl flight) {
	f, ok := mavlink.ParseFrame(fl.raw)
	if !ok {
		return
	}
	f.At = r.now
	if !fl.up {
		r.p.Heard(fl.link, &f)
		r.next = r.now
		return
	}
	if m, err := r.codec.Decode(&f); err == nil {
		r.pilot.hear(m)
	}
}

// has returns the details of the events of a kind.
func (r *rig) has(kind string) []string {
	var all []string
	for _, e := range r.events {
		if e.kind == kind {
			all = append(all, e.detail)
		}
	}
	return all
}

func (r *rig) filesOf(kind string) []file {
	return slices.DeleteFunc(slices.Clone(r.files), func(f file) bool { return f.Kind != kind })
}

// sentOf returns what left of a type.
func sentOf[T message.Message](r *rig) (all []T) {
	for _, s := range r.out {
		if m, ok := s.m.(T); ok {
			all = append(all, m)
		}
	}
	return all
}

// texts returns what was told to the pilot.
func (r *rig) texts() (all []string) {
	for _, m := range sentOf[*common.MessageStatustext](r) {
		all = append(all, m.Text)
	}
	return all
}

// beatBits returns custom_mode of the last heartbeat of the onboard computer.
func (r *rig) beatBits() (bits uint32, state common.MAV_STATE) {
	for _, s := range slices.Backward(r.out) {
		if m, ok := s.m.(*common.MessageHeartbeat); ok && s.comp == allow.ComponentComputer {
			return m.CustomMode, m.SystemStatus
		}
	}
	return 0, 0
}

// fakePilot is a simulated autopilot: enough of ArduPilot's and PX4's manners for every
// exchange that a Part has with them.
type fakePilot struct {
	r       *rig
	kind    common.MAV_AUTOPILOT
	system  uint8
	armed   bool
	up      time.Duration // since its start, when the rig begins
	started time.Duration
	odd     time.Duration // how far TIMESYNC's clock is ahead of SYSTEM_TIME's
	utc     int64         // at the rig's zero, in microseconds; 0: not known
	silent  bool
	dumb    bool // answers nothing
	noRates common.MAV_RESULT
	ignored map[uint32]bool // ids whose interval is accepted and not set

	params    []common.MessageParamValue
	hidden    map[int]bool // indices that never come
	mission   []common.MessageMissionItemInt
	missionID uint32
	intervals map[uint32]int32

	beat, clock, stream time.Duration
	sending             int // index of the next parameter of a list; -1: none
}

func newPilot(kind common.MAV_AUTOPILOT) *fakePilot {
	f := &fakePilot{kind: kind, system: 1, up: 20 * time.Second, intervals: map[uint32]int32{}, sending: -1}
	for i := range 300 {
		f.params = append(f.params, common.MessageParamValue{ParamId: fmt.Sprintf("PRM_%03d", i), ParamValue: float32(i) / 4,
			ParamType: common.MAV_PARAM_TYPE_REAL32, ParamCount: 300, ParamIndex: uint16(i)})
	}
	for i := range 12 {
		f.mission = append(f.mission, common.MessageMissionItemInt{Seq: uint16(i), Frame: common.MAV_FRAME_GLOBAL_RELATIVE_ALT,
			Command: common.MAV_CMD_NAV_WAYPOINT, Autocontinue: 1, X: 473977418 + int32(i), Y: 85455939, Z: 30})
	}
	return f
}

func (f *fakePilot) say(m message.Message) { f.r.say(f.system, 1, m) }

func (f *fakePilot) boot() time.Duration { return f.r.now - f.started }

func due(next *time.Duration, now, interval time.Duration) bool {
	if now < *next {
		return false
	}
	*next = now + interval
	return true
}

func (f *fakePilot) step() {
	if f.silent {
		return
	}
	now := f.r.now
	if due(&f.beat, now, time.Second) {
		f.heartbeat()
	}
	if due(&f.clock, now, time.Second) {
		m := &common.MessageSystemTime{TimeBootMs: uint32(f.boot().Milliseconds())}
		if f.utc != 0 {
			m.TimeUnixUsec = uint64(f.utc + now.Microseconds())
		}
		f.say(m)
		f.say(&common.MessageMissionCurrent{Total: uint16(len(f.mission)), MissionId: f.missionID})
	}
	if f.sending >= 0 && due(&f.stream, now, 5*time.Millisecond) {
		if !f.hidden[f.sending] {
			f.say(&f.params[f.sending])
		}
		if f.sending++; f.sending == len(f.params) {
			f.sending = -1
		}
	}
}

func (f *fakePilot) heartbeat() {
	m := &common.MessageHeartbeat{Type: common.MAV_TYPE_QUADROTOR, Autopilot: f.kind, MavlinkVersion: 3}
	if f.armed {
		m.BaseMode = common.MAV_MODE_FLAG_SAFETY_ARMED
	}
	f.say(m)
}

func (f *fakePilot) arm(on bool) { f.armed = on; f.heartbeat() }

// reboot starts it again. It keeps the state of its motors, as a vehicle in the air would
// learn it back.
func (f *fakePilot) reboot() {
	f.started, f.sending = f.r.now, -1
	clear(f.intervals)
}

func (f *fakePilot) hear(m message.Message) {
	if f.silent || f.dumb {
		return
	}
	switch m := m.(type) {
	case *common.MessageTimesync:
		if m.Tc1 == 0 {
			f.say(&common.MessageTimesync{Tc1: int64(f.boot() + f.odd), Ts1: m.Ts1})
		}
	case *common.MessageParamRequestList:
		f.sending = 0
	case *common.MessageParamRequestRead:
		if i := int(m.ParamIndex); i < len(f.params) && !f.hidden[i] {
			f.say(&f.params[i])
		}
	case *common.MessageMissionRequestList:
		f.say(&common.MessageMissionCount{TargetSystem: f.system, TargetComponent: allow.ComponentComputer, Count: uint16(len(f.mission)), OpaqueId: f.missionID})
	case *common.MessageMissionRequestInt:
		if int(m.Seq) < len(f.mission) {
			item := f.mission[m.Seq]
			item.TargetSystem, item.TargetComponent = f.system, allow.ComponentComputer
			f.say(&item)
		}
	case *common.MessageCommandLong:
		f.command(m)
	}
}

func (f *fakePilot) command(m *common.MessageCommandLong) {
	result := common.MAV_RESULT_ACCEPTED
	switch id := uint32(m.Param1); m.Command {
	case common.MAV_CMD_REQUEST_MESSAGE:
		f.ack(m.Command, result)
		f.say(&common.MessageAutopilotVersion{FlightSwVersion: 4<<24 | 6<<16 | 2<<8 | 255, Uid: 0x1122334455667788, Uid2: [18]uint8{1, 2, 3},
			FlightCustomVersion: [8]uint8{'a', 'b', 'c', 'd', '1', '2', '3', '4'}, BoardVersion: 140, VendorId: 7, ProductId: 9})
		return
	case common.MAV_CMD_SET_MESSAGE_INTERVAL:
		if f.noRates != 0 {
			result = f.noRates
		} else if f.ignored[id] {
			f.intervals[id] = 5_000_000
		} else {
			f.intervals[id] = int32(m.Param2)
		}
	case common.MAV_CMD_GET_MESSAGE_INTERVAL:
		f.ack(m.Command, result)
		f.say(&common.MessageMessageInterval{MessageId: uint16(id), IntervalUs: f.intervals[id]})
		return
	}
	f.ack(m.Command, result)
}

func (f *fakePilot) ack(cmd common.MAV_CMD, result common.MAV_RESULT) {
	f.say(&common.MessageCommandAck{Command: cmd, Result: result, TargetSystem: f.system, TargetComponent: allow.ComponentComputer})
}

// lines returns those of a file that do not begin with #.
func lines(text string) []string {
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(text), "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
}
