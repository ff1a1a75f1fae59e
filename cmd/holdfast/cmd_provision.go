package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/boards"
	"holdfast/cmd/internal/cli"
	"holdfast/crypto/keys"
	"holdfast/firmware/config"
)

// Names of the files in a provision folder.
const (
	configName     = "holdfast.toml"
	recipientsName = "recipients.txt"
)

type provisionOptions struct {
	board, recipientsFile, uart, out, signWith string
	recipients, signers                        []string
	baud                                       int
	bench, singleKey                           bool
}

func provisionCommand() *cobra.Command {
	var o provisionOptions
	c := &cobra.Command{
		Use:   "provision --board NAME|auto --recipient R... -o DIR",
		Short: "Write the configuration and the recipients of a board",
		Long: `provision writes DIR/holdfast.toml and DIR/recipients.txt for one board. No secret is in
them. It never overwrites either file.

Two recipients are wanted, so that the loss of one key does not lose the flights: the
operator's and one for recovery. --single-key does without. "R1 + R2" as one recipient is
the two-person rule: both keys are needed.

EXIT STATUS
  0 done; 1 a recipient or a recipients file is at fault, or a file exists; 2 wrong usage`,
		Example: `  holdfast provision --board rpi4 --recipient age1pq1... --recipient age1pq1... -o board
  holdfast provision --board auto --bench --uart tcp:127.0.0.1:5760 --recipients-file team.txt -o sitl`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.OutOrStdout(), c.ErrOrStderr()) },
	}
	f := c.Flags()
	f.StringVar(&o.board, "board", "", `a name that "holdfast boards" lists, or auto: the board finds out (required)`)
	f.StringArrayVar(&o.recipients, "recipient", nil, `who can open the flights; may be repeated; "R1 + R2": both are needed`)
	f.StringVar(&o.recipientsFile, "recipients-file", "", "file with one recipient a line")
	f.StringVar(&o.uart, "uart", "", "device of the autopilot (default: that of the board)")
	f.IntVar(&o.baud, "baud", config.DefaultBaud, "rate of the UART, bit/s")
	f.BoolVar(&o.bench, "bench", false, "for the bench: nothing is locked; tcp:, udp: and file: devices are allowed")
	f.BoolVar(&o.singleKey, "single-key", false, "go without a second recipient for recovery")
	f.StringVarP(&o.out, "output", "o", "", "folder to write into (required)")
	f.StringArrayVar(&o.signers, "signer", nil, "who may sign configurations (arrives in a later release)")
	f.StringVar(&o.signWith, "sign-with", "", "sign the configuration (arrives in a later release)")
	return c
}

// check holds the rules about flags; no file is touched before it passes.
func (o provisionOptions) check() error {
	switch {
	case len(o.signers) > 0:
		return cli.Exit(cli.Usage, "--signer arrives in a later release")
	case o.signWith != "":
		return cli.Exit(cli.Usage, "--sign-with arrives in a later release")
	case o.board == "":
		return cli.Exit(cli.Usage, `--board NAME is needed: a name that "holdfast boards" lists, or auto`)
	case o.out == "":
		return cli.Exit(cli.Usage, "-o DIR is needed: where the files go")
	case len(o.recipients) == 0 && o.recipientsFile == "":
		return cli.Exit(cli.Usage, "--recipient or --recipients-file is needed: without a recipient nobody could open a flight")
	}
	return nil
}

func (o provisionOptions) run(stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	c, board, err := o.config()
	if err != nil {
		return err
	}
	r, err := o.parseRecipients()
	if err != nil {
		return err
	}
	if r.Count() < 2 && !o.singleKey {
		return cli.Exit(cli.Usage, "one recipient only: if that key is lost, every flight is lost; add a second --recipient for recovery, or say --single-key")
	}
	if r.Mixed() {
		fmt.Fprintln(stderr, "holdfast: warning: classical and post-quantum recipients are mixed: the classical ones end the protection against quantum computers")
	}
	if r.Bypassed() {
		fmt.Fprintln(stderr, "holdfast: warning: a recipient on a line of its own opens alone what a line R1 + R2 wants two people for")
	}
	if err := writeProvision(o.out, c, r); err != nil {
		return err
	}
	return printNext(stdout, o, board, r)
}

// config builds the configuration. What is wrong with it came from a flag.
func (o provisionOptions) config() (*config.Config, boards.Board, error) {
	board, known := boards.ByName(o.board)
	if !known && o.board != config.ProfileAuto {
		return nil, board, cli.Exit(cli.Usage, `--board: %q is unknown%s; "holdfast boards" lists the names`, o.board, didYouMean(o.board, boardNames()))
	}
	link := config.DefaultLink()
	if known {
		link.Device = board.DefaultDevice
	}
	if o.uart != "" {
		link.Device = o.uart
	}
	link.Baud = o.baud
	c := config.Default()
	c.Board.Profile = o.board
	c.Link = []config.Link{link}
	if o.bench {
		c.Lock.Mode = config.ModeBench
	}
	return c, board, o.flagError(c.Validate())
}

