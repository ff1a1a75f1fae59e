package media_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/firmware/media"
	"holdfast/firmware/mediafifo"
	"holdfast/firmware/mediapipe"
)

// cameraEnv makes the test program a camera that does what it says.
const cameraEnv = "TEST_CAMERA"

func TestMain(m *testing.M) {
	if as := os.Getenv(cameraEnv); as != "" && len(os.Args) > 1 && os.Args[1] == "camera" {
		os.Exit(beCamera(os.Args[2], os.Args[3:]))
	}
	_ = os.Setenv(cameraEnv, "yes")
	code := m.Run()
	if programDir != "" {
		_ = os.RemoveAll(programDir)
	}
	os.Exit(code)
}

// camera is the command of a camera program.
func camera(t testing.TB, words ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{self, "camera"}, words...)
}

// got is a file as it arrived.
type got struct {
	begin mediapipe.Begin
	data  []byte
	lost  int64
	why   string
	end   *mediapipe.End
}

// recorder is the other end of the FIFOs.
type recorder struct {
	t       testing.TB
	run     string
	in, out *os.File
	mu      sync.Mutex
	changed chan struct{}
	done    chan struct{} // closed when reading has ended
	files   map[uint32]*got
	order   []uint32
	events  []mediapipe.Event
	hellos  []mediapipe.Hello
	session uint32
	keep    func(f *got) *mediapipe.Kept // nil: all is well
}

func newRecorder(t testing.TB, run string) *recorder {
	t.Helper()
	r := &recorder{t: t, run: run, files: map[uint32]*got{}, changed: make(chan struct{}), done: make(chan struct{})}
	var err error
	if r.in, err = mediafifo.OpenReader(run, mediapipe.ToRecorder); err != nil {
		t.Fatal(err)
	}
	go r.read(r.in)
	return r
}

func (r *recorder) read(in io.Reader) {
	defer close(r.done)
	reader := mediapipe.NewReader(in)
	for {
		m, session, err := reader.Next()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.take(m, session)
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
	}
}

func (r *recorder) take(m mediapipe.Message, session uint32) {
	r.session = session
	switch v := m.(type) {
	case *mediapipe.Hello:
		r.hellos = append(r.hellos, *v)
	case *mediapipe.Begin:
		if r.files[v.File] == nil {
			r.files[v.File] = &got{begin: *v}
			r.order = append(r.order, v.File)
		}
	case *mediapipe.Data:
		f := r.files[v.File]
		if f == nil {
			r.t.Errorf("data of file %d, which nobody announced", v.File)
			return
		}
		if want := f.begin.Offset + int64(len(f.data)) + f.lost; v.Offset != want {
			r.t.Errorf("file %d: offset %d, want %d", v.File, v.Offset, want)
		}
		f.data = append(f.data, v.Bytes...)
	case *mediapipe.Lost:
		r.files[v.File].lost += v.Bytes
		r.files[v.File].why = v.Why
	case *mediapipe.End:
		f := r.files[v.File]
		f.end = v
		if f.begin.Asks {
			k := &mediapipe.Kept{Session: session, File: v.File, OK: true}
			if r.keep != nil {
				k = r.keep(f)
				if k == nil {
					return
				}
				k.File = v.File
			}
			go r.tell(k)
		}
	case *mediapipe.Event:
		r.events = append(r.events, *v)
	}
}

// finish takes what is left in the FIFO, once the media process has ended, and ends reading.
func (r *recorder) finish() {
	out, err := mediafifo.OpenWriter(r.run, mediapipe.ToRecorder)
	if err != nil {
		return // reading has ended
	}
	defer out.Close()
	last, err := mediapipe.Append(mediapipe.Padding(), 1, &mediapipe.Hello{Process: "finish"})
	if err != nil {
		r.t.Error(err)
	}
	if _, err := out.Write(last); err != nil {
		r.t.Error(err)
	}
	r.await("the last word", func() bool { return len(r.hellos) > 0 && r.hellos[len(r.hellos)-1].Process == "finish" })
	r.in.Close()
	<-r.done
}

