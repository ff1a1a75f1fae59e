package firmware

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	// restartFirst and restartMost bound the back-off between restarts of a part.
	restartFirst = 100 * time.Millisecond
	restartMost  = 5 * time.Second
	// steady is how long the first child must run for its end to be an accident, not a mistake
	// in the configuration or a vault in use. It is longer than lockWait.
	steady = 5 * time.Second
	// stopWait is how long a part may take to end in good order.
	stopWait = 10 * time.Second
)

// ExitError says that a part ended with an exit code that the whole program should end with.
// The part has told why on standard error.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return "a part of the program ended" }

// Supervise runs command as a child and starts it again when it dies, until ctx ends or the
// child ends in good order. A first child that gives up at once, because of its configuration,
// ends Supervise with its code. The child dies with this process, however that ends.
func Supervise(ctx context.Context, command []string, log *slog.Logger) error {
	// The parent-death signal is tied to the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait, proven := restartFirst, false
	for {
		began := time.Now()
		err := superviseOnce(ctx, command)
		if err == nil || ctx.Err() != nil {
			return err
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 1 && time.Since(began) < steady && !proven {
			return &ExitError{Code: 1}
		}
		// Once it has worked, no fault that passes ends the recording for good. A child that was
		// killed has worked: configuration and keys were read.
		proven = true
		if time.Since(began) > time.Minute {
			wait = restartFirst
		}
		log.Error("recorder died, starting it again", slog.Any("err", err), slog.Duration("after", wait))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, restartMost)
	}
}

func superviseOnce(ctx context.Context, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopWait
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	err := cmd.Run()
	if ctx.Err() != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return &ExitError{Code: exit.ExitCode()}
		}
		return nil
	}
	return err
}
