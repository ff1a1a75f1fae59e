package confine_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"holdfast/firmware/confine"
)

// Answers of a filter.
const (
	allowed = int(seccomp.ActionAllow)
	eperm   = int(seccomp.ActionErrno) | int(unix.EPERM)
	enosys  = int(seccomp.ActionErrno) | int(unix.ENOSYS)
)

// machine runs the filter of a process as the kernel would, for the architecture that the test
// was built for.
type machine struct {
	t    *testing.T
	vm   *bpf.VM
	info *arch.Info
}

func newMachine(t *testing.T, p confine.Process, o confine.Options) *machine {
	t.Helper()
	policy := confine.Policy(p, o)
	program, err := policy.Assemble()
	if err != nil {
		t.Fatalf("a name on the list is none of this architecture's: %v", err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	info, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t, vm, info}
}

// call returns the filter's answer. The VM reads words in network order, the kernel in the
// machine's own: struct seccomp_data is laid out so that both see the same numbers.
func (m *machine) call(name string, args ...uint64) int {
	m.t.Helper()
	nr, known := m.info.SyscallNames[name]
	if !known {
		m.t.Fatalf("no call %q", name)
	}
	return m.number(uint32(m.info.ID), uint32(nr), args...)
}

func (m *machine) number(id, nr uint32, args ...uint64) int {
	m.t.Helper()
	data := binary.BigEndian.AppendUint32(nil, nr)
	data = binary.BigEndian.AppendUint32(data, id)
	data = append(data, make([]byte, 8)...) // instruction pointer
	for i := range 6 {
		var a uint64
		if i < len(args) {
			a = args[i]
		}
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	n, err := m.vm.Run(data)
	if err != nil {
		m.t.Fatal(err)
	}
	return int(uint32(n))
}

var processes = map[string]confine.Process{
	"recorder": confine.RecorderProcess, "key": confine.KeyProcess, "guard": confine.GuardProcess, "supervisor": confine.SupervisorProcess,
}

// never is what no process of the board may ever do, whatever it is given.
var never = []string{
	"ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "kexec_load",
	"init_module", "finit_module", "delete_module", "keyctl", "add_key", "request_key", "userfaultfd", "perf_event_open", "reboot",
	"pidfd_getfd", "personality", "acct", "quotactl", "swapon", "settimeofday", "clock_settime", "socketpair", "listen", "accept", "accept4",
	"vhangup", "name_to_handle_at", "open_by_handle_at", "process_madvise", "move_pages", "mbind", "syslog", "sethostname",
	"io_uring_enter", "io_uring_register", "execveat", "mknod", "memfd_secret", "fsopen", "fsmount", "move_mount", "open_tree", "sendmmsg",
	"setxattr", "timer_create",
}

func TestNever(t *testing.T) {
	for name, p := range processes {
		for _, o := range []confine.Options{{}, {Bench: true, TCP: []uint16{1}, UDP: []uint16{2}}} {
			m := newMachine(t, p, o)
			for _, call := range never {
				if _, known := m.info.SyscallNames[call]; !known {
					continue // this architecture does not have it
				}
				if got := m.call(call); got != eperm {
					t.Errorf("%s: %s: %#x, want EPERM", name, call, got)
				}
			}
			for _, call := range []string{"clone3", "openat2", "io_uring_setup"} {
				if got := m.call(call); got != enosys {
					t.Errorf("%s: %s: %#x, want ENOSYS", name, call, got)
				}
			}
			// Another architecture's numbers on this one's kernel.
			if got := m.number(0x40000003+uint32(m.info.ID), 1); got != eperm {
				t.Errorf("%s: a call of another architecture: %#x", name, got)
			}
		}
	}
}

var socketCalls = []string{"socket", "bind", "connect", "getsockname", "getpeername", "getsockopt", "setsockopt", "sendto", "sendmsg", "recvfrom", "recvmsg", "shutdown"}

// TestNoSocketWhenLocked: locked, a recorder has not one call for sockets, of any family; nor on
// the bench without a link that needs one.
func TestNoSocketWhenLocked(t *testing.T) {
	for _, o := range []confine.Options{{}, {TCP: []uint16{5760}, UDP: []uint16{14550}, Send: true}, {Bench: true, Send: true}} {
		m := newMachine(t, confine.RecorderProcess, o)
		for _, call := range socketCalls {
			for family := range uint64(unix.AF_MAX) {
				if got := m.call(call, family, unix.SOCK_STREAM); got != eperm {
					t.Fatalf("%+v: %s of family %d: %#x", o, call, family, got)
				}
			}
		}
	}
}

func TestArguments(t *testing.T) {
	const stream, dgram = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	thread := uint64(unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM)
	self := uint64(unix.Getpid())
	tcp, udp := confine.Options{Bench: true, TCP: []uint16{5760}}, confine.Options{Bench: true, UDP: []uint16{14550}}
	answering := udp
	answering.Send = true
	mmap := "mmap"
	if _, known := newMachine(t, confine.KeyProcess, tcp).info.SyscallNames["mmap2"]; known {
		mmap = "mmap2"
	}
	for _, tc := range []struct {
		what    string
		process confine.Process
		o       confine.Options
		want    int
		call    string
		args    []uint64
	}{
		{"memory", confine.RecorderProcess, tcp, allowed, mmap, []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}},
		{"memory to run", confine.RecorderProcess, tcp, eperm, mmap, []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}},
		{"made to run", confine.KeyProcess, tcp, eperm, "mprotect", []uint64{0, 4096, unix.PROT_EXEC}},
		{"typing into a terminal", confine.RecorderProcess, tcp, eperm, "ioctl", []uint64{0, unix.TIOCSTI}},
		{"a line discipline", confine.RecorderProcess, tcp, eperm, "ioctl", []uint64{0, unix.TIOCSETD}},
		{"a line's settings", confine.RecorderProcess, tcp, allowed, "ioctl", []uint64{0, unix.TCSETS}},
		{"any control call", confine.KeyProcess, tcp, eperm, "ioctl", []uint64{0, unix.TCGETS}},
		{"a thread", confine.KeyProcess, tcp, allowed, "clone", []uint64{thread}},
		{"a process", confine.KeyProcess, tcp, eperm, "clone", []uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD)}},
		{"a child", confine.RecorderProcess, tcp, allowed, "clone", []uint64{unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | uint64(unix.SIGCHLD)}},
		{"a child in a namespace", confine.RecorderProcess, tcp, eperm, "clone", []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}},
		{"a thread in a namespace", confine.GuardProcess, tcp, eperm, "clone", []uint64{thread | unix.CLONE_NEWNET}},
		{"a child of the guard", confine.GuardProcess, tcp, eperm, "clone", []uint64{uint64(unix.SIGCHLD)}},
		{"a program of the guard", confine.GuardProcess, tcp, eperm, "execve", nil},
		{"a program of the key child", confine.KeyProcess, tcp, eperm, "execve", nil},
		{"a file of the key child", confine.KeyProcess, tcp, eperm, "openat", nil},
		{"waking a thread", confine.KeyProcess, tcp, allowed, "tgkill", []uint64{self}},
		{"signalling another process", confine.KeyProcess, tcp, eperm, "tgkill", []uint64{self + 1}},
		{"ending a process", confine.KeyProcess, tcp, eperm, "kill", []uint64{self, 9}},
		{"limits of its own", confine.RecorderProcess, tcp, allowed, "prlimit64", []uint64{0}},
		{"limits of another", confine.RecorderProcess, tcp, eperm, "prlimit64", []uint64{self + 1}},
		{"naming memory", confine.KeyProcess, tcp, allowed, "prctl", []uint64{unix.PR_SET_VMA}},
		{"keeping capabilities", confine.RecorderProcess, tcp, eperm, "prctl", []uint64{unix.PR_SET_KEEPCAPS}},
		{"to be traced", confine.RecorderProcess, tcp, eperm, "prctl", []uint64{unix.PR_SET_PTRACER}},
		{"TCP", confine.RecorderProcess, tcp, allowed, "socket", []uint64{unix.AF_INET, stream}},
		{"TCP and a port of its own", confine.RecorderProcess, tcp, eperm, "bind", nil},
		{"UDP beside TCP", confine.RecorderProcess, tcp, eperm, "socket", []uint64{unix.AF_INET, dgram}},
		{"UDP", confine.RecorderProcess, udp, allowed, "socket", []uint64{unix.AF_INET6, dgram}},
		{"UDP that sends", confine.RecorderProcess, udp, eperm, "sendto", nil},
		{"UDP that answers", confine.RecorderProcess, answering, allowed, "sendto", nil},
		{"UDP that connects", confine.RecorderProcess, udp, eperm, "connect", nil},
		{"a raw socket", confine.RecorderProcess, udp, eperm, "socket", []uint64{unix.AF_INET, unix.SOCK_RAW}},
		{"a packet socket", confine.GuardProcess, udp, eperm, "socket", []uint64{unix.AF_PACKET, unix.SOCK_RAW}},
		{"IPv4 of the guard", confine.GuardProcess, udp, eperm, "socket", []uint64{unix.AF_INET, dgram}},
		{"netlink of the guard", confine.GuardProcess, udp, allowed, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW}},
		{"netlink of the recorder", confine.RecorderProcess, udp, eperm, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW}},
		{"programs of the kernel", confine.GuardProcess, tcp, allowed, "bpf", nil},
		{"programs of the kernel", confine.RecorderProcess, tcp, eperm, "bpf", nil},
		{"another user", confine.RecorderProcess, confine.Options{}, eperm, "setgroups", nil},
	} {
		if got := newMachine(t, tc.process, tc.o).call(tc.call, tc.args...); got != tc.want {
			t.Errorf("%s: %s%v: %#x, want %#x", tc.what, tc.call, tc.args, got, tc.want)
		}
	}
}

