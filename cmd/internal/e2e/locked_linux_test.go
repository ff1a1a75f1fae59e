package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"holdfast/firmware/evidence"
	"holdfast/mavlink/serial/serialtest"
)

// A guard and a recorder in a network namespace and a cgroup of the tests' own: all but what
// belongs to a whole machine, which the guest of the boot window has.

// tryAgain makes the test binary a program that tries to send.
const tryAgain = "HOLDFAST_E2E_TRY"

// faraway is documentation's own address (RFC 5737): nobody has it.
const faraway = "203.0.113.7"

// exfiltrate is that program: it connects and sends to faraway n times, at most rate a second.
func exfiltrate(spec string) {
	var n, rate int
	if _, err := fmt.Sscanf(spec, "%d,%d", &n, &rate); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	passed := 0
	tick := time.NewTicker(10 * time.Millisecond)
	for i := 0; i < n; i++ {
		if i%max(rate/100, 1) == 0 {
			<-tick.C
		}
		c, err := net.DialTimeout("udp4", fmt.Sprintf("%s:%d", faraway, 1000+i%8), time.Second)
		if err != nil {
			continue
		}
		if _, err := c.Write([]byte("position 47.1 8.2")); err == nil {
			passed++
		}
		c.Close()
	}
	fmt.Printf("%d tried, %d sent\n", n, passed)
	os.Exit(0)
}

// lockedBoard is a board in mode locked, with a cgroup of its own and a link that leads nowhere.
type lockedBoard struct {
	*board
	cgroup *os.File
}

func newLockedBoard(t *testing.T) *lockedBoard {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a guard needs root")
	}
	b := newBoardInMemory(t)
	text, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, b.config(), strings.Replace(string(text), `mode = "bench"`, fmt.Sprintf("mode = \"locked\"\nrun = %q", b.path("run")), 1))
	l := &lockedBoard{board: b, cgroup: leafCgroup(t)}
	l.giveAway()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "fc-eth"}, PeerName: "fc-far"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(veth) }) // gone with the namespace at the latest
	return l
}

// recorderID is user and group of the recorder, in a list of users of the test's own.
const recorderID = 61234

// giveAway makes the recorder's user the owner of the board's folders, and a list of users that
// has it.
func (l *lockedBoard) giveAway() {
	l.t.Helper()
	if err := os.Chmod(bin, 0o755); err != nil { // it runs itself for the flight keys
		l.t.Fatal(err)
	}
	passwd := fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nholdfast:x:%d:%d::/:/bin/false\n", recorderID, recorderID)
	writeFile(l.t, l.path("passwd"), passwd)
	writeFile(l.t, l.path("group"), fmt.Sprintf("root:x:0:\nholdfast:x:%d:\n", recorderID))
	for _, dir := range []string{l.dir, l.medium} {
		if dir == "" {
			continue
		}
		if err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(name, recorderID, recorderID))
		}); err != nil {
			l.t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil && filepath.Dir(dir) != "/dev/shm" {
			l.t.Fatal(err)
		}
	}
}

// line is the serial line, which the recorder's user may open.
func (l *lockedBoard) line() *serialtest.Pty {
	l.t.Helper()
	p := l.pty()
	if err := os.Chown(l.path("fc"), recorderID, recorderID); err != nil {
		l.t.Fatal(err)
	}
	return p
}

// leafCgroup makes a cgroup of the test's own, and removes it.
func leafCgroup(t *testing.T) *os.File {
	t.Helper()
	dir, err := os.MkdirTemp(cgroupTree(t), "holdfast-e2e-")
	if err != nil {
		t.Skipf("no cgroup of the test's own: %v", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if !eventually(patience, func() bool { return os.Remove(dir) == nil }) {
			t.Errorf("%s stays", dir)
		}
	})
	return f
}

func cgroupTree(t *testing.T) (root string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		head, tail, ok := strings.Cut(line, " - ")
		if fields := strings.Fields(head); ok && strings.HasPrefix(tail, "cgroup2 ") && len(fields) > 4 {
			root = fields[4]
		}
	}
	if root == "" {
		t.Skip("no cgroup v2 tree is mounted here")
	}
	return root
}

// inside starts a program in the board's cgroup.
func (l *lockedBoard) inside(cmd *exec.Cmd) *process {
	l.t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(l.cgroup.Fd()), Pdeathsig: syscall.SIGKILL}
	return startCommand(l.t, cmd)
}

// start starts guard and recorder, and waits until the guard has told how the lock stands.
func (l *lockedBoard) start() *process {
	l.t.Helper()
	p := l.inside(exec.Command("unshare", "-m", "sh", "-ec", `mount --bind "$1/passwd" /etc/passwd; mount --bind "$1/group" /etc/group; exec "$2" run --config "$3"`,
		"sh", l.dir, filepath.Join(bin, "holdfastd"), l.config()))
	waitFor(l.t, patience, "a lock with every layer of a namespace", func() bool {
		if !p.running() {
			l.t.Fatalf("holdfastd run ended: %s", p.errs.String())
		}
		s := l.lock()
		return s != nil && layerState(s, "cgroup-bpf") == "ok" && layerState(s, "nft-inet") == "ok"
	})
	return p
}

