package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/mavlink/tlog"
)

// longestStep is the largest step between two stamps that is waited for: a longer one is
// a clock that was set, or a pause nobody wants to sit through.
const longestStep = 60 * time.Second

// slowest is the least --speed: below it a step would no longer fit a time.Duration.
const slowest = 0.001

func replayCommand() *cobra.Command {
	f := &lineFlags{}
	speed := ""
	c := &cobra.Command{
		Use:   "replay FILE.tlog --pty PATH",
		Short: "Replay a .tlog on a pseudo-UART",
		Long: `replay sends the frames of a recording to a pseudo-terminal, without their time stamps,
and bytes that fit no entry as they stand. It waits for a reader, keeps the pace of the
stamps, and ends when the reader has read all. Stamps that step back, or ahead by more
than a minute, cost no time.`,
		Example: `  holdfast-bench replay flight.tlog --pty fc
  holdfast-bench replay flight.tlog --pty fc --speed max --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			factor, err := parseSpeed(speed)
			if err != nil {
				return err
			}
			return runReplay(c, f, args[0], factor)
		},
	}
	f.add(c)
	c.Flags().StringVar(&speed, "speed", "1", "how many times faster than recorded, or max")
	return c
}

// parseSpeed returns the factor of --speed; max is infinite.
func parseSpeed(s string) (float64, error) {
	if s == "max" {
		return math.Inf(1), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= slowest) || math.IsInf(f, 0) {
		return 0, cli.Exit(cli.Usage, "--speed %q is no speed; give a number from %v on, or max", s, slowest)
	}
	return f, nil
}

func runReplay(c *cobra.Command, f *lineFlags, name string, speed float64) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("%w; name a .tlog file", err)
	}
	defer file.Close()
	size := int64(-1)
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	r := &replayer{name: name, log: tlog.NewReader(file), speed: speed}
	// The first item is read before the line is made: a file that cannot be replayed is
	// told at once, not when a reader has come.
	if err := r.open(); err != nil {
		return err
	}
	s := &sender{bar: cli.NewBar(size, "waiting for a reader at "+f.pty, true)}
	r.bar = s.bar
	return s.run(c, f, func(ctx context.Context) error { return s.send(ctx, r.next) })
}

// replayer turns the items of a log into pieces with a time of their own.
type replayer struct {
	name  string
	log   *tlog.Reader
	speed float64
	bar   *cli.Bar

	first *tlog.Item // read by open
	seen  bool       // an entry was seen
	last  uint64     // its stamp, microseconds since 1970
	at    time.Duration
	read  int64
}

func (r *replayer) open() error {
	item, err := r.log.Next()
	if err == io.EOF {
		return fmt.Errorf("%s holds nothing to replay; name a .tlog file with frames in it", r.name)
	}
	if err != nil {
		return fmt.Errorf("%w; name a .tlog file", err)
	}
	r.first = &item
	return nil
}

// next is the source of the replay.
func (r *replayer) next() (piece, error) {
	item, err := r.item()
	if err == io.EOF {
		return piece{}, io.EOF
	}
	if err != nil {
		return piece{}, fmt.Errorf("read recording: %w", err)
	}
	r.read += int64(len(item.Raw))
	if item.Entry {
		r.read += 8
		r.advance(item.TimeUsec)
	}
	r.bar.Show(r.read, func() string { return "replay" })
	return piece{at: r.at, stamp: item.TimeUsec, raw: item.Raw, frame: item.Entry}, nil
}

func (r *replayer) item() (tlog.Item, error) {
	if r.first != nil {
		item := *r.first
		r.first = nil
		return item, nil
	}
	return r.log.Next()
}

// advance moves the time on by the step between two stamps, where that is a plain one.
func (r *replayer) advance(stamp uint64) {
	step := stamp - r.last
	if r.seen && stamp > r.last && step <= uint64(longestStep.Microseconds()) {
		r.at += time.Duration(float64(step) * float64(time.Microsecond) / r.speed)
	}
	r.seen, r.last = true, stamp
}
