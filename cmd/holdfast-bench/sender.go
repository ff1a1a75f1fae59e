package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast/cmd/internal/cli"
	"holdfast/mavlink/serial/serialtest"
	"holdfast/mavlink/tlog"
)

const (
	// batchTime is the shortest sleep between two writes: what falls due meanwhile goes
	// out in one, as a UART driver hands it over.
	batchTime = 8 * time.Millisecond
	// batchBytes ends a batch early, so that a full-speed replay keeps the line busy
	// and a signal is seen soon.
	batchBytes = 16 << 10
)

// piece is a frame or a run of stray bytes, due some time after the first.
type piece struct {
	at    time.Duration
	stamp uint64 // microseconds since 1970, for a tlog of what was sent
	raw   []byte
	frame bool
}

// source gives the next piece; io.EOF at the end. raw is valid until the next call.
type source func() (piece, error)

// lineFlags are the flags that vehicle and replay share.
type lineFlags struct {
	pty, sent string
	json      bool
}

func (f *lineFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.pty, "pty", "", "path of the link to the pseudo-terminal (required)")
	c.Flags().StringVar(&f.sent, "sent", "", "append \"<monotonic usec> <total bytes handed over>\" to this file at each write")
	c.Flags().BoolVar(&f.json, "json", false, "print the summary as one JSON object")
	_ = c.MarkFlagRequired("pty")
}

// summary is what a command prints at its end.
type summary struct {
	Frames     uint64  `json:"frames"`
	Bytes      uint64  `json:"bytes"`
	StrayBytes uint64  `json:"stray_bytes"`
	Seconds    float64 `json:"seconds"`

	Vehicle *vehicleSummary `json:"vehicle,omitempty"` // of vehicle alone
}

// sender hands bytes to a pseudo-terminal and counts them.
type sender struct {
	pty  *serialtest.Pty
	sent *os.File     // of --sent, or nil
	log  *tlog.Writer // of --tlog, or nil
	bar  *cli.Bar
	sum  summary

	batch  bytes.Buffer
	pieces []piece // of the batch; raw is not kept, at is the end in the batch
}

// run makes the line, waits for a reader, lets feed send, drains, removes the link and
// prints the summary. feed is called when the reader is there.
func (s *sender) run(c *cobra.Command, f *lineFlags, feed func(context.Context) error) (err error) {
	if f.sent != "" {
		if s.sent, err = os.OpenFile(f.sent, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return fmt.Errorf("%w; choose another --sent", err)
		}
		defer s.sent.Close()
	}
	if s.pty, err = serialtest.NewPty(f.pty); err != nil {
		return ptyError(err)
	}
	err = s.serve(c.Context(), feed)
	s.bar.Finish()
	if closeErr := s.pty.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close %s: %w", f.pty, closeErr)
	}
	if printErr := s.print(c.OutOrStdout(), f.json); err == nil {
		err = printErr
	}
	return err
}

func ptyError(err error) error {
	switch {
	case errors.Is(err, serialtest.ErrLinkTaken):
		return fmt.Errorf("%w; remove it or choose another --pty", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; choose a --pty in a folder that is there and that you may write", err)
	}
	return err
}

func (s *sender) serve(ctx context.Context, feed func(context.Context) error) error {
	if err := s.pty.WaitReader(ctx); err != nil {
		return err
	}
	start := time.Now()
	err := feed(ctx)
	if err == nil {
		err = s.pty.Drain(ctx)
	}
	s.sum.Seconds = time.Since(start).Seconds()
	return err
}

func (s *sender) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(w, s.sum)
	}
	_, err := fmt.Fprintf(w, "sent %d frames, %d bytes (%s), %d stray bytes, in %.2f s\n",
		s.sum.Frames, s.sum.Bytes, cli.Size(s.sum.Bytes), s.sum.StrayBytes, s.sum.Seconds)
	return err
}

// send writes all pieces of next, each when it is due after the call.
func (s *sender) send(ctx context.Context, next source) error {
	start := time.Now()
	for {
		p, err := next()
		if err == io.EOF {
			return s.flush(ctx)
		}
		if err != nil {
			return errors.Join(err, s.flush(ctx))
		}
		if wait := p.at - time.Since(start); wait > 0 {
			if err := s.flush(ctx); err != nil {
				return err
			}
			if err := sleep(ctx, max(wait, batchTime)); err != nil {
				return err
			}
		}
		s.batch.Write(p.raw)
		s.pieces = append(s.pieces, piece{at: time.Duration(s.batch.Len()), stamp: p.stamp, frame: p.frame})
		if s.batch.Len() >= batchBytes {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
	}
}

// flush hands the batch to the line and counts what the kernel took.
func (s *sender) flush(ctx context.Context) error {
	b := s.batch.Bytes()
	if len(b) == 0 {
		return ctx.Err()
	}
	n, err := s.pty.WriteContext(ctx, b)
	s.sum.Bytes += uint64(n)
	if n > 0 && s.sent != nil {
		if _, e := fmt.Fprintf(s.sent, "%d %d\n", monotonicUsec(), s.sum.Bytes); e != nil && err == nil {
			err = e
		}
	}
	err = errors.Join(err, s.count(b[:n]))
	s.batch.Reset()
	s.pieces = s.pieces[:0]
	return err
}

// count adds up the pieces in what was handed over and adds whole frames to the tlog.
func (s *sender) count(handed []byte) error {
	begin := 0
	for _, p := range s.pieces {
		end := min(int(p.at), len(handed))
		switch {
		case !p.frame:
			s.sum.StrayBytes += uint64(end - begin)
		case end == int(p.at):
			s.sum.Frames++
			if s.log != nil {
				if err := s.log.WriteEntry(p.stamp, handed[begin:end]); err != nil {
					return fmt.Errorf("write tlog: %w", err)
				}
			}
		}
		begin = end
	}
	return nil
}

// monotonicUsec is the kernel's monotonic clock, which other processes read too.
func monotonicUsec() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}

// sleep waits for d or for the end of ctx, and returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
