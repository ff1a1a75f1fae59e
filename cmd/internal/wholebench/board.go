package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"holdfast/mavlink/serial/serialtest"
)

// bench is where the programs and the files are.
type bench struct {
	bin, dir   string
	identity   string // file of the operator's identity
	recipients []string
	boards     int
}

func (b *bench) tool(name string) string { return filepath.Join(b.bin, name) }

// keys makes an operator's identity and one for recovery, as the guide tells users to.
func (b *bench) keys(ctx context.Context) error {
	for _, name := range []string{"recovery.key", "operator.key"} {
		b.identity = filepath.Join(b.dir, name)
		out, err := exec.CommandContext(ctx, b.tool("holdfast"), "keygen", "-o", b.identity).Output()
		if err != nil {
			return fmt.Errorf("holdfast keygen: %w", err)
		}
		b.recipients = append(b.recipients, strings.TrimSpace(string(out)))
	}
	return nil
}

// board is a provisioned folder with a line of its own.
type board struct{ dir string }

func (b *board) config() string { return filepath.Join(b.dir, "holdfast.toml") }
func (b *board) vault() string  { return filepath.Join(b.dir, "vault") }
func (b *board) uart() string   { return filepath.Join(b.dir, "fc") }

// newBoard provisions a board with the settings that a user gets.
func (b *bench) newBoard(ctx context.Context) (*board, error) {
	b.boards++
	nb := &board{dir: filepath.Join(b.dir, fmt.Sprintf("board%d", b.boards))}
	args := []string{"provision", "--board", "auto", "--bench", "--uart", nb.uart(), "-o", nb.dir}
	for _, r := range b.recipients {
		args = append(args, "--recipient", r)
	}
	if text, err := exec.CommandContext(ctx, b.tool("holdfast"), args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("holdfast provision: %w: %s", err, bytes.TrimSpace(text))
	}
	return nb, nil
}

func (b *board) remove() { os.RemoveAll(b.dir) }

// daemon starts holdfastd with a command of its own, record or run.
func (b *bench) daemon(ctx context.Context, nb *board, command string) (*process, error) {
	return start(ctx, b.tool("holdfastd"), command, "--config", nb.config())
}

// line is a program that reads a pseudo-terminal of its own.
type line struct {
	name string
	pty  *serialtest.Pty
	proc *process
	done func(context.Context, *feed) (outcome, error)
	// hangUp: the program ends when the line does, else by a signal.
	hangUp bool
	board  *board
	file   string
}

// recorderLine starts the recorder on a new board.
func (b *bench) recorderLine(ctx context.Context, command string) (*line, error) {
	nb, err := b.newBoard(ctx)
	if err != nil {
		return nil, err
	}
	pty, err := serialtest.NewPty(nb.uart())
	if err != nil {
		return nil, err
	}
	l := &line{name: "holdfastd", pty: pty, board: nb}
	l.done = func(ctx context.Context, f *feed) (outcome, error) { return b.compareVault(ctx, f, nb) }
	l.proc, err = b.daemon(ctx, nb, command)
	return l, err
}

// peerLine starts a peer.
func (b *bench) peerLine(ctx context.Context, kind string) (*line, error) {
	pty, err := serialtest.NewPty("")
	if err != nil {
		return nil, err
	}
	l := &line{name: kind, pty: pty, hangUp: true, file: filepath.Join(b.dir, kind+".out")}
	l.done = func(_ context.Context, f *feed) (outcome, error) {
		if kind == peerCopy {
			return compareBytes(f, l.file)
		}
		return compareTlog(f, l.file)
	}
	l.proc, err = start(ctx, b.tool("peer"), kind, pty.Slave(), l.file)
	return l, err
}

// finish drains the line, ends the program and returns what it used and what it kept.
func (l *line) finish(ctx context.Context, f *feed) (u usage, o outcome, err error) {
	if err := l.pty.Drain(ctx); err != nil {
		return u, o, err
	}
	if l.hangUp {
		if err := l.pty.Close(); err != nil {
			return u, o, err
		}
		u, err = l.proc.wait()
	} else {
		u, err = l.proc.stop()
	}
	if err != nil {
		return u, o, err
	}
	o, err = l.done(ctx, f)
	return u, o, err
}

// clear removes what the program wrote.
func (l *line) clear() {
	l.pty.Close() // a peer's is closed already
	if l.board != nil {
		l.board.remove()
		return
	}
	os.Remove(l.file)
}

// compareBytes compares the copier's file, which has no stamps.
func compareBytes(f *feed, name string) (outcome, error) {
	got, err := os.ReadFile(name)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{sent: f.frames()}
	for o.same < o.sent && f.ends[o.same] <= len(got) && bytes.Equal(f.at(o.same), got[f.ends[o.same]-len(f.at(o.same)):f.ends[o.same]]) {
		o.same++
	}
	o.lost = o.sent - o.same
	o.noise = max(0, len(got)-len(f.raw))
	return o, nil
}
