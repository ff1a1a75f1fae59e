package recorder_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/firmware/mediafifo"
	"holdfast/firmware/mediapipe"
	"holdfast/firmware/recorder"
	"holdfast/mavlink"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// seal is a MediaWriter that keeps blocks, and fails as it is told.
type seal struct {
	mu     sync.Mutex
	blocks []segment.Block
	letter []byte
	fail   func(letter byte, b *segment.Block) error
	flush  error
	due    time.Duration
	stall  chan struct{} // Append waits for it
	ends   int
}

func (s *seal) Append(letter byte, b *segment.Block) error {
	s.mu.Lock()
	fail, stall := s.fail, s.stall
	s.mu.Unlock()
	if stall != nil {
		<-stall
	}
	if fail != nil {
		if err := fail(letter, b); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own := *b
	own.Data = bytes.Clone(b.Data)
	file := *b.Meta.File
	own.Meta.File = &file
	s.blocks, s.letter = append(s.blocks, own), append(s.letter, letter)
	return nil
}

func (s *seal) Flush(time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = 0
	return s.flush
}

func (s *seal) Due() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due, s.due > 0
}

func (s *seal) End() error { s.ends++; return nil }

func (s *seal) failing(f func(letter byte, b *segment.Block) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

func (s *seal) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.blocks)
}

func (s *seal) size(i int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.blocks[i].Data)
}

// file joins the blocks of a file.
func (s *seal) file(id int) (data []byte, files []segment.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blocks {
		if b.Meta.File.ID == id {
			data, files = append(data, b.Data...), append(files, *b.Meta.File)
		}
	}
	return data, files
}

// cameras is the media process's end.
type cameras struct {
	t       *testing.T
	r       *recorder.Recorder
	seal    *seal
	out     *io.PipeWriter
	session uint32
	taken   []segment.Photo
	mu      sync.Mutex
	heard   []mediapipe.Message
}

