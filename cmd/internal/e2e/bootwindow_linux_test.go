package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/mavlink/vehicle"
)

// A machine of its own, with systemd from Debian, is switched on, flies, and is switched off, while a
// hostile network on each of its adapters gives it addresses and asks it to answer. The far side of
// each adapter is a socket of the test's, so that the first frame is seen as well as the last one.
// What acts on a whole machine and so cannot be tried on the one that runs the tests (swap, core
// dumps, radios, USB, the root cgroup, drop-ins of systemd) is looked at in it too.
//
// The same life is lived twice: by a machine with the guard, of which not one frame may leave, and by one
// without, which has to talk in each phase and on each adapter. Without that the silence would be
// no proof.

// The phases of a machine's life, in this order.
const (
	phasePowerOn  = "power on"
	phaseFlight   = "flight"
	phaseAttack   = "attack, 5 s on end"
	phaseCrash    = "recorder crashed"
	phaseKilled   = "guard killed"
	phaseUSB      = "USB adapter plugged in"
	phaseLook     = "look at the machine"
	phaseLanding  = "landing"
	phaseShutdown = "shutdown"
)

// bootGuest is a machine on which Holdfast is installed as its package would do it, with the guard
// or without.
type bootGuest struct {
	*machine
	b      *board
	locked bool
	tries  int             // of exfil as a user
	met    map[string]bool // what exfil has said already
}

func newBootGuest(t testing.TB, locked bool) *bootGuest {
	t.Helper()
	b := &board{t: t, dir: t.TempDir()}
	b.operator = b.path("operator.key")
	writeFile(t, b.path("recipients.txt"), must(t, "holdfast", "keygen", "-o", b.operator))
	mode := "bench"
	if locked {
		mode = "locked"
	}
	writeFile(t, b.config(), fmt.Sprintf("[[link]]\nname = \"fc\"\ndevice = \"/dev/ttyS1\"\n[lock]\nmode = %q\n"+
		"[vault]\npath = \"/var/lib/holdfast/vault\"\ndevice_key = \"/var/lib/holdfast/device.key\"\nreserve = \"1MiB\"\n[status]\nfile = %q\n", mode, guestStatus))
	files := guestFiles(t)
	files["/etc/holdfast/holdfast.toml"], files["/etc/holdfast/recipients.txt"] = b.config(), b.path("recipients.txt")
	units := systemdFiles(t, locked)
	for to, from := range units {
		files[to] = from
	}
	enabled := systemdEnabled(t, files)
	return &bootGuest{newMachine(t, files, enabled), b, locked, 0, map[string]bool{}}
}

// guestFiles is what both guests have on their disk beside Debian and Holdfast: the test's programs, and what a
// board may have that a locked one must not use.
func guestFiles(t testing.TB) map[string]string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/internal/guest/agent", "./cmd/internal/guest/exfil")
	build.Dir, build.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	text := func(name, content string) string { return writeFile(t, filepath.Join(dir, name), content) }
	return map[string]string{
		"/usr/local/bin/agent": filepath.Join(dir, "agent"),
		guestExfil:             filepath.Join(dir, "exfil"),
		"/usr/bin/holdfastd":   filepath.Join(bin, "holdfastd"),
		"/etc/systemd/system/agent.service": text("agent.service", "[Unit]\nDescription=Hands of the test\n"+
			"StartLimitIntervalSec=0\n[Service]\nExecStart=/usr/local/bin/agent\nRestart=always\nRestartSec=200ms\n[Install]\nWantedBy=multi-user.target\n"),
		// A program that does its worst from the first moment at which systemd starts any.
		"/etc/systemd/system/early.service": text("early.service", "[Unit]\nDescription=Exfil, as early as can be\nDefaultDependencies=no\n"+
			"[Service]\nExecStart="+guestExfil+" 60 100\n[Install]\nWantedBy=sysinit.target\n"),
		"/etc/fstab":                     text("fstab", "/dev/vda / ext4 rw 0 1\n/dev/vdb none swap defaults 0 0\n"),
		"/etc/sysctl.d/50-guest.conf":    text("sysctl", "kernel.core_pattern=/var/tmp/core.%e\nnet.ipv4.ip_forward=1\n"),
		"/etc/modules-load.d/radio.conf": text("load", "mac80211_hwsim\n"),
		"/etc/modprobe.d/radio.conf":     text("probe", "options mac80211_hwsim radios=1\n"),
	}
}

// TestBootWindow lives both lives.
func TestBootWindow(t *testing.T) {
	if !long {
		t.Skip("HOLDFAST_LONG=1 runs it: it takes some ten minutes")
	}
	t.Run("without the guard", func(t *testing.T) {
		g := newBootGuest(t, false)
		g.checkVault(g.live())
		g.wantTalk()
	})
	t.Run("locked", func(t *testing.T) {
		g := newBootGuest(t, true)
		p := g.live()
		g.wantSilence()
		g.checkAudit(g.checkVault(p))
	})
}

