package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot/allow"
)

// mediaMarker is a text that footage and telemetry carry, and that must never lie anywhere unsealed.
const mediaMarker = "PLAIN-7d1f0c55-NEVER-ON-DISK-a94e"

// Sizes of what the cameras of TestCameras give.
const (
	gaveTS   = 300 * 188 * 20
	gaveH264 = 400 * unit
	gaveMP4  = 1_500_000
)

// TestCameras: three formats that run by themselves, one camera that photographs and films when a
// ground station says so, and an inbox, in one flight: what is opened is what the cameras gave, byte
// for byte, and the flight is whole.
func TestCameras(t *testing.T) {
	t.Parallel()
	inbox := memoryFolder(t)
	b := newBoard(t,
		camera(t, "front", "mjpeg", 11, 150_000, 1<<30, `start = "command"`),
		camera(t, "down", "ts", 12, 150_000, gaveTS),
		camera(t, "left", "h264", 13, 200_000, gaveH264),
		camera(t, "right", "mp4", 14, 200_000, gaveMP4),
		fmt.Sprintf("[[camera]]\nname = \"drop\"\nsource = \"inbox\"\npath = %q", inbox))
	s := b.takeOff(allow.Options{Camera: true}, "--duration", "24s", "--after", endless,
		"--gcs", "7s,VIDEO_START_CAPTURE", "--gcs", "11s,IMAGE_START_CAPTURE,100,0,1,2", "--trigger", "15s",
		"--gcs", "16s,STORAGE_FORMAT,100,1,1", "--gcs", "18s,REQUEST_MESSAGE,100,263,0", "--gcs", "20s,VIDEO_STOP_CAPTURE")
	put := fillInbox(t, inbox)
	for seed, kind := range map[int]string{12: "ts", 13: "h264", 14: "mp4"} {
		s.daemon.waitGiven(kind, seed)
	}
	waitFor(t, sortiePatience, "an empty inbox", func() bool {
		left, _ := os.ReadDir(inbox)
		return len(left) == 0
	})
	s.until("three photos and the end of the film", func(r []*opened) bool {
		photos, film := 0, false
		for _, f := range mediaOf(t, r, "front") {
			switch {
			case f.Kind == "photo" && f.Complete:
				photos++
			case f.Kind == "video":
				film = film || f.Complete
			}
		}
		return photos >= 3 && film
	})
	s.finish()
	wantFootage(t, s.records, "down", whole("ts", 12, gaveTS))
	wantFootage(t, s.records, "left", whole("h264", 13, gaveH264))
	wantFootage(t, s.records, "right", whole("mp4", 14, gaveMP4))
	s.wantFilm()
	s.wantPhotos()
	s.wantInbox(put)
	s.wantAnswers()
}

// wantFootage wants a camera's whole stream, and nothing lost.
func wantFootage(t testing.TB, records []*opened, source string, want []byte) {
	t.Helper()
	got, lost := firstRun(t, records, source)
	if !bytes.Equal(got, want) || lost != 0 {
		t.Errorf("%s: %d bytes opened, %d lost, the camera gave %d; they differ from byte %d on; %s", source, len(got), lost, len(want), firstDifference(got, want), whysOf(t, records, source))
	}
}

// TestFilmWithoutVehicle: a camera films before the autopilot has said a word. That begins a record,
// and nothing of the film is lost.
func TestFilmWithoutVehicle(t *testing.T) {
	t.Parallel()
	const gave = 200 * unit
	b := newBoard(t, camera(t, "front", "h264", 15, 400_000, gave))
	b.pty()
	daemon := b.run()
	daemon.waitGiven("h264", 15)
	daemon.stop()
	records := b.open(0)
	wantFootage(t, records, "front", whole("h264", 15, gave))
	if len(records) != 1 {
		t.Errorf("%d records, want 1", len(records))
	}
}

// whysOf lists why files of a camera are not whole.
func whysOf(t testing.TB, records []*opened, source string) string {
	var list []string
	for _, f := range mediaOf(t, records, source) {
		list = append(list, fmt.Sprintf("%s/%s: from byte %d, %d lost: %q", f.in.Record, f.Name, f.StartsAt, f.LostBytes, f.Why))
	}
	return strings.Join(list, "\n")
}

