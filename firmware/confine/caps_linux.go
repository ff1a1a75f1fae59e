package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// set is a set of capabilities, bit n for capability n.
type set uint64

func caps(numbers ...int) (s set) {
	for _, n := range numbers {
		s |= 1 << n
	}
	return s
}

// guardCapabilities is what keeping the lock takes.
var guardCapabilities = caps(
	unix.CAP_NET_ADMIN,                                     // nftables, links, tc, sysctls of the network
	unix.CAP_BPF,                                           // loads programs, reads their maps
	unix.CAP_PERFMON,                                       // the verifier asks for it where a program follows pointers of the kernel
	unix.CAP_SYS_ADMIN,                                     // the same before Linux 5.8; programs by number; swapoff
	unix.CAP_SYS_PTRACE,                                    // /proc/PID/exe of other users' processes: who tried. ptrace(2) itself is not on the list
	unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN, unix.CAP_FOWNER, // its folder belongs to the recorder's group
)

// supervisorCapabilities is what the children of a supervisor need, and what becoming the
// recorder's user, and ending it, takes.
var supervisorCapabilities = guardCapabilities | caps(unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_KILL, unix.CAP_SYS_RESOURCE, unix.CAP_IPC_LOCK)

// noNewPrivs works on every thread.
func noNewPrivs() error {
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// capabilities leaves every thread with the effective and permitted capabilities keep and the
// bounding set bound, and clears the others.
func capabilities(keep, bound set) error {
	err := setBounding(bound)
	if e := setCapabilities(keep); e != nil {
		return e
	}
	return err
}

// setBounding takes from the bounding set what is not in bound. Without CAP_SETPCAP it cannot,
// which is an error if there is anything to take.
func setBounding(bound set) error {
	for n := range 64 {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		if err != nil {
			return nil // n is above the kernel's last one
		}
		if has == 0 || bound&(1<<n) != 0 {
			continue
		}
		_, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0, 0)
		if errno == unix.EPERM && os.Geteuid() != 0 {
			return errBounding
		}
		if errno != 0 {
			return fmt.Errorf("bounding set: %w", errno)
		}
	}
	return nil
}

// errBounding: an ordinary user cannot empty the bounding set.
var errBounding = errors.New("the bounding set is not empty and only root can empty it; start this by its unit, or as root")

// setCapabilities sets the effective and permitted sets of every thread to what they have of
// keep, and clears the inheritable and ambient sets.
func setCapabilities(keep set) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	for i := range data {
		part := uint32(keep>>(32*i)) & data[i].Permitted
		data[i] = unix.CapUserData{Effective: part, Permitted: part}
	}
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0); errno != 0 && errno != unix.EINVAL {
		return fmt.Errorf("ambient set: %w", errno) // EINVAL: Linux before 4.3 has none
	}
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// raiseMemoryLock lets keys be kept out of swap: without CAP_IPC_LOCK the limit counts, and a
// process that locks all its memory ends where it is reached. Where it cannot be raised the
// recorder's own mlockall(2) fails, and tells.
func raiseMemoryLock() {
	if os.Geteuid() == 0 {
		_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	}
}

// needed is what a recorder cannot do without: on a bench root may record into folders of
// another user, which takes CAP_DAC_OVERRIDE. In locked mode nothing is.
func needed(o Options) set {
	if !o.Bench || os.Geteuid() != 0 {
		return 0
	}
	for _, list := range [][]string{o.Read, o.Write, o.Lines, o.Programs} {
		for _, path := range list {
			if foreign(path) {
				return caps(unix.CAP_DAC_OVERRIDE)
			}
		}
	}
	return 0
}

// foreign tells whether anything on the way to path belongs to somebody else than root.
func foreign(path string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path && foreign(real) {
		return true
	}
	for ; ; path = filepath.Dir(path) {
		info, err := os.Lstat(path)
		if st, ok := sys(info); err == nil && ok && st.Uid != 0 {
			return true
		}
		if path == filepath.Dir(path) {
			return false
		}
	}
}

func sys(info fs.FileInfo) (*syscall.Stat_t, bool) {
	if info == nil {
		return nil, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return st, ok
}

// keptWhy is a note's text about what was kept.
func keptWhy(keep set) string {
	if keep == 0 {
		return ""
	}
	return fmt.Sprintf("root keeps %s to work in folders of another user", keep)
}

// names of the capabilities that this package knows, by number.
var names = map[int]string{
	unix.CAP_CHOWN: "CHOWN", unix.CAP_DAC_OVERRIDE: "DAC_OVERRIDE", unix.CAP_FOWNER: "FOWNER", unix.CAP_KILL: "KILL",
	unix.CAP_SETGID: "SETGID", unix.CAP_SETUID: "SETUID", unix.CAP_SETPCAP: "SETPCAP", unix.CAP_NET_ADMIN: "NET_ADMIN",
	unix.CAP_IPC_LOCK: "IPC_LOCK", unix.CAP_SYS_PTRACE: "SYS_PTRACE", unix.CAP_SYS_ADMIN: "SYS_ADMIN",
	unix.CAP_SYS_RESOURCE: "SYS_RESOURCE", unix.CAP_PERFMON: "PERFMON", unix.CAP_BPF: "BPF",
}

// String lists s as "CAP_CHOWN CAP_BPF".
func (s set) String() string {
	var list []string
	for v := uint64(s); v != 0; v &= v - 1 {
		n := bits.TrailingZeros64(v)
		name, ok := names[n]
		if !ok {
			name = fmt.Sprint(n)
		}
		list = append(list, "CAP_"+name)
	}
	return strings.Join(list, " ")
}
