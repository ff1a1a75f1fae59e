package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"holdfast/crypto/custody"
	"holdfast/firmware/evidence"
)

// Guard is the process that keeps the network lock, as far as the recorder deals with it. Its
// methods may be called from several goroutines; none but Attempts blocks.
type Guard interface {
	// Lock is what the guard says of the lock now. Where nobody says anything that can be
	// believed it is open, without a grade, and Refused is -1.
	Lock() evidence.Lock
	// Attempts hands over attempts as they come, and counts of lines that are none, until ctx ends.
	Attempts(ctx context.Context, take func(*evidence.Attempt), bad func(lines int))
	// Tell says what the recorder does. Boot and Usec are set by the Guard.
	Tell(r evidence.Recorder) error
	// Counted and SetCounted keep what the public log has of Lock's count, beyond this process
	// and not beyond this run of the kernel.
	Counted() []Counted
	SetCounted(c []Counted) error
}

// Counted says that leaves up to number Leaf count Refused attempts.
type Counted struct {
	Leaf    int64 `json:"leaf"`
	Refused int64 `json:"refused"`
}

const (
	// lookEvery is how often the guard is asked.
	lookEvery = 250 * time.Millisecond
	// tellEvery is how often it is told where nothing has changed.
	tellEvery = time.Second
	// countEvery is how often attempts are counted in the public log where nothing else asks.
	countEvery = time.Minute
	// maxCounted is how many leaves may wait for a medium that takes none.
	maxCounted = 64
)

// watch asks the guard how the lock stands and tells it what the recorder does, until done is
// closed. It is apart from the writer, which a slow medium can hold up.
func (r *Recorder) watch(done <-chan struct{}) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var w teller
	for {
		r.lookAtLock()
		w.tell(r)
		select {
		case <-done:
			w.last = 0
			w.tell(r)
			return
		case <-r.told:
		case <-t.C:
		}
	}
}

// lookAtLock takes what the guard says, and wakes the writer where it has changed.
func (r *Recorder) lookAtLock() {
	l := r.cfg.Guard.Lock()
	r.mu.Lock()
	old := r.lock
	r.lock = l
	r.mu.Unlock()
	if old.Lock != l.Lock || old.Grade != l.Grade || ticketOf(old) != ticketOf(l) {
		r.ring.notify()
	}
	if old.Lock != l.Lock || old.Why != l.Why {
		r.log.Info("network lock", slog.String("lock", l.Lock), slog.String("grade", l.Grade), slog.String("why", l.Why))
	}
}

// ticketOf is the number of the ticket for which recording is to stop, or is stopped.
func ticketOf(l evidence.Lock) string {
	if l.Maintenance == nil {
		return ""
	}
	return l.Maintenance.Number
}

// lockNow is what the guard said last.
func (r *Recorder) lockNow() evidence.Lock {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lock
}

// tellNow has the guard told at once.
func (r *Recorder) tellNow() {
	select {
	case r.told <- struct{}{}:
	default:
	}
}

// teller tells the guard what has changed, and each second that nothing has.
type teller struct {
	said  evidence.Recorder
	last  time.Duration // when it was told; 0: not yet
	fault string
}

func (t *teller) tell(r *Recorder) {
	r.mu.Lock()
	is := evidence.Recorder{BootCount: r.boot, Device: r.device, State: r.state, Armed: r.armed.Load() || r.aloft.Load(), Record: r.record, Stopped: r.stopped}
	r.mu.Unlock()
	now := r.cfg.Now()
	if is == t.said && t.last > 0 && now-t.last < tellEvery {
		return
	}
	t.said, t.last = is, max(now, 1)
	text := ""
	if err := r.cfg.Guard.Tell(is); err != nil {
		text = err.Error()
	}
	if text != "" && text != t.fault {
		r.log.Warn("the guard cannot be told", slog.String("err", text))
	}
	t.fault = text
}

// lockSaid is what a leaf L says.
type lockSaid struct{ lock, grade, ticket string }

// guarding is the writer's part in what the guard does.
type guarding struct {
	said    lockSaid // by the last leaf L
	counted []Counted
	refused int64 // of the guard's count, what leaves L have
	began   time.Duration
	at      time.Duration // of the last leaf L
	retryAt time.Duration
	muted   bool   // nothing is recorded
	stopped string // number of the ticket for which recording has stopped, signed
}

// startGuard begins with what the log and an earlier recorder say.
func (w *writer) startGuard() {
	lock, grade := w.v.LockState()
	w.g.said = lockSaid{lock: lock, grade: grade}
	w.g.began = w.r.cfg.Now()
	w.g.at = w.g.began
	w.r.aloft.Store(w.cut.Number != 0)
	for _, c := range w.r.cfg.Guard.Counted() {
		if c.Leaf < w.v.Found() { // later ones were lost with the process that wrote them
			w.g.refused = c.Refused
			w.g.counted = append(w.g.counted, c)
		}
	}
}