// tell sends a message to the media process, which may not be there yet.
func (r *recorder) tell(m mediapipe.Message) {
	p, err := mediapipe.Append(nil, 1, m)
	if err != nil {
		r.t.Error(err)
		return
	}
	for range 1000 {
		r.mu.Lock()
		if r.out == nil {
			r.out, _ = mediafifo.OpenWriter(r.run, mediapipe.ToMedia)
		}
		out := r.out
		r.mu.Unlock()
		if out != nil {
			if _, err := out.Write(p); err != nil {
				r.t.Error(err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Error("the media process does not listen")
}

// await waits until ok, which looks at what came; the test's own deadline ends it.
func (r *recorder) await(what string, ok func() bool) {
	r.t.Helper()
	limit := time.After(time.Minute)
	for {
		r.mu.Lock()
		done, changed := ok(), r.changed
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-limit:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("%s did not happen; files %v, events %+v", what, r.order, r.events)
		}
	}
}

func (r *recorder) event(kind string) *mediapipe.Event {
	for i := range r.events {
		if r.events[i].Kind == kind {
			return &r.events[i]
		}
	}
	return nil
}

// ended returns the n-th file where it has ended.
func (r *recorder) ended(n int) *got {
	if len(r.order) <= n || r.files[r.order[n]].end == nil {
		return nil
	}
	return r.files[r.order[n]]
}

func since() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) + time.Hour }
}

// start runs a Media over real FIFOs.
func start(t testing.TB, c media.Config) (*recorder, *media.Media, func()) {
	t.Helper()
	run := t.TempDir()
	if err := mediafifo.Make(run, nil); err != nil {
		t.Fatal(err)
	}
	r := newRecorder(t, run)
	m, stopMedia := startMedia(t, run, c)
	stop := sync.OnceFunc(func() { stopMedia(); r.finish() })
	t.Cleanup(stop)
	return r, m, stop
}

func startMedia(t testing.TB, run string, c media.Config) (*media.Media, func()) {
	t.Helper()
	m := newMedia(t, run, c)
	if words := c.Cameras[0].Command; len(words) > 0 && words[len(words)-1] == "hang" {
		m.Quick(200*time.Millisecond, 400*time.Millisecond, 300*time.Millisecond, 50*time.Millisecond)
	} else { // a busy machine is slow
		m.Quick(20*time.Second, 40*time.Second, 20*time.Second, 50*time.Millisecond)
	}
	return m, runMedia(m)
}

