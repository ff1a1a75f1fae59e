package e2e_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/firmware/mediapipe"
	"holdfast/mavlink/serial/serialtest"
	"holdfast/mavlink/vehicle"
)

// lineRate is what 921,600 baud carry, in bytes a second: ten bits each.
const lineRate = 92_160

// pour sends frames at a rate of bytes a second. It returns what was sent when ctx ends or all is.
func pour(ctx context.Context, t testing.TB, line *serialtest.Pty, frames [][]byte, rate int) (sent int) {
	t.Helper()
	if err := line.WaitReader(ctx); err != nil {
		t.Error(err)
		return 0
	}
	const every = 10 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	began, bytes := time.Now(), 0
	for sent < len(frames) {
		var batch []byte
		for due := int(time.Since(began).Seconds() * float64(rate)); sent < len(frames) && bytes < due; sent++ {
			batch = append(batch, frames[sent]...)
			bytes += len(frames[sent])
		}
		if _, err := line.WriteContext(ctx, batch); err != nil {
			t.Errorf("write to the line: %v", err)
			return sent
		}
		select {
		case <-ctx.Done():
			return sent
		case <-tick.C:
		}
	}
	return sent
}

// stormFrames are those of an armed vehicle, enough for some seconds at full rate.
func stormFrames(t testing.TB, seed uint64, seconds int) (frames [][]byte) {
	t.Helper()
	for total := 0; total < seconds*lineRate; seed++ {
		for _, f := range flightFrames(t, vehicle.Options{Seed: seed, Duration: time.Minute, Camera: true}) {
			if total += len(f); total < seconds*lineRate {
				frames = append(frames, f)
			}
		}
	}
	return frames
}

// timing is what flight.json says of how long the medium took.
type timing struct {
	Durable struct {
		Frames int64 `json:"frames"`
		P50    int64 `json:"p50_usec"`
		P99    int64 `json:"p99_usec"`
		P999   int64 `json:"p999_usec"`
		Max    int64 `json:"max_usec"`
	} `json:"durable"`
}

// logTimes prints how long telemetry took to the medium, by record, and returns the longest sync.
func logTimes(t testing.TB, records []*opened) (longest time.Duration) {
	t.Helper()
	for _, r := range records {
		var d timing
		if err := json.Unmarshal(readFile(t, filepath.Join(r.dir, "flight.json")), &d); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Duration(r.Sync.MaxUsec)*time.Microsecond)
		if d.Durable.Frames > 0 {
			t.Logf("%s: from the line to the medium, ms: p50 %.1f, p99 %.1f, p99.9 %.1f, max %.1f, of %d frames; longest sync %.1f ms", r.Record,
				float64(d.Durable.P50)/1e3, float64(d.Durable.P99)/1e3, float64(d.Durable.P999)/1e3, float64(d.Durable.Max)/1e3, d.Durable.Frames, float64(r.Sync.MaxUsec)/1e3)
		}
	}
	return longest
}

// TestStorm: video at 50 MB/s and telemetry at 921,600 baud at once. Of the telemetry nothing is
// lost; what of the video found no way to the medium is told, to the byte.
func TestStorm(t *testing.T) {
	const rate = 50 << 20
	seconds := 5
	if long {
		seconds = 60
	}
	b := newBoard(t, camera(t, "fast", "h264", 71, rate, seconds*rate))
	line, daemon := b.pty(), b.run()
	sent := stormFrames(t, 71, seconds+2)
	if n := pour(t.Context(), t, line, sent, lineRate); n != len(sent) {
		t.Fatalf("%d of %d frames sent", n, len(sent))
	}
	daemon.waitGiven("h264", 71)
	b.waitFrames(len(sent))
	if drops := b.health()["ring_drops"]; drops != 0.0 {
		t.Errorf("%v frames found no room", drops)
	}
	daemon.stop()
	records := b.open(0)
	wantFrames(t, "telemetry", allFrames(records), sent)
	got, lost := firstRun(t, records, "fast")
	checkNumbered(t, got, 71, seconds*rate, lost)
	t.Logf("%d MB given, %.1f %% lost", seconds*rate/1e6, float64(lost)/float64(seconds*rate)*100)
	logTimes(t, records)
	for _, f := range mediaOf(t, records, "fast") {
		for _, why := range strings.Split(f.Why, "; ") {
			if f.LostBytes > 0 && why != "" && why != mediapipe.WhyFast && !strings.HasPrefix(why, "the space that is left") {
				t.Errorf("%s/%s, %d bytes lost, for another reason than a medium that was too slow or full: %q", f.in.Record, f.Name, f.LostBytes, why)
			}
		}
	}
	if told := events(records, "media_lost", ""); (lost > 0) != (told > 0) {
		t.Errorf("%d bytes lost, and %d events tell of it", lost, told)
	}
	if n := events(records, "media_garbage", ""); n > 0 {
		t.Errorf("%d times the media process is said to have sent garbage", n)
	}
}