// guard does what the guard's word asks for: it stops for a ticket and goes on after it, and says
// in the public log how the lock stands and what it has refused.
func (w *writer) guard(now time.Duration) {
	if w.r.cfg.Guard == nil || now < w.g.retryAt {
		return
	}
	l := w.r.lockNow()
	if w.r.aloft.Load() && (w.r.ring.armKnown() || now-w.g.began >= autopilotGoneArmed) {
		w.r.aloft.Store(false)
		w.r.tellNow()
	}
	w.maintain(now, ticketOf(l))
	is := lockSaid{lock: l.Lock, grade: l.Grade}
	if w.g.stopped != "" {
		is = lockSaid{evidence.Open, evidence.None, w.g.stopped}
	}
	if is != w.g.said || now-w.g.at >= countEvery && w.grown(l) > 0 {
		w.sayLock(is, l)
	}
}

// grown is how many attempts no leaf has counted. A guard that counts less than before has
// begun anew.
func (w *writer) grown(l evidence.Lock) int64 {
	switch {
	case l.Refused < 0:
		return 0
	case l.Refused < w.g.refused:
		return l.Refused
	}
	return l.Refused - w.g.refused
}

// count says before a record ends what has been refused until now.
func (w *writer) count() {
	if w.r.cfg.Guard == nil {
		return
	}
	if l := w.r.lockNow(); w.grown(l) > 0 {
		w.sayLock(w.g.said, l)
	}
}

// sayLock adds a leaf L. What it has counted is noted before any sync can make it durable: so a
// recorder that is killed at any time counts nothing twice and leaves nothing out.
func (w *writer) sayLock(is lockSaid, l evidence.Lock) {
	now := w.r.cfg.Now()
	leaf, err := w.v.SetLock(custody.Lock{Lock: is.lock, Grade: is.grade, Ticket: is.ticket, Refused: w.grown(l)})
	if err != nil {
		w.g.retryAt = now + time.Second
		w.r.log.Error("public log", slog.Any("err", err))
		return
	}
	w.g.said, w.g.at = is, now
	if l.Refused >= 0 {
		w.g.refused = l.Refused
	}
	w.g.counted = append(w.g.counted, Counted{leaf, w.g.refused})
	w.g.counted = w.g.counted[max(0, len(w.g.counted)-maxCounted):]
	if err := w.r.cfg.Guard.SetCounted(w.g.counted); err != nil {
		w.r.log.Warn("attempts may be counted twice after a restart", slog.Any("err", err))
	}
}

// maintain stops recording for a ticket, not before the vehicle is disarmed, and goes on when the
// guard no longer says that there is one: also where it says nothing any more.
func (w *writer) maintain(now time.Duration, ticket string) {
	switch {
	case ticket == "":
		if w.g.muted {
			w.resume()
		}
	case ticket == w.g.stopped, w.r.armed.Load(), w.r.aloft.Load(), w.blocked(now) && w.v.Record().Number != 0:
	default:
		if err := w.stop(ticket); err != nil {
			w.g.retryAt = w.r.cfg.Now() + time.Second
			w.r.log.Error("stop for maintenance", slog.String("ticket", ticket), slog.Any("err", err))
		}
	}
}

// stop ends the record in good order and has the public log say, signed, for which ticket. From
// its first moment on what comes in is counted and dropped, so that nothing of a maintenance gets
// into the next record.
func (w *writer) stop(ticket string) error {
	w.r.ring.mute(true)
	w.g.muted = true
	if w.v.Record().Number != 0 {
		w.drain(w.r.cfg.Now(), true)
	}
	if w.v.Record().Number != 0 && w.retry != 0 { // the medium refuses what came before: nothing has stopped yet
		w.r.ring.mute(false)
		w.g.muted = false
		return fmt.Errorf("%s", w.r.Snapshot().LastError)
	}
	w.count()
	w.passAudit(w.r.cfg.Now(), true)
	if err := w.v.End(); err != nil {
		return err
	}
	w.r.ring.discard() // where there was no room for a record
	w.oldest, w.before, w.beforeN = 0, nil, 0
	w.sayLock(lockSaid{evidence.Open, evidence.None, ticket}, w.r.lockNow())
	if w.g.said.ticket != ticket {
		return custody.ErrFull
	}
	if err := w.v.Settle(); err != nil {
		return err
	}
	w.g.stopped = ticket
	w.r.mu.Lock()
	w.r.state, w.r.record, w.r.stopped = "standby", "", ticket
	w.r.vaultErr = "recording has stopped for maintenance, ticket " + ticket
	w.r.mu.Unlock()
	w.r.tellNow()
	w.r.log.Info("recording has stopped for maintenance", slog.String("ticket", ticket))
	return nil
}

// resume goes on with recording.
func (w *writer) resume() {
	skipped := w.r.ring.mute(false)
	detail := fmt.Sprintf("ticket %s: %d frames, %d bytes came in and were not recorded", w.g.stopped, skipped.Frames, skipped.Bytes)
	w.g.muted, w.g.stopped = false, ""
	w.r.mu.Lock()
	w.r.stopped, w.r.vaultErr = "", ""
	w.r.mu.Unlock()
	w.r.tellNow()
	w.r.event("maintenance_over", detail)
	w.r.log.Info("recording goes on after maintenance")
}
