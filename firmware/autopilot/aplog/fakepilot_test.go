package aplog_test

import (
	"encoding/binary"
	"hash/crc32"
	"path"
	"strings"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/aplog"
)

// vlog is a log on the vehicle's card.
type vlog struct {
	utc  uint32
	data []byte
	path string
}

// fakePilot behaves as an autopilot does, as far as its logs go.
type fakePilot struct {
	r       *rig
	flavour uint8
	logs    []vlog // the oldest first
	armed   bool
	booted  time.Duration
	beat    time.Duration
	off     bool
	noLogs  bool // it knows no LOG_REQUEST
	noData  bool // it lists its logs and sends none

	out    []packet // waits for the link
	budget int
	// LOG_REQUEST_DATA
	sending  bool
	id       int
	at, upTo int
	opened   *vlog // the file that PX4 reads, as long as its number openedID stays the same
	openedID int
	list     []int // entries to send

	ftp    *ftpServer
	stream *streamSource
	bad    func(off int) bool // pieces that are never sent
	keep   bool               // it does not erase
	spoil  bool               // wrong replies beside the right ones
}

func newVehicle(r *rig, flavour uint8) *fakePilot {
	return &fakePilot{r: r, flavour: flavour, booted: r.now}
}

func (v *fakePilot) first() int {
	if v.flavour == aplog.ArduPilot {
		return 1
	}
	return 0
}

// say puts a message behind what waits for the link.
func (v *fakePilot) say(comp uint8, m message.Message) {
	v.out = append(v.out, packet{comp: comp, m: m})
}

func size(m message.Message) int {
	switch m := m.(type) {
	case *ap.MessageLogData:
		return 12 + 97
	case *ap.MessageFileTransferProtocol:
		return 12 + 15 + int(m.Payload[4])
	case *ap.MessageRemoteLogDataBlock:
		return 12 + 206
	case *ap.MessageLoggingData:
		return 12 + 255
	}
	return 30
}

func (v *fakePilot) step() {
	if v.off {
		v.out = nil
		return
	}
	if v.r.now >= v.beat {
		v.heartbeat()
	}
	v.budget = min(v.budget+v.r.baud*int(tick)/int(time.Second), 4096)
	for v.budget > 0 {
		if len(v.out) == 0 && !v.produce() {
			return
		}
		p := v.out[0]
		v.out = v.out[1:]
		v.budget -= size(p.m)
		v.r.travel(&v.r.down, p.comp, p.m)
	}
}

func (v *fakePilot) heartbeat() {
	v.beat = v.r.now + time.Second
	h := &ap.MessageHeartbeat{Autopilot: ap.MAV_AUTOPILOT(v.flavour)}
	if v.armed {
		h.BaseMode = ap.MAV_MODE_FLAG_SAFETY_ARMED
	}
	v.say(1, h)
	v.say(1, &ap.MessageSystemTime{TimeBootMs: uint32((v.r.now - v.booted).Milliseconds())})
}

func (v *fakePilot) arm(on bool) { v.armed, v.beat = on, 0 }

// reboot forgets all that is not on the card.
func (v *fakePilot) reboot() {
	v.booted, v.beat = v.r.now, v.r.now+2*time.Second
	v.sending, v.list, v.out, v.opened = false, nil, nil, nil
	if v.ftp != nil {
		v.ftp = newFTPServer(v, v.ftp.files)
	}
	if v.stream != nil {
		v.stream.reboot()
	}
}

// produce makes the next message of what was asked for; false: nothing was.
func (v *fakePilot) produce() bool {
	ardu := v.flavour == aplog.ArduPilot
	switch {
	case len(v.list) > 0 && !(ardu && v.armed):
		id := v.list[0]
		v.list = v.list[1:]
		v.entry(id)
	case v.sending && !(ardu && v.armed):
		v.piece()
	case v.ftp != nil && v.ftp.produce():
	case v.stream != nil && v.stream.produce():
	default:
		return false
	}
	return len(v.out) > 0
}

func (v *fakePilot) entry(id int) {
	m := &ap.MessageLogEntry{Id: uint16(id), NumLogs: uint16(len(v.logs)), LastLogNum: uint16(len(v.logs))}
	if i := id - v.first(); i >= 0 && i < len(v.logs) {
		m.TimeUtc, m.Size = v.logs[i].utc, uint32(len(v.logs[i].data))
	}
	v.say(1, m)
}

func (v *fakePilot) piece() {
	data := v.reads()
	m := &ap.MessageLogData{Id: uint16(v.id), Ofs: uint32(v.at)}
	n := copy(m.Data[:min(90, max(0, v.upTo-v.at))], data[min(v.at, len(data)):])
	m.Count = uint8(n)
	if v.spoil {
		v.spoiled(*m)
	}
	if v.bad == nil || !v.bad(v.at) {
		v.say(1, m)
	} else {
		v.say(1, &ap.MessageSystemTime{TimeBootMs: uint32((v.r.now - v.booted).Milliseconds())})
	}
	v.at += n
	if n < 90 || v.at >= v.upTo {
		v.sending = false
	}
	if v.at >= len(data) {
		v.opened = nil
	}
}

