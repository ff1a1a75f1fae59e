package autopilot_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
)

// setFault makes a fault appear in h, or takes it back.
func setFault(h *autopilot.Health, f allow.Fault, on bool) {
	switch f {
	case allow.FaultLock:
		h.Lock = !on
	case allow.FaultVault:
		h.Vault = !on
	case allow.FaultKeys:
		h.Keys = !on
	case allow.FaultLink:
		h.Link = !on
	default:
		h.Faults = slices.DeleteFunc(h.Faults, func(s autopilot.FaultState) bool { return s.Fault == f })
		if on {
			h.Faults = append(h.Faults, autopilot.FaultState{Fault: f, Number: 2})
		}
	}
}

// TestEachFault is told by its bit and its text, and again when it is over.
func TestEachFault(t *testing.T) {
	for _, f := range allow.Faults() {
		r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{}, 0)
		r.run(3 * time.Second)
		setFault(&r.health, f, true)
		r.run(3 * time.Second)
		grave := f <= allow.FaultLink
		bits, state := r.beatBits()
		if bits != f.Bit()|allow.BitNoObjection || (state == common.MAV_STATE_CRITICAL) != grave {
			t.Errorf("%v: custom_mode %b, state %v", f, bits, state)
		}
		number := 2
		if grave {
			number = 0
		}
		if got := r.texts(); !slices.Equal(got, []string{f.Text(false, number)}) {
			t.Errorf("%v: texts %q", f, got)
		}
		setFault(&r.health, f, false)
		r.run(3 * time.Second)
		if bits, _ := r.beatBits(); bits != allow.BitNoObjection {
			t.Errorf("%v is over: custom_mode %b", f, bits)
		}
		if got := r.texts(); len(got) != 2 || got[1] != f.Text(true, 0) {
			t.Errorf("%v is over: texts %q", f, got)
		}
	}
}

// TestTextsAreFew: all faults at once, flickering, make no flood.
func TestTextsAreFew(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA), autopilot.Config{}, 0)
	r.run(2 * time.Second)
	for i := range 600 {
		for _, f := range allow.Faults() {
			setFault(&r.health, f, i/3%2 == 0)
		}
		r.run(200 * time.Millisecond)
	}
	last, said := time.Duration(-time.Hour), map[string]time.Duration{}
	for _, s := range r.out {
		m, ok := s.m.(*common.MessageStatustext)
		if !ok {
			continue
		}
		if s.at-last < 2*time.Second {
			t.Errorf("%q %v after the text before", m.Text, s.at-last)
		}
		if before, again := said[m.Text]; again && s.at-before < 30*time.Second {
			t.Errorf("%q again after %v", m.Text, s.at-before)
		}
		last, said[m.Text] = s.at, s.at
	}
	if len(said) < 10 {
		t.Errorf("only %d texts were told", len(said))
	}
}

func TestComputerStatus(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{}, 0)
	r.run(10 * time.Second)
	all := sentOf[*common.MessageOnboardComputerStatus](r)
	if len(all) < 4 || len(all) > 6 {
		t.Fatalf("%d in 10 s", len(all))
	}
	m := all[len(all)-1]
	if m.StorageTotal[0] != 32<<10 || m.StorageUsage[0] != 12<<10 || m.RamTotal != 512 || m.CpuCores != [8]uint8{10, 20, 30, 40, 255, 255, 255, 255} || m.StatusFlags != 0 {
		t.Errorf("%+v", m)
	}
	setFault(&r.health, allow.FaultFull, true)
	r.run(3 * time.Second)
	all = sentOf[*common.MessageOnboardComputerStatus](r)
	if m := all[len(all)-1]; m.StatusFlags != common.COMPUTER_STATUS_FLAGS_DISK_FULL {
		t.Errorf("full: flags %v", m.StatusFlags)
	}
}

func TestStorageInformation(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{}, 0)
	count := func() int { return len(sentOf[*common.MessageStorageInformation](r)) }
	r.run(21 * time.Second)
	if n := count(); n < 2 || n > 3 {
		t.Errorf("%d in 21 s", n)
	}
	before := count()
	r.health.FreeBytes -= 1 << 30
	r.run(1200 * time.Millisecond)
	if count() != before+1 {
		t.Errorf("a change is not told")
	}
	for _, c := range []struct {
		name    string
		m       *common.MessageCommandLong
		system  uint8
		answers int
		told    int
	}{
		{"by message", &common.MessageCommandLong{TargetSystem: 1, TargetComponent: 191, Command: common.MAV_CMD_REQUEST_MESSAGE, Param1: 261}, 255, 1, 1},
		{"by command", &common.MessageCommandLong{TargetSystem: 1, TargetComponent: 191, Command: common.MAV_CMD_REQUEST_STORAGE_INFORMATION}, 255, 1, 1},
		{"another message", &common.MessageCommandLong{TargetSystem: 1, TargetComponent: 191, Command: common.MAV_CMD_REQUEST_MESSAGE, Param1: 148}, 255, 1, 0},
		{"of somebody else", &common.MessageCommandLong{TargetSystem: 1, TargetComponent: 100, Command: common.MAV_CMD_REQUEST_STORAGE_INFORMATION}, 255, 0, 0},
		{"to arm us", &common.MessageCommandLong{TargetSystem: 1, TargetComponent: 191, Command: common.MAV_CMD_COMPONENT_ARM_DISARM, Param1: 1}, 255, 0, 0},
	} {
		r.run(2 * time.Second)
		acks, told := len(sentOf[*common.MessageCommandAck](r)), count()
		r.say(c.system, 190, c.m)
		r.run(50 * time.Millisecond)
		if a, n := len(sentOf[*common.MessageCommandAck](r))-acks, count()-told; a != c.answers || n != c.told {
			t.Errorf("%s: %d answers, %d told", c.name, a, n)
		}
	}
}

