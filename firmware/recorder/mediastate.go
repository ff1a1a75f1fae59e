package recorder

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/firmware/mediapipe"
	"holdfast/storage/segment"
)

// CameraStatus is how a camera does. Bytes are counted since the recorder has started.
type CameraStatus struct {
	Name string
	// Recording tells whether a video is being recorded, Since when it began, since boot.
	Recording bool
	Since     time.Duration
	Bytes     int64 // that the vault has taken
	Lost      int64 // that were dropped on the way, or that it has refused
	Photos    int   // that are durable
	LastError string
}

// ErrNoMedia: the media process is not there, or does not listen.
var ErrNoMedia = errors.New("recorder: the media process does not listen")

const (
	// mediaTell is how often the media process is told the state, and asked for Hello until it comes.
	mediaTell = time.Second
	// mediaLook is how soon it is told of arming.
	mediaLook = 200 * time.Millisecond
	// mediaReplies is how many words to it may wait.
	mediaReplies = 256
	// mediaWrite is how long a write to it may take.
	mediaWrite = 100 * time.Millisecond
	// lostEvery is how often an event tells of losses of one camera, at most.
	lostEvery = time.Second
	// eventsEvery bounds the events of one camera: so many in a second.
	eventsEvery = 8
)

// mediaState is what the media goroutines and everybody else share. Safe for concurrent use.
type mediaState struct {
	cfg MediaConfig // set before the goroutines start

	mu    sync.Mutex
	cams  []*cameraState
	ids   int
	nonce string // of the Announce that waits for its Hello; empty: none does
	out   bool   // there is a way to the media process at all
	queue []mediapipe.Message
	wake  chan struct{}
	there bool // the last write has worked

	asked atomic.Bool // media waits for a record
}

type cameraState struct {
	CameraStatus
	lostNow int64 // since the last event
	lostWhy string
	lostAt  time.Duration
	second  time.Duration
	events  int
}

func (s *mediaState) start(c MediaConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg, s.wake = c, make(chan struct{}, 1)
	for _, name := range c.Cameras {
		s.cams = append(s.cams, &cameraState{CameraStatus: CameraStatus{Name: name}})
	}
	if s.out = c.OpenOut != nil; s.out {
		s.nonce = newNonce()
	}
}

// find returns a camera, nil where there is none. s.mu is held.
func (s *mediaState) find(name string) *cameraState {
	i := slices.IndexFunc(s.cams, func(c *cameraState) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return s.cams[i]
}

func (s *mediaState) with(name string, do func(c *cameraState)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.find(name)
	if c != nil {
		do(c)
	}
	return c != nil
}

func (s *mediaState) knows(camera string) bool { return s.with(camera, func(*cameraState) {}) }

// unguarded tells whether there is no way to ask for Hello, as in a replay.
func (s *mediaState) unguarded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.out
}

// heard tells whether nonce is the one that was asked for.
func (s *mediaState) heard(nonce string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nonce != "" && nonce == s.nonce
}

// announced: Hello has come; none is asked for any more.
func (s *mediaState) announced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nonce = ""
}

func (s *mediaState) nextID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids++
	return s.ids
}

func (s *mediaState) began(f *inFile, now time.Duration) {
	s.with(f.begin.Camera, func(c *cameraState) {
		if f.photo == nil {
			c.Recording, c.Since = true, now
		}
	})
}

func (s *mediaState) ended(f *inFile, _ time.Duration, kept bool) {
	s.with(f.begin.Camera, func(c *cameraState) {
		switch {
		case f.photo == nil:
			c.Recording = false
		case kept:
			c.Photos++
		}
		if kept {
			c.LastError = ""
		}
	})
}

func (s *mediaState) kept(camera string, n int64) {
	s.with(camera, func(c *cameraState) { c.Bytes += n })
}

func (s *mediaState) problem(camera, why string) {
	s.with(camera, func(c *cameraState) { c.LastError = why })
}

// lost counts bytes that were not kept; an event a second tells of them.
func (s *mediaState) lost(r *Recorder, camera string, n int64, why string) {
	now, tell := r.cfg.Now(), ""
	s.with(camera, func(c *cameraState) {
		c.Lost += n
		c.lostNow += n
		c.lostWhy = cmp.Or(c.lostWhy, why)
		c.LastError = why
		if c.lostAt == 0 || now-c.lostAt >= lostEvery {
			tell = mediaLost(c.lostNow, c.lostWhy)
			c.lostNow, c.lostWhy, c.lostAt = 0, "", max(now, 1)
		}
	})
	if tell != "" {
		r.mediaEvent(camera, "media_lost", tell)
	}
}

// settle tells of losses that no event has told of yet.
func (s *mediaState) settle(r *Recorder, now time.Duration) {
	type told struct{ camera, text string }
	var list []told
	s.mu.Lock()
	for _, c := range s.cams {
		if c.lostNow > 0 && now-c.lostAt >= lostEvery {
			list = append(list, told{c.Name, mediaLost(c.lostNow, c.lostWhy)})
			c.lostNow, c.lostWhy, c.lostAt = 0, "", now
		}
	}
	s.mu.Unlock()
	for _, t := range list {
		r.mediaEvent(t.camera, "media_lost", t.text)
	}
}

