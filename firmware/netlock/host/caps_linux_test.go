package host_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/firmware/netlock/host"
)

const (
	allCaps = "000001ffffffffff"
	noCaps  = "0000000000000000"
)

// process is what a fake /proc/PID says.
type process struct {
	program       string
	parent        int
	prm, eff, bnd string // empty: none
	nnp           bool
	kernel        bool   // no memory of its own
	user          string // user namespace; empty: the machine's
	threads       []process
}

func (p process) status() string {
	set := func(s string) string {
		if s == "" {
			return noCaps
		}
		return s
	}
	nnp := 0
	if p.nnp {
		nnp = 1
	}
	vm := "VmSize:\t    3060 kB\n"
	if p.kernel {
		vm = ""
	}
	return fmt.Sprintf("Name:\tx\nPid:\t7\nPPid:\t%d\nUid:\t0\t1000\t0\t0\n%sCapInh:\t%s\nCapPrm:\t%s\nCapEff:\t%s\nCapBnd:\t%s\nCapAmb:\t%s\nNoNewPrivs:\t%d\n",
		p.parent, vm, noCaps, set(p.prm), set(p.eff), set(p.bnd), noCaps, nnp)
}

// machine is a fake /proc with a clock.
type machine struct {
	fake
	now time.Duration
}

const guardPID = 400

func newMachine(t testing.TB) *machine {
	m := &machine{fake: newFake(t, map[string]string{"proc/sys/": "", "proc/uptime": "1"})}
	m.start(1, process{program: "/usr/lib/systemd/systemd", prm: allCaps, eff: allCaps, bnd: allCaps})
	m.start(2, process{kernel: true, prm: allCaps, eff: allCaps, bnd: allCaps})
	m.start(300, process{program: "/usr/bin/udevadm", parent: 1, prm: udevSet, eff: udevSet, bnd: udevSet})
	m.start(guardPID, process{program: "/usr/bin/holdfastd", parent: 1, prm: allCaps, eff: allCaps, bnd: allCaps})
	m.put("proc/self/ns/user", "-> user:[4026531837]")
	return m
}

func (m *machine) start(pid int, p process) {
	dir := fmt.Sprintf("proc/%d/", pid)
	m.remove(dir)
	m.put(dir+"status", p.status())
	if p.program != "" {
		m.put(dir+"exe", "-> "+p.program)
	}
	if p.user == "" {
		p.user = "4026531837"
	}
	m.put(dir+"ns/user", "-> user:["+p.user+"]")
	m.put(dir+"comm", "short\n")
	for i, thread := range append([]process{p}, p.threads...) {
		m.put(fmt.Sprintf("%stask/%d/status", dir, pid+i), thread.status())
	}
}

// become changes a process that goes on.
func (m *machine) become(pid int, p process) {
	m.put(fmt.Sprintf("proc/%d/status", pid), p.status())
	m.put(fmt.Sprintf("proc/%d/task/%d/status", pid, pid), p.status())
}

func (m *machine) layer() *host.Capabilities {
	return host.NewCapabilities(m.root, host.CapabilityOptions{Except: host.Exceptions(), Now: func() time.Duration { return m.now }, Self: guardPID})
}

// check looks twice, so that whoever is there counts.
func (m *machine) check(c *host.Capabilities, want string) {
	m.t.Helper()
	_ = c.Verify()
	m.now += host.SettleTime
	verified(m.t, c, want)
}

func hex(p host.Powers) string { return fmt.Sprintf("%016x", uint64(p)) }

// Sets as the units leave them, and one of the seven.
var (
	closedSet = hex((1<<41 - 1) &^ host.PastTheLock)
	udevSet   = hex((1<<41 - 1) &^ (host.NetRaw | host.BPF | host.SysPtrace | host.SysRawIO))
	rawSet    = hex(host.NetRaw)
)

