package netaudit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/host"
)

// The audit starts itself again in several parts. PartArgs are the arguments before a part's
// own; who starts the audit must pass what follows them to Part.
var PartArgs = []string{"audit", "part"}

// Part runs a part until its work is over. It is of no use by itself.
func Part(args []string) error {
	if len(args) == 0 {
		return errors.New("a part is started by the audit alone")
	}
	switch args[0] {
	case "far":
		return runFar(os.Stdin, os.Stdout)
	case "board":
		return runBoard(os.Stdin, os.Stdout)
	case "guard":
		return runGuard(args[1:])
	case "drop":
		return drop(args[1:])
	case "crew":
		return runCrew(args[1:])
	case "step":
		return runStep(args[1:])
	}
	return fmt.Errorf("no part %q", args[0])
}

// self makes the command that starts a part.
func self(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append(append([]string{}, PartArgs...), args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// drop takes away for good the powers that nobody on a locked board has, and goes on as the part that args name.
func drop(args []string) error {
	runtime.LockOSThread() // exec keeps what this thread has
	for c := uintptr(0); c < 64; c++ {
		if host.PastTheLock&(1<<c) == 0 {
			continue
		}
		// Kernels before 5.8 do not know all of them.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	argv := append([]string{os.Args[0]}, PartArgs...)
	return unix.Exec("/proc/self/exe", append(argv, args...), os.Environ())
}

// mountSys puts a /sys of this network namespace over the machine's, and the machine's cgroups
// back into it.
func mountSys() error {
	root, err := cgroupRoot()
	if err != nil {
		return unix.Mount("sysfs", "/sys", "sysfs", 0, "")
	}
	const keep = "/run/cgroup"
	if err := os.Mkdir(keep, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(root, keep, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	return unix.Mount(keep, cgroupInside, "", unix.MS_MOVE, "")
}

// cgroupInside is where the parts find the cgroup tree (v2).
const cgroupInside = "/sys/fs/cgroup"

// errNoCgroup: no cgroup v2 tree is mounted.
var errNoCgroup = errors.New("no cgroup v2 tree is mounted")

// cgroupRoot returns where the cgroup v2 tree is mounted.
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
		return "", errNoCgroup
	}
	return root, nil
}

// cgroups are two of the audit's own, below which nothing of the machine's is.
type cgroups struct {
	dir  string // in the tree as the audit's first process sees it; empty: there are none
	name string // from the root of the tree
}

// ownGroups begins the names of this process's.
func ownGroups() string { return fmt.Sprintf("holdfast-audit-%d-", os.Getpid()) }

// newCgroups makes them. The root cgroup and all others are left alone.
func newCgroups() (cgroups, error) {
	root, err := cgroupRoot()
	if err != nil {
		return cgroups{}, err
	}
	dir, err := os.MkdirTemp(root, ownGroups())
	if err != nil {
		return cgroups{}, err
	}
	c := cgroups{dir: dir, name: filepath.Base(dir)}
	return c, errors.Join(os.Mkdir(filepath.Join(dir, "inside"), 0o755), os.Mkdir(filepath.Join(dir, "outside"), 0o755))
}

// sweep takes away the empty cgroups of audits that were killed.
func sweep() {
	root, err := cgroupRoot()
	if err != nil {
		return
	}
	found, _ := filepath.Glob(filepath.Join(root, "holdfast-audit-*-*")) // the pattern is a good one
	for _, dir := range found {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), "holdfast-audit-"), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			_ = errors.Join(removeDir(dir, "inside"), removeDir(dir, "outside"), removeDir(dir)) // one with a process in it stays
		}
	}
}

// remove ends what is left in them and takes them away.
func (c cgroups) remove() error {
	if c.dir == "" {
		return nil
	}
	_ = os.WriteFile(filepath.Join(c.dir, "cgroup.kill"), []byte("1"), 0) // before Linux 5.14 there is none, and nothing left either
	var err error
	for range 500 {
		err = errors.Join(removeDir(c.dir, "inside"), removeDir(c.dir, "outside"), removeDir(c.dir))
		if err == nil {
			return nil
		}
		pause()
	}
	return err
}

func removeDir(elem ...string) error {
	err := os.Remove(filepath.Join(elem...))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