// TestStall: a disk that stands still for 5 s in a flight with video loses no telemetry, and the
// record says how long a sync took.
func TestStall(t *testing.T) {
	t.Parallel()
	const rate, total = 1 << 20, 16 << 20
	b := newBoard(t)
	d := b.loopMedium(200, `reserve = "1MiB"`, camera(t, "front", "h264", 72, rate, total))
	line, daemon := b.pty(), b.run()
	t.Cleanup(d.thaw) // before the recorder is killed, which waits for the disk
	sent := stormFrames(t, 72, 14)
	poured := make(chan int)
	go func() { poured <- pour(t.Context(), t, line, sent, lineRate) }()
	b.watch("video", func(r []*opened) bool { got, _ := footageOf(t, r, "front"); return len(got) > 0 })
	d.freeze()
	before, _ := b.health()["frames"].(float64)
	<-time.After(5 * time.Second)
	if after, _ := b.health()["frames"].(float64); after < before+500 {
		t.Errorf("%v frames were read while the disk stood still, of some 8000: something that reads the line waits for the disk", after-before)
	}
	d.thaw()
	if n := <-poured; n != len(sent) {
		t.Fatalf("%d of %d frames sent", n, len(sent))
	}
	daemon.waitGiven("h264", 72)
	b.waitFrames(len(sent))
	if h := b.health(); h["ring_drops"] != 0.0 || h["state"] != "recording" {
		t.Errorf("status %v", h)
	}
	daemon.stop()
	records := b.open(0)
	wantFrames(t, "telemetry", allFrames(records), sent)
	got, lost := firstRun(t, records, "front")
	checkNumbered(t, got, 72, total, lost)
	t.Logf("video: %d bytes of %d lost", lost, total)
	if longest := logTimes(t, records); longest < 4*time.Second {
		t.Errorf("the longest sync took %v, the disk stood still for 5 s", longest)
	}
}

// TestYielding: as room runs out, video ends first, then photos; telemetry goes on, and waits in
// memory where there is no room at all. Each is told. With room again all go on, without a restart.
func TestYielding(t *testing.T) {
	t.Parallel()
	inbox := memoryFolder(t)
	b := newBoard(t)
	b.smallMedium(96, `reserve = "4MiB"`, camera(t, "front", "h264", 73, 100<<10, 1<<30),
		"[[camera]]\nname = \"drop\"\nsource = \"inbox\"\npath = \""+inbox+"\"")
	s := b.takeOffPlain("--duration", "90s", "--after", "20m", "--old-logs", "-1")
	pid := s.daemon.part("record")
	b.watch("video", func(r []*opened) bool { got, _ := footageOf(t, r, "front"); return len(got) > 0 })

	b.fill(18 << 20) // video ends below 20 MiB, photos below 16, telemetry below 8
	b.watch("video ends", func(r []*opened) bool { return reserved(r, "front") })
	putPhoto(t, inbox, 1)
	s.until("a photo while video has no room", func(r []*opened) bool { return kept(t, r, "drop") == 1 })

	fillers := b.fill(12 << 20)
	putPhoto(t, inbox, 2)
	b.watch("photos end", func(r []*opened) bool { return reserved(r, "drop") })
	if h := b.health(); h["state"] != "recording" {
		t.Errorf("while telemetry has its reserve: %v", h)
	}

	b.fill(5 << 20)
	waitFor(t, patience, "fault in status.json", func() bool { return b.state() == "fault" && b.health()["last_error"] != "" })
	<-time.After(2 * time.Second) // it stays full for a while
	removeFile(t, fillers)
	waitFor(t, patience, "an end of the fault", func() bool { return b.state() == "recording" })
	was := kept(t, b.peek(), "drop")
	b.watch("video and photos with room again", func(r []*opened) bool { return films(t, r, "front") >= 2 && kept(t, r, "drop") > was })
	if s.daemon.part("record") != pid {
		t.Error("the recorder was started again")
	}
	s.wantTold("storage full", "recording has stopped", "recording again")
}

// TestBadMedium: a medium whose every write fails for a while, in a flight with video. Telemetry
// waits in memory; when the medium writes again it goes on, without a restart.
func TestBadMedium(t *testing.T) {
	t.Parallel()
	const total = 8 << 20
	b := newBoard(t)
	d := b.loopMedium(128, `reserve = "1MiB"`, camera(t, "front", "h264", 74, 400<<10, total), lightKeys)
	s := b.takeOffPlain("--duration", "60s", "--after", "20m", "--old-logs", "-1")
	pid := s.daemon.part("record")
	b.watch("video", func(r []*opened) bool { got, _ := footageOf(t, r, "front"); return len(got) > 0 })
	before := films(t, b.peek(), "front")
	d.cut()
	waitFor(t, patience, "fault in status.json", func() bool { return b.state() == "fault" && b.health()["last_error"] != "" })
	t.Logf("told: %v", b.health()["last_error"])
	d.wantLight(true)
	d.mend()
	waitFor(t, sortiePatience, "an end of the fault", func() bool { return b.state() == "recording" })
	d.wantLight(false)
	b.watch("video again", func(r []*opened) bool { return films(t, r, "front") > before })
	s.daemon.waitGiven("h264", 74)
	if s.daemon.part("record") != pid {
		t.Error("the recorder was started again")
	}
	s.wantTold("recording has stopped", "recording again")
	got, lost := firstRun(t, s.records, "front")
	for _, f := range mediaOf(t, s.records, "front") {
		t.Logf("%s/%s: starts at %d, %d bytes, %d lost, holes %v: %s", f.in.Record, f.Name, f.StartsAt, f.Bytes, f.LostBytes, f.Holes, f.Why)
	}
	checkNumbered(t, got, 74, total, lost)
	t.Logf("video: %d bytes of %d lost", lost, total)
}

