// Command wholebench measures the whole recorder against its goals, in one run with two peers
// that do the plain job: gomavlib's frame.Reader writing a .tlog, and a copier. scripts/bench.sh
// builds what it needs and runs it; docs/benchmarks.md says what the figures mean.
//
// It runs on Linux only, touches no network and no real port, and measures programs from the
// outside: CPU time and bytes written as the kernel counts them for a process, memory as VmHWM.
// What the kernel does on its own account (the terminal's worker, the file system's journal) is
// in no figure.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// settings are the flags.
type settings struct {
	bin, dir       string
	frames, rounds int
	rate           float64
	flight         time.Duration
	starts         int
}

func parse(args []string) (s settings, err error) {
	f := flag.NewFlagSet("wholebench", flag.ContinueOnError)
	f.StringVar(&s.bin, "bin", "", "folder with holdfastd, holdfast and peer")
	f.StringVar(&s.dir, "dir", "", "folder on the medium to measure on; must be there")
	f.IntVar(&s.frames, "frames", 1_050_000, "frames of the feed at full speed")
	f.IntVar(&s.rounds, "rounds", 5, "runs at full speed of the recorder and each peer, by turns")
	f.Float64Var(&s.rate, "rate", 789, "frames a second of a flight")
	f.DurationVar(&s.flight, "flight", 30*time.Second, "length of a run at a flight's rate; 0: none")
	f.IntVar(&s.starts, "starts", 9, "starts of each kind, for the time to the first sealed frame")
	if err = f.Parse(args); err != nil {
		return s, err
	}
	if s.bin == "" || s.dir == "" || s.frames < waiting || s.rate <= 0 || f.NArg() > 0 {
		return s, fmt.Errorf("give -bin and -dir, at least %d frames and a rate above 0", waiting)
	}
	// A link's path in holdfast.toml would be taken from that file's folder.
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return s, err
	}
	s.bin, err = filepath.Abs(s.bin)
	return s, err
}

func run(ctx context.Context, args []string) int {
	s, err := parse(args)
	if err == flag.ErrHelp {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wholebench:", err)
		return 2
	}
	res, err := measure(ctx, s, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "wholebench:", err)
		if ctx.Err() != nil {
			return 130
		}
		return 1
	}
	res.print(os.Stdout)
	if !res.whole() {
		fmt.Fprintln(os.Stderr, "wholebench: frames are missing or were invented")
		return 1
	}
	return 0
}

// results are all that was measured.
type results struct {
	s      settings
	feed   *feed
	syncs  []float64 // milliseconds
	full   map[string][]fullRun
	paced  []pacedRuns
	starts map[string][]float64 // milliseconds
	keys   []usage
}

// whole tells whether the recorder kept every frame and nothing else.
func (r *results) whole() bool {
	for _, run := range r.full[recorderName] {
		if !run.perfect() {
			return false
		}
	}
	for _, p := range r.paced {
		if run := p.runs[recorderName]; !run.perfect() {
			return false
		}
	}
	return true
}

// recorderName is the recorder's among the peers.
const recorderName = "holdfastd"

