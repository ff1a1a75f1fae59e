package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/mavlink/serial/serialtest"
)

// Unplugged and replugged: both losses and both returns are recorded, no frame is lost.
func TestUnplugReplug(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	daemon := b.run()
	pid := daemon.child()
	frames := groundFrames(t, 51)
	var sent [][]byte
	for i := range 3 {
		line := b.pty()
		part := frames[i*500 : (i+1)*500]
		send(t, line, join(part))
		sent = append(sent, part...)
		if err := line.Unplug(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, patience, "a word about the lost line", func() bool {
			s, _ := b.health()["last_error"].(string)
			return strings.Contains(s, "link fc")
		})
	}
	if pid != daemon.child() || !daemon.running() {
		t.Error("the recorder was started again")
	}
	daemon.stop()
	records := b.open(0)
	checkStream(t, join(sent), records)
	kinds := allEvents(records)
	if count(kinds, "link_open") != 3 || count(kinds, "link_lost") != 3 {
		t.Errorf("events %v: want three of link_open and link_lost", kinds)
	}
}

// Silence is an event, its end too.
func TestSilence(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line, daemon := b.pty(), b.run()
	frames := groundFrames(t, 52)
	send(t, line, join(frames[:300]))
	<-time.After(3600 * time.Millisecond) // the silence itself
	send(t, line, join(frames[300:600]))
	daemon.stop()
	records := b.open(0)
	checkStream(t, join(frames[:600]), records)
	wantOrder(t, allEvents(records), "link_open", "link_silent", "link_resumed")
}

// wantOrder wants the kinds among the events, in that order.
func wantOrder(t testing.TB, events []string, kinds ...string) {
	t.Helper()
	rest := events
	for _, k := range kinds {
		i := slices.Index(rest, k)
		if i < 0 {
			t.Errorf("events %v: want %v in this order", events, kinds)
			return
		}
		rest = rest[i+1:]
	}
}

// Noise at 1 % of the bytes: every frame that is whole is there, and every byte.
func TestNoise(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		b := newBoard(t)
		line, daemon := b.pty(), b.run()
		stream := spoil(rand.New(rand.NewPCG(seed, 2)), join(flightFrames(t, vehicleOf(53+seed))))
		send(t, line, stream)
		daemon.stop()
		records := b.open(0)
		checkStream(t, stream, records)
		n, good := len(allFrames(records)), len(flightFrames(t, vehicleOf(53+seed)))
		if n < good/4 || n > good*9/10 {
			t.Errorf("%d of %d frames survived: the noise is not what it should be", n, good)
		}
		if daemon.running() || strings.Contains(daemon.errs.String(), "starting it again") {
			t.Error("the recorder died of noise")
		}
	}
}

// The wrong baud rate gives bytes and never a frame: said in the record and in status.json.
func TestWrongBaud(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line, daemon := b.pty(), b.run()
	r := rand.New(rand.NewPCG(7, 7))
	var stream []byte
	told := func() bool {
		p := make([]byte, 300)
		for i := range p {
			p[i] = byte(r.Uint32()) & 0x7E // a start byte is above that
		}
		send(t, line, p)
		stream = append(stream, p...)
		s, _ := b.health()["last_error"].(string)
		return strings.Contains(s, "baud")
	}
	waitFor(t, 15*time.Second, "a word about the baud rate", told)
	daemon.stop()
	records := b.open(0)
	checkStream(t, stream, records)
	wantOrder(t, allEvents(records), "link_open", "no_frames")
	if len(allFrames(records)) != 0 {
		t.Error("frames in garbage")
	}
}

// Only the link's own autopilot begins a flight: not another one that is armed, not a gimbal
// with the same bit set.
func TestOthersOnTheLine(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line, daemon := b.pty(), b.run()
	var sent []byte
	others := func(seq byte, ownArmed bool) {
		p := slices.Concat(heartbeat(seq, 1, 1, ownArmed), heartbeat(seq, 2, 1, true), heartbeat(seq, 1, componentGimbal, true), heartbeat(seq, 1, 191, true))
		send(t, line, p)
		sent = append(sent, p...)
	}
	for seq := range byte(40) {
		others(seq, false)
	}
	if armed, _ := b.health()["armed"].(bool); armed {
		t.Error("armed by somebody else")
	}
	for seq := byte(40); seq < 60; seq++ {
		others(seq, true)
	}
	daemon.stop()
	records := b.open(0)
	checkStream(t, sent, records)
	if len(records) != 2 || records[0].Kind != "ground" || records[1].Kind != "flight" {
		t.Fatalf("%d records", len(records))
	}
	if n := len(records[0].frames); n != 160 {
		t.Errorf("the flight begins after %d frames, want 160: at the arming of the own autopilot", n)
	}
	kinds := allEvents(records)
	if count(kinds, "armed") != 1 || slices.Contains(kinds, "autopilot_changed") {
		t.Errorf("events %v", kinds)
	}
}

