package aplog_test

import (
	"encoding/binary"
	"fmt"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/aplog"
)

// streamSource streams a log as ArduPilot or PX4 does: at rate bytes a second while armed.
type streamSource struct {
	v    *fakePilot
	log  []byte // what it logs in all
	rate int
	on   bool
	made int // bytes of log that were logged so far
	last time.Duration

	// ArduPilot
	blocks []*block // waiting to be acknowledged
	pool   int
	seq    uint32
	from   int             // byte of log at which the present stream begins
	never  map[uint32]bool // blocks that are not sent
	answer time.Duration

	// PX4
	count   uint16
	acked   int // as many bytes go with acknowledgement
	wait    *ap.MessageLoggingDataAcked
	waitAt  time.Duration
	tries   int
	gaveUp  bool
	starts  []int // of log, where each stream began
	deny    common.MAV_RESULT
	denials int

	disarmed bool // ArduPilot: it logs while disarmed, too
	lastSend time.Duration
	second   time.Duration // when it looks next whether its reader is there
	done     []byte        // ArduPilot: the log of the flight, when it was stopped
}

// headers are the bytes that ArduPilot logs at the start of a stream, also while disarmed.
const headers = 4000

type block struct {
	seq  uint32
	data [200]byte
	sent time.Duration
}

func (v *fakePilot) streams(log []byte, rate int) *streamSource {
	v.stream = &streamSource{v: v, log: log, rate: rate, pool: 39, acked: 20_000}
	return v.stream
}

func (s *streamSource) reboot() {
	s.on, s.blocks, s.wait = false, nil, nil
	s.v.armed = false
}

func (s *streamSource) handle(comp uint8, m message.Message) {
	switch m := m.(type) {
	case *ap.MessageRemoteLogBlockStatus:
		if comp == 155 && s.v.flavour == aplog.ArduPilot {
			s.status(m)
		}
	case *ap.MessageCommandLong:
		if s.v.flavour == aplog.PX4 {
			s.command(m)
		}
	case *ap.MessageLoggingAck:
		if s.wait != nil && m.Sequence == s.wait.Sequence {
			s.wait = nil
		}
	}
}

func (s *streamSource) begin() {
	s.on, s.blocks, s.seq, s.count, s.wait, s.gaveUp, s.tries = true, nil, 0, 0, nil, false, 0
	s.from, s.made, s.last = 0, 0, s.v.r.now
	s.answer = s.v.r.now
	s.starts = append(s.starts, s.made)
	if s.v.flavour == aplog.ArduPilot {
		s.made = min(len(s.log), headers)
	}
}

func (s *streamSource) status(m *ap.MessageRemoteLogBlockStatus) {
	switch {
	case m.Seqno == 2147483645:
		if s.on && s.seq*200 > headers {
			s.done = s.log[:s.seq*200]
		}
		s.on = false
	case m.Seqno == 2147483646:
		if !s.on {
			s.begin()
		}
	case m.Status == ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK:
		for i, b := range s.blocks {
			if b.seq == m.Seqno {
				s.blocks = append(s.blocks[:i:i], s.blocks[i+1:]...)
				s.answer = s.v.r.now
				return
			}
		}
	default:
		for _, b := range s.blocks {
			if b.seq == m.Seqno {
				b.sent = -time.Hour
				s.answer = s.v.r.now
			}
		}
	}
}

func (s *streamSource) command(m *ap.MessageCommandLong) {
	a := &ap.MessageCommandAck{Command: m.Command, TargetSystem: 1, TargetComponent: 191}
	switch m.Command {
	case common.MAV_CMD_LOGGING_START:
		switch {
		case s.deny != 0:
			a.Result = s.deny
			s.denials++
		case s.on:
			a.Result = common.MAV_RESULT_TEMPORARILY_REJECTED
		default:
			s.begin()
		}
	case common.MAV_CMD_LOGGING_STOP:
		s.on, s.wait = false, nil
	}
	s.v.say(1, a)
}

// grow logs what time brings.
func (s *streamSource) grow() {
	if s.v.armed || s.disarmed {
		s.made = min(len(s.log), s.made+int(int64(s.v.r.now-s.last)*int64(s.rate)/int64(time.Second)))
	}
	s.last = s.v.r.now
}

func (s *streamSource) produce() bool {
	if s.v.r.now-s.last >= 20*time.Millisecond {
		s.grow()
	}
	if !s.on {
		return false
	}
	if s.v.flavour == aplog.PX4 {
		return s.produceULog()
	}
	return s.produceBlock()
}

