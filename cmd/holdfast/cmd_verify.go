package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/cli"
	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/storage/vault"
)

type verifyOptions struct {
	deviceKey, head string
	json            bool
}

func verifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify DIR [--device-key FILE] [--head FILE]",
		Short: "Check the custody of a vault without a decryption key",
		Long: `verify checks the signed log in DIR, and each file by it: whether records are whole,
unaltered, complete and from this board. It needs no identity and opens nothing. DIR is a
vault, one device's folder (a copy may have any name), or an archive.

Without --device-key the folder is checked against itself, and anybody could have made it as
a whole: note device.pub when the board is set up. Without --head a rollback of the whole
folder does not show: keep the head that verify names, and give it the next time.
What cannot be known is printed each time.

EXIT STATUS
  0 whole and signed; 1 DIR is no vault, or a file given is none; 2 wrong usage; 3 cut or
  damaged; 4 tampered, missing or unsigned; 6 no record there`,
		Example: "  holdfast verify vault\n  holdfast verify --device-key noted.pub --head last.cp vault",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return o.run(c.Context(), c.OutOrStdout(), args[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.deviceKey, "device-key", "", "a copy of LOG/device.pub that was noted before, `FILE`")
	f.StringVar(&o.head, "head", "", "a copy of LOG/cp.A or cp.B that was kept, `FILE`")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

func (o verifyOptions) run(ctx context.Context, stdout io.Writer, dir string) error {
	src, err := findDevices(dir)
	if err != nil {
		return err
	}
	known, err := o.outside(src)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(stdout)
	var p verifyPrinter = &verifyTable{w: out, dir: dir}
	if o.json {
		p = &verifyJSON{w: out}
	}
	bar := cli.NewBar(src.size(), "verifying", true)
	var all []*custody.Report
	for _, d := range src.devices {
		opt := known
		opt.Each = p.record
		opt.Progress = func(n int64) { bar.Add(n, func() string { return "verifying" }) }
		opt.Stop = ctx.Err
		r, err := src.verify(d, opt)
		if err != nil {
			bar.Finish()
			return err
		}
		p.device(d, r)
		all = append(all, r)
	}
	bar.Finish()
	p.end(all)
	if err := out.Flush(); err != nil {
		return err
	}
	return verdict(dir, all)
}

// outside reads what is known from elsewhere. It fits one device only.
func (o verifyOptions) outside(src *source) (known custody.Options, err error) {
	id := ""
	if o.deviceKey != "" {
		if known.DeviceKey, id, err = readDeviceKey(o.deviceKey); err != nil {
			return known, err
		}
		if err := src.only(id, "--device-key "+o.deviceKey); err != nil {
			return known, err
		}
	}
	if o.head != "" {
		var c *custody.Checkpoint
		if known.Head, c, err = readHead(o.head); err != nil {
			return known, err
		}
		if err := src.only(c.Device, "--head "+o.head); err != nil {
			return known, err
		}
		if d := src.devices[0]; id != "" && id != c.Device || id == "" && d.ID != c.Device {
			return known, fmt.Errorf("--head %s is of device %s, and %s is of another; give the head that was kept of this one", o.head, c.Device, src.dir)
		}
	}
	return known, nil
}

// readLimited reads a small file that somebody names.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, err
}

func readDeviceKey(path string) (line, id string, err error) {
	const longest = 4096
	data, err := readLimited(path, longest)
	if err == nil {
		line = strings.TrimSpace(string(data))
		id, err = keys.DeviceIDOf(line)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("--device-key %s is no device key; give a copy of LOG/device.pub, one line that begins with holdfast-<device>+", path)
	}
	return line, id, err
}

