package recorder

import (
	"log/slog"
	"time"

	"holdfast/storage/segment"
)

// HeldBlocks reads what HeldOver has returned.
func HeldBlocks(p []byte) []segment.Block { return heldBlocks(p) }

// MediaClock is the recorder's clock.
func (r *Recorder) MediaClock() time.Duration { return r.cfg.Now() }

// NewForMedia returns a recorder that can do nothing but RunMedia.
func NewForMedia() *Recorder {
	start := time.Now()
	r := &Recorder{log: slog.New(slog.DiscardHandler)}
	r.cfg.Now = func() time.Duration { return time.Since(start) }
	r.ring = newRing(func(*batch) {})
	return r
}