// fillInbox puts two photos and a large film into an inbox, and returns what they hold.
func fillInbox(t testing.TB, inbox string) map[string][]byte {
	t.Helper()
	put := map[string][]byte{"a.jpg": picture(21, 1), "b.JPG": picture(21, 2), "long.mp4": append(movieHead(false), movieFragment(21, 7, 20<<20)...)}
	for name, data := range put {
		f, err := os.OpenFile(filepath.Join(inbox, name), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for _, half := range [][]byte{data[:len(data)/2], data[len(data)/2:]} {
			if _, err := f.Write(half); err != nil {
				t.Fatal(err)
			}
			<-time.After(50 * time.Millisecond) // a program that writes a while
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return put
}

// wantInbox wants each file once, whole, under the name it had.
func (s *sortie) wantInbox(put map[string][]byte) {
	s.t.Helper()
	files := mediaOf(s.t, s.records, "drop")
	for name, want := range put {
		n := 0
		for _, f := range files {
			if f.Called == name && f.Complete && bytes.Equal(readFile(s.t, f.path(f.Name)), want) && f.SHA256OK != nil && *f.SHA256OK {
				n++
			}
		}
		if n != 1 {
			s.t.Errorf("%s from the inbox was opened %d times of %d files", name, n, len(files))
		}
	}
}

// wantFilm wants the film that was commanded to be what the camera gave from its start on.
func (s *sortie) wantFilm() {
	s.t.Helper()
	got, lost := footageOf(s.t, s.records, "front")
	gave := whole("mjpeg", 11, len(got)+1)
	if len(got) < 300_000 || lost != 0 || !bytes.HasPrefix(gave, got) {
		s.t.Errorf("the commanded film: %d bytes, %d lost, differs from byte %d on", len(got), lost, firstDifference(got, gave))
	}
}

// wantPhotos wants each photo to be one of the camera's pictures, with a pose in its sidecar and a
// copy with geotags that decodes to the same picture.
func (s *sortie) wantPhotos() {
	s.t.Helper()
	n := 0
	for _, f := range mediaOf(s.t, s.records, "front") {
		if f.Kind != "photo" {
			continue
		}
		n++
		data := readFile(s.t, f.path(f.Name))
		var seed, at int
		if _, err := fmt.Sscanf(string(data[6:]), "picture %d at %d ", &seed, &at); err != nil || !bytes.Equal(data, picture(seed, at)) {
			s.t.Errorf("%s is no picture of the camera: %v", f.Name, err)
		}
		s.wantSidecar(f, data)
	}
	if n != 3 {
		s.t.Errorf("%d photos, want two by command and one by trigger", n)
	}
}

func (s *sortie) wantSidecar(f *mediaFile, photo []byte) {
	s.t.Helper()
	var doc struct {
		Sealed struct {
			Trigger string          `json:"trigger"`
			Pose    json.RawMessage `json:"pose"`
		} `json:"sealed"`
	}
	if err := json.Unmarshal(readFile(s.t, f.path(f.Sidecar)), &doc); err != nil || len(doc.Sealed.Pose) < 10 {
		s.t.Errorf("%s: sidecar without a pose: %v, %s", f.Name, err, doc.Sealed.Pose)
	}
	if f.Geotagged == "" {
		s.t.Errorf("%s has no copy with geotags: %s", f.Name, f.GeotagWhy)
		return
	}
	tagged := readFile(s.t, f.path(f.Geotagged))
	got, err1 := jpeg.Decode(bytes.NewReader(tagged))
	want, err2 := jpeg.Decode(bytes.NewReader(photo))
	if err1 != nil || err2 != nil || got.Bounds() != want.Bounds() || got.At(5, 7) != want.At(5, 7) || !bytes.Contains(tagged, []byte("Exif\x00\x00")) {
		s.t.Errorf("%s: %v, %v", f.Geotagged, err1, err2)
	}
}

// wantAnswers wants the command to format denied, and the photo told again to who asked.
func (s *sortie) wantAnswers() {
	s.t.Helper()
	told, denied := map[int32]int{}, 0
	var first [][]byte // of the first camera's component
	for _, f := range s.heard.frames {
		if f[6] == allow.ComponentCamera {
			first = append(first, f)
		}
	}
	for _, m := range decode(first) {
		switch m := m.(type) {
		case *common.MessageCameraImageCaptured:
			told[m.ImageIndex]++
		case *common.MessageCommandAck:
			if m.Command == common.MAV_CMD_STORAGE_FORMAT && m.Result == common.MAV_RESULT_DENIED {
				denied++
			}
		}
	}
	if told[0] != 2 || told[1] != 1 || told[2] != 1 {
		s.t.Errorf("CAMERA_IMAGE_CAPTURED by index: %v, want the first told again", told)
	}
	if denied != 1 || events(s.records, "storage_format_denied", "") != 1 {
		s.t.Errorf("%d denials of STORAGE_FORMAT, events %v", denied, allEvents(s.records))
	}
}

// TestVideoForAnotherDesk: with video_recipients the key of the crash desk opens telemetry and no
// video, and that of the media desk video and no telemetry.
func TestVideoForAnotherDesk(t *testing.T) {
	t.Parallel()
	const gave = 100 * unit
	b := newBoard(t, "[policy]\nvideo_recipients = \"media.txt\"", camera(t, "front", "h264", 31, 400_000, gave))
	desk := b.path("desk.key")
	writeFile(t, b.path("media.txt"), must(t, "holdfast", "keygen", "-o", desk))
	line, daemon := b.pty(), b.run()
	sent := flight(t, 31)
	send(t, line, join(sent))
	daemon.waitGiven("h264", 31)
	b.waitFrames(len(sent))
	daemon.stop()
	crash := b.open(0)
	wantFrames(t, "the crash desk", allFrames(crash), sent)
	if got, _ := footageOf(t, crash, "front"); len(got) > 0 || anywhere(t, crash, numbered(31, 3)[:40]) {
		t.Errorf("the crash desk has %d bytes of video", len(got))
	}
	out := b.path("desk")
	r := run(t, "holdfast", "open", b.vault(), "-i", desk, "-o", out)
	media := readOpened(t, out)
	t.Logf("the media desk: code %d: %s", r.code, strings.TrimSpace(r.stderr))
	got, lost := firstRun(t, media, "front")
	if !bytes.Equal(got, whole("h264", 31, gave)) || lost != 0 {
		t.Errorf("the media desk opened %d bytes of video, %d lost; it is %d", len(got), lost, gave)
	}
	if n := len(allFrames(media)); n > 0 || anywhere(t, media, sent[len(sent)/2]) {
		t.Errorf("the media desk has %d frames", n)
	}
}

// anywhere tells whether any file that was opened holds some bytes.
func anywhere(t testing.TB, records []*opened, what []byte) (found bool) {
	t.Helper()
	for _, r := range records {
		_ = filepath.WalkDir(r.dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				found = found || bytes.Contains(readFile(t, path), what)
			}
			return nil
		})
	}
	return found
}

// TestBadCameras: one that dies at once, one that hangs, one that floods, one of garbage, and one
// with sound, beside a good one. Each is told; the good one and the telemetry are whole.
func TestBadCameras(t *testing.T) {
	t.Parallel()
	const gave = 300 * unit
	b := newBoard(t,
		camera(t, "dies", "die", 41, 0, 1), camera(t, "hangs", "hang", 42, 0, 1), camera(t, "floods", "h264", 43, 0, 60<<20),
		camera(t, "garbage", "garbage", 44, 300_000, gave), camera(t, "sound", "mp4-sound", 45, 100_000, 1_000_000), camera(t, "good", "h264", 46, 200_000, gave))
	line, daemon := b.pty(), b.run()
	sent := flight(t, 41)
	recorder := daemon.part("record")
	send(t, line, join(sent[:len(sent)/2]))
	for seed, kind := range map[int]string{43: "h264", 44: "garbage", 46: "h264"} {
		daemon.waitGiven(kind, seed)
	}
	b.watch("what is wrong with each camera", func(r []*opened) bool {
		return events(r, "camera_failed", "no sensor") >= 3 && events(r, "camera_silent", "") >= 1 && events(r, "audio_refused", "") >= 1 &&
			events(r, "format_unexpected", "") >= 1
	})
	send(t, line, join(sent[len(sent)/2:]))
	b.waitFrames(len(sent))
	if h := b.health(); h["state"] != "recording" || h["ring_drops"] != 0.0 {
		t.Errorf("status: %v", h)
	}
	if daemon.part("record") != recorder || strings.Contains(daemon.errs.String(), "starting it again") {
		t.Errorf("something died: %s", daemon.errs.String())
	}
	began := time.Now()
	if err := daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := daemon.wait(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("the end with a camera that does not hear SIGTERM took %v", time.Since(began).Round(time.Millisecond))
	records := b.open(0)
	wantFrames(t, "telemetry", allFrames(records), sent)
	wantFootage(t, records, "good", whole("h264", 46, gave))
	wantFootage(t, records, "garbage", whole("garbage", 44, gave))
	got, lost := firstRun(t, records, "floods")
	checkNumbered(t, got, 43, 60<<20, lost)
	if got, _ := footageOf(t, records, "sound"); len(got) > 0 {
		t.Errorf("%d bytes of a video with sound", len(got))
	}
	wantBackOff(t, records)
}

// wantBackOff wants the pauses between the tries of a camera that dies to grow.
func wantBackOff(t testing.TB, records []*opened) {
	t.Helper()
	var pauses []int64
	last := int64(0)
	for _, r := range records {
		for _, e := range r.events {
			if e.Event != "camera_failed" || !strings.Contains(e.Detail, "no sensor") {
				continue
			}
			if last > 0 {
				pauses = append(pauses, e.BootUsec-last)
			}
			last = e.BootUsec
		}
	}
	// The first ones may have waited for the recorder.
	if n := len(pauses); n < 3 || pauses[n-1] < pauses[n-2]*5/4 || pauses[n-1] < 900_000 {
		t.Errorf("pauses before a dead camera is tried again: %v µs", pauses)
	}
}

// TestMediaKilled kills the media process, and later the recorder, during a flight with video: each
// comes back and goes on, and the record says what is missing.
func TestMediaKilled(t *testing.T) {
	t.Parallel()
	b := newBoardInMemory(t, camera(t, "front", "h264", 51, 400_000, 1<<30))
	line, daemon := b.pty(), b.run()
	sent := flight(t, 51)
	third := len(sent) / 3
	send(t, line, join(sent[:third]))
	film := func(r []*opened) int {
		got, _ := footageOf(t, r, "front")
		return len(got)
	}
	was := film(b.watch("video", func(r []*opened) bool { return film(r) > 400_000 }))
	kill := func(part string) {
		pid := daemon.part(part)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, patience, "another "+part, func() bool { return !alive(pid) && daemon.part(part) != pid })
	}
	kill("media")
	send(t, line, join(sent[third:2*third]))
	was = film(b.watch("video after the media process died", func(r []*opened) bool { return film(r) > was+800_000 }))
	b.waitFrames(2 * third)
	b.waitDurable(2 * third)
	<-time.After(time.Second) // what was read is durable
	kill("record")
	send(t, line, join(sent[2*third:]))
	records := b.watch("video after the recorder died", func(r []*opened) bool { return film(r) > was+400_000 })
	daemon.stop()
	records = b.open(3)
	wantFrames(t, "telemetry", allFrames(records), sent)
	var whys []string
	for _, f := range mediaOf(t, records, "front") {
		if f.Kind == "video" && f.Why != "" {
			whys = append(whys, fmt.Sprintf("%s/%s: %d bytes, %d lost: %s", f.in.Record, f.Name, f.Bytes, f.LostBytes, f.Why))
		}
	}
	for _, f := range mediaOf(t, records, "front") {
		if f.Complete && strings.Contains(f.Why, "the media process was") {
			t.Errorf("%s/%s was cut, and is said to be complete: %s", f.in.Record, f.Name, f.Why)
		}
	}
	if len(whys) < 2 || !strings.Contains(strings.Join(whys, "\n"), "the media process was") {
		t.Errorf("what is missing is not told: %s", strings.Join(whys, "\n"))
	}
	t.Logf("files that did not come to their end:\n%s", strings.Join(whys, "\n"))
}
