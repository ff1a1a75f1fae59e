package aplog

import (
	"encoding/binary"
	"fmt"
	"time"

	"holdfast/storage/segment"
)

// ftpFile is a file that a transfer reads by FTP.
type ftpFile struct {
	c       *ftpClient
	t       *transfer
	path    string
	open    bool
	close   bool // the session is to be ended before it is opened
	session uint8
	first   uint16 // the first number that a reply to a read of this session may have
	opens   int
	naks    int
	again   time.Duration // not to be opened before
	crc     crcState
}

type crcState int

const (
	crcUnasked crcState = iota
	crcAsked
	crcRight
	crcAbsent // the autopilot has no checksums
	crcUnknown
	crcWrong
)

// Of FTP's limits: reads under way at a time (ArduPilot queues five requests), and how often a
// session is opened again before LOG_REQUEST_DATA is tried instead.
const (
	ftpReads   = 3
	ftpOpens   = 6
	ftpNaks    = 8
	ftpReopens = 3 * time.Second // ArduPilot's FTP_SESSION_TIMEOUT
)

// reopen has the session ended and opened anew.
func (f *ftpFile) reopen() { f.open, f.close, f.opens = false, true, 0 }

// lost notes that the server forgot the session: it began anew, or took it from us.
func (f *ftpFile) lost() { f.open, f.close = false, false }

// park forgets what was under way. The session may be there still: it is ended first.
func (f *ftpFile) park() {
	f.open, f.close = false, true
	if f.crc == crcAsked {
		f.crc = crcUnasked
	}
}

// pieces are what can be read of holes by requests that are under way at the same time.
func (f *ftpFile) pieces(holes []segment.Range) []segment.Range {
	var out []segment.Range
	for _, h := range holes {
		for h.From < h.To && len(out) < ftpReads {
			to := min(h.To, h.From+ftpData)
			out = append(out, segment.Range{From: h.From, To: to})
			h.From = to
		}
	}
	return out
}

// read sends requests. It returns those that were sent.
func (f *ftpFile) read(want []segment.Range, burst bool, now time.Duration) ([]segment.Range, bool) {
	for i, r := range want {
		m := ftpMessage{op: ftpRead, session: f.session, offset: uint32(r.From), size: uint8(min(r.To-r.From, ftpData))}
		if burst {
			m.op, m.size = ftpBurst, ftpData
		}
		m.seq = f.c.next()
		if !f.c.l.ask(m.encode(f.c.l.system)) {
			return want[:i], i > 0
		}
	}
	return want, true
}

// handle takes a reply to a read.
func (f *ftpFile) handle(m ftpMessage) {
	if !f.open || m.session != f.session || !f.ours(m.seq) {
		return
	}
	if code := m.nak(); code != 0 {
		f.refused(m, code)
		return
	}
	if m.op != ftpAck {
		return
	}
	f.naks = 0
	f.t.data(int64(m.offset), m.data)
	if m.reqOp == ftpBurst && m.complete && f.t.burst {
		f.t.burstEnded(int64(m.offset) + int64(len(m.data)))
	}
}

// ours reports whether a reply belongs to a read of this session, not to one of a file before.
func (f *ftpFile) ours(seq uint16) bool {
	span := f.c.seq - f.first
	if span > 0x7fff { // many requests since: only the newest ones can be told from old ones
		return f.c.seq+ftpBurstReplies-seq <= 0x7fff
	}
	return seq-f.first <= span+ftpBurstReplies
}

func (f *ftpFile) refused(m ftpMessage, code uint8) {
	f.naks++
	switch {
	case f.naks > ftpNaks:
		f.t.abandonFTP("FTP refuses to read it")
	case code == ftpEOF && m.reqOp == ftpBurst && f.t.burst:
		f.t.burstEnded(max(f.t.w.got.end(), f.t.w.base))
	case code == ftpBadSession, code == ftpNotFound:
		f.lost()
	}
}

// openFTP opens the file, and ends an old session before, if there is one.
func (t *transfer) openFTP(now time.Duration) time.Duration {
	f := t.ftp
	switch {
	case f.c.under:
		return f.c.step(now)
	case now < f.again:
		return f.again
	case f.opens >= ftpOpens:
		t.abandonFTP("FTP does not open it")
		return now
	case f.close:
		f.c.call(ftpMessage{op: ftpTerminate, session: f.session}, t.time.timeout(), func(ftpMessage, bool) { f.close = false })
	default:
		f.opens++
		f.c.path(ftpOpen, f.path, 0, max(t.time.timeout(), listTimeout), f.opened)
	}
	return f.c.step(now)
}

func (f *ftpFile) opened(m ftpMessage, ok bool) {
	now := f.c.l.now
	if !ok || m.op != ftpAck || len(m.data) < 4 {
		if m.nak() == ftpNotFound {
			f.opens = ftpOpens
		}
		f.again = now + ftpReopens
		return
	}
	f.open, f.session, f.first = true, m.session, f.c.seq+1
	f.t.asked, f.t.burst = nil, false
	f.t.high = min(f.t.high, max(f.t.w.got.end(), f.t.w.base))
	size := int64(binary.LittleEndian.Uint32(m.data))
	if size < f.t.size {
		f.t.abandon(fmt.Sprintf("it is %d bytes long now", size))
	}
	f.t.grown1(size)
}

// grown1 takes the size that opening the file showed; the session is right for it already.
func (t *transfer) grown1(size int64) {
	f := t.ftp
	t.ftp = nil
	t.grown(size)
	t.ftp = f
}

// abandonFTP goes on with LOG_REQUEST_DATA, where the autopilot listed the log so, or not at all.
func (t *transfer) abandonFTP(why string) {
	t.l.cfg.Event("log_ftp_failed", fmt.Sprintf("log=%d why=%q", t.e.id, why))
	t.asked, t.burst, t.stalls = nil, false, 0
	if t.out.bytes == 0 {
		t.out.f.Source = "pull"
	}
	if t.ftp != nil {
		t.ftp.c.cancel()
	}
	t.ftp = nil
	if !t.e.listed {
		t.abandon(why)
	}
}

// tryFTP goes on by FTP, where LOG_REQUEST_DATA brings nothing.
func (t *transfer) tryFTP() {
	t.l.cfg.Event("log_data_failed", fmt.Sprintf("log=%d why=\"no answer to LOG_REQUEST_DATA\"", t.e.id))
	if t.out.bytes == 0 {
		t.out.f.Source = "ftp"
	}
	t.asked, t.high = nil, t.w.base
	t.ftp, t.alt = t.alt, nil
}

// check has the autopilot compute the checksum of the file. 0: that is done.
func (t *transfer) check(now time.Duration) time.Duration {
	f := t.file()
	if f == nil || t.out.whole > 0 {
		return 0
	}
	switch f.crc {
	case crcUnasked:
		f.crc = crcAsked
		wait := 10*time.Second + time.Duration(t.size/100_000)*time.Second // a slow card
		f.c.path(ftpCRC, f.path, 0, wait, f.checked)
	case crcAsked:
	default:
		return 0
	}
	return f.c.step(now)
}

func (f *ftpFile) checked(m ftpMessage, ok bool) {
	switch {
	case !ok:
		f.crc = crcUnknown
	case m.nak() == ftpUnknown:
		f.crc = crcAbsent
	case m.op != ftpAck || len(m.data) < 4:
		f.crc = crcUnknown
	case binary.LittleEndian.Uint32(m.data) != f.t.crc:
		f.crc = crcWrong
		f.t.failed = "the autopilot's checksum differs"
	default:
		f.crc = crcRight
	}
}
