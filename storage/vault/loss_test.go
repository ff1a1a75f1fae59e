package vault_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// What a failing medium costs of media, and that it is told.

// TestLossIsTold: what a failing medium has cost of a video is named in the next block of it, also
// where it fails twice.
func TestLossIsTold(t *testing.T) {
	d, now := storagetest.New(1), &clock{now: time.Second}
	v := mustOpen(t, config(d, now))
	m := v.NewMedia(watch(t, d), nil)
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	k, offset := fileKey{'V', "cam", 1}, 0
	shoot := func(n int) error {
		err := m.Append('V', video("cam", 1, int64(offset), footage(k, offset, n)))
		if err == nil {
			offset += n
		}
		return err
	}
	pass := func() error {
		now.now += 1100 * time.Millisecond
		err := m.Flush(now.now)
		for v.Step() {
		}
		return err
	}
	for range 5 {
		must(t, shoot(30_000))
		must(t, pass())
	}
	kept := offset
	for range 2 { // each costs one block, the second time the news of the first too
		must(t, shoot(30_000))
		d.SetOnOp(func(name string) {
			if strings.HasPrefix(name, "sync ") && strings.Contains(name, "/V") {
				d.FailAt(1, syscall.EIO)
			}
		})
		if err := pass(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("the sync fails, and Flush says %v", err)
		}
		d.SetOnOp(nil)
		if err := shoot(1000); !errors.Is(err, syscall.EIO) {
			t.Errorf("a block straight after that: %v", err)
		}
		now.now += time.Second
	}
	lost := offset
	must(t, shoot(30_000))
	must(t, pass())
	must(t, m.End())
	must(t, v.Close())
	var told []segment.Range
	must(t, eachForm(d.Crash(storagetest.Strict).Files(), func(record, file string, data []byte, id age.Identity) error {
		return (&pieces{do: func(m *segment.Meta, data []byte) error {
			told = append(told, m.File.Lost...)
			if len(m.File.Lost) > 0 && m.File.Why == "" {
				t.Error("it is not said why")
			}
			return nil
		}}).read(data, id)
	}))
	if last := told[len(told)-1]; last.From > int64(kept) || last.To != int64(lost) {
		t.Errorf("told is %+v, lost are %d to %d", told, kept, lost)
	}
	rep, err := verify(d.Files())
	if err != nil || rep.State != custody.VerdictCut {
		t.Error(rep.State, err)
	}
}

// TestLossOverRecords: a loss at the end of a record is no loss of another file that has the same
// id in the next; of one that goes on there, it is bytes that the offset does not count.
func TestLossOverRecords(t *testing.T) {
	for _, goesOn := range []bool{false, true} {
		d, now := storagetest.New(1), &clock{now: time.Second}
		v := mustOpen(t, config(d, now))
		fsys := &brokenFS{FS: d}
		m := v.NewMedia(fsys, nil)
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		k := fileKey{'V', "cam", 1}
		must(t, m.Append('V', video("cam", 1, 0, footage(k, 0, 3000))))
		fsys.err = syscall.EIO
		if err := m.End(); !errors.Is(err, syscall.EIO) {
			t.Error(err)
		}
		fsys.err = nil
		must(t, v.Begin(vault.Ground, vault.RecordID{}))
		now.now += 2 * time.Second
		b := video("cam", 1, 0, footage(k, 0, 1000))
		if goesOn {
			b.Meta.File.Continues = "F00000001"
		}
		must(t, m.Append('V', b))
		must(t, m.End())
		must(t, v.Close())
		must(t, eachForm(d.Files(), func(record, file string, data []byte, id age.Identity) error {
			return (&pieces{do: func(m *segment.Meta, data []byte) error {
				if want := map[bool]int64{true: 3000}[goesOn]; record == "G00000002" && (m.File.LostBytes != want || len(m.File.Lost) > 0) {
					t.Errorf("goes on %v: %+v", goesOn, m.File)
				}
				return nil
			}}).read(data, id)
		}))
	}
}

