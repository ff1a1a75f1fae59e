package vehicle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// MAVLink FTP: the payload is a sequence number (2 bytes), session, opcode, size, opcode
// of the request, burst complete, a spare byte, an offset (4 bytes), little-endian, and up
// to 239 bytes of data (https://mavlink.io/en/services/ftp.html).
const (
	ftpHead = 12
	ftpData = 239

	ftpNone      = 0
	ftpTerminate = 1
	ftpReset     = 2
	ftpList      = 3
	ftpOpen      = 4
	ftpRead      = 5
	ftpCreate    = 6
	ftpWrite     = 7
	ftpRemove    = 8
	ftpMakeDir   = 9
	ftpRemoveDir = 10
	ftpOpenWrite = 11
	ftpTruncate  = 12
	ftpRename    = 13
	ftpChecksum  = 14
	ftpBurst     = 15
	ftpAck       = 128
	ftpNak       = 129

	// Error codes of a negative answer.
	ftpFail           = 1
	ftpBadSize        = 3
	ftpBadSession     = 4
	ftpNoSession      = 5
	ftpEOF            = 6
	ftpUnknownCommand = 7
	ftpProtected      = 9
	ftpNotFound       = 10
)

const (
	// ftpIdle is how long an open file keeps others out that want to open one.
	ftpIdle = 3 * time.Second
	// burstChunks is how many answers a burst has: ArduPilot goes on for 2000, PX4 stops
	// as soon as the buffer of the port is full.
	burstChunksCopter = 2000
	burstChunksPX4    = 64
)

// ftpServer serves the logs. There is one session.
type ftpServer struct {
	to      sender
	session uint8
	open    *flightLog // nil: no file
	size    int        // of the file when it was opened
	used    time.Duration
	answer  *ftpPacket // the last one; a request that came twice gets it once more
	burst   burst
}

// burst is a file being sent without further requests.
type burst struct {
	live   bool
	packet ftpPacket // the next answer, without data
	step   int       // bytes in each
	left   int       // answers
}

// ftpPacket is the payload of FILE_TRANSFER_PROTOCOL.
type ftpPacket struct {
	seq                  uint16
	session, op, request uint8
	done                 bool // burst complete
	offset               uint32
	data                 []byte
	size                 uint8 // as sent, also where it is more than the data
}

func parseFTP(p *[ftpHead + ftpData]uint8) ftpPacket {
	size := p[4]
	return ftpPacket{
		seq: binary.LittleEndian.Uint16(p[:]), session: p[2], op: p[3], size: size, request: p[5], done: p[6] != 0,
		offset: binary.LittleEndian.Uint32(p[8:]), data: bytes.Clone(p[ftpHead : ftpHead+min(int(size), ftpData)]),
	}
}

func (f ftpPacket) payload() (p [ftpHead + ftpData]uint8) {
	binary.LittleEndian.PutUint16(p[:], f.seq)
	p[2], p[3], p[4], p[5] = f.session, f.op, uint8(len(f.data)), f.request
	if f.done {
		p[6] = 1
	}
	binary.LittleEndian.PutUint32(p[8:], f.offset)
	copy(p[ftpHead:], f.data)
	return p
}

// name is the path in a request, which may end with a zero byte.
func (f ftpPacket) name() string {
	name, _, _ := bytes.Cut(f.data, []byte{0})
	return path.Clean("/" + string(name))
}

// hearFTP answers one request.
func (v *Vehicle) hearFTP(from sender, m *common.MessageFileTransferProtocol) {
	r, s := parseFTP(&m.Payload), &v.files
	if r.op == ftpList || r.op == ftpOpen || r.op == ftpRead || r.op == ftpRemove || r.op == ftpChecksum || r.op == ftpBurst {
		v.countLogRequest()
	}
	if !v.opt.FTP {
		if v.opt.Stack == ArduPilot {
			v.say(common.MAV_SEVERITY_INFO, "FTP disabled")
		}
		return
	}
	if r.op == ftpAck || r.op == ftpNak {
		return
	}
	if a := s.answer; a != nil && from == s.to && r.seq+1 == a.seq && r.op == a.request {
		v.sendFTP(from, *a)
		return
	}
	a := ftpPacket{seq: r.seq + 1, session: r.session, op: ftpAck, request: r.op, offset: r.offset}
	if int(r.size) > ftpData {
		a.refuse(ftpBadSize)
	} else if v.serveFTP(from, r, &a) {
		return
	}
	s.to, s.answer = from, nil
	if len(a.data) <= 4 {
		s.answer = &a
	}
	v.sendFTP(from, a)
}

