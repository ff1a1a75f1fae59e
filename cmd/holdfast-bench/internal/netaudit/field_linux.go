package netaudit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// jobLimit bounds one board; the longest, with forty repeats of each race, needs some 30 s.
const jobLimit = 4 * time.Minute

// playJob makes a far side and a board, lets the job be done, and takes all away.
func playJob(ctx context.Context, j job) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, jobLimit)
	defer cancel()
	groups, err := newCgroups()
	if err != nil && !errors.Is(err, errNoCgroup) {
		return nil, err
	}
	j.Cgroup = groups.name
	out, err := play(ctx, j)
	return out, errors.Join(err, groups.remove())
}

func play(ctx context.Context, j job) (*outcome, error) {
	var pipes [4]*os.File // board to far: read, write; far to board: read, write
	for i := 0; i < len(pipes); i += 2 {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		defer w.Close()
		pipes[i], pipes[i+1] = r, w
	}
	complaints := new(notes)
	far := startIn(ctx, complaints, "far")
	far.Stdin, far.Stdout = pipes[0], pipes[3]
	if err := far.Start(); err != nil {
		return nil, fmt.Errorf("namespaces for the far side: %w", err)
	}
	defer end(far)
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", far.Process.Pid))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return playBoard(ctx, j, complaints, ns, pipes[2], pipes[1])
}

func playBoard(ctx context.Context, j job, complaints *notes, files ...*os.File) (*outcome, error) {
	b := startIn(ctx, complaints, "board")
	order, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	var result bytes.Buffer
	b.Stdin, b.Stdout, b.ExtraFiles = bytes.NewReader(order), &result, files
	b.WaitDelay = time.Second
	if err := b.Run(); err != nil {
		return nil, fmt.Errorf("board: %w: %s", err, strings.TrimSpace(complaints.String()))
	}
	out := new(outcome)
	if err := json.Unmarshal(result.Bytes(), out); err != nil {
		return nil, fmt.Errorf("board: %w: %s", err, strings.TrimSpace(complaints.String()))
	}
	if out.Err != "" {
		return nil, fmt.Errorf("board: %s\n%s", out.Err, strings.TrimSpace(complaints.String()))
	}
	return out, nil
}

// startIn makes the command of a part that gets namespaces of its own and dies with us.
func startIn(ctx context.Context, stderr *notes, part string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append(append([]string{}, PartArgs...), part)...)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd
}

// notes gather what parts complain of. Several write at once.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// end ends a part and, with it, all that its PID namespace holds.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()         // killed
}
