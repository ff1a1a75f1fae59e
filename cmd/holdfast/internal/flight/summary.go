package flight

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"holdfast/crypto/custody"
	"holdfast/crypto/open"
	"holdfast/mavlink"
	"holdfast/mavlink/names"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// Summary is flight.json.
type Summary struct {
	Format            int                       `json:"format"`
	Device            string                    `json:"device"`
	Record            string                    `json:"record"`
	Kind              string                    `json:"kind"`
	State             vault.State               `json:"state"`
	Signed            bool                      `json:"signed"`
	UnsignedTailBytes int64                     `json:"unsigned_tail_bytes"`
	Verification      *Verification             `json:"verification,omitempty"`
	Continues         string                    `json:"continues,omitempty"`
	Boot              string                    `json:"boot"`
	Version           string                    `json:"version"`
	Board             string                    `json:"board"`
	Lock              string                    `json:"lock"`
	Grade             string                    `json:"grade"`
	Links             []segment.Link            `json:"links"`
	Notes             []segment.Note            `json:"notes,omitempty"`
	Operator          string                    `json:"operator,omitempty"` // tags of the configuration
	Case              string                    `json:"case,omitempty"`
	Span              Span                      `json:"span"`
	Clock             Clock                     `json:"clock"`
	Frames            int64                     `json:"frames"`
	FrameBytes        int64                     `json:"frame_bytes"`
	UnknownIDFrames   int64                     `json:"unknown_id_frames"`
	Messages          map[string]*MessageReport `json:"messages"`
	Gaps              GapsReport                `json:"gaps"`
	Noise             NoiseReport               `json:"noise"`
	LineErrors        []segment.LineErrors      `json:"line_errors"`
	RingDrops         DropReport                `json:"ring_drops"`
	Sync              SyncReport                `json:"sync"`
	Durable           *DurableReport            `json:"durable,omitempty"`
	Audit             AuditReport               `json:"audit"`
	Sent              SentReport                `json:"sent"`
	Streams           map[string]*StreamReport  `json:"streams"`
	Files             []*FileReport             `json:"files"`
	Segments          []SegmentReport           `json:"segments"`
	Missing           []Missing                 `json:"missing"`
	// SealedToOthers are streams that no identity given opens: nothing is wrong with them.
	SealedToOthers []Sealed `json:"sealed_to_others,omitempty"`
}

// Span is the time from the first to the last byte.
type Span struct {
	Start         string  `json:"start"`
	End           string  `json:"end"`
	Seconds       float64 `json:"seconds"`
	StartBootUsec int64   `json:"start_boot_usec"`
	EndBootUsec   int64   `json:"end_boot_usec"`
}

// MessageReport counts the frames of one message id; the key in flight.json is the id.
type MessageReport struct {
	Name      string `json:"name"`
	Count     int64  `json:"count"`
	Bytes     int64  `json:"bytes"`
	UnknownID bool   `json:"unknown_id,omitempty"`
}

func newMessageReport(f *mavlink.Frame) *MessageReport {
	return &MessageReport{Name: names.MessageName(f.ID), UnknownID: !f.Known}
}

// GapsReport is what the sequence numbers say is missing: it never reached this board.
type GapsReport struct {
	Gaps       int64       `json:"gaps"`
	LostFrames int64       `json:"lost_frames"`
	Sources    []GapReport `json:"sources"`
}

// GapReport counts the gaps of one component. Link -1 stands for those that were counted but
// not listed one by one.
type GapReport struct {
	Link       int   `json:"link"`
	System     uint8 `json:"system"`
	Component  uint8 `json:"component"`
	Gaps       int64 `json:"gaps"`
	LostFrames int64 `json:"lost_frames"`
}

// NoiseReport counts the bytes that belong to no frame.
type NoiseReport struct {
	Bytes   int64            `json:"bytes"`
	Runs    int64            `json:"runs"`
	Reasons map[string]int64 `json:"reasons"` // bytes by reason
}

// DropReport counts what found no room in the board's memory.
type DropReport struct {
	Frames     int64 `json:"frames"`
	Bytes      int64 `json:"bytes"`
	NoiseBytes int64 `json:"noise_bytes"`
	Times      int64 `json:"times"`
}

