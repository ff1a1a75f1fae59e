package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
)

// verify runs `holdfast verify --json` on the board's vault.
func (b *board) verify(wantCode int, flags ...string) (state string) {
	b.t.Helper()
	r := run(b.t, "holdfast", append([]string{"verify", "--json", b.vault()}, flags...)...)
	var doc struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || r.code != wantCode {
		b.t.Fatalf("verify: exit code %d, want %d, %v: %s%s", r.code, wantCode, err, r.stdout, r.stderr)
	}
	return doc.State
}

// A vault is open while a recorder writes it, cut when that was killed, open again under the next
// one, and not worse than cut for ever: with the device key pinned from before, and with the head
// that was kept at each step.
func TestVerifyThroughTheLifeOfAVault(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line, daemon := b.pty(), b.record()
	frames := groundFrames(t, 66)
	send(t, line, join(frames[:300]))
	b.waitNewRecord("")
	waitFor(t, patience, "a first checkpoint", func() bool { return len(globLog(b)) == 2 })
	pinned := []string{"--device-key", writeFile(t, b.path("noted.pub"), string(readFile(t, filepath.Join(b.device(), "LOG", "device.pub"))))}
	if s := b.verify(0, pinned...); s != "open" {
		t.Errorf("while it is recorded: %s", s)
	}
	daemon.kill()
	if s := b.verify(3, pinned...); s != "cut" {
		t.Errorf("after the kill: %s", s)
	}
	pinned = append(pinned, "--head", writeFile(t, b.path("head"), string(readFile(t, globLog(b)[0]))))
	daemon = b.record()
	send(t, line, join(frames[300:]))
	b.waitNewRecord("G00000001")
	if s := b.verify(3, pinned...); s != "cut" {
		t.Errorf("while the next one is recorded: %s", s)
	}
	daemon.stop()
	if s := b.verify(3, pinned...); s != "cut" {
		t.Errorf("at the end: %s", s)
	}
}

func globLog(b *board) (slots []string) {
	slots, _ = filepath.Glob(filepath.Join(b.device(), "LOG", "cp.?"))
	return slots
}
