package vehicle_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/vehicle"
)

const loggerID = 155

// blockTaker takes ArduPilot's stream and acknowledges each block.
type blockTaker struct {
	b      *board
	blocks map[uint32][200]byte
	top    uint32
	asked  time.Duration
	quiet  func() bool // says nothing while true
	copies int
}

func newBlockTaker(b *board) *blockTaker {
	c := &blockTaker{b: b, blocks: map[uint32][200]byte{}, quiet: func() bool { return false }}
	b.hear, b.tick = c.hear, c.start
	return c
}

func (c *blockTaker) status(seq uint32, s ardupilotmega.MAV_REMOTE_LOG_DATA_BLOCK_STATUSES) {
	if !c.quiet() {
		c.b.say(loggerID, &ardupilotmega.MessageRemoteLogBlockStatus{TargetSystem: 1, TargetComponent: 1, Seqno: seq, Status: s})
	}
}

// start asks until something comes.
func (c *blockTaker) start() {
	if len(c.blocks) == 0 && c.b.at-c.asked > 500*time.Millisecond {
		c.asked = c.b.at
		c.status(2147483646, 1)
	}
}

func (c *blockTaker) hear(f *mavlink.Frame, m message.Message) {
	block, ok := m.(*ardupilotmega.MessageRemoteLogDataBlock)
	if !ok {
		return
	}
	if f.Component != 155 || block.TargetSystem != 1 || block.TargetComponent != loggerID {
		c.b.t.Errorf("block %d of component %d for %d/%d", block.Seqno, f.Component, block.TargetSystem, block.TargetComponent)
	}
	seq := uint32(block.Seqno)
	if _, twice := c.blocks[seq]; twice {
		c.copies++
	}
	c.blocks[seq] = block.Data
	c.status(seq, 1)
	for miss := c.top; miss < seq; miss++ {
		if _, have := c.blocks[miss]; !have {
			c.status(miss, 0)
		}
	}
	c.top = max(c.top, seq)
}

// data is the stream, and whether a block is missing.
func (c *blockTaker) data() (out []byte, whole bool) {
	for seq := range uint32(len(c.blocks)) {
		b, ok := c.blocks[seq]
		if !ok {
			return out, false
		}
		out = append(out, b[:]...)
	}
	return out, true
}

// What is streamed is what the pull gives, up to the last whole block.
func TestBlocksWithLoss(t *testing.T) {
	for _, p := range losses {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			b := newBoard(t, vehicle.Options{Seed: 4, Duration: 30 * time.Second}, vehicle.Loss{Probability: p, Seed: 5})
			c := newBlockTaker(b)
			b.run(time.Minute, nil)
			got, whole := c.data()
			logs := b.v.Logs()
			want := logs[len(logs)-1].Data
			if !whole || len(want)-len(got) >= 200 || len(got) < 150_000 {
				t.Fatalf("whole %v, %d bytes of %d", whole, len(got), len(want))
			}
			sameBytes(t, "stream", got, want[:len(got)])
			n := b.v.Counts()
			if n.StreamLost != 0 || int(n.StreamBytes) != len(want) || p > 0.05 && (n.StreamResent == 0 || c.copies == 0) {
				t.Errorf("%+v, %d copies", n, c.copies)
			}
		})
	}
}

