// Package nstest keeps tests of the network lock away from the machine they run on: the test
// binary starts itself again in empty network, mount and PID namespaces, and a test that needs
// those is left out, with the reason, where that cannot be.
//
//	func TestMain(m *testing.M) { nstest.Main(m) }
//	func TestX(t *testing.T)    { nstest.Need(t); ... }
//
// Inside there is one link, lo, down; /sys shows the namespace's own links; /run is an empty
// tmpfs. Every process that a test starts dies with the test binary.
package nstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside marks the second start. It alone proves nothing: see isolated.
const inside = "HOLDFAST_NSTEST"

var why = "nstest.Main was not called"

// Main runs the tests of m in namespaces of their own and ends the process.
func Main(m *testing.M) {
	switch {
	case os.Getenv(inside) != "":
		if why = enter(); why != "" {
			fmt.Fprintln(os.Stderr, "nstest:", why)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case fuzzing():
		why = "the fuzzer's own processes are in no namespace"
		os.Exit(m.Run())
	case os.Geteuid() != 0:
		why = "network namespaces of our own need root"
		os.Exit(m.Run())
	default:
		os.Exit(again(m))
	}
}

// fuzzing tells whether this is a fuzzer, or a worker of one: those talk over descriptors that
// a second start does not hand on, and a fuzz target needs no network.
func fuzzing() bool {
	for _, a := range os.Args[1:] {
		a = strings.TrimLeft(a, "-")
		if a == "test.fuzzworker" || strings.HasPrefix(a, "test.fuzzworker=") || strings.HasPrefix(a, "test.fuzz=") && a != "test.fuzz=" {
			return true
		}
	}
	return false
}

// Need leaves a test out where it would not run in a namespace of its own. It says why.
func Need(t testing.TB) {
	t.Helper()
	if why != "" {
		t.Skip(why)
	}
}

func again(m *testing.M) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	before := machine()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		why = fmt.Sprintf("no namespaces of our own: %v", err)
		return m.Run()
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	if after := machine(); after != before {
		fmt.Fprintf(os.Stderr, "nstest: the tests have changed this machine:\nbefore:\n%safter:\n%s", before, after)
		return 1
	}
	if err != nil {
		if code := cmd.ProcessState.ExitCode(); code > 0 {
			return code
		}
		fmt.Fprintln(os.Stderr, "nstest:", err)
		return 1
	}
	return 0
}

// machine tells what of the machine a lock that got out of its namespace would change.
func machine() string {
	var b strings.Builder
	for _, pattern := range []string{"/sys/class/net/*/flags", "/proc/net/route", "/proc/sys/net/ipv4/conf/*/arp_ignore",
		"/proc/sys/net/ipv6/conf/*/disable_ipv6", "/proc/sys/kernel/core_pattern", "/sys/bus/usb/devices/*/authorized"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			if p, err := os.ReadFile(name); err == nil {
				fmt.Fprintf(&b, "%s: %s\n", name, strings.TrimSpace(string(p)))
			}
		}
	}
	return b.String()
}

// enter makes the mounts of the new namespaces its own, and returns why tests must not run.
func enter() string {
	if s := isolated(); s != "" {
		return s
	}
	for _, f := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("proc", "/proc", "proc", 0, "") },
		mountSys,
		func() error { return unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755") },
	} {
		if err := f(); err != nil {
			return fmt.Sprintf("mounts of the test's own: %v", err)
		}
	}
	return ""
}

// mountSys puts a /sys of this network namespace over the machine's, and the machine's cgroups
// back into it.
func mountSys() error {
	root, _ := cgroupRoot()
	keep := ""
	if root != "" {
		dir, err := os.MkdirTemp("", "cgroup")
		if err != nil {
			return err
		}
		if err := unix.Mount(root, dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		keep = dir
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	if keep == "" {
		return nil
	}
	if err := unix.Mount(keep, "/sys/fs/cgroup", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return os.Remove(keep)
}

// isolated tells why this is not an empty namespace of its own.
func isolated() string {
	if os.Getpid() != 1 {
		return "not the first process of a PID namespace of its own"
	}
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Sprintf("the links of this namespace: %v", err)
	}
	if len(links) != 1 || links[0].Flags&net.FlagLoopback == 0 {
		return fmt.Sprintf("%d links in what should be an empty network namespace", len(links))
	}
	return ""
}

// cgroupRoot returns where the machine's cgroup v2 tree is mounted.
func cgroupRoot() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	root := "" // the last one: mounts before it may be hidden below others
	for line := range strings.Lines(string(mounts)) {
		head, tail, ok := strings.Cut(line, " - ")
		fields := strings.Fields(head)
		if ok && strings.HasPrefix(tail, "cgroup2 ") && len(fields) > 4 {
			root = fields[4]
		}
	}
	if root == "" {
		return "", os.ErrNotExist
	}
	return root, nil
}

// Cgroup makes a leaf cgroup (v2) of the test's own and removes it at the end. The root cgroup and
// all others are left alone. Start processes in it with SysProcAttr.UseCgroupFD.
func Cgroup(t testing.TB) string {
	t.Helper()
	Need(t)
	root, err := cgroupRoot()
	if err != nil {
		t.Skipf("no cgroup v2 tree is mounted here: %v", err)
	}
	dir, err := os.MkdirTemp(root, "holdfast-test-")
	if err != nil {
		t.Skipf("no cgroup of the test's own: %v", err)
	}
	t.Cleanup(func() {
		// Killing and then removing: a cgroup with a process in it cannot be removed.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
		for range 200 {
			if err = os.Remove(dir); err == nil {
				return
			}
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 10e6}, nil)
		}
		t.Errorf("the test's cgroup stays: %v", err)
	})
	return dir
}
