package autopilot_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/firmware/autopilot"
	"holdfast/mavlink"
	"holdfast/storage/segment"
)

var (
	sitl    = flag.String("sitl", "", `an autopilot's own simulation, disarmed: "tcp:127.0.0.1:5760" (ArduPilot) or "udp:127.0.0.1:14540" (PX4)`)
	sitlFor = flag.Duration("sitl.for", time.Minute, "how long")
)

// real is a Part's surroundings at a simulation that runs by itself.
type real struct {
	t     *testing.T
	start time.Time
	write func([]byte) error

	mu     sync.Mutex
	events []string
	files  map[string]string
	pairs  []segment.ClockPair
}

func (r *real) Send(_ int, raw []byte) bool { return r.write(raw) == nil }

func (r *real) Event(kind, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.t.Logf("%7.2f s: %s %s", time.Since(r.start).Seconds(), kind, detail)
	r.events = append(r.events, kind)
}

func (r *real) Clock(p segment.ClockPair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pairs = append(r.pairs, p)
}

func (r *real) PutFile(f segment.File, data []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.t.Logf("%7.2f s: %s, %d bytes", time.Since(r.start).Seconds(), f.Name, f.Size)
	r.files[f.Kind] = string(data)
	return true
}

// dial opens the simulation's link.
func dial(t *testing.T, where string) (read func([]byte) (int, error), write func([]byte) error) {
	t.Helper()
	kind, addr, _ := strings.Cut(where, ":")
	if kind == "tcp" {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.Read, func(b []byte) error { _, err := c.Write(b); return err }
	}
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var mu sync.Mutex
	var peer net.Addr
	read = func(b []byte) (int, error) {
		n, from, err := c.ReadFrom(b)
		mu.Lock()
		defer mu.Unlock()
		peer = from
		return n, err
	}
	return read, func(b []byte) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := c.WriteTo(b, peer)
		return err
	}
}

// heard hands the frames of a scanner to a Part.
type heard struct{ p *autopilot.Part }

func (h heard) Frame(f *mavlink.Frame) { h.p.Heard(0, f) }
func (h heard) Noise(*mavlink.Noise)   {}

// TestSITL runs against an autopilot's own simulation, if one is named.
func TestSITL(t *testing.T) {
	if *sitl == "" {
		t.Skip("no -sitl= names a simulation")
	}
	r := &real{t: t, start: time.Now(), files: map[string]string{}}
	read, write := dial(t, *sitl)
	r.write = write
	now := func() time.Duration { return time.Since(r.start) + time.Hour }
	p := autopilot.New(autopilot.Config{Out: r, Record: r, Now: now, Rates: "survey", VetoOn: true, LogBeats: true, Health: well})
	ctx, cancel := context.WithTimeout(t.Context(), *sitlFor)
	defer cancel()
	go func() {
		b, s := make([]byte, 4096), mavlink.NewScanner(heard{p})
		for {
			n, err := read(b)
			s.Write(now(), b[:n])
			if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
				return
			}
		}
	}()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := p.Stats(); s.Refused != 0 || s.Dropped != 0 || s.Sent == 0 {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(r.files["params"], "# Complete: yes") || !strings.HasPrefix(r.files["mission"], "QGC WPL 110\n") || r.files["autopilot"] == "" {
		t.Errorf("files: %.200q", r.files)
	}
	if !slices.Contains(r.events, "message_rates") || slices.Contains(r.events, "autopilot_rebooted") {
		t.Errorf("events: %q", r.events)
	}
	if len(r.pairs) == 0 {
		t.Error("no clock pair")
	}
}
