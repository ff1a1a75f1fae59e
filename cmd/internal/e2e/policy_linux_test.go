package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot/allow"
)

// TestMalformedLogs: bad replies among the good ones hang nothing, and the logs are whole or say what
// is missing; the same where the line is cut in the middle of the pull, which goes on behind it.
func TestMalformedLogs(t *testing.T) {
	t.Parallel()
	flights := map[string]*sortie{}
	for _, stack := range []string{"ardupilot", "px4"} {
		args := []string{"--stack", stack, "--malformed", "--duration", "9s", "--after", endless, "--log-size", "16000", "--old-logs", "1"}
		flights["malformed, "+stack] = newBoard(t).takeOff(allow.Options{}, args...)
		flights["by ftp, malformed, "+stack] = newBoard(t).takeOff(allow.Options{}, append(args, "--ftp")...)
	}
	for name, s := range flights {
		s.until("two pulled logs: "+name, func(r []*opened) bool { return events(r, "log_pulled", "") >= 2 })
		s.finish()
		pulled := append(logFiles(t, s.records, "pull"), logFiles(t, s.records, "ftp")...)
		for i, want := range s.kept() {
			if !containsLog(pulled, want) {
				t.Errorf("%s: log %d, %d bytes, is not among %s", name, i+1, len(want), describeLogs(pulled))
			}
		}
	}
}

// TestPullGoesOn: a line that is cut in the middle of a pull costs no byte, and what had come is not
// asked for again. ArduPilot ends its own log some 15 s after the landing: its pull begins later.
func TestPullGoesOn(t *testing.T) {
	t.Parallel()
	pullCut(t, "px4", 500_000, 17)
	if long {
		pullCut(t, "ardupilot", 700_000, 30)
	}
}

// pullCut pulls a log of a size over a line that is cut for 7 s, so many seconds after power-on.
func pullCut(t *testing.T, stack string, size, cut int) {
	t.Helper()
	s := newBoard(t).takeOff(allow.Options{}, "--stack", stack, "--duration", "9s", "--after", endless, "--log-size", fmt.Sprint(size), "--old-logs", "1",
		"--cut", fmt.Sprintf("%ds,7s", cut))
	s.until("two pulled logs", func(r []*opened) bool { return events(r, "log_pulled", "") >= 2 })
	s.finish().wantPulled("pull")
	before, after, first, last := 0, 0, uint64(0), uint64(0)
	for i, f := range s.said.frames {
		d, ok := decodeOne(f).(*common.MessageLogData)
		if !ok {
			continue
		}
		if last = s.said.stamps[i] - s.said.stamps[0]; first == 0 {
			first = last
		}
		if last < uint64(cut)*1e6 {
			before += int(d.Count)
		} else {
			after += int(d.Count)
		}
	}
	if before < 50_000 || after < 50_000 {
		t.Errorf("%d bytes of logs came before the cut and %d after it: it was not in the middle of the pull, from %d to %d us", before, after, first, last)
	}
	if all := before + after; all > size*5/4+50_000 {
		t.Errorf("%d bytes of logs came of %d: the pull began anew", all, size)
	}
}

func decodeOne(frame []byte) any {
	if m := decode([][]byte{frame}); len(m) > 0 {
		return m[0]
	}
	return nil
}

// TestPolicies: what the policy says is not recorded or not sent, is not; tags are sealed.
func TestPolicies(t *testing.T) {
	t.Parallel()
	fly := func(after string, keys ...string) *sortie {
		return newBoard(t, append([]string{"[policy]"}, keys...)...).takeOff(allow.Options{}, "--duration", "9s", "--after", after, "--log-size", "9000", "--old-logs", "1")
	}
	silent := fly("20s", "send = false", `operator = "K. Operator"`, `case = "2026/17"`)
	noLog := fly("20s", `autopilot_log = "off"`)
	blind := fly(endless, "telemetry = false")
	blind.noTelemetry = true
	blind.until("two pulled logs", func(r []*opened) bool { return events(r, "log_pulled", "") >= 2 })
	for _, s := range []*sortie{silent, blind, noLog} {
		s.finish()
	}
	if n := len(silent.heard.frames); n != 0 || silent.sum.Vehicle.Heard != 0 || len(silent.sentLines()) != 0 {
		t.Errorf("send = false: %d frames went out", n)
	}
	for _, r := range silent.records {
		if r.Operator != "K. Operator" || r.Case != "2026/17" {
			t.Errorf("tags of %s: %q, %q", r.Record, r.Operator, r.Case)
		}
	}
	if n := len(allFrames(blind.records)); n != 0 || len(blind.heard.frames) == 0 || len(logFiles(t, blind.records, "pull")) == 0 {
		t.Errorf("telemetry = false: %d frames are in the record, %d went out", n, len(blind.heard.frames))
	}
	wantFrames(t, "what went out without telemetry", sentFrames(t, blind.records), blind.heard.frames)
	if noLog.sum.Vehicle.LogRequests != 0 || noLog.sum.Vehicle.StreamBytes != 0 || len(logFiles(t, noLog.records, "pull")) != 0 {
		t.Errorf(`autopilot_log = "off": %+v`, noLog.sum.Vehicle)
	}
}

