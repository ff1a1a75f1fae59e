package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/firmware/evidence"
)

// Names of the units, as scripts/systemd has them.
const (
	guardUnit  = "holdfast-guard.service"
	recordUnit = "holdfast-record.service"

	guestRun    = "/run/holdfast"
	guestStatus = "/run/holdfast/recorder/status.json"
	guestExfil  = "/usr/local/bin/exfil"
)

// lock reads what the guard says.
func (g *bootGuest) lock() *evidence.Lock {
	out, _ := g.try("/bin/cat", guestRun+"/"+evidence.LockFile)
	l, err := evidence.ParseLock([]byte(out))
	if err != nil {
		return &evidence.Lock{Lock: "unknown", Why: out}
	}
	return l
}

// recorderStatus is what the test reads of status.json.
type recorderStatus struct {
	State  string `json:"state"`
	Lock   string `json:"lock"`
	Grade  string `json:"grade"`
	Armed  bool   `json:"armed"`
	Record string `json:"record"`
	Drops  int64  `json:"ring_drops"`
	Error  string `json:"last_error"`
}

// status reads what the recorder says.
func (g *bootGuest) status() (s recorderStatus) {
	out, _ := g.try("/bin/cat", guestStatus)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		s.State = "no status: " + out
	}
	return s
}

// waitLocked waits until the guard calls the machine locked, on a statement later than usec.
func (g *bootGuest) waitLocked(usec int64) {
	g.t.Helper()
	if !g.locked {
		return
	}
	var l *evidence.Lock
	if !eventually(lookPatience, func() bool { l = g.lock(); return l.Lock == evidence.Locked && l.Usec > usec }) {
		g.t.Errorf("the guard does not call the machine locked: %s, grade %s, %s", l.Lock, l.Grade, l.Why)
		g.journal(guardUnit)
	}
	for _, layer := range l.Layers {
		g.t.Logf("layer %-13s %-8s needed %-5v %s", layer.Name, layer.State, layer.Needed, layer.Detail)
	}
}

// logOrder prints, in seconds since the kernel's start, when the guard was ready and when the drivers of adapters came.
func (g *bootGuest) logOrder() {
	g.t.Helper()
	for _, unit := range []string{guardUnit, "systemd-udev-trigger.service", "early.service", "systemd-networkd.service", recordUnit} {
		g.t.Logf("%-30s %s", unit, g.do("/bin/sh", "-c", "systemctl show -p ExecMainStartTimestampMonotonic -p ActiveEnterTimestampMonotonic "+unit+" | sort -r | tr '\n' ' '"))
	}
	out, _ := g.try("/bin/sh", "-c", "journalctl -k -o short-monotonic --no-pager | grep -E 'e1000.* eth|virtio_net|Refusing|not ready|becomes ready'")
	g.t.Log(out)
}

// journal prints what a unit had to say.
func (g *bootGuest) journal(unit string) {
	g.t.Helper()
	out, _ := g.try("/bin/journalctl", "--no-pager", "-n", "40", "-u", unit)
	status, _ := g.try("/bin/systemctl", "status", "--no-pager", unit)
	g.t.Logf("%s:\n%s%s", unit, status, out)
}

// mainPID is the process of a unit; 0 where it has none.
func (g *bootGuest) mainPID(unit string) string {
	return strings.TrimSpace(g.do("/bin/systemctl", "show", "-p", "MainPID", "--value", unit))
}

// kill ends a unit's process by a signal and waits for the next one, while exfil tries its luck.
func (g *bootGuest) kill(unit, signal string) {
	g.t.Helper()
	before, since := g.mainPID(unit), time.Now()
	g.do("/bin/systemctl", "kill", "--kill-whom=main", "-s", signal, unit)
	g.exfil()
	if !eventually(lookPatience, func() bool { now := g.mainPID(unit); return now != "0" && now != before }) {
		g.t.Errorf("%s was not started again after %s", unit, signal)
		g.journal(unit)
		return
	}
	g.t.Logf("%s: process %s, killed by %s, is %s after %v", unit, before, signal, g.mainPID(unit), time.Since(since).Round(100*time.Millisecond))
}

// exfil runs the attack as root and as an ordinary user.
func (g *bootGuest) exfil(args ...string) {
	g.t.Helper()
	asUser := []string{"/usr/bin/setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"}
	for who, argv := range map[string][]string{"root": nil, "a user": asUser} {
		out, code := g.try(append(append(argv, guestExfil), args...)...)
		n := 0
		if _, err := fmt.Sscanf(out, "tries %d", &n); err != nil || code != 0 {
			g.t.Errorf("exfil as %s: %d: %s", who, code, out)
		}
		if argv != nil {
			g.tries += n
		}
		if _, known := g.met[who+out]; !known {
			g.met[who+out] = true
			g.t.Logf("exfil as %s: %s", who, out)
		}
	}
}

// waitRecording waits until the recorder is in an armed record, and wants it to know of the lock.
func (g *bootGuest) waitRecording(what string) {
	g.t.Helper()
	var s recorderStatus
	want := evidence.Bench
	if g.locked {
		want = evidence.Locked
	}
	if !eventually(lookPatience, func() bool { s = g.status(); return s.Armed && s.Record != "" && s.Lock == want }) {
		g.t.Errorf("%s: the recorder says %+v, want %q", what, s, want)
		g.t.Logf("the guard says %s", g.do("/bin/sh", "-c", "cat /run/holdfast/lock.json; ls -l /run/holdfast; cat /proc/uptime"))
		g.journal(recordUnit)
	}
}

