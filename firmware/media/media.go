// Package media brings photos and video to the recorder, in a process of its own: whoever
// takes over a camera's program, or what parses its output, has neither the vault nor the
// autopilot's line.
//
// Sources are programs whose standard output is recorded (command), folders in memory into
// which somebody puts files (inbox), and V4L2 cameras. Each has its own goroutines and bounds; none
// can stop or slow down another, beyond the bytes that all may hold together. What a camera gives
// passes through as it comes: nothing is re-muxed, nothing written into a file. It goes through
// a bounded queue (Room bytes for all) and a FIFO to the recorder (package mediapipe); what finds
// no room is dropped in whole pieces and counted.
//
// What a format looks like is only looked at, to find sound where the policy wants none, and to
// say that it is not what was configured.
package media

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/firmware/mediapipe"
)

// Sources of a camera, and when it runs, as the configuration names them.
const (
	SourceCommand = "command"
	SourceInbox   = "inbox"
	SourceV4L2    = "v4l2"

	StartAlways  = "always"
	StartArmed   = "armed"
	StartCommand = "command"
)

// Camera is one source of photos or video.
type Camera struct {
	Name               string
	Source             string
	Command            []string // program and arguments; no shell is between
	Path               string   // of an inbox
	Device             string   // of V4L2
	Format             string   // h264, mjpeg, ts, mp4, jpg
	Width, Height, FPS int      // of V4L2; 0: what the camera likes best
	Start              string
	Audio              bool // it may have sound
}

// Config is what a Media needs. Rate may be 0, Log nil.
type Config struct {
	Cameras []Camera
	// Photo, Video and Audio tell what the policy wants recorded.
	Photo, Video, Audio bool
	Rate                int64 // bytes a second of all cameras; 0: no limit
	// OpenOut opens the way to the recorder; an error means that nobody is there yet. A write may
	// wait. OpenIn opens the way back.
	OpenOut func() (io.WriteCloser, error)
	OpenIn  func() (io.ReadCloser, error)
	Now     func() time.Duration // since boot
	Log     *slog.Logger
}

// Media is the process's work. Make it with New, use it once.
type Media struct {
	cfg   Config
	log   *slog.Logger
	queue *queue
	rate  *bucket
	beat  atomic.Int64
	files atomic.Uint32
	cams  []*camera
	out   *sender
	times times
	kept  answers
	// ending: the process ends, and has less time for it than a camera that is switched off.
	ending atomic.Bool
}

// source is where a camera's bytes come from.
type source interface {
	// run takes what the camera gives until ctx ends. It returns early only where the camera can
	// never work, with the reason.
	run(ctx context.Context) error
}

// ErrSource: a camera whose source is none that this package knows.
var ErrSource = errors.New("media: no such source")

// New returns a Media that has not started. The error wraps ErrSource.
func New(cfg Config) (*Media, error) {
	m := &Media{cfg: cfg, log: cfg.Log, queue: newQueue(Room)}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.rate = newBucket(cfg.Rate, cfg.Now)
	m.times = usual
	word := make([]byte, 8)
	_, _ = rand.Read(word) // never fails
	m.out = &sender{hello: mediapipe.Hello{Process: hex.EncodeToString(word)}, queue: m.queue, open: cfg.OpenOut, log: m.log, files: map[uint32]*mediapipe.Begin{}, met: make(chan struct{})}
	for i := range cfg.Cameras {
		c, err := m.newCamera(&cfg.Cameras[i])
		if err != nil {
			return nil, err
		}
		m.cams = append(m.cams, c)
		m.out.hello.Cameras = append(m.out.hello.Cameras, c.cfg.Name)
	}
	return m, nil
}

// Beat grows at least once a second while the process is well.
func (m *Media) Beat() int64 { return m.beat.Load() }

// times are the waits that tests shorten.
type times struct {
	silent    time.Duration // no bytes for so long is an event
	hung      time.Duration // and for so long, the end of the program
	kill      time.Duration // between SIGTERM and SIGKILL
	killLast  time.Duration // the same where the process ends
	backFirst time.Duration // before a source is tried again
	backMost  time.Duration
	steady    time.Duration // a source that ran for so long is tried again at once
	kept      time.Duration // until a file of an inbox that nobody answered for is handed over again
	rescan    time.Duration // of an inbox
	greet     time.Duration // for the recorder's word, before what waits is sent without it
	quiet     time.Duration // a file that was not told of as closed must not have changed for so long
}

var usual = times{
	silent: 10 * time.Second, hung: 30 * time.Second, kill: 2 * time.Second, killLast: 400 * time.Millisecond, backFirst: 250 * time.Millisecond, backMost: 30 * time.Second,
	steady: time.Minute, kept: 30 * time.Second, rescan: time.Second, quiet: 3 * time.Second,
	greet: 3 * time.Second,
}

// drainWait is how long what waits may take to reach the recorder at the end.
const drainWait = time.Second

// Run works until ctx ends: then the cameras end, and what waits goes to the recorder, as far as
// that takes it within a second. A camera that fails is told and tried again; no fault of a camera,
// or of the recorder, ends Run.
func (m *Media) Run(ctx context.Context) error {
	out, stopOut := context.WithCancel(context.Background())
	defer stopOut()
	var lines, cams sync.WaitGroup
	m.out.wait = m.times.greet
	lines.Go(func() { m.out.run(out) })
	lines.Go(func() { m.listen(out) })
	lines.Go(func() { m.tick(out) })
	select { // so that nothing of what a camera gives first is lost
	case <-m.out.met:
	case <-time.After(m.times.greet):
	case <-ctx.Done():
	}
	cameras, stopCameras := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCameras()
	for _, c := range m.cams {
		cams.Go(func() { c.run(cameras) })
	}
	<-ctx.Done()
	m.ending.Store(true)
	stopCameras()
	cams.Wait()
	m.queue.close()
	select {
	case <-m.queue.drained:
	case <-time.After(drainWait):
	}
	stopOut()
	lines.Wait()
	return nil
}

// killAfter is how long a program has to end when it is told to.
func (m *Media) killAfter() time.Duration {
	if m.ending.Load() {
		return min(m.times.killLast, m.times.kill)
	}
	return m.times.kill
}

// tick beats while the queue's lock can be had.
func (m *Media) tick(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			m.queue.waiting()
			m.beat.Add(1)
		}
	}
}

// event tells the recorder what happened to a camera.
func (m *Media) event(camera, kind, detail string) {
	m.log.Warn("camera", slog.String("camera", camera), slog.String("kind", kind))
	m.queue.tell(&mediapipe.Event{BootUsec: m.cfg.Now().Microseconds(), Camera: camera, Kind: kind, Detail: mediapipe.Text(detail)})
}
