package vault_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"holdfast/crypto/custody"
	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// Media beside the vault: on a goroutine of its own, on media that are slow, lack links, or fail.

// slowFS lets time go by in each sync, in a bubble of synctest.
type slowFS struct {
	vault.FS
	mu   sync.Mutex
	took time.Duration
}

func (s *slowFS) wait() {
	s.mu.Lock()
	d := s.took
	s.mu.Unlock()
	time.Sleep(d)
}

func (s *slowFS) set(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = d
}

func (s *slowFS) Create(name string) (vault.File, error) {
	f, err := s.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s}, nil
}

func (s *slowFS) SyncDir(name string) error {
	s.wait()
	return s.FS.SyncDir(name)
}

type slowFile struct {
	vault.File
	s *slowFS
}

func (f *slowFile) Sync() error {
	f.s.wait()
	return f.File.Sync()
}

// since makes a clock of the time of the bubble, which begins at a second.
func since() func() time.Duration {
	began := time.Now().Add(-time.Second)
	return func() time.Duration { return time.Since(began) }
}

// shooting runs a camera on a goroutine until stop is closed, and then ends its segments.
func shooting(m *vault.Media, now func() time.Duration, stop <-chan struct{}) (done chan int) {
	done = make(chan int, 1)
	go func() {
		k, offset := fileKey{'V', "cam", 1}, 0
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				_ = m.End()
				done <- offset
				return
			case <-m.Wake():
			case <-tick.C:
				if m.Append('V', video("cam", 1, int64(offset), footage(k, offset, 40<<10))) == nil {
					offset += 40 << 10
				}
			}
			if at, ok := m.Due(); ok && at <= now() {
				_ = m.Flush(now())
			}
		}
	}()
	return done
}

// telemetry flushes each 200 ms for a while, cleans up between, and returns the longest that an
// entry waited.
func telemetry(t *testing.T, v *vault.Vault, last time.Duration) (most time.Duration) {
	t.Helper()
	n := uint64(0)
	for end := time.Now().Add(last); time.Now().Before(end); {
		began := time.Now()
		must(t, v.Append(&segment.Block{Meta: segment.Meta{Frames: 1}, Data: entries(n, n+1)}))
		n++
		for v.StepWithin(v.Interval() - time.Since(began)) {
		}
		time.Sleep(v.Interval() - time.Since(began))
		must(t, v.Flush())
		most = max(most, time.Since(began))
	}
	return most
}

// TestSlowVideo: video whose syncs take 2 s delays no flush of telemetry, and the record after it
// begins while its segments are being ended.
func TestSlowVideo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, now := storagetest.New(1), since()
		slow := &slowFS{FS: d, took: 2 * time.Second}
		cfg := config(&slowFS{FS: d, took: 5 * time.Millisecond}, &clock{})
		cfg.Now = now
		v := mustOpen(t, cfg)
		m := v.NewMedia(slow, nil)
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		v.SetArmed(true)
		must(t, v.Flush())
		stop := make(chan struct{})
		done := shooting(m, now, stop)
		if most := telemetry(t, v, 25*time.Second); most > 250*time.Millisecond {
			t.Errorf("an entry waited %v", most)
		}
		began := time.Now()
		must(t, v.Begin(vault.Ground, vault.RecordID{}))
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("the next record waited %v", took)
		}
		v.SetArmed(true)
		if most := telemetry(t, v, 15*time.Second); most > 250*time.Millisecond {
			t.Errorf("an entry waited %v in the second record", most)
		}
		ended := of[*custody.Ended](leaves(t, d.Files()))
		if len(ended) != 1 || ended[0].Record != "F00000001" || ended[0].Segments["V"] == 0 {
			t.Errorf("leaves Z: %+v", ended)
		}
		close(stop)
		offset := <-done
		must(t, v.Close())
		rep, err := verify(d.Files())
		if err != nil || rep.State != custody.VerdictClean {
			t.Error(rep.State, err)
		}
		c := newCinema(v, m, &clock{})
		c.reel(fileKey{'V', "cam", 1}).durable = offset
		must(t, c.develop(d.Crash(storagetest.Strict).Files()))
	})
}

// TestMediaHangs: a medium that does not answer keeps neither Close nor the next record; what
// Media has written is cut, and the vault can be locked again only when it has let go.
func TestMediaHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, now := storagetest.New(1), since()
		slow := &slowFS{FS: d}
		cfg := config(d, &clock{})
		cfg.Now = now
		v := mustOpen(t, cfg)
		m := v.NewMedia(slow, nil)
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		v.SetArmed(true)
		stop := make(chan struct{})
		done := shooting(m, now, stop)
		telemetry(t, v, 5*time.Second)
		slow.set(time.Hour)
		telemetry(t, v, 5*time.Second)
		began := time.Now()
		must(t, v.Close())
		if took := time.Since(began); took > 3*time.Second || took < time.Second {
			t.Errorf("Close took %v", took)
		}
		if _, err := vault.Open(cfg); !errors.Is(err, vault.ErrLocked) {
			t.Errorf("the vault is opened while Media writes: %v", err)
		}
		if rep, err := verify(d.Crash(storagetest.Random).Files()); err != nil || rep.State != custody.VerdictCut {
			t.Error(rep.State, err)
		}
		slow.set(0)
		close(stop)
		<-done
		if err := m.Append('V', video("cam", 1, 0, nil)); !errors.Is(err, vault.ErrClosed) {
			t.Errorf("Append after Close: %v", err)
		}
		v, err := vault.Open(cfg)
		must(t, err)
		must(t, v.Close())
		if rep, err := verify(d.Files()); err != nil || rep.State != custody.VerdictCut {
			t.Error(rep.State, err)
		}
	})
}

