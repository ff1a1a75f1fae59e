package media

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"

	"holdfast/firmware/mediapipe"
)

// pieces are buffers of HeadRoom and pieceSize.
var pieces = sync.Pool{New: func() any { return new([mediapipe.HeadRoom + pieceSize]byte) }}

// newPiece returns a buffer for a message of data; its content begins at HeadRoom.
func newPiece() []byte { return pieces.Get().(*[mediapipe.HeadRoom + pieceSize]byte)[:] }

// freePiece takes a buffer of newPiece back; others are left alone.
func freePiece(p []byte) {
	if cap(p) == mediapipe.HeadRoom+pieceSize {
		pieces.Put((*[mediapipe.HeadRoom + pieceSize]byte)(p[:cap(p)]))
	}
}

// cut returns the first n bytes of content of a piece; a short one in a buffer of its own size,
// because what waits is counted by what it takes.
func cut(p []byte, n int) []byte {
	if n > pieceSize/2 {
		return p[:mediapipe.HeadRoom+n]
	}
	small := append(make([]byte, 0, mediapipe.HeadRoom+n), p[:mediapipe.HeadRoom+n]...)
	freePiece(p)
	return small
}

// file is a file on its way to the recorder. It is told of with its first piece that finds room. Used
// by one goroutine.
type file struct {
	m      *Media
	begin  mediapipe.Begin
	begun  bool
	offset int64     // bytes that the camera gave
	lost   int64     // dropped since the last piece that found room
	why    string    // of lost
	any    string    // why anything was lost, at first
	sum    hash.Hash // nil: of no use
}

func (m *Media) newFile(b mediapipe.Begin) *file {
	b.File = m.files.Add(1)
	if b.BeganUsec == 0 {
		b.BeganUsec = m.cfg.Now().Microseconds()
	}
	b.Name = mediapipe.Text(b.Name)
	f := &file{m: m, begin: b}
	// Of a live stream nobody has another copy to compare, and a sum of it costs a board without
	// instructions for it half a processor.
	if b.Kind == mediapipe.Photo || b.Asks {
		f.sum = sha256.New()
	}
	return f
}

// write hands over a piece (newPiece, cut), or drops it and counts it where there is no room or the
// rate is exceeded. The piece is no longer the caller's.
func (f *file) write(wire []byte) {
	n := len(wire) - mediapipe.HeadRoom
	if f.m.rate.take(n) > 0 {
		freePiece(wire)
		f.drop(n, mediapipe.WhyRate)
		return
	}
	if !f.m.queue.put(wire, f.prepare(wire)...) {
		freePiece(wire)
		f.drop(n, f.m.whyFull())
		return
	}
	f.taken(n)
}

// writeWait hands over a piece, and waits until there is room for it; false: ctx has ended.
func (f *file) writeWait(ctx context.Context, wire []byte) bool {
	n := len(wire) - mediapipe.HeadRoom
	if !f.m.rate.takeWait(ctx, n) || !f.m.queue.putWait(ctx, wire, f.prepare(wire)...) {
		freePiece(wire)
		return false
	}
	f.taken(n)
	return true
}

// prepare makes the message, and what has to be told before it. Afterwards the piece may be the
// sender's at any time.
func (f *file) prepare(wire []byte) (before []mediapipe.Message) {
	if f.sum != nil {
		f.sum.Write(wire[mediapipe.HeadRoom:])
	}
	mediapipe.PutData(wire, &mediapipe.Data{File: f.begin.File, Offset: f.offset, BootUsec: f.m.cfg.Now().Microseconds()})
	if !f.begun {
		b := f.begin
		before = append(before, &b)
	}
	if f.lost > 0 {
		before = append(before, &mediapipe.Lost{File: f.begin.File, Bytes: f.lost, Why: f.why})
	}
	return before
}

func (f *file) taken(n int) {
	f.begun, f.lost, f.why = true, 0, ""
	f.offset += int64(n)
}

// drop counts n bytes that are not handed over.
func (f *file) drop(n int, why string) {
	f.offset += int64(n)
	f.lost += int64(n)
	if f.why == "" {
		f.why = why
	}
	if f.any == "" {
		f.any = why
	}
}

// end says that no more comes; why is empty where it ends as it should. Of a file that never found
// room an event is all there is.
func (f *file) end(why string) {
	if !f.begun {
		if f.lost > 0 {
			f.m.event(f.begin.Camera, "media_lost", fmt.Sprintf("%d bytes, a whole %s: %s", f.lost, f.begin.Kind, f.why))
		}
		return
	}
	if f.lost > 0 {
		f.m.queue.tell(&mediapipe.Lost{File: f.begin.File, Bytes: f.lost, Why: f.why})
	}
	e := &mediapipe.End{File: f.begin.File, Size: f.offset, BootUsec: f.m.cfg.Now().Microseconds(), Why: mediapipe.Text(why)}
	if f.sum != nil && f.any == "" && why == "" {
		e.SHA256 = hex.EncodeToString(f.sum.Sum(nil))
	}
	f.m.queue.tell(e)
}

// whyFull is why there is no room.
func (m *Media) whyFull() string {
	if m.out.reached.Load() {
		return mediapipe.WhyFast
	}
	return mediapipe.WhyNobody
}
