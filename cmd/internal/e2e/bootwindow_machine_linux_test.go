package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// bootPatience is how long an emulated machine may take for anything.
	bootPatience = 15 * time.Minute
	// lookPatience is how long something that is looked for may take to come.
	lookPatience = 3 * time.Minute
)

// machine is a guest with systemd: its disk, its adapters, its serial ports.
type machine struct {
	t       testing.TB
	dir     string
	from    string // what scripts/guest-systemd.sh made
	wires   []*wire
	running *process
	began   time.Time
	ended   time.Time
	phases  []phase

	feed  net.Conn // the flight controller's end of the UART
	qmp   *lines
	agent *lines
}

// phase is a span of a machine's life; it ends where the next begins.
type phase struct {
	name string
	from time.Time
}

// lines is a connection on which both sides write JSON, a line each.
type lines struct {
	conn net.Conn
	in   *bufio.Reader
}

// newMachine makes a machine that is switched off. Files are what is written to its disk: where
// to, and which file of this machine.
func newMachine(t testing.TB, files map[string]string, enabled []string) *machine {
	t.Helper()
	from, err := filepath.Abs(envOr("HOLDFAST_GUEST_SYSTEMD", filepath.Join(module, "dist", "guest-systemd")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(from, "inputs")); err != nil {
		t.Skip("no guest with systemd: scripts/guest-systemd.sh dist/guest-systemd makes it")
	}
	for _, tool := range []string{"qemu-system-x86_64", "debugfs", "e2fsck", "mkswap"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	dir, err := os.MkdirTemp("", "boot") // a short name: those of sockets are at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{t: t, dir: dir, from: from}
	m.sh("cp --sparse=always " + filepath.Join(from, "root.img") + " disk.img && truncate -s 16M swap.img && mkswap -q swap.img")
	m.write(files, enabled)
	return m
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// sh runs a line of shell in the machine's folder.
func (m *machine) sh(line string) {
	m.t.Helper()
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = m.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// write puts files onto the disk, without mounting it, and enables units.
func (m *machine) write(files map[string]string, enabled []string) {
	m.t.Helper()
	var script strings.Builder
	made := map[string]bool{}
	folder := func(dir string) {
		for i := 1; i <= len(dir); i++ {
			if at := dir[:i]; (i == len(dir) || dir[i] == '/') && !made[at] {
				fmt.Fprintf(&script, "mkdir %s\n", at)
				made[at] = true
			}
		}
	}
	for _, to := range sortedKeys(files) {
		folder(path.Dir(to))
		fmt.Fprintf(&script, "cd %s\nrm %s\nwrite %s %s\nset_inode_field %s mode 0%o\n", path.Dir(to), path.Base(to), files[to], path.Base(to), to, m.mode(files[to]))
	}
	for _, link := range enabled { // a target, and the unit's file that it is to want
		target, unit, _ := strings.Cut(link, "/")
		dir := "/etc/systemd/system/" + target + ".wants"
		folder(dir)
		fmt.Fprintf(&script, "cd %s\nsymlink %s /%s\n", dir, path.Base(unit), strings.TrimPrefix(unit, "/"))
	}
	writeFile(m.t, filepath.Join(m.dir, "write.txt"), script.String())
	m.sh("debugfs -w -f write.txt disk.img >write.log 2>&1")
	m.check(files)
}

// mode is what a package gives a file: everybody may read it, and run it where it is a program.
func (m *machine) mode(file string) fs.FileMode {
	m.t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		m.t.Fatal(err)
	}
	const regular = 0o100644 // S_IFREG, rw-r--r--
	return regular | info.Mode()&0o111
}

// check reads back what was written: debugfs ends with 0 whatever it met.
func (m *machine) check(files map[string]string) {
	m.t.Helper()
	for to, from := range files {
		m.sh("rm -f back && debugfs -R 'dump " + to + " back' disk.img 2>/dev/null && cmp back " + from)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

// tree lists the files below dir as newMachine wants them, to being where dir stands in the guest.
func tree(t testing.TB, dir, to string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		below, err := filepath.Rel(dir, name)
		files[path.Join(to, filepath.ToSlash(below))] = name
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// adapters are what the machine has from power-on; the third is plugged in later.
var adapters = []string{"virtio", "e1000", "usb"}

// powerOn switches the machine on and returns at once.
func (m *machine) powerOn() {
	m.t.Helper()
	m.phase(phasePowerOn)
	args := []string{"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768", "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(m.from, "vmlinuz"), "-initrd", filepath.Join(m.from, "initrd.img"),
		// Links keep the kernel's names, as on Raspberry Pi OS: one that is up already cannot be renamed, and is then not configured.
		"-append", "root=/dev/vda rw net.ifnames=0 fsck.mode=skip console=ttyS0 quiet loglevel=4 systemd.show_status=0",
		"-drive", "if=virtio,format=raw,cache=writeback,file=disk.img", "-drive", "if=virtio,format=raw,file=swap.img",
		"-serial", "file:console.txt", "-serial", "unix:uart,server=on,wait=off", "-qmp", "unix:qmp,server=on,wait=off",
		"-device", "qemu-xhci,id=xhci", "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path=agent,server=on,wait=off", "-device", "virtserialport,chardev=agent,name=holdfast.agent"}
	for i, name := range adapters {
		m.wires = append(m.wires, newWire(m.t, m.dir, name, byte(i+1)))
		args = append(args, "-netdev", "stream,id="+name+",server=off,addr.type=unix,addr.path="+name)
	}
	// No ROM: a firmware that boots from the network would be counted for the guest.
	args = append(args, "-device", "virtio-net-pci,netdev=virtio,romfile=", "-device", "e1000,netdev=e1000,romfile=")
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.Dir = m.dir
	m.running = startCommand(m.t, cmd)
	m.began = time.Now()
	m.agent, m.qmp = m.dial("agent"), m.dial("qmp")
	m.feed = m.dial("uart").conn
	m.qmp.read(m.t) // its greeting
	m.command("qmp_capabilities", nil)
}

// dial connects to a socket of QEMU's.
func (m *machine) dial(name string) *lines {
	m.t.Helper()
	var conn net.Conn
	waitFor(m.t, bootPatience, "socket "+name+" of the machine", func() (ok bool) {
		if !m.running.running() {
			m.t.Fatalf("the machine ended: %s", m.running.errs.String())
		}
		var err error
		conn, err = net.Dial("unix", filepath.Join(m.dir, name))
		return err == nil
	})
	m.t.Cleanup(func() { conn.Close() })
	return &lines{conn, bufio.NewReader(conn)}
}

// read returns the next line.
func (l *lines) read(t testing.TB) string {
	t.Helper()
	if err := l.conn.SetReadDeadline(time.Now().Add(bootPatience)); err != nil {
		t.Fatal(err)
	}
	line, err := l.in.ReadString('\n')
	if err != nil {
		t.Fatalf("no answer from the machine: %v", err)
	}
	return strings.TrimSpace(line)
}

func (l *lines) write(t testing.TB, v any) {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.conn.Write(append(p, '\n')); err != nil {
		t.Fatal(err)
	}
}

// command has QEMU do something; events that come between are passed over.
func (m *machine) command(name string, arguments map[string]string) {
	m.t.Helper()
	request := map[string]any{"execute": name}
	if arguments != nil {
		request["arguments"] = arguments
	}
	m.qmp.write(m.t, request)
	for {
		switch line := m.qmp.read(m.t); {
		case strings.HasPrefix(line, `{"return"`):
			return
		case strings.Contains(line, `"error"`):
			m.t.Fatalf("%s: %s", name, line)
		}
	}
}

// plugIn plugs the USB network adapter in.
func (m *machine) plugIn() {
	m.t.Helper()
	m.phase(phaseUSB)
	m.command("device_add", map[string]string{"driver": "usb-net", "netdev": "usb", "bus": "xhci.0", "id": "adapter"})
}

// up waits until systemd has started the agent.
func (m *machine) up() {
	m.t.Helper()
	if line := m.agent.read(m.t); line != "ready" {
		m.t.Fatalf("the agent says %q", line)
	}
	m.t.Logf("the machine is up after %v", time.Since(m.began).Round(100*time.Millisecond))
}

// try runs a program in the guest and returns how it ended and what it printed.
func (m *machine) try(argv ...string) (out string, code int) {
	m.t.Helper()
	m.agent.write(m.t, map[string]any{"argv": argv, "seconds": 120})
	var a struct {
		Code int
		Out  string
	}
	if line := m.agent.read(m.t); json.Unmarshal([]byte(line), &a) != nil {
		m.t.Fatalf("the agent says %q", line)
	}
	return a.Out, a.Code
}

// do is try for what has to end with 0.
func (m *machine) do(argv ...string) string {
	m.t.Helper()
	out, code := m.try(argv...)
	if code != 0 {
		m.t.Fatalf("in the guest, %s: %d: %s", strings.Join(argv, " "), code, out)
	}
	return strings.TrimSpace(out)
}

// shutDown ends the machine in good order.
func (m *machine) shutDown() {
	m.t.Helper()
	m.phase(phaseShutdown)
	m.try("/bin/systemctl", "poweroff", "--no-block")
	m.running.wait(bootPatience)
	m.ended = time.Now()
	for _, w := range m.wires {
		w.close() // all that left has been read
	}
}

// console is what the kernel and systemd had to say.
func (m *machine) console() string {
	data, _ := os.ReadFile(filepath.Join(m.dir, "console.txt"))
	return string(data[max(0, len(data)-6000):])
}

// phase begins a new phase.
func (m *machine) phase(name string) {
	m.phases = append(m.phases, phase{name, time.Now()})
}

// sent returns the frames that left the machine in a phase, on all wires or the named one.
func (m *machine) sent(name string, wires ...string) (out []seen) {
	for _, w := range m.wires {
		if len(wires) > 0 && !slices.Contains(wires, w.name) {
			continue
		}
		for _, s := range w.frames(m.t, time.Time{}) {
			if m.phaseAt(s.at) == name || name == "" {
				out = append(out, s)
			}
		}
	}
	return out
}

func (m *machine) phaseAt(at time.Time) (name string) {
	for _, p := range m.phases {
		if !p.from.After(at) {
			name = p.name
		}
	}
	return name
}

// report prints what left the machine: by phase, wire and kind.
func (m *machine) report() {
	m.t.Helper()
	for i, p := range m.phases {
		counts := map[string]int{}
		for _, s := range m.sent(p.name) {
			counts[s.wire+" "+describe(s.frame)]++
		}
		end := time.Now()
		if i+1 < len(m.phases) {
			end = m.phases[i+1].from
		}
		m.t.Logf("%-26s %6.1f s  %d frames", p.name, end.Sub(p.from).Seconds(), len(m.sent(p.name)))
		for _, k := range sortedKeys(counts) {
			m.t.Logf("      %6d  %s", counts[k], k)
		}
	}
}

// disk returns a copy of a folder of the machine's disk, its journal replayed.
func (m *machine) disk(folder string) string {
	m.t.Helper()
	m.sh("(e2fsck -fy disk.img >e2fsck.txt 2>&1 || test $? -le 1) && rm -rf out && mkdir -m 700 out && debugfs -R 'rdump " + folder + " out' disk.img 2>/dev/null")
	return filepath.Join(m.dir, "out", path.Base(folder))
}