// TestNoLinks: where the medium has no hard links the open forms stay, whole and named.
func TestNoLinks(t *testing.T) {
	d := storagetest.New(1)
	d.NoLinks(true)
	c, err := film(t, d, -1, false)
	must(t, err)
	files := d.Crash(storagetest.Strict).Files()
	must(t, c.develop(files))
	rep, err := verify(files)
	if err != nil || rep.State != custody.VerdictCut {
		t.Error(rep.State, err)
	}
	failed := 0
	for _, l := range of[*custody.Lost](leaves(t, files)) {
		p := files[device+"/"+l.Record+"/"+l.Segment+".open.age"]
		if l.Why != custody.WhyFailed || l.Size == nil || int64(len(p)) != *l.Size || !bytes.Equal(hashOf(p), l.SHA256) {
			t.Errorf("leaf X %+v, the open form has %d bytes", l, len(p))
		}
		failed++
	}
	if z := of[*custody.Ended](leaves(t, files)); len(z) != 3 || failed < 20 {
		t.Errorf("%d records have ended, %d leaves X", len(z), failed)
	}
}

// TestStockTools: what age makes of a segment of video is read by any zstd, and is the video.
func TestStockTools(t *testing.T) {
	d, now := storagetest.New(1), &clock{now: time.Second}
	v := mustOpen(t, config(d, now))
	m := v.NewMedia(d, nil)
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	k, offset := fileKey{'V', "cam", 1}, 0
	var cut map[string][]byte
	for i, n := range []int{1, 10, 300 << 10, 128 << 10, 70_000, 5} {
		must(t, m.Append('V', video("cam", 1, int64(offset), footage(k, offset, n))))
		offset += n
		now.now += time.Second
		must(t, m.Flush(now.now))
		if i == 1 {
			cut = d.Crash(storagetest.Strict).Files()
		}
	}
	must(t, m.End())
	must(t, v.Close())
	plain := func(files map[string][]byte, name string, size int) {
		t.Helper()
		must(t, eachForm(files, func(record, file string, data []byte, id age.Identity) error {
			if file != name {
				return nil
			}
			s, err := open.Salvage(bytes.NewReader(data), int64(len(data)), id)
			must(t, err)
			var all []byte
			for chunk, err := s.Next(); err != io.EOF; chunk, err = s.Next() {
				all = append(all, chunk.Plain...)
			}
			z, err := zstd.NewReader(bytes.NewReader(all))
			must(t, err)
			got, err := io.ReadAll(z)
			if err != nil || !bytes.Equal(got, footage(k, 0, size)) {
				t.Errorf("%s: %d bytes of video, want %d, %v", file, len(got), size, err)
			}
			return nil
		}))
	}
	plain(d.Files(), "V000001.age", offset)
	plain(cut, "V000001.open.age", 11)
}

// TestLogLags: where the public log cannot be written, segments grow longer and photos are
// refused, so that a checkpoint has room for what is open; later all is closed.
func TestLogLags(t *testing.T) {
	d, now := storagetest.New(1), &clock{now: time.Second}
	v := mustOpen(t, config(d, now))
	m := v.NewMedia(d, nil)
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	d.SetOnOp(func(name string) {
		if strings.Contains(name, "log.bin") && (strings.HasPrefix(name, "sync") || strings.HasPrefix(name, "truncate")) {
			d.FailAt(1, syscall.EIO)
		}
	})
	busy, took := 0, 0
	for i := range 100 {
		err := m.Append('P', photo(i+1, randomBytes()[:1000]))
		if errors.Is(err, vault.ErrBusy) {
			busy++
		} else {
			must(t, err)
			took++
		}
		_ = m.Append('V', video("cam", 1, int64(i)*1000, footage(fileKey{'V', "cam", 1}, i*1000, 1000)))
		now.now += 200 * time.Millisecond
		for v.Step() {
		}
	}
	if took > 40 || busy < 60 {
		t.Errorf("%d photos were taken, %d refused", took, busy)
	}
	d.SetOnOp(nil)
	for range 10 {
		now.now += 10 * time.Second
		for v.Step() {
		}
	}
	must(t, m.Append('P', photo(200, randomBytes()[:1000])))
	must(t, m.End())
	must(t, v.Close())
	rep, err := verify(d.Files())
	if err != nil || rep.State != custody.VerdictClean {
		t.Error(rep.State, err)
	}
}