func TestCapabilities(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    process
		want string
	}{
		{"locked service", process{program: "/usr/sbin/sshd", parent: 1, prm: closedSet, eff: closedSet, bnd: closedSet}, ""},
		{"all powers", process{program: "/usr/sbin/dhcpcd", prm: allCaps, eff: allCaps, bnd: allCaps},
			"powers past the lock: /usr/sbin/dhcpcd (CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_SYS_ADMIN CAP_SYS_MODULE CAP_SYS_PTRACE CAP_SYS_RAWIO)"},
		{"one, permitted and not effective", process{program: "/usr/bin/ping", prm: rawSet, bnd: closedSet}, "powers past the lock: /usr/bin/ping (CAP_NET_RAW)"},
		{"could get them by sudo", process{program: "/usr/bin/bash", bnd: allCaps, prm: noCaps},
			"powers past the lock: /usr/bin/bash (CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_SYS_ADMIN CAP_SYS_MODULE CAP_SYS_PTRACE CAP_SYS_RAWIO)"},
		{"may gain nothing", process{program: "/usr/bin/bash", bnd: allCaps, nnp: true}, ""},
		{"has, and may gain nothing", process{program: "/usr/bin/x", prm: rawSet, bnd: allCaps, nnp: true}, "powers past the lock: /usr/bin/x (CAP_NET_RAW)"},
		{"kernel thread", process{parent: 2, kernel: true, prm: allCaps, eff: allCaps, bnd: allCaps}, ""},
		{"root of its own user namespace", process{program: "/usr/bin/bwrap", prm: allCaps, bnd: allCaps, user: "4026532000"}, ""},
		{"copy of the first process", process{program: "/usr/lib/systemd/systemd", parent: 1, prm: allCaps, bnd: allCaps}, ""},
		{"its copy's copy", process{program: "/usr/lib/systemd/systemd", parent: 503, bnd: allCaps}, ""},
		{"what its copy started", process{program: "/x", parent: 503, prm: rawSet}, "powers past the lock: /x (CAP_NET_RAW)"},
		{"its program, started by another", process{program: "/usr/lib/systemd/systemd", parent: 501, prm: rawSet}, "powers past the lock: /usr/lib/systemd/systemd (CAP_NET_RAW)"},
		{"modprobe by the kernel", process{program: "/usr/bin/kmod", parent: 2, prm: allCaps, bnd: allCaps}, ""},
		{"modprobe by another", process{program: "/usr/bin/kmod", parent: 501, prm: rawSet}, "powers past the lock: /usr/bin/kmod (CAP_NET_RAW)"},
		{"another helper of the kernel", process{program: "/x", parent: 2, prm: rawSet}, "powers past the lock: /x (CAP_NET_RAW)"},
		{"mount", process{program: "/usr/bin/mount", parent: 1, prm: hex(host.SysAdmin), bnd: hex(host.SysAdmin)}, ""},
		{"mount with more", process{program: "/usr/bin/mount", parent: 1, prm: hex(host.SysAdmin | host.BPF)}, "powers past the lock: /usr/bin/mount (CAP_BPF)"},
		{"run by a rule of udev", process{program: "/usr/sbin/dmsetup", parent: 300, prm: udevSet, bnd: udevSet}, ""},
		{"run by a rule of udev, with more", process{program: "/x", parent: 300, prm: rawSet}, "powers past the lock: /x (CAP_NET_RAW)"},
		{"started by kmod", process{program: "/x", parent: 501, prm: hex(host.SysModule)}, "powers past the lock: /x (CAP_SYS_MODULE)"},
		{"another of ours", process{program: "/usr/bin/holdfastd", prm: allCaps, bnd: allCaps}, ""},
		{"child of ours", process{program: "/x", parent: guardPID, prm: rawSet}, "powers past the lock: /x (CAP_NET_RAW)"},
		{"of a name that was removed", process{program: "/usr/bin/udevadm (deleted)", prm: rawSet}, "powers past the lock: /usr/bin/udevadm (deleted) (CAP_NET_RAW)"},
		{"no name", process{prm: rawSet}, "powers past the lock: [short] (CAP_NET_RAW)"},
		{"odd name", process{program: "/x\x1b[31m\n", prm: rawSet}, `powers past the lock: "/x\x1b[31m\n" (CAP_NET_RAW)`},
		{"a thread", process{program: "/x", threads: []process{{prm: rawSet}}}, "powers past the lock: /x (CAP_NET_RAW)"},
	} {
		m := newMachine(t)
		m.start(501, process{program: "/usr/bin/kmod", parent: 1, prm: hex(host.SysModule), bnd: hex(host.SysModule)})
		m.start(503, process{program: "/usr/lib/systemd/systemd", parent: 1, prm: closedSet, bnd: closedSet})
		m.start(502, tt.p)
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			m.check(m.layer(), tt.want)
		})
	}
}

