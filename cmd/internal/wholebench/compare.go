package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/mavlink/tlog"
)

// outcome is what became of the frames that were sent.
type outcome struct {
	sent, same   int
	lost, falsey int // not there; there, but never sent
	noise        int // bytes that belong to no frame
}

func (o outcome) String() string {
	return fmt.Sprintf("%d of %d frames, %d lost, %d false, %d bytes of noise", o.same, o.sent, o.lost, o.falsey, o.noise)
}

func (o outcome) perfect() bool { return o.same == o.sent && o.lost+o.falsey+o.noise == 0 }

// comparer follows the frames of a feed in a recording.
type comparer struct {
	f    *feed
	next int
	out  outcome
}

// resync is how many frames of the feed are searched for one that is not the next.
const resync = 50_000

func (c *comparer) take(raw []byte) {
	for i := c.next; i < min(c.f.frames(), c.next+resync); i++ {
		if bytes.Equal(raw, c.f.at(i)) {
			c.out.lost += i - c.next
			c.out.same++
			c.next = i + 1
			return
		}
	}
	c.out.falsey++
}

func (c *comparer) end() outcome {
	c.out.sent = c.f.frames()
	c.out.lost += c.out.sent - c.next
	c.next = c.out.sent
	return c.out
}

// tlog takes the entries of a log.
func (c *comparer) tlog(r io.Reader) error {
	log := tlog.NewReader(r)
	for {
		item, err := log.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !item.Entry {
			c.out.noise += len(item.Raw)
			continue
		}
		c.take(item.Raw)
	}
}

func (c *comparer) file(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return c.tlog(f)
}

// compareTlog compares one plain .tlog with what was sent.
func compareTlog(f *feed, name string) (outcome, error) {
	c := &comparer{f: f}
	err := c.file(name)
	return c.end(), err
}

// compareVault opens a vault as an operator does and compares all its records, in order.
func (b *bench) compareVault(ctx context.Context, f *feed, board *board) (outcome, error) {
	out := filepath.Join(board.dir, "opened")
	defer os.RemoveAll(out)
	cmd := exec.CommandContext(ctx, b.tool("holdfast"), "open", board.vault(), "-i", b.identity, "-o", out)
	if text, err := cmd.CombinedOutput(); err != nil {
		return outcome{}, fmt.Errorf("holdfast open: %w: %s", err, strings.TrimSpace(string(text)))
	}
	logs, err := filepath.Glob(filepath.Join(out, "*", "*", "telemetry.tlog"))
	if err != nil || len(logs) == 0 {
		return outcome{}, errors.Join(errors.New("the opened vault holds no telemetry"), err)
	}
	// F00000002 comes after G00000001: one counter for both kinds.
	slices.SortFunc(logs, func(a, b string) int { return strings.Compare(number(a), number(b)) })
	c := &comparer{f: f}
	for _, name := range logs {
		if err := c.file(name); err != nil {
			return outcome{}, err
		}
		if info, err := os.Stat(filepath.Join(filepath.Dir(name), "noise.bin")); err == nil {
			c.out.noise += int(info.Size())
		}
	}
	return c.end(), nil
}

// number is the counter in the name of the record that holds a log.
func number(log string) string { return filepath.Base(filepath.Dir(log))[1:] }
