package e2e_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot/allow"
)

// reading collects what a program reads of its share until the share is closed, or it has enough.
type reading struct {
	mu   sync.Mutex
	data []byte
	done chan struct{}
}

func (p program) read(enough int) *reading {
	r := &reading{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		buf := make([]byte, 4096)
		for {
			n, err := p.Read(buf)
			r.mu.Lock()
			r.data = append(r.data, buf[:n]...)
			all := len(r.data)
			r.mu.Unlock()
			if err != nil || enough > 0 && all >= enough {
				return
			}
		}
	}()
	return r
}

// TestShares: programs read the live stream while the flight is recorded, whole frames as they are
// in telemetry.tlog; one that never reads, or stops reading, costs the record nothing; what a program
// may send passes where the share says "write", and is in the record with its origin.
func TestShares(t *testing.T) {
	t.Parallel()
	b := newBoard(t, "[[share]]", `path = "ros"`, "[[share]]", `path = "stuck"`, "[[share]]", `path = "tired"`,
		"[[share]]", `path = "pilot"`, `mode = "write"`)
	s := b.takeOff(allow.Options{}, "--duration", "20s", "--after", "3s")
	ros, stuck, tired, pilot := b.openShare("ros"), b.openShare("stuck"), b.openShare("tired"), b.openShare("pilot")
	read, little := ros.read(0), tired.read(20_000)
	sent := pilot.fly(t, s)
	if code := s.vehicle.wait(sortiePatience); code != 0 {
		t.Fatalf("the vehicle ended with %d", code)
	}
	<-time.After(500 * time.Millisecond) // the last frames are on their way to the programs
	s.finish()
	<-read.done
	<-little.done
	for _, name := range []string{"ros", "stuck", "tired", "pilot"} {
		if _, err := os.Lstat(b.path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the link %s is left: %v", name, err)
		}
	}
	s.wantRead("ros", read, 8000)
	s.wantRead("tired", little, 100)
	if n := events(s.records, "share_slow", stuck.path); n == 0 {
		t.Error("nobody says that a program did not read")
	}
	s.wantPassed("share:"+pilot.path, sent)
}

// fly writes what a companion program says while the vehicle flies, one frame in ten of it for
// somebody else, and returns those that must pass.
func (p program) fly(t testing.TB, s *sortie) (sent [][]byte) {
	t.Helper()
	s.until("who the autopilot is", func(r []*opened) bool { return events(r, "autopilot_found", "") > 0 })
	for i := range 200 {
		target := byte(1)
		if i%10 == 0 {
			target = 255 // the ground: routed on by the autopilot
		}
		f := encode(byte(i), 1, 240, &common.MessageSetPositionTargetLocalNed{TimeBootMs: uint32(i + 1), TargetSystem: target, TargetComponent: 1, X: 4})
		if _, err := p.Write(f); err != nil {
			t.Fatal(err)
		}
		if target == 1 {
			sent = append(sent, f)
		}
		<-time.After(20 * time.Millisecond)
	}
	return sent
}

// wantRead wants whole frames, a row of telemetry's without a hole, at least so many.
func (s *sortie) wantRead(name string, r *reading, least int) {
	s.t.Helper()
	got := reference(r.data)
	all := allFrames(s.records)
	from := -1
	for i := range all {
		if len(got) > 0 && bytes.Equal(all[i], got[0].raw) {
			from = i
			break
		}
	}
	if from < 0 || len(got) < least {
		s.t.Fatalf("%s: %d frames read, the first is at %d of %d", name, len(got), from, len(all))
	}
	n := 0
	for i, f := range got {
		if n += len(f.raw); from+i >= len(all) || !bytes.Equal(f.raw, all[from+i]) {
			s.t.Fatalf("%s: frame %d of %d is not that of telemetry.tlog", name, i, len(got))
		}
	}
	if tail := len(r.data) - n; tail > 300 { // the piece of a frame where it stopped reading
		s.t.Errorf("%s: %d of %d bytes are no frame", name, tail, len(r.data))
	}
}

// wantPassed wants frames of an origin on the line, in their order, and nothing else of it.
func (s *sortie) wantPassed(origin string, sent [][]byte) {
	s.t.Helper()
	var got [][]byte
	for _, f := range s.heard.frames {
		if !holdfasts(f) {
			got = append(got, f)
		}
	}
	wantFrames(s.t, "what a program sent", got, sent)
	outcomes := map[string]int{}
	for _, l := range s.sentLines() {
		if l.Origin == origin {
			outcomes[l.Outcome]++
		}
	}
	if outcomes["sent"] != len(sent) || outcomes["refused"] != len(sent)/9 || len(outcomes) != 2 {
		s.t.Errorf("%s: %v, of %d that pass", origin, outcomes, len(sent))
	}
}

// TestShareLinks: a killed recorder leaves a link that leads nowhere; the next one replaces it, and
// what is no link is left alone.
func TestShareLinks(t *testing.T) {
	t.Parallel()
	b := newBoard(t, "[[share]]", `path = "ros"`)
	c := b.controller()
	first := b.record()
	p := b.openShare("ros")
	before, err := os.Readlink(p.path)
	if err != nil {
		t.Fatal(err)
	}
	first.kill()
	if at, err := os.Readlink(p.path); err != nil || at != before {
		t.Errorf("after the end: %q, %v", at, err)
	}
	hold, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0) // takes the number of the terminal that is gone, as anybody may
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	second := b.record()
	waitFor(t, patience, "the link of the second recorder", func() bool {
		at, err := os.Readlink(p.path)
		return err == nil && at != before
	})
	r := b.openShare("ros").read(2000)
	go func() {
		for range 400 {
			c.say(1, 1, &common.MessageAttitude{Roll: 1})
			<-time.After(10 * time.Millisecond)
		}
	}()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatal("nothing to read by the new link")
	}
	second.stop()
	if err := os.WriteFile(p.path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, refuse(t, "record", "--config", b.config()), 1, "ros")
	if got := string(readFile(t, p.path)); got != "mine" {
		t.Errorf("the file in the place of the link is %q", got)
	}
}
