// Command holdfast is the operator's tool: it makes keys, prepares boards, and opens on an
// offline laptop what a board has sealed. It runs on Linux, macOS and Windows and uses no
// network.
//
// Each verb has a file of its own, cmd_<verb>.go. The exit codes are those of package
// holdfast/cmd/internal/cli. Words for people, hints and "did you mean" are here; the
// packages below return plain errors.
package main

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
)

func main() {
	os.Exit(run())
}

func run() int { return cli.Main(rootCommand()) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Keys, boards and sealed flights, on the operator's laptop",
		Long: `holdfast makes keys, prepares boards, and opens what a board has sealed.
It uses no network and needs none.

EXIT STATUS
  0 done; 1 error, bad configuration, recipients or identity file; 2 wrong usage of flags;
  3 cut or damaged; 4 tampered, missing or unsigned; 5 no identity fits; 6 nothing there;
  130 interrupted`,
		Version: version(),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(keygenCommand(), provisionCommand(), keytestCommand(), listCommand(), verifyCommand(), openCommand(), ticketCommand(), boardsCommand())
	root.AddCommand(laterCommands()...)
	return root
}

// version is what the build knows of itself: the module's version and the revision.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			text += " " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			text += " (changed)"
		}
	}
	return text + " " + info.GoVersion
}
