//go:build unix

package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
)

// program is a small tree with one command for each way to end.
func program(stderr *bytes.Buffer, args ...string) *cobra.Command {
	root := &cobra.Command{Use: "prog", Short: "A program"}
	root.SetArgs(args)
	root.SetErr(stderr)
	root.SetOut(stderr)
	add := func(use string, run func(*cobra.Command, []string) error) *cobra.Command {
		c := &cobra.Command{Use: use, Args: cobra.NoArgs, RunE: run}
		root.AddCommand(c)
		return c
	}
	add("good", func(*cobra.Command, []string) error { return nil })
	add("bad", func(*cobra.Command, []string) error { return errors.New("disk\nis\x1b[2J full; free some room") })
	add("cut", func(*cobra.Command, []string) error { return cli.Exit(cli.Cut, "record %s is cut", "F1") })
	add("wrapped", func(*cobra.Command, []string) error {
		return fmt.Errorf("open: %w", &cli.ExitError{Code: cli.NoIdentity, Err: errors.New("no identity fits")})
	})
	add("verdict", func(*cobra.Command, []string) error { return &cli.ExitError{Code: cli.Tampered} })
	add("boom", func(*cobra.Command, []string) error { panic("nil map") })
	add("wait", func(c *cobra.Command, _ []string) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-c.Context().Done()
		return c.Context().Err()
	})
	add("unclean", func(c *cobra.Command, _ []string) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			return err
		}
		<-c.Context().Done()
		return errors.New("record not closed")
	})
	need := add("need", func(*cobra.Command, []string) error { return nil })
	need.Flags().String("pty", "", "")
	_ = need.MarkFlagRequired("pty")
	root.AddCommand(cli.Later("audit [flags]", "Reruns the audit"))
	return root
}

func TestMainCodes(t *testing.T) {
	asZero := []cli.Option{cli.InterruptedAs(cli.OK)}
	tests := []struct {
		args string
		opts []cli.Option
		code int
		want string // the whole of stderr, or its start where it ends in "..."
	}{
		{"good", nil, cli.OK, ""},
		{"bad", nil, cli.Error, "prog: disk is [2J full; free some room\n"},
		{"cut", nil, cli.Cut, "prog: record F1 is cut\n"},
		{"wrapped", nil, cli.NoIdentity, "prog: open: no identity fits\n"},
		{"verdict", nil, cli.Tampered, ""},
		{"boom", nil, cli.Error, "prog: internal error: nil map; please report it with the command you gave\n"},
		{"wait", nil, cli.Interrupted, ""},
		{"wait", asZero, cli.OK, ""},
		{"unclean", nil, cli.Interrupted, "prog: record not closed\n"},
		{"unclean", asZero, cli.Error, "prog: record not closed\n"},
		{"good extra", nil, cli.Usage, "prog: unknown command \"extra\" for \"prog good\"; see prog good --help\n"},
		{"good --nope", nil, cli.Usage, "prog: unknown flag: --nope; see prog good --help\n"},
		{"goood", nil, cli.Usage, "prog: unknown command \"goood\" for \"prog\"..."},
		{"need", nil, cli.Usage, "prog: required flag(s) \"pty\" not set; see prog need --help\n"},
		{"need --pty", nil, cli.Usage, "prog: flag needs an argument: --pty; see prog need --help\n"},
		{"audit --tamper -o x y", nil, cli.Usage, "prog: audit arrives in a later release; prog --help lists what is there\n"},
		{"need --help", nil, cli.OK, "Usage:..."},
		{"completion bash", nil, cli.OK, "# bash completion..."},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s/%d", tt.args, tt.code), func(t *testing.T) {
			var stderr bytes.Buffer
			code := cli.Main(program(&stderr, strings.Fields(tt.args)...), tt.opts...)
			if code != tt.code {
				t.Errorf("code %d, want %d", code, tt.code)
			}
			got := stderr.String()
			if start, ok := strings.CutSuffix(tt.want, "..."); ok {
				if !strings.HasPrefix(got, start) {
					t.Errorf("printed %q, want it to begin with %q", got, start)
				}
			} else if got != tt.want {
				t.Errorf("printed %q, want %q", got, tt.want)
			}
			if code != cli.OK && strings.Count(got, "\n") > 1 {
				t.Errorf("more than one line: %q", got)
			}
		})
	}
}