// withCameras runs a recorder with a link and cameras "front" and "down" in a bubble.
func withCameras(t *testing.T, f func(c *cameras, l *line)) *bench {
	t.Helper()
	b := newBench(t)
	l := newLine(true)
	b.record(recorder.Config{}, l, func(r *recorder.Recorder) {
		c := &cameras{t: t, r: r, seal: &seal{}, session: 1}
		dataR, dataW := io.Pipe()
		backR, backW := io.Pipe()
		c.out = dataW
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { c.listen(backR) })
		wg.Go(func() {
			if err := r.RunMedia(ctx, recorder.MediaConfig{
				OpenIn: func() (io.ReadCloser, error) { return dataR, nil }, OpenOut: func() (io.WriteCloser, error) { return backW, nil },
				Writer: c.seal, Cameras: []string{"front", "down"}, Taken: func(_ string, p segment.Photo) { c.taken = append(c.taken, p) },
			}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		f(c, l)
		cancel()
		_ = backR.Close()
		wg.Wait()
		if c.seal.ends != 1 {
			t.Errorf("the writer was ended %d times", c.seal.ends)
		}
	})
	return b
}

func (c *cameras) listen(in io.Reader) {
	r := mediapipe.NewReader(in)
	for {
		m, _, err := r.Next()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.heard = append(c.heard, m)
		c.mu.Unlock()
	}
}

// last returns the last message of a type that the recorder has sent.
func last[T mediapipe.Message](c *cameras) (m T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.heard {
		if v, ok := h.(T); ok {
			m = v
		}
	}
	return m
}

func (c *cameras) send(ms ...mediapipe.Message) {
	c.t.Helper()
	for _, m := range ms {
		p, err := mediapipe.Append(nil, c.session, m)
		if err != nil {
			c.t.Fatal(err)
		}
		_, _ = c.out.Write(p)
	}
	synctest.Wait()
}

// hello begins a session as a process does.
func (c *cameras) hello(process string) {
	_, _ = c.out.Write(mediapipe.Padding())
	c.send(&mediapipe.Hello{Process: process, Nonce: last[*mediapipe.Announce](c).Nonce, Cameras: []string{"front", "down"}})
}

func clip(file uint32) *mediapipe.Begin {
	return &mediapipe.Begin{File: file, Camera: "front", Kind: mediapipe.Video, Format: "h264", BeganUsec: 77}
}

func data(file uint32, offset int64, p []byte) *mediapipe.Data {
	return &mediapipe.Data{File: file, Offset: offset, BootUsec: 99, Bytes: p}
}

// settle lets what waits for company be written.
func settle() { time.Sleep(time.Second); synctest.Wait() }

func (c *cameras) status(camera string) recorder.CameraStatus {
	list := c.r.MediaStatus()
	i := slices.IndexFunc(list, func(s recorder.CameraStatus) bool { return s.Name == camera })
	if i < 0 {
		c.t.Fatalf("no camera %s in %+v", camera, list)
	}
	return list[i]
}

func TestVideoIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withCameras(t, func(c *cameras, _ *line) {
			want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
			c.hello("p1")
			c.send(clip(1), data(1, 0, want[:1000]), data(1, 1000, want[1000:2000]))
			if c.seal.count() != 0 {
				t.Error("each piece is a block")
			}
			settle()
			for at := 2000; at < len(want); at += 100_000 {
				c.send(data(1, int64(at), want[at:min(at+100_000, len(want))]))
			}
			if s := c.status("front"); !s.Recording || s.Lost != 0 || s.LastError != "" || s.Since == 0 {
				t.Errorf("%+v", s)
			}
			c.send(&mediapipe.End{File: 1, Size: int64(len(want)), BootUsec: 100, SHA256: strings.Repeat("ab", 32)})
			got, files := c.seal.file(1)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %d", len(got), len(want))
			}
			at := int64(0)
			for i, f := range files {
				n := int64(c.seal.size(i))
				if f.Offset != at || n > 256<<10 || f.Source != "front" || f.Kind != segment.KindVideo || f.Format != "h264" || f.BeganUsec != 77 || f.LostBytes != 0 || c.seal.letter[i] != 'V' {
					t.Errorf("block %d: %+v, %d bytes", i, f, n)
				}
				at += n
			}
			if e := files[len(files)-1]; !e.End || e.Size != at || e.SHA256 != strings.Repeat("ab", 32) || e.BootUsec != 100 {
				t.Errorf("%+v", e)
			}
			if s := c.status("front"); s.Recording || s.Bytes != at {
				t.Errorf("%+v", s)
			}
		})
	})
}