func readHead(path string) ([]byte, *custody.Checkpoint, error) {
	data, err := readLimited(path, custody.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	c, perr := custody.ParseCheckpoint(data)
	if err != nil || perr != nil {
		return nil, nil, fmt.Errorf("--head %s is no checkpoint; give an unchanged copy of LOG/cp.A or LOG/cp.B", path)
	}
	return data, c, nil
}

// only wants one device where something is given that fits one, which is of the device id.
func (s *source) only(id, what string) error {
	if len(s.devices) == 1 {
		return nil
	}
	var ids []string
	hint := "none of them"
	for _, d := range s.devices {
		ids = append(ids, d.Dir)
		if d.ID == id {
			hint = filepath.Join(s.dir, d.Dir)
		}
	}
	return fmt.Errorf("%s holds %d devices (%s), and %s is of device %s: verify %s", s.dir, len(ids), strings.Join(ids[:min(len(ids), 5)], ", "), what, id, hint)
}

// distinct refuses two folders of one device: which of them is meant?
func (s *source) distinct() error {
	seen := map[string]string{}
	for _, d := range s.devices {
		id, err := keys.DeviceIDOf(d.Pub)
		if err != nil {
			continue // verification says what is wrong with it
		}
		if other := seen[id]; other != "" {
			return fmt.Errorf("%s holds two copies of device %s, %s and %s: verify one of them at a time", s.dir, id, other, d.Dir)
		}
		seen[id] = d.Dir
	}
	return nil
}

// size is roughly what will be read. It is asked only where somebody looks at a bar.
func (s *source) size() (total int64) {
	if !cli.IsTerminal(os.Stderr) {
		return 0
	}
	for _, d := range s.devices {
		_ = fs.WalkDir(s.fsys, d.Dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
				total += info.Size()
				if e.Name() == "log.bin" { // read twice
					total += info.Size()
				}
			}
			return nil
		})
	}
	return total
}

// verify verifies one device's folder.
func (s *source) verify(d vault.Device, o custody.Options) (*custody.Report, error) {
	path := filepath.Join(s.dir, filepath.FromSlash(d.Dir))
	if d.Dir != "." {
		o.Device = d.Dir
	}
	o.Readme = []byte(vault.Readme)
	o.InUse = vault.InUse(path)
	r, err := custody.Verify(os.DirFS(path), o)
	if err == nil && r.Device == "" {
		r.Device = d.ID
	}
	return r, err
}

// verdict is the exit code, and for what is not whole one line that says the worst.
func verdict(dir string, all []*custody.Report) error {
	worst := custody.VerdictClean
	var records int64
	line := ""
	for _, r := range all {
		for _, n := range r.States {
			records += n
		}
		for _, f := range r.Findings {
			if line == "" && f.State == r.State {
				line = f.Text
			}
		}
		worst = worst.Worse(r.State)
	}
	code := exitCode(vault.State(worst))
	switch {
	case code == cli.OK && records == 0:
		return cli.Exit(cli.Nothing, "%s holds no record yet", dir)
	case code == cli.OK:
		return nil
	case line == "":
		line = fmt.Sprintf("%d of %d records are not whole, listed above", bad(all), records)
	}
	return cli.Exit(code, "%s: %s: %s", dir, worst, line)
}

// bad counts the records that are neither clean nor being written.
func bad(all []*custody.Report) (n int64) {
	for _, r := range all {
		for state, count := range r.States {
			if state != custody.VerdictClean && state != custody.VerdictOpen {
				n += count
			}
		}
	}
	return n
}

// verifyPrinter takes the records of a device as they are judged, then its report.
type verifyPrinter interface {
	record(*custody.RecordReport)
	device(vault.Device, *custody.Report)
	end([]*custody.Report)
}

// verifyJSON writes one object, record by record, so that nothing piles up.
type verifyJSON struct {
	w       *bufio.Writer
	devices int
	records int
}

func (j *verifyJSON) record(r *custody.RecordReport) {
	switch {
	case j.records > 0:
		j.w.WriteString(",")
	case j.devices > 0:
		j.w.WriteString(`,{"records":[`)
	default:
		j.w.WriteString(`{"devices":[{"records":[`)
	}
	j.records++
	j.w.Write(marshal(r))
}