// flagError names the flag that a refused value came from.
func (o provisionOptions) flagError(err error) error {
	var ce *config.Error
	if !errors.As(err, &ce) {
		return err
	}
	scheme, _, _ := strings.Cut(o.uart, ":")
	switch {
	case ce.Key == "link.baud":
		return cli.Exit(cli.Usage, "--baud: %s", ce.Reason)
	case ce.Key == "link.device" && !o.bench && slices.Contains([]string{"tcp", "udp", "file"}, scheme):
		return cli.Exit(cli.Usage, "--uart: %s: is for the bench only; add --bench", scheme)
	case ce.Key == "link.device":
		return cli.Exit(cli.Usage, "--uart: %s", ce.Reason)
	}
	return cli.Exit(cli.Usage, "%w", err)
}

func boardNames() []string {
	names := []string{config.ProfileAuto}
	for _, b := range boards.All() {
		names = append(names, b.Name)
	}
	return names
}

func didYouMean(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// parseRecipients checks each source on its own first, so that an error tells which it was.
// No error repeats a recipient: what was given could be a secret by mistake.
func (o provisionOptions) parseRecipients() (*keys.Recipients, error) {
	var all []string
	for i, text := range o.recipients {
		if strings.ContainsAny(text, "\r\n") {
			return nil, fmt.Errorf("--recipient (number %d): more than one line; give each recipient a --recipient of its own", i+1)
		}
		r, err := keys.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, keyHint(fmt.Errorf("--recipient (number %d): %w", i+1, withoutLine(err)))
		}
		all = append(all, r.Strings()...)
	}
	if o.recipientsFile != "" {
		r, err := readRecipients(o.recipientsFile)
		if err != nil {
			return nil, err
		}
		all = append(all, r.Strings()...)
	}
	r, err := keys.ParseRecipients(strings.NewReader(strings.Join(all, "\n")))
	if err != nil {
		return nil, keyHint(err)
	}
	return r, nil
}

// withoutLine drops "line 1": a flag has no lines.
func withoutLine(err error) error {
	var le *keys.LineError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}

func readRecipients(path string) (*keys.Recipients, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := keys.ParseRecipients(f)
	if err != nil {
		return nil, keyHint(fmt.Errorf("%s: %w", path, err))
	}
	return r, nil
}

const recipientsHeader = `# Who can open what this board records. One recipient a line, each is enough;
# "R1 + R2" on one line: both are needed. No secret belongs here.
`

// writeProvision writes both files or neither.
func writeProvision(dir string, c *config.Config, r *keys.Recipients) error {
	text, err := config.Marshal(c)
	if err != nil {
		return err
	}
	files := []struct {
		path string
		text []byte
	}{
		{filepath.Join(dir, recipientsName), []byte(recipientsHeader + strings.Join(r.Strings(), "\n") + "\n")},
		{filepath.Join(dir, configName), text},
	}
	for _, f := range files {
		if exists(f.path) {
			return fmt.Errorf("%s exists and is left as it is: choose another folder, or remove it first", f.path)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i, f := range files {
		err := writeNew(f.path, 0o644, func(w io.Writer) error { _, err := w.Write(f.text); return err })
		if err != nil {
			for _, done := range files[:i] {
				err = errors.Join(err, os.Remove(done.path))
			}
			return err
		}
	}
	return nil
}

func printNext(w io.Writer, o provisionOptions, board boards.Board, r *keys.Recipients) error {
	var b strings.Builder
	ways := "1 recipient"
	if n := r.Count(); n != 1 {
		ways = fmt.Sprintf("%d recipients", n)
	}
	fmt.Fprintf(&b, "wrote %s and %s (%s)\n", filepath.Join(o.out, configName), filepath.Join(o.out, recipientsName), ways)
	fmt.Fprintf(&b, "next:\n  holdfast keytest -i FILE %s     for each key: proves that it opens what this board seals\n", o.out)
	if len(board.UARTs) > 0 && o.uart == "" {
		u := board.UARTs[0]
		fmt.Fprintf(&b, "  wire the autopilot to %s\n", u.Pins)
		for _, line := range u.BootConfig {
			fmt.Fprintf(&b, "  boot configuration of the board: %s\n", line)
		}
	}
	if o.bench {
		fmt.Fprintf(&b, "  holdfastd run --config %s\n", filepath.Join(o.out, configName))
	} else {
		fmt.Fprintf(&b, "  copy %s to the board and run there: holdfastd check --config %s\n", o.out, configName)
		b.WriteString("  locking arrives in a later release: until then holdfastd records with --bench folders only\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