// live is a machine's life.
func (g *bootGuest) live() *pilot {
	defer func() {
		g.report()
		if g.t.Failed() {
			g.t.Log(g.console())
		}
	}()
	g.powerOn()
	g.up()
	g.waitLocked(0)
	g.logOrder()
	g.waitTalk("virtio", "e1000")
	g.phase(phaseFlight)
	p := fly(g.t, g.feed, vehicle.Options{Seed: 73, Duration: 15 * time.Minute})
	g.waitRecording("a flight")
	g.exfil()
	g.phase(phaseAttack)
	g.exfil("5")
	g.wantNoDrops()
	g.phase(phaseCrash)
	g.kill(recordUnit, "SEGV")
	g.waitRecording("after the crash of the recorder")
	g.killGuard()
	g.plugIn()
	g.usbSettles()
	g.exfil()
	g.phase(phaseLook)
	g.checkHost()
	g.checkCapabilities()
	g.daemonCheck()
	g.phase(phaseLanding)
	p.down(g.t)
	waitFor(g.t, bootPatience, "end of the flight", func() bool { return !g.status().Armed })
	g.shutDown()
	return p
}

// killGuard kills the guard, where there is one, and wants the next one to call the machine locked.
func (g *bootGuest) killGuard() {
	g.t.Helper()
	if !g.locked {
		return
	}
	g.phase(phaseKilled)
	usec := g.lock().Usec
	g.kill(guardUnit, "KILL")
	g.waitLocked(usec)
}

// usbSettles waits until the adapter on the bus is refused, or talks.
func (g *bootGuest) usbSettles() {
	g.t.Helper()
	if g.locked {
		g.usbRefused()
	}
	g.waitTalk("usb")
}

// wantSilence wants that no frame has left on any wire.
func (g *bootGuest) wantSilence() {
	g.t.Helper()
	out := g.sent("")
	for i, s := range out[:min(len(out), 20)] {
		g.t.Errorf("frame %d of %d, %v after power-on (%s): %s", i+1, len(out), s.at.Sub(g.began).Round(time.Millisecond), g.phaseAt(s.at), s)
	}
	if len(out) == 0 {
		g.t.Logf("no frame left in %v, from power-on to the end", g.ended.Sub(g.began).Round(time.Second))
	}
}

// waitTalk waits, on a machine without the guard, until it has an address on the wires: it answers ARP.
func (g *bootGuest) waitTalk(wires ...string) {
	g.t.Helper()
	for _, w := range wires {
		if g.locked {
			continue
		}
		waitFor(g.t, bootPatience, "an address on "+w, func() bool {
			return slices.ContainsFunc(g.sent("", w), func(s seen) bool {
				return describe(s.frame) == "ARP" && len(s.frame) > 21 && s.frame[21] == 2
			})
		})
	}
}

// wantTalk is the anti-test: frames of each of these kinds have left, in the phase and on the wire.
func (g *bootGuest) wantTalk() {
	g.t.Helper()
	all := slices.SortedFunc(slices.Values(g.sent("")), func(a, b seen) int { return a.at.Compare(b.at) })
	if len(all) > 0 {
		g.t.Logf("%d frames; the first left %v after power-on", len(all), all[0].at.Sub(g.began).Round(100*time.Millisecond))
	}
	kernel := []string{"ARP", "IPv6 MLD"}
	attack := []string{"TCP port 443 to 198.51.100.7", "UDP port 53 to 198.51.100.8", "UDP port 5353", "raw frame"}
	for _, row := range []struct {
		phase string
		wires []string
		kinds []string
	}{
		{phasePowerOn, adapters[:2], append(kernel, "DHCP", "IPv6 ND", "LLDP")},
		{phaseFlight, nil, append(kernel, attack...)},
		{phaseAttack, nil, append(kernel, attack...)},
		{phaseCrash, nil, append(kernel, attack...)},
		{phaseUSB, adapters[2:], append(kernel, "DHCP", "IPv6 ND", "raw frame")},
		{phaseLook, nil, []string{"ARP"}},
		{phaseLanding, nil, []string{"ARP"}},
		{phaseShutdown, nil, []string{"ARP"}},
	} {
		for _, k := range row.kinds {
			if !slices.ContainsFunc(g.sent(row.phase, row.wires...), func(s seen) bool { return strings.Contains(describe(s.frame), k) }) {
				g.t.Errorf("%s %v: no %s left the machine without the guard: the silence of the other proves nothing about it", row.phase, row.wires, k)
			}
		}
	}
}
