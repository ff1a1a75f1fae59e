package netaudit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Options are the audit's.
type Options struct {
	Quick    bool // without a lock and with all of it alone
	Progress func(done, all int)
}

// Numbers of repeats of each race.
const (
	quickRepeats = 5
	longRepeats  = 40
)

// ErrRoot: the audit cannot make namespaces.
var ErrRoot = errors.New("the network audit makes namespaces of its own and needs root")

// run is the audit while it goes on.
type run struct {
	ctx    context.Context
	o      Options
	r      *Result
	all    []*attack
	usable []int // attacks that this kernel can do
	worn   bool  // attackers on a locked board have lost the powers that nobody has there
}

// Run runs the audit. An error means that it could not be held, not that something leaked.
func Run(ctx context.Context, o Options) (*Result, error) {
	if os.Geteuid() != 0 {
		return nil, ErrRoot
	}
	sweep()
	before, err := machine()
	if err != nil {
		return nil, err
	}
	a := &run{ctx: ctx, o: o, all: attacks(), worn: true, r: &Result{Quick: o.Quick, Repeats: longRepeats, Machine: runtime.GOARCH}}
	if o.Quick {
		a.r.Repeats = quickRepeats
	}
	if a.r.Kernel, err = kernel(); err != nil {
		return nil, err
	}
	if err := a.probe(); err != nil {
		return nil, err
	}
	if err := a.modes(); err != nil {
		return nil, err
	}
	after, err := machine()
	if err != nil {
		return nil, err
	}
	for _, d := range difference(before, after) {
		a.r.fail("the machine: %s", d)
	}
	a.r.judge()
	return a.r, nil
}

func kernel() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// probe makes the rows, and finds out what the kernel lacks and which layers there are.
func (a *run) probe() error {
	out, err := playJob(a.ctx, job{Probe: true})
	if err != nil {
		return err
	}
	a.r.Families = out.Families
	for i, k := range a.all {
		a.r.Rows = append(a.r.Rows, Row{Number: i + 1, Group: k.group, Name: k.name, Plain: k.plain, Root: k.root, Expect: k.want, Race: k.race != nil, Lacks: out.Lacks[i+1], Cells: map[string]Cell{}})
		if out.Lacks[i+1] == "" {
			a.usable = append(a.usable, i+1)
		}
	}
	out, err = playJob(a.ctx, job{Locked: true, Rights: asUser})
	if err != nil {
		return err
	}
	if out.State == nil {
		return errors.New("the guard told no state")
	}
	for _, l := range out.State.Layers {
		// What the whole host shares a namespace does not have; a layer that was left out shows when it is alone.
		a.r.Layers = append(a.r.Layers, Layer{Name: l.Name, State: l.State, Detail: l.Detail, Alone: l.State != "missing" && l.Name != capabilities})
		if l.Name == capabilities && l.State == "left_out" {
			a.worn = false
		}
	}
	return nil
}

// plan is a mode and what runs in it.
type plan struct {
	mode  Mode
	races bool
	blows bool // the attacks on the lock itself, each with its own board
	split bool // what dropped root can do is done as dropped root
}

func (a *run) plans() []plan {
	all := []plan{
		{mode: Mode{Name: modeOpenRoot, Rights: asRootFull}, races: true, blows: true},
		{mode: Mode{Name: modeOpenDropped, Rights: asRootDropped}},
		{mode: Mode{Name: modeOpenUser, Rights: asUser}},
		{mode: Mode{Name: modeAllUser, Locked: true, Rights: asUser, Judged: true}, races: true, blows: true},
		{mode: Mode{Name: modeAllDropped, Locked: true, Rights: asRootDropped, Judged: true}, races: true, blows: true},
		{mode: Mode{Name: modeAllRoot, Locked: true, Rights: asRootFull}, races: true, blows: true},
	}
	if a.o.Quick {
		return all
	}
	names := a.r.alone()
	for _, l := range names {
		all = append(all, plan{mode: Mode{Name: modeWithout(l), Locked: true, Rights: asRootDropped, Without: []string{l}}, races: true})
	}
	for _, l := range names {
		others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == l })
		all = append(all, plan{mode: Mode{Name: modeOnly(l), Locked: true, Rights: asRootFull, Without: others}, split: true})
	}
	return all
}

// alone names the layers that a namespace has.
func (r *Result) alone() (names []string) {
	for _, l := range r.Layers {
		if l.Alone {
			names = append(names, l.Name)
		}
	}
	return names
}

func (a *run) modes() error {
	plans := a.plans()
	all, done := 0, 0
	for _, p := range plans {
		a.r.Modes = append(a.r.Modes, p.mode)
		all += len(a.jobs(p)) // of layers alone: as many as there will be
	}
	for _, p := range plans {
		for _, j := range a.jobs(p) {
			if a.o.Progress != nil {
				a.o.Progress(done, all)
			}
			done++
			if err := a.play(p.mode.Name, j); err != nil {
				return fmt.Errorf("%s: %w", p.mode.Name, err)
			}
		}
	}
	return nil
}

func (a *run) play(mode string, j job) error {
	out, err := playJob(a.ctx, j)
	if err != nil && a.ctx.Err() == nil {
		out, err = playJob(a.ctx, j) // no verdict was drawn: a board that did not get ready gets a second chance
	}
	if err != nil {
		return err
	}
	if out.Lost > 0 {
		a.r.fail("%s: the sniffer lost %s", mode, frames(out.Lost))
	}
	a.r.take(a.r.mode(mode), j, out)
	return nil
}

// jobs are the boards of a mode: one for what can be done at once, one for each attack that
// changes what the others need.
func (a *run) jobs(p plan) (jobs []job) {
	first := job{Locked: p.mode.Locked, Without: p.mode.Without, Rights: p.mode.Rights, Repeats: a.r.Repeats}
	if p.mode.Locked && !a.worn && first.Rights == asRootDropped {
		first.Rights = asRootFull
	}
	weak := first // what needs no powers, where the mode is to show what a layer is worth
	weak.Rights = asRootDropped
	for _, id := range a.usable {
		switch k := a.all[id-1]; {
		case k.race != nil && !p.races, k.alone && !p.blows:
		case k.alone && p.mode.Rights != asUser: // an ordinary user changes nothing: his are done at once
			j := first
			j.IDs = []int{id}
			jobs = append(jobs, j)
		case p.split && a.r.Rows[id-1].Cells[modeOpenDropped].Arrived:
			weak.IDs = append(weak.IDs, id)
		default:
			first.IDs = append(first.IDs, id)
		}
	}
	if p.split {
		return []job{first, weak}
	}
	return append([]job{first}, jobs...)
}
