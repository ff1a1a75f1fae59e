package e2e_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink/serial/serialtest"
)

const armAuthorization = common.MAV_CMD_ARM_AUTHORIZATION_REQUEST

// otherLink is a second link of a configuration; while nothing is at the end of it the board is not well.
const otherLink = "[[link]]\nname = \"other\"\ndevice = \"fc2\"\n"

// mend puts something at the end of the other link.
func (b *board) mend() *serialtest.Pty {
	b.t.Helper()
	p, err := serialtest.NewPty(b.path("fc2"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.Close() })
	return p
}

// TestArmingVeto: denied with a reason while the board is not well, accepted when it is mended or the
// operator says so, always accepted in the air; each in the record.
func TestArmingVeto(t *testing.T) {
	t.Parallel()
	b := newBoard(t, otherLink, "[policy]", "arming_veto = true")
	c := b.controller()
	daemon := b.run()
	c.wantAuth("a link is not there", common.MAV_RESULT_DENIED)
	waitFor(t, patience, "a text that says why", func() bool { return slices.Contains(c.texts(), "Holdfast: arming denied, link") })
	c.arm(true)
	waitFor(t, patience, "the armed state", func() bool { return b.health()["armed"] == true })
	c.wantAuth("in the air", common.MAV_RESULT_ACCEPTED)
	c.arm(false)
	waitFor(t, patience, "the disarmed state", func() bool { return b.health()["armed"] == false })
	c.wantAuth("on the ground again", common.MAV_RESULT_DENIED)
	other := b.mend()
	c.settle("mended", common.MAV_RESULT_ACCEPTED)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	c.settle("broken again", common.MAV_RESULT_DENIED)
	writeFile(t, b.path("arming.override"), "ferry flight, signed off by K.\n")
	c.wantAuth("overridden", common.MAV_RESULT_ACCEPTED)
	if err := os.Remove(b.path("arming.override")); err != nil {
		t.Fatal(err)
	}
	c.wantAuth("no longer overridden", common.MAV_RESULT_DENIED)
	daemon.stop()
	c.stop()
	records := b.open(0)
	for kind, words := range map[string]string{"arming_denied": "link", "armed_against_veto": "link", "arming_override": "link: ferry flight, signed off by K."} {
		if events(records, kind, words) == 0 {
			t.Errorf("the record has no %s %q: %v", kind, words, allEvents(records))
		}
	}
	if _, why := c.outside(allow.Options{Veto: true}); len(why) > 0 {
		t.Error(why)
	}
}

func (c *controller) wantAuth(when string, want common.MAV_RESULT) {
	c.t.Helper()
	if got := c.answer(armAuthorization, 0); got != want {
		c.t.Errorf("%s: %v, want %v", when, got, want)
	}
}

// settle asks until the answer is the one that is wanted.
func (c *controller) settle(when string, want common.MAV_RESULT) {
	c.t.Helper()
	for range 30 {
		if c.answer(armAuthorization, 0) == want {
			return
		}
		<-time.After(500 * time.Millisecond)
	}
	c.t.Errorf("%s: never %v", when, want)
}

// texts are the STATUSTEXTs that came.
func (c *controller) texts() (texts []string) {
	for _, m := range c.messages() {
		if s, ok := m.(*common.MessageStatustext); ok {
			texts = append(texts, s.Text)
		}
	}
	return texts
}

// TestVetoByFullVault: a vault that takes nothing denies arming, and no longer when there is room
// again, without a restart.
func TestVetoByFullVault(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.smallMedium(40)
	text := "[[link]]\nname = \"fc\"\ndevice = \"" + b.path("fc") + "\"\n[lock]\nmode = \"bench\"\n[vault]\nwhen_full = \"stop\"\npath = \"medium/vault\"\n[policy]\narming_veto = true\n"
	writeFile(t, b.config(), text)
	c := b.controller()
	daemon := b.run()
	pid := daemon.child()
	c.wantAuth("all is well", common.MAV_RESULT_ACCEPTED)
	filler := b.fill(0)
	waitFor(t, patience, "fault in status.json", func() bool { return b.state() == "fault" })
	c.settle("full", common.MAV_RESULT_DENIED)
	waitFor(t, patience, "a text that says why", func() bool { return slices.Contains(c.texts(), "Holdfast: arming denied, vault") })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.settle("room again", common.MAV_RESULT_ACCEPTED)
	if pid != daemon.child() {
		t.Error("the recorder was started again")
	}
	daemon.stop()
	if records := b.peek(); events(records, "arming_denied", "vault") == 0 {
		t.Errorf("the record does not tell of the denial: %v", allEvents(records))
	}
}

// TestVetoOfVehicles: both flavours wait until the board is well and then arm; one that is told to
// arms all the same, and the record says so; without the veto nobody is answered.
func TestVetoOfVehicles(t *testing.T) {
	t.Parallel()
	veto := allow.Options{Veto: true}
	on := []string{otherLink, "[policy]", "arming_veto = true", `autopilot_log = "off"`}
	args := func(more ...string) []string { return append([]string{"--duration", "30s"}, more...) }
	px4 := newBoard(t, on...).takeOff(veto, args("--stack", "px4", "--arm-auth")...)
	ardu := newBoard(t, on...).takeOff(veto, args("--aux-auth")...)
	forced := newBoard(t, on...).takeOff(veto, args("--stack", "px4", "--arm-auth", "--force-arm")...)
	off := newBoard(t, otherLink).takeOff(allow.Options{}, "--stack", "px4", "--arm-auth", "--duration", "12s")
	<-time.After(9 * time.Second)
	for _, s := range []*sortie{px4, ardu} {
		if s.health()["armed"] == true {
			t.Error("armed while the board is not well")
		}
		s.mend()
	}
	for _, s := range []*sortie{px4, ardu, forced, off} {
		s.finish()
	}
	if v := px4.sum.Vehicle; v.ArmDenied == 0 || v.ArmAccepted != 1 || events(px4.records, "armed", "") == 0 || events(px4.records, "arming_denied", "link") == 0 {
		t.Errorf("px4: %+v, %v", v, allEvents(px4.records))
	}
	if v := ardu.sum.Vehicle; v.ArmHeld == 0 || events(ardu.records, "armed", "") == 0 {
		t.Errorf("ardupilot: %+v, %v", v, allEvents(ardu.records))
	}
	if v := forced.sum.Vehicle; v.ArmDenied == 0 || !v.ArmForced || events(forced.records, "armed_against_veto", "link") == 0 {
		t.Errorf("forced: %+v, %v", v, allEvents(forced.records))
	}
	if v := off.sum.Vehicle; v.ArmUnanswered == 0 || v.ArmAccepted+v.ArmDenied != 0 || v.HeardBy["191/COMMAND_ACK"] != 0 {
		t.Errorf("without the veto: %+v", v)
	}
}