func (j *verifyJSON) device(_ vault.Device, r *custody.Report) {
	if j.records == 0 {
		open := `{"devices":[{"records":[`
		if j.devices > 0 {
			open = `,{"records":[`
		}
		j.w.WriteString(open)
	}
	j.devices++
	j.records = 0
	j.w.WriteString("],")
	j.w.Write(marshal(r)[1:]) // its own keys follow, and its closing brace
}

func (j *verifyJSON) end(all []*custody.Report) {
	state, pinned := custody.VerdictClean, true
	for _, r := range all {
		state, pinned = state.Worse(r.State), pinned && r.Pinned
	}
	fmt.Fprintf(j.w, `],"state":%q,"pinned":%t}`+"\n", state, pinned)
}

func marshal(v any) []byte {
	var b strings.Builder
	if err := cli.PrintJSON(&b, v); err != nil { // no value of a report can fail
		return []byte("null")
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

// verifyTable prints for people.
type verifyTable struct {
	w    *bufio.Writer
	dir  string
	rows []string
	says []string
}

// maxSaid bounds the lines below the table; --json has all of them.
const maxSaid = 200

func (t *verifyTable) record(r *custody.RecordReport) {
	t.rows = append(t.rows, fmt.Sprintf("%s\t%s\t%d\t%d\t%s", r.Record, r.State, len(r.Segments), r.Bytes, r.Why))
	for _, f := range r.Findings {
		t.say(f)
	}
	for _, s := range r.Segments {
		if s.State == custody.VerdictClean || s.Why == "" {
			continue
		}
		file := r.Record + "/" + s.File
		if s.File == "" {
			file = r.Record + "/" + s.Name
		}
		t.say(custody.Finding{State: s.State, Rule: s.Rule, File: file, Leaf: s.Leaf, Byte: s.Byte, Text: s.Why})
	}
}

func (t *verifyTable) say(f custody.Finding) {
	if len(t.says) == maxSaid {
		t.says = append(t.says, "and more; --json lists all")
	}
	if len(t.says) > maxSaid {
		return
	}
	place := f.File
	if f.Leaf != nil {
		place += fmt.Sprintf(", leaf %d", *f.Leaf)
	}
	if f.Byte != nil {
		place += fmt.Sprintf(", byte %d", *f.Byte)
	}
	t.says = append(t.says, fmt.Sprintf("%-8s %-6s %s: %s", f.State, f.Rule, place, printable(f.Text)))
}

func (t *verifyTable) device(d vault.Device, r *custody.Report) {
	for _, f := range r.Findings {
		t.say(f)
	}
	if len(t.rows) > 0 {
		w := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DEVICE\tID\tSTATE\tSEGMENTS\tBYTES\tWHY")
		for _, row := range t.rows {
			fmt.Fprintf(w, "%s\t%s\n", r.Device, row)
		}
		w.Flush() // its errors stay in t.w
	}
	for _, line := range t.says {
		fmt.Fprintln(t.w, line)
	}
	t.rows, t.says = nil, nil
	t.summary(d, r)
}

func (t *verifyTable) summary(d vault.Device, r *custody.Report) {
	fmt.Fprintf(t.w, "device %s: %s; %s; pinned: %t\n", r.Device, r.State, r.Identity, r.Pinned)
	fmt.Fprintf(t.w, "log: %d boots, %d leaves, %d proven, %d behind the last signature, %d missing\n", r.Boots, r.Leaves, r.Proven, r.UnsignedTail, r.MissingLeaves)
	if r.Head != nil {
		fmt.Fprintf(t.w, "head: %d leaves, root %s\n", r.Head.Size, r.Head.Root)
		fmt.Fprintf(t.w, "  keep it away from this folder (copy %s), and give the copy to the next verify with --head\n", filepath.Join(t.dir, filepath.FromSlash(d.Dir), filepath.FromSlash(r.Head.File)))
	}
	fmt.Fprintln(t.w, "what this cannot know:")
	for _, l := range r.Limits {
		fmt.Fprintf(t.w, "  - %s\n", l)
	}
}

func (t *verifyTable) end([]*custody.Report) {}

// printable keeps what came from a file name or a medium from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7F {
			return ' '
		}
		return r
	}, s)
}
