package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/cmd/internal/cli"
	"holdfast/mavlink/serial"
	"holdfast/mavlink/tlog"
	"holdfast/mavlink/vehicle"
)

// patience is how long a test waits for the kernel or a child before it gives up.
const patience = 20 * time.Second

// TestMain runs the program itself when a test asks for it as a child.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_AS_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// child is the program in a process of its own, as a shell starts it.
func child(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	c := exec.Command(exe, args...)
	c.Env = append(os.Environ(), "BENCH_AS_PROGRAM=1")
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c, &stdout, &stderr
}

// code waits for a child and returns its exit code.
func code(t *testing.T, c *exec.Cmd) int {
	t.Helper()
	stop := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer stop.Stop()
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode()
}

// opened opens the line at link as a recorder does, once it is there.
func opened(t *testing.T, link string) *serial.Port {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		p, err := serial.Open(link, 921600)
		if err == nil {
			t.Cleanup(func() { _ = p.Close() })
			return p
		}
		if !errors.Is(err, fs.ErrNotExist) || sleep(ctx, time.Millisecond) != nil {
			t.Fatal(err)
		}
	}
}

// readAll reads until the far end hangs up.
func readAll(t *testing.T, p *serial.Port) []byte {
	t.Helper()
	var all []byte
	buf := make([]byte, 64<<10)
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		n, err := p.Read(buf, 100*time.Millisecond)
		all = append(all, buf[:n]...)
		if errors.Is(err, serial.ErrHangup) {
			return all
		}
		if err != nil && !errors.Is(err, serial.ErrSilent) {
			t.Fatal(err)
		}
	}
	t.Fatal("the line was not hung up")
	return nil
}

func gone(t *testing.T, link string) {
	t.Helper()
	if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link is left: %v", err)
	}
}

// recording is a tlog of a simulated flight with stray bytes at three places, and what
// must come out of the line.
func recording(t *testing.T, length time.Duration, stray []byte) (log, wire []byte, frames int) {
	t.Helper()
	v, err := vehicle.New(vehicle.Options{Duration: length, Seed: 3, Camera: true})
	if err != nil {
		t.Fatal(err)
	}
	const start = 1_777_000_000_000_000
	for e, ok := v.Next(); ok; e, ok = v.Next() {
		if frames%700 == 0 {
			log, wire = append(log, stray...), append(wire, stray...)
		}
		log = tlog.AppendEntry(log, start+uint64(e.At.Microseconds()), e.Raw)
		wire = append(wire, e.Raw...)
		frames++
	}
	return append(log, stray...), append(wire, stray...), frames
}

func TestReplayFullSpeed(t *testing.T) {
	dir := t.TempDir()
	link, file, sent := filepath.Join(dir, "fc"), filepath.Join(dir, "a.tlog"), filepath.Join(dir, "sent")
	log, wire, frames := recording(t, 20*time.Second, []byte("noise on the line"))
	if err := os.WriteFile(file, log, 0o600); err != nil {
		t.Fatal(err)
	}
	c, stdout, stderr := child(t, "replay", file, "--pty", link, "--speed", "max", "--json", "--sent", sent)
	got := readAll(t, opened(t, link))
	if n := code(t, c); n != cli.OK || stderr.Len() > 0 {
		t.Fatalf("code %d, stderr %q", n, stderr)
	}
	if !bytes.Equal(got, wire) {
		t.Fatalf("read %d bytes, want %d, or other ones", len(got), len(wire))
	}
	gone(t, link)
	var sum struct {
		Frames, Bytes int
		StrayBytes    int `json:"stray_bytes"`
		Seconds       float64
	}
	d := json.NewDecoder(stdout)
	d.DisallowUnknownFields()
	if err := d.Decode(&sum); err != nil {
		t.Fatal(err)
	}
	if sum.Frames != frames || sum.Bytes != len(wire) || sum.StrayBytes != strayIn(frames) || sum.Seconds <= 0 {
		t.Errorf("summary %+v for %d frames, %d bytes", sum, frames, len(wire))
	}
	checkSent(t, sent, len(wire))
}

// strayIn is how many stray bytes the recording of TestReplayFullSpeed holds.
func strayIn(frames int) int { return ((frames+699)/700 + 1) * len("noise on the line") }

// checkSent reads a --sent file: times and totals rise, and the last total is all.
func checkSent(t *testing.T, file string, total int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lastTime, lastBytes int
	for line := range strings.Lines(string(text)) {
		a, b, _ := strings.Cut(strings.TrimSpace(line), " ")
		usec, err1 := strconv.Atoi(a)
		n, err2 := strconv.Atoi(b)
		if err1 != nil || err2 != nil || usec < lastTime || n <= lastBytes {
			t.Fatalf("line %q after %d %d", line, lastTime, lastBytes)
		}
		lastTime, lastBytes = usec, n
	}
	if lastBytes != total {
		t.Errorf("the last total is %d, want %d", lastBytes, total)
	}
}