// TestLossOfATold: what a block told as lost before it is told again where that block is lost, in the
// same record and in the next.
func TestLossOfATold(t *testing.T) {
	for _, next := range []bool{false, true} {
		d, now := storagetest.New(1), &clock{now: time.Second}
		v := mustOpen(t, config(d, now))
		fsys := &brokenFS{FS: d}
		m := v.NewMedia(fsys, nil)
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		k := fileKey{'V', "cam", 1}
		shoot := func(offset int, lost int64) {
			b := video("cam", 1, int64(offset), footage(k, offset, 1000))
			b.Meta.File.BeganUsec, b.Meta.File.LostBytes = 7, lost
			must(t, m.Append('V', b))
		}
		shoot(0, 0)
		must(t, m.End())
		shoot(1000, 400)
		fsys.err = syscall.EIO
		if err := m.End(); !errors.Is(err, syscall.EIO) {
			t.Error(err)
		}
		fsys.err = nil
		now.now += 2 * time.Second
		if next {
			must(t, v.Begin(vault.Ground, vault.RecordID{}))
		}
		shoot(2000, 20)
		must(t, m.End())
		must(t, v.Close())
		want, got := map[bool]int64{false: 420, true: 1420}[next], int64(0)
		must(t, eachForm(d.Files(), func(record, file string, data []byte, id age.Identity) error {
			return (&pieces{do: func(m *segment.Meta, data []byte) error {
				if m.File.Offset == 2000 {
					got = m.File.LostBytes
				}
				return nil
			}}).read(data, id)
		}))
		if got != want {
			t.Errorf("next record %v: %d bytes are told as lost, want %d", next, got, want)
		}
	}
}

// TestLossOfATeller: a block that tells of a loss is lost itself, once and again: the next one that is kept
// tells of all of it, each byte once.
func TestLossOfATeller(t *testing.T) {
	for times := range 4 {
		d, now := storagetest.New(1), &clock{now: time.Second}
		v := mustOpen(t, config(d, now))
		fsys := &brokenFS{FS: d}
		m := v.NewMedia(fsys, nil)
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		k := fileKey{'V', "cam", 1}
		offset := 0
		shoot := func(dropped int64) {
			b := video("cam", 1, int64(offset), footage(k, offset, 1000))
			b.Meta.File.BeganUsec, b.Meta.File.LostBytes = 7, dropped
			must(t, m.Append('V', b))
			offset += 1000
		}
		shoot(0)
		must(t, m.End())
		for range times {
			shoot(400)
			fsys.err = syscall.EIO
			if err := m.End(); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			// A block that is not even taken is the caller's to count, and takes nothing along.
			now.now += 2 * time.Second
			big := video("cam", 1, int64(offset), footage(k, offset, 200_000))
			big.Meta.File.BeganUsec = 7
			if err := m.Append('V', big); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			fsys.err = nil
			now.now += 2 * time.Second
		}
		shoot(20)
		must(t, m.End())
		must(t, v.Close())
		var dropped, lost int64
		must(t, eachForm(d.Files(), func(record, file string, data []byte, id age.Identity) error {
			return (&pieces{do: func(m *segment.Meta, data []byte) error {
				if m.File.Offset == int64(offset-1000) {
					dropped = m.File.LostBytes
					for _, r := range m.File.Lost {
						lost += r.To - r.From
					}
				}
				return nil
			}}).read(data, id)
		}))
		if dropped != int64(400*times+20) || lost != int64(1000*times) {
			t.Errorf("%d failures: %d bytes told as dropped, %d as lost", times, dropped, lost)
		}
	}
}

// brokenFS fails each call that writes, while err is set.
type brokenFS struct {
	vault.FS
	err     error
	creates int
}

func (b *brokenFS) Create(name string) (vault.File, error) {
	if b.creates++; b.err != nil && b.creates%2 == 0 {
		return nil, b.err
	}
	f, err := b.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &brokenFile{f, b}, nil
}

type brokenFile struct {
	vault.File
	b *brokenFS
}

func (f *brokenFile) Write(p []byte) (int, error) {
	if f.b.err != nil && len(p) > 10_000 { // an age header passes now and then
		return 0, f.b.err
	}
	return f.File.Write(p)
}

