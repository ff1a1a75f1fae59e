// Command holdfast-bench is for the bench: a simulated vehicle and recordings on a
// pseudo-UART, the demonstration and the audit. It touches no network and no real port.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast-bench",
		Short: "Simulated vehicle, replay, demonstration and audit for the bench",
		Long: `holdfast-bench feeds a recorder on the bench.

vehicle and replay make a pseudo-terminal and link it at the path you name. Give that
path to the recorder as its serial device. Bytes flow once a reader has opened it.

Exit codes: 0 done, 1 error or a failed audit, 2 wrong usage, 130 interrupted.`,
	}
	root.AddCommand(
		vehicleCommand(),
		replayCommand(),
		cameraCommand(),
		demoCommand(),
		auditCommand(),
	)
	return root
}
