package autopilot_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink"
	"holdfast/mavlink/codec"
	"holdfast/storage/segment"
)

// sub is a part that plugs in and notes what it is told.
type sub struct {
	send  autopilot.Sender
	calls []string
	steps int
	next  time.Duration
	try   message.Message
}

func (s *sub) Handle(m message.Message, f *mavlink.Frame) {
	s.calls = append(s.calls, fmt.Sprintf("%d from %d/%d", m.GetID(), f.System, f.Component))
}
func (s *sub) SetArmed(on bool) { s.calls = append(s.calls, fmt.Sprintf("armed %v", on)) }
func (s *sub) Rebooted()        { s.calls = append(s.calls, "rebooted") }

func (s *sub) Step(now time.Duration) time.Duration {
	s.steps++
	if s.try != nil {
		s.calls = append(s.calls, fmt.Sprintf("sent %v", s.send.Send(155, s.try)))
		s.try = nil
	}
	s.next = now + 100*time.Millisecond
	return s.next
}

func TestSub(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA), autopilot.Config{}, 0)
	s := &sub{send: r.p.Sender()}
	r.p.Plug(s, 184, 11030)
	r.run(1500 * time.Millisecond)
	expect := func(name string, want ...string) {
		t.Helper()
		if !slices.Equal(s.calls, want) {
			t.Errorf("%s: %q, want %q", name, s.calls, want)
		}
		s.calls = nil
	}
	expect("found", "armed false")
	if s.steps < 10 {
		t.Errorf("%d steps in 1.5 s", s.steps)
	}
	r.pilot.say(&ardupilotmega.MessageRemoteLogDataBlock{Seqno: 3})
	r.say(255, 190, &ardupilotmega.MessageEscTelemetry_1To_4{})
	r.pilot.say(&common.MessageAttitude{})
	r.sayOn(1, 1, 1, &ardupilotmega.MessageRemoteLogDataBlock{Seqno: 4})
	r.run(10 * time.Millisecond)
	expect("messages", "184 from 1/1", "11030 from 255/190")
	s.try = &common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, End: 65535}
	r.run(200 * time.Millisecond)
	expect("a request", "sent true")
	r.pilot.arm(true)
	s.try = &common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, End: 65535}
	r.run(20 * time.Millisecond)
	r.run(200 * time.Millisecond)
	if !slices.Contains(s.calls, "armed true") {
		t.Errorf("%q", s.calls)
	}
	s.calls = nil
	for _, m := range []message.Message{s.try, &common.MessageLogRequestEnd{TargetSystem: 1, TargetComponent: 1}, &common.MessageParamSet{}} {
		if s.try = m; m == nil {
			continue
		}
		r.run(200 * time.Millisecond)
		expect("while armed", "sent false")
	}
	if got := r.p.Stats().Refused; got < 2 {
		t.Errorf("%d refused", got)
	}
	r.pilot.arm(false)
	r.run(time.Second)
	r.pilot.reboot()
	r.run(3 * time.Second)
	r.pilot.silent = true
	r.run(5 * time.Second)
	expect("afterwards", "armed false", "rebooted", "armed true")
}

// quiet takes everything and does nothing.
type quiet struct {
	mu    sync.Mutex
	sent  int
	check func(raw []byte)
}

func (q *quiet) Send(_ int, raw []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sent++
	if q.check != nil {
		q.check(raw)
	}
	return true
}
func (q *quiet) Event(string, string)              {}
func (q *quiet) Clock(segment.ClockPair)           {}
func (q *quiet) PutFile(segment.File, []byte) bool { return true }

func beatFrame(t testing.TB, system uint8) mavlink.Frame {
	t.Helper()
	raw, err := codec.New().Encode(system, 1, 0, &common.MessageHeartbeat{Type: 2, Autopilot: 3, MavlinkVersion: 3})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := mavlink.ParseFrame(raw)
	return f
}

func newQuiet(q *quiet, now func() time.Duration) *autopilot.Part {
	return autopilot.New(autopilot.Config{Out: q, Record: q, Now: now, Rates: "full", VetoOn: true, Camera: true, Erase: true, LogBeats: true,
		Health: func() autopilot.Health { return well() }})
}

// TestRun works by itself, sleeps when nothing is due, and ends.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{}
		start := time.Now()
		p := newQuiet(q, func() time.Duration { return time.Since(start) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		f := beatFrame(t, 1)
		for range 60 {
			f.At = time.Since(start)
			p.Heard(0, &f)
			time.Sleep(time.Second)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if q.sent < 120 || q.sent > 600 {
			t.Errorf("%d frames in 60 s", q.sent)
		}
	})
	if err := autopilot.New(autopilot.Config{}).Run(t.Context()); !errors.Is(err, autopilot.ErrConfig) {
		t.Errorf("without anything: %v", err)
	}
}

// TestFullRing drops and counts; Heard returns all the same.
func TestFullRing(t *testing.T) {
	q := &quiet{}
	p := newQuiet(q, func() time.Duration { return 0 })
	f := beatFrame(t, 1)
	if err := p.List().Check(f.Raw, false); !errors.Is(err, allow.ErrRefused) {
		t.Errorf("the list admits the autopilot's own heartbeat: %v", err)
	}
	for range 5000 {
		p.Heard(0, &f)
	}
	if s := p.Stats(); s.Heard != 5000 || s.Dropped != 5000-1024 {
		t.Errorf("%+v", s)
	}
	p.Turn(time.Second)
	p.Heard(0, &f)
	if s := p.Stats(); s.Dropped != 5000-1024 {
		t.Errorf("after a turn: %+v", s)
	}
}

