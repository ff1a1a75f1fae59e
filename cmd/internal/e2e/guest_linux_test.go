package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"holdfast/mavlink/vehicle"
)

// A machine of its own, emulated, records onto a disk image and loses its power: QEMU is killed, and
// with it goes all that the guest's kernel had not written to its disk. What a kill of a
// process alone can never show, the page cache that is gone, is real here.

const (
	// guestKills is how often the power goes.
	guestKills = 25
	// guestMargin is what an emulated processor and the few kilobytes that wait in the socket
	// of its serial port may add to the promise.
	guestMargin = 750 * time.Millisecond
)

// guest is the machine: kernel, initramfs, disk image, serial ports.
type guest struct {
	t       testing.TB
	dir     string
	kernel  string
	running *process
	boots   int
	feed    net.Conn
}

// newGuest prepares the machine; root is what its disk holds at first.
func newGuest(t testing.TB, root string) *guest {
	t.Helper()
	kernel := os.Getenv("HOLDFAST_GUEST")
	if kernel == "" {
		kernel = filepath.Join(module, "dist", "guest")
	}
	kernel, err := filepath.Abs(kernel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(kernel, "vmlinuz")); err != nil {
		t.Skip("no kernel for a guest: scripts/guest.sh dist/guest fetches it")
	}
	for _, tool := range []string{"qemu-system-x86_64", "cpio", "mke2fs", "debugfs", "e2fsck"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("device nodes for an initramfs need root")
	}
	g := &guest{t: t, dir: t.TempDir(), kernel: kernel}
	g.sh("truncate -s 256M disk.img && mke2fs -q -t ext4 -d " + root + " disk.img")
	g.makeInitramfs()
	return g
}

// sh runs a line of shell in the guest's folder.
func (g *guest) sh(line string) {
	g.t.Helper()
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = g.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		g.t.Fatalf("%s: %v: %s", line, err, out)
	}
}

func (g *guest) makeInitramfs() {
	g.t.Helper()
	root := filepath.Join(g.dir, "root")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(root, "init"), "./cmd/internal/guest/init")
	build.Dir, build.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		g.t.Fatalf("build init: %v: %s", err, out)
	}
	g.sh("mkdir -p root/dev && chmod 755 root && mknod root/dev/console c 5 1 && mknod root/dev/null c 1 3 && cp -r " +
		filepath.Join(g.kernel, "modules") + " root/ && cp " + filepath.Join(bin, "holdfastd") + " root/ && (cd root && find . | cpio -o -H newc --quiet) | gzip -1 >initrd.gz")
}

// start switches the machine on and returns when something listens to its second serial port.
func (g *guest) start(cmdline string) {
	g.t.Helper()
	g.boots++
	console, socket := filepath.Join(g.dir, fmt.Sprintf("console.%d", g.boots)), filepath.Join(g.dir, "uart")
	g.running = startCommand(g.t, exec.Command("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(g.kernel, "vmlinuz"), "-initrd", filepath.Join(g.dir, "initrd.gz"), "-append", "console=ttyS0 quiet panic=-1 "+cmdline,
		"-drive", "if=virtio,format=raw,cache=writeback,file="+filepath.Join(g.dir, "disk.img"),
		"-serial", "file:"+console, "-serial", "unix:"+socket+",server=on,wait=off"))
	said := func(what string) bool {
		text, _ := os.ReadFile(console)
		if bytes.Contains(text, []byte("guest: failed")) || !g.running.running() {
			g.t.Fatalf("the guest failed: %s %s", text, g.running.errs.String())
		}
		return bytes.Contains(text, []byte(what))
	}
	waitFor(g.t, 2*time.Minute, "guest that listens", func() bool { return said("guest: listening") })
	conn, err := net.Dial("unix", socket)
	if err != nil {
		g.t.Fatal(err)
	}
	// What waits in the socket has been sent and not been read: as little of it as can be.
	if err := conn.(*net.UnixConn).SetWriteBuffer(1); err != nil {
		g.t.Fatal(err)
	}
	g.feed = conn
}

// cutPower kills the machine.
func (g *guest) cutPower() {
	g.t.Helper()
	g.running.kill()
	g.feed.Close()
}

// disk returns a copy of what is on the disk, its journal replayed as the next start would.
func (g *guest) disk() string {
	g.t.Helper()
	out := filepath.Join(g.dir, "out")
	g.sh("rm -rf out copy.img && mkdir -m 700 out && cp --sparse=always disk.img copy.img && (e2fsck -fy copy.img >e2fsck.txt 2>&1 || test $? -le 1) && debugfs -R 'rdump / out' copy.img 2>/dev/null")
	return out
}

