package aplog_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/aplog"
	"holdfast/mavlink"
	"holdfast/storage/segment"
)

// file is what a Store was told of one file.
type file struct {
	f     segment.File
	data  []byte
	have  []bool
	lost  []bool
	torn  int64 // LostBytes
	ended bool
	puts  int
}

func (f *file) fit(n int64) {
	for int64(len(f.data)) < n {
		f.data, f.have = append(f.data, 0), append(f.have, false)
	}
}

func (f *file) lose(r segment.Range) {
	r.To = min(r.To, 64<<20) // a size that was a lie
	for int64(len(f.lost)) < r.To {
		f.lost = append(f.lost, false)
	}
	for i := r.From; i < r.To; i++ {
		f.lost[i] = true
	}
}

// store is a Store in memory that holds what it is told to the rules of segment.File.
type store struct {
	t         testing.TB
	files     map[int]*file
	bytesHad  int
	number    uint64
	full      func() bool
	confirmed uint64
	confirms  int
	err       error
	never     bool // it does not confirm
}

func (s *store) Put(f segment.File, data []byte) (uint64, bool) {
	if s.full != nil && s.full() {
		return 0, false
	}
	if len(data) > 32<<10 {
		s.t.Errorf("a piece of %d bytes", len(data))
	}
	s.number++
	x := s.files[f.ID]
	if x == nil {
		x = &file{}
		s.files[f.ID] = x
	}
	if x.ended {
		s.t.Errorf("file %d: a block behind its end", f.ID)
	}
	if f.Kind == segment.KindLog && len(data) > 0 {
		x.fit(f.Offset + int64(len(data)))
	}
	for i, b := range data {
		at := f.Offset + int64(i)
		x.fit(at + 1)
		if x.have[at] && x.data[at] != b {
			s.t.Errorf("file %d: byte %d put twice, differently", f.ID, at)
		}
		if !x.have[at] {
			s.bytesHad++
		}
		x.data[at], x.have[at] = b, true
	}
	for _, r := range f.Lost {
		x.lose(r)
	}
	x.torn += f.LostBytes
	x.f, x.ended = f, f.End
	x.puts++
	return s.number - 1, true
}

func (s *store) Confirm() {
	s.confirms++
	if !s.never {
		s.confirmed = s.number
	}
}

func (s *store) Confirmed() (uint64, error) { return s.confirmed, s.err }

// of returns the files from one source, in order.
func (s *store) of(source string) []*file {
	var out []*file
	for id := range len(s.files) + 1 {
		if x := s.files[id]; x != nil && x.f.Source == source {
			out = append(out, x)
		}
	}
	return out
}

// check fails the test unless the file is want, byte for byte, but for ranges that it calls lost.
// It returns how many bytes are lost.
func (f *file) check(t testing.TB, want []byte) (lost int) {
	t.Helper()
	if !f.ended {
		t.Errorf("%s: no end", f.f.Name)
	}
	for i := range want {
		have, gone := i < len(f.have) && f.have[i], i < len(f.lost) && f.lost[i]
		switch {
		case have && gone, !have && !gone:
			t.Fatalf("%s: byte %d: have %v, lost %v", f.f.Name, i, have, gone)
		case have && f.data[i] != want[i]:
			t.Fatalf("%s: byte %d differs", f.f.Name, i)
		case gone:
			lost++
		}
	}
	if len(f.have) > len(want) || len(f.lost) > len(want) {
		t.Errorf("%s: %d bytes, %d lost or not; the log has %d", f.f.Name, len(f.have), len(f.lost), len(want))
	}
	if sum := sha256.Sum256(want); f.f.Source != "stream" && (f.f.SHA256 == hex.EncodeToString(sum[:])) != (lost == 0) {
		t.Errorf("%s: %d bytes lost and SHA256 %q", f.f.Name, lost, f.f.SHA256)
	}
	return lost
}

type packet struct {
	at   time.Duration
	comp uint8
	m    message.Message
}

// rig joins a Logs and a vehicle by a link that loses, repeats and reorders, on a clock of its own.
type rig struct {
	t      testing.TB
	now    time.Duration
	logs   *aplog.Logs
	v      *fakePilot
	store  *store
	rng    *rand.Rand
	loss   float64
	dup    float64
	jitter time.Duration
	delay  time.Duration
	baud   int // bytes a second from the vehicle
	cut    bool

	up, down []packet
	armed    bool // as Logs was told
	next     time.Duration
	events   []string
	sent     map[string]int
	requests []string
	steps    int
}

