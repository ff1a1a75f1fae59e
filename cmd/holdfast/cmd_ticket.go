package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/firmware/evidence"
)

// defaultValid is how long a ticket may wait for its use where nothing else is said.
const defaultValid = time.Hour

// maxSignerFile bounds a signing key's file, in bytes. A real one has a line.
const maxSignerFile = 4 << 10

type ticketOptions struct {
	device, state, signWith, out string
	interfaces                   []string
	span, valid, untilUptime     time.Duration
	untilBoot                    int64
	json                         bool
}

func ticketCommand() *cobra.Command {
	var o ticketOptions
	c := &cobra.Command{
		Use:   "ticket --interfaces NAME... --span D --state FILE --sign-with FILE -o FILE",
		Short: "Sign a ticket that opens a board's network lock for a while",
		Long: `ticket writes a signed statement (docs/format/statements.md) that lets the named network
interfaces of one board up for a while. It is the only way to open a locked board. It holds for
one use on one board, and for this start of its recorder: after a restart it is void.

The board has no calendar: it counts the starts of its recorder, and microseconds since the kernel
started. --state takes board, start and time from a copy of state.json, which the board keeps in
recorder/ below its run folder (/run/holdfast); the ticket can then be used within --valid of that
moment. By hand the same is --device, --until-boot (the start, "boot_count") and --until-uptime
(the time since the kernel started, as uptime shows it, until which it can be used).

Put FILE on the board under the name that lock.ticket in holdfast.toml says. Recording stops
first, and not before the vehicle is disarmed; opening and closing stand in the public log. Take
the file away to close the lock before its time.

EXIT STATUS
  0 done; 1 FILE exists, or a key, a state or a value is at fault; 2 wrong usage`,
		Example: `  holdfast ticket --interfaces eth0 --span 30m --state state.json --sign-with signing.key -o ticket
  holdfast ticket --interfaces eth0,usb0 --span 1h --device 0a1b2c3d --until-boot 42 --until-uptime 5h --sign-with signing.key -o ticket`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.OutOrStdout(), c.ErrOrStderr()) },
	}
	f := c.Flags()
	f.StringSliceVar(&o.interfaces, "interfaces", nil, "`NAME`s of the interfaces that may be up, with commas or repeated (required)")
	f.DurationVar(&o.span, "span", 0, "how long, from when the board takes the ticket, at most 24h (required)")
	f.StringVar(&o.state, "state", "", "copy of the board's state.json: gives board, start and time")
	f.DurationVar(&o.valid, "valid", defaultValid, "with --state: how long the ticket may wait for its use")
	f.StringVar(&o.device, "device", "", "the board's 8 hex digits, the name of its folder in the vault")
	f.Int64Var(&o.untilBoot, "until-boot", 0, "start of the recorder that it is for")
	f.DurationVar(&o.untilUptime, "until-uptime", 0, "time since the kernel's start until which it can be used")
	f.StringVar(&o.signWith, "sign-with", "", "`FILE` of an operator's signing key: holdfast keygen --signer (required)")
	f.StringVarP(&o.out, "output", "o", "", "file of the ticket (required)")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	c.PreRunE = func(c *cobra.Command, _ []string) error { return o.check(c.Flags().Changed("valid")) }
	return c
}

// check holds the rules about flags; no file is touched before it passes.
func (o *ticketOptions) check(valid bool) error {
	byHand := o.device != "" || o.untilBoot != 0 || o.untilUptime != 0
	switch {
	case len(o.interfaces) == 0:
		return cli.Exit(cli.Usage, "--interfaces NAME is needed: which interfaces may be up")
	case o.span <= 0 || o.span > custody.MaxSpanUsec*time.Microsecond:
		return cli.Exit(cli.Usage, "--span is needed: how long, such as 30m, at most 24h")
	case o.signWith == "":
		return cli.Exit(cli.Usage, "--sign-with FILE is needed: a signing key from holdfast keygen --signer")
	case o.out == "" || o.out == "-":
		return cli.Exit(cli.Usage, "-o FILE is needed: where the ticket goes")
	case o.state != "" && byHand:
		return cli.Exit(cli.Usage, "--state goes with none of --device, --until-boot and --until-uptime: it says all three")
	case o.state == "" && (o.device == "" || o.untilBoot < 1 || o.untilUptime <= 0):
		return cli.Exit(cli.Usage, "for which board and until when? give --state FILE, or --device, --until-boot and --until-uptime")
	case o.state == "" && valid:
		return cli.Exit(cli.Usage, "--valid goes with --state: by hand --until-uptime says it")
	case o.valid <= 0:
		return cli.Exit(cli.Usage, "--valid must be more than nothing, such as 1h")
	}
	return nil
}

