package flight

import (
	"encoding/binary"
	"errors"
	"fmt"

	"holdfast/mavlink"
	"holdfast/storage/segment"
)

// collector takes the blocks of a record in order and keeps each once: a block whose sync
// failed on the board was written a second time, with the same number.
type collector struct {
	out   *output
	have  map[uint64]parts
	block uint64
	known parts // what was had of the block before this copy of it
	meta  *segment.Meta

	headers   []*segment.Header
	pairs     []segment.ClockPair
	events    []event
	drops     []segment.Drops
	lines     map[int]segment.LineErrors
	sync      syncTotal
	durable   durable
	gaps      map[source]*GapReport
	messages  map[uint32]*MessageReport
	noise     noiseTotal
	lastNoise *noiseRun
	segments  []SegmentReport
	audit     auditCollector
	streams   map[byte]*pieces // of files, by letter
	files     *files
	sent      sentCollector

	frames       int64 // entries written
	frameBytes   int64
	sealedFrames int64 // entries that the metadata of the seen blocks names
	strayBytes   int64 // of entries that do not parse
	unknown      int64
	firstUsec    int64 // since boot
	lastUsec     int64
	partial      []byte // entries of a block that the medium holds in part
	partialOf    uint64
	partialOff   int64
}

// parts of a block. A copy of a block fills in what another copy could not give.
type parts uint8

const (
	hasMeta parts = 1 << iota
	hasData
	hasNoise
	hasSent
)

type source struct {
	link              int
	system, component uint8
}

type event struct {
	segment.Event
}

func newCollector(out *output) *collector {
	c := &collector{out: out, have: map[uint64]parts{}, gaps: map[source]*GapReport{}, messages: map[uint32]*MessageReport{},
		lines: map[int]segment.LineErrors{}, noise: noiseTotal{reasons: map[string]int64{}},
		streams: map[byte]*pieces{}, files: newFiles(out.dir), sent: sentCollector{counts: map[sentKey]*SentCount{}}}
	c.audit = auditCollector{c: c, have: map[uint64]parts{}, layers: map[string]int64{}}
	return c
}

// close gives up what is open, without finishing it.
func (c *collector) close() error {
	return errors.Join(c.out.close(), c.sent.remove(), c.files.close())
}

// of returns what takes the blocks of a segment's file, and the number of entries that it has.
func (c *collector) of(file string) (h segment.Handler, entries *int64) {
	switch file[0] {
	case segment.StreamAudit:
		return &c.audit, &c.audit.lines
	case segment.StreamAutopilot, segment.StreamVideo, segment.StreamPhoto:
		p := c.stream(file[0])
		return p, &p.count
	}
	return c, &c.frames
}

// Meta opens a block.
func (c *collector) Meta(m *segment.Meta) error {
	c.block, c.meta = m.Block, m
	c.files.began = min(c.files.began, m.BootUsec)
	c.known = c.have[m.Block]
	if m.Header == nil && m.Block != c.partialOf {
		c.takePartial()
	}
	if m.Header != nil {
		c.sent.origins = m.Header.Origins
	}
	if c.known&hasMeta != 0 {
		return nil
	}
	c.have[m.Block] |= hasMeta
	if m.Header != nil {
		c.headers = append(c.headers, m.Header)
	}
	c.sealedFrames += int64(m.Frames)
	c.pairs = append(c.pairs, m.Clock...)
	for _, e := range m.Events {
		c.events = append(c.events, event{Event: e})
	}
	if m.EventsMore > 0 {
		c.events = append(c.events, event{Event: segment.Event{BootUsec: m.BootUsec, Kind: "events_not_listed", Detail: fmt.Sprint(m.EventsMore)}})
	}
	if m.Drops != nil {
		c.drops = append(c.drops, *m.Drops)
	}
	for _, l := range m.Lines {
		c.lines[l.Link] = l
	}
	c.sync.add(m.Sync)
	c.durable.sync(m.Sync)
	c.sealedGaps(m)
	return nil
}

// sealedGaps notes the gaps that the recorder saw.
func (c *collector) sealedGaps(m *segment.Meta) {
	for _, g := range m.Gaps {
		s := source{g.Link, g.System, g.Component}
		r := c.gaps[s]
		if r == nil {
			r = &GapReport{Link: g.Link, System: g.System, Component: g.Component}
			c.gaps[s] = r
		}
		r.Gaps++
		r.LostFrames += int64(g.Lost)
		c.events = append(c.events, event{Event: segment.Event{BootUsec: g.BootUsec, Kind: "sequence_gap",
			Detail: fmt.Sprintf("system %d component %d: expected %d, got %d, %d frames missing", g.System, g.Component, g.Expected, g.Got, g.Lost)}})
	}
	if m.GapsMore != nil {
		s := source{-1, 0, 0}
		if c.gaps[s] == nil {
			c.gaps[s] = &GapReport{Link: -1}
		}
		c.gaps[s].Gaps += int64(m.GapsMore.Gaps)
		c.gaps[s].LostFrames += int64(m.GapsMore.Lost)
	}
}

