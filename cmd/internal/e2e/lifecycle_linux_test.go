package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/mavlink/serial/serialtest"
)

// stream sends random frames at full speed until the line is closed, and returns what the
// kernel took.
type stream struct {
	sent []byte
	done chan struct{}
}

func startStream(line *serialtest.Pty, seed uint64) *stream {
	s := &stream{done: make(chan struct{})}
	r := rand.New(rand.NewPCG(seed, 1))
	go func() {
		defer close(s.done)
		for first := 0; ; first += 50 {
			p := randomFrames(r, first, 50)
			n, err := line.Write(p)
			s.sent = append(s.sent, p[:n]...)
			if err != nil {
				return
			}
		}
	}()
	return s
}

// TestStopWhileStreaming: each signal ends each form of the daemon within 2 s with exit code 0
// and a closed record, also while data comes in as fast as the line takes it.
func TestStopWhileStreaming(t *testing.T) {
	for _, command := range []string{"run", "record"} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(fmt.Sprintf("%s/%v", command, sig), func(t *testing.T) {
				b := newBoard(t)
				line := b.pty()
				daemon := start(t, "holdfastd", command, "--config", b.config())
				s := startStream(line, 5)
				b.waitSealed(64) // at least one segment was rotated
				daemon.end(sig)
				line.Close()
				<-s.done
				b.checkClosed(s.sent)
			})
		}
	}
}

// checkClosed wants a vault in which everything is closed in good order, and of which every
// byte is the beginning of what was sent.
func (b *board) checkClosed(sent []byte) {
	b.t.Helper()
	b.checkTree()
	code, state, records := b.list()
	if code != 0 || state != "clean" || len(records) == 0 {
		b.t.Errorf("list: exit code %d, state %q, %d records", code, state, len(records))
	}
	opened := b.open(0)
	for _, r := range opened {
		if r.State != "clean" || len(r.Missing) != 0 {
			b.t.Errorf("%s is %s, missing %v", r.Record, r.State, r.Missing)
		}
	}
	n := len(reassemble(b.t, opened))
	if n == 0 || n > len(sent) {
		b.t.Fatalf("%d bytes opened of %d sent", n, len(sent))
	}
	checkStream(b.t, sent[:n], opened)
}

func TestStopWithoutDevice(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		b := newBoard(t)
		daemon := b.run()
		waitFor(t, patience, "status.json", func() bool { return b.health() != nil })
		daemon.end(sig)
		if n := len(b.records()); n != 0 {
			t.Errorf("%d records without a byte", n)
		}
	}
}

// A raw file is read to its end; then the daemon ends by itself.
func TestFileLink(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	data := append([]byte{1, 2, 3}, join(flightFrames(t, vehicleOf(31)))...)
	data = append(data, 0xFD, 9, 0) // ends within a header
	b.configure("file:" + writeFile(t, b.path("raw.bin"), string(data)))
	daemon := b.run()
	if code := daemon.wait(patience); code != 0 {
		t.Fatalf("exit code %d: %s", code, daemon.errs.String())
	}
	b.checkTree()
	records := b.open(0)
	checkStream(t, data, records)
	if !slices.Contains(allEvents(records), "link_end") {
		t.Errorf("no event says that the file ended: %v", allEvents(records))
	}
}

func TestFileLinkEmptyOrMissing(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.configure("file:" + writeFile(t, b.path("raw.bin"), ""))
	if code := b.run().wait(patience); code != 0 {
		t.Errorf("empty file: exit code %d", code)
	}
	b.configure("file:" + b.path("later.bin"))
	daemon := b.run()
	waitFor(t, patience, "a word about the missing file", func() bool {
		s, _ := b.health()["last_error"].(string)
		return strings.Contains(s, "later.bin")
	})
	writeFile(t, b.path("later.bin"), string(join(groundFrames(t, 32)[:10])))
	if code := daemon.wait(patience); code != 0 {
		t.Errorf("file that came later: exit code %d", code)
	}
	if n := len(allFrames(b.open(0))); n != 10 {
		t.Errorf("%d frames, want 10", n)
	}
}