// ticketMade is what ticket prints.
type ticketMade struct {
	Number     string   `json:"number"`
	Device     string   `json:"device"`
	Interfaces []string `json:"interfaces"`
	SpanUsec   int64    `json:"span_usec"`
	UntilBoot  int64    `json:"until_boot"`
	UntilUsec  int64    `json:"until_usec"`
	Signer     string   `json:"signer"`
	File       string   `json:"file"`
}

func (o *ticketOptions) run(stdout, stderr io.Writer) error {
	s, err := o.statement(stderr)
	if err != nil {
		return err
	}
	msg, signer, err := o.sign(s)
	if err != nil {
		return err
	}
	err = writeNew(o.out, 0o600, func(w io.Writer) error {
		_, err := w.Write(msg)
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is left as it is: choose another name", o.out)
	}
	if err != nil {
		return err
	}
	k := s.Order.(*custody.Ticket)
	made := ticketMade{s.Number.String(), s.Device, k.Interfaces, k.SpanUsec, s.Until.Boot, s.Until.Usec, signer, o.out}
	if o.json {
		return cli.PrintJSON(stdout, made)
	}
	_, err = fmt.Fprintf(stdout, "ticket %s\nboard %s, %s up for %v\nto be used while its recorder is in start %d and before it is up for %v\n",
		made.Number, made.Device, strings.Join(made.Interfaces, " "), o.span, made.UntilBoot, (time.Duration(made.UntilUsec) * time.Microsecond).Round(time.Second))
	return err
}

// statement is the ticket before it is signed.
func (o *ticketOptions) statement(stderr io.Writer) (*custody.Statement, error) {
	n, err := custody.NewNumber(rand.Reader)
	if err != nil {
		return nil, err
	}
	names := slices.Clone(o.interfaces)
	slices.Sort(names)
	s := &custody.Statement{Device: o.device, Number: n, Until: custody.Until{Boot: o.untilBoot, Usec: o.untilUptime.Microseconds()},
		Order: &custody.Ticket{Interfaces: slices.Compact(names), SpanUsec: o.span.Microseconds()}}
	if o.state == "" {
		return s, nil
	}
	r, err := readState(o.state)
	if err != nil {
		return nil, err
	}
	if r.Armed {
		fmt.Fprintf(stderr, "holdfast: the board was armed when %s was written; it takes the ticket when it is disarmed\n", o.state)
	}
	s.Device, s.Until = r.Device, custody.Until{Boot: r.BootCount, Usec: r.Usec + o.valid.Microseconds()}
	return s, nil
}

// readState reads a copy of the board's state.json.
func readState(name string) (*evidence.Recorder, error) {
	p, err := readSmall(name, evidence.MaxFile)
	if err != nil {
		return nil, err
	}
	r, err := evidence.ParseRecorder(p)
	if err != nil {
		return nil, fmt.Errorf("%s is no state.json of a board: copy recorder/state.json of its run folder", name)
	}
	if r.BootCount < 1 || r.Usec < 1 || r.Device == "" {
		return nil, fmt.Errorf("%s names no board or start: its recorder had not opened the vault yet, copy it again", name)
	}
	return r, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(p)) > limit {
		err = fmt.Errorf("%s is too large", name)
	}
	return p, err
}

// sign signs with the operator's key.
func (o *ticketOptions) sign(s *custody.Statement) (msg []byte, name string, err error) {
	p, err := readSmall(o.signWith, maxSignerFile)
	if err != nil {
		return nil, "", err
	}
	k, err := keys.ParseOperatorKey(p)
	if err != nil {
		return nil, "", fmt.Errorf("%s holds no operator's signing key: make one with holdfast keygen --signer", o.signWith)
	}
	signer, err := k.Signer()
	if err != nil {
		return nil, "", err
	}
	msg, err = s.Sign(signer)
	if errors.Is(err, custody.ErrStatement) {
		return nil, "", fmt.Errorf("%w; a board is 8 hex digits (0a1b2c3d), interfaces are 1 to 16 names like eth0", err)
	}
	return msg, signer.Name(), err
}