// Where nobody acknowledges, the buffer fills, entries are lost as a whole, and after ten
// seconds the stream ends. Asked again it begins anew, with what is needed to read it.
func TestBlocksWithoutAnswer(t *testing.T) {
	b := newBoard(t, vehicle.Options{Duration: 60 * time.Second}, vehicle.Loss{})
	c := newBlockTaker(b)
	c.quiet = func() bool { return b.at > 15*time.Second && b.at < 40*time.Second }
	b.run(24*time.Second, nil)
	if n := b.v.Counts(); n.StreamLost < 50_000 {
		t.Errorf("after nine silent seconds: %+v", n)
	}
	seen := b.v.Counts().StreamResent
	b.run(27*time.Second, nil)
	seen = b.v.Counts().StreamResent - seen
	b.run(35*time.Second, nil)
	before := b.v.Counts()
	b.run(39*time.Second, nil)
	if after := b.v.Counts(); seen == 0 || after.StreamResent != before.StreamResent || after.StreamLost != before.StreamLost {
		t.Errorf("the stream goes on: %+v, then %+v", before, after)
	}
	first, _ := c.data()
	c.blocks, c.top = map[uint32][200]byte{}, 0
	b.run(59*time.Second, nil)
	second, whole := c.data()
	if !whole || !bytes.Equal(first[:5000], second[:5000]) {
		t.Fatalf("second stream of %d bytes does not begin as the first", len(second))
	}
	// The last message is cut by the end of the block.
	if seen, err := readDataFlash(second); seen["IMU"] < 500 || seen["PARM"] < 100 || err == nil && len(second)%200 != 0 {
		t.Errorf("%v, %v", seen, err)
	}
}

// STOP ends it; what is meant for others, or is no acknowledgement, does nothing.
func TestBlocksStop(t *testing.T) {
	b := newBoard(t, vehicle.Options{Duration: 20 * time.Second}, vehicle.Loss{})
	blocks := collect[*ardupilotmega.MessageRemoteLogDataBlock](b)
	say := func(system, comp uint8, seq uint32, s ardupilotmega.MAV_REMOTE_LOG_DATA_BLOCK_STATUSES) int {
		*blocks = nil
		b.say(loggerID, &ardupilotmega.MessageRemoteLogBlockStatus{TargetSystem: system, TargetComponent: comp, Seqno: seq, Status: s})
		b.run(b.at+150*time.Millisecond, nil)
		return len(*blocks)
	}
	b.run(time.Second, nil)
	for _, n := range []int{say(2, 1, 2147483646, 1), say(1, 100, 2147483646, 1), say(1, 1, 2147483646, 0), say(1, 1, 2147483646, 7), say(1, 1, 0, 1)} {
		if n != 0 {
			t.Fatalf("%d blocks that nobody asked for", n)
		}
	}
	if n := say(1, 0, 2147483646, 1); n == 0 {
		t.Fatal("no stream")
	}
	if say(1, 1, 2147483645, 1); say(1, 1, 5, 0) != 0 {
		t.Error("the stream goes on after STOP")
	}
}

// ulogTaker takes PX4's stream.
type ulogTaker struct {
	b      *board
	chunks map[uint16][]byte
	order  []uint16
	first  map[uint16]uint8
	acked  int
	deaf   func() bool // acknowledges nothing while true
}

func newULogTaker(b *board) *ulogTaker {
	c := &ulogTaker{b: b, chunks: map[uint16][]byte{}, first: map[uint16]uint8{}, deaf: func() bool { return false }}
	b.hear = c.hear
	return c
}

func (c *ulogTaker) hear(_ *mavlink.Frame, m message.Message) {
	switch m := m.(type) {
	case *common.MessageLoggingDataAcked:
		if !c.deaf() {
			c.b.say(loggerID, &common.MessageLoggingAck{TargetSystem: 1, TargetComponent: 1, Sequence: m.Sequence})
		}
		c.acked++
		c.take(m.Sequence, m.FirstMessageOffset, m.Data[:m.Length])
	case *common.MessageLoggingData:
		c.take(m.Sequence, m.FirstMessageOffset, m.Data[:m.Length])
	}
}

func (c *ulogTaker) take(seq uint16, first uint8, p []byte) {
	if _, ok := c.chunks[seq]; !ok {
		c.order = append(c.order, seq)
		c.chunks[seq], c.first[seq] = bytes.Clone(p), first
	}
}

func (c *ulogTaker) start(format float32) {
	c.b.say(loggerID, &common.MessageCommandLong{TargetSystem: 1, TargetComponent: 1, Command: 2510, Param1: format})
}