func TestReplayStrayOnly(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "fc"), filepath.Join(dir, "junk.tlog")
	junk := bytes.Repeat([]byte("no frame in here. "), 9000)
	if err := os.WriteFile(file, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	c, stdout, _ := child(t, "replay", file, "--pty", link)
	got := readAll(t, opened(t, link))
	if n := code(t, c); n != cli.OK || !bytes.Equal(got, junk) {
		t.Fatalf("code %d, %d bytes of %d", n, len(got), len(junk))
	}
	if !strings.HasPrefix(stdout.String(), "sent 0 frames, 162000 bytes (158.2 KiB), 162000 stray bytes, in ") {
		t.Errorf("printed %q", stdout)
	}
}

func TestVehicleRealTime(t *testing.T) {
	dir := t.TempDir()
	link, log := filepath.Join(dir, "fc"), filepath.Join(dir, "sent.tlog")
	const length = 1500 * time.Millisecond
	began := time.Now()
	c, stdout, _ := child(t, "vehicle", "--pty", link, "--duration", length.String(), "--seed", "4", "--stack", "px4",
		"--start", "2026-05-01T09:00:00Z", "--tlog", log, "--camera")
	got := readAll(t, opened(t, link))
	if n := code(t, c); n != cli.OK {
		t.Fatalf("code %d", n)
	}
	if d := time.Since(began); d < length-100*time.Millisecond {
		t.Errorf("a flight of %v took %v", length, d)
	}
	gone(t, link)
	start := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	v, err := vehicle.New(vehicle.Options{Stack: vehicle.PX4, Seed: 4, Duration: length, Start: start, Camera: true})
	if err != nil {
		t.Fatal(err)
	}
	var wire, entries []byte
	for e, ok := v.Next(); ok; e, ok = v.Next() {
		wire = append(wire, e.Raw...)
		entries = tlog.AppendEntry(entries, uint64(start.Add(e.At).UnixMicro()), e.Raw)
	}
	if !bytes.Equal(got, wire) {
		t.Errorf("read %d bytes, want %d, or other ones", len(got), len(wire))
	}
	if file, err := os.ReadFile(log); err != nil || !bytes.Equal(file, entries) {
		t.Errorf("the tlog differs: %d bytes, want %d, %v", len(file), len(entries), err)
	}
	if !strings.HasSuffix(stdout.String(), " s\n") || strings.Count(stdout.String(), "\n") != 1 {
		t.Errorf("printed %q", stdout)
	}
}