// A flapping arm bit makes at most one new record in 5 s.
func TestFlappingArmBit(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line, daemon := b.pty(), b.run()
	const every, lasts = 200 * time.Millisecond, 12 * time.Second
	var sent []byte
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range int(lasts / every) {
		p := heartbeat(byte(i), 1, 1, i%2 == 1)
		send(t, line, p)
		sent = append(sent, p...)
		<-tick.C
	}
	daemon.stop()
	records := b.open(0)
	checkStream(t, sent, records)
	// One that the start opens, one for the first change, and one in each 5 s after it.
	if n := len(records); n < 3 || n > 4 {
		t.Errorf("%d records in %v", n, lasts)
	}
	for i := 2; i < len(records); i++ {
		if d := time.Duration(records[i].Span.StartBoot-records[i-1].Span.StartBoot) * time.Microsecond; d < 5*time.Second-every {
			t.Errorf("%s begins %v after %s", records[i].Record, d, records[i-1].Record)
		}
	}
	kinds := allEvents(records)
	if a, d := count(kinds, "armed"), count(kinds, "disarmed"); a+d < 50 {
		t.Errorf("%d armed and %d disarmed events: the changes are not all recorded", a, d)
	}
}

// cpuTime is what a process has used, as its own and in the kernel.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	_, rest, _ := bytes.Cut(readFile(t, fmt.Sprintf("/proc/%d/stat", pid)), []byte(") "))
	f := strings.Fields(string(rest))
	user, err1 := strconv.Atoi(f[11])
	kernel, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		t.Fatalf("stat: %v %v", err1, err2)
	}
	return time.Duration(user+kernel) * (time.Second / 100) // USER_HZ is 100 on Linux
}

// Without a device, after one was pulled out, and on a silent line the recorder idles.
func TestNoHotLoop(t *testing.T) {
	t.Parallel()
	states := map[string]func(b *board, line *serialtest.Pty){
		"no device": func(*board, *serialtest.Pty) {},
		"unplugged": func(b *board, line *serialtest.Pty) {
			send(b.t, line, join(groundFrames(b.t, 54)))
			line.Unplug()
		},
		"silent": func(b *board, line *serialtest.Pty) { send(b.t, line, join(groundFrames(b.t, 55))) },
		"half a frame": func(b *board, line *serialtest.Pty) {
			send(b.t, line, join(groundFrames(b.t, 56))[:1001])
		},
	}
	for name, prepare := range states {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBoard(t)
			var line *serialtest.Pty
			if name != "no device" {
				line = b.pty()
			}
			daemon := b.run()
			waitFor(t, patience, "status.json", func() bool { return b.health() != nil })
			prepare(b, line)
			pid := daemon.child()
			settled := cpuTime(t, pid)
			waitFor(t, patience, "an idle second", func() bool { // start and last flush are over
				<-time.After(time.Second)
				before := settled
				settled = cpuTime(t, pid)
				return settled-before < 100*time.Millisecond
			})
			const watch = 3 * time.Second
			<-time.After(watch)
			if used := cpuTime(t, pid) - settled; used > watch/10 {
				t.Errorf("%v of CPU in %v", used, watch)
			}
			if used := cpuTime(t, daemon.cmd.Process.Pid); used > watch/10 {
				t.Errorf("the supervisor used %v", used)
			}
			daemon.stop()
		})
	}
}

// A device that is no serial line, and one that somebody else holds, are told and waited for.
func TestLinkUnavailable(t *testing.T) {
	t.Parallel()
	for name, device := range map[string]string{"regular file": "plain", "folder": "folder", "missing": "gone", "dangling": "dangling"} {
		t.Run(name, func(t *testing.T) {
			b := newBoard(t)
			writeFile(t, b.path("plain"), "x")
			if err := os.Mkdir(b.path("folder"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/nowhere", b.path("dangling")); err != nil {
				t.Fatal(err)
			}
			b.configure(b.path(device))
			daemon := b.run()
			waitFor(t, patience, "a word about the device", func() bool {
				s, _ := b.health()["last_error"].(string)
				return strings.Contains(s, filepath.Base(b.path(device)))
			})
			if b.state() != "standby" || !daemon.running() {
				t.Errorf("state %q", b.state())
			}
			daemon.stop()
		})
	}
}

// A reader elsewhere on the same line: the recorder waits until it is gone.
func TestLinkBusy(t *testing.T) {
	t.Parallel()
	a := newBoard(t)
	line := a.pty()
	first := a.run()
	frames := groundFrames(t, 57)
	send(t, line, join(frames[:100]))
	b := newBoard(t)
	b.configure(a.path("fc"))
	second := b.run()
	waitFor(t, patience, "a word about the busy line", func() bool {
		s, _ := b.health()["last_error"].(string)
		return s != ""
	})
	first.stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := line.WriteContext(ctx, join(frames[100:200])); err != nil {
		t.Fatal(err)
	}
	b.waitFrames(100)
	second.stop()
	wantFrames(t, "first", allFrames(a.open(0)), frames[:100])
	wantFrames(t, "second", allFrames(b.open(0)), frames[100:200])
}
