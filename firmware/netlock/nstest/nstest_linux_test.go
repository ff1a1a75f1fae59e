package nstest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"holdfast/firmware/netlock/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestAlone: what a test sees is its own, not the machine's.
func TestAlone(t *testing.T) {
	nstest.Need(t)
	links, err := os.ReadDir("/sys/class/net")
	if err != nil || len(links) != 1 || links[0].Name() != "lo" {
		t.Errorf("links %v %v, want lo alone", links, err)
	}
	if run, err := os.ReadDir("/run"); err != nil || len(run) != 0 {
		t.Errorf("/run holds %v %v", run, err)
	}
}

// TestCgroup starts a process in a cgroup of the test's own.
func TestCgroup(t *testing.T) {
	dir := nstest.Cgroup(t)
	fd, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil || strings.TrimSpace(string(procs)) != strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("in the cgroup: %q %v, want %d", procs, err, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
}
