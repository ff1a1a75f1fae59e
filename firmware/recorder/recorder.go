// Package recorder brings the bytes of the links into the vault: one reader goroutine a link
// that does nothing slow, a bounded ring, one writer goroutine that owns the vault. It decides
// where a flight starts and ends. It makes nothing that is sent: it hands on what others give it,
// as far as an allow-list lets it pass, and records that.
package recorder

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/firmware/evidence"
	"holdfast/mavlink"
	"holdfast/mavlink/link"
	"holdfast/storage/vault"
)

// Link is a source of telemetry.
type Link struct {
	Name   string
	Device string
	Baud   int
}

// Config is what a Recorder needs. All but Guard, Host, Pause and Log must be set.
type Config struct {
	Links    []Link
	OpenLink func(device string, baud int) (link.Source, error)
	Vault    *vault.Vault
	// ArmedOnly records flights only, each with what came in the half minute before it.
	ArmedOnly bool
	// Now is the time since boot. It never goes back.
	Now  func() time.Duration
	Host HostClock
	// Guard is who keeps the network lock; nil on a bench.
	Guard Guard
	// Pause, where set, is called after a read that brought little, so that a line that
	// trickles does not wake the processor for each frame. Stamps are late by that at most.
	Pause func()
	Log   *slog.Logger

	// Tap, where set, sees each frame that came in, with its link. It is called with the ring's
	// lock held: it copies what it wants, returns at once, and calls nothing of the Recorder.
	Tap func(link int, f *mavlink.Frame)
	// Allow judges what Send is given; nil: nothing is ever sent.
	Allow func(origin uint8, raw []byte) error
	// Origins names who sends, by index; the first is OriginOwn.
	Origins []string
	// HeldOver is what HeldOver of the recorder before has returned; nil: nothing.
	HeldOver []byte
	// NoTelemetry leaves frames and noise out of the records.
	NoTelemetry bool
}

// Recorder records. Make it with New, use it once.
type Recorder struct {
	cfg     Config
	log     *slog.Logger
	ring    *ring
	clock   clock
	intakes []*intake
	outlets []*outlet
	several bool

	files     fileQueue
	sealAsked atomic.Bool
	sealed    atomic.Bool
	full      atomic.Bool
	refusals  map[uint8]*refusals // with the ring's lock
	sentBytes atomic.Int64

	armed atomic.Bool
	// armedAt is when armed changed last, in nanoseconds since boot.
	armedAt atomic.Int64
	aloft   atomic.Bool // a flight was cut, and no heartbeat has said yet that it is over
	frames  atomic.Int64
	bytes   atomic.Int64
	gaps    atomic.Int64
	noise   atomic.Int64
	drops   atomic.Int64
	beat    atomic.Int64 // turns of the writer's loop

	mu      sync.Mutex
	untried map[int]bool
	linkUp  []bool
	ready   chan struct{} // closed when each link was tried once
	state   string
	record  string
	// lastFlight is the newest flight that has ended.
	lastFlight string
	free       int64
	linkErr    string
	vaultErr   string
	lock       evidence.Lock // as the guard says
	stopped    string        // number of the ticket for which recording has stopped

	boot   int64 // of the public log
	device string
	told   chan struct{} // capacity 1: the guard is to be told
	audit  auditQueue
	media  mediaState
	pose   poseTracker

	w        writer
	heldOver []byte // set when Run ends
}

