package vehicle

import (
	"math"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// pullChunk is how many bytes of a log fit LOG_DATA.
const pullChunk = 90

// pull is a log transfer (https://mavlink.io/en/messages/common.html#LOG_REQUEST_LIST).
//
// ArduPilot answers nothing while armed, says so once, and passes over a request for data
// while it is busy with one
// (https://github.com/ArduPilot/ardupilot/blob/master/libraries/AP_Logger/AP_Logger_MAVLinkLogTransfer.cpp).
// PX4 answers also when armed, drops what it was at, and gives no data before it was asked
// for a list
// (https://github.com/PX4/PX4-Autopilot/blob/main/src/modules/mavlink/mavlink_log_handler.cpp).
type pull struct {
	listing        bool
	next, last     int // positions in the list of logs
	listed, warned bool

	sending  bool
	id       uint16
	from, to uint64 // bytes of the log still to send
	bad      int    // chunks sent, for Options.Malformed
}

// hearPull starts, ends or refuses a transfer.
func (v *Vehicle) hearPull(m message.Message) {
	if _, end := m.(*common.MessageLogRequestEnd); end {
		v.pull.listing, v.pull.sending = false, false
		return
	}
	v.countLogRequest()
	if v.opt.Stack == ArduPilot && v.pilot.armed() {
		if !v.pull.warned {
			v.pull.warned = true
			v.say(common.MAV_SEVERITY_ERROR, "Disarm for log download")
		}
		return
	}
	v.pull.warned = false
	switch m := m.(type) {
	case *common.MessageLogRequestList:
		v.startListing(int(m.Start), int(m.End))
	case *common.MessageLogRequestData:
		v.startData(m)
	case *common.MessageLogErase:
		v.erase()
	}
}

func (v *Vehicle) countLogRequest() {
	v.counts.LogRequests++
	if v.pilot.armed() {
		v.counts.LogRequestsArmed++
	}
}

// startListing is given the first and last number asked for.
func (v *Vehicle) startListing(first, last int) {
	p := &v.pull
	if v.opt.Stack == ArduPilot {
		if p.listing || p.sending {
			v.say(common.MAV_SEVERITY_INFO, "Log download in progress")
			return
		}
		first, last = first-1, last-1
	}
	if last >= len(v.logs.logs) {
		last = len(v.logs.logs) - 1
	}
	p.listing, p.listed, p.sending = true, true, false
	p.next, p.last = max(first, 0), last
}

func (v *Vehicle) startData(m *common.MessageLogRequestData) {
	p := &v.pull
	if v.opt.Stack == ArduPilot && (p.listing || p.sending) || v.opt.Stack == PX4 && !p.listed {
		return
	}
	p.listing, p.sending = false, false
	l := v.logs.byID(m.Id)
	if l == nil {
		return
	}
	size := uint64(len(l.bytes()))
	p.id, p.from = m.Id, uint64(m.Ofs)
	p.to = min(size, p.from+uint64(m.Count))
	// ArduPilot answers a request behind the end with an empty chunk, PX4 with nothing.
	p.sending = p.from < size || v.opt.Stack == ArduPilot
}

// emitPull sends entries of the list or chunks of a log while the line has room.
func (v *Vehicle) emitPull() {
	if v.opt.Stack == ArduPilot && v.pilot.armed() || v.dark() {
		return
	}
	for v.pull.listing && v.idle() {
		v.sendEntry()
	}
	for v.pull.sending && v.idle() {
		v.sendChunk()
	}
}

func (v *Vehicle) sendEntry() {
	p, n := &v.pull, len(v.logs.logs)
	if p.next > p.last {
		p.listing = false
		if n == 0 && v.opt.Stack == ArduPilot {
			v.send(autopilotID, &common.MessageLogEntry{})
		}
		return
	}
	l := v.logs.logs[p.next]
	m := &common.MessageLogEntry{
		Id: v.logs.id(p.next), NumLogs: uint16(n), LastLogNum: v.logs.id(n - 1), TimeUtc: uint32(l.utc.Unix()), Size: uint32(len(l.bytes())),
	}
	if v.opt.Malformed {
		v.send(autopilotID, &common.MessageLogEntry{Id: m.Id + 500, NumLogs: math.MaxUint16, LastLogNum: 3, Size: math.MaxUint32 - 7})
	}
	v.send(autopilotID, m)
	p.next++
}

func (v *Vehicle) sendChunk() {
	p := &v.pull
	l := v.logs.byID(p.id)
	if l == nil {
		p.sending = false
		return
	}
	data, end := l.bytes(), min(p.from+pullChunk, p.to)
	m := &common.MessageLogData{Id: p.id, Ofs: uint32(p.from)}
	if p.from < end {
		m.Count = uint8(copy(m.Data[:], data[p.from:end]))
	}
	if v.opt.Malformed {
		v.spoil(m, data)
	}
	v.send(autopilotID, m)
	v.counts.PulledBytes += uint64(m.Count)
	p.from += uint64(m.Count)
	if m.Count < pullChunk || p.from >= p.to {
		p.sending = false
	}
}

// spoil sends something wrong before a good chunk.
func (v *Vehicle) spoil(good *common.MessageLogData, data []byte) {
	bad := *good
	for i := range bad.Data {
		bad.Data[i] = 0xEE
	}
	switch v.pull.bad++; v.pull.bad % 6 {
	case 0:
		bad.Id += 300
	case 1:
		bad.Ofs, bad.Count = uint32(len(data))+1000, pullChunk
	case 2:
		bad.Ofs, bad.Count = math.MaxUint32-20, pullChunk
	case 3:
		bad.Count = 91 + uint8(v.pull.bad%160)
	case 4:
		bad = *good
	case 5:
		bad = *good
		if bad.Ofs < pullChunk/2 {
			return
		}
		bad.Ofs -= pullChunk / 2
		bad.Count = uint8(copy(bad.Data[:], data[bad.Ofs:]))
	}
	v.send(autopilotID, &bad)
}