// TestPulledMedium: the card is pulled in a flight with video, and put in again.
func TestPulledMedium(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	d := b.loopMedium(128, `reserve = "1MiB"`, camera(t, "front", "h264", 75, 300<<10, 1<<30), lightKeys)
	d.flyWithout(d.pull, d.put)
}

// TestReadOnlyRemount: the kernel finds an error in the file system in a flight with video and makes it
// read-only; somebody takes the card out, has it checked, and puts it in again.
func TestReadOnlyRemount(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	d := b.loopMediumOf("-e remount-ro", 128, `reserve = "1MiB"`, camera(t, "front", "h264", 76, 300<<10, 1<<30), lightKeys)
	d.flyWithout(d.readOnly, func() {
		if state := d.inside("dumpe2fs", "-h", d.image); !strings.Contains(state, "error") {
			t.Errorf("the file system has no error: %s", state)
		}
		d.inside("umount", "-l", d.at)
		d.inside("cp", "--sparse=always", d.image, d.image+".kept") // the same device would be the same mount, while anybody has it open
		d.put()
	})
}

// flyWithout takes the medium away in a flight, and gives it back as another mount. holdfastd stays, and
// goes on with a recorder that sees the new mount. No frame is lost: what came while there was no medium
// the first recorder hands to the second.
func (d *loopMedium) flyWithout(take, give func()) {
	b, t := d.b, d.b.t
	t.Helper()
	line, daemon := b.pty(), b.run()
	pid := daemon.part("record")
	frames := flight(t, 75)
	half := len(frames) / 2
	send(t, line, join(frames[:half]))
	b.watch("video, and frames", func(r []*opened) bool {
		got, _ := footageOf(t, r, "front")
		return len(got) > 0 && len(allFrames(r)) == half
	})
	<-time.After(5 * time.Second) // a recorder that dies at once is taken for a mistake in its configuration
	d.wantLight(false)
	take()
	send(t, line, join(frames[half:half+500]))
	waitFor(t, patience, "fault in status.json", func() bool { return b.state() == "fault" && b.health()["last_error"] != "" })
	t.Logf("told: %v", b.health()["last_error"])
	d.wantLight(true)
	give()
	waitFor(t, sortiePatience, "recording on the new mount", func() bool { return daemon.part("record") != pid && b.state() != "fault" })
	send(t, line, join(frames[half+500:]))
	b.watch("video and frames again", func(r []*opened) bool {
		return len(allFrames(r)) >= len(frames) && events(r, "armed", "") > 0
	})
	if !daemon.running() {
		t.Fatalf("holdfastd has ended: %s", daemon.errs.String())
	}
	d.wantLight(false)
	daemon.stop()
	code, state, _ := b.list()
	if code != 3 || state != "cut" {
		t.Errorf("list: %d, %s", code, state)
	}
	records := b.open(code)
	wantFrames(t, "before, during and after", allFrames(records), frames)
	if events(records, "held_over", "") != 1 {
		t.Error("no event says that frames were held over")
	}
	told := (&sortie{heard: tlogFile{frames: sentFrames(t, records)}}).texts()
	if !strings.Contains(told, "recording has stopped") {
		t.Errorf("the autopilot was not told that recording has stopped, but: %s", told)
	}
	t.Logf("told the autopilot: %s; events %v", told, counts(allEvents(records)))
}

// reserved tells whether the records say that a camera found no room but the reserve.
func reserved(records []*opened, source string) bool {
	for _, r := range records {
		for _, e := range r.events {
			if e.Event == "media_lost" && e.Link == "camera:"+source && strings.Contains(e.Detail, "for telemetry") {
				return true
			}
		}
	}
	return false
}

// kept counts the photos of a camera that are whole.
func kept(t testing.TB, records []*opened, source string) (n int) {
	for _, f := range mediaOf(t, records, source) {
		if f.Kind == "photo" && f.Complete {
			n++
		}
	}
	return n
}

// films counts the segments of video.
func films(t testing.TB, records []*opened, source string) (n int) {
	got, _ := footageOf(t, records, source)
	return len(got) / unit
}
