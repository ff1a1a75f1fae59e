package recorder

import (
	"bytes"
	"sync"
	"time"

	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

const (
	// fileQueueBytes and fileQueueBlocks bound what of the autopilot's files waits for the vault.
	fileQueueBytes  = 256 << 10
	fileQueueBlocks = 256
	// filesOver is how long a record that was begun for files alone waits for more of them.
	filesOver = 10 * time.Second
	// filesEarly is the longest that pieces of files wait for the record of the flight they came in.
	filesEarly = 5 * time.Second
)

// fileQueue holds pieces of the autopilot's files until the vault takes them. Safe for concurrent
// use.
type fileQueue struct {
	mu      sync.Mutex
	blocks  []segment.Block
	bytes   int
	given   uint64 // taken from callers since the start
	passed  uint64 // taken by the vault
	last    time.Duration
	confirm uint64 // blocks below are to be confirmed; 0: nothing was asked
	asked   bool   // of the vault
	below   uint64 // confirmed
	err     error
}

// PutFile takes a piece of a file for stream A: at most vault.MaxFilePiece bytes, which are copied.
// number counts the pieces of this start from 0; ok is false where there is no room now. Safe for
// concurrent use.
func (r *Recorder) PutFile(f segment.File, data []byte) (number uint64, ok bool) {
	q := &r.files
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(data) > vault.MaxFilePiece || q.bytes+len(data) > fileQueueBytes || len(q.blocks) >= fileQueueBlocks {
		return 0, false
	}
	q.last = r.cfg.Now()
	f.BootUsec = q.last.Microseconds()
	q.blocks = append(q.blocks, segment.Block{Meta: segment.Meta{File: &f}, Data: bytes.Clone(data)})
	q.bytes += len(data)
	q.given++
	r.ring.notify()
	return q.given - 1, true
}

// FileRoom tells whether n bytes of files, in pieces, would be taken now.
func (r *Recorder) FileRoom(n int) bool {
	q := &r.files
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes+n <= fileQueueBytes && len(q.blocks)+n/vault.MaxFilePiece+1 <= fileQueueBlocks
}

// ConfirmFiles asks that all pieces taken so far are in segments that were closed, signed, read
// again from the medium and compared. FilesConfirmed tells how far that is.
func (r *Recorder) ConfirmFiles() {
	q := &r.files
	q.mu.Lock()
	q.confirm, q.asked, q.err = q.given, false, nil
	q.mu.Unlock()
	r.ring.notify()
}

// FilesConfirmed returns the number below which all pieces are confirmed. An error says that the
// last ConfirmFiles does not come to its end.
func (r *Recorder) FilesConfirmed() (number uint64, err error) {
	q := &r.files
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.below, q.err
}

// passFiles hands the vault what it takes, and what was asked about it.
func (w *writer) passFiles(now time.Duration) {
	q := &w.r.files
	q.mu.Lock()
	defer q.mu.Unlock()
	w.recordForFiles(q, now)
	for len(q.blocks) > 0 {
		b := &q.blocks[0]
		if w.early(b, now) {
			break
		}
		if _, ok := w.v.PutFile(b); !ok {
			break
		}
		q.bytes -= len(b.Data)
		q.blocks = q.blocks[1:]
		q.passed++
	}
	if len(q.blocks) == 0 {
		q.blocks = nil
	}
	if q.confirm > 0 && !q.asked && q.passed >= q.confirm {
		w.v.Confirm()
		q.asked = true
	}
	if q.asked {
		q.below, q.err = w.v.Confirmed()
	}
}

// early tells whether a piece is about a record that is not begun yet: it came behind the word of
// arming, or of disarming, which waits in the ring with what came before it.
func (w *writer) early(b *segment.Block, now time.Duration) bool {
	at := time.Duration(w.r.armedAt.Load())
	armed, flight := w.r.armed.Load(), w.kind == vault.Flight
	switching := armed && !flight || !armed && flight && w.v.Record().Number != 0
	return switching && !w.blocked(now) && now-at < filesEarly && b.Meta.File.BootUsec >= at.Microseconds()
}

// recordForFiles begins a ground record where only flights are recorded and the autopilot's log of
// one comes afterwards, and ends it when no more comes.
func (w *writer) recordForFiles(q *fileQueue, now time.Duration) {
	if !w.r.cfg.ArmedOnly || w.blocked(now) || w.g.muted || w.sealed {
		return
	}
	have := w.v.Record().Number != 0
	switch {
	case len(q.blocks) > 0 && !w.early(&q.blocks[0], now) && !have && w.want != vault.Flight && w.cut.Number == 0:
		if err := w.v.Begin(vault.Ground, vault.RecordID{}); err != nil {
			w.fault(err)
			return
		}
		w.kind = vault.Ground
		w.set("standby", w.v.Record().String())
	case have && w.kind == vault.Ground && len(q.blocks) == 0 && now-q.last > filesOver:
		if err := w.v.End(); err != nil {
			w.fault(err)
		}
		w.set("standby", "")
	}
}
