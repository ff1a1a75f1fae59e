package media

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"holdfast/firmware/mediapipe"
)

// listen does what the recorder says until ctx ends.
func (m *Media) listen(ctx context.Context) {
	for ctx.Err() == nil {
		in, err := m.cfg.OpenIn()
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = in.Close() }) // ends a read that waits
			err = m.obey(in)
			if stop() {
				_ = in.Close()
			}
		}
		m.log.Warn("recorder's commands", slog.Any("err", err))
		select {
		case <-ctx.Done():
		case <-time.After(reopen):
		}
	}
}

// obey reads until that fails.
func (m *Media) obey(in io.Reader) error {
	r := mediapipe.NewReader(in)
	for {
		msg, _, err := r.Next()
		if err != nil {
			return err
		}
		m.command(msg)
	}
}

// command does what one message says. What is of no camera here is passed over.
func (m *Media) command(msg mediapipe.Message) {
	switch v := msg.(type) {
	case *mediapipe.State:
		for _, c := range m.cams {
			c.setArmed(v.Armed)
		}
	case *mediapipe.VideoCommand:
		if c := m.find(v.Camera); c != nil {
			c.video(v.On)
		}
	case *mediapipe.Shoot:
		if c := m.find(v.Camera); c != nil {
			c.shoot(v)
		}
	case *mediapipe.StopShooting:
		if c := m.find(v.Camera); c != nil {
			c.stopShooting()
		}
	case *mediapipe.Kept:
		m.kept.answer(v)
	case *mediapipe.Announce:
		m.out.again(v.Nonce)
	}
}

// answers hands the recorder's words about files to those who wait for them. Safe for concurrent use.
type answers struct {
	mu   sync.Mutex
	wait map[uint32]chan *mediapipe.Kept
}

// expect returns where the answer about a file will come.
func (a *answers) expect(file uint32) <-chan *mediapipe.Kept {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wait == nil {
		a.wait = map[uint32]chan *mediapipe.Kept{}
	}
	c := make(chan *mediapipe.Kept, 1)
	a.wait[file] = c
	return c
}

func (a *answers) forget(file uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.wait, file)
}

func (a *answers) answer(k *mediapipe.Kept) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.wait[k.File]; c != nil {
		delete(a.wait, k.File)
		c <- k
	}
}