// TestSequence: each component counts its own frames, and only what went out.
func TestSequence(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{LogBeats: true}, 0)
	r.run(5 * time.Second)
	r.mute = true
	r.run(5 * time.Second)
	r.mute = false
	r.run(5 * time.Second)
	next := map[uint8]uint8{}
	for _, s := range r.seqs {
		if want, known := next[s[0]]; known && s[1] != want {
			t.Fatalf("component %d: sequence %d, want %d", s[0], s[1], want)
		}
		next[s[0]] = s[1] + 1
	}
	if len(next) != 2 {
		t.Errorf("components %v", next)
	}
	if s := r.p.Stats(); s.Failed == 0 || s.Refused != 0 || s.Sent == 0 || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
}

// TestClock ties the clocks within the bound that it records, with and without UTC.
func TestClock(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_ARDUPILOTMEGA)
	r := newRig(t, pilot, autopilot.Config{}, 0.1)
	r.run(30 * time.Second)
	if len(r.pairs) != 0 || len(r.has("autopilot_time_unknown")) != 1 {
		t.Fatalf("without a fix: pairs %v, events %v", r.pairs, r.events)
	}
	pilot.utc = 1790000000_000_000
	r.run(30 * time.Second)
	check := func(name string, from int) {
		t.Helper()
		if len(r.pairs) <= from {
			t.Fatalf("%s: no pairs", name)
		}
		for _, p := range r.pairs[from:] {
			wrong := p.UTCUsec - p.BootUsec - pilot.utc
			if max(wrong, -wrong) > p.UncertaintyUsec || p.UncertaintyUsec > 130_000 || p.Source != "autopilot" {
				t.Errorf("%s: %+v is wrong by %d µs", name, p, wrong)
			}
		}
	}
	check("after a fix", 0)
	if got := r.has("autopilot_time_known"); len(got) != 1 {
		t.Errorf("known: %q", got)
	}
	for _, jump := range []int64{3600_000_000, -7200_000_000} {
		n := len(r.pairs)
		pilot.utc += jump
		r.run(10 * time.Second)
		check(fmt.Sprint("jump ", jump), n+1)
	}
	if got := r.has("autopilot_time_jumped"); len(got) != 2 || !strings.HasSuffix(got[0], "forward") || !strings.HasSuffix(got[1], "back") {
		t.Errorf("jumps: %q", got)
	}
	if got := len(r.has("autopilot_rebooted")); got != 0 {
		t.Errorf("%d starts seen", got)
	}
	for i := 1; i < len(r.pairs); i++ {
		if r.pairs[i].BootUsec < r.pairs[i-1].BootUsec {
			t.Errorf("pair %d goes back on the board's clock", i)
		}
	}
}

// TestTimesync: fast, then slow; and the autopilot's own requests are answered.
func TestTimesync(t *testing.T) {
	r := newRig(t, newPilot(common.MAV_AUTOPILOT_PX4), autopilot.Config{}, 0)
	r.run(12 * time.Second)
	fast := len(sentOf[*common.MessageTimesync](r))
	if fast < 10 || fast > 13 {
		t.Errorf("%d in 12 s", fast)
	}
	r.run(60 * time.Second)
	if n := len(sentOf[*common.MessageTimesync](r)) - fast; n < 5 || n > 7 {
		t.Errorf("%d in the next 60 s", n)
	}
	r.pilot.say(&common.MessageTimesync{Ts1: 77})
	r.run(20 * time.Millisecond)
	all := sentOf[*common.MessageTimesync](r)
	if m := all[len(all)-1]; m.Ts1 != 77 || m.Tc1 < int64(r.now-20*time.Millisecond) || m.Tc1 > int64(r.now) {
		t.Errorf("answer %+v at %d", m, r.now)
	}
	// Answers that are nobody's, or from before the start, change nothing.
	for _, m := range []*common.MessageTimesync{{Ts1: 1, Tc1: -5}, {Ts1: -1, Tc1: 5}, {Ts1: int64(r.now) * 2, Tc1: int64(r.pilot.boot())}} {
		r.pilot.say(m)
	}
	r.pilot.utc = 1790000000_000_000
	r.run(3 * time.Second)
	if p := r.pairs[len(r.pairs)-1]; p.UncertaintyUsec > 130_000 {
		t.Errorf("%+v", p)
	}
}

// TestClocksThatPart: an autopilot whose clock runs at another speed never makes a pair that is
// wrong by more than it says.
func TestClocksThatPart(t *testing.T) {
	pilot := newPilot(common.MAV_AUTOPILOT_PX4)
	pilot.utc = 1790000000_000_000
	r := newRig(t, pilot, autopilot.Config{}, 0)
	r.run(30 * time.Second)
	for range 300 {
		pilot.started += 10 * time.Millisecond // a simulation that falls behind: 10 %
		r.run(100 * time.Millisecond)
	}
	for _, p := range r.pairs {
		wrong := p.UTCUsec - p.BootUsec - pilot.utc
		if max(wrong, -wrong) > p.UncertaintyUsec || p.UncertaintyUsec > 310_000 {
			t.Errorf("%+v is wrong by %d µs", p, wrong)
		}
	}
	if n := len(r.pairs); n < 50 {
		t.Errorf("%d pairs in 60 s", n)
	}
}
