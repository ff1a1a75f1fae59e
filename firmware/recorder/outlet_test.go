package recorder_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/firmware/recorder"
	"holdfast/mavlink"
	"holdfast/mavlink/link"
	"holdfast/storage/segment"
)

// talkingLine is a line that also takes what is sent; hold makes it take nothing for a while.
type talkingLine struct {
	*line
	mu   sync.Mutex
	out  [][]byte
	hold time.Duration
}

func (l *talkingLine) Write(p []byte) (int, error) {
	if l.hold > 0 {
		time.Sleep(min(l.hold, time.Second))
		return 0, os.ErrDeadlineExceeded
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = append(l.out, bytes.Clone(p))
	return len(p), nil
}

func (l *talkingLine) sent() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out
}

// Sent takes what the records say of what was sent.
func (o *opened) Sent(r segment.SentRun) error {
	if !o.skip {
		r.Data = bytes.Clone(r.Data)
		o.sent = append(o.sent, r)
	}
	return nil
}

var errList = errors.New("not on the list")

// onlyHeartbeats is an allow-list.
func onlyHeartbeats(_ uint8, raw []byte) error {
	if f, ok := mavlink.ParseFrame(raw); !ok || f.ID != mavlink.MsgHeartbeat {
		return errList
	}
	return nil
}

func openTalking(l *talkingLine) func(string, int) (link.Source, error) {
	return func(string, int) (link.Source, error) { return l, nil }
}

func talking(allow func(uint8, []byte) error, l *talkingLine) recorder.Config {
	return recorder.Config{Allow: allow, Origins: []string{"holdfast", "share:ros"}, OpenLink: openTalking(l)}
}

// TestSend: what the list admits goes out, the rest does not, and the record has both with origin
// and outcome, in the order in which they were asked for.
func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := &talkingLine{line: newLine(false)}
		good, bad := heartbeat(1, 1, 191, 8, false), attitude(2, 7)
		b.record(talking(onlyHeartbeats, l), l.line, func(r *recorder.Recorder) {
			l.in <- own(0, false)
			time.Sleep(time.Second)
			if !r.Send(0, recorder.OriginOwn, good) || r.Send(0, 1, bad) || !r.Send(0, 1, good) || r.Send(1, 0, good) {
				t.Error("Send")
			}
			r.Refuse(0, 1, bad)
			time.Sleep(time.Second)
		})
		if out := l.sent(); len(out) != 2 || !bytes.Equal(out[0], good) || !bytes.Equal(out[1], good) {
			t.Errorf("went out: %x", out)
		}
		var got []string
		for _, o := range b.read() {
			for _, s := range o.sent {
				f, _ := mavlink.ParseFrame(s.Data)
				got = append(got, fmt.Sprintf("%d:%d:%d", s.Origin, s.Outcome, f.ID))
			}
			if len(o.frames) != 1 {
				t.Errorf("%d frames came in, want 1: what was sent is none of them", len(o.frames))
			}
		}
		want := map[string]int{"0:0:0": 1, "1:0:0": 1, "1:1:30": 2}
		for _, s := range got {
			want[s]--
		}
		for s, n := range want {
			if n != 0 {
				t.Errorf("%s is off by %d in %q", s, -n, got)
			}
		}
	})
}

// TestSendNothing: without an allow-list not a byte leaves, whoever asks.
func TestSendNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := &talkingLine{line: newLine(false)}
		b.record(talking(nil, l), l.line, func(r *recorder.Recorder) {
			l.in <- own(0, false)
			for origin := range uint8(3) {
				if r.Send(0, origin, heartbeat(1, 1, 191, 8, false)) {
					t.Error("taken")
				}
			}
			time.Sleep(time.Second)
		})
		if out := l.sent(); len(out) != 0 {
			t.Errorf("went out: %x", out)
		}
	})
}

// TestSendStuck: a line that takes nothing delays neither the caller nor what comes in; what could
// not go is in the record.
func TestSendStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := &talkingLine{line: newLine(true), hold: time.Hour}
		const frames = 300
		b.record(talking(onlyHeartbeats, l), l.line, func(r *recorder.Recorder) {
			began := time.Now()
			for i := range frames {
				l.in <- attitude(uint8(i), uint32(i))
				r.Send(0, 1, heartbeat(uint8(i), 1, 191, 8, false))
			}
			if d := time.Since(began); d > 0 {
				t.Errorf("sending took %v", d)
			}
			time.Sleep(3 * time.Second)
		})
		failed := 0
		for _, o := range b.read() {
			for _, s := range o.sent {
				if s.Outcome != segment.SentFailed {
					t.Errorf("outcome %d", s.Outcome)
				}
				failed++
			}
			if len(o.frames) != frames {
				t.Errorf("%d frames, want %d", len(o.frames), frames)
			}
		}
		if failed != frames {
			t.Errorf("%d frames did not go by the record, want %d", failed, frames)
		}
	})
}

