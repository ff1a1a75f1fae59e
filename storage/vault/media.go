package vault

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/crypto/seal"
	"holdfast/storage/segment"
)

var (
	// ErrReserve: the free space that is left is kept for streams that matter more.
	ErrReserve = errors.New("vault: the space that is left is reserved")
	// ErrStream: a block that belongs to no file of stream V or P.
	ErrStream = errors.New("vault: no block of a video or photo")
	// ErrBusy: too many segments wait for the public log; the next one is begun when it names some.
	ErrBusy = errors.New("vault: too many segments wait for the public log")
)

const (
	// videoAfter and videoBytes end a segment of video: its age and the size of its file.
	videoAfter = 10 * time.Second
	videoBytes = 64 << 20
	// photoAfter ends the segment of a photo whose end does not come.
	photoAfter = time.Minute
	// mediaWait is how long a block may wait for its sync.
	mediaWait = time.Second
	// mediaSlow is how many bytes of plaintext make a stream fast: it is not padded then.
	mediaSlow = 256 << 10
	// mediaDirty is how much of media may wait in the kernel: telemetry's sync shares the disk.
	mediaDirty = 4 << 20
	// mediaRetry is how long a stream waits after the medium refused it.
	mediaRetry = time.Second
	// maxMediaSegments bounds the segments of media that no leaf C or X names: a checkpoint has
	// room for that many open lines beside those of the other streams.
	maxMediaSegments = 40
	// sealOverhead is more than sealing adds to n bytes beside n/4096: header, tags.
	sealOverhead = 16 << 10
)

// Media writes streams V and P into the record that is open, beside the vault and without waiting
// for it: one goroutine owns a Media and calls Append, Flush, Due and End; only Wake is for all.
// It keeps no content in memory. The public log, and with it each clean close, is the vault's
// part, whose Step must go on being called.
type Media struct {
	v      *Vault // only what never changes: cfg.Now, cfg.DeviceID, cfg.YieldBelow, path
	fs     FS
	enc    *segment.Encoder
	box    mailbox
	buf    []byte
	open   map[mediaKey]*mediaFile
	lost   map[mediaKey]lostPiece
	retry  map[byte]time.Duration
	failed error // why retry waits
	dirty  int64 // bytes of all open segments that no sync has covered
}

// mediaKey is what has one open segment at a time.
type mediaKey struct {
	letter byte
	source string
}

// lostPiece is what a medium that failed has cost of a file.
type lostPiece struct {
	place   *place
	id      int
	began   int64 // segment.File.BeganUsec: with the id it tells the file in the next record
	piece   segment.Range
	dropped int64 // segment.File.LostBytes of the blocks in it
}

// mediaFile is a segment that is being written.
type mediaFile struct {
	*mediaSegment
	key     mediaKey
	id      int
	began   int64 // segment.File.BeganUsec
	file    *hashedFile
	sealer  *seal.Sealer
	begun   time.Duration
	since   time.Duration // arrival of the oldest block that is not synced
	waits   bool          // there is one
	fresh   int           // bytes of plaintext since the last flush
	clean   int64         // bytes of the file that a sync has covered
	plain   int64         // bytes of plaintext
	span    span
	pending []pendingPiece // that no sync has covered as a whole
}

// pendingPiece is a piece of a file that is lost where the medium fails now.
type pendingPiece struct {
	end     int64 // of its block in the plaintext
	piece   segment.Range
	dropped int64 // what its block tells as lost before it, and no other will
}

// NewMedia returns what writes streams V and P. fs is a handle of its own on the tree of the
// vault. notify is called on the goroutine of Media where the vault's Step has something to do;
// it must not wait, and may be nil. NewMedia itself belongs to the vault's goroutine, is called once, and Config.Now must
// be fit for both.
func (v *Vault) NewMedia(fs FS, notify func()) *Media {
	enc, err := segment.NewEncoder()
	if err != nil { // as Open's: it depends on nothing that changes
		enc = v.enc
	}
	m := &Media{v: v, fs: fs, enc: enc, open: map[mediaKey]*mediaFile{}, lost: map[mediaKey]lostPiece{}, retry: map[byte]time.Duration{}}
	m.box.notify = notify
	m.box.wake = make(chan struct{}, 1)
	v.media = m
	if v.rec != nil {
		v.moveMedia(v.rec)
	}
	return m
}

