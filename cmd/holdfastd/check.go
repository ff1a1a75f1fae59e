package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/firmware"
)

func printCheck(cmd *cobra.Command, rows []firmware.CheckRow, asJSON bool) error {
	ok := true
	for _, r := range rows {
		ok = ok && r.OK
	}
	if asJSON {
		if err := cli.PrintJSON(cmd.OutOrStdout(), map[string]any{"ok": ok, "rows": rows}); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, r := range rows {
			state := "ok"
			if !r.OK {
				state = "NOT OK"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", r.What, state, r.Detail)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if !ok {
		return &cli.ExitError{Code: cli.Error}
	}
	return nil
}

func printDataMap(cmd *cobra.Command, flows []firmware.DataFlow, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), map[string]any{"flows": flows})
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WAY\tWHAT\tWHERE\tFORM\tWHO CAN READ IT")
	for _, f := range flows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Direction, f.What, f.Where, f.Form, f.Who)
	}
	return w.Flush()
}
