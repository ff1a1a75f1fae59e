package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"holdfast/firmware/autopilot/allow"
)

// figuresEnv names a file to which the figures of docs/benchmarks.md, "The whole flight", are written.
const figuresEnv = "HOLDFAST_FIGURES"

// figuresWindow is how long processor time is counted.
const figuresWindow = 10 * time.Second

// streamCase is one row: what is recorded beside telemetry.
type streamCase struct {
	name   string
	config []string
	rate   int    // of video, bytes a second
	ground bool   // counted after the landing: logs are pulled then
	share  string // read by a program
}

// TestFigures measures what each stream costs, one flight a stream, and prints a table. It runs where
// HOLDFAST_FIGURES names a file for it, alone.
func TestFigures(t *testing.T) {
	if os.Getenv(figuresEnv) == "" {
		t.Skip("set " + figuresEnv + " to a file for the table; scripts/bench.sh does")
	}
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "recorded\trecorder CPU %\tmedia CPU %\tsupervisor CPU %\trecorder MiB\tmedia MiB\tdurable p50/p99/p99.9 ms\tsync max ms\tvideo kept MB/s\tvideo lost %")
	off := "[policy]\nautopilot_log = \"off\""
	for _, c := range []streamCase{
		{name: "telemetry", config: []string{off}},
		{name: "+ its log, streamed", config: []string{"[policy]\nautopilot_log = \"stream\""}},
		{name: "+ logs, pulled (landed)", config: []string{"[policy]\nautopilot_log = \"pull\""}, ground: true},
		{name: "+ a share that is read", config: []string{off}, share: "share"},
		{name: "+ video, 2 Mbit/s", config: []string{off}, rate: 250_000},
		{name: "+ video, 50 MB/s", config: []string{off}, rate: 50_000_000},
	} {
		fmt.Fprintln(table, measureStream(t, c))
	}
	table.Flush()
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(&text, "load at the end: %s", load)
	t.Log("\n" + text.String())
	if err := os.WriteFile(os.Getenv(figuresEnv), text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// measureStream flies once and returns a row.
func measureStream(t *testing.T, c streamCase) string {
	t.Helper()
	config, total := c.config, c.rate*30/unit*unit
	b := newBoard(t)
	if c.share != "" {
		config = append(config, fmt.Sprintf("[[share]]\npath = %q", b.path(c.share)))
	}
	if c.rate > 0 {
		config = append(config, camera(t, "cam", "h264", 99, c.rate, total))
	}
	b.configure(b.path("fc"), config...)
	s := b.takeOff(allow.Options{Camera: c.rate > 0}, "--duration", "26s", "--after", "10m", "--old-logs", "1", "--log-size", "3000000", "--seed", "9")
	if c.share != "" {
		readShare(t, b.path(c.share))
	}
	waitFor(t, patience, "armed", func() bool { armed, _ := b.health()["armed"].(bool); return armed })
	if c.ground {
		waitFor(t, sortiePatience, "landed", func() bool { armed, _ := b.health()["armed"].(bool); return !armed })
	}
	<-time.After(2 * time.Second)
	pids := []int{s.daemon.part("record"), 0, s.daemon.cmd.Process.Pid}
	if c.rate > 0 {
		pids[1] = s.daemon.part("media")
	}
	cpu, peak := countCPU(t, pids)
	if c.rate > 0 {
		s.daemon.waitGiven("h264", 99)
	}
	waitFor(t, sortiePatience, "landed", func() bool { armed, _ := b.health()["armed"].(bool); return !armed })
	s.finish()
	return c.row(t, s.records, s.flight(), cpu, peak)
}

// row puts the figures of a flight together.
func (c *streamCase) row(t *testing.T, records []*opened, flight *opened, cpu []float64, peak []string) string {
	t.Helper()
	var d timing
	if err := json.Unmarshal(readFile(t, filepath.Join(flight.dir, "flight.json")), &d); err != nil {
		t.Fatal(err)
	}
	got, lost := footageOf(t, records, "cam")
	kept, gone := "-", "-"
	if c.rate > 0 {
		kept = fmt.Sprintf("%.2f", float64(len(got))/30e6)
		gone = fmt.Sprintf("%.1f", float64(lost)/float64(int64(len(got))+lost)*100)
	}
	return fmt.Sprintf("%s\t%.1f\t%.1f\t%.2f\t%s\t%s\t%.0f / %.0f / %.0f\t%.0f\t%s\t%s", c.name, cpu[0], cpu[1], cpu[2], peak[0], peak[1],
		float64(d.Durable.P50)/1e3, float64(d.Durable.P99)/1e3, float64(d.Durable.P999)/1e3, float64(flight.Sync.MaxUsec)/1e3, kept, gone)
}

// countCPU returns percent of one core, and the peak of memory, by process; 0 stands for none.
func countCPU(t *testing.T, pids []int) (percent []float64, peak []string) {
	t.Helper()
	var before []time.Duration
	for _, pid := range pids {
		used := time.Duration(0)
		if pid != 0 {
			used = cpuTime(t, pid)
		}
		before = append(before, used)
	}
	began := time.Now()
	<-time.After(figuresWindow)
	span := time.Since(began)
	for i, pid := range pids {
		if pid == 0 {
			percent, peak = append(percent, 0), append(peak, "-")
			continue
		}
		percent = append(percent, (cpuTime(t, pid)-before[i]).Seconds()/span.Seconds()*100)
		peak = append(peak, peakMiB(t, pid))
	}
	return percent, peak
}

func peakMiB(t *testing.T, pid int) string {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, fmt.Sprintf("/proc/%d/status", pid)))) {
		if f := strings.Fields(line); f[0] == "VmHWM:" {
			kib, _ := strconv.Atoi(f[1])
			return fmt.Sprintf("%.0f", float64(kib)/1024)
		}
	}
	return "?"
}

// readShare reads a share as another program would, until the test ends.
func readShare(t *testing.T, path string) {
	t.Helper()
	var f *os.File
	waitFor(t, patience, "the share", func() (ok bool) {
		var err error
		f, err = os.OpenFile(path, os.O_RDONLY, 0)
		return err == nil
	})
	t.Cleanup(func() { f.Close() })
	go io.Copy(io.Discard, f)
}
