package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/mavlink/tlog"
	"holdfast/mavlink/vehicle"
)

func vehicleCommand() *cobra.Command {
	f := &vehicleFlags{}
	c := &cobra.Command{
		Use:   "vehicle --pty PATH",
		Short: "Fly a simulated multirotor on a pseudo-UART",
		Long: `vehicle flies a simulated multirotor in real time and sends what its autopilot says to a
pseudo-terminal: some 800 frames a second, fitting a 921,600 baud line. It waits for a
reader, boots, arms, takes off, flies a survey grid, lands, disarms and ends.

It hears what the reader's side sends and answers as its autopilot does: settings, mission,
message rates, TIMESYNC, its logs by LOG_REQUEST_* and, with --ftp, by MAVLink FTP; it
streams the log of the flight by REMOTE_LOG_DATA_BLOCK (ardupilot) or LOGGING_DATA (px4).
It takes no order that moves it. With --arm-auth or --aux-auth it arms only when it may.

--gcs sends the commands of a ground station (component 190), to component 100 unless
another is named. --loss and --cut make the line a bad one, in both directions.

At the end it prints what it sent, and, if it heard or lost anything, one JSON object with
the counts on standard error; with --json all of it is one object on standard output.
Requests for logs while armed are log_requests_armed, attempts to change a setting are
param_sets.

The same stack, seed, duration and start give the same frames, as long as nobody speaks.`,
		Example: `  holdfast-bench vehicle --pty fc --duration 30s
  holdfast-bench vehicle --pty fc --stack px4 --camera --seed 7 --tlog sent.tlog
  holdfast-bench vehicle --pty fc --duration 40s --after 60s --loss 0.1 --cut 55s,5s --keep-logs logs
  holdfast-bench vehicle --pty fc --stack px4 --arm-auth --force-arm --sent-to-vehicle heard.tlog
  holdfast-bench vehicle --pty fc --gcs 12s,IMAGE_START_CAPTURE,100,0,2,5 --gcs 30s,REQUEST_MESSAGE,100,263,3
  holdfast-bench vehicle --pty fc --time-late 20s --clock-1970 --clock-jump 40s,-1h --reboot-at 50s`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runVehicle(c, f) },
	}
	f.addAll(c)
	return c
}

func runVehicle(c *cobra.Command, f *vehicleFlags) (err error) {
	o, err := f.options()
	if err != nil {
		return err
	}
	line, err := f.loss()
	if err != nil {
		return err
	}
	s := &sender{}
	t := &talk{sender: s, line: line}
	closeLogs, err := t.openLogs(f)
	defer func() { err = keep(err, closeLogs()) }()
	if err != nil {
		return err
	}
	total := int64(-1)
	if o.Duration > 0 {
		total = (o.Duration + o.After).Milliseconds()
	}
	s.bar = cli.NewBar(total, "waiting for a reader at "+f.pty, false)
	err = s.run(c, &f.lineFlags, func(ctx context.Context) error { return t.fly(ctx, o) })
	return keep(err, t.report(c.ErrOrStderr(), f))
}

// openLogs makes the files of --tlog and --sent-to-vehicle; what it returns flushes and
// closes those it made.
func (t *talk) openLogs(f *vehicleFlags) (closeAll func() error, err error) {
	closeAll = func() error { return nil }
	for _, l := range []struct {
		flag, name string
		to         **tlog.Writer
	}{{"--tlog", f.tlog, &t.sender.log}, {"--sent-to-vehicle", f.heard, &t.heard}} {
		if l.name == "" {
			continue
		}
		file, err := os.Create(l.name)
		if err != nil {
			return closeAll, fmt.Errorf("%w; choose another %s", err, l.flag)
		}
		w, before := tlog.NewWriter(file), closeAll
		*l.to = w
		closeAll = func() error { return keep(before(), w.Flush(), file.Close()) }
	}
	return closeAll, nil
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

// vehicleSummary is what was exchanged beyond the frames that were sent.
type vehicleSummary struct {
	LostFromVehicle uint64       `json:"lost_from_vehicle"` // frames the line lost
	LostToVehicle   uint64       `json:"lost_to_vehicle"`
	NoiseBytes      uint64       `json:"noise_bytes"` // from the reader's side, in no frame
	Logs            []logSummary `json:"logs"`        // of the autopilot, at the end
	vehicle.Counts
}

type logSummary struct {
	Path  string `json:"path"`
	Bytes int    `json:"bytes"`
}

// summarize takes the counts over at the end of the flight.
func (t *talk) summarize() {
	sum := &vehicleSummary{
		LostFromVehicle: t.line.Lost(vehicle.FromVehicle), LostToVehicle: t.line.Lost(vehicle.ToVehicle),
		NoiseBytes: t.noise, Counts: t.vehicle.Counts(),
	}
	for _, l := range t.vehicle.Logs() {
		sum.Logs = append(sum.Logs, logSummary{l.Path, len(l.Data)})
	}
	t.sender.sum.Vehicle = sum
}

// report prints the counts, where they are not in the summary and there is something to
// tell, and keeps the logs of the autopilot.
func (t *talk) report(w io.Writer, f *vehicleFlags) error {
	sum := t.sender.sum.Vehicle
	if sum == nil {
		return nil
	}
	if !f.json && (sum.Heard > 0 || sum.NoiseBytes > 0 || sum.LostFromVehicle > 0) {
		if err := json.NewEncoder(w).Encode(sum); err != nil {
			return err
		}
	}
	if f.keepLogs == "" {
		return nil
	}
	return keepLogs(f.keepLogs, t.vehicle.Logs())
}

// keepLogs writes each log to a file named after its path below the folder of logs.
func keepLogs(dir string, logs []vehicle.Log) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("%w; choose another --keep-logs", err)
	}
	for _, l := range logs {
		name := strings.TrimPrefix(strings.TrimPrefix(l.Path, "/APM/LOGS/"), "/fs/microsd/log/")
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "_")), l.Data, 0o644); err != nil {
			return fmt.Errorf("keep log: %w", err)
		}
	}
	return nil
}

func progressText(s vehicle.State) string {
	return fmt.Sprintf("%-9s %5.1f m %4.1f m/s %3.0f %%", s.Phase, s.Height, s.Speed, s.Battery*100)
}

// stampOf is the time of a tlog entry, microseconds since 1970.
func stampOf(o vehicle.Options, at time.Duration) uint64 { return uint64(o.Start.Add(at).UnixMicro()) }
