package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/mavlink/serial/serialtest"
)

// patience is far above what any step takes, so that a hang fails and a busy machine does not.
const patience = 30 * time.Second

// board is a folder as provision leaves it, with the operator's key beside it.
type board struct {
	t        testing.TB
	dir      string
	operator string // identity file
	medium   string // where the vault is, if not in dir
	space    int    // a process in the mount namespace of the medium
}

// newBoard makes a board in bench mode that reads dir/fc, for one post-quantum operator.
// vaultKeys are lines of the [vault] table.
func newBoard(t testing.TB, vaultKeys ...string) *board {
	t.Helper()
	b := &board{t: t, dir: t.TempDir()}
	b.operator = b.path("operator.key")
	recipient := must(t, "holdfast", "keygen", "-o", b.operator)
	writeFile(t, b.path("recipients.txt"), recipient)
	b.configure(b.path("fc"), vaultKeys...)
	return b
}

// newBoardInMemory is a board whose vault lies in memory: what is promised is promised for a medium
// that syncs within 50 ms, which the disk of a busy machine does not always. A killed process
// takes nothing along that it has written, so that the medium makes no other difference.
func newBoardInMemory(t testing.TB, more ...string) *board {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &s); err != nil || s.Bavail*uint64(s.Bsize) < 1<<30 {
		t.Log("no room in /dev/shm: the vault is on the disk")
		return newBoard(t, more...)
	}
	medium, err := os.MkdirTemp("/dev/shm", "holdfast")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(medium) })
	b := newBoard(t, append([]string{fmt.Sprintf("path = %q", filepath.Join(medium, "vault"))}, more...)...)
	b.medium = medium
	return b
}

// configure writes holdfast.toml for one link.
func (b *board) configure(device string, vaultKeys ...string) {
	b.t.Helper()
	text := fmt.Sprintf("[[link]]\nname = \"fc\"\ndevice = %q\n\n[lock]\nmode = \"bench\"\n\n[vault]\n%s\n", device, strings.Join(vaultKeys, "\n"))
	writeFile(b.t, b.config(), text)
}

func (b *board) path(name string) string { return filepath.Join(b.dir, name) }
func (b *board) config() string          { return b.path("holdfast.toml") }

func (b *board) vault() string {
	if b.medium != "" {
		return filepath.Join(b.medium, "vault")
	}
	return b.path("vault")
}

// pty makes the line that the board's link leads to.
func (b *board) pty() *serialtest.Pty {
	b.t.Helper()
	p, err := serialtest.NewPty(b.path("fc"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.Close() })
	return p
}

// buffer collects what a running process prints.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// process is a program that runs beside the test.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	out    buffer
	errs   buffer
	ended  chan struct{}
	endErr error
}

// start starts a program. It is killed, with what it started, when the test ends.
func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(filepath.Join(bin, name), args...))
}

func startCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, ended: make(chan struct{}), cmd: cmd}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	p.cmd.WaitDelay = patience
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.endErr = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill() // a recorder below it gets its parent-death signal
		<-p.ended
	})
	return p
}

// run starts `holdfastd run`.
func (b *board) run() *process {
	b.t.Helper()
	if b.space != 0 { // nsenter becomes the program: one process, and its children are its own
		return startCommand(b.t, exec.Command("nsenter", "-t", strconv.Itoa(b.space), "-m", filepath.Join(bin, "holdfastd"), "run", "--config", b.config()))
	}
	return start(b.t, "holdfastd", "run", "--config", b.config())
}

