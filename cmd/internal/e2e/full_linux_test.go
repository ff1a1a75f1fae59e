package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallMedium puts the board's vault on a file system of its own, of so many MiB, which only a
// process in a mount namespace of its own has mounted. Daemons are started in there; the test
// reaches it by that process's root.
func (b *board) smallMedium(mib int, vaultKeys ...string) {
	b.t.Helper()
	if os.Geteuid() != 0 {
		b.t.Skip("mounting a small file system needs root")
	}
	at := b.path("medium")
	if err := os.Mkdir(at, 0o700); err != nil {
		b.t.Fatal(err)
	}
	script := fmt.Sprintf("mount -t tmpfs -o size=%dm,mode=700 none '%s' && echo mounted && exec cat", mib, at)
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
	hold, err1 := cmd.StdinPipe() // cat ends when this process does
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		b.t.Skipf("no mount namespace: %v", err)
	}
	b.t.Cleanup(func() { hold.Close(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		b.t.Skipf("no small file system: %q, %v", line, err)
	}
	b.medium, b.space = fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, at), cmd.Process.Pid
	b.configure(b.path("fc"), append([]string{`path = "medium/vault"`}, vaultKeys...)...)
}

// fill takes all free space but leave bytes of the medium, and returns the file that holds it.
func (b *board) fill(leave int64) string {
	b.t.Helper()
	name := filepath.Join(b.medium, "filler")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 64<<10)
	for b.free() > leave {
		if _, err := f.Write(page[:min(int64(len(page)), b.free()-leave)]); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				break
			}
			b.t.Fatal(err)
		}
	}
	return name
}

func (b *board) free() int64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(b.medium, &s); err != nil {
		b.t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// TestFullMedium: the medium fills up while the recorder writes, down to the last byte or to
// what the recorder leaves alone, and gets room again. Every byte is there in the end: what
// found no room on the medium waited in memory, and then on the line.
func TestFullMedium(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		leave   int64
		waiting int // frames that come while it is full; 16,000 are more than memory takes
	}{
		"to the last byte":      {0, 2000},
		"to the reserve":        {4 << 20, 2000},
		"more than memory":      {4 << 20, 30000},
		"last byte, and memory": {0, 30000},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBoard(t)
			b.smallMedium(40, `when_full = "stop"`)
			line, daemon := b.pty(), b.run()
			pid := daemon.child()
			r := rand.New(rand.NewPCG(71, 1))
			parts := [][]byte{randomFrames(r, 0, 2000), randomFrames(r, 2000, tc.waiting), randomFrames(r, 2000+tc.waiting, 1000)}
			send(t, line, parts[0])
			waitFor(t, patience, "recording", func() bool { return b.state() == "recording" })
			filler := b.fill(tc.leave)
			written := make(chan struct{})
			go func() {
				defer close(written)
				line.Write(parts[1]) // blocks where memory is full
			}()
			waitFor(t, patience, "fault in status.json", func() bool { return b.state() == "fault" })
			if h := b.health(); h["last_error"] == "" {
				t.Errorf("a fault without a word: %v", h)
			}
			<-time.After(2 * time.Second) // it stays full for a while
			if h := b.health(); h["state"] != "fault" || !daemon.running() {
				t.Errorf("while it is full: %v", h)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			waitFor(t, patience, "an end of the fault", func() bool { s := b.state(); return s == "recording" || s == "standby" })
			<-written
			send(t, line, parts[2])
			waitFor(t, patience, "recording again", func() bool { return b.state() == "recording" })
			if pid != daemon.child() {
				t.Error("the recorder was started again")
			}
			daemon.stop()
			b.checkAfterFull(slices.Concat(parts...))
		})
	}
}

// checkAfterFull wants the whole stream, and states that say no more than that a segment was
// not closed in good order.
func (b *board) checkAfterFull(stream []byte) {
	b.t.Helper()
	code, state, _ := b.list()
	if code != 0 && (code != 3 || state != "cut") {
		b.t.Errorf("list: exit code %d, state %s", code, state)
	}
	records := b.open(code)
	for _, r := range records {
		for _, m := range r.Missing {
			if r.State != "cut" || !strings.HasPrefix(m.What, "what came after the last flush") {
				b.t.Errorf("%s (%s) misses %s: %s", r.Record, r.State, m.What, m.Why)
			}
		}
	}
	b.t.Logf("%d records, state %s, events %v", len(records), state, allEvents(records))
	checkStream(b.t, stream, records)
}

