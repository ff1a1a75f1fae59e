// Command holdfastd is the program on the board: it reads MAVLink from the flight controller
// and seals it into the vault. docs/ and `holdfastd help` describe it; CONTRACT of its names:
// README.md.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/firmware"
	"holdfast/firmware/config"
)

func main() {
	root := &cobra.Command{
		Use:   "holdfastd",
		Short: "Records MAVLink, sealed for keys that only the operator holds",
		Long: `holdfastd reads MAVLink from the flight controller and seals it into the vault, for keys
that only the operator holds. What it sends to the autopilot stands in one list
(docs/autopilot.md); it sends nothing anywhere else.

Exit status: 0 ended in good order (also after SIGINT or SIGTERM), 1 error, 2 wrong usage.`,
	}
	root.AddCommand(runCommand(), lockdownCommand(), recordCommand(), mediaCommand(), checkCommand(), versionCommand(), keyCommand())
	os.Exit(cli.Main(root, cli.InterruptedAs(cli.OK)))
}

// log is what the board says of itself: to standard error, key=value.
func log() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

func configFlag(cmd *cobra.Command) *string {
	path := cmd.Flags().String("config", "", "configuration `FILE` (holdfast.toml)")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err)
	}
	return path
}

// runFlag is where recorder and media process of a bench meet: `holdfastd run` says it to both.
func runFlag(cmd *cobra.Command) *string {
	run := cmd.Flags().String("run", os.Getenv(firmware.RunVariable), "run `DIR` of a bench")
	if err := cmd.Flags().MarkHidden("run"); err != nil {
		panic(err)
	}
	return run
}

func runCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "run", Short: "Run all parts under one supervisor", Args: cobra.NoArgs}
	path := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path)
		if err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		clean, err := firmware.PrepareRun(cfg)
		if err != nil {
			return err
		}
		defer clean()
		if err := firmware.Restrict(cfg); err != nil {
			return err
		}
		part := func(name string) []string { return []string{self, name, "--config", *path} }
		err = firmware.Run(cmd.Context(), cfg, firmware.Commands{Guard: part("lockdown"), Record: part("record"), Media: part("media")}, log())
		var exit *firmware.ExitError
		if errors.As(err, &exit) {
			return &cli.ExitError{Code: exit.Code} // the part has said why
		}
		return err
	}
	return cmd
}

func lockdownCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "lockdown", Short: "Close every network way out of the board, and keep it closed (the guard)", Args: cobra.NoArgs,
		Long: `lockdown is the guard: it closes every network way out of the board, checks each layer once
a second, sets right what was changed, and notes who tried to send. It needs root. It acts on
the whole machine only where that is a known board, or where holdfast-guard.service started
it; in a network namespace it acts on that one alone.

The lock stays when the guard ends. It opens for a ticket that an operator signed
(holdfast ticket), for the interfaces and the span that the ticket names, after recording has
stopped; there is no other way.`}
	path := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path)
		if err != nil {
			return err
		}
		debug.SetGCPercent(50)
		return firmware.Guard(cmd.Context(), firmware.Options{Config: cfg, Version: version(), Log: log()})
	}
	return cmd
}

func recordCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "record", Short: "Run the recorder", Args: cobra.NoArgs}
	path, run := configFlag(cmd), runFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path)
		if err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		debug.SetGCPercent(50) // memory is dearer than the little there is to collect
		return firmware.Record(cmd.Context(), firmware.Options{
			Config: cfg, Version: version(), Log: log(), Run: *run, KeyCommand: []string{self, firmware.FlightKeyCommand},
		})
	}
	return cmd
}

func mediaCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "media", Short: "Bring photos and video of the cameras to the recorder", Args: cobra.NoArgs,
		Long: `media runs the cameras of the configuration: programs whose standard output is video, folders
in memory into which files are put, V4L2 cameras. What they give goes to the recorder, which
seals it; media itself writes no file. Without [[camera]] it does nothing, until it is ended.`}
	path, run := configFlag(cmd), runFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path)
		if err != nil {
			return err
		}
		debug.SetGCPercent(50)
		return firmware.Media(cmd.Context(), firmware.Options{Config: cfg, Version: version(), Log: log(), Run: *run})
	}
	return cmd
}

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "check", Short: "Check config, board, UART, keys, storage and lock: ok, or what to do", Args: cobra.NoArgs}
	path := configFlag(cmd)
	dataMap := cmd.Flags().Bool("data-map", false, "list every file and stream that data takes")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(*path)
		if err != nil {
			return err
		}
		if *dataMap {
			return printDataMap(cmd, firmware.DataMap(cfg), *asJSON)
		}
		return printCheck(cmd, firmware.Check(cfg), *asJSON)
	}
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		fmt.Fprintln(cmd.OutOrStdout(), "holdfastd", version())
		return nil
	}}
}

// keyCommand is the short-lived process that makes one flight identity; only the recorder
// runs it.
func keyCommand() *cobra.Command {
	return &cobra.Command{Use: firmware.FlightKeyCommand, Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return firmware.FlightKeyChild(os.Stdin, os.Stdout)
	}}
}