func (l *lockedBoard) lock() *evidence.Lock {
	data, err := os.ReadFile(l.path("run/lock.json"))
	if err != nil {
		return nil
	}
	s, err := evidence.ParseLock(data)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

func layerState(s *evidence.Lock, name string) string {
	for _, y := range s.Layers {
		if y.Name == name {
			return y.State
		}
	}
	return ""
}

// try runs a program that tries to send n times.
func (l *lockedBoard) try(n, rate int) string {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d,%d", tryAgain, n, rate))
	p := l.inside(cmd)
	if code := p.wait(2 * time.Minute); code != 0 {
		l.t.Fatalf("the program that tries: exit code %d: %s %s", code, p.out.String(), p.errs.String())
	}
	return strings.TrimSpace(p.out.String())
}

// check wants a row for each layer, and a line that the recorder has to be no fault of the line.
func (l *lockedBoard) check() {
	l.t.Helper()
	var got struct {
		Rows []struct {
			What, Detail string
			OK           bool
		}
	}
	r := run(l.t, "holdfastd", "check", "--json", "--config", l.config())
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		l.t.Fatalf("check: %v: %s %s", err, r.stdout, r.stderr)
	}
	rows := map[string]bool{}
	for _, row := range got.Rows {
		rows[row.What] = row.OK
	}
	for what, ok := range map[string]bool{"uart": true, "lock": false, "nft-inet": true, "cgroup-bpf": true, "swap": false} {
		if have, there := rows[what]; !there || have != ok {
			l.t.Errorf("check says of %s %v, want %v: %s", what, have, ok, r.stdout)
		}
	}
}

// attempts reads audit.jsonl of all opened records.
func attempts(t *testing.T, out string) (lines []evidence.Attempt) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(out, "*", "*", "audit.jsonl"))
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			var a evidence.Attempt
			if err := json.Unmarshal(scan.Bytes(), &a); err != nil {
				t.Fatalf("%s: %v: %s", name, err, scan.Bytes())
			}
			if a.Layer != "" { // events of the recorder stand there too
				lines = append(lines, a)
			}
		}
		f.Close()
	}
	return lines
}

// TestWhoTried: a program that tries to send while a flight is recorded stands in the opened
// flight with its path, user, destination and time, and the counts are complete.
func TestWhoTried(t *testing.T) {
	b := newLockedBoard(t)
	line := b.line()
	p := b.start()
	traffic := join(flightFrames(t, vehicleOf(81)))
	send(t, line, traffic)
	b.check()
	const tries = 50
	if got := b.try(tries, 1000); got != fmt.Sprintf("%d tried, 0 sent", tries) {
		t.Errorf("the program says %q", got)
	}
	send(t, line, traffic)
	waitFor(t, patience, "the guard's count", func() bool { return b.lock().Refused >= tries })
	waitFor(t, patience, "the second in which counts are told", func() bool { return b.lock().Usec > 0 && settled(b) })
	p.stop()
	must(t, "holdfast", "verify", b.vault())
	must(t, "holdfast", "open", b.vault(), "-i", b.operator, "-o", b.path("opened"))
	self, _ := os.Executable()
	var count int64
	for _, a := range attempts(t, b.path("opened")) {
		if a.Program != self {
			continue
		}
		count += a.Count
		if !strings.HasPrefix(a.Destination, faraway+":") || a.UID != 0 || a.PID == 0 || a.Layer != "cgroup-bpf" || a.Protocol != "udp" {
			t.Errorf("line: %+v", a)
		}
		if late := time.Duration(a.SeenUsec-a.Usec) * time.Microsecond; late > 100*time.Millisecond {
			t.Errorf("known %v after it happened: %+v", late, a)
		}
	}
	if count != tries {
		t.Errorf("%d attempts in audit.jsonl, want %d", count, tries)
	}
}

// settled waits for one more tick of guard and recorder.
func settled(b *lockedBoard) bool {
	began := b.lock().Usec
	return eventually(patience, func() bool { return b.lock().Usec > began+2_500_000 })
}

// TestFloodCostsNoTelemetry: 10,000 attempts a second during a flight, and nothing of it is missing.
func TestFloodCostsNoTelemetry(t *testing.T) {
	b := newLockedBoard(t)
	line := b.line()
	p := b.start()
	const tries = 50_000
	stop := make(chan struct{})
	flow := make(chan []byte)
	go func() { flow <- paced(line, stop) }()
	began := time.Now()
	result := b.try(tries, 10_000)
	took := time.Since(began)
	close(stop)
	sent := <-flow
	t.Logf("%s in %v; %d bytes of telemetry meanwhile", result, took.Round(time.Millisecond), len(sent))
	if result != fmt.Sprintf("%d tried, 0 sent", tries) {
		t.Errorf("the program says %q", result)
	}
	waitFor(t, patience, "the guard's count", func() bool { return b.lock().Refused >= tries })
	settled(b)
	health := b.health()
	p.stop()
	if drops, _ := health["ring_drops"].(float64); drops != 0 {
		t.Errorf("%v frames found no room", drops)
	}
	if got, _ := health["bytes"].(float64); int(got) != len(sent) {
		t.Errorf("%v bytes received, %d were sent", got, len(sent))
	}
	must(t, "holdfast", "open", b.vault(), "-i", b.operator, "-o", b.path("opened"))
	var count int64
	for _, a := range attempts(t, b.path("opened")) {
		if a.Layer == "cgroup-bpf" {
			count += a.Count
		}
	}
	if count != tries {
		t.Errorf("%d attempts in audit.jsonl, want %d", count, tries)
	}
}

// paced sends random frames, ten times as fast as a flight's, until stop is closed, and returns
// what it sent.
func paced(line *serialtest.Pty, stop <-chan struct{}) (sent []byte) {
	r := rand.New(rand.NewPCG(83, 1))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for first := 0; ; first += 80 {
		select {
		case <-stop:
			return sent
		case <-tick.C:
		}
		p := randomFrames(r, first, 80)
		n, err := line.Write(p)
		if sent = append(sent, p[:n]...); err != nil {
			return sent
		}
	}
}
