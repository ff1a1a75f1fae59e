package confine

import (
	"maps"
	"os"
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// Process names one of the board's processes.
type Process int

// The processes that have a list.
const (
	RecorderProcess Process = iota
	KeyProcess
	GuardProcess
	SupervisorProcess
	MediaProcess
)

// condition is what must hold of the arguments of a call.
type condition = seccomp.ArgumentConditions

// calls is a list of system calls by the names of the kernel's tables. A call is allowed where
// one of its conditions holds; without conditions, always.
type calls map[string][]condition

// always lists calls without conditions.
func always(names ...string) calls {
	c := calls{}
	for _, n := range names {
		c[n] = nil
	}
	return c
}

// when lists one call with the values that one of its arguments may have.
func when(name string, argument uint32, values ...uint64) calls {
	var cs []condition
	for _, v := range values {
		cs = append(cs, condition{{Argument: argument, Operation: seccomp.Equal, Value: v}})
	}
	return calls{name: cs}
}

// union allows what any of the lists allows.
func union(lists ...calls) calls {
	all := calls{}
	for _, list := range lists {
		for name, conditions := range list {
			old, known := all[name]
			if known && len(old) == 0 || len(conditions) == 0 {
				all[name] = nil
				continue
			}
			all[name] = append(slices.Clip(old), conditions...)
		}
	}
	return all
}

// namespaces are the flags of clone(2) that make a namespace.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// without demands that none of the bits is set in an argument.
func without(name string, argument uint32, bits uint64) calls {
	return calls{name: {{{Argument: argument, Operation: seccomp.BitsNotSet, Value: bits}}}}
}

// runtime is what Go's runtime calls at any time: memory, threads, signals, clocks, the poller.
func runtime() calls {
	return union(always(
		"futex", "nanosleep", "clock_nanosleep", "clock_gettime", "sched_yield", "sched_getaffinity", "restart_syscall",
		"read", "write", "close", "fcntl", "pread64",
		"epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2",
		"munmap", "madvise", "getrandom", "getpid", "gettid",
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
		"exit", "exit_group",
	), without(mmapCall, 2, unix.PROT_EXEC), without("mprotect", 2, unix.PROT_EXEC),
		when("prctl", 0, unix.PR_SET_VMA), // names memory
		nativeRuntime())
}

// threads allows new threads, and no processes.
func threads() calls {
	return calls{"clone": {{
		{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD},
		{Argument: 0, Operation: seccomp.BitsNotSet, Value: namespaces},
	}}}
}

// start is what a Go program calls from exec(2) on, until it is confined itself.
func start() calls {
	return union(always(
		"openat", "readlinkat", "getcwd", "capget", "capset", "seccomp",
		"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "mlockall",
		"getuid", "geteuid", "getgid", "getegid",
	), when("prctl", 0, unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_NO_NEW_PRIVS, unix.PR_CAPBSET_READ, unix.PR_CAPBSET_DROP, unix.PR_CAP_AMBIENT, unix.PR_SET_DUMPABLE,
		unix.PR_SET_SECCOMP, unix.PR_GET_PDEATHSIG),
		when("prlimit64", 0, 0), // of itself alone
		when("kill", 1, 0),      // asks whether a process is there
		nativeStart())
}

// children is what starting a program, waiting for it and ending it takes. The child of a
// moment with which Go asks the kernel for process descriptors has a thread's flags, too.
func children() calls {
	return union(always("execve", "pipe2", "dup3", "wait4", "waitid", "pidfd_open", "pidfd_send_signal", "kill"),
		without("clone", 0, namespaces))
}

// files is what reading and writing files takes. Which files is for Landlock to say.
func files() calls {
	return union(always("openat", "getdents64", "mkdirat", "unlinkat", "renameat", "renameat2", "linkat", "readlinkat",
		"pwrite64", "fsync", "fdatasync", "flock", "utimensat", "statfs", "fstatfs", "fallocate"), nativeFiles())
}

// gpioGet and gpioSet read and set lines of a GPIO chip that were requested before: the light and the
// button (GPIO_V2_LINE_GET_VALUES_IOCTL and GPIO_V2_LINE_SET_VALUES_IOCTL of linux/gpio.h).
const gpioGet, gpioSet = 0xC010B40E, 0xC010B40F

// recorder is what recording takes.
func recorder(o Options) calls {
	return union(runtime(), start(), children(), files(), always("ppoll", "adjtimex"),
		// Never TIOCSTI, which types into a terminal, nor TIOCSETD, which makes a network link of one.
		when("ioctl", 1, unix.TCGETS, unix.TCSETS, unix.TIOCEXCL, unix.TIOCNXCL, unix.TIOCGICOUNT, gpioGet, gpioSet),
		endpoints(o))
}

// Control calls of GPIO chips (linux/gpio.h): what a chip and its lines are, and to request one.
const gpioChip, gpioLineInfo, gpioLine, gpioConfig = 0x8044B401, 0xC100B405, 0xC250B407, 0xC110B40D

// opening is what a recorder does before it is confined: it makes the pseudo-terminals of its shares
// and opens the lines of light and button.
func opening() calls {
	return union(always("symlinkat", "fchmodat", "fchownat"), nativeOwners(),
		when("ioctl", 1, unix.TIOCSPTLCK, unix.TIOCGPTN, gpioChip, gpioLineInfo, gpioLine, gpioConfig))
}

// endpoints is what the tcp: and udp: links of a bench take: connections of TCP, and sockets of
// UDP that only receive, or answer where something is sent to the autopilot. With neither there is not one call for sockets on the list.
func endpoints(o Options) calls {
	if !o.Bench {
		return nil
	}
	var list calls
	if len(o.TCP) > 0 {
		list = union(list, inet(unix.SOCK_STREAM), always("connect", "getsockname", "getpeername", "getsockopt", "setsockopt"))
	}
	if len(o.UDP) > 0 {
		list = union(list, inet(unix.SOCK_DGRAM), always("bind", "getsockname", "getpeername", "getsockopt", "setsockopt", "recvfrom", "recvmsg"))
		if o.Send {
			list = union(list, always("sendto"))
		}
	}
	return list
}

// inet allows sockets of IPv4 and IPv6 of one kind, as package net makes them.
func inet(kind uint64) calls {
	kind |= unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	list := calls{}
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		list["socket"] = append(list["socket"], condition{
			{Argument: 0, Operation: seccomp.Equal, Value: family},
			{Argument: 1, Operation: seccomp.Equal, Value: kind},
		})
	}
	return list
}