func newRig(t testing.TB, flavour uint8, seed uint64, change func(*aplog.Config)) *rig {
	r := &rig{t: t, rng: rand.New(rand.NewPCG(seed, 5)), delay: 5 * time.Millisecond, baud: 92160, sent: map[string]int{}}
	r.now = time.Second
	r.store = &store{t: t, files: map[int]*file{}}
	r.v = newVehicle(r, flavour)
	cfg := aplog.Config{Out: r, Store: r.store, Now: func() time.Duration { return r.now }, Mode: aplog.Pull,
		Event: func(kind, detail string) { r.events = append(r.events, kind+" "+detail) }}
	if change != nil {
		change(&cfg)
	}
	r.logs = aplog.New(cfg)
	r.logs.SetAutopilot(1, flavour)
	return r
}

// Send is the link's end on the board.
func (r *rig) Send(comp uint8, m message.Message) bool {
	name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*ardupilotmega.Message")
	name = strings.TrimPrefix(name, "*common.Message")
	r.sent[name]++
	if r.armed && pullRequest(m) {
		r.t.Errorf("%v: %s was sent to an armed vehicle", r.now, name)
	}
	if pullRequest(m) {
		r.requests = append(r.requests, name)
	}
	r.ackWatch(comp, m)
	r.travel(&r.up, comp, m)
	return true
}

// pullRequest reports whether only a disarmed vehicle may get m.
func pullRequest(m message.Message) bool {
	switch m.(type) {
	case *ap.MessageLogRequestList, *ap.MessageLogRequestData, *ap.MessageLogRequestEnd, *ap.MessageLogErase, *ap.MessageFileTransferProtocol:
		return true
	}
	return false
}

func (r *rig) travel(q *[]packet, comp uint8, m message.Message) {
	if r.cut || r.rng.Float64() < r.loss {
		return
	}
	n := 1
	if r.rng.Float64() < r.dup {
		n = 2
	}
	for range n {
		at := r.now + r.delay
		if r.jitter > 0 {
			at += time.Duration(r.rng.Int64N(int64(r.jitter)))
		}
		i, _ := slices.BinarySearchFunc(*q, at, func(p packet, at time.Duration) int {
			if p.at <= at {
				return -1
			}
			return 1
		})
		*q = slices.Insert(*q, i, packet{at, comp, m})
	}
}

const tick = 2 * time.Millisecond

// run lets time pass until done, for limit at most. It reports whether done was true.
func (r *rig) run(limit time.Duration, done func() bool) bool {
	r.t.Helper()
	for end := r.now + limit; r.now < end; r.now += tick {
		if done != nil && done() {
			return true
		}
		for len(r.up) > 0 && r.up[0].at <= r.now {
			p := r.up[0]
			r.up = r.up[1:]
			r.v.handle(p.comp, p.m)
		}
		r.v.step()
		heard := false
		for len(r.down) > 0 && r.down[0].at <= r.now {
			p := r.down[0]
			r.down = r.down[1:]
			r.hear(p)
			heard = true
		}
		if heard || r.now >= r.next {
			r.step()
		}
	}
	return done != nil && done()
}

func (r *rig) step() {
	r.steps++
	r.next = r.logs.Step(r.now)
	if r.next < r.now {
		r.t.Fatalf("Step(%v) wants to be called at %v", r.now, r.next)
	}
}

func (r *rig) hear(p packet) {
	if h, ok := p.m.(*ap.MessageHeartbeat); ok {
		r.armed = h.BaseMode&ap.MAV_MODE_FLAG_SAFETY_ARMED != 0
		r.logs.SetArmed(r.armed)
	}
	r.logs.Handle(p.m, &mavlink.Frame{System: 1, Component: mavlink.ComponentID(p.comp)})
}

func (r *rig) event(kind string) int {
	n := 0
	for _, e := range r.events {
		if strings.HasPrefix(e, kind+" ") {
			n++
		}
	}
	return n
}

// idle reports whether Logs has nothing to do.
func (r *rig) idle() bool { return r.next > r.now+time.Hour }

// pulls waits until n logs were pulled, whole or not, and nothing is under way.
func (r *rig) pulls(limit time.Duration, n int) {
	r.t.Helper()
	ok := r.run(limit, func() bool { return r.event("log_pulled")+r.event("log_pulled_with_holes") >= n && r.idle() })
	if !ok {
		r.t.Fatalf("after %v: %d files; events:\n%s\nsent: %v", limit, len(r.store.files), strings.Join(r.events, "\n"), r.sent)
	}
}

// content is a log of n bytes that says where each byte belongs.
func content(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 77))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}
