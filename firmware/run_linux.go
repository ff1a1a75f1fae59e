package firmware

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"holdfast/firmware/config"
	"holdfast/firmware/evidence"
	"holdfast/firmware/mediafifo"
	"holdfast/firmware/runfile"
)

// lockFirst is how long the recorder waits for the guard's first word. It records without one
// too: the flight comes first, and the record then says that the board was not locked.
const lockFirst = 5 * time.Second

// Commands start the parts of the board's program.
type Commands struct{ Guard, Record, Media []string }

// PrepareRun makes, on a bench, the private folder, in memory where there is some, in which recorder and
// media process meet and one recorder leaves to the next what it holds, and names it to them by the
// environment. It must be called before Restrict; clean removes the folder. Elsewhere it does nothing.
func PrepareRun(cfg *config.Config) (clean func(), err error) {
	if !cfg.Bench() {
		return func() {}, nil
	}
	const name = "holdfast-run-"
	var dir string
	if err = inMemory(runFolders); err == nil {
		dir, err = os.MkdirTemp(runFolders, name)
	}
	if err != nil {
		dir, err = os.MkdirTemp("", name)
	}
	if err != nil {
		return nil, err
	}
	clean = func() { _ = os.RemoveAll(dir) }
	if cfg.Media() {
		err = mediafifo.Make(dir, nil)
	}
	if err := errors.Join(err, os.Setenv(RunVariable, dir)); err != nil {
		clean()
		return nil, err
	}
	return clean, nil
}

// runFolders is where a bench makes its private folder, if it is in memory.
const runFolders = "/dev/shm"

// Run runs the parts as children of this process: on a locked board the guard, and the recorder
// once the lock stands; with cameras the media process beside the recorder. When ctx ends the
// recorder and the media process end first.
func Run(ctx context.Context, cfg *config.Config, c Commands, log *slog.Logger) error {
	if cfg.Bench() {
		return runRecorder(ctx, cfg, c, log)
	}
	guardCtx, stopGuard := context.WithCancel(context.Background())
	defer stopGuard()
	recordCtx, stopRecord := context.WithCancel(ctx)
	defer stopRecord()
	ended := make(chan error, 1)
	go func() {
		err := Supervise(guardCtx, c.Guard, log)
		stopRecord() // a guard that refuses its configuration: the recorder's is the same
		ended <- err
	}()
	awaitLock(recordCtx, cfg.Lock.Run)
	err := runRecorder(recordCtx, cfg, c, log)
	stopGuard()
	return errors.Join(err, <-ended)
}

// runRecorder runs the recorder and, where there are cameras, the media process. One that refuses to
// work costs no telemetry: the recorder goes on without it.
func runRecorder(ctx context.Context, cfg *config.Config, c Commands, log *slog.Logger) error {
	if !cfg.Media() {
		return Supervise(ctx, c.Record, log)
	}
	mediaCtx, stopMedia := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := Supervise(mediaCtx, c.Media, log); err != nil {
			log.Error("the media process has ended; telemetry goes on without photos and video", slog.Any("err", err))
		}
	}()
	// The end follows the data: what the cameras gave last is taken before the recorder ends.
	recordCtx, stopRecord := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecord()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-ended:
		case <-time.After(mediaLast):
		}
		stopRecord()
	})()
	err := Supervise(recordCtx, c.Record, log)
	stopMedia()
	<-ended
	return err
}

// mediaLast is how long the media process may take to end before the recorder has to: both have two
// seconds.
const mediaLast = 900 * time.Millisecond

// awaitLock returns when the guard has told how the lock stands, or when ctx ends, or after
// lockFirst.
func awaitLock(ctx context.Context, dir string) {
	began := sinceBoot()()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for sinceBoot()()-began < lockFirst {
		if p, err := runfile.Read(filepath.Join(dir, evidence.LockFile)); err == nil {
			if l, err := evidence.ParseLock(p); err == nil && l.Boot == bootID() && l.Usec >= began.Microseconds() {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
