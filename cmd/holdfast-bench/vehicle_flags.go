package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/mavlink/vehicle"
)

// vehicleFlags are what vehicle takes. Texts are parsed by options and loss.
type vehicleFlags struct {
	lineFlags
	stack, start, tlog string
	camera             bool
	flight             vehicle.Options // what flags set directly

	heard, logFile, keepLogs string
	jumps, orders            []string
	triggers                 []time.Duration

	line  vehicle.Loss
	kinds string
	cuts  []string
}

func (f *vehicleFlags) addAll(c *cobra.Command) {
	f.add(c)
	o, s := &f.flight, c.Flags()
	s.StringVar(&f.stack, "stack", "ardupilot", "autopilot to behave like: ardupilot or px4")
	s.DurationVar(&o.Duration, "duration", 0, "length from power-on to the end, like 90s; 0 flies until stopped or the battery is low")
	s.DurationVar(&o.After, "after", 0, "stay powered this much longer, on the ground")
	s.Uint64Var(&o.Seed, "seed", 1, "picks place, wind, grid and noise")
	s.BoolVar(&f.camera, "camera", false, "add a camera and a gimbal component")
	s.StringVar(&f.start, "start", "", "UTC of power-on, like 2026-05-01T09:00:00Z (default now)")
	s.StringVar(&f.tlog, "tlog", "", "write what was sent to this .tlog file too")
	s.StringVar(&f.heard, "sent-to-vehicle", "", "write every frame that came from the reader's side to this .tlog file")

	s.IntVar(&o.OldLogs, "old-logs", 2, "logs of earlier flights in the autopilot; -1 is none")
	s.IntVar(&o.LogSize, "log-size", 256<<10, "bytes of each of them, about")
	s.BoolVar(&o.EmptyLog, "empty-log", false, "one more log, of size 0")
	s.IntVar(&o.LogRate, "log-rate", 8000, "bytes a second by which the log of this flight grows while armed")
	s.StringVar(&f.logFile, "log-file", "", "serve this file as the log of this flight")
	s.StringVar(&f.keepLogs, "keep-logs", "", "at the end write all logs of the autopilot to this folder")
	s.BoolVar(&o.FTP, "ftp", false, "serve the logs by MAVLink FTP too")
	s.BoolVar(&o.Malformed, "malformed", false, "mix bad replies into transfers of logs")

	s.BoolVar(&o.ArmAuth, "arm-auth", false, "px4: ask for authorisation before arming")
	s.Uint8Var(&o.ArmAuthSystem, "arm-auth-system", 0, "the system to ask (default its own)")
	s.BoolVar(&o.AuxAuth, "aux-auth", false, "ardupilot: arm only while component 191 says it is well")
	s.BoolVar(&o.Force, "force-arm", false, "arm against the answer")

	s.DurationVar(&o.TimeLate, "time-late", 0, "SYSTEM_TIME knows no UTC until then")
	s.BoolVar(&o.Clock1970, "clock-1970", false, "meanwhile it counts from 1970 on")
	s.StringArrayVar(&f.jumps, "clock-jump", nil, "UTC jumps: AT,BY, like 20s,-1h; may be repeated")
	s.DurationVar(&o.RebootAt, "reboot-at", 0, "the autopilot restarts then, also in the air")
	s.StringArrayVar(&f.orders, "gcs", nil, "a ground station's command: AT,COMMAND[,COMPONENT[,PARAMETER...]]; may be repeated")
	s.DurationSliceVar(&f.triggers, "trigger", nil, "the autopilot sends CAMERA_TRIGGER then; may be repeated")

	s.Float64Var(&f.line.Probability, "loss", 0, "part of the frames that is lost, in each direction, 0 to 1")
	s.Uint64Var(&f.line.Seed, "loss-seed", 1, "picks which")
	s.StringVar(&f.kinds, "loss-kinds", "all", "what may be lost: all, or log for transfers of logs only")
	s.StringArrayVar(&f.cuts, "cut", nil, "nothing passes: FROM,LENGTH, like 40s,5s; may be repeated")
}