// reads is the log that it sends: PX4 opens a file where another number is asked for than before.
func (v *fakePilot) reads() []byte {
	if v.flavour != aplog.PX4 {
		return v.logs[v.id-v.first()].data
	}
	if v.opened == nil || v.openedID != v.id {
		log := v.logs[v.id-v.first()]
		v.opened, v.openedID = &log, v.id
	}
	return v.opened.data
}

// spoiled says things that are wrong about a piece.
func (v *fakePilot) spoiled(m ap.MessageLogData) {
	wrong := m
	for i := range wrong.Data {
		wrong.Data[i] ^= 0xff
	}
	switch v.r.rng.IntN(6) {
	case 0:
		wrong.Id++
	case 1:
		wrong.Ofs = 1 << 31
	case 2:
		wrong.Count = 91 + uint8(v.r.rng.IntN(160))
	case 3:
		wrong = m // twice
	case 4: // overlaps the piece before, rightly
		wrong = m
		if m.Ofs >= 40 && m.Count > 45 {
			wrong.Ofs -= 40
			copy(wrong.Data[:], v.logs[v.id-v.first()].data[wrong.Ofs:][:wrong.Count])
		}
	case 5:
		wrong.Ofs = uint32(len(v.logs[v.id-v.first()].data))
	}
	v.say(1, &wrong)
}

func (v *fakePilot) text(s string) { v.say(1, &ap.MessageStatustext{Text: s}) }

func (v *fakePilot) handle(comp uint8, m message.Message) {
	if v.off {
		return
	}
	switch m := m.(type) {
	case *ap.MessageLogRequestList:
		v.requestList(m)
	case *ap.MessageLogRequestData:
		v.requestData(m)
	case *ap.MessageLogRequestEnd:
		if v.flavour == aplog.PX4 || !v.armed {
			v.sending = false
		}
	case *ap.MessageLogErase:
		if !v.armed && !v.keep {
			v.logs, v.opened = nil, nil
		}
	case *ap.MessageFileTransferProtocol:
		if v.ftp != nil {
			v.ftp.handle(m)
		}
	default:
		if v.stream != nil {
			v.stream.handle(comp, m)
		}
	}
}

func (v *fakePilot) requestList(m *ap.MessageLogRequestList) {
	ardu := v.flavour == aplog.ArduPilot
	if v.noLogs || ardu && (v.armed || v.sending || len(v.list) > 0) {
		return
	}
	v.list = nil
	last := v.first() + len(v.logs) - 1
	if ardu && len(v.logs) == 0 {
		v.list = []int{0}
		return
	}
	to := last
	if ardu {
		to = min(int(m.End), last)
	}
	for id := max(int(m.Start), v.first()); id <= to; id++ {
		v.list = append(v.list, id)
	}
}

func (v *fakePilot) requestData(m *ap.MessageLogRequestData) {
	i := int(m.Id) - v.first()
	if v.noLogs || v.noData || i < 0 || i >= len(v.logs) {
		return
	}
	if v.flavour == aplog.ArduPilot && (v.armed || v.sending) {
		return // dropped without a word
	}
	v.id = int(m.Id)
	data := v.reads()
	if v.flavour == aplog.PX4 && int(m.Ofs) >= len(data) {
		v.sending = false
		return
	}
	v.sending, v.at = true, int(m.Ofs)
	v.upTo = min(int(m.Ofs)+int(m.Count), max(len(data), int(m.Ofs)))
}

// ftpServer is MAVLink FTP as ArduPilot or PX4 has it.
type ftpServer struct {
	v       *fakePilot
	files   func() []vlog
	open    *vlog
	session uint8
	last    *ap.MessageFileTransferProtocol
	lastSeq uint16
	burst   bool
	req     []byte
	at      int
	left    int
	seq     uint16
	wrong   bool // its checksums are
	noCRC   bool
	mute    bool // it answers no request for a checksum
}

func newFTPServer(v *fakePilot, files func() []vlog) *ftpServer {
	return &ftpServer{v: v, files: files}
}

func (s *ftpServer) reply(req []byte, op uint8, offset uint32, data []byte, complete bool, keep bool) {
	m := &ap.MessageFileTransferProtocol{TargetSystem: 1, TargetComponent: 191}
	p := m.Payload[:]
	binary.LittleEndian.PutUint16(p, s.seq)
	p[2], p[3], p[4], p[5] = s.session, op, uint8(len(data)), req[3]
	switch {
	case complete:
		p[6] = 1
	case s.v.flavour == aplog.PX4 && req[3] == 15:
		p[6] = 60 // never set
	}
	binary.LittleEndian.PutUint32(p[8:], offset)
	copy(p[12:], data)
	s.v.say(1, m)
	s.last, s.lastSeq = nil, s.seq
	if keep || s.v.flavour == aplog.ArduPilot {
		s.last = m
	}
}

