package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/crypto/seal"
	"holdfast/mavlink/serial/serialtest"
)

const (
	// waiting is how many frames stand in the line before the program is started; a
	// pseudo-terminal takes 4 KiB.
	waiting = 32
	// lookEvery is how often the vault is looked at, and the most by which a figure is late.
	lookEvery = 200 * time.Microsecond
	// longest is when to give up on the first frame.
	longest = 30 * time.Second
)

// beginRecorder starts holdfastd on a line on which frames wait, and returns how long it took
// until the first sealed frames were durable.
func (b *bench) beginRecorder(ctx context.Context, nb *board, command string, f *feed) (time.Duration, error) {
	pty, err := serialtest.NewPty(nb.uart())
	if err != nil {
		return 0, err
	}
	defer pty.Close()
	if _, err := pty.WriteContext(ctx, f.head(waiting).raw); err != nil {
		return 0, err
	}
	old, err := openSegments(nb)
	if err != nil {
		return 0, err
	}
	p, err := b.daemon(ctx, nb, command)
	if err != nil {
		return 0, err
	}
	took, err := firstSealed(ctx, p, nb, old)
	_, stopErr := p.stop()
	return took, errors.Join(err, stopErr)
}

// firstSealed waits until a first segment holds a whole chunk that is durable.
func firstSealed(ctx context.Context, p *process, nb *board, old map[string]bool) (time.Duration, error) {
	for time.Since(p.began) < longest && ctx.Err() == nil {
		names, err := openSegments(nb)
		if err != nil {
			return 0, err
		}
		for name := range names {
			if !old[name] && sealedAndDurable(name) {
				return time.Since(p.began), nil
			}
		}
		time.Sleep(lookEvery)
	}
	return 0, errors.Join(fmt.Errorf("no sealed frame within %v: %s", longest, p.errs.String()), ctx.Err())
}

// openSegments finds the first segment of each record.
func openSegments(nb *board) (map[string]bool, error) {
	names, err := filepath.Glob(filepath.Join(nb.vault(), "*", "[FG]*", "T000001.*age"))
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	return set, err
}

// sealedAndDurable tells whether a segment holds its header and a full chunk. It syncs the file
// itself: when that returns, what was seen is on the medium, whoever brought it there.
func sealedAndDurable(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < seal.SealedChunkSize {
		return false
	}
	head, _ := os.ReadFile(name)
	// The header of an age file ends with the line of its MAC; 16 bytes of nonce follow.
	_, mac, _ := strings.Cut(string(head), "\n--- ")
	_, body, ok := strings.Cut(mac, "\n")
	return ok && len(body) >= 16+seal.SealedChunkSize && unix.Fdatasync(int(f.Fd())) == nil
}

// beginPeer is the same for a peer: until its file holds a byte. It never syncs.
func (b *bench) beginPeer(ctx context.Context, kind string, f *feed) (time.Duration, error) {
	pty, err := serialtest.NewPty("")
	if err != nil {
		return 0, err
	}
	defer pty.Close()
	if _, err := pty.WriteContext(ctx, f.head(waiting).raw); err != nil {
		return 0, err
	}
	out := filepath.Join(b.dir, kind+".begin")
	defer os.Remove(out)
	p, err := start(ctx, b.tool("peer"), kind, pty.Slave(), out)
	if err != nil {
		return 0, err
	}
	took := time.Duration(0)
	for took == 0 && time.Since(p.began) < longest {
		if info, err := os.Stat(out); err == nil && info.Size() > 0 {
			took = time.Since(p.began)
			break
		}
		time.Sleep(lookEvery)
	}
	err = pty.Close()
	_, waitErr := p.wait()
	return took, errors.Join(err, waitErr)
}

// keyChild runs the process that makes a flight key by itself, as the recorder does.
func (b *bench) keyChild(ctx context.Context) (usage, error) {
	in, feedIn, err := os.Pipe()
	if err != nil {
		return usage{}, err
	}
	defer in.Close()
	p, err := startWith(ctx, in, b.tool("holdfastd"), "flight-key")
	if err != nil {
		feedIn.Close()
		return usage{}, err
	}
	_, err = feedIn.WriteString(strings.Join(b.recipients, "\n") + "\n")
	err = errors.Join(err, feedIn.Close())
	u, waitErr := p.wait()
	return u, errors.Join(err, waitErr)
}

// syncTimes appends to a file and syncs it, n times, as a flush does.
func (b *bench) syncTimes(n int) (ts []float64, err error) {
	f, err := os.OpenFile(filepath.Join(b.dir, "sync"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	chunk := make([]byte, seal.SealedChunkSize)
	for range n {
		if _, err := f.Write(chunk); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		ts = append(ts, ms(time.Since(began)))
	}
	return ts, nil
}

// treeSize is the size of all files below dir.
func treeSize(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
