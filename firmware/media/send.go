package media

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/firmware/mediapipe"
)

// reopen is how long the sender waits before it tries again to reach the recorder.
const reopen = 200 * time.Millisecond

// sender is the one goroutine that writes to the recorder.
type sender struct {
	queue *queue
	open  func() (io.WriteCloser, error)
	hello mediapipe.Hello
	log   *slog.Logger
	// wait is how long the recorder's word is waited for. What a recorder reads before its word was
	// answered it does not trust, and passes over.
	wait time.Duration
	// reached tells whether somebody takes what is sent; met is closed when somebody does for the
	// first time.
	reached atomic.Bool
	met     chan struct{}
	once    sync.Once

	mu       sync.Mutex
	announce bool
	nonce    string
	session  uint32

	files map[uint32]*mediapipe.Begin // told of, and not over; Offset is what was sent of them
	buf   []byte
}

// again makes the sender say Hello once more, with the nonce that the recorder gave.
func (s *sender) again(nonce string) {
	s.mu.Lock()
	s.announce, s.nonce = true, nonce
	s.mu.Unlock()
	s.queue.notify()
}

// run sends until ctx ends. Where the recorder is not there it tries again and again.
func (s *sender) run(ctx context.Context) {
	for ctx.Err() == nil {
		out, err := s.open()
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = out.Close() }) // ends a write that waits
			err = s.serve(ctx, out)
			s.reached.Store(false)
			if stop() {
				_ = out.Close()
			}
			s.log.Warn("recorder", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopen):
		}
	}
}

// serve sends what waits until a write fails. A message that could not be written whole is the first
// of the next time.
func (s *sender) serve(ctx context.Context, out io.Writer) error {
	if err := s.greet(ctx, out); err != nil {
		return err
	}
	s.reached.Store(true)
	s.once.Do(func() { close(s.met) })
	for {
		if s.asked() {
			if err := s.sayHello(out); err != nil {
				return err
			}
		}
		i, ok := s.queue.first()
		if !ok {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.queue.wake:
			}
			continue
		}
		if err := s.write(out, i); err != nil {
			return err
		}
		s.queue.done()
	}
}

// greet says Hello, and says it again when the recorder has given its word, for which it waits a while.
func (s *sender) greet(ctx context.Context, out io.Writer) error {
	if !s.asked() {
		if err := s.sayHello(out); err != nil {
			return err
		}
	}
	late := time.NewTimer(s.wait)
	defer late.Stop()
	for !s.asked() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return nil
		case <-s.queue.wake: // by again, or by what waits
		}
	}
	return s.sayHello(out)
}

func (s *sender) asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.announce
}

// sayHello begins a session: padding, Hello, and the files that are not over.
func (s *sender) sayHello(out io.Writer) error {
	s.mu.Lock()
	s.session++
	s.announce = false
	session, nonce := s.session, s.nonce
	s.mu.Unlock()
	p := mediapipe.Padding()
	p, err := mediapipe.Append(p, session, &mediapipe.Hello{Process: s.hello.Process, Cameras: s.hello.Cameras, Nonce: nonce})
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(s.files)) {
		if p, err = mediapipe.Append(p, session, s.files[id]); err != nil {
			return err
		}
	}
	_, err = out.Write(p)
	return err
}

func (s *sender) write(out io.Writer, i item) error {
	p := i.wire
	if p != nil {
		mediapipe.Seal(p, s.session)
	} else {
		var err error
		if p, err = mediapipe.Append(s.buf[:0], s.session, i.msg); err != nil {
			s.log.Error("message left out", slog.Any("err", err))
			return nil
		}
		s.buf = p[:0]
	}
	if _, err := out.Write(p); err != nil {
		return err
	}
	s.note(i)
	return nil
}

// note keeps what would have to be told again.
func (s *sender) note(i item) {
	switch m := i.msg.(type) {
	case nil:
		file, end := dataEnd(i.wire)
		if b := s.files[file]; b != nil {
			b.Offset = end
		}
		freePiece(i.wire)
	case *mediapipe.Begin:
		told := *m
		s.files[m.File] = &told
	case *mediapipe.Lost:
		if b := s.files[m.File]; b != nil {
			b.Offset += m.Bytes
		}
	case *mediapipe.End:
		delete(s.files, m.File)
	}
}

// dataEnd returns the file of a message that mediapipe.PutData made, and where its data ends there.
func dataEnd(wire []byte) (file uint32, end int64) {
	p := wire[mediapipe.HeadRoom-mediapipe.DataHead:]
	return binary.BigEndian.Uint32(p), int64(binary.BigEndian.Uint64(p[4:])) + int64(len(p)-mediapipe.DataHead)
}