// refuse turns an answer into a negative one.
func (f *ftpPacket) refuse(code byte) { f.op, f.data = ftpNak, []byte{code} }

func (v *Vehicle) sendFTP(to sender, f ftpPacket) {
	v.files.used = v.now
	v.send(autopilotID, &common.MessageFileTransferProtocol{TargetSystem: to.system, TargetComponent: to.comp, Payload: f.payload()})
}

// serveFTP fills in the answer; later is true if a burst gives it.
func (v *Vehicle) serveFTP(from sender, r ftpPacket, a *ftpPacket) (later bool) {
	switch r.op {
	case ftpNone:
	case ftpTerminate, ftpReset:
		v.files.open, v.files.burst = nil, burst{}
	case ftpList:
		v.listFTP(r, a)
	case ftpOpen:
		v.openFTP(from, r, a)
	case ftpRead:
		v.readFTP(r, a)
	case ftpBurst:
		return v.startBurst(from, r, a)
	case ftpChecksum:
		v.checksumFTP(r, a)
	case ftpRemove:
		v.removeFTP(r, a)
	case ftpCreate, ftpWrite, ftpMakeDir, ftpRemoveDir, ftpOpenWrite, ftpTruncate, ftpRename:
		a.refuse(ftpProtected)
	default:
		a.refuse(v.pick(ftpFail, ftpUnknownCommand))
	}
	return false
}

// pick returns what ArduPilot and what PX4 does.
func (v *Vehicle) pick(copter, px4 byte) byte {
	if v.opt.Stack == PX4 {
		return px4
	}
	return copter
}

// fileNamed returns the log of a path and its position.
func (v *Vehicle) fileNamed(name string) (*flightLog, int) {
	for i, l := range v.logs.logs {
		if v.logs.path(i) == name {
			return l, i
		}
	}
	return nil, -1
}

// entriesOf lists a folder: files as "Fname\tsize", folders as "Dname". ok is false if
// there is no such folder; one with logs in it, or that may hold them, is there.
func (v *Vehicle) entriesOf(folder string) (entries []string, ok bool) {
	root := copterLogs
	if v.opt.Stack == PX4 {
		root = px4Logs
	}
	under := strings.TrimSuffix(folder, "/") + "/"
	names := []string{}
	for i, l := range v.logs.logs {
		names = append(names, fmt.Sprintf("%s\t%d", v.logs.path(i), len(l.bytes())))
	}
	for _, name := range append(names, root+"/") {
		rest, in := strings.CutPrefix(name, under)
		if !in {
			continue
		}
		ok = true
		if dir, _, more := strings.Cut(rest, "/"); more {
			rest = "D" + dir
		} else if rest != "" {
			rest = "F" + rest
		}
		if rest != "" && !slices.Contains(entries, rest) {
			entries = append(entries, rest)
		}
	}
	return entries, ok
}

func (v *Vehicle) listFTP(r ftpPacket, a *ftpPacket) {
	entries, ok := v.entriesOf(r.name())
	if !ok {
		a.refuse(ftpNotFound)
		return
	}
	for i := int(min(r.offset, 1<<16)); i < len(entries); i++ {
		if len(a.data)+len(entries[i])+1 > ftpData {
			break
		}
		a.data = append(append(a.data, entries[i]...), 0)
	}
	if len(a.data) == 0 {
		a.refuse(ftpEOF)
	}
}