// TestLossIsTold: what the media process dropped, what did not come, and what the vault refused stand in
// the next block with their reason, and as an event; offsets count what is kept.
func TestLossIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withCameras(t, func(c *cameras, l *line) {
			l.in <- own(0, false)
			c.hello("p1")
			c.send(clip(1), data(1, 0, make([]byte, 100)), &mediapipe.Lost{File: 1, Bytes: 50, Why: mediapipe.WhyFast}, data(1, 150, make([]byte, 100)), data(1, 300, make([]byte, 10)))
			settle()
			for i, why := range []string{"the space that is left is for telemetry", "no record", "input/output error"} {
				err := []error{vault.ErrReserve, vault.ErrClosed, errors.New("input/output error")}[i]
				c.seal.failing(func(byte, *segment.Block) error { return err })
				c.send(data(1, 310+int64(i)*30, make([]byte, 20)))
				settle()
				if errors.Is(err, vault.ErrClosed) {
					<-time.After(3 * time.Second) // it is waited for
				}
				if s := c.status("front"); s.LastError != why {
					t.Errorf("%+v", s)
				}
				c.seal.failing(nil)
				c.send(data(1, 330+int64(i)*30, make([]byte, 10)))
				settle()
			}
			c.send(&mediapipe.End{File: 1, Size: 407, BootUsec: 1, SHA256: strings.Repeat("ab", 32)})
			_, files := c.seal.file(1)
			var offsets, lost []int64
			var whys []string
			for _, f := range files {
				offsets, lost = append(offsets, f.Offset), append(lost, f.LostBytes)
				whys = append(whys, f.Why)
			}
			if !slices.Equal(offsets, []int64{0, 100, 200, 210, 220, 230, 240}) || !slices.Equal(lost, []int64{0, 50, 50, 20, 20, 20, 7}) {
				t.Errorf("offsets %v, lost %v", offsets, lost)
			}
			if !slices.Equal(whys, []string{"", "too fast", "it did not come", "the space that is left is for telemetry", "no record", "input/output error", "it did not come"}) {
				t.Errorf("%q", whys)
			}
			if e := files[len(files)-1]; !e.End || e.Size != 240 || e.SHA256 != "" {
				t.Errorf("%+v", e)
			}
			if s := c.status("front"); s.Lost != 167 {
				t.Errorf("%+v", s)
			}
			settle()
		})
		lost := 0
		for _, o := range b.read() {
			for _, kind := range o.events() {
				if kind == "media_lost" {
					lost++
				}
			}
		}
		if lost < 3 {
			t.Errorf("%d events", lost)
		}
	})
}

// TestKept: a file whose sender has it still is answered for when it is durable, and not where any of it
// was lost.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withCameras(t, func(c *cameras, _ *line) {
			c.hello("p1")
			photo := func(file uint32) *mediapipe.Begin {
				return &mediapipe.Begin{File: file, Camera: "down", Kind: mediapipe.Photo, Format: "jpg", Name: "a.jpg", Asks: true, Index: 7, Trigger: "inbox", TakenUsec: 5e5, UncertaintyUsec: 1000, Size: 3}
			}
			c.send(photo(1), data(1, 0, []byte("abc")), &mediapipe.End{File: 1, Size: 3})
			if k := last[*mediapipe.Kept](c); k == nil || !k.OK || k.File != 1 || k.Session != 1 {
				t.Errorf("%+v", k)
			}
			if _, f := c.seal.file(1); len(f) != 1 || f[0].Photo == nil || f[0].Photo.Index != 7 || f[0].Photo.TakenUsec != 5e5 || f[0].Photo.Trigger != "inbox" || f[0].Name != "a.jpg" || c.seal.letter[0] != 'P' {
				t.Errorf("%+v", f)
			}
			c.seal.failing(func(byte, *segment.Block) error { return vault.ErrReserve })
			c.send(photo(2), data(2, 0, []byte("abc")))
			settle()
			c.seal.failing(nil) // there is room again: half a photo is none all the same
			c.send(&mediapipe.End{File: 2, Size: 3})
			if k := last[*mediapipe.Kept](c); k.OK || k.File != 2 || k.Why == "" {
				t.Errorf("%+v", k)
			}
			c.send(photo(3), data(3, 0, []byte("abc")))
			c.seal.mu.Lock()
			c.seal.flush, c.seal.due = errors.New("input/output error"), 1
			c.seal.mu.Unlock()
			settle()
			c.seal.flush = nil
			c.send(&mediapipe.End{File: 3, Size: 3})
			if k := last[*mediapipe.Kept](c); k.OK || k.File != 3 {
				t.Errorf("after a failed sync: %+v", k)
			}
			c.send(&mediapipe.End{File: 9})
			if k := last[*mediapipe.Kept](c); k.OK || k.File != 9 {
				t.Errorf("of a file that nobody knows: %+v", k)
			}
			if s := c.status("down"); s.Photos != 1 || len(c.taken) != 1 || c.taken[0].Index != 7 {
				t.Errorf("%+v, %+v", s, c.taken)
			}
		})
	})
}

