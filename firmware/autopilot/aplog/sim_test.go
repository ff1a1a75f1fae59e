package aplog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/firmware/autopilot/aplog"
	"holdfast/mavlink"
	"holdfast/mavlink/codec"
	"holdfast/mavlink/vehicle"
)

// sim joins a Logs and the simulated vehicle of the bench, by frames, over a bad line and through
// the allow-list.
type sim struct {
	t      testing.TB
	v      *vehicle.Vehicle
	line   *vehicle.Lossy
	list   *allow.List
	codec  *codec.Codec
	seq    byte
	ends   int // LOG_REQUEST_END to an armed vehicle
	now    time.Duration
	armed  bool
	logs   *aplog.Logs
	store  *store
	events []string
}

func newSim(t testing.TB, o vehicle.Options, loss vehicle.Loss, mode aplog.Mode) *sim {
	v, err := vehicle.New(o)
	if err != nil {
		t.Fatal(err)
	}
	line, err := vehicle.NewLossy(loss)
	if err != nil {
		t.Fatal(err)
	}
	s := &sim{t: t, v: v, line: line, list: allow.New(allow.Options{EraseLogs: true}), codec: codec.New()}
	s.list.SetSystem(1)
	s.store = &store{t: t, files: map[int]*file{}}
	s.logs = aplog.New(aplog.Config{Out: s, Store: s.store, Now: func() time.Duration { return s.now }, Mode: mode,
		Event: func(kind, detail string) { s.events = append(s.events, fmt.Sprintf("%v %s %s", s.now, kind, detail)) }})
	return s
}

func (s *sim) Send(comp uint8, m message.Message) bool {
	raw, err := s.codec.Encode(1, comp, s.seq, m)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, end := m.(*common.MessageLogRequestEnd); end && s.armed {
		s.ends++
		return false // as the allow-list has it
	}
	if err := s.list.Check(raw, s.armed); err != nil {
		s.t.Errorf("%v: the allow-list refuses %T, armed %v: %v", s.now, m, s.armed, err)
		return false
	}
	s.seq++
	if s.line.Pass(s.now, vehicle.ToVehicle, raw) {
		s.v.Hear(s.now+3*time.Millisecond, raw)
	}
	return true
}

// fly runs until nothing is to be done any more behind a time, or the vehicle's power is off.
func (s *sim) fly(behind time.Duration) {
	next := time.Duration(0)
	for {
		e, ok := s.v.Next()
		if !ok {
			break
		}
		s.now = e.At
		if s.line.Pass(e.At, vehicle.FromVehicle, e.Raw) {
			s.hear(e.Raw)
			next = 0
		}
		if s.now >= next {
			next = s.logs.Step(s.now)
		}
		if s.now > behind && next > s.now+time.Hour {
			break
		}
	}
	if err := s.v.Err(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) hear(raw []byte) {
	f, ok := mavlink.ParseFrame(raw)
	if !ok {
		return
	}
	m, err := s.codec.Decode(&f)
	if err != nil {
		return
	}
	if h, ok := m.(*common.MessageHeartbeat); ok && f.Component == 1 {
		s.armed = h.BaseMode&128 != 0
		s.logs.SetAutopilot(1, uint8(h.Autopilot))
		s.logs.SetArmed(s.armed)
	}
	s.logs.Handle(m, &f)
}

// TestSimulated: against the simulated vehicle, both flavours, by each way, with losses and a cut
// in the middle of the pull, its logs come byte for byte. Its allow-list refuses nothing that is
// sent, and it counts no request while armed.
func TestSimulated(t *testing.T) {
	if testing.Short() {
		t.Skip("flies for minutes of simulated time")
	}
	for _, stack := range []vehicle.Stack{vehicle.ArduPilot, vehicle.PX4} {
		for _, ftp := range []bool{false, true} {
			for _, loss := range []float64{0, 0.01, 0.1} {
				t.Run(fmt.Sprintf("%v/ftp=%v/%v", stack, ftp, loss), func(t *testing.T) {
					simulated(t, stack, ftp, loss)
				})
			}
		}
	}
}

func simulated(t *testing.T, stack vehicle.Stack, ftp bool, loss float64) {
	const flight = 75 * time.Second
	s := newSim(t, vehicle.Options{Stack: stack, Seed: 3, Duration: flight, After: 3 * time.Minute, OldLogs: 1, LogSize: 100_000, EmptyLog: true,
		FTP: ftp, Malformed: true}, vehicle.Loss{Probability: loss, Seed: 7,
		Cuts: []vehicle.Cut{{From: flight + 10*time.Second, Length: 12 * time.Second}}}, aplog.Both)
	s.fly(flight + 30*time.Second)
	pulled := 0
	for _, log := range s.v.Logs() {
		if len(log.Data) == 0 {
			continue
		}
		for _, f := range s.store.files {
			if f.f.Kind == "log" && f.f.Source != "stream" && f.f.Log == int(log.ID) && f.f.Size == int64(len(log.Data)) {
				pulled++
				if n := f.check(t, log.Data); n > 0 {
					t.Errorf("log %d: %d bytes lost", log.ID, n)
				}
			}
		}
	}
	if s.ends > 1 {
		t.Errorf("%d times LOG_REQUEST_END at one arming", s.ends)
	}
	// With losses the heartbeat that tells of arming may be lost; the allow-list has seen to it that
	// nothing went behind one that came.
	if c := s.v.Counts(); pulled < 2 || loss == 0 && c.LogRequestsArmed > 0 || c.LogErases > 0 {
		t.Errorf("%d logs pulled, counts %+v", pulled, c)
	}
	streams := s.store.of("stream")
	if len(streams) == 0 || !streams[0].ended || len(streams[0].data) < 50_000 {
		t.Errorf("%d streams", len(streams))
	}
	if t.Failed() || testing.Verbose() {
		for _, e := range s.events {
			t.Log(e)
		}
		for _, l := range s.v.Logs() {
			t.Log(l.ID, l.Path, len(l.Data))
		}
	}
}
