// Command agent runs in the guest of the boot-window test as a service of systemd, and does there
// what the test asks for over a port of virtio-serial: it runs one program after the other and
// returns what it printed. A request is a line of JSON, and so is its answer.
//
// It has the powers that any service of the guest has, no more: what the test tries by it is
// what a service that was broken into could try. It is part of a test, not of any image.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// request asks for one program.
type request struct {
	Argv    []string `json:"argv"`
	Seconds int      `json:"seconds"` // it is killed after so many
}

// answer is how it ended.
type answer struct {
	Code int    `json:"code"` // -1: killed, or never started
	Out  string `json:"out"`  // both of its outputs
}

func main() {
	if err := serve("/dev/virtio-ports/holdfast.agent"); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func serve(port string) error {
	f, err := os.OpenFile(port, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// The test waits for this line: the guest is up.
	if _, err := f.WriteString("ready\n"); err != nil {
		return err
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || len(r.Argv) == 0 {
			return fmt.Errorf("request %q: %w", lines.Text(), err)
		}
		reply, err := json.Marshal(do(r))
		if err != nil {
			return err
		}
		if _, err := f.Write(append(reply, '\n')); err != nil {
			return err
		}
	}
	return lines.Err()
}

func do(r request) answer {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.Seconds)*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Argv[0], r.Argv[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return answer{-1, string(out) + err.Error()}
	}
	return answer{cmd.ProcessState.ExitCode(), string(out)}
}
