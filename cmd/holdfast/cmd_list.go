package main

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/cmd/internal/cli"
	"holdfast/crypto/open"
	"holdfast/storage/vault"
)

// listed is one record in `holdfast list --json`.
type listed struct {
	Device  string                  `json:"device"`
	ID      string                  `json:"id"`
	Kind    string                  `json:"kind"`
	State   vault.State             `json:"state"`
	Streams map[string]listedStream `json:"streams"`
	Bytes   int64                   `json:"bytes"`
	Start   string                  `json:"start_utc,omitempty"`
	End     string                  `json:"end_utc,omitempty"`
	Clock   string                  `json:"clock,omitempty"`
	Locked  bool                    `json:"no_identity,omitempty"` // none of the identities given opens anything in it
	// SealedToOthers are streams that none of the identities given opens, where one opens others.
	SealedToOthers []flight.Sealed `json:"sealed_to_others,omitempty"`
}

type listedStream struct {
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"`
}

func listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list DIR",
		Short: "List the records of a vault, a device's folder or an archive",
		Long: `list shows the records in DIR: id, kind, state, streams and bytes. When they were flown is
sealed: it is shown only with an identity that opens their telemetry (-i). Where streams have
recipients of their own, -i also tells which are sealed to others. It reads the names of files, and
of the log only which records were deleted or never begun; it proves nothing: see verify.

Exit status: 0 all records are whole, 3 one is cut or damaged, 4 one is missing, 5 no identity
given opens a stream of any record, 6 no record there, 1 DIR is not a vault.`,
		Args: cobra.ExactArgs(1),
	}
	identities := cmd.Flags().StringArrayP("identity", "i", nil, "identity `FILE`, to show times (may be repeated)")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return list(cmd, args[0], *identities, *asJSON)
	}
	return cmd
}

func list(cmd *cobra.Command, dir string, identities []string, asJSON bool) error {
	src, err := openSource(dir)
	if err != nil {
		return err
	}
	var opener *flight.Opener
	if len(identities) > 0 {
		k, err := readIdentities(identities)
		if err != nil {
			return err
		}
		opener = &flight.Opener{FS: src.fsys, Keys: open.New(k...)}
	}
	rows, state, opened := listRows(src, opener)
	if asJSON {
		err = cli.PrintJSON(cmd.OutOrStdout(), map[string]any{"state": state, "records": rows})
	} else {
		err = printList(cmd, rows, opener != nil)
	}
	if err != nil {
		return err
	}
	if err := src.choose(""); err != nil {
		return err
	}
	if opener != nil && !opened {
		return cli.Exit(cli.NoIdentity, "none of the identities given opens a record of %s", dir)
	}
	if code := exitCode(state); code != cli.OK {
		return &cli.ExitError{Code: code}
	}
	return nil
}

// listRows turns the records into rows. opened tells whether an identity fitted any.
func listRows(src *source, opener *flight.Opener) (rows []listed, state vault.State, opened bool) {
	rows, state = []listed{}, vault.StateClean
	for _, d := range src.devices {
		for _, r := range d.Records {
			row := listed{Device: d.ID, ID: r.ID.String(), Kind: r.ID.Kind.String(), State: r.State, Bytes: r.Bytes, Streams: map[string]listedStream{}}
			for _, s := range r.Segments {
				st := row.Streams[string(s.Stream)]
				st.Segments++
				st.Bytes += s.Size
				row.Streams[string(s.Stream)] = st
			}
			if opener != nil {
				opened = row.peek(opener, r) || opened
			}
			state = state.Worse(r.State)
			rows = append(rows, row)
		}
	}
	return rows, state, opened
}

func (row *listed) peek(opener *flight.Opener, r vault.Record) bool {
	t, err := opener.Peek(r)
	if err != nil {
		row.Locked = errors.Is(err, open.ErrNoIdentity)
		return false
	}
	row.Start, row.End, row.Clock, row.SealedToOthers = t.Start, t.End, t.Clock.Source, t.SealedToOthers
	return true
}

func printList(cmd *cobra.Command, rows []listed, times bool) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	others := slices.ContainsFunc(rows, func(r listed) bool { return len(r.SealedToOthers) > 0 })
	head := "DEVICE\tID\tKIND\tSTATE\tSTREAMS\tBYTES"
	if times {
		head += "\tSTART\tEND\tCLOCK"
	}
	if others {
		head += "\tSEALED TO OTHERS"
	}
	fmt.Fprintln(w, head)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d", r.Device, r.ID, r.Kind, r.State, r.streams(), r.Bytes)
		if times {
			fmt.Fprintf(w, "\t%s\t%s\t%s", r.Start, r.End, r.Clock)
		}
		if others {
			fmt.Fprintf(w, "\t%s", r.others())
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// others writes the letters of the streams that are sealed to others.
func (row *listed) others() (letters string) {
	for _, g := range row.SealedToOthers {
		letters += g.Streams
	}
	return letters
}

// streams writes "T12 V3": the letter of each stream and its number of segments.
func (row *listed) streams() string {
	var all []string
	for k, s := range row.Streams {
		all = append(all, fmt.Sprintf("%s%d", k, s.Segments))
	}
	sort.Strings(all)
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, " ")
}