// TestNothingBeforeHello: until the word that was asked for comes back, what looks like messages may be a
// camera's bytes.
func TestNothingBeforeHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withCameras(t, func(c *cameras, _ *line) {
			c.send(&mediapipe.Hello{Process: "forged", Nonce: strings.Repeat("0", 32)}, clip(1), data(1, 0, []byte("forged")))
			settle()
			c.hello("p1")
			c.session = 2 // nor what is of no session
			c.send(clip(1), data(1, 0, []byte("forged")))
			c.session = 1
			c.send(clip(2), data(2, 0, []byte("real")))
			settle()
			if data, files := c.seal.file(1); string(data) != "real" || len(files) != 1 || c.seal.count() != 1 {
				t.Errorf("%q, %d blocks", data, c.seal.count())
			}
			if last[*mediapipe.State](c) == nil {
				t.Error("no state was told")
			}
		})
	})
}

// TestMediaComesAgain: when the media process was started again its files are over, with a word of why;
// one that has only said hello again goes on.
func TestMediaComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withCameras(t, func(c *cameras, _ *line) {
			c.hello("p1")
			c.send(clip(1), data(1, 0, []byte("one ")))
			c.session = 2
			c.send(&mediapipe.Hello{Process: "p1"}, &mediapipe.Begin{File: 1, Camera: "front", Kind: "video", Format: "h264", Offset: 4}, data(1, 4, []byte("two")))
			half, err := mediapipe.Append(nil, 2, data(1, 7, bytes.Repeat([]byte("x"), 5000)))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.out.Write(half[:3000]) // it dies
			c.session = 1
			c.hello("p2")
			c.send(clip(1), data(1, 0, []byte("three")))
			settle()
			a, files := c.seal.file(1)
			if string(a) != "one two" || !files[len(files)-1].End || files[len(files)-1].Why != "the media process was started again" {
				t.Errorf("%d bytes, %+v", len(a), files)
			}
			if b, _ := c.seal.file(2); string(b) != "three" {
				t.Errorf("%q", b)
			}
		})
	})
}

// TestHostileMedia: unknown cameras, too many files, floods of events and messages out of place do no
// harm, and cost no more than they may.
func TestHostileMedia(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withCameras(t, func(c *cameras, l *line) {
			l.in <- own(0, false)
			c.hello("p1")
			c.send(&mediapipe.Begin{File: 1, Camera: "other", Kind: "video", Format: "ts"}, data(1, 0, []byte("x")), data(77, 0, []byte("x")), &mediapipe.Lost{File: 77, Bytes: 1},
				&mediapipe.State{Armed: true}, &mediapipe.Kept{File: 3}, clip(2), data(2, 1<<50, []byte("far")), data(2, 5, []byte("before")), &mediapipe.End{File: 2})
			for i := range uint32(40) {
				c.send(clip(100+i), data(100+i, 0, []byte("x")))
			}
			for range 500 {
				c.send(&mediapipe.Event{Camera: "front", Kind: "noise"})
			}
			settle()
			if n := c.seal.count(); n != 1+16 {
				t.Errorf("%d blocks", n)
			}
			settle()
		})
		noise := 0
		for _, o := range b.read() {
			for _, kind := range o.events() {
				if kind == "noise" {
					noise++
				}
			}
		}
		if noise == 0 || noise > 16 {
			t.Errorf("%d events of a flood", noise)
		}
	})
}

