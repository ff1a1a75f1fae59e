package flight

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"holdfast/mavlink"
	"holdfast/mavlink/names"
	"holdfast/mavlink/tlog"
	"holdfast/storage/segment"
)

// Limits of what is told about frames that went to the autopilot.
const (
	maxOrigins  = 256  // names that are told apart; an index is one byte
	maxCounts   = 4096 // rows of SentReport
	maxSentRaw  = 512  // bytes of what is no frame that went out, in hex in its line
	sentSpool   = ".sent.spool"
	sentTlog    = "sent.tlog"
	sentJSON    = "sent.jsonl"
	sentNothing = -1 // offset of what is not in sent.tlog, id of what is no frame
)

// outcomes by the number that is sealed.
var outcomes = map[uint8]string{segment.SentOut: "sent", segment.SentRefused: "refused", segment.SentFailed: "failed"}

func outcome(n uint8) string {
	if s, ok := outcomes[n]; ok {
		return s
	}
	return "unknown"
}

// SentReport counts what went to the autopilot, or was to go.
type SentReport struct {
	Frames  int64       `json:"frames"` // in sent.tlog
	Bytes   int64       `json:"bytes"`
	Refused int64       `json:"refused"`
	Failed  int64       `json:"failed"`
	Counts  []SentCount `json:"counts"`
	// More counts those beyond the rows of Counts.
	More int64 `json:"more,omitempty"`
}

// SentCount counts the frames of one origin, outcome and message. MessageID -1: no frame.
type SentCount struct {
	Origin    string `json:"origin"`
	Outcome   string `json:"outcome"`
	MessageID int64  `json:"message_id"`
	Name      string `json:"name,omitempty"`
	Count     int64  `json:"count"`
	Bytes     int64  `json:"bytes"`
}

// sentLine is one line of sent.jsonl. Offset is that of the entry in sent.tlog, of its stamp;
// -1: it did not go out, or is no frame. Raw is then what it is, in hex, up to 512 bytes.
type sentLine struct {
	Time      string `json:"time"`
	TimeUsec  int64  `json:"time_usec"`
	BootUsec  int64  `json:"boot_usec"`
	Link      int    `json:"link"`
	LinkName  string `json:"link_name,omitempty"`
	Origin    string `json:"origin"`
	Outcome   string `json:"outcome"`
	MessageID int64  `json:"message_id"`
	Name      string `json:"name"`
	Length    int    `json:"length"`
	Offset    int64  `json:"offset"`
	Raw       string `json:"raw,omitempty"`
}

// sentKey is what frames are counted by.
type sentKey struct {
	origin  string
	outcome uint8
	id      int64
}

// sentCollector keeps what was sent until all clocks are known. It lies in the folder of what is
// opened: it is plaintext.
type sentCollector struct {
	origins []string // of the last header of telemetry
	table   []string // names by the index in the spool
	file    *os.File
	buf     *bufio.Writer
	entry   []byte
	counts  map[sentKey]*SentCount
	order   []*SentCount
	report  SentReport
}

// Sent implements segment.SentHandler.
func (c *collector) Sent(r segment.SentRun) error {
	if c.meta == nil || c.known&hasSent != 0 {
		return nil
	}
	c.have[c.block] |= hasSent
	r.StampUsec -= uint64(c.meta.StampOffset)
	c.sent.tally(r)
	return c.sent.keep(c.out.dir, r)
}

// origin names who sent a frame.
func (s *sentCollector) origin(n uint8) string {
	if int(n) < len(s.origins) {
		return clip(s.origins[n])
	}
	return fmt.Sprintf("origin-%d", n)
}

// sentFrame returns the frame that r is; not ok where it is none, or more than one.
func sentFrame(r segment.SentRun) (f mavlink.Frame, ok bool) {
	f, ok = mavlink.ParseFrame(r.Data)
	return f, ok && len(f.Raw) == len(r.Data)
}