func TestULogStream(t *testing.T) {
	for _, p := range losses {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			b := newBoard(t, vehicle.Options{Stack: vehicle.PX4, Seed: 4, Duration: 30 * time.Second}, vehicle.Loss{Probability: p, Seed: 3})
			c := newULogTaker(b)
			started := false
			b.tick = func() {
				if !started || len(c.chunks) == 0 && b.at > 3*time.Second {
					started = true
					c.start(0)
				}
			}
			b.run(time.Minute, nil)
			logs := b.v.Logs()
			checkULogStream(t, c, logs[len(logs)-1].Data, p)
		})
	}
}

// checkULogStream puts the chunks at their places: the acknowledged ones come first, the
// last of them may be short, all others are full.
func checkULogStream(t *testing.T, c *ulogTaker, want []byte, loss float64) {
	t.Helper()
	at, missing, top := 0, 0, c.order[len(c.order)-1]
	starts := ulogStarts(want)
	for seq := uint16(0); seq <= top; seq++ {
		p, ok := c.chunks[seq]
		if !ok {
			missing, at = missing+1, at+249
			continue
		}
		if at+len(p) > len(want) || !bytes.Equal(p, want[at:at+len(p)]) {
			t.Fatalf("chunk %d at %d differs", seq, at)
		}
		for len(starts) > 0 && starts[0] < at {
			starts = starts[1:]
		}
		offset := 255
		if len(starts) > 0 && starts[0] < at+len(p) {
			offset = starts[0] - at
		}
		if int(c.first[seq]) != offset {
			t.Fatalf("chunk %d says a message begins at %d, want %d", seq, c.first[seq], offset)
		}
		at += len(p)
	}
	if len(want)-at >= 249 || (missing > 0) != (loss > 0) || missing > int(top)/5 {
		t.Errorf("%d bytes of %d, %d chunks of %d missing", at, len(want), missing, top)
	}
}

// ulogStarts are the offsets at which the header and the messages of a log begin.
func ulogStarts(log []byte) []int {
	starts := []int{0}
	for at := 16; at+3 <= len(log); at += 3 + int(log[at]) + int(log[at+1])<<8 {
		starts = append(starts, at)
	}
	return starts
}

func TestULogStreamOrders(t *testing.T) {
	b := newBoard(t, vehicle.Options{Stack: vehicle.PX4, Duration: 40 * time.Second}, vehicle.Loss{})
	c := newULogTaker(b)
	acks := collect[*common.MessageCommandAck](b)
	answer := func(send func()) uint64 {
		*acks = nil
		send()
		b.run(b.at+100*time.Millisecond, nil)
		if len(*acks) != 1 || (*acks)[0].TargetComponent != loggerID {
			t.Fatalf("answers %+v", *acks)
		}
		return uint64((*acks)[0].Result)
	}
	stop := func() {
		b.say(loggerID, &common.MessageCommandLong{TargetSystem: 1, TargetComponent: 1, Command: 2511})
	}
	b.run(time.Second, nil)
	if r := answer(func() { c.start(1) }); r != 3 {
		t.Errorf("an odd format: %d", r)
	}
	c.deaf = func() bool { return true }
	if r := answer(func() { c.start(0) }); r != 0 {
		t.Errorf("start: %d", r)
	}
	if r := answer(func() { c.start(0) }); r != 1 {
		t.Errorf("start again: %d", r)
	}
	// Fifty tries of 50 ms, then it is over.
	b.run(5*time.Second, nil)
	if c.acked != 50 || len(c.chunks) != 1 {
		t.Errorf("%d tries, %d chunks", c.acked, len(c.chunks))
	}
	c.deaf = func() bool { return false }
	c.chunks, c.order = map[uint16][]byte{}, nil
	if r := answer(func() { c.start(0) }); r != 0 {
		t.Errorf("start after it gave up: %d", r)
	}
	b.run(15*time.Second, nil)
	had := len(c.chunks)
	if r := answer(stop); r != 0 || had < 100 {
		t.Errorf("stop: %d after %d chunks", r, had)
	}
	had = len(c.chunks)
	if b.run(20*time.Second, nil); len(c.chunks) != had {
		t.Error("goes on after the stop")
	}
}