// measure does all runs, telling on log what it is at.
func measure(ctx context.Context, s settings, log io.Writer) (*results, error) {
	b := &bench{bin: s.bin, dir: s.dir}
	r := &results{s: s, full: map[string][]fullRun{}, starts: map[string][]float64{}}
	if err := b.keys(ctx); err != nil {
		return nil, err
	}
	var err error
	if r.feed, err = newFeed(s.frames, true); err != nil {
		return nil, err
	}
	steps := []struct {
		title string
		do    func() error
	}{
		{"medium", func() (err error) { r.syncs, err = b.syncTimes(40); return err }},
		{"start to first sealed frame", func() error { return r.measureStarts(ctx, b) }},
		{"full speed", func() error { return r.measureFull(ctx, b) }},
		{"a flight's rate", func() error { return r.measureRate(ctx, b) }},
	}
	for _, step := range steps {
		fmt.Fprintf(log, "measuring: %s\n", step.title)
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return r, nil
}

// measureFull alternates the recorder and the peers, so that what else the machine does meets
// all of them alike.
func (r *results) measureFull(ctx context.Context, b *bench) error {
	for range r.s.rounds {
		for _, name := range []string{recorderName, peerGomavlib, peerCopy} {
			l, err := b.open(ctx, name, "record")
			if err != nil {
				return err
			}
			run, err := full(ctx, l, r.feed)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r.full[name] = append(r.full[name], run)
		}
	}
	return nil
}

// open starts the recorder or a peer on a line of its own.
func (b *bench) open(ctx context.Context, name, command string) (*line, error) {
	if name == recorderName {
		return b.recorderLine(ctx, command)
	}
	return b.peerLine(ctx, name)
}

// pacedRuns are runs side by side at a flight's rate.
type pacedRuns struct {
	title string
	armed bool
	group time.Duration // see pacer
	runs  map[string]pacedRun
}

// senderGroup is how holdfast-bench hands frames to a line.
const senderGroup = 4 * time.Millisecond

func (r *results) measureRate(ctx context.Context, b *bench) error {
	if r.s.flight == 0 {
		return nil
	}
	for _, p := range []pacedRuns{
		{title: "armed, each frame by itself", armed: true},
		{title: "armed, frames of 4 ms together", armed: true, group: senderGroup},
		{title: "not armed, each frame by itself"},
	} {
		var err error
		if p.runs, err = r.measurePaced(ctx, b, p); err != nil {
			return err
		}
		r.paced = append(r.paced, p)
	}
	return nil
}

// measurePaced runs the recorder, under its supervisor, and the peers side by side.
func (r *results) measurePaced(ctx context.Context, b *bench, p pacedRuns) (map[string]pacedRun, error) {
	f, err := newFeed(int(r.s.flight.Seconds()*r.s.rate), p.armed)
	if err != nil {
		return nil, err
	}
	type answer struct {
		name string
		run  pacedRun
		err  error
	}
	names := []string{recorderName, peerGomavlib, peerCopy}
	answers := make(chan answer, len(names))
	for _, name := range names {
		l, err := b.open(ctx, name, "run")
		if err != nil {
			return nil, err
		}
		go func() {
			run, err := paced(ctx, l, f, pacer{rate: r.s.rate, group: p.group}, name == recorderName)
			answers <- answer{name, run, err}
		}()
	}
	runs := map[string]pacedRun{}
	for range names {
		a := <-answers
		if a.err != nil && err == nil {
			err = fmt.Errorf("%s: %w", a.name, a.err)
		}
		runs[a.name] = a.run
	}
	return runs, err
}

// Kinds of start.
const (
	startFirst  = "record, first start ever"
	startAgain  = "record, later start"
	startSupers = "run, later start"
)

func (r *results) measureStarts(ctx context.Context, b *bench) error {
	for range r.s.starts {
		u, err := b.keyChild(ctx)
		if err != nil {
			return err
		}
		r.keys = append(r.keys, u)
		for _, kind := range []string{peerGomavlib, peerCopy} {
			took, err := b.beginPeer(ctx, kind, r.feed)
			if err != nil {
				return err
			}
			r.starts[kind] = append(r.starts[kind], ms(took))
		}
		if err := r.startBoard(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// startBoard starts the recorder three times on one new board.
func (r *results) startBoard(ctx context.Context, b *bench) error {
	nb, err := b.newBoard(ctx)
	if err != nil {
		return err
	}
	defer nb.remove()
	for _, k := range []struct{ kind, command string }{{startFirst, "record"}, {startAgain, "record"}, {startSupers, "run"}} {
		took, err := b.beginRecorder(ctx, nb, k.command, r.feed)
		if err != nil {
			return err
		}
		r.starts[k.kind] = append(r.starts[k.kind], ms(took))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
