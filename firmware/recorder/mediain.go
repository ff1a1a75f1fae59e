package recorder

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"holdfast/firmware/mediapipe"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// MediaWriter seals photos and video into the record that is open; storage/vault's Media is one.
// It belongs to one goroutine.
type MediaWriter interface {
	// Append takes a block of stream letter, 'V' or 'P', with Meta.File set. b is the caller's again
	// when it returns. A block with File.End is durable then, and with it the whole file.
	Append(letter byte, b *segment.Block) error
	Flush(now time.Duration) error
	Due() (at time.Duration, ok bool)
	End() error
}

// MediaConfig is how a recorder meets the media process. Taken may be nil.
type MediaConfig struct {
	// OpenIn and OpenOut open the FIFOs; they fail while that is not possible. A write may wait:
	// it is given a deadline where what OpenOut returns has SetWriteDeadline.
	OpenIn  func() (io.ReadCloser, error)
	OpenOut func() (io.WriteCloser, error)
	Writer  MediaWriter
	Cameras []string // names; others are not heard
	// Taken is told of each photo that is durable. It must not wait.
	Taken func(camera string, p segment.Photo)
}

const (
	// mediaReopen is how long the recorder waits before it tries again to open a FIFO.
	mediaReopen = time.Second
	// mediaLeft is how long what lies in the pipe is read after the end.
	mediaLeft = 250 * time.Millisecond
	// mediaHold is how long a piece may wait for others, to make one block of them.
	mediaHold = 200 * time.Millisecond
	// mediaBlock is the most that a block holds, in bytes.
	mediaBlock = 256 << 10
	// mediaOpen is how many files may be open at once: a video and a photo of each camera.
	mediaOpen = 16
	// mediaPatience is how long a block waits for a record where none is open; mediaLookAgain is how
	// often it looks. What comes meanwhile waits in the pipe and in the media process.
	mediaPatience  = 2 * time.Second
	mediaLookAgain = 10 * time.Millisecond
)

