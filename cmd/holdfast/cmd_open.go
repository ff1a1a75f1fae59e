package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/cmd/internal/cli"
	"holdfast/crypto/open"
	"holdfast/storage/vault"
)

type openOptions struct {
	identities []string
	out        string
	flight     string
	json       bool
}

func openCommand() *cobra.Command {
	var o openOptions
	cmd := &cobra.Command{
		Use:   "open DIR -i FILE -o OUT",
		Short: "Open sealed records with the operator's identity, offline",
		Long: `open verifies DIR, unlocks its records and writes each to OUT/<device>/<record>/: telemetry.tlog,
noise.bin, noise.jsonl, sent.tlog and sent.jsonl (what went to the autopilot), audit.jsonl, flight.json,
autopilot/ (its logs, parameters and missions) and media/<camera>/ (video, photos, copies of them with
geotags). A log that was pulled after a flight is put into that flight's folder too. DIR is read only, never changed. Of cut and
damaged records everything that is intact is kept, and flight.json says what is missing and why.
What is tampered, unsigned or otherwise not proven goes below <record>/unverified/ only, under the
same names. OUT must be absent or empty; it is made readable for its owner only, because it is no
longer sealed. Against a key or head that was noted before, use holdfast verify.

Streams of a record may have recipients of their own. open writes what the identities given open;
what is sealed to others is counted (sealed_to_others in flight.json and with --json), is not
damage, and leaves telemetry.tlog empty where it is the telemetry.

Exit status: 0 done, 3 a record is cut or damaged, 4 one is tampered, missing or unsigned, 5 of a
record no identity given opens anything, 6 no such record, 1 error.`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.identities, "identity", "i", nil, "identity `FILE` (may be repeated; the two-person rule needs both)")
	f.StringVarP(&o.out, "output", "o", "", "folder for what is opened, absent or empty")
	f.StringVar(&o.flight, "flight", "", "open only this record: F00000042, or its number")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	for _, name := range []string{"identity", "output"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runOpen(cmd, args[0], o) }
	return cmd
}

// openedRecord is one record in `holdfast open --json`.
type openedRecord struct {
	Device     string      `json:"device"`
	ID         string      `json:"id"`
	Kind       string      `json:"kind"`
	State      vault.State `json:"state"`
	Frames     int64       `json:"frames"`
	NoiseBytes int64       `json:"noise_bytes"`
	Files      int         `json:"files"`
	Folder     string      `json:"folder"`
	Error      string      `json:"error,omitempty"`

	SealedToOthers []flight.Sealed `json:"sealed_to_others,omitempty"`
}

func runOpen(cmd *cobra.Command, dir string, o openOptions) error {
	src, err := openSource(dir)
	if err != nil {
		return err
	}
	later := src.followers(o.flight)
	nothing := src.choose(o.flight)
	ids, err := readIdentities(o.identities)
	if err != nil {
		return err
	}
	if nothing == nil { // else only the log can name something
		if err := makeOut(o.out, dir); err != nil {
			return err
		}
	}
	c, err := verifyFirst(cmd.Context(), src, o.flight)
	if err != nil {
		return err
	}
	if nothing != nil && c.empty() {
		return nothing
	}
	bar := progress(src, "opening")
	opener := &flight.Opener{FS: src.fsys, Keys: open.New(ids...), Custody: c.record, Progress: func(n int64) { bar.Add(n, func() string { return "opening" }) }}
	rows, code, err := openAll(cmd.Context(), src, opener, o.out, c, later)
	bar.Finish()
	if err != nil {
		return err
	}
	if err := printOpened(cmd, rows, c, o.json); err != nil {
		return err
	}
	if code == cli.NoIdentity {
		return cli.Exit(code, "no identity given fits %s; give the one it was sealed for, or the recovery key", which(rows))
	}
	if code != cli.OK {
		return &cli.ExitError{Code: code}
	}
	return nil
}

// makeOut makes the folder for plaintext: absent or empty before, 0700, not inside the vault.
func makeOut(out, dir string) error {
	outAbs, err1 := filepath.Abs(out)
	dirAbs, err2 := filepath.Abs(dir)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if rel, err := filepath.Rel(dirAbs, outAbs); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("%s lies inside %s; what is opened must not lie beside what is sealed", out, dir)
	}
	entries, err := os.ReadDir(out)
	if errors.Is(err, os.ErrNotExist) {
		return os.MkdirAll(out, 0o700)
	}
	if err != nil {
		return fmt.Errorf("%s: not a folder that can be read; give one that is absent or empty", out)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty; give a folder that is absent or empty", out)
	}
	return os.Chmod(out, 0o700)
}

