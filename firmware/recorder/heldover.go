package recorder

import (
	"bytes"
	"fmt"
	"log/slog"
	"time"

	"holdfast/storage/segment"
)

// HeldOver returns what Run has not made durable before it ended, as encoded blocks (package segment)
// that are not sealed; nil where all is. It is for Config.HeldOver of the next recorder.
func (r *Recorder) HeldOver() []byte { return r.heldOver }

// holdOver gathers what the vault and the ring still hold.
func (w *writer) holdOver() {
	enc, err := segment.NewEncoder()
	if err != nil { // it depends on nothing that changes
		return
	}
	p := bytes.Clone(w.v.Unsaved())
	add := func(b *segment.Block) {
		if q, err := enc.Append(p, b); err == nil {
			p = q
		}
	}
	for i := range w.over { // no record came for it
		add(&w.over[i])
	}
	for i := range w.before {
		add(&w.before[i])
	}
	for range w.r.ring.ready(true) {
		add(&w.r.ring.head().block)
		w.r.ring.release()
	}
	w.r.heldOver = p
}

// takeOver puts what an earlier recorder held into the record, before anything of this one. On a
// board that records flights only it waits for one, as what came on the ground does.
func (w *writer) takeOver(now time.Duration) {
	if len(w.over) == 0 || w.blocked(now) {
		return
	}
	if w.r.cfg.ArmedOnly && w.cut.Number == 0 {
		w.before, w.over = w.over, nil
		return
	}
	w.began = now
	if err := w.begin(now); err != nil {
		w.fault(err)
		return
	}
	frames, n := 0, 0
	for i := range w.over {
		b := &w.over[i]
		frames, n = frames+b.Meta.Frames, n+len(b.Data)+len(b.Noise)+len(b.Sent)
		if err := w.v.Append(b); err != nil { // the vault holds it all the same
			w.fault(err)
		}
	}
	w.over, w.oldest = nil, max(now, 1)
	w.r.event("held_over", fmt.Sprintf("%d frames, %d bytes that came while the medium was away", frames, n))
	w.r.log.Info("frames were held over", slog.Int("frames", frames))
}

// heldBlocks reads what HeldOver has returned; what is no whole block is left out.
func heldBlocks(p []byte) []segment.Block {
	if len(p) == 0 {
		return nil
	}
	var h heldReader
	d, err := segment.NewDecoder(&h)
	if err != nil {
		return nil
	}
	_ = d.Feed(p) // h returns no error
	_, _ = d.End()
	return h.list
}

// heldReader is a segment.Handler that makes blocks again.
type heldReader struct{ list []segment.Block }

func (h *heldReader) last() *segment.Block {
	if len(h.list) == 0 {
		h.list = append(h.list, segment.Block{})
	}
	return &h.list[len(h.list)-1]
}

func (h *heldReader) Meta(m *segment.Meta) error {
	own := *m
	own.Header = nil // of a segment that is not there any more
	h.list = append(h.list, segment.Block{Meta: own})
	return nil
}

func (h *heldReader) Data(p []byte, part bool) error {
	if b := h.last(); !part {
		b.Data = append(b.Data, p...)
	}
	return nil
}

func (h *heldReader) Noise(r segment.NoiseRun) error {
	b := h.last()
	b.Noise = segment.AppendNoise(b.Noise, r)
	return nil
}

func (h *heldReader) Sent(r segment.SentRun) error {
	b := h.last()
	b.Sent = segment.AppendSent(b.Sent, r)
	return nil
}
