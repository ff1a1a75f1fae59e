package attempts_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/firmware/evidence"
	"holdfast/firmware/netlock/attempts"
)

// process makes a process in a folder that stands for /proc. startTicks are hundredths of a second
// since the kernel started.
func process(t *testing.T, proc string, pid int, exe, name string, startTicks int64) {
	t.Helper()
	dir := filepath.Join(proc, strconv.Itoa(pid))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if exe != "" {
		if err := os.Symlink(exe, filepath.Join(dir, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	stat := fmt.Sprintf("%d (%s) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 1000 10\n", pid, name, startTicks)
	if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestProgram: the path of the executable, or why it is not known.
func TestProgram(t *testing.T) {
	const second = 1000_00 // the bench's clock starts at 1000 s
	tests := []struct {
		name            string
		exe, proc       string // of the process that has the number now
		start           int64
		comm            string
		program, detail string
	}{
		{"plain", "/usr/bin/curl", "curl", second - 100, "curl", "/usr/bin/curl", ""},
		{"name unknown", "/usr/bin/curl", "curl", second - 100, "", "/usr/bin/curl", ""},
		{"brackets in the name", "/usr/bin/x", "a) R 1 (b", second, "a) R 1 (b", "/usr/bin/x", ""},
		{"another name", "/usr/bin/curl", "curl", second - 100, "init", "/usr/bin/curl", `called itself "init"`},
		{"deleted", "/tmp/x (deleted)", "x", second - 100, "x", "/tmp/x (deleted)", ""},
		{"number given to another since", "/usr/bin/innocent", "innocent", second + 1, "evil", "", `gone before it could be named; called itself "evil"`},
		{"kernel thread", "", "kworker", 0, "kworker", "", `without a program, as the kernel's own threads are; called itself "kworker"`},
		{"control characters", "/tmp/\x1b[2J\n", "x", second - 100, "\x07", `/tmp/\x1b[2J\n`, `called itself "\\a"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			proc := t.TempDir()
			process(t, proc, 7, test.exe, test.proc, test.start)
			b := newBench(proc)
			e := event("", "192.0.2.1:1")
			e.Comm = test.comm
			b.Add(b.stamped(e))
			if l := b.lines[0]; l.Program != test.program || l.Detail != test.detail {
				t.Errorf("program %q, detail %q; want %q, %q", l.Program, l.Detail, test.program, test.detail)
			}
		})
	}
}

// TestGone: a process that is not there any more.
func TestGone(t *testing.T) {
	b := newBench(t.TempDir())
	b.Add(b.stamped(event("", "192.0.2.1:1")))
	if l := b.lines[0]; l.Program != "" || l.Detail != "gone before it could be named" || l.PID != 7 {
		t.Errorf("line %+v", l)
	}
}

// TestRealProcess names this very test.
func TestRealProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		t.Skip("no /proc here")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := newBench("")
	e := event("", "192.0.2.1:1")
	e.PID, e.Usec = os.Getpid(), 1<<50
	b.Add(e)
	if got := b.lines[0].Program; got != exe {
		t.Errorf("program %q, want %q", got, exe)
	}
}

// TestCache: an answer holds for a moment, not for as long as the number lives: a process that
// executes another program keeps number and time of start.
func TestCache(t *testing.T) {
	proc := t.TempDir()
	process(t, proc, 7, "/bin/first", "x", 0)
	b := newBench(proc)
	b.Add(b.stamped(event("", "192.0.2.1:1")))
	process(t, proc, 7, "/bin/second", "x", 0)
	b.now += 50_000
	b.Add(b.stamped(event("", "192.0.2.1:2")))
	b.now += 51_000
	b.Add(b.stamped(event("", "192.0.2.1:3")))
	want := []string{"/bin/first", "/bin/first", "/bin/second"}
	for i, l := range b.lines {
		if l.Program != want[i] {
			t.Errorf("line %d: %q, want %q", i, l.Program, want[i])
		}
	}
}

// TestCacheByName: another name under the same number is looked up at once.
func TestCacheByName(t *testing.T) {
	proc := t.TempDir()
	process(t, proc, 7, "/bin/first", "first", 0)
	b := newBench(proc)
	e := event("", "192.0.2.1:1")
	e.Comm = "first"
	b.Add(b.stamped(e))
	process(t, proc, 7, "/bin/second", "second", 0)
	e.Comm = "second"
	b.Add(b.stamped(e))
	if len(b.lines) != 2 || b.lines[1].Program != "/bin/second" {
		t.Errorf("lines %+v", b.lines)
	}
}

// TestManyProcesses: a storm of short processes is looked up a bounded number of times, and
// counted all the same.
func TestManyProcesses(t *testing.T) {
	proc := t.TempDir()
	process(t, proc, 5000, "/bin/late", "late", 0)
	b := newBench(proc)
	for pid := range 2000 {
		b.now += 10
		e := event("", "192.0.2.1:1")
		e.PID = 3001 + pid
		b.Add(b.stamped(e))
	}
	b.Flush()
	if n := sum(b.lines); n != 2000 {
		t.Errorf("the lines stand for %d attempts of 2000", n)
	}
	for _, l := range b.lines {
		if l.Program == "/bin/late" {
			t.Errorf("the 2000th process of a second was looked up")
		}
	}
}

// TestLine: whatever names programs have, a line is one line of JSON, short enough to be written
// as a whole, and texts that differ stay different.
func TestLine(t *testing.T) {
	names := []string{
		"", "/bin/plain", "/bin/käse", "/bin/käse\\", "/bin/\n{\"usec\":1}\n", "\x00\x01\x1f", "\xff\xfe", "\xff\xfd", `\xff\xfe`, "\u202egnp.exe",
		strings.Repeat("\x01", 4096), strings.Repeat("<", 4096), strings.Repeat("\"", 4096), strings.Repeat("\\", 4096),
		strings.Repeat("ü", 2048), strings.Repeat("a", 4095) + "b", "b" + strings.Repeat("a", 4095), strings.Repeat("a", 1024), strings.Repeat("a", 1025),
		strings.Repeat("a", 2000) + "x" + strings.Repeat("a", 2000), strings.Repeat("a", 2000) + "y" + strings.Repeat("a", 2000),
	}
	seen := make(map[string]string)
	for _, name := range names {
		b := newBench(t.TempDir())
		b.Add(attempts.Event{Usec: 1, Layer: "tc", What: "frame", Program: name, Destination: name, Link: name, Detail: name, Protocol: name, UID: -1})
		p, err := attempts.Line(b.lines[0])
		if err != nil {
			t.Fatal(err)
		}
		a := oneLine(t, p)
		if other, ok := seen[a.Program]; ok {
			t.Errorf("%.40q and %.40q look the same: %q", name, other, a.Program)
		}
		seen[a.Program] = name
	}
}

// oneLine reads a line, which must be one, and no longer than a line may be.
func oneLine(t *testing.T, p []byte) *evidence.Attempt {
	t.Helper()
	if len(p) > evidence.MaxLine || strings.Count(string(p), "\n") != 1 || p[len(p)-1] != '\n' {
		t.Fatalf("not one line: %d bytes, %.80q", len(p), p)
	}
	for _, c := range p[:len(p)-1] {
		if c < ' ' || c == 0x7f {
			t.Fatalf("a control character in %.80q", p)
		}
	}
	a, err := evidence.ParseAttempt(p)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func FuzzLine(f *testing.F) {
	f.Add("/bin/sh", "detail", "wlan0", "192.0.2.1:5", int64(1), 1, int64(0))
	f.Add("\x00\n\xff\\", strings.Repeat("<", 1100), "\u202e", "\\", int64(-5), -1, int64(-7))
	f.Fuzz(func(t *testing.T, program, detail, link, to string, usec int64, pid int, uid int64) {
		b := newBench("/nonexistent")
		b.Add(attempts.Event{
			Usec: usec, Layer: program, What: detail, PID: pid, UID: uid, Comm: detail, Program: program,
			Protocol: link, Destination: to, Link: link, Detail: detail, Count: usec,
		})
		b.Flush()
		var n int64
		for _, l := range b.lines {
			p, err := attempts.Line(l)
			if err != nil {
				t.Fatal(err)
			}
			if l.What == "" {
				continue // the caller's mistake, which evidence refuses
			}
			n += oneLine(t, p).Count
		}
		if detail != "" && n != max(usec, 1) {
			t.Errorf("the lines stand for %d attempts of %d", n, usec)
		}
	})
}