// TestHeardFromMany: readers of several links and Run at once, for the race detector.
func TestHeardFromMany(t *testing.T) {
	q := &quiet{}
	start := time.Now()
	p := newQuiet(q, func() time.Duration { return time.Since(start) })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	var readers sync.WaitGroup
	for link := range 4 {
		readers.Go(func() {
			f := beatFrame(t, uint8(link+1))
			for range 2000 {
				p.Heard(link, &f)
			}
		})
	}
	readers.Wait()
	cancel()
	wg.Wait()
	if p.Stats().Heard != 8000 {
		t.Errorf("%+v", p.Stats())
	}
}

// FuzzHeard: whatever comes, nothing panics and nothing leaves that is not on the list.
func FuzzHeard(f *testing.F) {
	c := codec.New()
	for _, m := range []message.Message{
		&common.MessageHeartbeat{Type: 2, Autopilot: 12, BaseMode: 128}, &common.MessageSystemTime{TimeUnixUsec: 1790000000_000_000, TimeBootMs: 1},
		&common.MessageParamValue{ParamId: "A", ParamCount: 3, ParamIndex: 1}, &common.MessageMissionCount{TargetSystem: 1, TargetComponent: 191, Count: 65535},
		&common.MessageMissionItemInt{TargetSystem: 1, TargetComponent: 191}, &common.MessageMissionAck{TargetSystem: 1, TargetComponent: 191, Type: 14},
		&common.MessageCommandLong{TargetSystem: 1, Command: 3001}, &common.MessageCommandAck{Command: 511}, &common.MessageTimesync{Ts1: 1},
		&common.MessageAutopilotVersion{}, &common.MessageMessageInterval{MessageId: 1, IntervalUs: -1}, &common.MessageStatustext{Text: "Arm: Holdfast"},
		&common.MessageMissionCurrent{MissionId: 4},
	} {
		raw, err := c.Encode(1, 1, 0, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint64(m.GetID()), raw[10:len(raw)-2])
	}
	f.Fuzz(func(t *testing.T, seed uint64, payload []byte) {
		chaos(t, seed, payload, 30)
	})
}

// TestChaos is the same with payloads made up, some of them sound.
func TestChaos(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for seed := range uint64(40) {
		payload := make([]byte, r.IntN(255))
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		chaos(t, seed, payload, 300)
	}
}

var chaosIDs = []uint32{0, 2, 22, 42, 44, 47, 73, 76, 77, 111, 148, 244, 253}

// chaos feeds frames made of payload, mixed with heartbeats, so that every state is met.
func chaos(t *testing.T, seed uint64, payload []byte, rounds int) {
	r := rand.New(rand.NewPCG(seed, 1))
	judge := allow.New(allow.Options{Rates: true, EraseLogs: true, Veto: true, Camera: true})
	judge.SetSystem(1)
	armed := false
	q := &quiet{check: func(raw []byte) {
		if err := judge.Check(raw, armed); err != nil {
			t.Errorf("left: %v", err)
		}
	}}
	now := time.Second
	p := newQuiet(q, func() time.Duration { return now })
	for range rounds {
		now += time.Duration(r.IntN(1500)) * time.Millisecond
		id := chaosIDs[r.IntN(len(chaosIDs))]
		body := slices.Clone(payload[:min(len(payload), 255)])
		for i := range body {
			if r.IntN(8) == 0 {
				body[i] = []byte{0, 1, 191, 255}[r.IntN(4)]
			}
		}
		f := mavlink.Frame{Raw: append([]byte{0xFD, byte(len(body)), 0, 0, 0, 1, 1, byte(id), byte(id >> 8), 0}, append(body, 0, 0)...),
			ID: id, System: 1, Component: 1, Version: 2, Known: true, At: now}
		if id == 0 {
			hb := beatFrame(t, 1)
			hb.At = now
			f = hb
		}
		p.Heard(0, &f)
		p.Turn(now)
	}
}

// uninteresting is a frame of ATTITUDE.
func uninteresting(b *testing.B, m message.Message) mavlink.Frame {
	raw, err := codec.New().Encode(1, 1, 0, m)
	if err != nil {
		b.Fatal(err)
	}
	f, _ := mavlink.ParseFrame(raw)
	return f
}

func BenchmarkHeardUninteresting(b *testing.B) {
	p := newQuiet(&quiet{}, func() time.Duration { return 0 })
	f := uninteresting(b, &common.MessageAttitude{Roll: 1})
	b.ReportAllocs()
	for b.Loop() {
		p.Heard(0, &f)
	}
}

func BenchmarkHeardInteresting(b *testing.B) {
	p := newQuiet(&quiet{}, func() time.Duration { return 0 })
	f := uninteresting(b, &common.MessageTimesync{Ts1: 1})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if p.Heard(0, &f); i%1000 == 999 {
			p.Turn(time.Second) // nobody was found: the ring is emptied, the messages are decoded
		}
	}
}

// TestHeardAllocatesNothing, whether the frame is of interest or not, and the ring full or not.
func TestHeardAllocatesNothing(t *testing.T) {
	p := newQuiet(&quiet{}, func() time.Duration { return 0 })
	f := beatFrame(t, 1)
	other := f
	other.ID = 30
	if n := testing.AllocsPerRun(3000, func() { p.Heard(0, &f); p.Heard(0, &other) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
