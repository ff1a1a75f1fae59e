package flight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/storage/segment"
)

// pieces takes the blocks of one stream of files (A, V or P) and keeps each once. The data of a
// block is a piece of a file.
type pieces struct {
	c      *collector
	letter byte
	have   map[uint64]parts
	meta   *segment.Meta
	known  parts
	block  uint64

	count int64 // pieces taken
	bytes int64 // of them
	stray int64 // bytes of blocks that name no file
}

// Meta opens a block.
func (p *pieces) Meta(m *segment.Meta) error {
	p.block, p.meta, p.known = m.Block, m, p.have[m.Block]
	p.c.files.began = min(p.c.files.began, m.BootUsec)
	if p.known&hasMeta != 0 {
		return nil
	}
	p.have[m.Block] |= hasMeta
	if m.Header != nil {
		p.c.headers = append(p.c.headers, m.Header)
	}
	p.c.pairs = append(p.c.pairs, m.Clock...)
	for _, e := range m.Events {
		p.c.events = append(p.c.events, event{Event: e})
	}
	if m.File == nil {
		return nil
	}
	return p.c.files.told(p.letter, m.File)
}

// Data takes a piece. That of a block which the medium holds in part is taken as it is: where a
// whole copy follows, its bytes are the same.
func (p *pieces) Data(data []byte, part bool) error {
	if p.meta == nil || p.known&hasData != 0 {
		return nil
	}
	if !part {
		p.have[p.block] |= hasData
		p.count++
		p.bytes += int64(len(data))
	}
	if p.meta.File == nil {
		p.stray += int64(len(data))
		return nil
	}
	return p.c.files.piece(p.letter, p.meta.File, data)
}

// Noise implements segment.Handler; there is none in these streams.
func (p *pieces) Noise(segment.NoiseRun) error { return nil }

// streamNames are what a reader of flight.json is told.
var streamNames = map[byte]string{segment.StreamTelemetry: "telemetry", segment.StreamAudit: "audit",
	segment.StreamAutopilot: "autopilot", segment.StreamVideo: "video", segment.StreamPhoto: "photo"}

// stream returns what takes the blocks of a stream of files.
func (c *collector) stream(letter byte) *pieces {
	p := c.streams[letter]
	if p == nil {
		p = &pieces{c: c, letter: letter, have: map[uint64]parts{}}
		c.streams[letter] = p
	}
	p.meta = nil // a file of the vault begins
	return p
}

// StreamReport counts what is in the segments of one stream; the key in flight.json is its letter.
type StreamReport struct {
	Name          string `json:"name"`
	Segments      int64  `json:"segments"`
	Bytes         int64  `json:"bytes"` // sealed
	Blocks        int64  `json:"blocks"`
	MissingBlocks int64  `json:"missing_blocks"`
	// Of streams of files:
	Files     int64 `json:"files,omitempty"`
	FileBytes int64 `json:"file_bytes,omitempty"`
	Holes     int64 `json:"holes,omitempty"`
	LostBytes int64 `json:"lost_bytes,omitempty"`
}

// setStreams fills in the counts of each stream, and what is missing of those of files.
func (c *collector) setStreams(s *Summary) {
	s.Streams = map[string]*StreamReport{}
	for _, g := range c.segments {
		r := s.stream(g.Name[0])
		r.Segments++
		r.Bytes += g.Bytes
	}
	c.blocks(s, segment.StreamTelemetry, c.have)
	c.blocks(s, segment.StreamAudit, c.audit.have)
	c.setRefused(s)
	for _, letter := range []byte{segment.StreamAutopilot, segment.StreamVideo, segment.StreamPhoto} {
		p := c.streams[letter]
		if p == nil {
			continue
		}
		c.blocks(s, letter, p.have)
		if n := missingBlocks(p.have); n > 0 {
			s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d blocks of stream %c between those that are there", n, letter), Why: "their segments are damaged or missing"})
		}
		if p.stray > 0 {
			s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("a place for %d bytes of stream %c", p.stray, letter), Why: "their blocks do not say of which file they are"})
		}
	}
}

// setRefused names the streams that the recorder refused to keep.
func (c *collector) setRefused(s *Summary) {
	times := map[string]int{}
	for _, e := range c.events {
		if e.Kind == "media_refused" && len(e.Detail) > 0 && strings.IndexByte("VPA", e.Detail[0]) >= 0 {
			times[e.Detail[:1]]++
		}
	}
	for _, letter := range slices.Sorted(maps.Keys(times)) {
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("parts of stream %s, refused %d times", letter, times[letter]), Why: "the room that was left on the medium is kept for telemetry"})
	}
}

func (c *collector) blocks(s *Summary, letter byte, have map[uint64]parts) {
	if len(have) > 0 || s.Streams[string(letter)] != nil {
		r := s.stream(letter)
		r.Blocks, r.MissingBlocks = int64(len(have)), missingBlocks(have)
	}
}

func (s *Summary) stream(letter byte) *StreamReport {
	r := s.Streams[string(letter)]
	if r == nil {
		r = &StreamReport{Name: streamNames[letter]}
		s.Streams[string(letter)] = r
	}
	return r
}