// A signal ends the recorder within 2 s also while the medium is full and memory too, and what
// was synced before opens.
func TestStopWhileFull(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.smallMedium(40)
	line, daemon := b.pty(), b.run()
	r := rand.New(rand.NewPCG(74, 1))
	parts := [][]byte{randomFrames(r, 0, 2000), randomFrames(r, 2000, 30000)}
	send(t, line, parts[0])
	b.waitSealed(int64(len(parts[0]) >> 16))
	b.waitDurable(2000)
	b.fill(0)
	go line.Write(parts[1]) // ends when the line is closed
	waitFor(t, patience, "fault in status.json", func() bool { return b.state() == "fault" })
	if err := daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := daemon.wait(2 * time.Second); code != 0 && code != 1 {
		t.Errorf("exit code %d: %s", code, daemon.errs.String())
	}
	line.Close()
	code, _, _ := b.list()
	got := join(allFrames(b.open(code)))
	if sent := slices.Concat(parts...); len(got) < len(parts[0]) || !slices.Equal(got[:len(parts[0])], parts[0]) || !slices.Equal(got, sent[:len(got)]) {
		t.Errorf("%d bytes opened; %d were synced before the medium was full", len(got), len(parts[0]))
	}
}

// A medium that is full from the start: no exit, no half record, and recording when it has room.
func TestFullMediumAtStart(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.smallMedium(24)
	frames := groundFrames(t, 72)
	line, daemon := b.pty(), b.run()
	send(t, line, join(frames[:100]))
	daemon.stop()
	filler := b.fill(0)
	daemon = b.run()
	send(t, line, join(frames[100:1000]))
	waitFor(t, 10*time.Second, "fault in status.json", func() bool { return b.state() == "fault" || !daemon.running() })
	if !daemon.running() {
		t.Fatalf("the recorder gave up: %s", daemon.errs.String())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	waitFor(t, patience, "recording", func() bool { return b.state() == "recording" })
	send(t, line, join(frames[1000:]))
	daemon.stop()
	b.checkAfterFull(join(frames))
}

// With when_full = "oldest" the oldest records go, whole and one after the other, and the
// recorder never stops.
func TestFullMediumOldest(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.smallMedium(40, `when_full = "oldest"`)
	r := rand.New(rand.NewPCG(73, 1))
	line := b.pty()
	var parts [][]byte
	for i := range 12 {
		daemon := b.run()
		parts = append(parts, randomFrames(r, 0, 15000)) // some 4 MB
		send(t, line, parts[i])
		daemon.stop()
		if s := daemon.errs.String(); strings.Contains(s, "cannot record") {
			t.Fatalf("start %d: %s", i, s)
		}
	}
	b.checkOldestGone(parts)
}

// checkOldestGone wants the newest records whole and the oldest gone.
func (b *board) checkOldestGone(parts [][]byte) {
	b.t.Helper()
	code, state, listed := b.list()
	if code != 0 || state != "clean" {
		b.t.Errorf("list: exit code %d, state %s", code, state)
	}
	records := b.open(0)
	if len(records) != len(listed) || len(records) < 3 || len(records) == len(parts) {
		b.t.Fatalf("%d records are left of %d", len(records), len(parts))
	}
	for i, r := range records {
		n := len(parts) - len(records) + i
		if want := fmt.Sprintf("G%08d", n+1); r.Record != want {
			b.t.Errorf("record %d is %s, want %s", i, r.Record, want)
		}
		checkStream(b.t, parts[n], records[i:i+1])
	}
	if !slices.Contains(allEvents(records), "record_deleted") {
		b.t.Error("no event says that records were deleted")
	}
	b.t.Logf("%d of %d records are left", len(records), len(parts))
}