func newMedia(t testing.TB, run string, c media.Config) *media.Media {
	t.Helper()
	c.OpenOut = func() (io.WriteCloser, error) { return mediafifo.OpenWriter(run, mediapipe.ToRecorder) }
	c.OpenIn = func() (io.ReadCloser, error) { return mediafifo.OpenReader(run, mediapipe.ToMedia) }
	c.Now = since()
	if testing.Verbose() {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	m, err := media.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// runMedia starts m and returns what ends it.
func runMedia(m *media.Media) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

func config(cams ...media.Camera) media.Config {
	return media.Config{Cameras: cams, Photo: true, Video: true}
}

func video(t testing.TB, name, format string, words ...string) media.Camera {
	return media.Camera{Name: name, Source: media.SourceCommand, Format: format, Start: media.StartAlways, Command: camera(t, words...)}
}

// TestProgramOfEachFormat: what a program writes arrives byte for byte, and a new file begins each
// time it starts.
func TestProgramOfEachFormat(t *testing.T) {
	for format, want := range map[string][]byte{"h264": h264(), "ts": transport(false), "mp4": fragmented(t, false), "mjpeg": bytes.Repeat(jpeg(300), 20)} {
		t.Run(format, func(t *testing.T) {
			r, _, stop := start(t, config(video(t, "front", format, "give", format)))
			r.await("two files", func() bool { return r.ended(0) != nil && r.ended(1) != nil })
			stop()
			for n := range 2 {
				f := r.ended(n)
				if !bytes.Equal(f.data, want) || f.lost != 0 || f.end.Size != int64(len(want)) || f.begin.Kind != mediapipe.Video ||
					f.begin.Camera != "front" || f.begin.Format != format || !strings.Contains(f.end.Why, "the program ended: exit status 0: last words") {
					t.Errorf("file %d: %+v, %d bytes of %d, lost %d, end %+v", n, f.begin, len(f.data), len(want), f.lost, f.end)
				}
			}
			if e := r.event("format_unexpected"); e != nil {
				t.Errorf("%+v", e)
			}
			if e := r.event("camera_failed"); e == nil || !strings.Contains(e.Detail, "last words") || strings.Contains(e.Detail, "first") {
				t.Errorf("no event of the program's end with its last line: %+v", e)
			}
		})
	}
}

// TestGarbage is kept as it is, and said to be odd.
func TestGarbage(t *testing.T) {
	r, _, stop := start(t, config(video(t, "front", "h264", "garbage", "100000")))
	r.await("a file", func() bool { return r.ended(0) != nil && r.event("format_unexpected") != nil })
	stop()
	if f := r.ended(0); !bytes.Equal(f.data, noise(100000)) {
		t.Errorf("%d bytes", len(f.data))
	}
}

// TestDiesAndCannotStart: a program that ends at once, and one that is not there, are tried again,
// and told.
func TestDiesAndCannotStart(t *testing.T) {
	gone := media.Camera{Name: "gone", Source: media.SourceCommand, Format: "h264", Start: media.StartAlways, Command: []string{"/nonexistent/camera"}}
	r, _, stop := start(t, config(video(t, "dies", "h264", "die", "3"), gone))
	times := func(camera, text string) (n int) {
		for _, e := range r.events {
			if e.Kind == "camera_failed" && e.Camera == camera && strings.Contains(e.Detail, text) {
				n++
			}
		}
		return n
	}
	r.await("both tried again", func() bool { return times("dies", "exit status 3: no sensor") > 2 && times("gone", "no such file") > 2 })
	stop()
	if len(r.order) > 0 {
		t.Errorf("files of no bytes: %v", r.order)
	}
}

// TestHangs: silence is told, then the program is ended by force, with its children, and started again.
func TestHangs(t *testing.T) {
	r, _, stop := start(t, config(video(t, "front", "h264", "hang")))
	r.await("the second start", func() bool { return r.ended(0) != nil && len(r.order) > 1 && r.event("camera_silent") != nil })
	stop()
	f := r.ended(0)
	if !strings.Contains(f.end.Why, "no bytes for too long: signal: killed") {
		t.Errorf("ended: %q", f.end.Why)
	}
	// Its child wrote its own number, and would live on for a minute.
	pid := strings.Fields(string(f.data))[0]
	if _, err := os.Stat("/proc/" + pid); err == nil {
		if state, _ := os.ReadFile("/proc/" + pid + "/stat"); !strings.Contains(string(state), ") Z ") && strings.Contains(string(state), "(") {
			t.Errorf("the child %s lives on: %s", pid, state)
		}
	}
}

// TestFlood: nobody reads, so that what a program floods is dropped in whole pieces and counted; every
// byte is either handed over or counted. Another camera loses nothing of its own but what has no room.
func TestFlood(t *testing.T) {
	const total = 40 << 20
	run := t.TempDir()
	if err := mediafifo.Make(run, nil); err != nil {
		t.Fatal(err)
	}
	m, stop := startMedia(t, run, config(video(t, "flood", "h264", "flood", fmt.Sprint(total))))
	defer stop()
	for m.Waiting() < 7<<20 { // it fills up
		time.Sleep(time.Millisecond)
	}
	r := newRecorder(t, run)
	defer r.in.Close()
	r.await("the end", func() bool { return r.ended(0) != nil })
	stop()
	r.finish()
	f := r.ended(0)
	if int64(len(f.data))+f.lost != total || f.end.Size != total {
		t.Errorf("%d bytes and %d lost of %d", len(f.data), f.lost, total)
	}
	if f.lost == 0 || f.why != mediapipe.WhyNobody && f.why != mediapipe.WhyFast {
		t.Errorf("lost %d: %q", f.lost, f.why)
	}
	if m.Waiting() > media.Room {
		t.Errorf("%d bytes wait", m.Waiting())
	}
}

// TestRate: what is over the limit is dropped and counted as such.
func TestRate(t *testing.T) {
	const total = 4 << 20
	c := config(video(t, "front", "h264", "flood", fmt.Sprint(total)))
	c.Rate = 1 << 20
	r, _, stop := start(t, c)
	r.await("the end", func() bool { return r.ended(0) != nil })
	stop()
	f := r.ended(0)
	if f.why != mediapipe.WhyRate || f.lost == 0 || int64(len(f.data))+f.lost != total {
		t.Errorf("%d bytes, lost %d: %q", len(f.data), f.lost, f.why)
	}
}

// TestSound: nothing of a video with sound is handed over unless both policy and camera say so.
func TestSound(t *testing.T) {
	for format, with := range map[string][]byte{"ts-sound": transport(true), "mp4-sound": fragmented(t, true)} {
		plain, _, _ := strings.Cut(format, "-")
		t.Run(format, func(t *testing.T) {
			r, _, stop := start(t, config(video(t, "front", plain, "give", format)))
			r.await("a refusal and another start", func() bool { return r.event("audio_refused") != nil && r.event("camera_failed") != nil })
			stop()
			if len(r.order) > 0 {
				t.Errorf("files: %+v", r.files[r.order[0]])
			}
			c := config(video(t, "front", plain, "give", format))
			c.Audio, c.Cameras[0].Audio = true, true
			r, _, stop = start(t, c)
			r.await("a file", func() bool { return r.ended(0) != nil })
			stop()
			if !bytes.Equal(r.ended(0).data, with) {
				t.Error("with permission it is not what was given")
			}
		})
	}
}

// TestStart: a camera runs as its policy says: while armed, while it is told to, or always.
func TestStart(t *testing.T) {
	armed, told, both := video(t, "armed", "h264", "trickle"), video(t, "told", "h264", "trickle"), video(t, "both", "h264", "trickle")
	armed.Start, told.Start, both.Start = media.StartArmed, media.StartCommand, media.StartArmed
	r, _, stop := start(t, config(armed, told, both))
	r.await("hello", func() bool { return len(r.hellos) > 0 })
	count := func(camera string, over bool) (n int) {
		for _, f := range r.files {
			if f.begin.Camera == camera && (f.end != nil) == over {
				n++
			}
		}
		return n
	}
	r.tell(&mediapipe.State{Armed: true})
	r.tell(&mediapipe.VideoCommand{Camera: "told", On: true})
	r.tell(&mediapipe.VideoCommand{Camera: "both", On: true})
	r.await("all three run", func() bool {
		return count("armed", false) == 1 && count("told", false) == 1 && count("both", false) == 1
	})
	r.tell(&mediapipe.State{})
	r.await("one has ended", func() bool { return count("armed", true) == 1 })
	r.tell(&mediapipe.VideoCommand{Camera: "told"})
	r.tell(&mediapipe.VideoCommand{Camera: "both"})
	r.await("all have ended", func() bool { return count("told", true) == 1 && count("both", true) == 1 })
	stop()
	for _, f := range r.files {
		if f.end.Why != "" || len(r.files) != 3 {
			t.Errorf("%s: %q, %d files", f.begin.Camera, f.end.Why, len(r.files))
		}
		if !bytes.HasSuffix(f.data, []byte("bye")) {
			t.Errorf("%s: what it wrote when it was told to end is missing", f.begin.Camera)
		}
	}
}

// TestShoot: photos are whole frames of a JPEG stream, as many as were asked for, with their indices;
// the program runs for them alone.
func TestShoot(t *testing.T) {
	cam := video(t, "down", "mjpeg", "frames")
	cam.Start = media.StartCommand
	r, _, stop := start(t, config(cam))
	r.await("hello", func() bool { return len(r.hellos) > 0 })
	r.tell(&mediapipe.Shoot{Camera: "down", Count: 1, First: 4})
	r.await("a photo", func() bool { return r.ended(0) != nil })
	r.tell(&mediapipe.Shoot{Camera: "down", IntervalMs: 20, Count: 3, First: 5})
	r.await("four photos", func() bool { return r.ended(3) != nil })
	r.tell(&mediapipe.Shoot{Camera: "down", IntervalMs: 20, First: 8})
	r.await("more", func() bool { return r.ended(5) != nil })
	r.tell(&mediapipe.StopShooting{Camera: "down"})
	stop()
	r.await("the ends", func() bool { return r.ended(5) != nil })
	for n := range 6 {
		f := r.ended(n)
		sum := sha256.Sum256(f.data)
		if f.begin.Index != 4+n || f.begin.Kind != mediapipe.Photo || f.end.Why != "" || !bytes.Equal(f.data, jpeg(300)) ||
			f.end.SHA256 != hex.EncodeToString(sum[:]) || f.begin.TakenUsec < time.Hour.Microseconds() || f.begin.UncertaintyUsec == 0 {
			t.Errorf("photo %d: %+v %+v, %d bytes", n, f.begin, f.end, len(f.data))
		}
		if want := map[bool]string{true: mediapipe.TriggerCommand, false: mediapipe.TriggerInterval}[n == 0]; f.begin.Trigger != want {
			t.Errorf("photo %d: trigger %q", n, f.begin.Trigger)
		}
	}
	for _, f := range r.files {
		if f.begin.Kind == mediapipe.Video {
			t.Error("video that nobody asked for")
		}
	}
}

// TestPolicy: what the policy does not want is not taken.
func TestPolicy(t *testing.T) {
	mjpeg := video(t, "mjpeg", "mjpeg", "frames")
	film := video(t, "film", "h264", "trickle")
	c := config(mjpeg, film)
	c.Photo, c.Video = false, false
	r, _, stop := start(t, c)
	r.await("hello", func() bool { return len(r.hellos) > 0 })
	r.tell(&mediapipe.Shoot{Camera: "mjpeg", Count: 1})
	r.await("a refusal", func() bool { return r.event("photo_refused") != nil })
	stop()
	if len(r.order) > 0 {
		t.Errorf("%+v", r.files)
	}
}

// TestRecorderComesAgain: the recorder dies in the middle of a message and another one starts; a file
// that goes on is announced again, with where it has got to, and nothing that waited is lost.
func TestRecorderComesAgain(t *testing.T) {
	run := t.TempDir()
	if err := mediafifo.Make(run, nil); err != nil {
		t.Fatal(err)
	}
	first := newRecorder(t, run)
	_, stop := startMedia(t, run, config(video(t, "front", "h264", "trickle")))
	defer stop()
	first.await("some bytes", func() bool { return len(first.order) == 1 && len(first.files[first.order[0]].data) > 1000 })
	first.in.Close()
	second := newRecorder(t, run)
	defer second.in.Close()
	second.tell(&mediapipe.Announce{Nonce: "n1"})
	second.await("the file again", func() bool {
		return len(second.hellos) > 0 && second.hellos[len(second.hellos)-1].Nonce == "n1" && len(second.order) == 1 && len(second.files[second.order[0]].data) > 1000
	})
	stop()
	second.finish()
	<-first.done
	if f := second.ended(0); f.begin.Offset == 0 || f.begin.File != first.order[0] {
		t.Errorf("%+v", f.begin)
	}
}

// TestNothingBeforeTheRecordersWord: a recorder passes over what it reads before its word was answered,
// so that no camera is started, and nothing of one sent, until then.
func TestNothingBeforeTheRecordersWord(t *testing.T) {
	run := t.TempDir()
	if err := mediafifo.Make(run, nil); err != nil {
		t.Fatal(err)
	}
	r := newRecorder(t, run)
	stop := runMedia(newMedia(t, run, config(video(t, "front", "h264", "trickle"))))
	defer stop()
	r.await("Hello", func() bool { return len(r.hellos) > 0 })
	<-time.After(500 * time.Millisecond)
	r.mu.Lock()
	if len(r.order) > 0 {
		t.Errorf("%d files were announced to a recorder that has said nothing", len(r.order))
	}
	r.mu.Unlock()
	r.tell(&mediapipe.Announce{Nonce: "n1"})
	r.await("video", func() bool { return len(r.order) == 1 && len(r.files[r.order[0]].data) > 1000 })
	stop()
	r.finish()
	if f, h := r.files[r.order[0]], r.hellos; f.begin.Offset != 0 || f.lost != 0 || h[len(h)-2].Nonce != "n1" {
		t.Errorf("%+v, %d bytes lost, %+v", f.begin, f.lost, h)
	}
}

// TestEnvironment: a camera's program gets nothing by which it could speak for the process.
func TestEnvironment(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("HOLDFAST_RUN", "/run/y")
	t.Setenv("WATCHDOG_USEC", "1")
	r, _, stop := start(t, config(video(t, "front", "h264", "environment")))
	r.await("a file", func() bool { return r.ended(0) != nil })
	stop()
	text := string(r.ended(0).data)
	if !strings.Contains(text, cameraEnv) || strings.Contains(text, "NOTIFY_SOCKET") || strings.Contains(text, "HOLDFAST_RUN") || strings.Contains(text, "WATCHDOG") {
		t.Error(text)
	}
}

// eventually waits for what no message tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		pause(10)
	}
	t.Fatalf("not so: %s", what)
}

func pause(ms int) { time.Sleep(time.Duration(ms) * time.Millisecond) }
