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
	"holdfast/cmd/holdfast-bench/internal/netaudit"
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
const auditLater = "--faults (arrives with the cameras)"

func auditCommand() *cobra.Command {
	o := auditOptions{}
	c := &cobra.Command{
		Use:   "audit [--network] [--tamper] [--power] [--faults] [--quick] [--seed N] [-o DIR]",
		Short: "Attack what this build records and locks, and say whether it was seen and whether it held",
		Long: `audit runs batteries of attacks on vaults that it records itself and on a network lock that it
closes itself; none named: all that are built. It needs no board and no network.

--network tries more than a hundred ways to get a frame off a board, in network namespaces that it makes
itself: without a lock, where each must arrive or proves nothing, and under the lock, as an ordinary user, as
root without the powers that a locked board gives nobody, and as root with all of them (told, not
judged); then with each layer left out, and with each alone. It needs root, and leaves the machine's network as
it is, which it checks. With -o it writes network.html, for readers who are no engineers.
--tamper edits copies of a fresh vault in more than a thousand ways, as somebody with the
card would, and holds the verdict of verify against what the format demands: state, rule and
place. What nobody could notice is made too, and listed with the reason.
--power cuts the power of a recorder on a simulated medium that drops, tears and reorders what
was not synced, fails, fills up or turns read-only: what is left must never look tampered
with, what was promised must be there, and recording must go on.

--quick makes 200 power cuts instead of 2000, and leaves no layer of the lock out. The same --seed attacks
the same places. With -o DIR the attacked vaults, audit.txt, audit.json and network.html are kept in
DIR, which must not exist or be empty.

Not built yet: ` + auditLater + `.

EXIT STATUS
  0 everything is as it must be; 1 something is not, or an error; 2 wrong usage;
  130 interrupted`,
		Example: "  holdfast-bench audit --quick\n  holdfast-bench audit --tamper --seed 7 -o audit-7\n  sudo holdfast-bench audit --network -o audit-net",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.BoolVar(&o.network, "network", false, "attack the network lock (as root)")
	f.BoolVar(&o.tamper, "tamper", false, "edit a vault")
	f.BoolVar(&o.power, "power", false, "cut the power")
	f.BoolVar(&o.faults, "faults", false, "break links, cameras and media (arrives in a later release)")
	f.BoolVar(&o.quick, "quick", false, fmt.Sprintf("%d power cuts instead of %d; the network lock as a whole only", quickCuts, longCuts))
	f.BoolVar(&o.json, "json", false, "print one JSON object instead of tables")
	f.Uint64Var(&o.seed, "seed", 1, "what all random choices follow from")
	f.StringVarP(&o.out, "output", "o", "", "folder for the vaults and the report")
	c.AddCommand(auditPart())
	return c
}

// auditPart is what the network battery starts of itself.
func auditPart() *cobra.Command {
	return &cobra.Command{
		Use:                netaudit.PartArgs[1],
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return netaudit.Part(args) },
	}
}

// auditResult is what --json prints and audit.json holds.
type auditResult struct {
	OK        bool             `json:"ok"`
	Seed      uint64           `json:"seed"`
	Version   string           `json:"version"`
	Batteries []*audit.Battery `json:"batteries"`
	Tables    []auditTable     `json:"tables"`
	Network   *netaudit.Result `json:"network,omitempty"`
	NotBuilt  []string         `json:"not_built,omitempty"` // named, or all, and not there yet
	LeftOut   []string         `json:"left_out,omitempty"`  // batteries that cannot run here, and why
}

type auditTable struct {
	Name   string        `json:"name"`
	Counts []audit.Count `json:"counts"`
}

func (o auditOptions) run(ctx context.Context, stdout io.Writer) error {
	named := o.tamper || o.power || o.network
	if o.faults && !named {
		return cli.Exit(cli.Usage, "not built yet: %s; --network, --tamper and --power are", auditLater)
	}
	r := &auditResult{Seed: o.seed, Version: version()}
	if !named {
		o.tamper, o.power, o.network = true, true, true
	}
	if o.network && os.Geteuid() != 0 {
		if named {
			return netaudit.ErrRoot
		}
		o.network = false
		r.LeftOut = append(r.LeftOut, "network: "+netaudit.ErrRoot.Error())
	}
	dir, done, err := o.folder()
	if err != nil {
		return err
	}
	defer done()
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
	if o.power {
		if err := r.addPower(ctx, o); err != nil {
			return err
		}
	}
	if !o.network {
		return nil
	}
	return r.add("ways out", func(p func(int, int)) (*audit.Battery, error) {
		var err error
		if r.Network, err = netaudit.Run(ctx, netaudit.Options{Quick: o.quick, Progress: p}); err != nil {
			return nil, err
		}
		return r.Network.Battery(), nil
	})
}

func (r *auditResult) addPower(ctx context.Context, o auditOptions) error {
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
		if r.Network != nil && b.Name == netaudit.BatteryName {
			if err := r.Network.Print(w); err != nil {
				return err
			}
		}
		fmt.Fprintln(w)
	}
	for _, l := range r.LeftOut {
		fmt.Fprintf(w, "left out: %s\n", l)
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

// keep writes audit.txt and audit.json, and network.html where there is something to tell.
func (o auditOptions) keep(r *auditResult, text string) error {
	var object strings.Builder
	if err := cli.PrintJSON(&object, r); err != nil {
		return err
	}
	err := errors.Join(os.WriteFile(filepath.Join(o.out, "audit.txt"), []byte(text), 0o600),
		os.WriteFile(filepath.Join(o.out, "audit.json"), []byte(object.String()), 0o600))
	if err != nil || r.Network == nil {
		return err
	}
	var page strings.Builder
	if err := r.Network.Page(&page); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.out, "network.html"), []byte(page.String()), 0o600)
}

// version is what the build knows of itself.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return strings.TrimSpace(info.Main.Version + " " + info.GoVersion)
	}
	return "unknown"
}
