package vehicle

import (
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
)

// ArduPilot's log stream, as its logger behaves
// (https://github.com/ArduPilot/ardupilot/blob/master/libraries/AP_Logger/AP_Logger_MAVLink.cpp).
const (
	blockSize = 200
	// blockCount is how many blocks fit LOG_MAV_BUFSIZE, 8 KiB as it comes.
	blockCount = 37
	// blocksAtOnce is how many are sent in one go from those that wait.
	blocksAtOnce = 8
	blockResend  = 100 * time.Millisecond
	// blockPatience is how long a client may say nothing before the stream ends.
	blockPatience = 10 * time.Second

	blockStart = uint32(ardupilotmega.MAV_REMOTE_LOG_DATA_BLOCK_START)
	blockStop  = uint32(ardupilotmega.MAV_REMOTE_LOG_DATA_BLOCK_STOP)
)

// block is a piece of the stream that was not acknowledged yet.
type block struct {
	seq    uint32
	data   [blockSize]byte
	sent   bool // waiting for its acknowledgement
	at     time.Duration
	resent bool // it was asked for again
}

// blockStream sends the log of the flight to one client, from the entries that tell how to
// read it on. A block is kept until it is acknowledged. Without a free block an entry is
// lost as a whole: numbers of blocks have no gap there. The last block stays behind until
// it is full, also at the end of the flight.
type blockStream struct {
	to      sender
	startup []byte  // what comes first, not yet in blocks
	blocks  []block // waiting, oldest first
	current []byte  // of the next block
	next    uint32
	heard   time.Duration
	last    time.Duration // a block was sent
	look    time.Duration // for blocks to send again
}

// hearBlockStatus takes the word of a client: of any component, as long as it is meant for
// this autopilot. Who starts the stream gets it.
func (v *Vehicle) hearBlockStatus(from sender, m *ardupilotmega.MessageRemoteLogBlockStatus) {
	if v.opt.Stack != ArduPilot {
		return
	}
	s := v.blocks
	switch ack := m.Status == ardupilotmega.MAV_REMOTE_LOG_DATA_BLOCK_ACK; {
	case ack && m.Seqno == blockStop:
		v.blocks = nil
	case ack && m.Seqno == blockStart:
		if s == nil {
			v.startBlocks(from)
		}
	case s == nil:
	case ack:
		s.acknowledge(v.now, m.Seqno)
	case m.Status == ardupilotmega.MAV_REMOTE_LOG_DATA_BLOCK_NACK:
		s.again(v.now, m.Seqno)
	}
}

// startBlocks begins the stream. On the ground it has no more than what comes first, and begins no
// log on the card.
func (v *Vehicle) startBlocks(from sender) {
	s := &blockStream{to: from, heard: v.now}
	for _, h := range v.firstEntries() {
		s.startup = append(s.startup, h...)
	}
	v.blocks = s
}

func (s *blockStream) acknowledge(now time.Duration, seq uint32) {
	for i := range s.blocks {
		if b := &s.blocks[i]; b.seq == seq && (b.sent || b.resent) {
			s.blocks = append(s.blocks[:i], s.blocks[i+1:]...)
			s.heard = now
			return
		}
	}
}

// again puts a block back among those to send.
func (s *blockStream) again(now time.Duration, seq uint32) {
	for i := range s.blocks {
		if b := &s.blocks[i]; b.seq == seq && b.sent {
			b.sent, b.resent = false, true
			s.heard = now
			return
		}
	}
}

// room is how many bytes fit the free blocks.
func (s *blockStream) room() int {
	return (blockCount-len(s.blocks))*blockSize - len(s.current)
}

// offer takes an entry of the log, as a whole or not at all. Until the client has what
// comes first, entries are passed over.
func (s *blockStream) offer(v *Vehicle, entry []byte) {
	if len(s.startup) > 0 || len(entry) > s.room() {
		v.counts.StreamLost += uint64(len(entry))
		return
	}
	s.put(v, entry)
}

func (s *blockStream) put(v *Vehicle, p []byte) {
	v.counts.StreamBytes += uint64(len(p))
	for s.current = append(s.current, p...); len(s.current) >= blockSize; s.current = s.current[blockSize:] {
		s.blocks = append(s.blocks, block{seq: s.next, data: [blockSize]byte(s.current)})
		s.next++
	}
}

// emitBlocks sends blocks that wait, then those that nobody acknowledged.
func (v *Vehicle) emitBlocks() {
	s := v.blocks
	if s == nil || v.dark() {
		return
	}
	if s.last > s.heard+blockPatience {
		v.blocks = nil
		return
	}
	if n := min(len(s.startup), s.room()); n > 0 {
		s.put(v, s.startup[:n])
		s.startup = s.startup[n:]
	}
	v.pushBlocks(func(b *block) bool { return b.resent && !b.sent })
	v.pushBlocks(func(b *block) bool { return !b.sent })
	if v.now >= s.look {
		s.look = v.now + blockResend
		v.pushBlocks(func(b *block) bool { return b.sent && v.now-b.at > blockResend })
	}
}

func (v *Vehicle) pushBlocks(which func(*block) bool) {
	s, n := v.blocks, 0
	for i := range s.blocks {
		b := &s.blocks[i]
		if !which(b) {
			continue
		}
		if n++; n > blocksAtOnce || !v.idle() {
			return
		}
		if b.sent || b.resent {
			v.counts.StreamResent++
		}
		b.sent, b.at, s.last = true, v.now, v.now
		v.send(logID, &ardupilotmega.MessageRemoteLogDataBlock{
			TargetSystem: s.to.system, TargetComponent: s.to.comp,
			Seqno: ardupilotmega.MAV_REMOTE_LOG_DATA_BLOCK_COMMANDS(b.seq), Data: b.data,
		})
	}
}
