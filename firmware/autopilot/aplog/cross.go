package aplog

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast/storage/segment"
)

// streamed is a log that came by streaming, as far as comparing it needs.
type streamed struct {
	file        int // its number in the stream of the record
	bytes, lost int64
	dig         *digest
}

// crosscheck compares the two copies of a log.
type crosscheck struct {
	ended   []*streamed // since the newest list, the newest last
	reports []report    // that the Store has to take
}

// Bounds: streamed logs that wait for their other copy, reports that wait for the Store, and rows
// of a report.
const (
	maxStreamed = 4
	maxReports  = 4
	maxRows     = 256
)

// report is the JSON of a report file. Docs: docs/autopilot-logs.md.
type report struct {
	Log    int    `json:"log"`
	Flight string `json:"flight,omitempty"`
	Stream half   `json:"stream"`
	Pull   half   `json:"pull"`
	// Equal: nothing differs. How says by what: "bytes", or "messages" where the two were never
	// meant to be the same file.
	Equal bool   `json:"equal"`
	How   string `json:"how"`
	// Differ are the ranges, in pieces of 4 KiB, that both have whole and that differ; only where
	// most pieces are the same, so that offsets mean the same in both.
	Differ     []segment.Range `json:"differ,omitempty"`
	OnlyStream []segment.Range `json:"only_stream,omitempty"`
	OnlyPull   []segment.Range `json:"only_pull,omitempty"`
	Types      []typeRow       `json:"types,omitempty"` // that differ

	id   int // of the report's file
	same int // pieces that are the same
}

type half struct {
	File     int    `json:"file"`
	Bytes    int64  `json:"bytes"`
	Lost     int64  `json:"lost_bytes"`
	Messages uint64 `json:"messages"`
}

// typeRow is a type of message that differs. The same number on both sides: what they say differs.
type typeRow struct {
	Name   string `json:"name"`
	Stream uint64 `json:"stream"`
	Pull   uint64 `json:"pull"`
}

func (c *crosscheck) streamed(s *streamed) {
	c.ended = append(c.ended, s)
	c.ended = c.ended[max(0, len(c.ended)-maxStreamed):]
}

// pair gives the logs that came since the list before, the newest first, the streams that ended
// since.
func (c *crosscheck) pair(logs []entry) {
	for i := range logs {
		if at := len(c.ended) - 1 - logs[i].age; logs[i].age >= 0 && at >= 0 {
			logs[i].stream = c.ended[at]
		}
	}
	c.ended = nil
}

// pulled compares a log that was pulled with its streamed copy.
func (c *crosscheck) pulled(l *Logs, t *transfer) {
	s := t.e.stream
	if s == nil || t.failed != "" {
		return
	}
	t.e.stream = nil
	r := compare(s, t)
	l.cfg.Event("log_crosscheck", fmt.Sprintf("log=%d equal=%v how=%s stream_bytes=%d pull_bytes=%d stream_messages=%d pull_messages=%d types_differ=%d",
		r.Log, r.Equal, r.How, r.Stream.Bytes, r.Pull.Bytes, r.Stream.Messages, r.Pull.Messages, len(r.Types)))
	if len(c.reports) < maxReports {
		r.id = l.cfg.NewID()
		c.reports = append(c.reports, r)
	}
}

func compare(s *streamed, t *transfer) report {
	r := report{Log: int(t.e.id), Flight: t.e.of,
		Stream: half{File: s.file, Bytes: s.bytes, Lost: s.lost},
		Pull:   half{File: t.out.f.ID, Bytes: t.out.bytes, Lost: t.out.whole}}
	r.types(s.dig.walk.counts(), t.dig.walk.counts())
	a, b := &s.dig.blocks, &t.dig.blocks
	full := s.lost == 0 && t.out.whole == 0 && !a.off && s.dig.size == t.dig.size && s.dig.size <= maxBlocks*blockSize
	r.ranges(a, b, s.dig.size, t.dig.size)
	if full && r.same == len(a.all()) {
		r.Equal, r.How = true, "bytes"
		return r
	}
	r.Equal, r.How = len(r.Types) == 0 && r.Stream.Messages > 0, "messages"
	return r
}

// types adds up the messages and notes the types that differ.
func (r *report) types(stream, pull []count) {
	other := map[string]count{}
	for _, p := range pull {
		r.Pull.Messages += p.Count
		other[p.Name] = p
	}
	for _, s := range stream {
		r.Stream.Messages += s.Count
		p := other[s.Name]
		delete(other, s.Name)
		if s.Count != p.Count || s.Sum != p.Sum {
			r.row(typeRow{s.Name, s.Count, p.Count})
		}
	}
	for _, p := range pull { // in their order, not in the map's
		if _, only := other[p.Name]; only {
			r.row(typeRow{p.Name, 0, p.Count})
		}
	}
}

func (r *report) row(t typeRow) {
	if len(r.Types) < maxRows {
		r.Types = append(r.Types, t)
	}
}

// ranges compares piece by piece, as far as both go.
func (r *report) ranges(a, b *blocks, stream, pull int64) {
	if a.off || b.off {
		return
	}
	x, y := a.all(), b.all()
	differ, both := 0, min(stream, pull)
	for i := range max(len(x), len(y)) {
		piece := segment.Range{From: int64(i) * blockSize, To: min(int64(i+1)*blockSize, max(stream, pull))}
		if piece.To > both && stream != pull {
			break // one ends in it
		}
		sa, sb := at(x, i), at(y, i)
		switch {
		case sa == sb && sa != 0:
			r.same++
		case sa != 0 && sb != 0:
			differ++
			r.Differ = extend(r.Differ, piece)
		case sa != 0:
			r.OnlyStream = extend(r.OnlyStream, piece)
		case sb != 0:
			r.OnlyPull = extend(r.OnlyPull, piece)
		}
	}
	if differ > r.same {
		r.Differ, r.OnlyStream, r.OnlyPull = nil, nil, nil
		return
	}
	r.rest(stream, pull)
}

// rest notes what one has behind the end of the other.
func (r *report) rest(stream, pull int64) {
	if stream > pull {
		r.OnlyStream = extend(r.OnlyStream, segment.Range{From: pull, To: stream})
	}
	if pull > stream {
		r.OnlyPull = extend(r.OnlyPull, segment.Range{From: stream, To: pull})
	}
}

// at is a sum, 0 where there is none.
func at(sums []uint32, i int) uint32 {
	if i >= len(sums) {
		return 0
	}
	return sums[i]
}

func extend(rs []segment.Range, r segment.Range) []segment.Range {
	if n := len(rs); n > 0 && rs[n-1].To == r.From {
		rs[n-1].To = r.To
		return rs
	}
	if len(rs) >= maxRows {
		return rs
	}
	return append(rs, r)
}

// step hands reports to the Store.
func (c *crosscheck) step(l *Logs, now time.Duration) time.Duration {
	for len(c.reports) > 0 {
		r := c.reports[0]
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil { // it has no field that could fail
			c.reports = c.reports[1:]
			continue
		}
		f := segment.File{ID: r.id, Kind: segment.KindReport, Source: "autopilot", Format: "json",
			Name: fmt.Sprintf("log-%d-crosscheck.json", r.Log), Size: int64(len(data)), BeganUsec: now.Microseconds(),
			BootUsec: now.Microseconds(), Of: r.Flight, Log: r.Log, End: true}
		if _, ok := l.cfg.Store.Put(f, data); !ok {
			return now + storeRetry
		}
		c.reports = c.reports[1:]
	}
	return never
}
