package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/mavlink/tlog"
	"holdfast/mavlink/vehicle"
)

type vehicleFlags struct {
	lineFlags
	stack, start, tlog string
	duration           time.Duration
	seed               uint64
	camera             bool
}

func vehicleCommand() *cobra.Command {
	f := &vehicleFlags{}
	c := &cobra.Command{
		Use:   "vehicle --pty PATH",
		Short: "Fly a simulated multirotor on a pseudo-UART",
		Long: `vehicle flies a simulated multirotor in real time and sends what its autopilot says to a
pseudo-terminal: some 800 frames a second, fitting a 921,600 baud line. It waits for a
reader, boots, arms, takes off, flies a survey grid, lands, disarms and ends.

The same stack, seed, duration and start give the same frames.`,
		Example: `  holdfast-bench vehicle --pty fc --duration 30s
  holdfast-bench vehicle --pty fc --stack px4 --camera --seed 7 --tlog sent.tlog`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runVehicle(c, f) },
	}
	f.add(c)
	c.Flags().StringVar(&f.stack, "stack", "ardupilot", "autopilot to behave like: ardupilot or px4")
	c.Flags().DurationVar(&f.duration, "duration", 0, "length from power-on to the end, like 90s; 0 flies until stopped or the battery is low")
	c.Flags().Uint64Var(&f.seed, "seed", 1, "picks place, wind, grid and noise")
	c.Flags().BoolVar(&f.camera, "camera", false, "add a camera and a gimbal component")
	c.Flags().StringVar(&f.start, "start", "", "UTC of power-on, like 2026-05-01T09:00:00Z (default now)")
	c.Flags().StringVar(&f.tlog, "tlog", "", "write what was sent to this .tlog file too")
	return c
}

// options checks the flags; New judges the rest.
func (f *vehicleFlags) options() (vehicle.Options, error) {
	o := vehicle.Options{Seed: f.seed, Duration: f.duration, Camera: f.camera}
	var err error
	if o.Stack, err = vehicle.ParseStack(f.stack); err != nil {
		return o, cli.Exit(cli.Usage, "%w; --stack takes ardupilot or px4", err)
	}
	if f.start != "" {
		if o.Start, err = time.Parse(time.RFC3339, f.start); err != nil {
			return o, cli.Exit(cli.Usage, "--start %q is no time; write it like 2026-05-01T09:00:00Z", f.start)
		}
	}
	if _, err = vehicle.New(o); err != nil {
		return o, cli.Exit(cli.Usage, "%w; see holdfast-bench vehicle --help", err)
	}
	return o, nil
}

func runVehicle(c *cobra.Command, f *vehicleFlags) (err error) {
	o, err := f.options()
	if err != nil {
		return err
	}
	s := &sender{}
	if f.tlog != "" {
		file, err := os.Create(f.tlog)
		if err != nil {
			return fmt.Errorf("%w; choose another --tlog", err)
		}
		s.log = tlog.NewWriter(file)
		defer func() { err = keep(err, s.log.Flush(), file.Close()) }()
	}
	total := int64(-1)
	if o.Duration > 0 {
		total = o.Duration.Milliseconds()
	}
	s.bar = cli.NewBar(total, "waiting for a reader at "+f.pty, false)
	return s.run(c, &f.lineFlags, func(ctx context.Context) error { return s.fly(ctx, o) })
}

// keep returns the first error there is.
func keep(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fly sends one flight in real time.
func (s *sender) fly(ctx context.Context, o vehicle.Options) error {
	if o.Start.IsZero() {
		o.Start = time.Now()
	}
	v, err := vehicle.New(o)
	if err != nil {
		return err
	}
	return s.send(ctx, func() (piece, error) {
		e, ok := v.Next()
		if !ok {
			return piece{}, keep(v.Err(), io.EOF)
		}
		s.bar.Show(e.At.Milliseconds(), func() string { return progressText(v.State()) })
		stamp := uint64(o.Start.Add(e.At).UnixMicro())
		return piece{at: e.At, stamp: stamp, raw: e.Raw, frame: true}, nil
	})
}

func progressText(s vehicle.State) string {
	return fmt.Sprintf("%-9s %5.1f m %4.1f m/s %3.0f %%", s.Phase, s.Height, s.Speed, s.Battery*100)
}