// askRecord has the writer begin a record for what the media process gives; false: none is wanted now.
func (r *Recorder) askRecord() bool {
	if r.cfg.ArmedOnly && !r.armed.Load() || r.sealed.Load() {
		return false
	}
	r.media.asked.Store(true)
	r.ring.notify()
	return true
}

// event takes what the media process tells of a camera, so many a second: it may be taken over.
func (s *mediaState) event(r *Recorder, e *mediapipe.Event) {
	now, pass := r.cfg.Now(), false
	s.with(e.Camera, func(c *cameraState) {
		c.LastError = e.Kind
		if e.Detail != "" {
			c.LastError += ": " + e.Detail
		}
		if now-c.second >= time.Second {
			c.second, c.events = now, 0
		}
		c.events++
		pass = c.events <= eventsEvery
	})
	if pass {
		r.mediaEvent(e.Camera, e.Kind, e.Detail)
	}
}

// mediaEvent puts an event about a camera into the record.
func (r *Recorder) mediaEvent(camera, kind, detail string) {
	r.ring.mu.Lock()
	defer r.ring.mu.Unlock()
	r.ring.note(r.cfg.Now(), segment.Event{Kind: kind, Link: "camera:" + camera, Detail: detail})
	r.ring.notify()
}

// MediaStatus returns how each camera does. It may be called from any goroutine.
func (r *Recorder) MediaStatus() (list []CameraStatus) {
	r.media.mu.Lock()
	defer r.media.mu.Unlock()
	for _, c := range r.media.cams {
		list = append(list, c.CameraStatus)
	}
	return list
}

// StartVideo, StopVideo, Shoot and StopShooting tell a camera what to do. They do not wait for it: the
// status and events tell what came of it. The error is ErrNoMedia.
func (r *Recorder) StartVideo(camera string) error {
	return r.media.command(&mediapipe.VideoCommand{Camera: camera, On: true})
}

// StopVideo ends what StartVideo has begun. A camera that the configuration has running goes on.
func (r *Recorder) StopVideo(camera string) error {
	return r.media.command(&mediapipe.VideoCommand{Camera: camera})
}

// Shoot asks for count photos, interval apart; count 0: until StopShooting. The first has the index
// first. It takes the place of an earlier Shoot.
func (r *Recorder) Shoot(camera string, interval time.Duration, count, first int) error {
	return r.media.command(&mediapipe.Shoot{Camera: camera, IntervalMs: interval.Milliseconds(), Count: count, First: first})
}

// StopShooting ends what Shoot has begun.
func (r *Recorder) StopShooting(camera string) error {
	return r.media.command(&mediapipe.StopShooting{Camera: camera})
}

func (s *mediaState) command(m mediapipe.Message) error {
	s.mu.Lock()
	there := s.there
	s.mu.Unlock()
	if !there || !s.reply(m) {
		return ErrNoMedia
	}
	return nil
}

// reply puts a word to the media process to those that wait.
func (s *mediaState) reply(m mediapipe.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.out || len(s.queue) >= mediaReplies {
		return false
	}
	s.queue = append(s.queue, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// next returns what is to be told, now that it can be.
func (s *mediaState) next(armed bool, state bool) (list []mediapipe.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state {
		if s.nonce != "" {
			list = append(list, &mediapipe.Announce{Nonce: s.nonce})
		}
		list = append(list, &mediapipe.State{Armed: armed})
	}
	list = append(list, s.queue...)
	s.queue = nil
	return list
}

func (s *mediaState) reached(there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.there = there; !there {
		s.queue = nil // a command of a while ago is none any more
	}
}

// mediaOut tells the media process what to do, until ctx ends.
func (r *Recorder) mediaOut(ctx context.Context, open func() (io.WriteCloser, error)) {
	if open == nil {
		return
	}
	var out io.WriteCloser
	defer func() {
		if out != nil {
			_ = out.Close()
		}
	}()
	t := time.NewTicker(mediaLook)
	defer t.Stop()
	armed, told := r.armed.Load(), r.cfg.Now()
	for state := true; ctx.Err() == nil; {
		if out == nil {
			out = openMediaOut(open)
			state = true // whoever listens now sends nothing before it has heard of this recorder
		}
		if out != nil && writeMedia(out, r.media.next(armed, state)) != nil {
			_ = out.Close()
			out = nil
		}
		r.media.reached(out != nil)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			r.media.settle(r, r.cfg.Now())
		case <-r.media.wake:
		}
		now, at := r.armed.Load(), r.cfg.Now()
		if state = now != armed || at-told >= mediaTell; state {
			armed, told = now, at
		}
	}
}

// openMediaOut opens the way, and fills up what another recorder has left half written.
func openMediaOut(open func() (io.WriteCloser, error)) io.WriteCloser {
	out, err := open()
	if err != nil {
		return nil
	}
	if err := writeSoon(out, mediapipe.ShortPadding()); err != nil {
		_ = out.Close()
		return nil
	}
	return out
}

func writeMedia(out io.Writer, list []mediapipe.Message) error {
	var p []byte
	for _, m := range list {
		var err error
		if p, err = mediapipe.Append(p, 1, m); err != nil {
			continue // out of bounds: nobody would take it
		}
	}
	if len(p) == 0 {
		return nil
	}
	return writeSoon(out, p)
}

// writeSoon gives up where the media process does not read.
func writeSoon(out io.Writer, p []byte) error {
	if d, ok := out.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now().Add(mediaWrite))
	}
	_, err := out.Write(p)
	return err
}
