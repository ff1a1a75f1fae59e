package media

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/firmware/mediapipe"
)

// camera is one source and what is wanted of it.
type camera struct {
	m   *Media
	cfg *Camera
	src source

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when something below has changed
	armed     bool
	commanded bool // video was asked for
	shots     shots
}

// shots are photos that were asked for and not taken yet.
type shots struct {
	left    int // -1: until it is stopped
	every   time.Duration
	due     time.Duration // since boot
	index   int
	trigger string
}

func (m *Media) newCamera(cfg *Camera) (*camera, error) {
	c := &camera{m: m, cfg: cfg, changed: make(chan struct{})}
	switch cfg.Source {
	case SourceCommand:
		c.src = &command{c: c}
	case SourceV4L2:
		c.src = &v4l2Camera{c}
	case SourceInbox:
		c.src = newInbox(c)
	default:
		return nil, fmt.Errorf("%w: %q", ErrSource, cfg.Source)
	}
	return c, nil
}

// stills tells whether single photos can be had of what the camera gives.
func (c *camera) stills() bool { return c.cfg.Format == "jpg" || c.cfg.Format == "mjpeg" }

// run works until ctx ends: while the camera is wanted its source runs, and is tried again after
// a while when it fails.
func (c *camera) run(ctx context.Context) {
	wait := c.m.times.backFirst
	for c.await(ctx) {
		on, stop := c.whileWanted(ctx)
		began := c.m.cfg.Now()
		err := c.src.run(on)
		over := on.Err() != nil
		stop()
		if over {
			continue
		}
		if c.m.cfg.Now()-began >= c.m.times.steady {
			wait = c.m.times.backFirst
		}
		c.m.event(c.cfg.Name, "camera_failed", fmt.Sprintf("%v; again in %v", err, wait))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, c.m.times.backMost)
	}
}

// await returns when the camera is wanted; false: ctx has ended.
func (c *camera) await(ctx context.Context) bool {
	for {
		wanted, changed, later := c.wanted()
		if ctx.Err() != nil || wanted {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(later)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// whileWanted returns a context that ends when the camera is not wanted any more.
func (c *camera) whileWanted(ctx context.Context) (context.Context, func()) {
	on, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		defer cancel()
		for on.Err() == nil {
			wanted, changed, _ := c.wanted()
			if !wanted {
				return
			}
			select {
			case <-on.Done():
			case <-changed:
			}
		}
	})
	return on, func() { cancel(); done.Wait() }
}

// startAhead is how long before a photo is due the source is started for it.
const startAhead = 2 * time.Second

// wanted tells whether the source should run now; if not, when to ask again at the latest.
func (c *camera) wanted() (yes bool, changed <-chan struct{}, later time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streaming() {
		return true, c.changed, 0
	}
	if c.shots.left == 0 {
		return false, c.changed, time.Hour
	}
	left := c.shots.due - c.m.cfg.Now() - startAhead
	// A source that was started for a photo goes on until the last one, where they follow soon.
	return left <= 0, c.changed, max(left, 0)
}

// streaming tells whether all that the camera gives is wanted. c.mu is held.
func (c *camera) streaming() bool {
	if c.cfg.Format == "jpg" && c.cfg.Source != SourceInbox && !c.m.cfg.Photo ||
		c.cfg.Format != "jpg" && c.cfg.Source != SourceInbox && !c.m.cfg.Video {
		return false
	}
	return c.cfg.Source == SourceInbox || c.cfg.Start == StartAlways || c.cfg.Start == StartArmed && c.armed || c.commanded
}

// recording is streaming for the source's goroutine.
func (c *camera) recording() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streaming()
}

// shot takes the photo that is due, if one is.
func (c *camera) shot() (index int, trigger string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, now := &c.shots, c.m.cfg.Now()
	if s.left == 0 || now < s.due {
		return 0, "", false
	}
	index, trigger = s.index, s.trigger
	s.index++
	if s.left > 0 {
		s.left--
	}
	if s.due += s.every; s.due < now { // it was late: the next ones do not follow at once
		s.due = now
	}
	if s.left == 0 || s.every > startAhead {
		c.change()
	}
	return index, trigger, true
}

// change wakes who waits for a change. c.mu is held.
func (c *camera) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *camera) setArmed(armed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed != armed {
		c.armed = armed
		c.change()
	}
}

func (c *camera) video(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commanded = on
	c.change()
}

func (c *camera) shoot(s *mediapipe.Shoot) {
	why := ""
	switch {
	case !c.m.cfg.Photo:
		why = "policy.photo is false"
	case c.cfg.Source == SourceInbox:
		why = "an inbox takes no photos"
	case !c.stills():
		why = c.cfg.Format + " gives no single photos"
	}
	if why != "" {
		c.m.event(c.cfg.Name, "photo_refused", why)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shots = shots{left: s.Count, every: time.Duration(s.IntervalMs) * time.Millisecond, due: c.m.cfg.Now(), index: s.First, trigger: mediapipe.TriggerInterval}
	switch s.Count {
	case 0:
		c.shots.left = -1
	case 1:
		c.shots.trigger = mediapipe.TriggerCommand
	}
	c.change()
}

func (c *camera) stopShooting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shots = shots{}
	c.change()
}

// find returns the camera of a name, nil where there is none.
func (m *Media) find(name string) *camera {
	i := slices.IndexFunc(m.cams, func(c *camera) bool { return c.cfg.Name == name })
	if i < 0 {
		return nil
	}
	return m.cams[i]
}