// TestChildrenFit: a filter stays with what a process starts, so a supervisor's list has all
// that its children's have, and a recorder's all that its child's has.
func TestChildrenFit(t *testing.T) {
	bench := confine.Options{Bench: true, TCP: []uint16{1}, UDP: []uint16{2}}
	for _, tc := range []struct {
		parent, child confine.Process
		o             confine.Options
	}{
		{confine.SupervisorProcess, confine.RecorderProcess, bench}, {confine.SupervisorProcess, confine.RecorderProcess, confine.Options{}},
		{confine.SupervisorProcess, confine.GuardProcess, confine.Options{}}, {confine.RecorderProcess, confine.KeyProcess, confine.Options{}},
	} {
		parent := newMachine(t, tc.parent, tc.o)
		list := confine.Policy(tc.child, tc.o).Syscalls[0]
		for _, name := range list.Names {
			if got := parent.call(name); got != allowed {
				t.Errorf("%d may not %s for %d", tc.parent, name, tc.child)
			}
		}
		for _, c := range list.NamesWithCondtions {
			args := make([]uint64, 6)
			for _, k := range c.Conditions {
				if k.Operation != seccomp.BitsNotSet {
					args[k.Argument] |= k.Value
				}
			}
			if got := parent.call(c.Name, args...); got != allowed {
				t.Errorf("%d may not %s%v for %d", tc.parent, c.Name, args, tc.child)
			}
		}
	}
	if names := confine.Policy(confine.KeyProcess, bench).Syscalls[0].Names; slices.Contains(names, "openat") || len(names) > 40 {
		t.Errorf("the key child's list has %d calls: %v", len(names), names)
	}
}
