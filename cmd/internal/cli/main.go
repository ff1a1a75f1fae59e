package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Option changes how Main ends.
type Option func(*runner)

// InterruptedAs sets the exit code of a command that SIGINT or SIGTERM ended; the
// default is Interrupted. With 0 a command that could not end cleanly still gives its
// own error and code, since for a daemon a signal is the usual way to end.
func InterruptedAs(code int) Option { return func(r *runner) { r.interrupted = code } }

// Main runs root with the arguments of the process and returns the exit code.
//
// SIGINT and SIGTERM cancel the context of the command; a second signal kills the
// process. An error is one line on stderr. An error from before a command's RunE began
// (unknown flag or command, wrong number of arguments, missing flag) is Usage; later
// ones are Error unless an ExitError says otherwise. A panic on the command's own
// goroutine becomes one line and Error.
func Main(root *cobra.Command, opts ...Option) int {
	r := &runner{root: root, interrupted: Interrupted}
	for _, o := range opts {
		o(r)
	}
	r.prepare(root)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel()
		case <-stopped:
		}
	}()

	cmd, err := r.execute(ctx)
	return r.code(cmd, err, ctx.Err() != nil)
}

type runner struct {
	root        *cobra.Command
	interrupted int
	began       bool
}

// prepare silences cobra's own printing and notes when a command begins: cobra has no
// error type that tells wrong usage from a failure.
func (r *runner) prepare(c *cobra.Command) {
	c.SilenceUsage, c.SilenceErrors = true, true
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			r.began = true
			return run(c, args)
		}
	}
	if run := c.Run; run != nil {
		c.Run = func(c *cobra.Command, args []string) {
			r.began = true
			run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		r.prepare(sub)
	}
}

func (r *runner) execute(ctx context.Context) (cmd *cobra.Command, err error) {
	cmd = r.root
	defer func() {
		if p := recover(); p != nil {
			r.began = true
			err = Exit(Error, "internal error: %v; please report it with the command you gave", p)
		}
	}()
	return r.root.ExecuteContextC(ctx)
}

func (r *runner) code(cmd *cobra.Command, err error, signalled bool) int {
	if signalled && (err == nil || errors.Is(err, context.Canceled)) {
		return r.interrupted
	}
	if err == nil {
		return OK
	}
	code := Error
	var exit *ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.Code
	case !r.began:
		code = Usage
		err = fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	}
	if exit == nil || exit.Err != nil {
		fmt.Fprintf(r.root.ErrOrStderr(), "%s: %s\n", r.root.Name(), oneLine(err.Error()))
	}
	if signalled && r.interrupted != OK {
		return r.interrupted
	}
	return code
}

// Later returns a command of the contract that is not there yet: whatever its flags and
// arguments, it says so and ends with Usage.
func Later(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:                use,
		Short:              short + " (arrives in a later release)",
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return Exit(Usage, "%s arrives in a later release; %s --help lists what is there", c.Name(), c.Root().Name())
		},
	}
}