// TestArmedIsTold, and commands reach the cameras.
func TestArmedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withCameras(t, func(c *cameras, l *line) {
			c.hello("p1")
			l.in <- own(0, false)
			settle()
			if s := last[*mediapipe.State](c); s == nil || s.Armed {
				t.Errorf("%+v", s)
			}
			l.in <- own(1, true)
			time.Sleep(400 * time.Millisecond)
			synctest.Wait()
			if !last[*mediapipe.State](c).Armed {
				t.Error("arming was not told within 400 ms")
			}
			for _, err := range []error{c.r.StartVideo("front"), c.r.Shoot("down", 500*time.Millisecond, 3, 8), c.r.StopShooting("down")} {
				if err != nil {
					t.Error(err)
				}
			}
			settle()
			if v, s := last[*mediapipe.VideoCommand](c), last[*mediapipe.Shoot](c); v == nil || !v.On || s == nil || s.IntervalMs != 500 || s.Count != 3 || s.First != 8 || last[*mediapipe.StopShooting](c) == nil {
				t.Errorf("%+v %+v", v, s)
			}
		})
	})
}

// TestSlowVaultHoldsUp: while the vault waits for its disk nothing is read, so that the media process
// knows; then all of it is there.
func TestSlowVaultHoldsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withCameras(t, func(c *cameras, _ *line) {
			c.hello("p1")
			c.seal.stall = make(chan struct{})
			c.send(clip(1))
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := range int64(40) {
					p, _ := mediapipe.Append(nil, 1, data(1, i*100_000, make([]byte, 100_000)))
					_, _ = c.out.Write(p)
				}
			}()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			select {
			case <-done:
				t.Error("4 MB were taken by a recorder whose disk stands")
			default:
			}
			close(c.seal.stall)
			<-done
			settle()
			if got, _ := c.seal.file(1); len(got) != 4_000_000 {
				t.Errorf("%d bytes", len(got))
			}
		})
	})
}

// globalPosition is a frame with a position and a speed.
func globalPosition(seq uint8, latE7, lonE7 int32, altMM, heightMM int32, north, east, down int16) []byte {
	p := binary.LittleEndian.AppendUint32(nil, 1)
	for _, v := range []int32{latE7, lonE7, altMM, heightMM} {
		p = binary.LittleEndian.AppendUint32(p, uint32(v))
	}
	for _, v := range []int16{north, east, down, 1} {
		p = binary.LittleEndian.AppendUint16(p, uint16(v))
	}
	return frame(seq, 1, 1, mavlink.MsgGlobalPositionInt, p...)
}

// turned is an ATTITUDE with angles in degrees.
func turned(seq uint8, roll, pitch, yaw float64) []byte {
	p := binary.LittleEndian.AppendUint32(nil, 1)
	for _, a := range []float64{roll, pitch, yaw, 0, 0, 1} {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(float32(a*math.Pi/180)))
	}
	return frame(seq, 1, 1, mavlink.MsgAttitude, p...)
}

// TestPoseOfAPhoto: it lies between the positions before and after the photo, and says how far it may be
// off; where there is one alone, by its age and speed.
func TestPoseOfAPhoto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withCameras(t, func(c *cameras, l *line) {
			c.hello("p1")
			now := func() int64 { return c.r.MediaClock().Microseconds() }
			l.in <- own(0, false)
			l.in <- globalPosition(1, 470000000, 1799999990, 100_000, 10_000, 1000, 0, 0)
			l.in <- turned(2, 10, -20, 350)
			synctest.Wait()
			t0 := now()
			time.Sleep(time.Second)
			l.in <- globalPosition(3, 470000100, -1799999990, 102_000, 12_000, 1000, 0, 0)
			l.in <- turned(4, 20, -10, 10)
			synctest.Wait()
			shoot := func(file uint32, taken int64) *segment.Pose {
				c.send(&mediapipe.Begin{File: file, Camera: "down", Kind: mediapipe.Photo, Format: "jpg", TakenUsec: taken, UncertaintyUsec: 100_000},
					data(file, 0, []byte("x")), &mediapipe.End{File: file, Size: 1})
				_, files := c.seal.file(int(file))
				return files[len(files)-1].Photo.Pose
			}
			p := shoot(1, t0+250_000)
			if p == nil || math.Abs(p.Latitude-47.0000025) > 1e-9 || math.Abs(math.Abs(p.Longitude)-179.9999995) > 1e-9 || math.Abs(p.Altitude-100.5) > 1e-6 ||
				math.Abs(p.Height-10.5) > 1e-6 || math.Abs(p.Roll-12.5) > 1e-3 || math.Abs(p.Pitch+17.5) > 1e-3 || math.Abs(p.Yaw-355) > 1e-3 || p.BootUsec != t0+250_000 {
				t.Errorf("between: %+v", p)
			}
			if math.Abs(p.UncertaintyM-1) > 1e-6 { // 10 m/s for the 0.1 s that its time is not known better
				t.Errorf("between: off by %v m", p.UncertaintyM)
			}
			time.Sleep(2 * time.Second)
			if p = shoot(2, now()); math.Abs(p.UncertaintyM-21) > 0.1 || math.Abs(p.Latitude-47.00001) > 1e-9 {
				t.Errorf("2 s after the last: %+v", p)
			}
			time.Sleep(20 * time.Second)
			if p = shoot(3, now()); p != nil {
				t.Errorf("22 s after the last: %+v", p)
			}
		})
	})
}

