package bpf_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast/firmware/netlock/nstest"
)

// roleVariable makes the test binary play a part in a process of its own, such as an attacker in
// the test's cgroup.
const roleVariable = "HOLDFAST_BPF_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	if fuzzing() {
		os.Exit(m.Run()) // in processes of its own, and nothing of the kernel is touched
	}
	nstest.Main(m)
}

func fuzzing() bool {
	return slices.ContainsFunc(os.Args[1:], func(a string) bool {
		return strings.HasPrefix(a, "-test.fuzz=") || strings.HasPrefix(a, "-test.fuzzworker")
	})
}

// play runs a role and answers each line of stdin with a line on stdout. It ends with stdin.
func play(role string) int {
	name, args, _ := strings.Cut(role, " ")
	f := roles[name]
	if f == nil {
		return 2
	}
	answer, end := f(args)
	defer end()
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		fmt.Println(answer(s.Text()))
	}
	return 0
}

// roles are started with the words behind their name. They return what answers a line, and what
// is done at the end.
var roles = map[string]func(args string) (answer func(string) string, end func()){
	"attacker": attacker,
	"prober":   prober,
	"guard":    guard,
	"closer":   closer,
}

// actor is a process that plays a role.
type actor struct {
	cmd *exec.Cmd
	in  *bufio.Writer
	out *bufio.Scanner
	pid int
}

// start starts a role in a cgroup, or in the test's own where that is "".
func start(t testing.TB, cgroup, role string) *actor {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if cgroup != "" {
		dir, err := os.Open(cgroup)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &actor{cmd: cmd, in: bufio.NewWriter(in), out: bufio.NewScanner(out), pid: cmd.Process.Pid}
	t.Cleanup(func() { a.kill() })
	return a
}

// say gives a line and returns the answer.
func (a *actor) say(t testing.TB, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(a.in, line); err != nil {
		t.Fatal(err)
	}
	if err := a.in.Flush(); err != nil {
		t.Fatal(err)
	}
	if !a.out.Scan() {
		t.Fatalf("no answer to %q: %v", line, a.out.Err())
	}
	return a.out.Text()
}

// kill ends the process at once, as kill -9 does.
func (a *actor) kill() {
	if a.cmd.ProcessState == nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait() // killed
	}
}