func (s *ftpServer) handle(m *ap.MessageFileTransferProtocol) {
	p := m.Payload[:]
	seq := binary.LittleEndian.Uint16(p)
	if s.burst && s.v.flavour == aplog.ArduPilot {
		return // its thread is busy; the queue is short
	}
	if s.last != nil && seq+1 == s.lastSeq {
		s.v.say(1, s.last)
		return
	}
	s.seq = seq + 1
	off := binary.LittleEndian.Uint32(p[8:])
	name := strings.TrimRight(string(p[12:12+int(p[4])]), "\x00")
	switch p[3] {
	case 1:
		s.terminate(p)
	case 3:
		s.list(p, name, int(off))
	case 4:
		s.openFile(p, name)
	case 5:
		s.read(p, int(off), int(p[4]))
	case 14:
		s.crc(p, name)
	case 15:
		if s.open == nil {
			s.nak(p, 4)
			return
		}
		s.burst, s.req, s.at, s.left = true, append([]byte(nil), p...), int(off), 2000
		if s.v.flavour == aplog.PX4 {
			s.left = 147
		}
	default:
		s.nak(p, 7)
	}
}

func (s *ftpServer) nak(req []byte, code uint8) { s.reply(req, 129, 0, []byte{code}, false, true) }
func (s *ftpServer) ack(req, data []byte)       { s.reply(req, 128, 0, data, false, len(data) <= 4) }

func (s *ftpServer) terminate(p []byte) {
	if s.open == nil && s.v.flavour == aplog.PX4 {
		s.nak(p, 4)
		return
	}
	s.open, s.burst = nil, false
	s.ack(p, nil)
}

func (s *ftpServer) find(name string) *vlog {
	for _, f := range s.files() {
		if f.path == name {
			return &f
		}
	}
	return nil
}

func (s *ftpServer) openFile(p []byte, name string) {
	switch f := s.find(name); {
	case s.open != nil:
		s.nak(p, 5)
	case f == nil:
		s.nak(p, 10)
	default:
		s.open = f
		if s.v.flavour == aplog.ArduPilot {
			s.session = p[2]
		}
		s.ack(p, binary.LittleEndian.AppendUint32(nil, uint32(len(f.data))))
	}
}

func (s *ftpServer) read(p []byte, off, n int) {
	switch {
	case s.open == nil:
		s.nak(p, 4)
	case off >= len(s.open.data):
		s.nak(p, 6)
	default:
		s.reply(p, 128, uint32(off), s.open.data[off:min(off+n, len(s.open.data))], false, false)
	}
}

func (s *ftpServer) crc(p []byte, name string) {
	f := s.find(name)
	switch {
	case s.mute:
	case s.noCRC:
		s.nak(p, 7)
	case f == nil:
		s.nak(p, 10)
	default:
		var tab = crc32.MakeTable(crc32.IEEE)
		var crc uint32 // bit by bit as the autopilots do: from 0, not inverted
		for _, b := range f.data {
			crc = tab[byte(crc)^b] ^ crc>>8
		}
		if s.wrong {
			crc++
		}
		s.ack(p, binary.LittleEndian.AppendUint32(nil, crc))
	}
}

// list gives two entries a page, to show that pages are asked for.
func (s *ftpServer) list(p []byte, folder string, off int) {
	var all []string
	seen := map[string]bool{}
	for _, f := range s.files() {
		rest, ok := strings.CutPrefix(f.path, folder+"/")
		if !ok {
			continue
		}
		if dir, _, deep := strings.Cut(rest, "/"); deep {
			if !seen[dir] {
				all = append(all, "D"+dir)
			}
			seen[dir] = true
		} else {
			all = append(all, "F"+path.Base(rest)+"\t"+itoa(len(f.data)))
		}
	}
	if len(all) > 0 && s.v.flavour == aplog.PX4 {
		all = append([]string{"S", "S"}, all...) // "." and ".."
	}
	if off >= len(all) {
		code := uint8(6)
		if len(all) == 0 {
			code = 10
		}
		s.nak(p, code)
		return
	}
	end := "\x00"
	if s.v.flavour == aplog.ArduPilot {
		end = "\x00\x00"
	}
	s.ack(p, []byte(strings.Join(all[off:min(off+2, len(all))], end)+end))
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func (s *ftpServer) produce() bool {
	if !s.burst {
		return false
	}
	if s.open == nil || s.at >= len(s.open.data) {
		s.burst = false
		s.reply(s.req, 129, uint32(s.at), []byte{6}, false, true)
		s.seq++
		return true
	}
	data := s.open.data[s.at:min(s.at+239, len(s.open.data))]
	s.left--
	s.burst = s.left > 0
	complete := !s.burst || s.v.flavour == aplog.ArduPilot && len(data) < 239
	s.reply(s.req, 128, uint32(s.at), data, complete, false)
	s.seq++
	s.at += len(data)
	return true
}