// flow sends frames to the guest at an even pace and notes when each was handed over.
type flow struct {
	frames [][]byte
	sent   []time.Time
}

func (f *flow) run(t testing.TB, to net.Conn, d time.Duration) {
	t.Helper()
	const every, batch = 10 * time.Millisecond, 4
	tick := time.NewTicker(every)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		n := len(f.sent)
		if n+batch > len(f.frames) {
			t.Fatal("the frames did not last until the last cut")
		}
		if _, err := to.Write(join(f.frames[n : n+batch])); err != nil {
			t.Fatal(err)
		}
		for range batch {
			f.sent = append(f.sent, time.Now())
		}
	}
}

// TestPowerCutOfAGuest cuts the power of a machine that records, 25 times, on one disk. Each
// time what is on the disk verifies as cut, never as tampered with; at the end all is there that was
// older than promised, and the control, which syncs nothing, has lost more than that.
func TestPowerCutOfAGuest(t *testing.T) {
	if !long {
		t.Skip("HOLDFAST_LONG=1 runs it: it takes some ten minutes")
	}
	b := newBoard(t)
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "recipients.txt"), string(readFile(t, b.path("recipients.txt"))))
	writeFile(t, filepath.Join(root, "holdfast.toml"), "[[link]]\nname = \"fc\"\ndevice = \"/dev/ttyS1\"\n[lock]\nmode = \"bench\"\n[vault]\nreserve = \"1MiB\"\n[status]\nfile = \"/run/status.json\"\n")
	g := newGuest(t, root)
	f := &flow{frames: flightFrames(t, vehicle.Options{Seed: 71, Duration: 10 * time.Minute, Camera: true})}
	r := rand.New(rand.NewPCG(72, 0))
	var cuts []int // frames sent before each
	var at []time.Time
	for i := range guestKills {
		g.start("")
		f.run(t, g.feed, 1500*time.Millisecond+time.Duration(r.IntN(3500))*time.Millisecond)
		at, cuts = append(at, time.Now()), append(cuts, len(f.sent))
		g.cutPower()
		verdict := run(t, "holdfast", "verify", filepath.Join(g.disk(), "vault"))
		if verdict.code != 3 {
			t.Fatalf("cut %d: verify gives %d, want 3 (cut): %s%s", i, verdict.code, verdict.stdout, verdict.stderr)
		}
	}
	b.medium = filepath.Join(g.dir, "out")
	f.check(t, cuts, at, allFrames(b.open(3)))
	g.control(t, f.frames)
}

// check wants every frame back that was sent longer before a cut than the promise.
func (f *flow) check(t testing.TB, cuts []int, at []time.Time, opened [][]byte) {
	t.Helper()
	there, next := make([]bool, len(f.sent)), 0
	for i, o := range opened {
		for next < len(f.sent) && !bytes.Equal(f.frames[next], o) {
			next++
		}
		if next == len(f.sent) {
			t.Fatalf("opened frame %d of %d was never sent, or comes a second time", i, len(opened))
		}
		there[next] = true
		next++
	}
	armed, lost, cut := false, 0, 0
	var worst time.Duration
	for i, ok := range there {
		if now, known := isArmed(f.frames[i]); known {
			armed = now
		}
		for i >= cuts[cut] {
			cut++
		}
		if ok {
			continue
		}
		lost++
		promise := promiseIdle
		if armed {
			promise = promiseArmed
		}
		beyond := at[cut].Sub(f.sent[i]) - promise
		if beyond > guestMargin && worst <= guestMargin {
			t.Errorf("cut %d: frame %d (armed: %v) is lost, %v older than promised", cut, i, armed, beyond)
		}
		worst = max(worst, beyond)
	}
	t.Logf("%d cuts, %d frames sent, %d opened, %d lost; beyond the promise at most %v", len(cuts), len(f.sent), len(opened), lost, worst)
	if lost == 0 {
		t.Error("no cut lost a frame: they met no recording")
	}
}

// control records the same line without a sync and loses its power.
func (g *guest) control(t testing.TB, frames [][]byte) {
	t.Helper()
	g.start("holdfast.control")
	f := &flow{frames: frames}
	const span = 4 * time.Second
	f.run(t, g.feed, span)
	g.cutPower()
	got, _ := os.ReadFile(filepath.Join(g.disk(), "control.bin"))
	sent := 0
	for i := range f.sent {
		sent += len(f.frames[i])
	}
	t.Logf("control without syncs: %d of %d bytes are on the disk", len(got), sent)
	if len(got) > sent/2 {
		t.Error("the control lost little: a kill of this guest proves nothing")
	}
}