// What has powers for a moment does not count; what keeps them does, and a new process in the
// place of an old one is another.
func TestCapabilitiesInTime(t *testing.T) {
	m := newMachine(t)
	c := m.layer()
	m.check(c, "")
	m.start(600, process{program: "/sbin/y", parent: 1, prm: allCaps, bnd: allCaps})
	verified(t, c, "")
	m.now += host.SettleTime / 2
	m.become(600, process{parent: 1, bnd: closedSet})
	verified(t, c, "")
	m.now += host.SettleTime
	verified(t, c, "")
	m.start(601, process{program: "/y", prm: rawSet})
	verified(t, c, "")
	m.now += host.SettleTime
	verified(t, c, "powers past the lock: /y (CAP_NET_RAW)")
	if o := c.Offenders(); len(o) != 1 || o[0] != (host.Offender{PID: 601, UID: 1000, Program: "/y", Powers: host.NetRaw}) {
		t.Errorf("offenders: %+v", o)
	}
	m.remove("proc/601")
	verified(t, c, "")
	// What was fine once is looked at again after a while only.
	m.become(600, process{prm: rawSet})
	m.now += host.SettleTime
	verified(t, c, "")
	m.now += host.FullEvery
	m.check(c, "powers past the lock: /sbin/y (CAP_NET_RAW)")
}

func TestCapabilitiesMany(t *testing.T) {
	m := newMachine(t)
	for i := range 5 {
		m.start(700+i, process{program: fmt.Sprintf("/bin/p%d", i), prm: rawSet})
		m.start(800+i, process{program: "/bin/p0", prm: rawSet})
	}
	m.check(m.layer(), "powers past the lock: /bin/p0 (CAP_NET_RAW), /bin/p1 (CAP_NET_RAW), /bin/p2 (CAP_NET_RAW), 2 more")
}

// A status that cannot be understood counts against the process; one that has gone does not.
func TestCapabilitiesOddStatus(t *testing.T) {
	m := newMachine(t)
	m.start(900, process{program: "/x"})
	m.put("proc/900/status", "VmSize:\t1 kB\nCapEff:\tzz\n")
	m.start(901, process{program: "/y", prm: rawSet})
	m.remove("proc/901/status")
	m.check(m.layer(), "powers past the lock: /x (CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_SYS_ADMIN CAP_SYS_MODULE CAP_SYS_PTRACE CAP_SYS_RAWIO)")
}

func TestCapabilitiesChangeNothing(t *testing.T) {
	if got := applied(t, newMachine(t).layer()); len(got) != 0 {
		t.Errorf("changes: %q", got)
	}
}

var statusTables = []struct {
	name, text string
	want       host.Status
	bad        bool
}{
	{"full", process{parent: 3, prm: rawSet, bnd: closedSet}.status(), host.Status{Running: true, Parent: 3, UID: 1000, Powers: host.NetRaw | ((1<<41 - 1) &^ host.PastTheLock)}, false},
	{"kernel thread", process{parent: 2, kernel: true, prm: rawSet}.status(), host.Status{Parent: 2, UID: 1000, Powers: host.NetRaw}, false},
	{"before ambient sets", strings.Replace(process{prm: rawSet}.status(), "CapAmb", "CapOld", 1), host.Status{Running: true, UID: 1000, Powers: host.NetRaw}, false},
	{"empty", "", host.Status{UID: -1}, false},
	{"no sets", "VmSize: 1 kB\n", host.Status{}, true},
	{"bad set", "CapEff:\t-1\n", host.Status{}, true},
	{"set too large", "CapEff:\t10000000000000000\n", host.Status{}, true},
	{"bad parent", "PPid:\tx\n", host.Status{}, true},
	{"bad user", "Uid:\t1\t2\n", host.Status{}, true},
}

func TestParseStatus(t *testing.T) {
	for _, tt := range statusTables {
		got, err := host.ParseStatus(tt.text)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	for _, tt := range statusTables {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		st, err := host.ParseStatus(text)
		if err == nil && st.Running && !strings.Contains(text, "Cap") {
			t.Errorf("running without sets: %+v", st)
		}
	})
}

func FuzzEntries(f *testing.F) {
	entry := binary.NativeEndian.AppendUint64(nil, 77)
	entry = append(entry, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 4, '1', '2', 0, 0, 0)
	f.Add(entry)
	f.Add(append(entry, entry...))
	f.Add(entry[:20])
	f.Fuzz(func(t *testing.T, p []byte) {
		total := 0
		host.EachEntry(p, func(name []byte, _ uint64) { total += len(name) })
		if total > len(p) {
			t.Errorf("%d bytes of names in %d", total, len(p))
		}
	})
}
