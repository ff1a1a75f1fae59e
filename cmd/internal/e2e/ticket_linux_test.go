package e2e_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"

	"holdfast/firmware/evidence"
)

// TestTicket: the only way to open the lock, from the operator's command to the public log and
// back: recording stops, the named link comes up and no other, everything closes when the ticket
// is taken away, recording goes on, and the same ticket opens nothing again.
func TestTicket(t *testing.T) {
	b := newLockedBoard(t)
	verifier := must(t, "holdfast", "keygen", "--signer", "-o", b.path("signing.key"))
	writeFile(t, b.path("signers.txt"), verifier)
	line := b.line()
	p := b.start()
	traffic := join(groundFrames(t, 91))
	send(t, line, traffic)
	waitFor(t, patience, "a recorder that records", func() bool { return b.state() == "recording" })
	waitFor(t, patience, "the recorder's word", func() bool { return b.recorder() != nil && b.recorder().BootCount == 1 })
	state, err := os.ReadFile(b.path("run/" + evidence.RecorderFile))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, b.path("state.json"), string(state))
	must(t, "holdfast", "ticket", "--interfaces", "fc-eth", "--span", "10m", "--state", b.path("state.json"),
		"--sign-with", b.path("signing.key"), "-o", b.path("ticket"))
	if err := os.Rename(b.path("ticket"), b.path("maintenance.ticket")); err != nil {
		t.Fatal(err)
	}

	waitFor(t, patience, "an open lock", func() bool { m := b.lock().Maintenance; return m != nil && m.Phase == evidence.PhaseOpen })
	number := b.lock().Maintenance.Number
	if l := b.lock(); l.Lock != evidence.Open || l.Grade != evidence.None {
		t.Errorf("open for maintenance: %s, grade %s", l.Lock, l.Grade)
	}
	if r := b.recorder(); r.Stopped != number || r.Record != "" {
		t.Errorf("the recorder says %+v", r)
	}
	if got := b.records(); len(got) != 1 {
		t.Errorf("records %v before maintenance, want one", got)
	}
	if !linkUp(t, "fc-eth") || linkUp(t, "fc-far") {
		t.Errorf("named link up: %v, the other: %v", linkUp(t, "fc-eth"), linkUp(t, "fc-far"))
	}
	send(t, line, traffic) // heard by nobody

	if err := os.Rename(b.path("maintenance.ticket"), b.path("kept")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, patience, "a closed lock", func() bool { return b.lock().Maintenance == nil && layerState(b.lock(), "links-down") == "ok" })
	waitFor(t, patience, "the link down", func() bool { return !linkUp(t, "fc-eth") })
	waitFor(t, patience, "a recorder that goes on", func() bool { r := b.recorder(); return r != nil && r.Stopped == "" })
	send(t, line, traffic)
	waitFor(t, patience, "a second record", func() bool { return len(b.records()) == 2 })

	if err := os.Rename(b.path("kept"), b.path("maintenance.ticket")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, patience, "the guard's refusal", func() bool { return bytes.Contains([]byte(p.errs.String()), []byte("ticket refused")) })
	if m := b.lock().Maintenance; m != nil || linkUp(t, "fc-eth") {
		t.Errorf("opened a second time: %+v", m)
	}
	settled(b)
	p.stop()
	must(t, "holdfast", "verify", b.vault())
	log, err := os.ReadFile(filepath.Join(b.device(), "LOG", "log.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(log, []byte(`"ticket":"`+number+`"`)); n == 0 {
		t.Error("the ticket is not in the public log")
	}
	must(t, "holdfast", "open", b.vault(), "-i", b.operator, "-o", b.path("opened"))
	told := false
	for _, a := range attempts(t, b.path("opened")) {
		told = told || a.Layer == "ticket"
	}
	if !told {
		t.Error("the ticket that was used twice is not in audit.jsonl")
	}
}

// recorder is what the recorder tells the guard; nil where it tells nothing.
func (l *lockedBoard) recorder() *evidence.Recorder {
	data, err := os.ReadFile(l.path("run/" + evidence.RecorderFile))
	if err != nil {
		return nil
	}
	r, err := evidence.ParseRecorder(data)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func linkUp(t *testing.T, name string) bool {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.Flags&net.FlagUp != 0
}