// New returns a recorder that has not started.
func New(cfg Config) *Recorder {
	r := &Recorder{cfg: cfg, log: cfg.Log, ready: make(chan struct{}), untried: map[int]bool{}, state: "starting", refusals: map[uint8]*refusals{},
		boot: cfg.Vault.Boot(), device: cfg.Vault.DeviceID(), told: make(chan struct{}, 1),
		lock: evidence.Lock{Lock: evidence.Bench, Grade: evidence.None}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.clock.host = cfg.Host
	r.ring = newRing(func(b *batch) { b.block.Meta.StampOffset = r.clock.offset.Load() })
	r.several = len(cfg.Links) > 1
	for i, l := range cfg.Links {
		r.untried[i] = true
		r.intakes = append(r.intakes, newIntake(r, i, l))
		r.outlets = append(r.outlets, &outlet{r: r, link: i, wake: make(chan struct{}, 1)})
	}
	r.linkUp = make([]bool, len(cfg.Links))
	r.w = writer{r: r, v: cfg.Vault, cut: cfg.Vault.CutFlight(), over: heldBlocks(cfg.HeldOver)}
	return r
}

// Run records until ctx ends or every link is a file that was read to its end; then it writes
// what is left and closes the record. It does not close the vault.
func (r *Recorder) Run(ctx context.Context) error {
	var readers sync.WaitGroup
	done := make(chan struct{})
	r.w.pairs = r.clock.pairs(r.cfg.Now(), true) // before the first stamp is given
	if r.cfg.Guard != nil {
		defer r.withGuard(ctx)()
	}
	r.setState("standby") // before a link is tried: then the state may be asked for
	for _, in := range r.intakes {
		readers.Go(func() { in.run(ctx) })
	}
	stopSenders := r.senders(ctx)
	context.AfterFunc(ctx, r.ring.stop)
	go func() {
		readers.Wait()
		stopSenders() // what became of the last frames is recorded too
		close(done)
		r.ring.notify()
	}()
	return r.w.run(done)
}

// senders starts what sends; it has ended when the function that it returns does.
func (r *Recorder) senders(ctx context.Context) (end func()) {
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	for _, o := range r.outlets {
		all.Go(func() { o.run(ctx) })
	}
	return func() {
		stop()
		all.Wait()
	}
}

// withGuard looks at what the guard says before anything is recorded, and goes on doing so until
// the function that it returns is called.
func (r *Recorder) withGuard(ctx context.Context) (end func()) {
	r.w.startGuard()
	r.lookAtLock()
	r.w.guard(r.cfg.Now())
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	var parts sync.WaitGroup
	parts.Go(func() { r.cfg.Guard.Attempts(ctx, r.attempt, r.badLines) })
	parts.Go(func() { r.watch(done) })
	return func() {
		stop()
		close(done)
		parts.Wait()
	}
}

// Wake has the writer look whether something is to be done. It never waits, and may be called from
// any goroutine.
func (r *Recorder) Wake() { r.ring.notify() }

// Armed tells whether an autopilot has said that it is armed.
func (r *Recorder) Armed() bool { return r.armed.Load() }

// LastFlight names the newest flight that has ended since the start; empty: none.
func (r *Recorder) LastFlight() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastFlight
}

// UTC turns microseconds since boot into microseconds since 1970, by what stamps count from; 0 where
// the time is not known.
func (r *Recorder) UTC(bootUsec int64) int64 {
	offset := r.clock.offset.Load()
	if offset == 0 {
		return 0
	}
	return bootUsec + offset
}

// Beat grows at least once a second while the recorder is well.
func (r *Recorder) Beat() int64 { return r.beat.Load() }

// Ready is closed when each link was tried once.
func (r *Recorder) Ready() <-chan struct{} { return r.ready }

func (r *Recorder) tried(link int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.untried[link] {
		return
	}
	delete(r.untried, link)
	if len(r.untried) == 0 {
		close(r.ready)
	}
}

// Snapshot is the recorder's health at one moment.
type Snapshot struct {
	State     string // starting, standby, recording, fault
	Armed     bool
	Record    string
	Frames    int64
	Bytes     int64
	Gaps      int64 // frames missing by their sequence numbers
	Noise     int64
	Drops     int64
	Free      int64
	LastError string
	Lock      string // locked, bench, open
	Grade     string // A, B, none
	LinkUp    []bool // by link: it is open
	Sent      int64  // bytes that went out
	Sealed    bool   // Seal was called, and all is durable
	Full      bool   // there is no room for telemetry either
}

// Snapshot may be called from any goroutine.
func (r *Recorder) Snapshot() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Snapshot{State: r.state, Armed: r.armed.Load(), Record: r.record, Frames: r.frames.Load(), Bytes: r.bytes.Load(),
		Gaps: r.gaps.Load(), Noise: r.noise.Load(), Drops: r.drops.Load(), Free: r.free, LastError: r.vaultErr, Lock: r.lock.Lock, Grade: r.lock.Grade,
		LinkUp: slices.Clone(r.linkUp), Sent: r.sentBytes.Load(), Sealed: r.sealed.Load(), Full: r.full.Load()}
	if s.LastError == "" {
		s.LastError = r.linkErr
	}
	return s
}

// problem notes what is wrong with a link; empty: nothing any more.
func (r *Recorder) problem(s string) {
	r.mu.Lock()
	r.linkErr = s
	r.mu.Unlock()
}

func (r *Recorder) setLinkUp(link int, up bool) {
	r.mu.Lock()
	r.linkUp[link] = up
	r.mu.Unlock()
}

func (r *Recorder) setState(s string) {
	r.mu.Lock()
	r.state = s
	r.mu.Unlock()
}
