package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
)

const (
	// demoFlight is how long the vehicle of the demo flies.
	demoFlight = 30 * time.Second
	// demoAfter is how long it stays powered on the ground: ArduPilot writes its log for 15 s more,
	// and then it is pulled.
	demoAfter = 26 * time.Second
)

func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo -o DIR",
		Short: "The whole story in one command: keys, board, flight, vault, opened flight",
		Long: `demo makes an operator key and a recovery key, provisions a board folder, flies a simulated
vehicle for half a minute through a pseudo-terminal while holdfastd records it, films with a camera and
pulls the autopilot's log after landing; searches the vault for plaintext, verifies it without a key (and a copy with one byte changed, which must be found), opens it
with the operator's key and compares every frame, the log and the pictures. It needs holdfastd and holdfast beside it, and no
source tree.

It leaves DIR/vault (sealed), DIR/opened, DIR/operator.key, DIR/recovery.key, DIR/device.pub (the
device key to pin), the board's files, DIR/sent.tlog, which is what the vehicle sent, and
DIR/autopilot-logs, which is what the autopilot had on its card.

Exit status: 0 all that was sent was sealed and opened again, 1 not so, 130 interrupted.`,
		Args: cobra.NoArgs,
	}
	dir := cmd.Flags().StringP("output", "o", "", "folder, absent or empty")
	duration := cmd.Flags().Duration("duration", demoFlight, "how long the vehicle flies")
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d := &demo{dir: *dir, duration: *duration, out: cmd.OutOrStdout(), live: cli.IsTerminal(os.Stdout)}
		return d.run(cmd.Context())
	}
	return cmd
}

// demo is one run of the story.
type demo struct {
	dir      string
	duration time.Duration
	out      io.Writer
	live     bool
	tools    map[string]string
	result   demoResult
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) run(ctx context.Context) error {
	steps := []struct {
		title string
		do    func(context.Context) error
	}{
		{"Keys: an operator's and one for recovery; their secret halves stay off the board", d.keys},
		{"Board: a configuration and two public recipients, no secret", d.board},
		{"Flight: a simulated multirotor on a pseudo-UART and a camera; holdfastd records, and pulls the autopilot's log after landing", d.fly},
		{"Vault: searching every byte of it for what was flown", d.search},
		{"Verify: without any key; then a copy in which one byte was changed", d.verify},
		{"Open: on the laptop, with the operator's key", d.open},
		{"Compare: every frame that was sent with every frame that was opened", d.compare},
		{"Beside telemetry: the autopilot's log and parameters, photos and video", d.beside},
	}
	if err := d.prepare(); err != nil {
		return err
	}
	for i, s := range steps {
		d.say("\n%d. %s", i+1, s.title)
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	return d.report()
}

// prepare finds the other programs and makes the folder.
func (d *demo) prepare() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	d.tools = map[string]string{"holdfast-bench": self}
	for _, name := range []string{"holdfastd", "holdfast"} {
		p := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("%s is not beside %s; build all programs with `make build`", name, filepath.Base(self))
		}
		d.tools[name] = p
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: not a folder that can be read; give one that is absent or empty", d.dir)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty; give a folder that is absent or empty", d.dir)
	}
	return os.MkdirAll(d.dir, 0o700)
}

