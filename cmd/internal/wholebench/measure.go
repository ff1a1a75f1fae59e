package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// What is measured beside the recorder.
const (
	peerGomavlib = "gomavlib"
	peerCopy     = "copy"
)

// fullRun is one pass of the whole feed as fast as the line takes it.
type fullRun struct {
	usage
	outcome
	took     time.Duration // from the first byte to the end of the program, all on the medium
	children time.Duration // of cpu: the processes that made flight keys
}

// perMillion is CPU seconds per million frames.
func (r fullRun) perMillion() float64 { return r.cpu.Seconds() / float64(r.sent) * 1e6 }

// memory is the peak in MiB.
func (r fullRun) memory() float64 { return float64(r.peak) / mebi }

// rate is thousand frames a second.
func (r fullRun) rate() float64 { return float64(r.same) / r.took.Seconds() / 1e3 }

// full sends the feed at full speed.
func full(ctx context.Context, l *line, f *feed) (r fullRun, err error) {
	defer l.clear()
	if err := l.ready(ctx); err != nil {
		return r, err
	}
	began := time.Now()
	if _, err := l.pty.WriteContext(ctx, f.raw); err != nil {
		return r, fmt.Errorf("%s: %w", l.name, err)
	}
	if err := l.pty.Drain(ctx); err != nil {
		return r, err
	}
	if _, r.children, err = cpuTime(l.proc.pid()); err != nil {
		return r, err
	}
	ended := l.proc.began
	r.usage, r.outcome, err = l.finish(ctx, f)
	r.took = r.wall - began.Sub(ended)
	return r, err
}

// ready waits until the program reads the line.
func (l *line) ready(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	if err := l.pty.WaitReader(limited); err != nil {
		return fmt.Errorf("%s does not open its line: %w: %s", l.name, err, l.proc.errs.String())
	}
	return nil
}

// pacedRun is a while at a flight's rate.
type pacedRun struct {
	usage
	outcome
	lasted     time.Duration
	share      float64 // CPU of the program in percent of one core, without its start and end
	supervisor float64 // the same of holdfastd's supervisor
	vault      int64   // bytes that stay
}

// perHour turns bytes of the run into bytes an hour.
func (r pacedRun) perHour(n int64) float64 { return float64(n) / r.lasted.Seconds() * 3600 }

// settle is how long a paced run goes on before its CPU time counts.
const settle = 3 * time.Second

// paced sends the feed, each frame at its time, and looks at the CPU time of the program from
// settle to the end. supervised: the program is the child of what was started.
func paced(ctx context.Context, l *line, f *feed, p pacer, supervised bool) (r pacedRun, err error) {
	defer l.clear()
	if err := l.ready(ctx); err != nil {
		return r, err
	}
	pid, parent := l.proc.pid(), 0
	if supervised {
		parent = pid
		if pid, err = childOf(parent); err != nil {
			return r, err
		}
	}
	skip := int(settle.Seconds() * p.rate)
	p.began = time.Now()
	if err := p.send(ctx, l, f, 0, skip); err != nil {
		return r, err
	}
	before, err := look(pid, parent)
	if err != nil {
		return r, err
	}
	if err := p.send(ctx, l, f, skip, f.frames()); err != nil {
		return r, err
	}
	after, err := look(pid, parent)
	if err != nil {
		return r, err
	}
	r.lasted = time.Since(p.began)
	r.share, r.supervisor = after.since(before)
	peak, err := peakMemory(pid)
	if err != nil {
		return r, err
	}
	r.usage, r.outcome, err = l.finish(ctx, f)
	r.peak = peak // of the recorder, not of its supervisor
	if err == nil && l.board != nil {
		r.vault, err = treeSize(l.board.vault())
	}
	return r, err
}

// sample is the CPU time of two processes at one moment.
type sample struct {
	at          time.Time
	own, parent time.Duration
}

func look(pid, parent int) (s sample, err error) {
	s.at = time.Now()
	if s.own, _, err = cpuTime(pid); err != nil || parent == 0 {
		return s, err
	}
	s.parent, _, err = cpuTime(parent)
	return s, err
}

// since returns percent of one core.
func (s sample) since(t sample) (own, parent float64) {
	span := s.at.Sub(t.at).Seconds() / 100
	return (s.own - t.own).Seconds() / span, (s.parent - t.parent).Seconds() / span
}

// pacer sends frames at a fixed rate. What falls due within one group goes out in one write; with
// group 0 each frame has a write of its own, and wakes its reader.
type pacer struct {
	began time.Time
	rate  float64
	group time.Duration
}

// due is when frame i has to go out, counted from the start.
func (p pacer) due(i int) time.Duration {
	at := time.Duration(float64(i) / p.rate * float64(time.Second))
	if p.group == 0 {
		return at
	}
	return (at + p.group - 1) / p.group * p.group
}

func (p pacer) send(ctx context.Context, l *line, f *feed, from, to int) error {
	for to = min(to, f.frames()); from < to; {
		end := from + 1
		for p.group > 0 && end < to && p.due(end) == p.due(from) {
			end++
		}
		if wait := time.Until(p.began.Add(p.due(from))); wait > 0 {
			// Not time.Sleep: Go rounds the waits of an idle program up to milliseconds.
			ts := unix.NsecToTimespec(wait.Nanoseconds())
			if err := unix.Nanosleep(&ts, nil); err != nil && err != unix.EINTR {
				return fmt.Errorf("sleep: %w", err)
			}
		}
		if _, err := l.pty.WriteContext(ctx, f.span(from, end)); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		from = end
	}
	return ctx.Err()
}