// Wake is ready to be received from where the vault waits for Flush: a record has ended.
func (m *Media) Wake() <-chan struct{} { return m.box.wake }

// Append writes a block of stream V or P, with Meta.File set, into the open segment of its
// Source. A segment of video ends after 10 s, 64 MiB, with its file, and where File.ID changes; one of a
// photo with its file. The block is durable within a second where Flush is called when it is due;
// the last bytes of a fast stream, less than 64 KiB, a second later. b stays as it is, and its
// slices are free again.
//
// Errors: ErrClosed where no record is open; ErrStream; ErrReserve below YieldBelow; ErrBusy; else
// those of the medium, which is tried again after a second. After an error b is not in the record.
// What a failing medium had taken before and has not kept is named as Lost in the next block of
// the same file.
func (m *Media) Append(letter byte, b *segment.Block) error {
	if letter != segment.StreamVideo && letter != segment.StreamPhoto || b.Meta.File == nil {
		return ErrStream
	}
	p := m.box.enter()
	defer m.box.leave(p)
	m.sealOthers(p)
	if p == nil {
		return ErrClosed
	}
	key := mediaKey{letter, b.Meta.File.Source}
	if err := m.reserve(p, letter, len(b.Data)); err != nil {
		return err
	}
	f, err := m.segment(p, key, b.Meta.File.ID)
	if err != nil {
		return err
	}
	if err := m.write(f, b); err != nil {
		return err
	}
	if b.Meta.File.End {
		return m.seal(f)
	}
	return m.drain()
}

// Flush makes durable what is due, and ends segments that are. now is the time since boot. Errors
// are those of the medium; what they cost is named as Append says.
func (m *Media) Flush(now time.Duration) error {
	p := m.box.enter()
	defer m.box.leave(p)
	err := m.sealOthers(p)
	for _, f := range m.files() {
		switch {
		case now >= f.endsAt() && m.box.mayBegin():
			err = errors.Join(err, m.seal(f))
		case f.waits && now >= f.since+mediaWait:
			err = errors.Join(err, m.flush(f))
		}
	}
	return err
}

// Due tells when the next Flush is due; ok is false where none is.
func (m *Media) Due() (at time.Duration, ok bool) {
	p := m.box.now()
	for _, f := range m.open {
		if next, due := m.dueOf(f, p); due && (!ok || next < at) {
			at, ok = next, true
		}
	}
	return at, ok
}

// dueOf is Due of one segment; p is where segments are begun.
func (m *Media) dueOf(f *mediaFile, p *place) (at time.Duration, ok bool) {
	if f.place != p {
		return 0, true
	}
	if m.box.mayBegin() {
		at, ok = f.endsAt(), true
	}
	if sync := f.since + mediaWait; f.waits && (!ok || sync < at) {
		at, ok = sync, true
	}
	return at, ok
}

// End ends all open segments. Append begins others, where a record is open.
func (m *Media) End() (err error) {
	for _, f := range m.files() {
		err = errors.Join(err, m.seal(f))
	}
	return err
}

// files lists the open segments in the order of their numbers.
func (m *Media) files() []*mediaFile {
	return slices.SortedFunc(maps.Values(m.open), func(a, b *mediaFile) int {
		return cmp.Or(cmp.Compare(a.letter, b.letter), cmp.Compare(a.number, b.number))
	})
}

// sealOthers ends segments of records other than that of p, which may be nil.
func (m *Media) sealOthers(p *place) (err error) {
	strange := false
	for _, f := range m.open {
		strange = strange || f.place != p
	}
	if !strange {
		return nil
	}
	for _, f := range m.files() {
		if f.place != p {
			err = errors.Join(err, m.seal(f))
		}
	}
	return err
}

// reserve keeps media out of the space that is kept for streams that matter more, n bytes ahead.
// Leaf X says so, once until there is room again.
func (m *Media) reserve(p *place, letter byte, n int) error {
	free, err := m.fs.Free()
	if err != nil {
		return fmt.Errorf("media: free space: %w", err)
	}
	need := m.v.cfg.yieldBelow(letter) + int64(n+n/4096+sealOverhead)
	if p.refused[letter] {
		need += mediaDirty // not with each file that telemetry closes
	}
	if free >= need {
		p.refused[letter] = false
		return nil
	}
	for _, f := range m.files() {
		if f.letter == letter {
			_ = m.seal(f) // what it cost is told by leaf X, as ever
		}
	}
	if !p.refused[letter] {
		p.refused[letter] = true
		p.segments[letter]++
		m.box.post(mediaEvent{kind: mediaRefused, seg: &mediaSegment{place: p, letter: letter, number: p.segments[letter]}})
	}
	return ErrReserve
}

