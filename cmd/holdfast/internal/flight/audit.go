package flight

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"holdfast/firmware/evidence"
	"holdfast/storage/segment"
)

// audit.jsonl has two sorts of lines, in order of time: events of the recorder, from the blocks
// of telemetry, and attempts that the network lock refused, from stream X. Both have time,
// time_usec, boot_usec and event; event is "attempt" for the second, whose other keys are those
// of the sealed line.

// auditLine is an event in audit.jsonl.
type auditLine struct {
	Time     string `json:"time"`
	TimeUsec int64  `json:"time_usec"`
	BootUsec int64  `json:"boot_usec"`
	Event    string `json:"event"`
	Link     string `json:"link,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// attemptLine is an attempt.
type attemptLine struct {
	Time     string `json:"time"`
	TimeUsec int64  `json:"time_usec"`
	BootUsec int64  `json:"boot_usec"`
	Event    string `json:"event"`
	evidence.Attempt
}

// eventAttempt is what an attempt has as its event.
const eventAttempt = "attempt"

// AuditReport counts what is in audit.jsonl.
type AuditReport struct {
	Events   int64            `json:"events"`   // of the recorder
	Lines    int64            `json:"lines"`    // of stream X
	Attempts int64            `json:"attempts"` // that those lines stand for
	BadLines int64            `json:"bad_lines,omitempty"`
	ByLayer  map[string]int64 `json:"by_layer"` // attempts by the layer that refused them
}

// maxLayers bounds the names that are counted apart.
const maxLayers = 64

// auditCollector takes the blocks of stream X in order and keeps each once.
type auditCollector struct {
	c     *collector
	have  map[uint64]parts
	block uint64
	known parts
	meta  *segment.Meta

	lines, sealed int64
	attempts, bad int64
	layers        map[string]int64
	partial       []byte // of a block that the medium holds in part
	partialOf     uint64
}

// Meta opens a block.
func (a *auditCollector) Meta(m *segment.Meta) error {
	a.block, a.meta, a.known = m.Block, m, a.have[m.Block]
	if m.Header == nil && m.Block != a.partialOf {
		if err := a.takePartial(); err != nil {
			return err
		}
	}
	if a.known&hasMeta != 0 {
		return nil
	}
	a.have[m.Block] |= hasMeta
	if m.Header != nil {
		a.c.headers = append(a.c.headers, m.Header)
	}
	a.sealed += int64(m.Frames)
	a.c.pairs = append(a.c.pairs, m.Clock...)
	for _, e := range m.Events {
		a.c.events = append(a.c.events, event{Event: e})
	}
	return nil
}

// Data takes the lines of a block. Those of a block that is there in part wait for a whole copy.
func (a *auditCollector) Data(p []byte, part bool) error {
	if a.meta == nil || a.known&hasData != 0 {
		return nil
	}
	if part {
		a.partial, a.partialOf = bytes.Clone(p), a.block
		return nil
	}
	if a.block == a.partialOf {
		a.partial = nil
	}
	a.have[a.block] |= hasData
	return a.take(p)
}

// Noise implements segment.Handler; there is none in this stream.
func (a *auditCollector) Noise(segment.NoiseRun) error { return nil }

// takePartial takes the whole lines of a block of which no whole copy followed.
func (a *auditCollector) takePartial() error {
	p := a.partial
	if p == nil {
		return nil
	}
	a.partial = nil
	a.have[a.partialOf] |= hasData
	return a.take(p[:bytes.LastIndexByte(p, '\n')+1])
}

// take keeps what is a line of this stream. Anybody can seal anything: what is none is counted.
func (a *auditCollector) take(p []byte) error {
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		p = rest
		x, err := evidence.ParseAttempt(line)
		if err != nil || !whole || x.Count > math.MaxInt64-a.attempts {
			a.bad++
			continue
		}
		a.count(x)
		if err := a.c.out.attempt(x); err != nil {
			return err
		}
	}
	return nil
}

func (a *auditCollector) count(x *evidence.Attempt) {
	a.lines++
	a.attempts += x.Count
	layer := x.Layer
	if _, ok := a.layers[layer]; !ok && len(a.layers) >= maxLayers {
		layer = "others"
	}
	a.layers[layer] += x.Count
}

func (c *collector) setAudit(s *Summary) {
	a := &c.audit
	s.Audit = AuditReport{Events: int64(len(c.events)), Lines: a.lines, Attempts: a.attempts, BadLines: a.bad, ByLayer: a.layers}
	if n := missingBlocks(a.have); n > 0 {
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d blocks of the audit between those that are there", n), Why: "their segments are damaged or missing"})
	}
	if lost := a.sealed - a.lines - a.bad; lost > 0 {
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d lines of the audit that were sealed", lost), Why: "the chunks that held them are cut or damaged"})
	}
}

// spool holds attempts until all clocks are known. It lies in the folder of what is opened: it is
// plaintext.
type spool struct {
	file *os.File
	buf  *bufio.Writer
}

const spoolName = ".audit.spool"

// attempt keeps an attempt for audit.jsonl.
func (o *output) attempt(x *evidence.Attempt) error {
	if o.spool == nil {
		f, err := create(o.dir, spoolName)
		if err != nil {
			return err
		}
		o.spool = &spool{f, bufio.NewWriterSize(f, 64<<10)}
	}
	p, err := evidence.Marshal(x)
	if err == nil {
		_, err = o.spool.buf.Write(p)
	}
	return err
}

func (s *spool) remove() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}

// each hands over the attempts in the order in which they came.
func (s *spool) each(f func(*evidence.Attempt) error) error {
	if s == nil {
		return nil
	}
	if err := s.buf.Flush(); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for d := json.NewDecoder(bufio.NewReader(s.file)); ; {
		x := &evidence.Attempt{}
		err := d.Decode(x)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(x)
		}
		if err != nil {
			return err
		}
	}
}

// audit writes audit.jsonl: events, which are sorted, and attempts, which come as they came.
func (o *output) audit(events []event, utc func(boot int64) (string, int64)) error {
	return o.jsonLines("audit.jsonl", func(write func(any) error) error {
		until := func(boot int64) error {
			for len(events) > 0 && events[0].BootUsec <= boot {
				e := events[0]
				events = events[1:]
				text, usec := utc(e.BootUsec)
				if err := write(auditLine{text, usec, e.BootUsec, e.Kind, e.Link, e.Detail}); err != nil {
					return err
				}
			}
			return nil
		}
		err := o.spool.each(func(x *evidence.Attempt) error {
			if err := until(x.Usec); err != nil {
				return err
			}
			text, usec := utc(x.Usec)
			return write(attemptLine{text, usec, x.Usec, eventAttempt, *x})
		})
		return errors.Join(err, until(math.MaxInt64))
	})
}
