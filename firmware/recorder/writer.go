package recorder

import (
	"bytes"
	"fmt"
	"log/slog"
	"time"

	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

const (
	// recordEvery: at most one new record in this time, however the arm bit flaps. The first
	// change after a start is exempt, so that a board that starts in the air, or a quick
	// take-off, gets its flight record at once.
	recordEvery = 5 * time.Second
	// roomEvery is how often the free space is looked at.
	roomEvery = time.Second
	// retryFirst and retryMost bound the back-off after the vault refused something.
	retryFirst = 250 * time.Millisecond
	retryMost  = 5 * time.Second
	// beforeFlight is what goes before a flight where only flights are recorded.
	beforeFlight = 30 * time.Second
	// beforeBytes bounds the memory for it; it is part of what the ring may hold.
	beforeBytes = ringBytes / 2
)

// writer is the one goroutine that owns the vault.
type writer struct {
	r     *Recorder
	v     *vault.Vault
	cut   vault.RecordID      // a flight that a cut ended; the first record goes on with it
	pairs []segment.ClockPair // for the next block

	kind     vault.Kind
	want     vault.Kind
	switched bool          // the arm bit has begun a record since the start
	began    time.Duration // when it last did
	oldest   time.Duration // arrival of the oldest entry not yet durable; 0: none
	retryAt  time.Duration
	retry    time.Duration
	nextRoom time.Duration
	nextKey  time.Duration
	full     bool
	before   []segment.Block // ArmedOnly: what came since the last flight
	beforeN  int
	over     []segment.Block // of an earlier recorder, not in a record yet

	sealed    bool // an operator has asked for the end, and all is durable
	g         guarding
	nextAudit time.Duration
}

// run serves the ring until done is closed and everything is written.
func (w *writer) run(done <-chan struct{}) error {
	if err := w.v.Prepare(); err != nil {
		w.fault(err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.r.beat.Add(1)
		now := w.r.cfg.Now()
		w.guard(now)
		w.sealing(now)
		w.look(now)
		w.takeOver(now)
		w.drain(now, false)
		w.forMedia(now)
		w.passAudit(now, false)
		w.passFiles(now)
		if w.tidy(now) {
			timer.Reset(0)
		} else {
			timer.Reset(w.pause(now))
		}
		select {
		case <-done:
			return w.end()
		case <-w.r.ring.wake:
		case <-timer.C:
		}
	}
}

// pause is how long nothing needs to be done.
func (w *writer) pause(now time.Duration) time.Duration {
	at := w.nextRoom
	if w.retryAt > now {
		at = min(w.retryAt, at)
	} else if due, ok := w.due(); ok && !w.full {
		at = min(at, due)
	}
	for _, of := range []func() (time.Duration, bool){w.v.AuditDue, w.v.FileDue} {
		if due, ok := of(); ok && due > now { // one that is due waits for telemetry
			at = min(at, due)
		}
	}
	return max(at-now, 0)
}

// blocked tells whether the vault refused something a moment ago.
func (w *writer) blocked(now time.Duration) bool { return w.full || now < w.retryAt }

// due is when what waits has to be durable.
func (w *writer) due() (time.Duration, bool) {
	// Until the first heartbeat says otherwise a flight that was cut is still in the air.
	w.v.SetArmed(w.r.armed.Load() || w.kind == vault.Flight || w.cut.Number != 0)
	if w.oldest > 0 {
		return w.oldest + w.v.Interval(), true
	}
	since, entries, ok := w.r.ring.oldest()
	if !ok || !entries && w.v.Record().Number == 0 {
		return 0, false // events alone begin no record
	}
	return since + w.v.Interval(), true
}

// drain appends the batches that are full, and all of them where the time has come, and then
// makes them durable. It takes no more than what waited when it began: a fast source must not
// keep it from the flush.
func (w *writer) drain(now time.Duration, last bool) {
	if w.blocked(now) && !last {
		return
	}
	due, ok := w.due()
	flush := last || ok && due <= now || w.r.media.asked.Load() // what begins a flight may wait here
	for range w.r.ring.ready(flush) {
		if err := w.take(w.r.ring.head()); err != nil {
			w.fault(err)
			return
		}
	}
	if !flush && w.retry == 0 {
		return
	}
	if err := w.v.Flush(); err != nil {
		w.fault(err)
		return
	}
	w.oldest = 0
	w.well()
}

// forMedia begins a record where photos or video wait for one. On a board that records flights only
// drain has done it, if anybody does.
func (w *writer) forMedia(now time.Duration) {
	if !w.r.media.asked.Swap(false) || w.v.Record().Number != 0 || w.r.cfg.ArmedOnly || w.sealed || w.g.muted || w.blocked(now) {
		return
	}
	if err := w.begin(now); err != nil {
		w.fault(err)
	}
}

// take brings one batch into the vault and releases it.
func (w *writer) take(b *batch) error {
	switch b.arm {
	case armOn:
		w.want = vault.Flight
	case armOff:
		w.want = vault.Ground
	}
	if b.first == 0 && w.v.Record().Number == 0 {
		w.r.ring.release() // events of a stop, and no record to put them in
		return nil
	}
	if w.r.cfg.ArmedOnly {
		return w.takeArmedOnly(b)
	}
	if err := w.begin(b.first); err != nil {
		return err
	}
	return w.append(b)
}

// append hands the batch to the vault. The vault holds it from then on, even where it fails.
func (w *writer) append(b *batch) error {
	b.block.Stored = w.r.ring.behind()
	b.block.Meta.Clock = append(w.pairs, b.block.Meta.Clock...)
	w.pairs = nil
	if w.oldest == 0 {
		w.oldest = max(b.since, 1)
	}
	err := w.v.Append(&b.block)
	w.r.ring.release()
	return err
}

// begin starts a record where there is none, or where the arming state asks for another kind
// and the last change is long enough ago.
func (w *writer) begin(at time.Duration) error {
	was := w.v.Record()
	have := was.Number != 0
	if have && (w.want == 0 || w.want == w.kind) {
		return nil
	}
	if have && w.switched && at-w.began < recordEvery {
		return nil
	}
	kind, goesOn := w.want, vault.RecordID{}
	if !have && w.cut.Number != 0 {
		kind, goesOn = vault.Flight, w.cut
	}
	if kind == 0 {
		kind = vault.Ground
	}
	if err := w.flushFirst(); err != nil {
		return err
	}
	if have {
		w.count()
	}
	err := w.v.Begin(kind, goesOn)
	if w.v.Record() == was {
		return err
	}
	if err != nil { // the new record stands; the old one could not be ended in good order
		w.r.log.Error("end record", slog.String("record", was.String()), slog.Any("err", err))
	}
	if have {
		w.switched, w.began = true, at
	}
	w.kind, w.cut = kind, vault.RecordID{}
	w.pairs = w.r.clock.pairs(w.r.cfg.Now(), true)
	w.set("recording", w.v.Record().String())
	w.r.log.Info("record begun", slog.String("record", w.v.Record().String()))
	return nil
}

// flushFirst makes durable what a new record would keep waiting too long: what came while armed,
// and what has waited for most of its time on the ground.
func (w *writer) flushFirst() error {
	if w.oldest == 0 || w.kind != vault.Flight && w.r.cfg.Now()-w.oldest < earlyFlush {
		return nil
	}
	if err := w.v.Flush(); err != nil {
		return err
	}
	w.oldest = 0
	return nil
}

// earlyFlush leaves a new record the syncs that its beginning takes, 50 ms each, before what
// waits from the ground is a second old.
const earlyFlush = 500 * time.Millisecond

// takeArmedOnly keeps what comes on the ground in memory, half a minute of it, and puts it
// before the flight when there is one.
func (w *writer) takeArmedOnly(b *batch) error {
	flying := w.v.Record().Number != 0 && w.kind == vault.Flight // another one is for files alone
	if flying && w.want != vault.Flight && b.first-w.began >= recordEvery {
		w.count()
		w.passAudit(b.first, true)
		if err := w.v.End(); err != nil {
			return err
		}
		w.oldest, flying = 0, false
		w.set("standby", "")
	}
	if !flying && w.want != vault.Flight && w.cut.Number == 0 {
		w.keep(b)
		return nil
	}
	if !flying {
		if err := w.v.Begin(vault.Flight, w.cut); err != nil {
			return err
		}
		w.kind, w.cut, w.began = vault.Flight, vault.RecordID{}, b.first
		w.pairs = w.r.clock.pairs(w.r.cfg.Now(), true)
		w.set("recording", w.v.Record().String())
	}
	for i := range w.before {
		if err := w.v.Append(&w.before[i]); err != nil {
			w.r.log.Warn("write", slog.Any("err", err))
		}
	}
	w.before, w.beforeN = nil, 0
	return w.append(b)
}

func (w *writer) keep(b *batch) {
	own := b.block
	own.Data, own.Noise, own.Sent = bytes.Clone(b.block.Data), bytes.Clone(b.block.Noise), bytes.Clone(b.block.Sent)
	own.Meta.BootUsec = w.r.cfg.Now().Microseconds()
	w.r.ring.release()
	w.before = append(w.before, own)
	w.beforeN += len(own.Data) + len(own.Noise) + len(own.Sent)
	limit := own.Meta.BootUsec - beforeFlight.Microseconds()
	for len(w.before) > 0 && (w.before[0].Meta.BootUsec < limit || w.beforeN > beforeBytes) {
		w.beforeN -= len(w.before[0].Data) + len(w.before[0].Noise) + len(w.before[0].Sent)
		w.before = w.before[1:]
	}
}

// tidy does one piece of the vault's clean-up where no flush is near.
func (w *writer) tidy(now time.Duration) (more bool) {
	left := idleWait
	if due, ok := w.due(); ok && !w.blocked(now) {
		if left = due - now; left <= 0 {
			return true
		}
	}
	if w.v.StepWithin(left) {
		return true
	}
	if now >= w.nextKey && !w.blocked(now) {
		w.nextKey = now + roomEvery
		if err := w.v.Prepare(); err != nil {
			w.fault(err)
		}
	}
	return false
}

// look checks the free space and the clock now and then.
func (w *writer) look(now time.Duration) {
	if now < w.nextRoom {
		return
	}
	w.nextRoom = now + roomEvery
	w.pairs = append(w.pairs, w.r.clock.pairs(now, false)...)
	free, err := w.v.Free()
	w.r.mu.Lock()
	w.r.free = free
	w.r.mu.Unlock()
	if err == nil {
		err = w.v.Room()
	}
	if err != nil && w.v.Record().Number != 0 {
		w.endFull()
	}
	w.full = err != nil
	w.r.full.Store(w.full)
	if err != nil {
		w.fault(err)
	}
}

// endFull ends the record in good order while there is still room for that. What cannot be
// flushed any more stays in memory, and the record open, until there is room again.
func (w *writer) endFull() {
	if err := w.v.Flush(); err != nil {
		w.r.log.Error("flush", slog.Any("err", err))
		return
	}
	w.oldest = 0
	w.count()
	if err := w.v.End(); err != nil {
		w.r.log.Error("end record", slog.Any("err", err))
	}
}

// fault notes what the vault refuses and sets when to try again. Nothing that waits in the
// ring is given up until the ring is full.
func (w *writer) fault(err error) {
	w.retry = min(max(2*w.retry, retryFirst), retryMost)
	w.retryAt = w.r.cfg.Now() + w.retry
	text := fmt.Sprintf("cannot record: %v", err)
	w.r.mu.Lock()
	changed := w.r.vaultErr != text
	w.r.state, w.r.vaultErr = "fault", text
	w.r.record = w.v.Record().String()
	w.r.mu.Unlock()
	if changed {
		w.r.log.Error("cannot record", slog.Any("err", err))
	}
}

// well ends a fault.
func (w *writer) well() {
	if w.retry == 0 {
		return
	}
	w.retry = 0
	w.r.log.Info("recording again")
	w.r.mu.Lock()
	w.r.vaultErr = ""
	w.r.mu.Unlock()
	state := "standby"
	if w.v.Record().Number != 0 {
		state = "recording"
	}
	w.set(state, w.v.Record().String())
}

func (w *writer) set(state, record string) {
	w.r.mu.Lock()
	if old := w.r.record; old != record && old != "" && old[0] == byte(vault.Flight) {
		w.r.lastFlight = old
	}
	w.r.state, w.r.record = state, record
	w.r.mu.Unlock()
	w.r.tellNow()
}

// end writes what is left and closes the record.
func (w *writer) end() error {
	w.retryAt = 0
	w.drain(w.r.cfg.Now(), true)
	w.count()
	w.passAudit(w.r.cfg.Now(), true)
	w.passFiles(w.r.cfg.Now())
	err := w.v.End()
	w.holdOver()
	if n := w.r.audit.left(); n > 0 {
		w.r.log.Warn("attempts without a line in any record", slog.Int64("attempts", n))
	}
	w.set("standby", "")
	return err
}