// segment returns the open segment of a source, or begins one.
func (m *Media) segment(p *place, key mediaKey, id int) (*mediaFile, error) {
	now := m.v.cfg.Now()
	f := m.open[key]
	if f != nil && (f.id != id || (now >= f.endsAt() || f.file.bytes >= videoBytes && key.letter == segment.StreamVideo) && m.box.mayBegin()) {
		if err := m.seal(f); err != nil {
			return nil, err
		}
		f = nil
	}
	switch {
	case f != nil:
		return f, nil
	case now < m.retry[key.letter]:
		return nil, m.failed
	case !m.box.mayBegin():
		return nil, ErrBusy
	}
	f, err := m.begin(p, key, id)
	if err != nil {
		m.putOff(key.letter, err)
	}
	return f, err
}

// putOff has a stream wait after a failure.
func (m *Media) putOff(letter byte, err error) {
	m.retry[letter], m.failed = m.v.cfg.Now()+mediaRetry, err
}

// endsAt is when the segment ends for its age.
func (f *mediaFile) endsAt() time.Duration {
	if f.letter == segment.StreamPhoto {
		return f.begun + photoAfter
	}
	return f.begun + videoAfter
}

// begin makes the file of the next segment, with its age header, and its name durable.
func (m *Media) begin(p *place, key mediaKey, id int) (*mediaFile, error) {
	number := p.segments[key.letter] + 1
	dir := m.v.path(p.rec.id.String())
	name := dir + "/" + SegmentFile{key.letter, number, suffixOpen}.String()
	before := m.v.folders.Load()
	file, err := m.fs.Create(name)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	hashed := newHashedFile(file)
	sealer, err := seal.New(hashed, p.to[key.letter])
	if err == nil {
		if err = m.v.syncFolder(m.fs, dir, before); err != nil {
			sealer.Abandon()
		}
	}
	seg := &mediaSegment{place: p, letter: key.letter, number: number}
	if err != nil {
		err = errors.Join(err, file.Close())
		if m.fs.Remove(name) != nil { // else the number is free again
			p.segments[key.letter] = number
			m.box.post(mediaEvent{kind: mediaUndone, seg: seg})
		}
		return nil, fmt.Errorf("open segment: %w", err)
	}
	p.segments[key.letter] = number
	f := &mediaFile{mediaSegment: seg, key: key, id: id, file: hashed, sealer: sealer, begun: m.v.cfg.Now()}
	m.open[key] = f
	m.box.begin(p)
	m.box.post(mediaEvent{kind: mediaOpened, seg: seg})
	m.dirty += hashed.bytes
	return f, nil
}

// write seals a block into a segment.
func (m *Media) write(f *mediaFile, b *segment.Block) (err error) {
	c := *b
	now := m.v.cfg.Now()
	c.Stored = true // zstd finds nothing in it
	c.Meta.Block, c.Meta.BootUsec = f.place.blocks[f.letter], now.Microseconds()
	if f.span.blocks == 0 {
		c.Meta.Header = m.box.header(f.mediaSegment)
	}
	meta := *b.Meta.File
	c.Meta.File, f.began = &meta, meta.BeganUsec
	told := len(f.pending)
	m.tell(f, &meta)
	if m.buf, err = m.enc.Append(m.buf[:0], &c); err != nil && f.span.blocks == 0 {
		return m.fail(f, err) // there is nothing but its header
	} else if err != nil {
		return err
	}
	f.place.blocks[f.letter]++
	before := f.file.bytes
	_, err = f.sealer.Write(m.buf)
	m.dirty += f.file.bytes - before
	if err != nil {
		return m.fail(f, fmt.Errorf("write segment: %w", err))
	}
	if !f.waits {
		f.since, f.waits = now, true
	}
	f.fresh += len(m.buf)
	f.plain += int64(len(m.buf))
	f.span.add(spanOf(&c))
	for i := range f.pending[told:] {
		f.pending[told+i].end = f.plain
	}
	own := meta.LostBytes // but what the piece before it has
	for _, p := range f.pending[told:] {
		own -= p.dropped
	}
	f.pending = append(f.pending, pendingPiece{f.plain, segment.Range{From: meta.Offset, To: meta.Offset + int64(len(b.Data))}, own})
	delete(m.lost, f.key)
	return nil
}