// options checks the flags that describe the flight; New judges the rest.
func (f *vehicleFlags) options() (vehicle.Options, error) {
	o := f.flight
	o.Camera = f.camera
	var err error
	if o.Stack, err = vehicle.ParseStack(f.stack); err != nil {
		return o, cli.Exit(cli.Usage, "%w; --stack takes ardupilot or px4", err)
	}
	if f.start != "" {
		if o.Start, err = time.Parse(time.RFC3339, f.start); err != nil {
			return o, cli.Exit(cli.Usage, "--start %q is no time; write it like 2026-05-01T09:00:00Z", f.start)
		}
	}
	for _, text := range f.jumps {
		at, by, err := twoTimes(text)
		if err != nil {
			return o, cli.Exit(cli.Usage, "--clock-jump %q: %w; write it like 20s,-1h", text, err)
		}
		o.Jumps = append(o.Jumps, vehicle.Jump{At: at, By: by})
	}
	if err := f.script(&o); err != nil {
		return o, err
	}
	if _, err = vehicle.New(o); err != nil {
		return o, cli.Exit(cli.Usage, "%w; see holdfast-bench vehicle --help", err)
	}
	return o, f.readLogFile(&o)
}

// script puts the frames of others together.
func (f *vehicleFlags) script(o *vehicle.Options) error {
	for _, text := range f.orders {
		s, err := parseOrder(text)
		if err != nil {
			return cli.Exit(cli.Usage, "--gcs %q: %w; write it like 12s,IMAGE_START_CAPTURE,100,0,2,5", text, err)
		}
		o.Script = append(o.Script, s)
	}
	for i, at := range f.triggers {
		m := &common.MessageCameraTrigger{TimeUsec: uint64(at.Microseconds()), Seq: uint32(i + 1)}
		o.Script = append(o.Script, vehicle.Scripted{At: at, From: 1, Msg: m})
	}
	return nil
}

func (f *vehicleFlags) readLogFile(o *vehicle.Options) (err error) {
	if f.logFile == "" {
		return nil
	}
	if o.LogFile, err = os.ReadFile(f.logFile); err != nil {
		return fmt.Errorf("%w; choose another --log-file", err)
	}
	return nil
}

// loss makes the line of the flags.
func (f *vehicleFlags) loss() (*vehicle.Lossy, error) {
	l := f.line
	var err error
	if l.Kinds, err = vehicle.ParseLossKinds(f.kinds); err != nil {
		return nil, cli.Exit(cli.Usage, "%w; --loss-kinds takes all or log", err)
	}
	for _, text := range f.cuts {
		from, length, err := twoTimes(text)
		if err != nil {
			return nil, cli.Exit(cli.Usage, "--cut %q: %w; write it like 40s,5s", text, err)
		}
		l.Cuts = append(l.Cuts, vehicle.Cut{From: from, Length: length})
	}
	line, err := vehicle.NewLossy(l)
	if err != nil {
		return nil, cli.Exit(cli.Usage, "%w; see --loss and --cut", err)
	}
	return line, nil
}

// twoTimes parses two durations with a comma between them.
func twoTimes(text string) (a, b time.Duration, err error) {
	first, second, _ := strings.Cut(text, ",")
	if a, err = time.ParseDuration(first); err != nil {
		return 0, 0, err
	}
	b, err = time.ParseDuration(second)
	return a, b, err
}

// parseOrder parses AT,COMMAND[,COMPONENT[,PARAMETER...]]. The command is a name of
// MAV_CMD, with or without the prefix, or its number; the component is 100 unless given.
func parseOrder(text string) (vehicle.Scripted, error) {
	none := vehicle.Scripted{}
	words := strings.Split(text, ",")
	if len(words) < 2 || len(words) > 10 {
		return none, fmt.Errorf("%d parts", len(words))
	}
	at, err := time.ParseDuration(words[0])
	if err != nil {
		return none, err
	}
	cmd, err := parseCommand(words[1])
	if err != nil {
		return none, err
	}
	component := uint64(100)
	if len(words) > 2 {
		if component, err = strconv.ParseUint(words[2], 10, 8); err != nil {
			return none, fmt.Errorf("component %q", words[2])
		}
	}
	var params []float32
	for _, word := range words[min(len(words), 3):] {
		p, err := strconv.ParseFloat(word, 32)
		if err != nil {
			return none, fmt.Errorf("parameter %q", word)
		}
		params = append(params, float32(p))
	}
	return vehicle.Command(at, uint8(component), cmd, params...), nil
}

func parseCommand(word string) (common.MAV_CMD, error) {
	if n, err := strconv.ParseUint(word, 10, 16); err == nil {
		return common.MAV_CMD(n), nil
	}
	var cmd common.MAV_CMD
	name := "MAV_CMD_" + strings.TrimPrefix(strings.ToUpper(word), "MAV_CMD_")
	if err := cmd.UnmarshalText([]byte(name)); err != nil {
		return 0, fmt.Errorf("command %q", word)
	}
	return cmd, nil
}