// RunMedia takes what the media process gives until ctx ends, then ends the writer's segments.
// Nothing of it, and no fault in it, holds up telemetry. It is called once.
func (r *Recorder) RunMedia(ctx context.Context, c MediaConfig) error {
	r.media.start(c)
	var parts sync.WaitGroup
	parts.Go(func() { r.mediaOut(ctx, c.OpenOut) })
	defer parts.Wait()
	for ctx.Err() == nil {
		in, err := c.OpenIn()
		if err == nil {
			stop := context.AfterFunc(ctx, func() { endRead(in) })
			err = r.mediaIn(ctx, in, c.Writer)
			stop()
			_ = in.Close()
		}
		if ctx.Err() == nil {
			r.log.Warn("media process", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(mediaReopen):
		}
	}
	return c.Writer.End()
}

// endRead ends a read that waits. What the media process has handed over by now is read before, where
// the pipe can tell when to give up: its process ends first.
func endRead(in io.ReadCloser) {
	d, ok := in.(interface{ SetReadDeadline(time.Time) error })
	if !ok || d.SetReadDeadline(time.Now().Add(mediaLeft)) != nil {
		_ = in.Close()
	}
}

// inFile is a file that the media process is handing over.
type inFile struct {
	begin    mediapipe.Begin
	id       int   // segment.File.ID
	expected int64 // where its next piece begins, among the bytes that the camera gave
	base     int64 // bytes that came before this recorder knew of it
	kept     int64 // bytes in the vault
	lost     int64 // dropped since the last block
	lostAll  int64
	why      string // of lost
	failed   string // asked for, and not whole: why
	buf      []byte
	since    time.Duration // when the first byte of buf came
	usec     int64
	photo    *segment.Photo
}

// mediaReader is the state of mediaIn. It belongs to its goroutine.
type mediaReader struct {
	r       *Recorder
	w       MediaWriter
	ctx     context.Context
	wake    <-chan struct{} // nil: the writer has none
	closed  time.Time       // since when the writer has no record
	files   map[uint32]*inFile
	process string
	session uint32
	synced  bool
	garbage int64         // bytes that were no message, so far
	garbled time.Duration // when the record was told of some last
	block   segment.Block
}

// arrived is a message that the reading goroutine hands over; done tells it to go on.
type arrived struct {
	msg     mediapipe.Message
	session uint32
	garbage int64
}

// mediaIn reads what comes from pipe, and writes it, until reading fails. A medium that is slow holds
// up the reading, and with it the media process, which drops and counts then.
func (r *Recorder) mediaIn(ctx context.Context, pipe io.Reader, w MediaWriter) error {
	m := &mediaReader{r: r, w: w, ctx: ctx, files: map[uint32]*inFile{}, synced: r.media.unguarded()}
	msgs, done, ended := make(chan arrived), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- readMessages(pipe, msgs, done)
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	if waker, ok := w.(interface{ Wake() <-chan struct{} }); ok {
		m.wake = waker.Wake()
	}
	for {
		select {
		case a := <-msgs:
			m.take(a)
			done <- struct{}{}
		case err := <-ended:
			m.over(map[bool]string{true: "the recorder has ended", false: "the media process was lost"}[ctx.Err() != nil])
			return err
		case <-m.wake:
			m.flush(r.cfg.Now())
		case <-timer.C:
		}
		now := r.cfg.Now()
		m.tidy(now)
		timer.Reset(max(m.next(now)-now, 0))
	}
}

// readMessages hands over one message after the other. The bytes of a Data are lent until done.
func readMessages(pipe io.Reader, msgs chan<- arrived, done <-chan struct{}) error {
	in := mediapipe.NewReader(pipe)
	for {
		msg, session, err := in.Next()
		if err != nil {
			return err
		}
		msgs <- arrived{msg, session, in.Garbage()} // mediaIn takes it until this function ends
		<-done
	}
}

// take does what one message says.
func (m *mediaReader) take(a arrived) {
	h, ok := a.msg.(*mediapipe.Hello)
	if ok { // the padding in front of it is no garbage
		m.garbage += min(a.garbage-m.garbage, int64(len(mediapipe.Padding())))
	}
	m.tellGarbage(a.garbage)
	if ok {
		m.hello(h, a)
		return
	}
	if !m.synced || a.session != m.session {
		return // it may be the bytes of a camera
	}
	switch v := a.msg.(type) {
	case *mediapipe.Begin:
		m.begin(v)
	case *mediapipe.Data:
		m.data(v)
	case *mediapipe.Lost:
		if f := m.files[v.File]; f != nil {
			m.lose(f, v.Bytes, v.Why)
			f.expected += v.Bytes
		}
	case *mediapipe.End:
		m.end(v)
	case *mediapipe.Event:
		m.r.media.event(m.r, v)
	}
}

// tellGarbage notes bytes that were no message: from a process that ended in the middle of one, or
// from one that was taken over.
func (m *mediaReader) tellGarbage(total int64) {
	now := m.r.cfg.Now()
	if total == m.garbage || m.garbled > 0 && now-m.garbled < time.Second {
		return
	}
	m.r.event("media_garbage", fmt.Sprintf("%d bytes from the media process were no message", total-m.garbage))
	m.garbage, m.garbled = total, now
}

// hello begins a session.
func (m *mediaReader) hello(h *mediapipe.Hello, a arrived) {
	if !m.synced && !m.r.media.heard(h.Nonce) {
		return
	}
	m.synced, m.session = true, a.session
	m.r.media.announced()
	if m.process != "" && m.process != h.Process {
		m.over("the media process was started again")
	}
	m.process = h.Process
}

func (m *mediaReader) begin(b *mediapipe.Begin) {
	if m.files[b.File] != nil { // told again
		return
	}
	if !m.r.media.knows(b.Camera) || len(m.files) >= mediaOpen {
		m.r.media.problem(b.Camera, "a file of no camera, or too many at once")
		return
	}
	f := &inFile{begin: *b, id: m.r.media.nextID(), base: b.Offset, expected: b.Offset}
	if b.Kind == mediapipe.Photo {
		f.photo = &segment.Photo{Index: b.Index, Trigger: b.Trigger, TakenUsec: b.TakenUsec, UncertaintyUsec: b.UncertaintyUsec}
	}
	m.files[b.File] = f
	m.r.media.began(f, m.r.cfg.Now())
}

// data puts a piece to those that wait for their block.
func (m *mediaReader) data(d *mediapipe.Data) {
	f := m.files[d.File]
	if f == nil || d.Offset < f.expected {
		return // never announced, or seen before
	}
	if n := d.Offset - f.expected; n > 0 {
		m.lose(f, n, "it did not come")
	}
	f.expected = d.Offset + int64(len(d.Bytes))
	if f.failed != "" {
		m.lose(f, int64(len(d.Bytes)), f.failed)
		return
	}
	if len(f.buf) > 0 && len(f.buf)+len(d.Bytes) > mediaBlock {
		m.write(f, nil)
	}
	if len(f.buf) == 0 {
		f.since, f.usec = m.r.cfg.Now(), d.BootUsec
	}
	f.buf = append(f.buf, d.Bytes...)
	if len(f.buf) >= mediaBlock {
		m.write(f, nil)
	}
}

// lose counts what of a file is not kept. What it waits for is written before, so that the count stands
// where the bytes are missing.
func (m *mediaReader) lose(f *inFile, n int64, why string) {
	if len(f.buf) > 0 {
		m.write(f, nil)
	}
	m.count(f, n, why)
}

func (m *mediaReader) count(f *inFile, n int64, why string) {
	f.lost += n
	f.lostAll += n
	f.why = cmp.Or(f.why, why)
	if f.begin.Asks {
		f.failed = cmp.Or(f.failed, why)
	}
	m.r.media.lost(m.r, f.begin.Camera, n, why)
}

// write hands what waits of a file to the vault as one block; end says how the file ends, nil: not
// yet. What is not taken is lost, and counted.
func (m *mediaReader) write(f *inFile, end *mediapipe.End) bool {
	file := segment.File{
		ID: f.id, Kind: f.begin.Kind, Source: f.begin.Camera, Format: f.begin.Format, Name: f.begin.Name, Offset: f.base + f.kept,
		Size: f.begin.Size, BeganUsec: f.begin.BeganUsec, BootUsec: f.usec, LostBytes: f.lost, Why: f.why,
	}
	if end != nil {
		file.End, file.Why, file.BootUsec = true, cmp.Or(end.Why, f.why), end.BootUsec
		file.Size = f.base + f.kept + int64(len(f.buf))
		if f.lostAll == 0 && f.base == 0 {
			file.SHA256 = end.SHA256
		}
	}
	file.Photo = m.photo(f)
	m.block = segment.Block{Meta: segment.Meta{File: &file}, Data: f.buf, Stored: true}
	n := int64(len(f.buf))
	err := m.append(letter(f))
	f.buf = f.buf[:0]
	if err != nil {
		why := mediaWhy(err)
		f.failed = cmp.Or(f.failed, map[bool]string{true: why}[f.begin.Asks])
		if n > 0 {
			m.count(f, n, why)
		}
		m.r.media.problem(f.begin.Camera, why)
		return false
	}
	f.kept += n
	f.lost, f.why = 0, ""
	m.r.media.kept(f.begin.Camera, n)
	return true
}

// append hands the block to the vault. Where no record is open it asks for one, and waits for it: the
// first second of a film is as much part of it as the rest. It waits no second time for a record that
// did not come.
func (m *mediaReader) append(letter byte) error {
	for {
		err := m.w.Append(letter, &m.block)
		if !errors.Is(err, vault.ErrClosed) {
			m.closed = time.Time{}
			return err
		}
		if m.closed.IsZero() {
			m.closed = time.Now()
		}
		if m.ctx.Err() != nil || time.Since(m.closed) >= mediaPatience || !m.r.askRecord() {
			return err
		}
		select {
		case <-m.ctx.Done():
		case <-m.wake:
		case <-time.After(mediaLookAgain):
		}
	}
}

func letter(f *inFile) byte {
	if f.photo != nil {
		return segment.StreamPhoto
	}
	return segment.StreamVideo
}

// photo returns what is known of the photo by now: the pose of a moment ago may become better.
func (m *mediaReader) photo(f *inFile) *segment.Photo {
	if f.photo == nil {
		return nil
	}
	p := *f.photo
	p.Pose = m.r.pose.at(time.Duration(p.TakenUsec)*time.Microsecond, time.Duration(p.UncertaintyUsec)*time.Microsecond)
	return &p
}

// mediaWhy is what a block says about an error of the vault.
func mediaWhy(err error) string {
	switch {
	case errors.Is(err, vault.ErrReserve):
		return "the space that is left is for telemetry"
	case errors.Is(err, vault.ErrClosed):
		return "no record"
	}
	return mediapipe.Text(err.Error())
}

// end ends a file.
func (m *mediaReader) end(e *mediapipe.End) {
	f := m.files[e.File]
	if f == nil {
		if m.session != 0 {
			m.r.media.reply(&mediapipe.Kept{Session: m.session, File: e.File, Why: "it was not announced"})
		}
		return
	}
	delete(m.files, e.File)
	if n := e.Size - f.expected; n > 0 {
		m.lose(f, n, "it did not come")
	}
	if f.failed != "" {
		e.Why = cmp.Or(e.Why, f.failed)
	}
	kept := m.write(f, e) && f.failed == "" && e.Why == ""
	m.r.media.ended(f, m.r.cfg.Now(), kept)
	if kept && f.photo != nil && m.r.media.cfg.Taken != nil {
		m.r.media.cfg.Taken(f.begin.Camera, *m.photo(f))
	}
	if f.begin.Asks {
		m.r.media.reply(&mediapipe.Kept{Session: m.session, File: e.File, OK: kept, Why: mediapipe.Text(cmp.Or(f.failed, e.Why))})
	}
}

// over ends all files: their process has gone.
func (m *mediaReader) over(why string) {
	for id, f := range m.files {
		delete(m.files, id)
		m.write(f, &mediapipe.End{Why: why, BootUsec: m.r.cfg.Now().Microseconds()})
		m.r.media.ended(f, m.r.cfg.Now(), false)
	}
}

// tidy writes what has waited long enough, and has the vault flush what is due.
func (m *mediaReader) tidy(now time.Duration) {
	for _, f := range m.files {
		if len(f.buf) > 0 && now >= f.since+mediaHold {
			m.write(f, nil)
		}
	}
	if at, ok := m.w.Due(); ok && at <= now {
		m.flush(now)
	}
}

// flush tells of an error, and has what asks for it come again: it may be what has not been kept.
func (m *mediaReader) flush(now time.Duration) {
	err := m.w.Flush(now)
	if err == nil {
		return
	}
	for _, f := range m.files {
		if f.begin.Asks {
			f.failed = cmp.Or(f.failed, mediaWhy(err))
		}
		m.r.media.problem(f.begin.Camera, mediaWhy(err))
	}
}

// next is when tidy has something to do.
func (m *mediaReader) next(now time.Duration) time.Duration {
	at := now + time.Second
	for _, f := range m.files {
		if len(f.buf) > 0 {
			at = min(at, f.since+mediaHold)
		}
	}
	if due, ok := m.w.Due(); ok {
		at = min(at, max(due, now+time.Millisecond)) // one that could not be done waits a moment
	}
	return at
}

// newNonce returns a word that nobody can guess.
func newNonce() string {
	p := make([]byte, 16)
	_, _ = rand.Read(p) // never fails
	return hex.EncodeToString(p)
}

// mediaLost is what an event says of bytes that were not kept.
func mediaLost(n int64, why string) string { return fmt.Sprintf("%d bytes: %s", n, why) }
