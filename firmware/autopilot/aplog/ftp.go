package aplog

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
)

// MAVLink FTP, the parts that reading needs (https://mavlink.io/en/services/ftp.html). The servers:
//
//	https://github.com/ArduPilot/ardupilot/blob/master/libraries/GCS_MAVLink/GCS_FTP.cpp
//	https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/mavlink/mavlink_ftp.cpp
const (
	ftpTerminate = 1
	ftpList      = 3
	ftpOpen      = 4
	ftpRead      = 5
	ftpRemove    = 8
	ftpCRC       = 14
	ftpBurst     = 15
	ftpAck       = 128
	ftpNak       = 129

	ftpEOF        = 6
	ftpUnknown    = 7
	ftpBadSession = 4
	ftpNotFound   = 10

	ftpHeader = 12
	ftpData   = 251 - ftpHeader

	// ArduPilot answers a burst with up to 2000 replies that count up from the request, and takes
	// a request whose number comes right before that of its last reply for one sent again.
	ftpBurstReplies = 2000
	ftpStep         = 4096

	ftpTries    = 6
	ftpRefusals = 500 // by Out, each outRetry: what it does not want it never sends
)

// crcFTP goes on with the CRC-32 that CalcFileCRC32 gives: the polynomial of Ethernet, but from 0
// and not inverted at the end. ArduPilot's crc_crc32 and PX4's crc32part are both that.
func crcFTP(crc uint32, p []byte) uint32 { return ^crc32.Update(^crc, crc32.IEEETable, p) }

// ftpMessage is the payload of FILE_TRANSFER_PROTOCOL.
type ftpMessage struct {
	seq      uint16
	session  uint8
	op       uint8
	reqOp    uint8
	complete bool  // PX4 leaves what its stack has in the byte of a reply that is not the last one: 60 in SITL
	size     uint8 // of a read; else that of data
	offset   uint32
	data     []byte
}

func (m *ftpMessage) encode(system uint8) *ap.MessageFileTransferProtocol {
	out := &ap.MessageFileTransferProtocol{TargetSystem: system, TargetComponent: compAutopilot}
	p := out.Payload[:]
	binary.LittleEndian.PutUint16(p, m.seq)
	p[2], p[3], p[4], p[5] = m.session, m.op, m.size, m.reqOp
	binary.LittleEndian.PutUint32(p[8:], m.offset)
	copy(p[ftpHeader:], m.data)
	return out
}

// decodeFTP reads a payload; ok is false if it says that it holds more than it can. data is part
// of m.
func decodeFTP(m *ap.MessageFileTransferProtocol) (f ftpMessage, ok bool) {
	p := m.Payload[:]
	size := int(p[4])
	if size > ftpData {
		return f, false
	}
	return ftpMessage{
		seq: binary.LittleEndian.Uint16(p), session: p[2], op: p[3], size: p[4], reqOp: p[5],
		complete: p[6] == 1, offset: binary.LittleEndian.Uint32(p[8:]), data: p[ftpHeader : ftpHeader+size],
	}, true
}

// nak is the code of a refusal; 0: it is none.
func (m *ftpMessage) nak() uint8 {
	switch {
	case m.op != ftpNak:
		return 0
	case len(m.data) == 0:
		return 1
	}
	return max(m.data[0], 1)
}

// ftpClient sends requests one at a time and repeats them, with the same number, so that the
// server sends its answer again instead of doing it twice.
type ftpClient struct {
	l      *Logs
	seq    uint16
	req    ftpMessage
	under  bool
	tries  int
	nosend int
	due    time.Duration
	wait   time.Duration
	reply  func(m ftpMessage, ok bool) // ok is false: no answer
}

func (c *ftpClient) next() uint16 { c.seq += ftpStep + 1; return c.seq }

// call makes m the request under way. reply is called once.
func (c *ftpClient) call(m ftpMessage, wait time.Duration, reply func(m ftpMessage, ok bool)) {
	m.seq = c.next()
	c.req, c.under, c.tries, c.nosend, c.due, c.wait, c.reply = m, true, 0, 0, 0, wait, reply
}

func (c *ftpClient) path(op uint8, path string, offset uint32, wait time.Duration, reply func(m ftpMessage, ok bool)) {
	if len(path) > ftpData-1 {
		reply(ftpMessage{}, false)
		return
	}
	c.call(ftpMessage{op: op, size: uint8(len(path)), offset: offset, data: []byte(path)}, wait, reply)
}

func (c *ftpClient) step(now time.Duration) time.Duration {
	if !c.under {
		return never
	}
	if now < c.due {
		return c.due
	}
	if c.tries >= ftpTries {
		c.answer(ftpMessage{}, false)
		return now
	}
	if !c.l.ask(c.req.encode(c.l.system)) {
		if c.nosend++; c.nosend >= ftpRefusals {
			c.answer(ftpMessage{}, false)
		}
		return now + outRetry
	}
	c.tries++
	c.due = now + c.wait
	return c.due
}

func (c *ftpClient) answer(m ftpMessage, ok bool) {
	reply := c.reply
	c.under, c.reply = false, nil
	if reply != nil {
		reply(m, ok)
	}
}

// handle takes a reply to the request under way; false: it is not one.
func (c *ftpClient) handle(m ftpMessage) bool {
	if !c.under || c.tries == 0 || m.reqOp != c.req.op || m.seq != c.req.seq+1 {
		return false
	}
	c.answer(m, true)
	return true
}

// cancel forgets the request under way.
func (c *ftpClient) cancel() { c.under, c.reply = false, nil }