// SyncReport is how long the medium took to make data durable.
type SyncReport struct {
	Count    int64 `json:"count"`
	MeanUsec int64 `json:"mean_usec"`
	MaxUsec  int64 `json:"max_usec"`
}

// SegmentReport is what became of one segment.
type SegmentReport struct {
	Name      string      `json:"name"`
	State     vault.State `json:"state"`
	Bytes     int64       `json:"bytes"`
	Frames    int64       `json:"frames"`
	LostBytes int64       `json:"lost_bytes,omitempty"`
	Why       string      `json:"why,omitempty"`
}

// verified takes the worse of what was read and what the public log says of the file.
func (r *SegmentReport) verified(t trust, file string) {
	if !t.asked {
		return
	}
	v := custody.VerdictUnsigned
	if s := t.segment(file); s != nil {
		v = s.State
	}
	r.State = r.State.Worse(vault.State(v))
}

// Verification is what the public log says of the record.
type Verification struct {
	State    vault.State             `json:"state"`
	Why      string                  `json:"why,omitempty"`
	Findings []custody.Finding       `json:"findings,omitempty"`
	Segments []custody.SegmentReport `json:"segments"`
	// UnverifiedFrames are below unverified/.
	UnverifiedFrames int64 `json:"unverified_frames"`
}

// Missing is something that is not in the record, and why.
type Missing struct {
	What string `json:"what"`
	Why  string `json:"why"`

	file *FileReport // that it is about, where it is about one
}

func (r *SegmentReport) unreadable(err error) {
	r.State, r.LostBytes, r.Why = vault.StateDamaged, r.Bytes, err.Error()
	if errors.Is(err, open.ErrNoIdentity) {
		r.Why = "it is not sealed for this record"
	}
}

// judge sets the state by what could be read.
func (r *SegmentReport) judge(s open.Result, d segment.Stats) {
	r.LostBytes += s.LostBytes + d.SkippedBytes
	switch {
	case s.Damaged || d.BadFrames > 0:
		r.State = vault.StateDamaged
		r.Why = fmt.Sprintf("%d chunks do not authenticate or cannot be read", s.BadChunks)
	case r.State == vault.StateClean && !s.Ended:
		r.State = vault.StateDamaged
		r.Why = "it was closed in good order, and its end is not there any more"
	case r.State == vault.StateCut && s.Ended:
		r.State = vault.StateClean // whole, only its name was not changed yet
	case r.State == vault.StateCut:
		r.Why = "power or process ended it; whole up to there"
	}
}

// finish puts UTC in and writes the summary. more, where set, adds to it before.
func finish(c *collector, w *output, dev vault.Device, rec vault.Record, more func(*Summary)) (*Summary, error) {
	c.takePartial()
	c.keep(c.audit.takePartial())
	s := c.summary(dev, rec)
	t := times{s.Clock}
	if err := c.setFiles(s, t); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if more != nil {
		more(s)
	}
	offset, utc := s.Clock.OffsetUsec, t.utc
	s.Span.Start, _ = utc(c.firstUsec)
	s.Span.End, _ = utc(c.lastUsec)
	slices.SortStableFunc(c.events, func(a, b event) int { return cmp.Compare(a.BootUsec, b.BootUsec) })
	err := errors.Join(w.err, w.restamp(offset), w.noiseIndex(utc), w.audit(c.events, utc),
		c.sent.write(w, t, s.Links), w.close())
	if err == nil {
		err = w.summary(s)
	}
	return s, err
}

