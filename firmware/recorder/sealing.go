package recorder

import (
	"fmt"
	"log/slog"
	"time"
)

// Seal has the record ended and everything made durable, and nothing recorded until it is called
// with false or the vehicle is armed: an operator, or a low battery, has asked for the end. While
// the vehicle is armed it does nothing. Safe for concurrent use.
func (r *Recorder) Seal(on bool) {
	r.sealAsked.Store(on)
	r.ring.notify()
}

// sealing does what Seal asked for.
func (w *writer) sealing(now time.Duration) {
	want := w.r.sealAsked.Load() && !w.r.armed.Load() && !w.r.aloft.Load()
	switch {
	case w.g.muted || want == w.sealed:
	case !want:
		w.unseal()
	case !w.blocked(now):
		w.seal()
	}
}

// seal ends the record. What comes in from now on is counted and dropped.
func (w *writer) seal() {
	w.r.ring.mute(true)
	if w.v.Record().Number != 0 {
		w.drain(w.r.cfg.Now(), true)
	}
	if w.v.Record().Number != 0 && w.retry != 0 { // the medium refuses what came before
		w.r.ring.mute(false)
		return
	}
	w.count()
	w.passAudit(w.r.cfg.Now(), true)
	err := w.v.End()
	if err == nil {
		err = w.v.Settle()
	}
	if err != nil {
		w.r.ring.mute(false)
		w.fault(err)
		return
	}
	w.r.ring.discard()
	w.oldest, w.before, w.beforeN = 0, nil, 0
	w.sealed = true
	w.r.sealed.Store(true)
	w.set("standby", "")
	w.r.log.Info("sealed: power may be taken away")
}

// unseal goes on with recording.
func (w *writer) unseal() {
	skipped := w.r.ring.mute(false)
	w.sealed = false
	w.r.sealed.Store(false)
	if w.r.armed.Load() {
		w.r.sealAsked.Store(false)
	}
	w.r.event("sealed_over", fmt.Sprintf("%d frames, %d bytes came in while nothing was recorded", skipped.Frames, skipped.Bytes))
	w.r.log.Info("recording goes on", slog.Int64("frames_skipped", skipped.Frames))
}