func (f *brokenFile) Sync() error {
	if f.b.err != nil {
		return f.b.err
	}
	return f.File.Sync()
}

// TestBrokenForMedia: where the medium takes no media, telemetry knows nothing of it; media tries
// once a second, and goes on when it may.
func TestBrokenForMedia(t *testing.T) {
	for _, fault := range errIO {
		d, now := storagetest.New(1), &clock{now: time.Second}
		v := mustOpen(t, config(d, now))
		fsys := &brokenFS{FS: watch(t, d)}
		m := v.NewMedia(fsys, nil)
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		failed, offset := 0, int64(0)
		k := fileKey{'V', "cam", 1}
		for n := range uint64(150) {
			switch n {
			case 20:
				fsys.err, fsys.creates = fault, 0
			case 120:
				if fsys.err = nil; fsys.creates > 11 {
					t.Errorf("%v: %d files were made in 10 s", fault, fsys.creates)
				}
			}
			must(t, v.Append(&segment.Block{Meta: segment.Meta{Frames: 1}, Data: entries(n, n+1)}))
			must(t, v.Flush())
			err := m.Append('V', video("cam", 1, offset, footage(k, int(offset), 30_000)))
			if err == nil {
				offset += 30_000
			} else if failed++; !errors.Is(err, fault) || n < 20 || n > 131 {
				t.Errorf("%v: block %d: %v", fault, n, err)
			}
			now.now += 100 * time.Millisecond
			if at, ok := m.Due(); ok && at <= now.now {
				if err := m.Flush(now.now); err != nil && !errors.Is(err, fault) {
					t.Error(err)
				}
			}
			for v.Step() {
			}
		}
		must(t, m.End())
		must(t, v.Close())
		files := d.Crash(storagetest.Strict).Files()
		rep, err := verify(files)
		if err != nil || rep.State != custody.VerdictCut || failed < 80 {
			t.Errorf("%v: %s, %d blocks failed, %v", fault, rep.State, failed, err)
		}
		for _, s := range rep.Records[0].Segments {
			if s.Name[0] == 'T' && s.State != custody.VerdictClean {
				t.Errorf("%v: %+v", fault, s)
			}
		}
		c := newCinema(v, m, now)
		c.fails = true
		must(t, c.develop(files))
	}
}

// TestLossOfATail: of a fast stream the last chunk is not synced with the rest. Where the medium
// fails then, each byte that was taken is there or named as lost.
func TestLossOfATail(t *testing.T) {
	for _, n := range []int{256<<10 + 10, 300_000, 5 << 20} {
		d, now := storagetest.New(1), &clock{now: time.Second}
		v := mustOpen(t, config(d, now))
		fsys := &brokenFS{FS: d}
		m := v.NewMedia(fsys, nil)
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		offset := 0
		shoot := func(n int) {
			t.Helper()
			for ; n > 0; n -= 300_000 {
				size := min(n, 300_000)
				must(t, m.Append('V', video("cam", 1, int64(offset), randomBytes()[offset%1000:][:size])))
				offset += size
			}
		}
		shoot(n)
		now.now += 1100 * time.Millisecond
		must(t, m.Flush(now.now))
		fsys.err = syscall.EIO
		now.now += 1100 * time.Millisecond
		if err := m.Flush(now.now); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		fsys.err = nil
		now.now += 2 * time.Second
		shoot(1000)
		must(t, m.End())
		must(t, v.Close())
		var there []segment.Range
		must(t, eachForm(d.Crash(storagetest.Strict).Files(), func(record, file string, data []byte, id age.Identity) error {
			return (&pieces{do: func(m *segment.Meta, data []byte) error {
				there = append(append(there, segment.Range{From: m.File.Offset, To: m.File.Offset + int64(len(data))}), m.File.Lost...)
				return nil
			}}).read(data, id)
		}))
		if end := covered(there); end != int64(offset) {
			t.Errorf("%d bytes: what is there and what is lost reach to %d of %d: %v", n, end, offset, there)
		}
	}
}