func (c *collector) summary(dev vault.Device, rec vault.Record) *Summary {
	s := &Summary{Format: 1, Device: dev.ID, Record: rec.ID.String(), Kind: rec.ID.Kind.String(), Frames: c.frames, FrameBytes: c.frameBytes,
		UnknownIDFrames: c.unknown, Messages: map[string]*MessageReport{}, Segments: c.segments, Missing: []Missing{}, Files: []*FileReport{}, LineErrors: []segment.LineErrors{},
		Clock: weigh(c.pairs), Noise: NoiseReport{c.noise.bytes, c.noise.runs, c.noise.reasons},
		Sync: SyncReport{Count: c.sync.count, MaxUsec: c.sync.max}, State: rec.State}
	s.Span = Span{Seconds: float64(c.lastUsec-c.firstUsec) / 1e6, StartBootUsec: c.firstUsec, EndBootUsec: c.lastUsec}
	s.Durable = c.durable.result()
	if c.sync.count > 0 {
		s.Sync.MeanUsec = c.sync.sum / c.sync.count
	}
	for id, m := range c.messages {
		s.Messages[fmt.Sprint(id)] = m
	}
	for _, l := range c.lines {
		s.LineErrors = append(s.LineErrors, l)
	}
	slices.SortFunc(s.LineErrors, func(a, b segment.LineErrors) int { return a.Link - b.Link })
	c.setHeader(s)
	c.setGaps(s)
	c.setDrops(s)
	c.setAudit(s)
	c.setSent(s)
	c.setStreams(s)
	c.setState(s, rec)
	return s
}

func (c *collector) setHeader(s *Summary) {
	if len(c.headers) == 0 {
		return
	}
	h := c.headers[0]
	s.Continues, s.Boot, s.Version, s.Board, s.Lock, s.Grade = h.Continues, h.Boot, h.Version, h.Board, h.Lock, h.Grade
	s.Links, s.Notes, s.Operator, s.Case = h.Links, h.Notes, h.Operator, h.Case
	for _, h := range c.headers {
		if h.Device != s.Device || h.Record != s.Record {
			s.Missing = append(s.Missing, Missing{What: "a place for a foreign segment", Why: fmt.Sprintf("segment %d says that it belongs to %s of device %s", h.Segment, h.Record, h.Device)})
			s.State = s.State.Worse(vault.StateDamaged)
		}
	}
}

func (c *collector) setGaps(s *Summary) {
	s.Gaps.Sources = []GapReport{}
	for _, g := range c.gaps {
		s.Gaps.Gaps += g.Gaps
		s.Gaps.LostFrames += g.LostFrames
		s.Gaps.Sources = append(s.Gaps.Sources, *g)
	}
	slices.SortFunc(s.Gaps.Sources, func(a, b GapReport) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.System, b.System), cmp.Compare(a.Component, b.Component))
	})
	if s.Gaps.LostFrames > 0 {
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d frames by their sequence numbers", s.Gaps.LostFrames), Why: "they did not reach the board, or not intact (see noise)"})
	}
}

func (c *collector) setDrops(s *Summary) {
	for _, d := range c.drops {
		s.RingDrops.Frames += d.Frames
		s.RingDrops.Bytes += d.Bytes
		s.RingDrops.NoiseBytes += d.NoiseBytes
		s.RingDrops.Times++
	}
	if s.RingDrops.Bytes > 0 {
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d bytes (%d frames)", s.RingDrops.Bytes, s.RingDrops.Frames), Why: "no room in the board's memory: its medium was too slow or refused writes"})
	}
}

// setState takes the worst of what was found, and names what is missing.
func (c *collector) setState(s *Summary, rec vault.Record) {
	// The folder's state was judged by names alone; what was read decides.
	state := vault.State("")
	for _, g := range c.segments {
		state = state.Worse(g.State)
		if g.State == vault.StateDamaged || g.State == vault.StateMissing {
			s.Missing = append(s.Missing, Missing{What: "parts of segment " + g.Name, Why: g.Why})
		}
	}
	if len(c.segments) == 0 {
		state = rec.State
	}
	if s.State == vault.StateDamaged { // by a foreign header
		state = state.Worse(vault.StateDamaged)
	}
	s.State = state
	if n := missingBlocks(c.have); n > 0 {
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d blocks between those that are there", n), Why: "their segments are damaged or missing"})
	}
	if lost := c.sealedFrames - c.frames; lost > 0 {
		s.Missing = append(s.Missing, Missing{What: fmt.Sprintf("%d frames that were sealed", lost), Why: "the chunks that held them are cut or damaged"})
	}
	if state == vault.StateCut {
		s.Missing = append(s.Missing, Missing{What: "what came after the last flush", Why: "power or process ended the record: at most 250 ms while armed, 1 s otherwise, on a medium that syncs within 50 ms"})
	}
}
