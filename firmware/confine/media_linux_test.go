package confine_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/confine"
)

// TestMediaNever: neither the media process nor a camera's program makes a socket of any family, nor
// does what reaches into other processes or the kernel; and no other architecture's numbers get past.
func TestMediaNever(t *testing.T) {
	m := newMachine(t, confine.MediaProcess, confine.Options{})
	for family := range uint64(unix.AF_MAX) {
		if got := m.call("socket", family, unix.SOCK_STREAM); got != eperm {
			t.Fatalf("a socket of family %d: %#x", family, got)
		}
	}
	names := `bind connect listen accept accept4 io_uring_enter io_uring_register ptrace process_vm_readv process_vm_writev pidfd_getfd
		mount umount2 pivot_root chroot fsopen fsmount move_mount open_tree unshare setns open_by_handle_at bpf perf_event_open userfaultfd keyctl
		add_key request_key init_module finit_module delete_module kexec_load reboot swapon syslog sethostname settimeofday clock_settime
		personality mknod mknodat setuid setgroups memfd_secret fanotify_init`
	for _, name := range strings.Fields(names) {
		if _, known := m.info.SyscallNames[name]; !known {
			continue
		}
		if got := m.call(name); got != eperm {
			t.Errorf("%s: %#x", name, got)
		}
	}
	for _, name := range []string{"clone3", "openat2", "io_uring_setup"} {
		if got := m.call(name); got != enosys {
			t.Errorf("%s: %#x", name, got)
		}
	}
	if got := m.number(0x40000003+uint32(m.info.ID), 1); got != eperm {
		t.Errorf("a call of another architecture: %#x", got)
	}
}

// TestMediaArguments: what depends on arguments cannot be had by writing them in another way.
func TestMediaArguments(t *testing.T) {
	m := newMachine(t, confine.MediaProcess, confine.Options{})
	const vidiocDQBuf = 0xc0585611
	for _, tc := range []struct {
		what string
		want int
		call string
		args []uint64
	}{
		{"a frame", allowed, "ioctl", []uint64{3, vidiocDQBuf}},
		{"a frame, signed", allowed, "ioctl", []uint64{3, 0xFFFFFFFF00000000 | vidiocDQBuf}},
		{"typing", eperm, "ioctl", []uint64{3, unix.TIOCSTI}},
		{"typing, signed", eperm, "ioctl", []uint64{3, 0xFFFFFFFF00000000 | unix.TIOCSTI}},
		{"typing under another name", eperm, "ioctl", []uint64{3, 0x100000000 | unix.TIOCSTI}},
		{"a line discipline under another name", eperm, "ioctl", []uint64{3, 0x8000000000000000 | unix.TIOCSETD}},
		{"a process", allowed, "clone", []uint64{uint64(unix.SIGCHLD)}},
		{"a process in a namespace", eperm, "clone", []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}},
		{"memory to run", allowed, "mprotect", []uint64{0, 4096, unix.PROT_EXEC}},
		{"a socket pair", allowed, "socketpair", nil},
		{"a program", allowed, "execve", nil},
	} {
		if got := m.call(tc.call, tc.args...); got != tc.want {
			t.Errorf("%s: %#x, want %#x", tc.what, got, tc.want)
		}
	}
}

// TestSupervisorOfMedia: a filter stays with what a process starts.
func TestSupervisorOfMedia(t *testing.T) {
	for _, o := range []confine.Options{{Media: true}, {Media: true, Bench: true}} {
		m := newMachine(t, confine.SupervisorProcess, o)
		list := confine.Policy(confine.MediaProcess, o).Syscalls[0]
		for _, name := range list.Names {
			if got := m.call(name); got != allowed && name != "clone3" {
				t.Errorf("a supervisor may not %s for its media process", name)
			}
		}
		if got := m.call("socket", unix.AF_INET, unix.SOCK_STREAM); got != eperm {
			t.Errorf("a supervisor may have a socket: %#x", got)
		}
	}
}
