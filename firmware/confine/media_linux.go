package confine

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// MediaOptions says what a media process works with. Paths are absolute.
type MediaOptions struct {
	// Bench makes notes of what would be an error.
	Bench bool
	// User is the user that a process started by root becomes; empty: it stays who it is.
	User string
	// FIFOs is the folder of the FIFOs to and from the recorder.
	FIFOs string
	// Inboxes are folders whose files are read and removed.
	Inboxes []string
	// Programs are those of the cameras. What they load from /usr, /lib, /opt and /etc they may.
	Programs []string
	// Plugged says that a camera's device may come and go: then all devices may be opened, as far as
	// their modes, and the unit, let this user.
	Plugged bool
}

// Media confines the process that runs the cameras, and with it their programs, which are anybody's:
// it has no capability, no socket of any family, cannot trace, mount, make namespaces, load anything
// into the kernel or reach its keys, and can write into no file at all but the FIFOs and devices of
// cameras. Other system calls are allowed, unlike in the other processes: nobody can list what a
// camera's program needs.
func Media(o MediaOptions) ([]Note, error) {
	a := attempt{bench: o.Bench}
	if o.User != "" && os.Geteuid() == 0 {
		if err := DropUser(o.User); err != nil {
			return nil, err
		}
	}
	keep := needed(Options{Bench: o.Bench, Read: append([]string{o.FIFOs}, o.Inboxes...), Programs: o.Programs})
	a.try(NoNewPrivs, noNewPrivs())
	a.try(Capabilities, capabilities(keep, 0))
	a.note(Capabilities, keptWhy(keep))
	_, _ = time.Now().Zone() // the time zone is read from a file, once
	a.try(Landlock, restrictMedia(o))
	a.try(Seccomp, load(Policy(MediaProcess, Options{Bench: o.Bench})))
	return a.notes, a.err()
}

// systemFolders hold programs and what they load.
var systemFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt"}

// systemFacts are read by programs, and never written. Of /etc no more than what the loader, and the
// libraries of cameras and of their pictures, read.
var systemFacts = []string{"/proc", "/sys", "/run/udev",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group",
	"/etc/alternatives", "/etc/libcamera", "/etc/udev", "/etc/fonts", "/etc/glvnd", "/etc/vulkan", "/etc/OpenCL", "/etc/drirc", "/etc/machine-id"}

func restrictMedia(o MediaOptions) error {
	c, err := latest()
	if err != nil {
		return err
	}
	if err := restrict(c, mediaRules(o), Options{}); err != nil {
		return err
	}
	return partly(c)
}

func mediaRules(o MediaOptions) (list []rule) {
	for _, path := range append(slices.Clone(systemFolders), mediaPrograms(o.Programs)...) {
		if isFolder(path) {
			list = append(list, rule{path, readFolder | ll.AccessFSExecute})
		} else {
			list = append(list, rule{path, runFile})
		}
	}
	for _, path := range systemFacts {
		if isFolder(path) {
			list = append(list, rule{path, readFolder})
		} else {
			list = append(list, rule{path, readFile})
		}
	}
	for _, path := range o.Inboxes {
		list = append(list, rule{path, readFolder | ll.AccessFSRemoveFile})
	}
	list = append(list, rule{o.FIFOs, readFolder | ll.AccessFSWriteFile}, rule{"/dev", ll.AccessFSReadDir})
	return append(list, cameraDevices(o.Plugged)...)
}

// mediaPrograms are the programs that are given by a path; others lie in folders of the system.
func mediaPrograms(programs []string) (paths []string) {
	for _, p := range programs {
		if real, err := filepath.EvalSymlinks(p); err == nil && filepath.IsAbs(real) {
			paths = append(paths, real)
		}
	}
	return paths
}

// cameraDevices are what programs of cameras use: V4L2 and media controllers, memory that is shared
// with them, and video coders.
func cameraDevices(plugged bool) (list []rule) {
	const use = readFolder | ll.AccessFSWriteFile | ll.AccessFSIoctlDev
	if plugged {
		return []rule{{devices, use}}
	}
	for _, path := range []string{"dma_heap", "dri", "v4l"} {
		list = append(list, rule{filepath.Join(devices, path), use})
	}
	for _, path := range []string{"null", "zero", "full", "urandom", "random"} {
		list = append(list, rule{filepath.Join(devices, path), readFile | ll.AccessFSWriteFile})
	}
	for _, pattern := range []string{"video*", "media*", "v4l-subdev*", "vchiq", "vcsm-cma", "rpivid-*"} {
		names, _ := filepath.Glob(filepath.Join(devices, pattern)) // of a good pattern there is no error
		for _, path := range names {
			list = append(list, rule{path, useLine})
		}
	}
	return list
}

// neverMedia are the calls that a media process, and what it starts, may not make: all that makes
// or names a socket, reaches into other processes, the kernel, its keys, its clock, or the tree of
// mounts. Pairs of connected sockets are left: libcamera speaks to its own children by them.
const neverMedia = `socket bind connect listen accept accept4 socketcall
	io_uring_setup io_uring_enter io_uring_register
	ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp move_pages migrate_pages
	mount umount umount2 pivot_root chroot fsopen fsmount fsconfig fspick move_mount open_tree open_tree_attr mount_setattr
	unshare setns clone3 openat2 name_to_handle_at open_by_handle_at fanotify_init fanotify_mark quotactl quotactl_fd
	bpf perf_event_open userfaultfd keyctl add_key request_key memfd_secret
	init_module finit_module delete_module create_module query_module get_kernel_syms kexec_load kexec_file_load
	reboot swapon swapoff acct syslog vhangup sethostname setdomainname nfsservctl lookup_dcookie uselib sysfs _sysctl
	settimeofday clock_settime clock_settime64 clock_adjtime clock_adjtime64 adjtimex stime iopl ioperm modify_ldt vm86 vm86old
	chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat chown32 lchown32 fchown32 setxattr lsetxattr fsetxattr setxattrat
	personality mknod mknodat setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid`

// media is every call that this architecture has, without those.
func media() calls {
	list := calls{}
	info, err := arch.GetInfo("")
	if err != nil {
		return list // nothing is allowed then, and the process ends where it would be open
	}
	never := strings.Fields(neverMedia)
	for name := range maps.Keys(info.SyscallNames) {
		if !slices.Contains(never, name) {
			list[name] = nil
		}
	}
	delete(list, "clone")
	delete(list, "ioctl")
	list = union(list, without("clone", 0, namespaces))
	// Never TIOCSTI, which types into a terminal, TIOCSETD, which makes a network link of one, nor
	// TIOCLINUX, which pastes.
	list["ioctl"] = typing(unix.TIOCSTI, unix.TIOCSETD, unix.TIOCLINUX)
	return list
}

// typing allows all control calls but those. The kernel looks at the lower half of the number, and
// programs fill the upper half with zeros or with its sign: nothing else is let through, or the
// three would have other names.
func typing(never ...uint64) []condition {
	const high = 0xFFFFFFFF00000000
	plain := condition{{Argument: 1, Operation: seccomp.LessOrEqual, Value: ^uint64(high)}}
	signed := condition{{Argument: 1, Operation: seccomp.GreaterOrEqual, Value: high}}
	for _, n := range never {
		plain = append(plain, seccomp.ArgumentConditions{{Argument: 1, Operation: seccomp.NotEqual, Value: n}}...)
		signed = append(signed, seccomp.ArgumentConditions{{Argument: 1, Operation: seccomp.NotEqual, Value: high | n}}...)
	}
	return []condition{plain, signed}
}
