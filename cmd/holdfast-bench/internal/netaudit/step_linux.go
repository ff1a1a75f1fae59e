package netaudit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// steps are what a child of the attacker does, by name: in namespaces of its own, or because
// what it changes would stay with its process. Each gets its attack.
func steps() map[string]func(*trial) error {
	return map[string]func(*trial) error{
		"nothing":   func(*trial) error { return nil },
		"udp":       func(t *trial) error { return t.udp(sinkOf(t.far4()), nil) },
		"leave":     func(t *trial) error { return leaveAndSend(t) },
		"elsewhere": sendElsewhere,
		"mover":     runMover,
	}
}

// stepLimit bounds a child.
const stepLimit = 3 * time.Second

// step starts one and returns what it complained of.
func (t *trial) step(name string, flags uintptr) error {
	ctx, cancel := context.WithTimeout(context.Background(), stepLimit)
	defer cancel()
	cmd := t.stepCommand(ctx, name, flags)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSpace(complaint.String()), err)
	}
	return nil
}

func (t *trial) stepCommand(ctx context.Context, name string, flags uintptr) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append(slices.Clone(PartArgs), "step", name, strconv.Itoa(t.id))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func runStep(args []string) error {
	if len(args) != 2 || steps()[args[0]] == nil {
		return fmt.Errorf("step: %q", args)
	}
	t := &trial{id: number(args[1]), keep: map[string]any{}}
	defer t.close()
	return steps()[args[0]](t)
}

func leaveAndSend(t *trial) error {
	if err := moveOut(); err != nil {
		return fmt.Errorf("leave the cgroup: %w", err)
	}
	return t.udp(sinkOf(t.far4()), nil)
}

// elsewhere starts the step "elsewhere" in a network namespace of its own. Between, which gets
// that namespace, puts a link named link into it; then the step sends on it.
func (t *trial) elsewhere(between func(ns *os.File) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stepLimit)
	defer cancel()
	cmd := t.stepCommand(ctx, "elsewhere", syscall.CLONE_NEWNET)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err == nil {
		err = between(ns)
		ns.Close()
	}
	if err != nil {
		_ = cmd.Process.Kill() // nothing to do for it
		_ = cmd.Wait()
		return err
	}
	fmt.Fprintln(stdin, "go")
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSpace(complaint.String()), err)
	}
	return nil
}