// key is what making a flight key takes: a thread may wake another one of this process, which
// is all the signalling there is.
func key() calls {
	return union(runtime(), threads(), when("tgkill", 0, uint64(os.Getpid())), nativeStat())
}

// guard is what keeping the lock takes. A program of the kernel is loaded by bpf(2), its
// messages come through mmap and epoll; rules go through netlink. Modules that a rule needs
// the kernel loads by itself, which takes nothing of the guard.
func guard() calls {
	return union(runtime(), threads(), start(), files(), nativeOwners(), always("tgkill", "ppoll",
		"bpf", "swapoff", "mknodat", "fchown", "fchownat", "fchmod", "fchmodat", "ftruncate", "umask", "uname", "sysinfo", "adjtimex",
		"bind", "getsockname", "getsockopt", "setsockopt", "sendto", "sendmsg", "recvfrom", "recvmsg", "shutdown",
		"inotify_init1", "inotify_add_watch", "inotify_rm_watch", "pipe2", "dup3"),
		when("socket", 0, unix.AF_NETLINK), when("ioctl", 1, unix.SIOCGIFNAME, unix.TCGETS))
}

// supervisor is what its children are allowed, and starting them.
func supervisor(o Options) calls {
	list := union(recorder(o), always("setpgid", "getppid", "tgkill"), when("prctl", 0, unix.PR_SET_PDEATHSIG), opening())
	if o.Media {
		list = union(list, media())
	}
	if o.Bench {
		return list
	}
	return union(list, guard(), nativeUsers())
}

func list(p Process, o Options) calls {
	switch p {
	case RecorderProcess:
		return union(recorder(o), always("tgkill"))
	case KeyProcess:
		return key()
	case GuardProcess:
		return guard()
	case MediaProcess:
		return media()
	default:
		return supervisor(o)
	}
}

// absent are calls that end with ENOSYS, as on a kernel that does not have them: programs try
// them first and have another way then.
var absent = []string{"clone3", "openat2", "faccessat2", "io_uring_setup", "rseq", "statx"}

// Policy returns the system calls that p may make, as a filter that ends all others with EPERM.
func Policy(p Process, o Options) seccomp.Policy {
	allowed := list(p, o)
	group := seccomp.SyscallGroup{Action: seccomp.ActionAllow}
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		if len(allowed[name]) == 0 {
			group.Names = append(group.Names, name)
		}
		for _, c := range allowed[name] {
			group.NamesWithCondtions = append(group.NamesWithCondtions, seccomp.NameWithConditions{Name: name, Conditions: c})
		}
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			group,
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: absent},
		},
	}
}