// BenchmarkMediaIn is the way through a real FIFO into blocks, 256 KiB a message.
func BenchmarkMediaIn(b *testing.B) {
	run := b.TempDir()
	if err := mediafifo.Make(run, nil); err != nil {
		b.Fatal(err)
	}
	sealed := &counter{}
	r := recorder.NewForMedia()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- r.RunMedia(ctx, recorder.MediaConfig{Writer: sealed, Cameras: []string{"front"},
			OpenIn: func() (io.ReadCloser, error) { return mediafifo.OpenReader(run, mediapipe.ToRecorder) }})
	}()
	var out *os.File
	for err := errors.New(""); err != nil; time.Sleep(time.Millisecond) {
		out, err = mediafifo.OpenWriter(run, mediapipe.ToRecorder)
	}
	piece := make([]byte, mediapipe.MaxData)
	hello, _ := mediapipe.Append(mediapipe.Padding(), 1, &mediapipe.Hello{Process: "p"})
	hello, _ = mediapipe.Append(hello, 1, clip(1))
	_, _ = out.Write(hello)
	b.SetBytes(int64(len(piece)))
	at := int64(0)
	for b.Loop() {
		p, _ := mediapipe.Append(nil, 1, data(1, at, piece))
		if _, err := out.Write(p); err != nil {
			b.Fatal(err)
		}
		at += int64(len(piece))
	}
	cancel()
	<-ended
	out.Close()
	if sealed.n == 0 {
		b.Error("nothing came")
	}
}

type counter struct{ n int64 }

func (c *counter) Append(_ byte, b *segment.Block) error { c.n += int64(len(b.Data)); return nil }
func (c *counter) Flush(time.Duration) error             { return nil }
func (c *counter) Due() (time.Duration, bool)            { return 0, false }
func (c *counter) End() error                            { return nil }

// TestGarbage: the padding in front of a session is no garbage; a message that a process that died has
// not ended is, and counts its own bytes alone.
func TestGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withCameras(t, func(c *cameras, l *line) {
			l.in <- own(0, false)
			settle()
			c.hello("p1")
			settle()
			c.hello("p1")
			c.send(clip(1), data(1, 0, []byte("x")))
			settle()
			cut, err := mediapipe.Append(nil, c.session, data(1, 1, bytes.Repeat([]byte("film"), 1250)))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.out.Write(cut[:1234])
			c.hello("p2")
			settle()
		})
		var told []string
		for _, o := range b.read() {
			for _, m := range o.metas {
				for _, e := range m.Events {
					if e.Kind == "media_garbage" {
						told = append(told, e.Detail)
					}
				}
			}
		}
		if len(told) != 1 || !strings.HasPrefix(told[0], "1234 bytes") {
			t.Errorf("told of %q", told)
		}
	})
}