// TestSendToOneWhoHoldsBack: while much comes from a peer that would lose it by closing, nothing is
// sent; when it becomes calm, things are.
func TestSendToOneWhoHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := &talkingLine{line: newLine(true)}
		dump := bytes.Repeat(attitude(1, 1), 100)
		b.record(talking(onlyHeartbeats, l), l.line, func(r *recorder.Recorder) {
			send := func() bool { return r.Send(0, recorder.OriginOwn, heartbeat(1, 1, 191, 8, false)) }
			for range 100 {
				l.in <- dump
				if send() {
					t.Fatal("taken while much comes")
				}
				time.Sleep(5 * time.Millisecond)
			}
			for range 30 {
				l.in <- attitude(2, 2)
				time.Sleep(20 * time.Millisecond)
			}
			for range 3 { // it has shown that it is no dump
				if !send() {
					t.Error("not taken although little came")
				}
				l.in <- dump
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(time.Second)
		})
		if len(l.sent()) != 3 {
			t.Errorf("%d frames went out", len(l.sent()))
		}
	})
}

// TestSendToAStreamer: an autopilot that streams its log and was streaming when the link was opened
// is answered after a while.
func TestSendToAStreamer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := &talkingLine{line: newLine(true)}
		much := bytes.Repeat(attitude(1, 1), 100)
		b.record(talking(onlyHeartbeats, l), l.line, func(r *recorder.Recorder) {
			taken := false
			for range 1100 {
				l.in <- much
				taken = taken || r.Send(0, recorder.OriginOwn, heartbeat(1, 1, 191, 8, false))
				time.Sleep(10 * time.Millisecond)
			}
			if !taken {
				t.Error("nothing was taken in 11 s")
			}
		})
	})
}

// TestSendFlood: a share that floods with what it may not send fills no medium: some are whole in
// the record, all are counted.
func TestSendFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := &talkingLine{line: newLine(false)}
		const flood = 5000
		b.record(talking(onlyHeartbeats, l), l.line, func(r *recorder.Recorder) {
			l.in <- own(0, false)
			for range flood {
				r.Send(0, 1, attitude(1, 1))
			}
			time.Sleep(2 * time.Second)
			r.Send(0, 1, attitude(1, 1)) // tells of the second before
			time.Sleep(time.Second)
		})
		whole, more := 0, 0
		for _, o := range b.read() {
			whole += len(o.sent)
			for _, m := range o.metas {
				for _, e := range m.Events {
					n := 0
					if _, err := fmt.Sscanf(e.Detail, "share:ros: %d", &n); e.Kind == "sent_refused_more" && err == nil {
						more += n
					}
				}
			}
		}
		if whole > 100 || whole+more != flood+1 {
			t.Errorf("%d whole and %d counted, want %d", whole, more, flood+1)
		}
	})
}

// TestTap: whoever listens gets each frame once, in order, also those of unknown ids.
func TestTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := newLine(true)
		var got [][]byte
		cfg := recorder.Config{Tap: func(link int, f *mavlink.Frame) { got = append(got, bytes.Clone(f.Raw)) }}
		var want [][]byte
		b.record(cfg, l, func(*recorder.Recorder) {
			for i := range 50 {
				f := attitude(uint8(i), uint32(i))
				want = append(want, f)
				l.in <- f
			}
			time.Sleep(time.Second)
		})
		if len(got) != len(want) {
			t.Fatalf("%d frames, want %d", len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}

// TestNoTelemetry: a policy may leave frames out; what was sent and what happened is recorded.
func TestNoTelemetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := &talkingLine{line: newLine(false)}
		cfg := talking(onlyHeartbeats, l)
		cfg.NoTelemetry = true
		b.record(cfg, l.line, func(r *recorder.Recorder) {
			l.in <- own(0, true)
			l.in <- append(attitude(1, 1), "noise"...)
			r.Send(0, 0, heartbeat(1, 1, 191, 8, false))
			time.Sleep(time.Second)
		})
		records := b.read()
		if len(records) != 1 || records[0].id[0] != 'F' {
			t.Fatalf("records %v", records)
		}
		if o := records[0]; len(o.frames) != 0 || len(o.noise) != 0 || len(o.sent) != 1 {
			t.Errorf("%d frames, %d bytes of noise, %d sent", len(o.frames), len(o.noise), len(o.sent))
		}
	})
}
