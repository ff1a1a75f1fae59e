package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/holdfast-bench/internal/audit"
	"holdfast/cmd/internal/cli"
)

type auditOptions struct {
	network, tamper, power, faults, quick, json bool
	seed                                        uint64
	out                                         string
}

// Numbers of power cuts.
const (
	quickCuts = 200
	longCuts  = 2000
)

// auditLater are the batteries of the contract that are not built yet.
const auditLater = "--network (arrives with the network lock), --faults (arrives with the cameras)"

func auditCommand() *cobra.Command {
	o := auditOptions{}
	c := &cobra.Command{
		Use:   "audit [--network] [--tamper] [--power] [--faults] [--quick] [--seed N] [-o DIR]",
		Short: "Attack what this build records and say whether it was seen",
		Long: `audit runs batteries of attacks on vaults that it records itself; none named: all that are
built. It needs no board, no network and no rights.

--tamper edits copies of a fresh vault in more than a thousand ways, as somebody with the
card would, and holds the verdict of verify against what the format demands: state, rule and
place. What nobody could notice is made too, and listed with the reason.
--power cuts the power of a recorder on a simulated medium that drops, tears and reorders what
was not synced, fails, fills up or turns read-only: what is left must never look tampered
with, what was promised must be there, and recording must go on.

--quick makes 200 power cuts instead of 2000. The same --seed attacks the same places. With -o DIR the
attacked vaults, audit.txt and audit.json are kept in DIR, which must not exist or be empty.

Not built yet: ` + auditLater + `.

EXIT STATUS
  0 everything is as it must be; 1 something is not, or an error; 2 wrong usage;
  130 interrupted`,
		Example: "  holdfast-bench audit --quick\n  holdfast-bench audit --tamper --seed 7 -o audit-7",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.BoolVar(&o.network, "network", false, "attack the network lock (arrives in a later release)")
	f.BoolVar(&o.tamper, "tamper", false, "edit a vault")
	f.BoolVar(&o.power, "power", false, "cut the power")
	f.BoolVar(&o.faults, "faults", false, "break links, cameras and media (arrives in a later release)")
	f.BoolVar(&o.quick, "quick", false, fmt.Sprintf("%d power cuts instead of %d", quickCuts, longCuts))
	f.BoolVar(&o.json, "json", false, "print one JSON object instead of tables")
	f.Uint64Var(&o.seed, "seed", 1, "what all random choices follow from")
	f.StringVarP(&o.out, "output", "o", "", "folder for the vaults and the report")
	return c
}

// auditResult is what --json prints and audit.json holds.
type auditResult struct {
	OK        bool             `json:"ok"`
	Seed      uint64           `json:"seed"`
	Version   string           `json:"version"`
	Batteries []*audit.Battery `json:"batteries"`
	Tables    []auditTable     `json:"tables"`
	NotBuilt  []string         `json:"not_built,omitempty"` // named, or all, and not there yet
}

type auditTable struct {
	Name   string        `json:"name"`
	Counts []audit.Count `json:"counts"`
}

func (o auditOptions) run(ctx context.Context, stdout io.Writer) error {
	named := o.tamper || o.power
	if (o.network || o.faults) && !named {
		return cli.Exit(cli.Usage, "not built yet: %s; --tamper and --power are", auditLater)
	}
	if !named {
		o.tamper, o.power = true, true
	}
	dir, done, err := o.folder()
	if err != nil {
		return err
	}
	defer done()
	r := &auditResult{Seed: o.seed, Version: version()}
	if !named || o.network {
		r.NotBuilt = append(r.NotBuilt, "network")
	}
	if !named || o.faults {
		r.NotBuilt = append(r.NotBuilt, "faults")
	}
	if err := o.batteries(ctx, dir, r); err != nil {
		return err
	}
	return o.report(r, stdout)
}

// folder returns where vaults are recorded, and what to do at the end.
func (o auditOptions) folder() (dir string, done func(), err error) {
	if o.out == "" {
		dir, err = os.MkdirTemp("", "holdfast-audit-")
		return dir, func() { os.RemoveAll(dir) }, err
	}
	entries, err := os.ReadDir(o.out)
	switch {
	case err == nil && len(entries) > 0:
		return "", nil, fmt.Errorf("%s is not empty: give a new folder with -o", o.out)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", nil, err
	}
	return o.out, func() {}, os.MkdirAll(o.out, 0o700)
}

func (o auditOptions) batteries(ctx context.Context, dir string, r *auditResult) error {
	if o.tamper {
		if err := r.add("attacks", func(p func(int, int)) (*audit.Battery, error) { return audit.Tamper(ctx, dir, o.seed, p) }); err != nil {
			return err
		}
	}
	if !o.power {
		return nil
	}
	n := longCuts
	if o.quick {
		n = quickCuts
	}
	return r.add("power cuts", func(p func(int, int)) (*audit.Battery, error) { return audit.Power(ctx, n, o.seed, p) })
}

// add runs a battery under a progress bar.
func (r *auditResult) add(what string, run func(progress func(done, all int)) (*audit.Battery, error)) error {
	var bar *cli.Bar
	b, err := run(func(done, all int) {
		if bar == nil {
			bar = cli.NewBar(int64(all), what, false)
		}
		bar.Show(int64(done), func() string { return what })
	})
	bar.Finish()
	if err != nil {
		return err
	}
	r.Batteries = append(r.Batteries, b)
	r.Tables = append(r.Tables, auditTable{b.Name, b.Counts()})
	return nil
}

// report prints and keeps the result.
func (o auditOptions) report(r *auditResult, stdout io.Writer) error {
	r.OK = true
	for _, b := range r.Batteries {
		r.OK = r.OK && len(b.Failed()) == 0
	}
	var text strings.Builder
	if err := r.print(&text); err != nil {
		return err
	}
	if o.out != "" {
		if err := o.keep(r, text.String()); err != nil {
			return err
		}
	}
	var err error
	if o.json {
		err = cli.PrintJSON(stdout, r)
	} else {
		_, err = io.WriteString(stdout, text.String())
	}
	if err == nil && !r.OK {
		err = &cli.ExitError{Code: cli.Error}
	}
	return err
}

func (r *auditResult) print(w io.Writer) error {
	for _, b := range r.Batteries {
		if err := b.Print(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if len(r.NotBuilt) > 0 {
		fmt.Fprintf(w, "not built yet, not run: %s\n", strings.Join(r.NotBuilt, ", "))
	}
	verdict := "ok: everything is as it must be"
	if !r.OK {
		verdict = "FAILED: something is not as it must be"
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

// keep writes audit.txt and audit.json.
func (o auditOptions) keep(r *auditResult, text string) error {
	var object strings.Builder
	if err := cli.PrintJSON(&object, r); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(o.out, "audit.txt"), []byte(text), 0o600),
		os.WriteFile(filepath.Join(o.out, "audit.json"), []byte(object.String()), 0o600))
}

// version is what the build knows of itself.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return strings.TrimSpace(info.Main.Version + " " + info.GoVersion)
	}
	return "unknown"
}
