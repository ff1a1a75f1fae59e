package e2e_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/mavlink/vehicle"
)

// publicData is the folder of public recordings beside the repository's root.
const publicData = module + "/../shared/data"

// TestReplayVehicle replays recordings of simulated flights at full speed.
func TestReplayVehicle(t *testing.T) {
	for name, o := range map[string]vehicle.Options{
		"ardupilot": {Stack: vehicle.ArduPilot, Seed: 3, Duration: time.Minute, Camera: true},
		"px4":       {Stack: vehicle.PX4, Seed: 4, Duration: time.Minute, Camera: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, frames := flightTlog(t, o)
			records := replayAndOpen(t, file, join(frames))
			kinds := ""
			for _, r := range records {
				kinds += r.Record[:1]
			}
			// A minute at full speed takes less than the 5 s between records, but the first
			// change of the arm bit is exempt.
			if kinds != "GF" && kinds != "GFG" {
				t.Errorf("records %q: arming did not begin a flight", kinds)
			}
		})
	}
}

// flightTlog writes the recording of a flight and returns the frames in it.
func flightTlog(t testing.TB, o vehicle.Options) (file string, frames [][]byte) {
	t.Helper()
	var log []byte
	epoch := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	for _, e := range emissions(t, o) {
		log = binary.BigEndian.AppendUint64(log, uint64(epoch.Add(e.At).UnixMicro()))
		log = append(log, e.Raw...)
		frames = append(frames, e.Raw)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "flight.tlog"), string(log)), frames
}

// TestReplayPublic replays public recordings. Frames counts what an independent parser of
// tlogs found to be sound, as the README of the folder tells.
func TestReplayPublic(t *testing.T) {
	if _, err := os.Stat(publicData); err != nil {
		t.Skipf("the public recordings are not here: %v", err)
	}
	for _, tc := range []struct {
		file   string
		frames int
	}{
		{"uavlogviewer-copter.tlog", 96646},
		{"uavlogviewer-vtol-v1.tlog", 23894},
		{"dronekit-flight-v1.tlog", 76791 - 1314},
		{"bruno-44min.tlog", 61810},
		{"signed-mixed.tlog", 10277},
		{"mostly-junk.tlog", 1422},
	} {
		t.Run(tc.file, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(publicData, tc.file)
			if _, err := os.Stat(file); err != nil {
				t.Skip(err)
			}
			records := replayAndOpen(t, file, captureReplay(t, file))
			n := len(allFrames(records))
			t.Logf("%d frames in %d records", n, len(records))
			if n != tc.frames {
				t.Errorf("%d frames opened, an independent parser of tlogs found %d", n, tc.frames)
			}
		})
	}
}

// captureReplay returns the bytes that a replay sends, read by a plain reader of the terminal.
func captureReplay(t testing.TB, file string) (stream []byte) {
	t.Helper()
	link := filepath.Join(t.TempDir(), "fc")
	p := start(t, "holdfast-bench", "replay", file, "--pty", link, "--speed", "max", "--json")
	waitFor(t, patience, "link of the replay", func() bool { _, err := os.Stat(link); return err == nil })
	fd, err := unix.Open(link, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if n > 0 {
			stream = append(stream, buf[:n]...)
			continue
		}
		if err == unix.EINTR {
			continue
		}
		break // the other end has hung up
	}
	if code := p.wait(patience); code != 0 {
		t.Fatalf("replay: exit code %d: %s", code, p.errs.String())
	}
	if sum := replaySummary(t, p); sum.Bytes != int64(len(stream)) {
		t.Fatalf("replay says it sent %d bytes, %d came", sum.Bytes, len(stream))
	}
	return stream
}

type replaySum struct {
	Frames int64 `json:"frames"`
	Bytes  int64 `json:"bytes"`
	Stray  int64 `json:"stray_bytes"`
}

func replaySummary(t testing.TB, p *process) (sum replaySum) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.out.String()), &sum); err != nil {
		t.Fatalf("replay printed %q: %v", p.out.String(), err)
	}
	return sum
}

// replayAndOpen records a replay at full speed and holds what opens against the stream that
// the replay is known to send.
func replayAndOpen(t *testing.T, file string, stream []byte) []*opened {
	t.Helper()
	b := newBoard(t)
	replay := start(t, "holdfast-bench", "replay", file, "--pty", b.path("fc"), "--speed", "max", "--json")
	daemon := b.run()
	if code := replay.wait(2 * patience); code != 0 {
		t.Fatalf("replay: exit code %d: %s", code, replay.errs.String())
	}
	if sum := replaySummary(t, replay); sum.Bytes != int64(len(stream)) {
		t.Fatalf("replay sent %d bytes, want %d", sum.Bytes, len(stream))
	}
	daemon.stop()
	records := b.open(0)
	checkStream(t, stream, records)
	b.checkTree()
	return records
}
