package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// tick is the kernel's unit of CPU time in /proc/PID/stat (USER_HZ, fixed at 100).
	tick = 10 * time.Millisecond
	// oublock is the unit of rusage.ru_oublock, in bytes.
	oublock = 512
	// sampleEvery is how often the memory of a process is looked at. The kernel keeps the
	// peak, so only what happens after the last look can be missed.
	sampleEvery = 20 * time.Millisecond
)

// process is a program under measurement.
type process struct {
	cmd   *exec.Cmd
	errs  bytes.Buffer
	began time.Time
	ended chan error
	peak  atomic.Int64 // VmHWM in bytes
}

// start runs a program. It dies with this one.
func start(ctx context.Context, name string, args ...string) (*process, error) {
	return startWith(ctx, nil, name, args...)
}

// startWith is start with a standard input.
func startWith(ctx context.Context, in *os.File, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, name, args...), ended: make(chan error, 1)}
	if in != nil {
		p.cmd.Stdin = in
	}
	p.cmd.Stderr = &p.errs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		err := p.cmd.Wait()
		close(done)
		p.ended <- err
	}()
	go p.watch(done)
	return p, nil
}

// watch follows the peak of the process's memory. ru_maxrss will not do: it counts the
// memory of the process that called exec, which is ours.
func (p *process) watch(done <-chan struct{}) {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		if n, err := peakMemory(p.pid()); err == nil {
			p.peak.Store(max(n, p.peak.Load()))
		}
		select {
		case <-done:
			return
		case <-t.C:
		}
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// wait waits for the end and returns what the process and the children it waited for used.
func (p *process) wait() (usage, error) {
	if err := <-p.ended; err != nil {
		return usage{}, fmt.Errorf("%s: %w: %s", filepath.Base(p.cmd.Path), err, strings.TrimSpace(p.errs.String()))
	}
	s := p.cmd.ProcessState
	u := usage{cpu: s.UserTime() + s.SystemTime(), wall: time.Since(p.began), peak: p.peak.Load()}
	if ru, ok := s.SysUsage().(*syscall.Rusage); ok {
		u.written = int64(ru.Oublock) * oublock
		u.switches = int64(ru.Nvcsw)
	}
	return u, nil
}

// stop ends the process in good order.
func (p *process) stop() (usage, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return usage{}, err
	}
	return p.wait()
}

// usage is what a process used, from its start to its end.
type usage struct {
	cpu, wall time.Duration
	peak      int64 // bytes of memory
	written   int64 // bytes made dirty in the page cache, for the medium
	switches  int64 // times it waited
}

// peakMemory is VmHWM of a process, in bytes.
func peakMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parsePeak(string(text))
}

func parsePeak(status string) (int64, error) {
	for line := range strings.Lines(status) {
		rest, ok := strings.CutPrefix(line, "VmHWM:")
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		return kb << 10, err
	}
	return 0, errors.New("no VmHWM")
}

// cpuTime is what a process used so far: own, and of the children it waited for.
func cpuTime(pid int) (own, children time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(string(text))
}

// parseStat reads utime, stime, cutime and cstime, fields 14 to 17 of proc_pid_stat(5).
func parseStat(stat string) (own, children time.Duration, err error) {
	// The name before may hold spaces and parentheses; what follows it cannot.
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	const utime = 14 - 3
	if len(fields) < utime+4 {
		return 0, 0, errors.New("stat: too few fields")
	}
	var ticks [4]time.Duration
	for i := range ticks {
		n, err := strconv.ParseInt(fields[utime+i], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("stat: %w", err)
		}
		ticks[i] = time.Duration(n) * tick
	}
	return ticks[0] + ticks[1], ticks[2] + ticks[3], nil
}

// childOf is the first child of a process, whichever of its threads started it.
func childOf(pid int) (int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, name := range lists {
		text, err := os.ReadFile(name)
		if fields := strings.Fields(string(text)); err == nil && len(fields) > 0 {
			return strconv.Atoi(fields[0])
		}
	}
	return 0, fmt.Errorf("process %d has no child", pid)
}
