package firmware

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"

	"holdfast/firmware/config"
	"holdfast/firmware/media"
	"holdfast/firmware/mediafifo"
	"holdfast/firmware/mediapipe"
	"holdfast/firmware/recorder"
)

// MediaUser is the user that the media process runs as on a locked board.
const MediaUser = "holdfast-media"

// RunVariable names the run folder of a bench for the processes of one supervisor.
const RunVariable = "HOLDFAST_RUN"

// ErrNoRun: on a bench the media process and the recorder meet in a folder of their supervisor.
var ErrNoRun = errors.New("there is no run folder in which to meet the recorder; start both by `holdfastd run`")

// runPath is the folder in which media process and recorder meet; empty: there is none.
func runPath(o Options) string {
	if o.Run != "" || o.Config.Bench() {
		return o.Run
	}
	return o.Config.Lock.Run
}

// Media is the media process: it brings what the cameras give to the recorder until ctx ends.
func Media(ctx context.Context, o Options) error {
	cfg := o.Config
	run := runPath(o)
	if run == "" {
		return ErrNoRun
	}
	notify, err := newNotifier() // afterwards the process may open no socket but those of its cameras
	if err != nil {
		o.Log.Warn("media", slog.Any("err", err))
	}
	notes, err := confineMedia(cfg, run)
	if err != nil {
		return err
	}
	for _, n := range notes {
		o.Log.Warn("media: not confined", slog.String("what", n.What), slog.String("why", n.Why))
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil { // cameras' programs inherit it
		o.Log.Warn("media: core dumps", slog.Any("err", err))
	}
	m, err := media.New(mediaConfig(cfg, run, o.Log))
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	close(ready)
	notifyCtx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { notify.follow(notifyCtx.Done(), ready, m.Beat) })
	err = m.Run(ctx)
	stop()
	wg.Wait()
	return err
}

func mediaConfig(cfg *config.Config, run string, log *slog.Logger) media.Config {
	p := cfg.Policy
	if len(cfg.Camera) == 0 {
		log.Info("no [[camera]] is configured: there is nothing to do")
	}
	c := media.Config{Photo: p.Photo, Video: p.Video, Audio: p.Audio, Rate: p.MediaRate, Now: sinceBoot(), Log: log}
	for _, cam := range cfg.Camera {
		c.Cameras = append(c.Cameras, media.Camera{Name: cam.Name, Source: cam.Source, Command: cam.Command, Path: cam.Path, Device: cam.Device,
			Format: cam.Format, Width: cam.Width, Height: cam.Height, FPS: cam.FPS, Start: cam.Start, Audio: cam.Audio})
	}
	c.OpenOut = func() (io.WriteCloser, error) { return mediafifo.OpenWriter(run, mediapipe.ToRecorder) }
	c.OpenIn = func() (io.ReadCloser, error) { return mediafifo.OpenReader(run, mediapipe.ToMedia) }
	return c
}

// RecorderMedia is how a recorder with cfg meets the media process in the folder run. w seals what
// comes.
func RecorderMedia(cfg *config.Config, run string, w recorder.MediaWriter) recorder.MediaConfig {
	c := recorder.MediaConfig{Writer: w}
	for _, cam := range cfg.Camera {
		c.Cameras = append(c.Cameras, cam.Name)
	}
	c.OpenIn = func() (io.ReadCloser, error) { return mediafifo.OpenReader(run, mediapipe.ToRecorder) }
	c.OpenOut = func() (io.WriteCloser, error) { return mediafifo.OpenWriter(run, mediapipe.ToMedia) }
	return c
}
