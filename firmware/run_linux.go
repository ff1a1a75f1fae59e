package firmware

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"holdfast/firmware/config"
	"holdfast/firmware/evidence"
	"holdfast/firmware/runfile"
)

// lockFirst is how long the recorder waits for the guard's first word. It records without one
// too: the flight comes first, and the record then says that the board was not locked.
const lockFirst = 5 * time.Second

// Run runs the parts as children of this process: on a locked board the guard, and the recorder
// once the lock stands. When ctx ends the recorder ends first.
func Run(ctx context.Context, cfg *config.Config, guardCommand, recordCommand []string, log *slog.Logger) error {
	if cfg.Bench() {
		return Supervise(ctx, recordCommand, log)
	}
	guardCtx, stopGuard := context.WithCancel(context.Background())
	defer stopGuard()
	recordCtx, stopRecord := context.WithCancel(ctx)
	defer stopRecord()
	ended := make(chan error, 1)
	go func() {
		err := Supervise(guardCtx, guardCommand, log)
		stopRecord() // a guard that refuses its configuration: the recorder's is the same
		ended <- err
	}()
	awaitLock(recordCtx, cfg.Lock.Run)
	err := Supervise(recordCtx, recordCommand, log)
	stopGuard()
	return errors.Join(err, <-ended)
}

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