func (s *sentCollector) tally(r segment.SentRun) {
	id := int64(sentNothing)
	f, ok := sentFrame(r)
	if ok {
		id = int64(f.ID)
	}
	switch r.Outcome {
	case segment.SentOut:
		if ok {
			s.report.Frames++
			s.report.Bytes += int64(len(r.Data))
		}
	case segment.SentRefused:
		s.report.Refused++
	case segment.SentFailed:
		s.report.Failed++
	}
	key := sentKey{s.origin(r.Origin), r.Outcome, id}
	n := s.counts[key]
	if n == nil {
		if len(s.counts) >= maxCounts {
			s.report.More++
			return
		}
		n = &SentCount{Origin: key.origin, Outcome: outcome(r.Outcome), MessageID: id}
		if ok {
			n.Name = names.MessageName(f.ID)
		}
		s.counts[key] = n
		s.order = append(s.order, n)
	}
	n.Count++
	n.Bytes += int64(len(r.Data))
}

// index returns the place of an origin's name in the table, which all headers share.
func (s *sentCollector) index(name string) uint8 {
	for i, have := range s.table {
		if have == name {
			return uint8(i)
		}
	}
	switch len(s.table) {
	case maxOrigins:
		return maxOrigins - 1
	case maxOrigins - 1:
		name = "others"
	}
	s.table = append(s.table, name)
	return uint8(len(s.table) - 1)
}

func (s *sentCollector) keep(dir string, r segment.SentRun) error {
	if s.file == nil {
		f, err := create(dir, sentSpool)
		if err != nil {
			return err
		}
		s.file, s.buf = f, bufio.NewWriterSize(f, 64<<10)
	}
	r.Origin = s.index(s.origin(r.Origin))
	s.entry = segment.AppendSent(s.entry[:0], r)
	_, err := s.buf.Write(s.entry)
	return err
}

func (s *sentCollector) remove() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.file.Close(), os.Remove(s.file.Name()))
	s.file = nil
	return err
}

// write makes sent.tlog and sent.jsonl.
func (s *sentCollector) write(o *output, t times, links []segment.Link) error {
	f, err := create(o.dir, sentTlog)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	err = o.jsonLines(sentJSON, func(write func(any) error) error {
		var at int64
		return s.each(func(r segment.SentRun) error {
			line, out := s.line(r, t, links)
			if out {
				line.Offset = at
				s.entry = tlog.AppendEntry(s.entry[:0], uint64(line.TimeUsec), r.Data)
				at += int64(len(s.entry))
				if _, err := w.Write(s.entry); err != nil {
					return err
				}
			}
			return write(line)
		})
	})
	return errors.Join(err, w.Flush(), f.Close(), s.remove())
}

// line tells of a frame, and whether it is for sent.tlog. What is not is in Raw.
func (s *sentCollector) line(r segment.SentRun, t times, links []segment.Link) (l sentLine, out bool) {
	boot := int64(r.StampUsec)
	text, usec := t.utc(boot)
	l = sentLine{Time: text, TimeUsec: usec, BootUsec: boot, Link: int(r.Link), Origin: s.table[r.Origin], Outcome: outcome(r.Outcome), MessageID: sentNothing, Length: len(r.Data), Offset: sentNothing}
	if l.Link < len(links) {
		l.LinkName = links[l.Link].Name
	}
	f, ok := sentFrame(r)
	if ok {
		l.MessageID, l.Name = int64(f.ID), names.MessageName(f.ID)
	}
	if out = ok && r.Outcome == segment.SentOut; !out {
		l.Raw = hex.EncodeToString(r.Data[:min(len(r.Data), maxSentRaw)])
	}
	return l, out
}

// each hands over what was kept, in the order in which it came.
func (s *sentCollector) each(f func(segment.SentRun) error) error {
	if s.file == nil {
		return nil
	}
	if err := s.buf.Flush(); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(s.file, 64<<10)
	for {
		run, err := readSent(r)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(run)
		}
		if err != nil {
			return err
		}
	}
}

// sentHead is the length of what stands before the bytes of a run in the spool.
const sentHead = 15

// readSent reads one run of the spool.
func readSent(r *bufio.Reader) (segment.SentRun, error) {
	head, err := r.Peek(sentHead)
	if err != nil {
		return segment.SentRun{}, err
	}
	n := sentHead + (int(head[11])<<24 | int(head[12])<<16 | int(head[13])<<8 | int(head[14]))
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return segment.SentRun{}, err
	}
	run, _, err := segment.ParseSent(p)
	return run, err
}

// setSent fills in the counts.
func (c *collector) setSent(s *Summary) {
	r := c.sent.report
	r.Counts = []SentCount{}
	for _, n := range c.sent.order {
		r.Counts = append(r.Counts, *n)
	}
	s.Sent = r
}