// A TCP endpoint that drops the connection and takes it again, as a simulator does.
func TestTCPLink(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := newBoard(t)
	b.configure("tcp:" + l.Addr().String())
	frames := flightFrames(t, vehicleOf(33))
	daemon := b.run()
	for _, part := range [][][]byte{frames[:3000], frames[3000:5000], frames[5000:]} {
		l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(join(part)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	b.waitFrames(len(frames))
	daemon.stop()
	records := b.open(0)
	checkStream(t, join(frames), records)
	kinds := allEvents(records)
	if count(kinds, "link_open") < 3 || count(kinds, "link_lost") < 3 {
		t.Errorf("events %v: want three of link_open and link_lost", kinds)
	}
}

func count(all []string, what string) (n int) {
	for _, s := range all {
		if s == what {
			n++
		}
	}
	return n
}

// waitFrames waits until status.json counts that many frames.
func (b *board) waitFrames(n int) {
	b.t.Helper()
	got := 0.0
	if !eventually(patience, func() bool {
		got, _ = b.health()["frames"].(float64)
		return int(got) >= n
	}) {
		b.t.Fatalf("the recorder counts %v frames, %d were sent; status %v", got, n, b.health())
	}
}

func TestUDPLink(t *testing.T) {
	t.Parallel()
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.LocalAddr().String()
	free.Close()
	b := newBoard(t)
	b.configure("udp:" + addr)
	daemon := b.run()
	waitFor(t, patience, "status.json", func() bool { return b.health() != nil })
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frames := groundFrames(t, 34)[:600]
	for i := 0; i < len(frames); i += 3 {
		if _, err := conn.Write(join(frames[i : i+3])); err != nil {
			t.Fatal(err)
		}
		if i == 300 { // what waits must fit into the socket's buffer
			b.waitBytes(len(join(frames[:i+3])))
		}
	}
	b.waitFrames(len(frames))
	daemon.stop()
	checkStream(t, join(frames), b.open(0))
}

// waitBytes waits until status.json counts that many bytes received.
func (b *board) waitBytes(n int) {
	b.t.Helper()
	waitFor(b.t, patience, fmt.Sprintf("%d bytes received", n), func() bool {
		got, _ := b.health()["bytes"].(float64)
		return int(got) >= n
	})
}

var statusKeys = []string{"armed", "bytes", "frames", "gaps", "grade", "last_error", "lock", "noise_bytes", "record", "ring_drops",
	"state", "updated", "vault_free_bytes"}

// TestStatusFile reads status.json without a pause while it is rewritten.
func TestStatusFile(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line := b.pty()
	began := time.Now()
	daemon := b.run()
	frames := groundFrames(t, 35)
	waitFor(t, patience, "status.json", func() bool { return b.health() != nil })
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("status.json came after %v", d)
	}
	send(t, line, join(frames))
	inodes, states := b.watchStatus(4 * time.Second)
	if len(inodes) < 3 {
		t.Errorf("in 4 s there were %d files of that name: it is not replaced each second", len(inodes))
	}
	if states["recording"] == 0 {
		t.Errorf("states %v, want recording", states)
	}
	daemon.stop()
	h := b.health()
	if h["state"] != "standby" || h["record"] != "" || h["frames"] != float64(len(frames)) || h["bytes"] != float64(len(join(frames))) {
		t.Errorf("status after the end: %v", h)
	}
}

// watchStatus reads status.json over and over and wants each reading whole.
func (b *board) watchStatus(d time.Duration) (inodes map[uint64]bool, states map[string]int) {
	inodes, states = map[uint64]bool{}, map[string]int{}
	for end := time.After(d); ; {
		select {
		case <-end:
			return inodes, states
		default:
		}
		var st syscall.Stat_t
		if err := syscall.Stat(b.path("status.json"), &st); err != nil {
			b.t.Fatal(err)
		}
		inodes[st.Ino] = true
		var h map[string]any
		if err := json.Unmarshal(readFile(b.t, b.path("status.json")), &h); err != nil {
			b.t.Fatalf("half a status.json: %v", err)
		}
		if got := slices.Sorted(maps.Keys(h)); !slices.Equal(got, statusKeys) {
			b.t.Fatalf("keys of status.json: %v", got)
		}
		if h["lock"] != "bench" || h["grade"] != "none" || h["last_error"] != "" {
			b.t.Fatalf("status: %v", h)
		}
		states[h["state"].(string)]++
	}
}

// Two boards on one machine do not meet.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	a, b := newBoard(t), newBoard(t)
	lineA, lineB := a.pty(), b.pty()
	daemonA, daemonB := a.run(), b.run()
	framesA, framesB := groundFrames(t, 36), groundFrames(t, 37)
	send(t, lineA, join(framesA))
	send(t, lineB, join(framesB))
	daemonA.stop()
	daemonB.stop()
	checkStream(t, join(framesA), a.open(0))
	checkStream(t, join(framesB), b.open(0))
}