// tell says in a block what the medium has cost of the file before it.
func (m *Media) tell(f *mediaFile, meta *segment.File) {
	l, ok := m.lost[f.key]
	switch {
	case !ok:
		return
	case l.place == f.place && l.id == meta.ID:
		meta.Lost = append(slices.Clone(meta.Lost), l.piece)
		f.pending = append(f.pending, pendingPiece{f.plain, l.piece, l.dropped}) // to be said again, if this is lost
	case meta.Continues == l.place.rec.id.String(), l.id == meta.ID && l.began == meta.BeganUsec && l.began != 0:
		meta.LostBytes += l.piece.To - l.piece.From // offsets count anew, or from what came in another record
	default:
		return
	}
	meta.LostBytes += l.dropped
	meta.Why = cmp.Or(meta.Why, "the medium failed")
}

// drain syncs what waits in the kernel where it is too much: the most first.
func (m *Media) drain() error {
	for m.dirty >= mediaDirty && len(m.open) > 0 {
		f := slices.MaxFunc(m.files(), func(a, b *mediaFile) int { return cmp.Compare(a.file.bytes-a.clean, b.file.bytes-b.clean) })
		if err := m.sync(f); err != nil {
			return err
		}
	}
	return nil
}

// flush makes durable what waits: of a slow stream all, of a fast one all but its last chunk.
func (m *Media) flush(f *mediaFile) error {
	slow := f.fresh < mediaSlow
	if slow {
		before := f.file.bytes
		_, err := f.sealer.Flush()
		m.dirty += f.file.bytes - before
		if err != nil {
			return m.fail(f, fmt.Errorf("flush segment: %w", err))
		}
	}
	f.fresh = 0
	if err := m.sync(f); err != nil {
		return err
	}
	if f.waits, f.since = !slow, m.v.cfg.Now(); slow {
		f.pending = f.pending[:0]
	}
	return nil
}

// sync makes durable what was written to the file, and says so.
func (m *Media) sync(f *mediaFile) error {
	if f.file.bytes == f.clean {
		return nil
	}
	if err := f.file.Sync(); err != nil {
		return m.fail(f, fmt.Errorf("sync segment: %w", err))
	}
	m.dirty -= f.file.bytes - f.clean
	f.clean = f.file.bytes
	// What is not in the file yet is not more than a chunk.
	f.pending = slices.DeleteFunc(f.pending, func(p pendingPiece) bool { return p.end <= f.plain-seal.ChunkSize })
	var d durable
	f.file.note(&d)
	m.box.durable(f.mediaSegment, d)
	return nil
}

// seal ends a segment: the closing chunk, and a sync. The vault gives it its closed name.
func (m *Media) seal(f *mediaFile) error {
	before := f.file.bytes
	err := f.sealer.Close()
	m.dirty += f.file.bytes - before
	if err != nil {
		return m.fail(f, fmt.Errorf("close segment: %w", err))
	}
	if err := m.sync(f); err != nil {
		return err
	}
	m.drop(f, mediaEvent{kind: mediaSealed, seg: f.mediaSegment, span: f.span})
	return nil
}

// fail gives a segment up. What it made durable stays, and leaf X names it.
func (m *Media) fail(f *mediaFile, cause error) error {
	if len(f.pending) > 0 {
		lost := lostPiece{place: f.place, id: f.id, began: f.began, piece: f.pending[0].piece}
		for _, p := range f.pending {
			lost.piece.From, lost.piece.To = min(lost.piece.From, p.piece.From), max(lost.piece.To, p.piece.To)
			lost.dropped += p.dropped
		}
		m.lost[f.key] = lost
	}
	m.putOff(f.letter, cause)
	f.sealer.Abandon()
	m.drop(f, mediaEvent{kind: mediaFailed, seg: f.mediaSegment, cause: cause.Error()})
	return cause
}

// drop lets go of a segment and says what became of it.
func (m *Media) drop(f *mediaFile, e mediaEvent) {
	delete(m.open, f.key)
	m.dirty -= f.file.bytes - f.clean
	_ = f.file.Close() // it was synced, or has failed
	m.box.post(e)
	m.box.leave(f.place)
}