// Data takes the entries of a block. Those of a block that is there in part wait: a whole
// copy may follow in the next segment.
func (c *collector) Data(entries []byte, part bool) error {
	if c.meta == nil || c.known&hasData != 0 {
		return nil
	}
	if part {
		c.partial, c.partialOf, c.partialOff = append([]byte(nil), entries...), c.block, c.meta.StampOffset
		return nil
	}
	if c.block == c.partialOf {
		c.partial = nil // this is the whole copy
	}
	c.have[c.block] |= hasData
	return c.entries(entries, c.meta.StampOffset)
}

// takePartial gives up waiting for the whole copy of a block that is there in part. Such a copy
// is written only after a failed sync, right behind the header of the next segment.
func (c *collector) takePartial() {
	if c.partial == nil {
		return
	}
	p := c.partial
	c.partial = nil
	c.have[c.partialOf] |= hasData
	c.keep(c.entries(p, c.partialOff))
}

func (c *collector) keep(err error) {
	if err != nil && c.out.err == nil {
		c.out.err = err
	}
}

// entries writes .tlog entries with stamps since boot; finish puts UTC in.
func (c *collector) entries(p []byte, offset int64) error {
	for len(p) > 0 {
		if len(p) < 9 {
			c.strayBytes += int64(len(p))
			return nil
		}
		f, ok := mavlink.ParseFrame(p[8:])
		if !ok { // the end of a block that is there in part
			c.strayBytes += int64(len(p))
			return nil
		}
		boot := int64(binary.BigEndian.Uint64(p)) - offset
		c.count(&f, boot)
		c.durable.entry(boot)
		if err := c.out.entry(boot, f.Raw); err != nil {
			return err
		}
		p = p[8+len(f.Raw):]
	}
	return nil
}

func (c *collector) count(f *mavlink.Frame, boot int64) {
	if c.frames == 0 {
		c.firstUsec = boot
	}
	c.lastUsec = max(c.lastUsec, boot)
	c.frames++
	c.frameBytes += int64(len(f.Raw))
	m := c.messages[f.ID]
	if m == nil {
		m = newMessageReport(f)
		c.messages[f.ID] = m
	}
	m.Count++
	m.Bytes += int64(len(f.Raw))
	if !f.Known {
		c.unknown++
	}
}

// Noise takes a run of bytes that belong to no frame.
func (c *collector) Noise(r segment.NoiseRun) error {
	if c.meta == nil || c.known&hasNoise != 0 {
		return nil
	}
	c.have[c.block] |= hasNoise
	boot := int64(r.StampUsec) - c.meta.StampOffset
	reason := mavlink.Reason(r.Reason)
	c.noise.bytes += int64(len(r.Data))
	c.noise.reasons[reason.String()] += int64(len(r.Data))
	if c.frames == 0 && c.noise.runs == 0 {
		c.firstUsec = boot
	}
	c.lastUsec = max(c.lastUsec, boot)
	if err := c.out.noiseBytes(r.Data); err != nil {
		return err
	}
	// The scanner hands a long run out in pieces; bytes without a start byte that follow each
	// other are one run.
	if l := c.lastNoise; l != nil && reason == mavlink.NoStart && l.reason == reason && l.link == r.Link && l.offset+l.length == r.Offset {
		l.length += int64(len(r.Data))
		return nil
	}
	c.noise.runs++
	run := noiseRun{offset: r.Offset, boot: boot, length: int64(len(r.Data)), link: r.Link, reason: reason}
	c.out.runs = append(c.out.runs, run)
	c.lastNoise = &c.out.runs[len(c.out.runs)-1]
	return nil
}

// missingBlocks counts the numbers that were skipped between the first and the last block.
func missingBlocks(have map[uint64]parts) int64 {
	var last uint64
	for n := range have {
		last = max(last, n)
	}
	if len(have) == 0 {
		return 0
	}
	return int64(last) + 1 - int64(len(have))
}

type noiseTotal struct {
	bytes, runs int64
	reasons     map[string]int64
}

type syncTotal struct {
	count    int64
	max, sum int64
}

func (t *syncTotal) add(s *segment.Sync) {
	if s == nil {
		return
	}
	t.count += int64(s.Count)
	t.sum += s.SumUsec
	t.max = max(t.max, s.MaxUsec)
}