// TestRecipientsByStream: whom a stream is sealed to can open it, and nothing else; the others all
// but that.
func TestRecipientsByStream(t *testing.T) {
	t.Parallel()
	b := newBoard(t, "[policy]", `autopilot_log_recipients = "desk.txt"`)
	desk, recipient := newIdentity(t)
	writeFile(t, b.path("desk.txt"), recipient+"\n")
	s := b.takeOff(allow.Options{}, "--duration", "9s", "--after", endless, "--log-size", "9000", "--old-logs", "1")
	s.until("two pulled logs", func(r []*opened) bool { return events(r, "log_pulled", "") >= 2 })
	s.finish()
	for _, r := range s.records {
		if len(r.Files) != 0 || len(r.frames) == 0 {
			t.Errorf("the operator's %s: %d files, %d frames", r.Record, len(r.Files), len(r.frames))
		}
	}
	b.operator = desk
	s.records = b.open(0)
	if frames, sent := allFrames(s.records), sentFrames(t, s.records); len(frames) != 0 || len(sent) != 0 {
		t.Errorf("the desk opens %d frames, and %d that were sent", len(frames), len(sent))
	}
	s.wantPulled("pull")
	for _, r := range s.records {
		if len(r.events) != 0 {
			t.Errorf("the desk reads the events of %s", r.Record)
		}
	}
}

// battery is what the autopilot says of it, in percent.
func battery(percent int8) *common.MessageSysStatus {
	return &common.MessageSysStatus{VoltageBattery: 10_100, BatteryRemaining: percent}
}

// TestLowBattery: with a low battery the record is closed on the ground, so that power may be taken
// away; when the vehicle arms again it is recorded, and after that landing closed again.
func TestLowBattery(t *testing.T) {
	t.Parallel()
	b := newBoard(t, "[policy]", `low_battery = "seal"`, "low_battery_percent = 20")
	c := b.controller()
	daemon := b.run()
	c.arm(true)
	b.waitBattery(c, 12, "a flight", func(h map[string]any) bool { r, _ := h["record"].(string); return r != "" && r[0] == 'F' })
	<-time.After(11 * time.Second) // low in the air: nothing happens
	if h := b.health(); h["state"] != "recording" {
		t.Errorf("a low battery in the air: %v", h)
	}
	sealed := func(h map[string]any) bool { return h["record"] == "" && h["state"] == "standby" }
	c.arm(false)
	landed := time.Now()
	b.waitBattery(c, 12, "a closed record", sealed)
	if d := time.Since(landed); d < 17*time.Second {
		t.Errorf("closed %v after the landing: its log had not come yet", d)
	}
	if h := b.health(); h["armed"] != false || h["last_error"] != "" || h["ring_drops"] != float64(0) {
		t.Errorf("status: %v", h)
	}
	if code, state, _ := b.list(); code != 0 || state != "clean" {
		t.Errorf("the vault when all is closed: %d, %q", code, state)
	}
	c.arm(true)
	b.waitBattery(c, 11, "a second flight", func(h map[string]any) bool { r, _ := h["record"].(string); return r != "" && r[0] == 'F' })
	c.arm(false)
	b.waitBattery(c, 11, "a closed record behind the second flight", sealed)
	daemon.stop()
	records := b.open(0)
	if n := events(records, "low_battery", "seal"); n != 2 || events(records, "sealed_over", "") == 0 {
		t.Errorf("the record tells %d times of the low battery: %v", n, allEvents(records))
	}
	flights := 0
	for _, r := range records {
		if r.Kind == "flight" && len(r.frames) > 0 {
			flights++
		}
	}
	if flights != 2 {
		t.Errorf("%d flights", flights)
	}
}

// waitBattery goes on telling the battery's state until status.json is as wanted.
func (b *board) waitBattery(c *controller, percent int8, what string, as func(h map[string]any) bool) {
	b.t.Helper()
	for range 240 {
		c.say(1, 1, battery(percent))
		if eventually(500*time.Millisecond, func() bool { h := b.health(); return h != nil && as(h) }) {
			return
		}
	}
	b.t.Fatalf("never: %s: %v", what, b.health())
}
