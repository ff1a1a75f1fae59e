package autopilot

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"holdfast/storage/segment"
)

// fileRetry is how long a file waits that the recorder had no room for.
const fileRetry = time.Second

// pending is the newest file of a kind, until the recorder takes it.
type pending struct {
	file segment.File
	data []byte
	next time.Duration
}

// put makes data the file to be written; what was still waiting is older and is dropped.
func (w *pending) put(p *Part, kind, format, name string, data []byte) {
	sum := sha256.Sum256(data)
	w.data, w.next = data, 0
	w.file = segment.File{Kind: kind, Source: "autopilot", Format: format, Name: name, Size: int64(len(data)),
		BeganUsec: p.now.Microseconds(), BootUsec: p.now.Microseconds(), End: true, SHA256: hex.EncodeToString(sum[:])}
	w.step(p, p.now)
}

// step offers the file again.
func (w *pending) step(p *Part, now time.Duration) time.Duration {
	if w.data == nil {
		return now + idle
	}
	if now >= w.next {
		if p.cfg.Record.PutFile(w.file, w.data) {
			w.data = nil
			return now + idle
		}
		w.next = now + fileRetry
	}
	return w.next
}
