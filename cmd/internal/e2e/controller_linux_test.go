package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/all"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink/serial/serialtest"
)

// controller is a flight controller that says what a test tells it to, and a heartbeat twice a
// second, and keeps all that comes back.
type controller struct {
	t    testing.TB
	line *serialtest.Pty
	quit chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	seq    byte
	armed  bool
	states armedStates // by microseconds since 1970
	heard  []byte
	times  []heardAt
}

// heardAt says that the bytes before an offset had come at a time.
type heardAt struct {
	to int
	at uint64 // microseconds since 1970
}

func (b *board) controller() *controller {
	b.t.Helper()
	c := &controller{t: b.t, line: b.pty(), quit: make(chan struct{})}
	c.done.Go(c.beat)
	c.done.Go(c.listen)
	b.t.Cleanup(c.stop)
	return c
}

// stop may be called twice.
func (c *controller) stop() {
	select {
	case <-c.quit:
	default:
		close(c.quit)
	}
	c.done.Wait()
}

func (c *controller) beat() {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-tick.C:
			c.say(1, 1, nil)
		}
	}
}

func (c *controller) listen() {
	buf := make([]byte, 32<<10)
	for {
		n, _ := c.line.Read(buf, 20*time.Millisecond)
		c.mu.Lock()
		c.heard = append(c.heard, buf[:n]...)
		c.times = append(c.times, heardAt{len(c.heard), now()})
		c.mu.Unlock()
		select {
		case <-c.quit:
			return
		default:
		}
	}
}

func now() uint64 { return uint64(time.Now().UnixMicro()) }

// arm sets the state and says so.
func (c *controller) arm(on bool) {
	c.mu.Lock()
	c.armed = on
	c.mu.Unlock()
	c.say(1, 1, nil)
}

// say sends a message; nil is the heartbeat.
func (c *controller) say(sys, comp byte, m message.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	frame := heartbeat(c.seq, sys, comp, c.armed)
	if m != nil {
		frame = encode(c.seq, sys, comp, m)
	} else {
		c.states.from, c.states.armed = append(c.states.from, now()), append(c.states.armed, c.armed)
	}
	c.seq++
	c.line.Write(frame)
}

// frames are those that came so far, with the times at which they were whole.
func (c *controller) frames() (frames [][]byte, at []uint64) {
	c.mu.Lock()
	heard, times := slices.Clone(c.heard), slices.Clone(c.times)
	c.mu.Unlock()
	for _, f := range reference(heard) {
		end := f.offset + len(f.raw)
		i, _ := slices.BinarySearchFunc(times, end, func(h heardAt, end int) int { return h.to - end })
		frames, at = append(frames, f.raw), append(at, times[min(i, len(times)-1)].at)
	}
	return frames, at
}

// messages are what came so far.
func (c *controller) messages() []message.Message {
	frames, _ := c.frames()
	return decode(frames)
}

// outside returns the frames that came and are not on Holdfast's own list.
func (c *controller) outside(policy allow.Options) (frames [][]byte, why []error) {
	list := allow.New(policy)
	list.SetSystem(1)
	all, at := c.frames()
	c.mu.Lock()
	states := armedStates{slices.Clone(c.states.from), slices.Clone(c.states.armed)}
	c.mu.Unlock()
	for i, f := range all {
		err := list.Check(f, states.at(at[i]))
		if err != nil && !states.at(at[i]-lateness) {
			err = list.Check(f, false)
		}
		if err != nil {
			frames, why = append(frames, f), append(why, err)
		}
	}
	return frames, why
}

// acks are the answers to a command so far.
func (c *controller) acks(command common.MAV_CMD) (results []common.MAV_RESULT) {
	for _, m := range c.messages() {
		if a, ok := m.(*common.MessageCommandAck); ok && a.Command == command {
			results = append(results, a.Result)
		}
	}
	return results
}

// answer sends a command until a new answer to it comes, as PX4 repeats itself. One that asks for
// authorisation to arm is answered twice, by the same.
func (c *controller) answer(command common.MAV_CMD, target byte) common.MAV_RESULT {
	c.t.Helper()
	before, want := len(c.acks(command)), 1
	if command == armAuthorization {
		want = 2
	}
	for range 20 {
		c.say(1, 1, &common.MessageCommandLong{TargetSystem: 1, TargetComponent: target, Command: command, Param1: 1})
		if eventually(2*time.Second, func() bool { return len(c.acks(command)) >= before+want }) {
			got := c.acks(command)[before:]
			if got[want-1] != got[0] {
				c.t.Errorf("two answers to one %v: %v", command, got)
			}
			return got[0]
		}
	}
	c.t.Fatalf("no answer to %v", command)
	return 0
}

// coders write the messages of the dialect with all ids.
var coders = sync.OnceValue(func() map[uint32]*message.ReadWriter {
	all32 := map[uint32]*message.ReadWriter{}
	for _, m := range all.Dialect.Messages {
		rw := &message.ReadWriter{Message: m}
		if err := rw.Initialize(); err != nil {
			panic(err)
		}
		all32[m.GetID()] = rw
	}
	return all32
})

// encode builds the frame of a message of any dialect.
func encode(seq, sys, comp byte, m message.Message) []byte {
	return makeFrame(seq, sys, comp, m.GetID(), coders()[m.GetID()].Write(m, true).Payload)
}

// program has a share open, as a program on the board has.
type program struct {
	*os.File
	path string
}

// openShare opens a share as soon as it is there.
func (b *board) openShare(name string) program {
	b.t.Helper()
	path := b.path(name)
	if filepath.IsAbs(name) {
		path = name
	}
	var f *os.File
	waitFor(b.t, patience, "a share at "+path, func() (ok bool) {
		var err error
		f, err = os.OpenFile(path, os.O_RDWR, 0)
		return err == nil
	})
	b.t.Cleanup(func() { f.Close() })
	return program{f, path}
}