// tool runs one of the programs as a user would, shows its command line, and returns what it
// printed on standard output.
func (d *demo) tool(ctx context.Context, name string, args ...string) (string, error) {
	d.say("   $ %s %s", name, d.short(args))
	cmd := exec.CommandContext(ctx, d.tools[name], args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// short is a command line with the folder's path left out and long values cut.
func (d *demo) short(args []string) string {
	var all []string
	for _, a := range args {
		if rel, err := filepath.Rel(d.dir, a); err == nil && filepath.IsAbs(a) && filepath.IsLocal(rel) {
			a = rel
		}
		if len(a) > 24 {
			a = a[:20] + "..."
		}
		all = append(all, a)
	}
	return strings.Join(all, " ")
}

func (d *demo) keys(ctx context.Context) error {
	for _, name := range []string{"operator", "recovery"} {
		recipient, err := d.tool(ctx, "holdfast", "keygen", "-o", d.path(name+".key"))
		if err != nil {
			return err
		}
		d.result.recipients = append(d.result.recipients, recipient)
	}
	return nil
}

func (d *demo) board(ctx context.Context) error {
	r := d.result.recipients
	_, err := d.tool(ctx, "holdfast", "provision", "--board", "auto", "--bench", "--recipient", r[0], "--recipient", r[1],
		"--uart", d.path("fc"), "-o", d.dir)
	if err != nil {
		return err
	}
	if _, err = d.tool(ctx, "holdfast", "keytest", "-i", d.path("operator.key"), d.dir); err != nil {
		return err
	}
	return d.film()
}

// fly runs the vehicle and the recorder beside each other until all that was sent is sealed.
func (d *demo) fly(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	board, err := d.start(ctx, "holdfastd", "run", "--config", d.path("holdfast.toml"))
	if err != nil {
		return err
	}
	vehicle, err := d.start(ctx, "holdfast-bench", "vehicle", "--pty", d.path("fc"), "--duration", d.duration.String(),
		"--after", demoAfter.String(), "--old-logs", "-1", "--keep-logs", d.path("autopilot-logs"), "--gcs", d.shutter(), "--tlog", d.path("sent.tlog"), "--json")
	if err != nil {
		return err
	}
	if err := d.watch(ctx, board, vehicle); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(vehicle.out.String()), &d.result.sent); err != nil {
		return fmt.Errorf("vehicle: %w", err)
	}
	if err := d.waitSealed(ctx, board); err != nil {
		return err
	}
	if err := board.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := <-board.ended; err != nil {
		return fmt.Errorf("holdfastd: %w: %s", err, lastLine(board.errs.String()))
	}
	return nil
}

// shutter is the ground station's command for a photo, in the middle of the flight.
func (d *demo) shutter() string { return (d.duration / 2).String() + ",IMAGE_START_CAPTURE,100,0,0,1" }

// process is a program that runs beside the demo.
type process struct {
	cmd       *exec.Cmd
	out, errs *strings.Builder
	ended     chan error
}

func (d *demo) start(ctx context.Context, name string, args ...string) (*process, error) {
	d.say("   $ %s %s &", name, d.short(args))
	p := &process{cmd: exec.CommandContext(ctx, d.tools[name], args...), out: &strings.Builder{}, errs: &strings.Builder{}, ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.errs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	return p, nil
}

// health is what the demo reads of status.json.
type health struct {
	State     string `json:"state"`
	Armed     bool   `json:"armed"`
	Record    string `json:"record"`
	Frames    int64  `json:"frames"`
	LastError string `json:"last_error"`
}

func (d *demo) health() (h health) {
	data, err := os.ReadFile(d.path("status.json"))
	if err == nil {
		_ = json.Unmarshal(data, &h) // replaced by rename: never half a file
	}
	return h
}

// watch shows progress until the vehicle has landed.
func (d *demo) watch(ctx context.Context, board, vehicle *process) error {
	began := time.Now()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	shown := ""
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-vehicle.ended:
			d.clear()
			if err != nil {
				return fmt.Errorf("vehicle: %w: %s", err, lastLine(vehicle.errs.String()))
			}
			return nil
		case err := <-board.ended:
			d.clear()
			return fmt.Errorf("holdfastd ended early: %w: %s", errors.Join(err), lastLine(board.errs.String()))
		case <-t.C:
			shown = d.progress(time.Since(began), shown)
		}
	}
}

// progress draws one line over the last on a terminal; elsewhere it prints a line when the
// state changes.
func (d *demo) progress(since time.Duration, shown string) string {
	h := d.health()
	armed := "disarmed"
	if h.Armed {
		armed = "armed"
	}
	state := fmt.Sprintf("%-9s %-9s %s", h.State, armed, h.Record)
	if d.live {
		done := min(int(20*since/(d.duration+demoAfter)), 20)
		fmt.Fprintf(d.out, "\r   [%s%s] %3ds  %s  %d frames sealed\x1b[K", strings.Repeat("#", done), strings.Repeat(".", 20-done),
			int(since.Seconds()), state, h.Frames)
	} else if state != shown {
		d.say("   %3ds  %s", int(since.Seconds()), state)
	}
	return state
}

func (d *demo) clear() {
	if d.live {
		fmt.Fprint(d.out, "\r\x1b[K")
	}
}

// waitSealed waits until the recorder has counted every frame that was sent.
func (d *demo) waitSealed(ctx context.Context, board *process) error {
	const most = 10 * time.Second
	deadline := time.After(most)
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for d.health().Frames < d.result.sent.Frames {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-board.ended:
			return fmt.Errorf("holdfastd ended early: %w: %s", errors.Join(err), lastLine(board.errs.String()))
		case <-deadline:
			return fmt.Errorf("after %s holdfastd has %d of %d frames", most, d.health().Frames, d.result.sent.Frames)
		case <-t.C:
		}
	}
	d.result.sealed = d.health().Frames
	return nil
}

func (d *demo) open(ctx context.Context) error {
	_, err := d.tool(ctx, "holdfast", "open", d.path("vault"), "-i", d.path("operator.key"), "-o", d.path("opened"))
	return err
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