func (v *Vehicle) openFTP(from sender, r ftpPacket, a *ftpPacket) {
	s := &v.files
	if s.open != nil && (v.now-s.used <= ftpIdle || v.opt.Stack == PX4 && s.to != from) {
		a.refuse(v.pick(ftpFail, ftpNoSession))
		return
	}
	l, _ := v.fileNamed(r.name())
	if l == nil {
		a.refuse(ftpNotFound)
		return
	}
	if v.opt.Stack == PX4 {
		a.session = 0
	}
	s.open, s.session, s.size, s.burst = l, a.session, len(l.bytes()), burst{}
	a.data = binary.LittleEndian.AppendUint32(nil, uint32(s.size))
}

// file returns the open file a request means, or refuses.
func (v *Vehicle) file(r ftpPacket, a *ftpPacket) []byte {
	s := &v.files
	if s.open == nil || r.session != s.session {
		a.refuse(v.pick(ftpNotFound, ftpBadSession))
		return nil
	}
	data := s.open.bytes()[:s.size]
	if uint64(r.offset) >= uint64(s.size) {
		a.refuse(ftpEOF)
		return nil
	}
	return data[r.offset:]
}

func (v *Vehicle) readFTP(r ftpPacket, a *ftpPacket) {
	rest := v.file(r, a)
	if rest == nil {
		return
	}
	a.data = rest[:min(len(rest), int(r.size), ftpData)]
	v.counts.FTPBytes += uint64(len(a.data))
}

// checksumFTP answers with the CRC-32 of a file, polynomial 0xEDB88320, which begins at 0
// and is not inverted at the end.
func (v *Vehicle) checksumFTP(r ftpPacket, a *ftpPacket) {
	l, _ := v.fileNamed(r.name())
	if l == nil {
		a.refuse(ftpNotFound)
		return
	}
	const inverted = 0xFFFFFFFF
	sum := crc32.Update(inverted, crc32.IEEETable, l.bytes()) ^ inverted
	a.data, a.offset = binary.LittleEndian.AppendUint32(nil, sum), 0
}

// removeFTP removes a log, but not the one that is being written.
func (v *Vehicle) removeFTP(r ftpPacket, a *ftpPacket) {
	l, i := v.fileNamed(r.name())
	switch {
	case l == nil:
		a.refuse(ftpNotFound)
	case l == v.logs.open && v.pilot.armed():
		a.refuse(ftpProtected)
	default:
		v.removeLog(i)
	}
}

func (v *Vehicle) removeLog(i int) {
	v.counts.LogErases++
	if v.files.open == v.logs.logs[i] {
		v.files.open, v.files.burst = nil, burst{}
	}
	if v.logs.open == v.logs.logs[i] {
		v.logs.open, v.blocks, v.ulog = nil, nil, nil
	}
	v.logs.remove(i)
	v.pull = pull{}
}

func (v *Vehicle) startBurst(from sender, r ftpPacket, a *ftpPacket) (later bool) {
	rest := v.file(r, a)
	if rest == nil {
		return false
	}
	step, left := int(r.size), burstChunksCopter
	if step == 0 || v.opt.Stack == PX4 {
		step = ftpData
	}
	if v.opt.Stack == PX4 {
		left = burstChunksPX4
	}
	v.files.to, v.files.answer = from, nil
	v.files.burst = burst{live: true, packet: *a, step: step, left: left}
	return true
}

// emitBurst sends of a burst what the line has room for. At the end of the file comes a
// negative answer with "end of file", at the end of a burst before it a mark.
func (v *Vehicle) emitBurst() {
	s := &v.files
	for s.burst.live && v.idle() && !v.dark() {
		b := &s.burst
		rest := s.open.bytes()[min(int(b.packet.offset), s.size):s.size]
		a := b.packet
		b.left--
		a.data = rest[:min(len(rest), b.step)]
		a.done = b.left == 0 || len(a.data) < b.step
		if len(a.data) == 0 {
			a.refuse(ftpEOF)
			a.done = false
		}
		b.live = b.left > 0 && len(rest) > 0
		b.packet.seq++
		b.packet.offset += uint32(len(a.data))
		if a.op == ftpAck {
			v.counts.FTPBytes += uint64(len(a.data))
		}
		v.sendFTP(s.to, a)
	}
}
