// Package guard is the process that keeps the board locked: it applies the lock, says each
// second in the run folder how it stands, and opens it for a ticket that an operator signed,
// after the recorder has stopped (docs/format/statements.md). There is no other way to open it.
//
// The guard never gives up: where something needed is missing it says so, and goes on closing
// what can be closed. When it ends, by whatever cause, the lock stays; an opening ends with it.
package guard

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"holdfast/firmware/evidence"
	"holdfast/firmware/runfile"
)

const (
	// lookEvery is how often ticket and recorder are looked at.
	lookEvery = 500 * time.Millisecond
	// writeEvery is how often LockFile is written where nothing has changed.
	writeEvery = time.Second
)

// Lock is what the guard keeps: netlock.Lock.
type Lock interface {
	Apply() error
	Run(context.Context) error
	State() evidence.Lock
	Open(interfaces []string) error
	Shut() error
}

// Config is what a guard needs. All but Each and Notify must be set.
type Config struct {
	Lock     Lock
	Dir      string // the run folder
	Boot     string // boot_id of the kernel
	Tickets  Tickets
	Attempts func(evidence.Attempt)
	// Now is the time since the kernel started.
	Now func() time.Duration
	// Each, where set, is called about once a second.
	Each func()
	// Notify, where set, tells the service manager: sd_notify(3).
	Notify func(state string)
	Log    *slog.Logger
}

// Guard guards. Make it with New, use it once.
type Guard struct {
	cfg      Config
	base     evidence.Lock // counts of a guard of this boot that ended
	maintain maintenance
	written  time.Duration
	fault    string // of LockFile, to log it once
}

// New reads what an earlier guard of this boot has left in the run folder.
func New(cfg Config) (*Guard, error) {
	g := &Guard{cfg: cfg}
	if g.cfg.Notify == nil {
		g.cfg.Notify = func(string) {}
	}
	if g.cfg.Each == nil {
		g.cfg.Each = func() {}
	}
	g.maintain = maintenance{cfg: &g.cfg}
	p, err := runfile.Read(filepath.Join(cfg.Dir, evidence.LockFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		cfg.Log.Warn("guard: what the last one left", slog.Any("err", err))
	}
	if old, err := evidence.ParseLock(p); err == nil && old.Boot == cfg.Boot {
		g.base = *old
	}
	return g, nil
}

// Run locks, and keeps the lock until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	if err := g.cfg.Lock.Apply(); err != nil {
		g.cfg.Log.Error("guard: not locked", slog.Any("err", err))
	}
	g.write()
	g.cfg.Notify("READY=1")
	watch, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var watchErr error
	wg.Go(func() {
		watchErr = g.cfg.Lock.Run(watch)
		stop() // a guard that does not see what happens must be started again
	})
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for watch.Err() == nil {
		select {
		case <-watch.Done():
		case <-t.C:
			g.look()
		}
	}
	g.maintain.end("the guard ends")
	wg.Wait()
	g.write()
	return watchErr
}

// look does what half a second asks for.
func (g *Guard) look() {
	changed := g.maintain.look()
	if changed || g.cfg.Now()-g.written >= writeEvery {
		g.write()
		g.cfg.Notify("WATCHDOG=1")
		g.cfg.Each()
	}
}

// State is LockFile as it is to be now.
func (g *Guard) State() evidence.Lock {
	s := g.cfg.Lock.State()
	s.Boot = g.cfg.Boot
	s.Refused += g.base.Refused
	s.Strikes += g.base.Strikes
	s.Maintenance = g.maintain.now()
	s.Usec = g.cfg.Now().Microseconds()
	return s
}

// write replaces LockFile. A fault is logged once; the recorder then takes the lock for open.
func (g *Guard) write() {
	g.written = g.cfg.Now()
	s := g.State()
	p, err := evidence.Marshal(&s)
	if err == nil {
		err = runfile.Replace(filepath.Join(g.cfg.Dir, evidence.LockFile), p)
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != g.fault && text != "" {
		g.cfg.Log.Error("guard: state cannot be told", slog.Any("err", err))
	}
	g.fault = text
}
