package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// The goals.
const (
	goalPerMillion = 0.6      // CPU seconds per million frames at full speed
	goalShare      = 3.0      // percent of one core at a flight's rate
	goalMemory     = 32 << 20 // bytes
	goalFirst      = 50.0     // milliseconds to the first sealed frame
)

// spread is the least, the middle and the greatest of some figures.
type spread struct{ min, median, max float64 }

func spreadOf(xs []float64) spread {
	if len(xs) == 0 {
		return spread{}
	}
	s := slices.Sorted(slices.Values(xs))
	return spread{s[0], s[len(s)/2], s[len(s)-1]}
}

func (s spread) text(format string) string {
	return fmt.Sprintf(format+" / "+format+" / "+format, s.min, s.median, s.max)
}

// each applies f to all runs.
func each[R any](runs []R, f func(R) float64) spread {
	var xs []float64
	for _, r := range runs {
		xs = append(xs, f(r))
	}
	return spreadOf(xs)
}

const mebi = 1 << 20

// print writes the goals first, then what they rest on.
func (r *results) print(w io.Writer) {
	fmt.Fprintf(w, "feed: %d MAVLink 2 frames, %d types, %.1f bytes a frame; at a flight's rate %v of %g frames/s\n",
		r.feed.frames(), r.feed.types, float64(len(r.feed.raw))/float64(r.feed.frames()), r.s.flight, r.s.rate)
	fmt.Fprintf(w, "medium: append of a sealed chunk and fdatasync, ms, min / median / max: %s\n\n", spreadOf(r.syncs).text("%.2f"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "goal\tat most\tmeasured\tjudged by\tmet")
	r.printGoals(t)
	t.Flush()
	if len(r.full) > 0 {
		fmt.Fprintln(w, "\nfull speed, min / median / max")
		r.printFull(w)
	}
	for _, p := range r.paced {
		fmt.Fprintf(w, "\na flight's rate, %s\n", p.title)
		printPaced(w, p.runs)
	}
	if len(r.keys) > 0 {
		fmt.Fprintln(w, "\nstart to first frame, ms, min / median / max")
		r.printStarts(w)
	}
}

// printGoals prints a row for each goal that was measured.
func (r *results) printGoals(w io.Writer) {
	row := func(name string, goal float64, measured float64, by string) {
		met := "no"
		if measured <= goal {
			met = "yes"
		}
		fmt.Fprintf(w, "%s\t%g\t%.3g\t%s\t%s\n", name, goal, measured, by, met)
	}
	if full := r.full[recorderName]; len(full) > 0 {
		row("CPU s per million frames, full speed", goalPerMillion, each(full, fullRun.perMillion).min, "best run")
		row("frames lost, full speed", 0, each(full, func(r fullRun) float64 { return float64(r.lost) }).max, "worst run")
		row("frames invented, full speed", 0, each(full, func(r fullRun) float64 { return float64(r.falsey) }).max, "worst run")
		row("peak memory of the recorder, MiB", goalMemory/mebi, each(full, fullRun.memory).max, "worst run")
	}
	for _, p := range r.paced {
		row(fmt.Sprintf("CPU %% at %g frames/s: %s", r.s.rate, p.title), goalShare, p.runs[recorderName].share, "the run")
	}
	for _, kind := range []string{startFirst, startAgain, startSupers} {
		if ts := r.starts[kind]; len(ts) > 0 {
			row("ms to first sealed frame: "+kind, goalFirst, spreadOf(ts).median, "median")
		}
	}
}

func (r *results) printFull(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintln(t, "program\tCPU s per million frames\tof it key children\tk frames/s\tlost\tpeak MiB\twritten MB")
	for _, name := range []string{recorderName, peerGomavlib, peerCopy} {
		runs := r.full[name]
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%s\t%.0f\t%s\t%.1f\n", name,
			each(runs, fullRun.perMillion).text("%.3f"),
			each(runs, func(r fullRun) float64 { return r.children.Seconds() / float64(r.sent) * 1e6 }).median,
			each(runs, fullRun.rate).text("%.0f"),
			each(runs, func(r fullRun) float64 { return float64(r.lost) }).max,
			each(runs, fullRun.memory).text("%.1f"),
			each(runs, func(r fullRun) float64 { return float64(r.written) / 1e6 }).median)
	}
}

func printPaced(w io.Writer, runs map[string]pacedRun) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintln(t, "program\tCPU %\tsupervisor %\tpeak MiB\tlost\twritten MB an hour\tkept MB an hour")
	for _, name := range []string{recorderName, peerGomavlib, peerCopy} {
		r := runs[name]
		kept, super := "-", "-"
		if name == recorderName {
			kept, super = fmt.Sprintf("%.0f", r.perHour(r.vault)/1e6), fmt.Sprintf("%.2f", r.supervisor)
		}
		fmt.Fprintf(t, "%s\t%.2f\t%s\t%.1f\t%d\t%.0f\t%s\n", name, r.share, super,
			float64(r.peak)/mebi, r.lost, r.perHour(r.written)/1e6, kept)
	}
}

func (r *results) printStarts(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	for _, kind := range []string{startFirst, startAgain, startSupers, peerGomavlib, peerCopy} {
		fmt.Fprintf(t, "%s\t%s\n", kind, spreadOf(r.starts[kind]).text("%.1f"))
	}
	fmt.Fprintf(t, "flight-key child, CPU ms\t%s\n", each(r.keys, func(u usage) float64 { return ms(u.cpu) }).text("%.1f"))
	fmt.Fprintf(t, "flight-key child, ms\t%s\n", each(r.keys, func(u usage) float64 { return ms(u.wall) }).text("%.1f"))
	fmt.Fprintf(t, "flight-key child, peak MiB\t%s\n", each(r.keys, func(u usage) float64 { return float64(u.peak) / mebi }).text("%.1f"))
}
