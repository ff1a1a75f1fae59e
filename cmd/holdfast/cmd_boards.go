package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/boards"
	"holdfast/cmd/internal/cli"
)

func boardsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "boards",
		Short: "List the boards that are known",
		Long: `boards lists the names that provision --board takes, with the best grade each board can
reach (A: no network stack at all; B: locked) and what was tried on real hardware.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), boardRows())
			}
			return printBoards(c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

type boardRow struct {
	Name          string `json:"name"`
	Description   string `json:"description"`
	Grade         string `json:"grade"`
	TestedOn      string `json:"tested_on"`
	DefaultDevice string `json:"default_device"`
}

type boardList struct {
	Boards []boardRow `json:"boards"`
}

func boardRows() boardList {
	var l boardList
	for _, b := range boards.All() {
		l.Boards = append(l.Boards, boardRow{b.Name, b.Description, string(b.Grade), b.TestedOn, b.DefaultDevice})
	}
	return l
}

func printBoards(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tGRADE\tDEVICE\tTESTED ON\tWHAT")
	for _, b := range boardRows().Boards {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", b.Name, b.Grade, b.DefaultDevice, b.TestedOn, b.Description)
	}
	return t.Flush()
}