func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, reader := range []bool{false, true} {
			link := filepath.Join(t.TempDir(), "fc")
			c, stdout, stderr := child(t, "vehicle", "--pty", link)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			for _, err := os.Lstat(link); err != nil; _, err = os.Lstat(link) {
				if sleep(ctx, time.Millisecond) != nil {
					t.Fatal("no link")
				}
			}
			cancel()
			if reader {
				if _, err := opened(t, link).Read(make([]byte, 100), patience); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if n := code(t, c); n != cli.Interrupted || stderr.Len() > 0 || !strings.HasPrefix(stdout.String(), "sent ") {
				t.Errorf("%v, reader %v: code %d, %q, %q", sig, reader, n, stdout, stderr)
			}
			gone(t, link)
		}
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	empty, full := write("empty.tlog", ""), write("full.tlog", "x")
	link := filepath.Join(dir, "fc")
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"replay " + empty + " --pty " + link, cli.Error, "holds nothing to replay"},
		{"replay " + dir + "/no.tlog --pty " + link, cli.Error, "no such file"},
		{"replay " + dir + " --pty " + link, cli.Error, "is a directory"},
		{"replay " + full + " --pty " + empty, cli.Error, "path is taken"},
		{"replay " + full + " --pty " + dir + "/no/fc", cli.Error, "choose a --pty"},
		{"replay " + full + " --sent " + dir + " --pty " + link, cli.Error, "choose another --sent"},
		{"replay " + full, cli.Usage, "\"pty\" not set"},
		{"replay --pty " + link, cli.Usage, "accepts 1 arg(s)"},
		{"replay " + full + " --speed 0 --pty " + link, cli.Usage, "is no speed"},
		{"replay " + full + " --speed NaN --pty " + link, cli.Usage, "is no speed"},
		{"replay " + full + " --speed fast --pty " + link, cli.Usage, "is no speed"},
		{"vehicle", cli.Usage, "\"pty\" not set"},
		{"vehicle --pty " + link + " --stack inav", cli.Usage, "ardupilot or px4"},
		{"vehicle --pty " + link + " --duration -1s", cli.Usage, "negative"},
		{"vehicle --pty " + link + " --duration soon", cli.Usage, "invalid argument"},
		{"vehicle --pty " + link + " --start today", cli.Usage, "is no time"},
		{"vehicle --pty " + link + " --tlog " + dir, cli.Error, "choose another --tlog"},
		{"vehicle --pty " + link + " --sent-to-vehicle " + dir, cli.Error, "choose another --sent-to-vehicle"},
		{"vehicle --pty " + link + " --log-file " + dir, cli.Error, "choose another --log-file"},
		{"vehicle --pty " + link + " --loss 2", cli.Usage, "see --loss"},
		{"vehicle --pty " + link + " --loss-kinds some", cli.Usage, "takes all or log"},
		{"vehicle --pty " + link + " --cut 5s", cli.Usage, "write it like 40s,5s"},
		{"vehicle --pty " + link + " --cut -5s,1s", cli.Usage, "see --loss and --cut"},
		{"vehicle --pty " + link + " --clock-jump soon,1h", cli.Usage, "write it like 20s,-1h"},
		{"vehicle --pty " + link + " --gcs 3s", cli.Usage, "write it like 12s,"},
		{"vehicle --pty " + link + " --gcs 3s,NO_SUCH_THING", cli.Usage, "command \"NO_SUCH_THING\""},
		{"vehicle --pty " + link + " --gcs 3s,2000,900", cli.Usage, "component \"900\""},
		{"vehicle --pty " + link + " --gcs 3s,2000,100,x", cli.Usage, "parameter \"x\""},
		{"vehicle --pty " + link + " --arm-auth", cli.Usage, "is PX4's"},
		{"vehicle --pty " + link + " --stack px4 --aux-auth", cli.Usage, "is ArduPilot's"},
		{"vehicle --pty " + link + " --log-rate -1", cli.Usage, "bytes a second"},
		{"vehicle --pty " + empty, cli.Error, "path is taken"},
		{"audit --faults --quick", cli.Usage, "--faults"},
		{"audit extra", cli.Usage, "unknown command"},
		{"audit --tamper -o " + empty, cli.Error, "not a directory"},
		{"audit --tamper -o " + filepath.Dir(empty), cli.Error, "is not empty"},
		{"fly", cli.Usage, "unknown command"},
	} {
		t.Run(strings.ReplaceAll(tt.args, dir, "DIR"), func(t *testing.T) {
			root := newRoot()
			var stdout, stderr bytes.Buffer
			root.SetArgs(strings.Fields(tt.args))
			root.SetOut(&stdout)
			root.SetErr(&stderr)
			if n := cli.Main(root); n != tt.code {
				t.Errorf("code %d, want %d", n, tt.code)
			}
			if s := stderr.String(); !strings.HasPrefix(s, "holdfast-bench: ") || strings.Count(s, "\n") != 1 || !strings.Contains(s, tt.want) {
				t.Errorf("printed %q, want %q in it", s, tt.want)
			}
			if stdout.Len() > 0 {
				t.Errorf("on stdout: %q", stdout.String())
			}
			gone(t, link)
		})
	}
}

func TestReplayPace(t *testing.T) {
	const sec = 1_000_000
	for _, tt := range []struct {
		name   string
		speed  float64
		stamps []uint64
		want   time.Duration
	}{
		{"as recorded", 1, []uint64{100 * sec, 101 * sec, 103 * sec}, 3 * time.Second},
		{"four times", 4, []uint64{100 * sec, 104 * sec}, time.Second},
		{"back", 1, []uint64{100 * sec, 50 * sec, 51 * sec}, time.Second},
		{"a minute", 1, []uint64{0, 60 * sec}, time.Minute},
		{"a jump", 1, []uint64{0, 60*sec + 1, 61 * sec}, time.Second - time.Microsecond},
		{"far jumps", 1, []uint64{0, 1 << 63, 0, 1<<64 - 1}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &replayer{speed: tt.speed}
			for _, s := range tt.stamps {
				r.advance(s)
			}
			if r.at != tt.want {
				t.Errorf("took %v, want %v", r.at, tt.want)
			}
		})
	}
	max, err := parseSpeed("max")
	if err != nil {
		t.Fatal(err)
	}
	r := &replayer{speed: max}
	r.advance(0)
	if r.advance(30 * sec); r.at != 0 {
		t.Errorf("full speed waits %v", r.at)
	}
}