func (s *streamSource) produceBlock() bool {
	now := s.v.r.now
	if now >= s.second {
		s.second = now + time.Second
		if s.lastSend-s.answer > 10*time.Second {
			s.on, s.blocks = false, nil
			return false
		}
	}
	for _, b := range s.blocks {
		if now-b.sent >= 100*time.Millisecond {
			b.sent = now
			s.sendBlock(b)
			return true
		}
	}
	at := int(s.seq) * 200
	if s.made-at < 200 || len(s.blocks) >= s.pool {
		return false // a full pool holds the log up: this vehicle drops nothing, so that bytes can be compared
	}
	b := &block{seq: s.seq, sent: now}
	copy(b.data[:], s.log[at:])
	s.seq++
	s.blocks = append(s.blocks, b)
	s.sendBlock(b)
	return true
}

func (s *streamSource) sendBlock(b *block) {
	s.lastSend = s.v.r.now
	if s.never[b.seq] {
		s.v.say(1, &ap.MessageSystemTime{TimeBootMs: uint32((s.v.r.now - s.v.booted).Milliseconds())})
		return
	}
	s.v.say(155, &ap.MessageRemoteLogDataBlock{TargetSystem: 1, TargetComponent: 155,
		Seqno: ap.MAV_REMOTE_LOG_DATA_BLOCK_COMMANDS(b.seq), Data: b.data})
}

func (s *streamSource) produceULog() bool {
	now := s.v.r.now
	if s.wait != nil {
		if now-s.waitAt < 50*time.Millisecond {
			return false
		}
		if s.tries++; s.tries > 50 {
			s.on, s.gaveUp, s.wait = false, true, nil
			return false
		}
		s.waitAt = now
		s.v.say(1, s.wait)
		return true
	}
	at := s.from
	n := min(249, s.made-at)
	if at < s.acked {
		n = min(n, s.acked-at)
	}
	if n < 249 && s.made < len(s.log) && at+n != s.acked || n <= 0 {
		return false
	}
	first := firstMessage(s.log, at, n)
	if at < s.acked {
		m := &ap.MessageLoggingDataAcked{TargetSystem: 1, TargetComponent: 191, Sequence: s.count, Length: uint8(n), FirstMessageOffset: first}
		copy(m.Data[:], s.log[at:at+n])
		s.wait, s.waitAt, s.tries = m, now, 0
		s.v.say(1, m)
	} else {
		m := &ap.MessageLoggingData{TargetSystem: 1, TargetComponent: 191, Sequence: s.count, Length: uint8(n), FirstMessageOffset: first}
		copy(m.Data[:], s.log[at:at+n])
		s.v.say(1, m)
	}
	s.count++
	s.from += n
	return true
}

// firstMessage is the offset in log[at:at+n] at which a ULog message begins; 255: none does.
func firstMessage(log []byte, at, n int) uint8 {
	if at == 0 {
		return 0
	}
	for pos := 16; pos+3 <= len(log); pos += 3 + int(binary.LittleEndian.Uint16(log[pos:])) {
		if pos >= at+n {
			break
		}
		if pos >= at {
			return uint8(pos - at)
		}
	}
	return 255
}

// ulog makes a log of about n bytes in PX4's format: definitions, then data with numbers in them.
func ulog(seed byte, n int) []byte {
	b := append([]byte("ULog\x01\x12\x35\x01"), seed, 0, 0, 0, 0, 0, 0, 0)
	add := func(kind byte, body []byte) {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
		b = append(append(b, kind), body...)
	}
	add('B', make([]byte, 40))
	for i := range 400 {
		add('F', fmt.Appendf(nil, "topic%d:uint64_t timestamp;uint32_t count;", i))
	}
	for i := range 20 {
		add('A', fmt.Appendf([]byte{0, byte(i), 0}, "topic%d", i))
	}
	for i := uint32(0); len(b) < n; i++ {
		body := binary.LittleEndian.AppendUint32([]byte{byte(i % 20), 0}, i)
		add('D', append(body, make([]byte, i%300)...))
	}
	return b
}

// dataflash makes a log of about n bytes in ArduPilot's format.
func dataflash(seed byte, n int) []byte {
	var b []byte
	format := func(kind, length byte, name string) {
		m := make([]byte, 89)
		copy(m, []byte{0xA3, 0x95, 128, kind, length})
		copy(m[5:], name)
		b = append(b, m...)
	}
	format(128, 89, "FMT")
	format(1, 40, "IMU")
	format(2, 25, "GPS")
	for i := uint32(0); len(b) < n; i++ {
		m := make([]byte, 40-15*(i%2))
		copy(m, []byte{0xA3, 0x95, byte(1 + i%2), seed})
		binary.LittleEndian.PutUint32(m[4:], i)
		b = append(b, m...)
	}
	return b
}

func flightLog(flavour uint8, seed byte, n int) []byte {
	if flavour == aplog.PX4 {
		return ulog(seed, n)
	}
	return dataflash(seed, n)
}