// A second recorder on the same vault ends with one line, and the first is not disturbed.
func TestSecondInstanceOnTheSameVault(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line := b.pty()
	daemon := b.run()
	frames := groundFrames(t, 38)
	send(t, line, join(frames[:500]))
	waitFor(t, patience, "a record", func() bool { return len(b.records()) == 1 })
	for _, command := range []string{"run", "record"} {
		wantRefusal(t, refuse(t, command, "--config", b.config()), 1, "in use")
	}
	send(t, line, join(frames[500:]))
	daemon.stop()
	records := b.open(0)
	if len(records) != 1 {
		t.Errorf("%d records, want 1", len(records))
	}
	checkStream(t, join(frames), records)
}

// While it is recorded a record lists and opens as "open".
func TestOpenWhileRecording(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line := b.pty()
	daemon := b.run()
	frames := groundFrames(t, 39)
	send(t, line, join(frames))
	b.waitSealed(1)
	b.waitDurable(len(frames))
	code, state, listed := b.list()
	if code != 0 || state != "open" || len(listed) != 1 || listed[0].State != "open" {
		t.Errorf("list: exit code %d, state %q, %+v", code, state, listed)
	}
	records := b.open(0)
	if len(records) != 1 || records[0].State != "open" {
		t.Fatalf("open says %+v", records)
	}
	wantFrames(t, "record being written", allFrames(records), frames)
	daemon.stop()
	if code, state, _ := b.list(); code != 0 || state != "clean" {
		t.Errorf("afterwards list says %d, %q", code, state)
	}
	info, err := os.Stat(filepath.Dir(filepath.Dir(records[0].dir)))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("opened folder: %v, %v", info.Mode(), err)
	}
	b.checkOpenedModes(records)
}

// checkOpenedModes: what is opened is for its owner only.
func (b *board) checkOpenedModes(records []*opened) {
	b.t.Helper()
	for _, r := range records {
		files, err := os.ReadDir(r.dir)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
				b.t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
			}
		}
	}
}

// TestRecorderHasNoSocket looks at the running recorder from outside.
func TestRecorderHasNoSocket(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line := b.pty()
	daemon := b.run()
	send(t, line, join(groundFrames(t, 40)))
	b.waitSealed(1)
	pid := daemon.child()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Skipf("the recorder's descriptors cannot be seen (needs root): %v", err)
	}
	for _, fd := range fds {
		if target, _ := os.Readlink(fd); strings.HasPrefix(target, "socket:") {
			t.Errorf("the recorder has a socket: %s", target)
		}
	}
	status := readFile(t, fmt.Sprintf("/proc/%d/status", pid))
	for _, want := range []string{"\nSeccomp:\t2\n", "\nNoNewPrivs:\t1\n"} {
		if !bytes.Contains(status, []byte(want)) {
			t.Errorf("/proc/PID/status lacks %q", want)
		}
	}
	daemon.stop()
}
