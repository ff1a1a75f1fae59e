package flight

import (
	"encoding/binary"
	"path"
	"slices"

	"filippo.io/age"

	"holdfast/crypto/open"
	"holdfast/mavlink"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// Times is what a listing says of a record that it can unlock. Start and End are empty where its
// telemetry is sealed to others.
type Times struct {
	Start, End     string
	Clock          Clock
	SealedToOthers []Sealed
}

// Peek unlocks rec and reads the first and the last segment of its telemetry only.
func (o *Opener) Peek(rec vault.Record) (Times, error) {
	keys, err := o.Unlock(rec)
	if err != nil {
		return Times{}, err
	}
	t := Times{SealedToOthers: keys.SealedToOthers(rec)}
	id := keys.For('T')
	if id == nil {
		return t, nil
	}
	p := &peeker{}
	telemetry := slices.DeleteFunc(slices.Clone(rec.Segments), func(s vault.Segment) bool { return s.Stream != 'T' })
	for i, s := range telemetry {
		if s.File != "" && (i == 0 || i == len(telemetry)-1) {
			o.peek(p, path.Join(rec.Dir, s.File), id)
		}
	}
	t.Clock = weigh(p.pairs)
	if p.any {
		format := formatUTC
		if t.Clock.Source == "none" {
			format = formatBoot
		}
		t.Start, t.End = format(p.first+t.Clock.OffsetUsec), format(p.last+t.Clock.OffsetUsec)
	}
	return t, nil
}

// peek reads one file as far as it goes; a listing tells of damage by state, not by failing.
func (o *Opener) peek(p *peeker, name string, id age.Identity) {
	f, err := o.FS.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	src, size, err := readerAt(f)
	if err != nil {
		return
	}
	s, err := open.Salvage(src, size, id)
	if err != nil {
		return
	}
	d, err := segment.NewDecoder(p)
	if err != nil {
		return
	}
	if o.chunks(s, d) == nil {
		_, _ = d.End()
	}
}

// peeker keeps the clock pairs and the first and last stamps.
type peeker struct {
	pairs       []segment.ClockPair
	offset      int64
	first, last int64
	any         bool
}

func (p *peeker) Meta(m *segment.Meta) error {
	p.pairs = append(p.pairs, m.Clock...)
	p.offset = m.StampOffset
	return nil
}

func (p *peeker) Data(entries []byte, _ bool) error {
	for len(entries) > 8 {
		f, ok := mavlink.ParseFrame(entries[8:])
		if !ok {
			return nil
		}
		p.see(int64(binary.BigEndian.Uint64(entries)) - p.offset)
		entries = entries[8+len(f.Raw):]
	}
	return nil
}

func (p *peeker) Noise(r segment.NoiseRun) error {
	p.see(int64(r.StampUsec) - p.offset)
	return nil
}

func (p *peeker) see(boot int64) {
	if !p.any {
		p.first, p.any = boot, true
	}
	p.last = max(p.last, boot)
}
