package media

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/media/v4l2"
	"holdfast/firmware/mediapipe"
)

// settling is how many frames of a camera that has just started are not taken for photos: its
// exposure has not settled.
const settling = 3

// videoDevice is an open camera that can be woken.
type videoDevice interface {
	v4l2.Device
	Wake()
}

// openVideo is what tests replace, where there is no camera.
var openVideo = func(path string) (videoDevice, error) { return v4l2.Open(path) }

// v4l2Camera is a camera that this process reads itself.
type v4l2Camera struct{ c *camera }

// run takes frames until the camera fails, is unplugged, or ctx ends.
func (s *v4l2Camera) run(ctx context.Context) (err error) {
	cfg := s.c.cfg
	dev, err := openVideo(cfg.Device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		dev.Wake()
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken // before the descriptor is another file's
		}
	}()
	capture, err := v4l2.Start(dev, v4l2.Config{Format: cfg.Format, Width: cfg.Width, Height: cfg.Height, FPS: cfg.FPS})
	if err != nil {
		return err
	}
	st := newStream(s.c, s.within())
	err = s.frames(ctx, capture, st)
	why := ""
	if err != nil {
		why = err.Error()
	}
	st.end(why)
	return errors.Join(err, capture.Stop())
}

// within is how well the time of a frame is known: the driver stamps it at its beginning or its end.
func (s *v4l2Camera) within() time.Duration {
	if s.c.cfg.FPS > 0 {
		return time.Second / time.Duration(s.c.cfg.FPS)
	}
	return 50 * time.Millisecond
}

func (s *v4l2Camera) frames(ctx context.Context, capture *v4l2.Capture, st *stream) error {
	heard, told := s.c.m.cfg.Now(), false
	for n := 0; ctx.Err() == nil; n++ {
		f, err := capture.Next(s.c.m.times.silent)
		switch {
		case errors.Is(err, v4l2.ErrWoken):
			return nil
		case errors.Is(err, v4l2.ErrSilent) && s.c.m.cfg.Now()-heard < s.c.m.times.hung:
			if !told {
				told = true
				s.c.m.event(s.c.cfg.Name, "camera_silent", fmt.Sprintf("no frame for %v", s.c.m.times.silent))
			}
			continue
		case err != nil:
			return err
		}
		heard, told = s.c.m.cfg.Now(), false
		st.frameAt = heard - age(f.At)
		st.noPhotos = n < settling || f.Damaged
		takeFrame(st, f.Data)
		if err := capture.Done(f); err != nil {
			return err
		}
	}
	return nil
}

// takeFrame hands a frame over in pieces. The camera may write into p again afterwards.
func takeFrame(st *stream, p []byte) {
	for len(p) > 0 {
		piece := newPiece()
		n := copy(piece[mediapipe.HeadRoom:], p)
		p = p[n:]
		st.take(piece, n)
	}
}

// age is how long ago a time of CLOCK_MONOTONIC was; 0 where it is none.
func age(at time.Duration) time.Duration {
	var ts unix.Timespec
	if at == 0 || unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	if d := time.Duration(ts.Nano()) - at; d > 0 && d < 10*time.Second {
		return d
	}
	return 0
}