// wantNoDrops wants that the attack has cost no telemetry.
func (g *bootGuest) wantNoDrops() {
	g.t.Helper()
	if s := g.status(); s.Drops != 0 {
		g.t.Errorf("the recorder lost %d bytes while a program attacked", s.Drops)
	}
}

// usbRefused waits until the adapter is on the bus, and wants it without leave to work.
func (g *bootGuest) usbRefused() {
	g.t.Helper()
	var out string
	const look = "for d in /sys/bus/usb/devices/*/idVendor; do d=${d%/idVendor}; echo $(cat $d/idVendor $d/idProduct $d/authorized) $(ls -d $d/*/net/* 2>/dev/null); done"
	waitFor(g.t, bootPatience, "the USB adapter on the bus", func() bool {
		out = g.do("/bin/sh", "-c", look)
		return strings.Contains(out, "0525 a4a2")
	})
	if !eventually(patience, func() bool { out = g.do("/bin/sh", "-c", look); return strings.Contains(out, "0525 a4a2 0") }) {
		g.t.Errorf("the USB adapter that nobody named may work: %s", out)
	}
	g.t.Logf("USB: %s", strings.ReplaceAll(out, "\n", "; "))
}

// daemonCheck runs `holdfastd check` in the guest.
func (g *bootGuest) daemonCheck() {
	g.t.Helper()
	out, code := g.try("/usr/bin/holdfastd", "check", "--config", "/etc/holdfast/holdfast.toml")
	g.t.Logf("holdfastd check: %d\n%s", code, out)
	if !g.locked {
		return
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "NOT OK") && !strings.HasPrefix(line, "uart") { // the recorder has it
			g.t.Errorf("on a locked machine holdfastd check says: %s", line)
		}
	}
	if !strings.Contains(out, "locked, grade B") {
		g.t.Error("holdfastd check does not call the machine locked")
	}
}

// checkVault takes the vault from the disk, opens it, and looks for the flight.
func (g *bootGuest) checkVault(p *pilot) []*opened {
	g.t.Helper()
	g.b.medium = g.disk("/var/lib/holdfast")
	if r := run(g.t, "holdfast", "verify", g.b.vault()); r.code != 3 {
		g.t.Errorf("verify: %d, want 3 (the recorder crashed): %s%s", r.code, r.stdout, r.stderr)
	}
	records := g.b.open(3)
	flights, at := 0, 0
	for _, r := range records {
		g.t.Logf("%s: %s, %s, %d frames, continues %q", r.Record, r.Kind, r.State, r.Frames, r.Continues)
		if r.Kind == "flight" {
			flights++
		}
	}
	opened := allFrames(records)
	for i, f := range opened {
		for at < len(p.sent) && !bytes.Equal(f, p.sent[at]) {
			at++
		}
		if at == len(p.sent) {
			g.t.Errorf("opened frame %d of %d was never sent, or comes a second time", i, len(opened))
			break
		}
		at++
	}
	g.t.Logf("%d frames sent, %d opened", len(p.sent), len(opened))
	if flights != 2 || len(opened) < len(p.sent)*9/10 {
		g.t.Errorf("%d flights, %d of %d frames: want 2 flights (one cut by the crash) and nearly all frames", flights, len(opened), len(p.sent))
	}
	return records
}

// checkAudit wants the attack in the opened flights: which program, and where to. How soon an attempt was known is
// printed alone: an emulated processor tells nothing about that.
func (g *bootGuest) checkAudit(records []*opened) {
	g.t.Helper()
	var flights []evidence.Attempt
	slowest := int64(0)
	for _, r := range records {
		kinds := map[string]int64{}
		for _, a := range jsonLines[evidence.Attempt](g.t, filepath.Join(r.dir, "audit.jsonl")) {
			if a.Layer == "" {
				continue // an event of the recorder's
			}
			kinds[fmt.Sprintf("%s %s, uid %d, %q, %s to %q, link %q, %s", a.Layer, a.What, a.UID, a.Program, a.Protocol, a.Destination, a.Link, a.Detail)] += a.Count
			if r.Kind == "flight" {
				flights = append(flights, a)
				slowest = max(slowest, a.SeenUsec-max(a.Usec, a.LastUsec))
			}
		}
		g.t.Logf("%s names", r.Record)
		for _, k := range sortedKeys(kinds) {
			g.t.Logf("%8d  %s", kinds[k], k)
		}
	}
	g.t.Logf("an attempt was known %v after it at the latest", time.Duration(slowest)*time.Microsecond)
	g.checkCounts(flights)
	for _, want := range []struct {
		destination string
		uid         int64
	}{{"198.51.100.7:443", 0}, {"198.51.100.8:53", 0}, {"[2001:db8::7]:443", 0}, {"198.51.100.7:443", 1000}} {
		if !slices.ContainsFunc(flights, func(a evidence.Attempt) bool {
			return a.Program == guestExfil && a.Destination == want.destination && a.UID == want.uid
		}) {
			g.t.Errorf("no flight's audit.jsonl names %s of user %d with destination %s", guestExfil, want.uid, want.destination)
		}
	}
}

// checkCounts compares what the records say of one place with how often the user went there. A second of it may have
// gone with the recorder's crash; none may be invented.
func (g *bootGuest) checkCounts(flights []evidence.Attempt) {
	g.t.Helper()
	var named int64
	for _, a := range flights {
		if a.UID == 1000 && a.Destination == "198.51.100.7:443" {
			named += a.Count
		}
	}
	g.t.Logf("the user has tried %d times, the records say %d", g.tries, named)
	if named > int64(g.tries) || named < int64(g.tries)*2/3 {
		g.t.Error("the records do not tell how often a program tried")
	}
}