func progress(src *source, what string) *cli.Bar {
	var total int64
	for _, d := range src.devices {
		for _, r := range d.Records {
			total += r.Bytes
		}
	}
	return cli.NewBar(total, what, true)
}

// openAll opens the records one by one. The code is that of the worst state.
func openAll(ctx context.Context, src *source, opener *flight.Opener, out string, c *checked, later followers) (rows []openedRecord, code int, err error) {
	state := c.state()
	refused := 0
	for _, d := range src.devices {
		for _, r := range d.Records {
			if ctx.Err() != nil {
				return nil, 0, ctx.Err()
			}
			if r.ID.Kind != vault.Flight && r.ID.Kind != vault.Ground || c.undone(d, r.ID.String()) {
				continue // the log knows why
			}
			row, err := openOne(opener, d, r, out)
			if err != nil {
				return nil, 0, err
			}
			if row.locked() {
				refused++
			}
			state = state.Worse(row.State)
			rows = append(rows, row)
		}
		rows = append(rows, c.missing(d)...)
		delivered, err := later.deliver(ctx, src, d, opener, c, out)
		if err != nil {
			return nil, 0, err
		}
		state = state.Worse(delivered)
	}
	code = exitCode(state)
	if refused > 0 && code != cli.Tampered {
		code = cli.NoIdentity
	}
	return rows, code, nil
}

func (r *openedRecord) locked() bool { return r.Error == open.ErrNoIdentity.Error() }

// openOne opens one record. What is wrong with the record is in the row; the error is one of
// writing to out.
func openOne(opener *flight.Opener, d vault.Device, r vault.Record, out string) (openedRecord, error) {
	row := openedRecord{Device: d.ID, ID: r.ID.String(), Kind: r.ID.Kind.String(), State: r.State}
	if v := opener.Custody(d, row.ID); v != nil {
		row.State = vault.State(v.State) // what was read decides, and not names alone
		if v.Deleted {
			row.Error = "it was deleted; what is left of it is passed over"
			return row, nil
		}
	}
	s, err := opener.Open(d, r, flight.Folder(out, d, r))
	switch {
	case errors.Is(err, open.ErrNoIdentity):
		row.Error = open.ErrNoIdentity.Error()
		return row, nil
	case errors.Is(err, flight.ErrNoKey) && r.State == vault.StateCut:
		row.Error = "cut before anything was sealed"
		return row, nil
	case errors.Is(err, flight.ErrNoKey), errors.Is(err, open.ErrDamaged):
		row.Error, row.State = err.Error(), row.State.Worse(vault.StateDamaged)
		return row, nil
	case err != nil:
		return row, fmt.Errorf("open %s: %w", row.ID, err)
	}
	row.State, row.Frames, row.NoiseBytes, row.Files, row.Folder = s.State, s.Frames, s.Noise.Bytes, len(s.Files), flight.Folder(out, d, r)
	row.SealedToOthers = s.SealedToOthers
	return row, nil
}

func which(rows []openedRecord) string {
	n := 0
	for _, r := range rows {
		if r.locked() {
			n++
		}
	}
	if n == len(rows) {
		return "any record"
	}
	return fmt.Sprintf("%d of %d records", n, len(rows))
}

func printOpened(cmd *cobra.Command, rows []openedRecord, c *checked, asJSON bool) error {
	if asJSON {
		state := c.state()
		for _, r := range rows {
			state = state.Worse(r.State)
		}
		return cli.PrintJSON(cmd.OutOrStdout(), map[string]any{"state": state, "records": rows, "verification": c.reports})
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tSTATE\tFRAMES\tNOISE BYTES\tFOLDER")
	for _, r := range rows {
		where := r.Folder
		if r.Error != "" {
			where = r.Error
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", r.ID, r.Kind, r.State, r.Frames, r.NoiseBytes, where)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		for _, g := range r.SealedToOthers {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s sealed to others: %d segments, %d bytes\n", r.ID, g.Streams, g.Segments, g.Bytes)
		}
	}
	for _, r := range c.reports {
		fmt.Fprintf(cmd.OutOrStdout(), "verification of %s: %s; %s\n", r.Device, r.State, r.Identity)
		for _, f := range r.Findings[:min(len(r.Findings), 10)] {
			fmt.Fprintf(cmd.OutOrStdout(), "  %s %s %s: %s\n", f.State, f.Rule, f.File, printable(f.Text))
		}
	}
	return nil
}