// record starts `holdfastd record`, the recorder without a supervisor.
func (b *board) record() *process {
	b.t.Helper()
	return start(b.t, "holdfastd", "record", "--config", b.config())
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// wait waits for the end and returns the exit code; -1 after a signal.
func (p *process) wait(timeout time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(timeout):
		p.t.Fatalf("%s did not end within %v; it printed %s", filepath.Base(p.cmd.Path), timeout, p.errs.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the program by SIGTERM and wants exit code 0 within 2 s.
func (p *process) stop() {
	p.t.Helper()
	p.end(syscall.SIGTERM)
}

func (p *process) end(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	if code := p.wait(2 * time.Second); code != 0 {
		p.t.Fatalf("exit code %d after %v: %s", code, sig, p.errs.String())
	}
}

// kill kills the program and returns when it is gone.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-p.ended
}

// child returns the process id of the recorder below a supervisor, waiting for it.
func (p *process) child() int {
	p.t.Helper()
	pid := 0
	waitFor(p.t, 10*time.Second, "a recorder below the supervisor", func() bool {
		for _, c := range children(p.cmd.Process.Pid) {
			// Go's runtime has a child of a moment too, to learn what the kernel can do.
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c)); bytes.Contains(line, []byte("\x00record\x00")) {
				pid = c
			}
		}
		return pid != 0
	})
	return pid
}

// children lists the processes whose parent is pid, of all threads.
func children(pid int) (pids []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(data)) {
			if n, err := strconv.Atoi(s); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// alive tells whether a process is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := bytes.Cut(stat, []byte(") "))
	return ok && len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

// health is status.json; nil where it is not there.
func (b *board) health() map[string]any {
	data, err := os.ReadFile(b.path("status.json"))
	if err != nil {
		return nil
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		b.t.Errorf("status.json is not valid JSON: %v: %q", err, data)
	}
	return m
}

func (b *board) state() string { s, _ := b.health()["state"].(string); return s }

// send writes all of p to the line and waits until the recorder has read it.
func send(t testing.TB, line *serialtest.Pty, p []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := line.WaitReader(ctx); err != nil {
		t.Fatalf("no reader on the line: %v", err)
	}
	if _, err := line.WriteContext(ctx, p); err != nil {
		t.Fatalf("write to the line: %v", err)
	}
	if err := line.Drain(ctx); err != nil {
		t.Fatalf("drain the line: %v", err)
	}
}

// device is the one device's folder of a vault.
func (b *board) device() string {
	b.t.Helper()
	dirs, _ := filepath.Glob(filepath.Join(b.vault(), "????????"))
	if len(dirs) != 1 {
		b.t.Fatalf("%d device folders in the vault, want 1: %v", len(dirs), dirs)
	}
	return dirs[0]
}

// records lists the record folders of a vault in the order of their numbers. It is empty where
// there is no vault yet.
func (b *board) records() []string {
	dirs, _ := filepath.Glob(filepath.Join(b.vault(), "????????", "[FG]????????"))
	slices.SortFunc(dirs, func(a, b string) int { return strings.Compare(filepath.Base(a)[1:], filepath.Base(b)[1:]) })
	return dirs
}

// list runs `holdfast list --json`.
func (b *board) list() (code int, state string, records []listed) {
	b.t.Helper()
	r := run(b.t, "holdfast", "list", "--json", b.vault())
	var l struct {
		State   string   `json:"state"`
		Records []listed `json:"records"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &l); err != nil {
		b.t.Fatalf("list: %v: code %d, %q, %q", err, r.code, r.stdout, r.stderr)
	}
	return r.code, l.State, l.Records
}

type listed struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	State   string `json:"state"`
	Bytes   int64  `json:"bytes"`
	Streams map[string]struct {
		Segments int `json:"segments"`
	} `json:"streams"`
}

var errTimes = errors.New("times are not 1970-01-01")

// checkTree holds every file of a closed vault to CONTRACT: modes, and times set to zero.
func (b *board) checkTree() {
	b.t.Helper()
	err := filepath.WalkDir(b.vault(), func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			b.t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		if info.ModTime().Unix() != 0 {
			return fmt.Errorf("%s: %w: %v", path, errTimes, info.ModTime())
		}
		if name := e.Name(); strings.HasSuffix(name, ".open.age") || strings.HasSuffix(name, ".tmp") {
			b.t.Errorf("%s is left in a closed vault", path)
		}
		return nil
	})
	if err != nil {
		b.t.Error(err)
	}
}
