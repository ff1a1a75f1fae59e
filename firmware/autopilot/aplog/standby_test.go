package aplog_test

import (
	"testing"
	"time"

	"holdfast/firmware/autopilot/aplog"
)

// streamRig is a rig whose ArduPilot streams.
func streamRig(t *testing.T, mode aplog.Mode) (*rig, *streamSource) {
	r := newRig(t, aplog.ArduPilot, 6, func(c *aplog.Config) { c.Mode = mode })
	r.loss = 0.02
	return r, r.v.streams(dataflash(1, 400_000), 12_000)
}

// TestStandby: the stream is taken before the vehicle arms, which ArduPilot wants, and is never
// left alone; nothing of it goes into the record until a flight does, and each flight's file has
// the headers that came before it.
func TestStandby(t *testing.T) {
	r, s := streamRig(t, aplog.Stream)
	r.run(5*time.Second, nil)
	if !s.on || s.seq*200 < headers {
		t.Fatalf("while disarmed: streams %v, %d blocks", s.on, s.seq)
	}
	r.run(2*time.Minute, nil) // in which nothing is logged, and nothing is wrong
	if len(s.starts) != 1 || len(r.store.files) != 0 || len(r.events) != 0 {
		t.Errorf("%d starts, %d files, events %q", len(s.starts), len(r.store.files), r.events)
	}
	for n := 1; n <= 2; n++ {
		s.done = nil
		r.fly(20 * time.Second)
		r.run(30*time.Second, nil)
		got := r.store.of("stream")
		if len(got) != n || len(s.done) < 200_000 {
			t.Fatalf("flight %d: %d files, %d bytes; events %q", n, len(got), len(s.done), r.events)
		}
		if lost := got[n-1].check(t, s.done); lost > 0 {
			t.Errorf("flight %d: %d bytes lost", n, lost)
		}
		if !s.on || len(s.starts) != n+1 {
			t.Errorf("flight %d: streams %v, %d starts: the next arming is refused", n, s.on, len(s.starts))
		}
	}
}

// TestLoggingFailed: an autopilot that has stopped its stream unseen and does not arm for that is
// asked again, once it says so.
func TestLoggingFailed(t *testing.T) {
	for _, text := range []string{"PreArm: Logging failed", "Arm: Logging failed"} {
		r, s := streamRig(t, aplog.Both)
		r.run(10*time.Second, nil)
		s.on = false
		r.run(10*time.Second, nil)
		if s.on {
			t.Fatal("it was asked before it said anything")
		}
		r.v.text(text)
		r.run(2*time.Second, nil)
		if !s.on {
			t.Errorf("%q: not asked again", text)
		}
	}
}

// TestNewLogUnseen: block 0 of a log that nobody asked for is not taken for one of the log before.
func TestNewLogUnseen(t *testing.T) {
	r, s := streamRig(t, aplog.Stream)
	r.run(10*time.Second, nil)
	s.begin() // it began anew by itself: a restart that was too fast to be seen
	r.run(5*time.Second, nil)
	r.fly(20 * time.Second)
	r.run(30*time.Second, nil)
	got := r.store.of("stream")
	if len(got) != 1 || got[0].check(t, s.done) > 0 {
		t.Errorf("%d files, %d starts; events %q", len(got), len(s.starts), r.events)
	}
}

// TestLogsWhileDisarmed: with LOG_DISARMED it logs all the time. What is held stays small, and a
// flight's file is whole.
func TestLogsWhileDisarmed(t *testing.T) {
	r, s := streamRig(t, aplog.Stream)
	s.log, s.disarmed = dataflash(1, 4_000_000), true
	r.run(4*time.Minute, nil)
	if len(s.starts) < 3 || len(r.store.files) != 0 {
		t.Fatalf("%d starts, %d files", len(s.starts), len(r.store.files))
	}
	r.fly(10 * time.Second)
	r.run(30*time.Second, nil)
	got := r.store.of("stream")
	if len(got) != 1 || got[0].check(t, s.done) > 0 {
		t.Errorf("%d files; events %q", len(got), r.events)
	}
}

// TestSilenceIsNoFlight: a disarmed autopilot that is not heard for a moment is treated as armed as
// far as questions go; no flight begins for that.
func TestSilenceIsNoFlight(t *testing.T) {
	for name, flavour := range flavours {
		r := newRig(t, flavour, 6, func(c *aplog.Config) { c.Mode = aplog.Stream })
		r.v.streams(flightLog(flavour, 1, 400_000), 12_000)
		r.run(10*time.Second, nil)
		r.logs.SetArmed(true)
		r.step()
		r.run(500*time.Millisecond, nil)
		if len(r.events) != 0 || len(r.store.files) != 0 || r.sent["CommandLong"] != 0 {
			t.Errorf("%s: events %q, %d files, sent %v", name, r.events, len(r.store.files), r.sent)
		}
	}
}

// TestHeadNoRoom: the Store has room for a piece only now and then while the headers are handed over.
func TestHeadNoRoom(t *testing.T) {
	r, s := streamRig(t, aplog.Stream)
	s.log, s.disarmed = dataflash(1, 1_000_000), true // much to hand over
	r.run(60*time.Second, nil)
	n := 0
	r.store.full = func() bool { n++; return n%3 != 0 }
	r.fly(20 * time.Second)
	r.run(30*time.Second, nil)
	got := r.store.of("stream")
	if len(got) != 1 || got[0].check(t, s.done) > 0 {
		t.Fatalf("%d files; events %q", len(got), r.events)
	}
	if most := len(s.done)/1000 + 200; got[0].puts > most {
		t.Errorf("%d pieces for %d bytes", got[0].puts, len(s.done))
	}
}

// TestRest: ArduPilot logs for 15 s after disarming, and not while its logs are read: nothing is
// asked until then.
func TestRest(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 6, nil)
	r.v.logs = []vlog{{100, content(1, 20_000), ""}}
	r.pulls(time.Minute, 1)
	r.fly(5 * time.Second)
	n := len(r.requests)
	r.run(16*time.Second, nil)
	if len(r.requests) != n {
		t.Errorf("%d requests within 16 s after disarming", len(r.requests)-n)
	}
	r.run(5*time.Second, nil)
	if len(r.requests) == n {
		t.Error("and none behind that")
	}
}

// TestBurstGarbage: PX4 does not set burst_complete in a burst's replies but the last. What is there
// ends no burst: a log takes few requests.
func TestBurstGarbage(t *testing.T) {
	r := newRig(t, aplog.PX4, 6, nil)
	r.v.logs = []vlog{{100, content(1, 300_000), logPath(aplog.PX4, 1)}}
	r.v.onlyFTP()
	r.pulls(time.Minute, 1)
	if got := r.store.of("ftp"); len(got) != 1 || got[0].check(t, r.v.logs[0].data) > 0 {
		t.Fatalf("events %q", r.events)
	}
	if n := r.sent["FileTransferProtocol"]; n > 60 {
		t.Errorf("%d requests", n)
	}
}
