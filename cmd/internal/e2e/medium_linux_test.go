package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot/allow"
)

// loopMedium is a board's medium that is a disk of its own: an ext4 on a loop device, mounted in a mount
// namespace of its own.
type loopMedium struct {
	b         *board
	at, image string
	device    string
	frozen    bool
}

// loopMedium puts the board's vault on an ext4 of so many MiB. The loop device goes with the mount. It has
// one block group without a journal: what is at the end of the disk is data alone, so that it can fail
// without the file system giving itself up.
func (b *board) loopMedium(mib int, vaultKeys ...string) *loopMedium {
	b.t.Helper()
	return b.loopMediumOf("-O ^has_journal", mib, vaultKeys...)
}

// loopMediumOf is loopMedium with options of mkfs.ext4.
func (b *board) loopMediumOf(options string, mib int, vaultKeys ...string) *loopMedium {
	b.t.Helper()
	if os.Geteuid() != 0 {
		b.t.Skip("a disk of a test's own needs root")
	}
	for _, need := range []string{"losetup", "mkfs.ext4", "fsfreeze"} {
		if _, err := exec.LookPath(need); err != nil {
			b.t.Skipf("no %s here", need)
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		b.t.Skip("this kernel has no loop devices")
	}
	d := &loopMedium{b: b, at: b.path("medium"), image: b.path("image")}
	if err := os.Mkdir(d.at, 0o700); err != nil {
		b.t.Fatal(err)
	}
	script := fmt.Sprintf("truncate -s %dm '%s' && mkfs.ext4 -q -F -b 4096 %s -m 0 '%s' && mount -o loop '%s' '%s' && chmod 700 '%s' &&"+
		"mount -t tmpfs none /sys/class && mkdir -p '%s' && echo 0 >'%s/brightness' && echo mounted && exec cat",
		mib, d.image, options, d.image, d.image, d.at, d.at, ledFolder, ledFolder)
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
	hold, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		b.t.Skipf("no mount namespace: %v", err)
	}
	b.t.Cleanup(func() { hold.Close(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		b.t.Skipf("no ext4 on a loop device: %q, %v", line, err)
	}
	b.space = cmd.Process.Pid
	b.medium = fmt.Sprintf("/proc/%d/root%s", b.space, d.at)
	b.configure(b.path("fc"), append([]string{`path = "medium/vault"`}, vaultKeys...)...)
	d.device = d.inside("findmnt", "-n", "-o", "SOURCE", d.at)
	return d
}

// ledFolder is a LED of the medium's mount namespace, as the kernel has them; lightKeys have it used.
const (
	ledFolder = "/sys/class/leds/status"
	lightKeys = "[status]\nled = \"status\""
)

// flashes counts how often the light goes on in two seconds. A fault shows five a second, anything else
// less than two.
func (d *loopMedium) flashes() (n int) {
	d.b.t.Helper()
	path := fmt.Sprintf("/proc/%d/root%s/brightness", d.b.space, ledFolder)
	was := true
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		p := readFile(d.b.t, path)
		on := len(p) > 0 && p[0] == '2' // 255, and for off the first byte is made 0
		if on && !was {
			n++
		}
		was = on
	}
	return n
}

// wantLight waits for the light of a fault, or for that of anything else.
func (d *loopMedium) wantLight(fault bool) {
	d.b.t.Helper()
	n := 0
	if !eventually(patience, func() bool { n = d.flashes(); return n > 0 && (n >= 7) == fault }) {
		d.b.t.Errorf("fault %v: the light flashes %d times in 2 s", fault, n)
	}
}

// inside runs a command in the medium's mount namespace, which has to succeed.
func (d *loopMedium) inside(name string, args ...string) string {
	d.b.t.Helper()
	out, err := d.b.inside(name, args...)
	if err != nil {
		d.b.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return out
}

// freeze stops all writing to the disk until thaw: writers wait.
func (d *loopMedium) freeze() {
	d.b.t.Helper()
	d.inside("fsfreeze", "-f", d.at)
	d.frozen = true
}

// thaw ends freeze; where there was none it does nothing.
func (d *loopMedium) thaw() {
	if d.frozen {
		d.frozen = false
		if out, err := d.b.inside("fsfreeze", "-u", d.at); err != nil {
			d.b.t.Errorf("fsfreeze -u: %v: %s", err, out)
		}
	}
}

// front is what is left of the disk by cut, in MiB: its own tables.
const front = 4

// cut makes each access behind the front of the disk fail with EIO, until mend. What is there is kept.
func (d *loopMedium) cut() {
	d.b.t.Helper()
	d.freeze() // nothing is written between the copy and the cut
	defer d.thaw()
	d.inside("cp", "--sparse=always", d.image, d.image+".kept")
	d.inside("truncate", "-s", fmt.Sprintf("%dm", front), d.image)
	d.inside("losetup", "-c", d.device)
}

func (d *loopMedium) mend() {
	d.b.t.Helper()
	d.inside("dd", "if="+d.image+".kept", "of="+d.image, "bs=1M", fmt.Sprintf("skip=%d", front), fmt.Sprintf("seek=%d", front), "conv=notrunc,sparse", "status=none")
	size := d.inside("stat", "-c", "%s", d.image+".kept")
	d.inside("truncate", "-s", size, d.image)
	d.inside("losetup", "-c", d.device)
}

// pull takes the disk away: what is open fails, and the folder is empty.
func (d *loopMedium) pull() {
	d.b.t.Helper()
	d.cut()
	d.inside("umount", "-l", d.at)
}

// readOnly has the kernel make the file system read-only, as it does where an error in the file system's own
// tables is found; there is no way back but to mount it anew.
func (d *loopMedium) readOnly() {
	d.b.t.Helper()
	d.inside("mount", "-o", "remount,abort", d.at)
}

// put brings the disk back, as whoever puts a card in again: checked, and mounted at the same place.
func (d *loopMedium) put() {
	d.b.t.Helper()
	if out, err := d.b.inside("e2fsck", "-p", "-f", d.image+".kept"); err != nil && !strings.Contains(err.Error(), "exit status 1") {
		d.b.t.Fatalf("e2fsck: %v: %s", err, out)
	}
	d.inside("mount", "-o", "loop", d.image+".kept", d.at)
}

// takeOffPlain is takeOff with a camera's component admitted.
func (b *board) takeOffPlain(args ...string) *sortie {
	b.t.Helper()
	return b.takeOff(allow.Options{Camera: true}, args...)
}

// lastBatch is how many frames a vehicle that is switched off may take along: they lie in its line.
const lastBatch = 16

// wantTold ends the flight: no frame of it is lost, its record is cut at worst, and the autopilot was
// told.
func (s *sortie) wantTold(texts ...string) {
	s.t.Helper()
	_ = s.vehicle.cmd.Process.Signal(syscall.SIGINT)
	if code := s.vehicle.wait(sortiePatience); code != 0 && code != 130 {
		s.t.Fatalf("the vehicle ended with %d: %s", code, s.vehicle.errs.String())
	}
	if err := json.Unmarshal([]byte(s.vehicle.out.String()), &s.sum); err != nil {
		s.t.Fatal(err)
	}
	s.waitFrames(s.sum.Frames - lastBatch)
	h := s.health()
	s.daemon.stop()
	s.said, s.heard = readTlog(s.t, s.path("said.tlog")), readTlog(s.t, s.path("heard.tlog"))
	code, state, _ := s.list()
	if verify := run(s.t, "holdfast", "verify", s.vault()); verify.code != code || code != 0 && (code != 3 || state != "cut") {
		s.t.Errorf("list: %d, %s; verify: %d: %s", code, state, verify.code, verify.stdout)
	}
	s.records = s.open(code)
	got := allFrames(s.records)
	if missing := len(s.said.frames) - len(got); missing > 0 && missing <= lastBatch {
		s.said.frames = s.said.frames[:len(got)]
	}
	wantFrames(s.t, "telemetry", got, s.said.frames)
	if h["ring_drops"] != 0.0 {
		s.t.Errorf("%v frames found no room", h["ring_drops"])
	}
	if n, err := s.outside(); err != nil {
		s.t.Errorf("%d frames to the vehicle are outside the list, the first: %v", n, err)
	}
	heard := s.texts()
	for _, want := range texts {
		if !strings.Contains(heard, want) {
			s.t.Errorf("the autopilot was not told %q, but: %s", want, heard)
		}
	}
	s.t.Logf("told the autopilot: %s; events %v", heard, counts(allEvents(s.records)))
}

// texts are the STATUSTEXTs that the vehicle heard.
func (s *sortie) texts() string {
	var list []string
	for _, m := range decode(s.heard.frames) {
		if m, ok := m.(*common.MessageStatustext); ok {
			list = append(list, m.Text)
		}
	}
	return strings.Join(list, "; ")
}

func counts(all []string) map[string]int {
	n := map[string]int{}
	for _, a := range all {
		n[a]++
	}
	return n
}

func putPhoto(t testing.TB, inbox string, n int) {
	t.Helper()
	writeFile(t, filepath.Join(inbox, fmt.Sprintf("p%d.jpg", n)), string(picture(81, n)))
}

func removeFile(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}
