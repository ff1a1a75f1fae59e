package vault_test

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// photo is a block that is a whole photo.
func photo(id int, data []byte) *segment.Block {
	return &segment.Block{Data: data, Meta: segment.Meta{File: &segment.File{ID: id, Kind: segment.KindPhoto, Source: "cam", Format: "jpg", End: true, Size: int64(len(data))}}}
}

// video is a block of a camera's video.
func video(source string, id int, offset int64, data []byte) *segment.Block {
	return &segment.Block{Data: data, Meta: segment.Meta{File: &segment.File{ID: id, Kind: segment.KindVideo, Source: source, Format: "h264", Offset: offset}}}
}

// TestReserve: media yields to telemetry.
func TestReserve(t *testing.T) {
	d, now := storagetest.New(1), &clock{}
	cfg := config(watch(t, d), now)
	cfg.Reserve = 64 << 20
	v := mustOpen(t, cfg)
	m := v.NewMedia(watch(t, d), nil)
	if err := m.Append('P', photo(1, []byte("no record"))); !errors.Is(err, vault.ErrClosed) {
		t.Errorf("without a record: %v", err)
	}
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	for _, stream := range []byte{'T', 'Z', 'A', 'X', 0} {
		if err := m.Append(stream, photo(1, nil)); !errors.Is(err, vault.ErrStream) {
			t.Errorf("stream %q: %v", stream, err)
		}
	}
	if err := m.Append('P', &segment.Block{Data: []byte("of no file")}); !errors.Is(err, vault.ErrStream) {
		t.Errorf("a block of no file: %v", err)
	}
	pixels := randomBytes()[:300<<10]
	must(t, m.Append('P', photo(1, pixels)))
	d.SetFree(vault.MinFree + cfg.Reserve + 200<<10)
	for range 5 {
		if err := m.Append('P', photo(2, pixels)); !errors.Is(err, vault.ErrReserve) {
			t.Errorf("within the reserve: %v", err)
		}
		must(t, v.Append(&segment.Block{Data: entries(0, 10)}))
		must(t, v.Flush())
	}
	d.SetFree(vault.MinFree + 1<<20)
	must(t, v.Room())
	must(t, v.Append(&segment.Block{Data: entries(10, 20)}))
	must(t, v.Flush())
	d.SetFree(1 << 30)
	must(t, m.Append('P', photo(3, pixels)))
	must(t, m.Append('V', video("cam", 1, 0, pixels)))
	must(t, m.End())
	must(t, v.Close())
	files := d.Crash(storagetest.Strict).Files()
	var names []string
	for name, data := range files {
		if base := strings.TrimPrefix(name, device+"/F00000001/"); strings.ContainsAny(base[:1], "PV") && len(data) > len(pixels) {
			names = append(names, base)
		}
	}
	if slices.Sort(names); !slices.Equal(names, []string{"P000001.age", "P000003.age", "V000001.age"}) {
		t.Errorf("%q are there", names)
	}
	lost := of[*custody.Lost](leaves(t, files))
	if len(lost) != 1 || lost[0].Segment != "P000002" || lost[0].Why != custody.WhyRefused {
		t.Errorf("%d leaves X: %+v", len(lost), lost)
	}
	if rep, err := verify(files); err != nil || rep.State != custody.VerdictClean {
		t.Error(rep.State, err)
	}
}

// TestMediaIsCut cuts the power and lets operations fail while photos are put.
func TestMediaIsCut(t *testing.T) {
	run := func(d *storagetest.Disk) (ops int) {
		w := watch(t, d)
		v, err := vault.Open(config(w, &clock{}))
		if err != nil {
			return d.Ops()
		}
		m := v.NewMedia(w, nil)
		if v.Begin(vault.Flight, vault.RecordID{}) != nil {
			return d.Ops()
		}
		for i := range 3 {
			_ = m.Append('P', photo(i+1, randomBytes()[:100<<10]))
			_ = v.Append(&segment.Block{Data: entries(0, 10)})
			_ = v.Flush()
			for v.Step() {
			}
		}
		_ = m.End()
		_ = v.Close()
		return d.Ops()
	}
	ops := run(storagetest.New(0))
	for at := 1; at <= ops; at += stride() {
		for _, fail := range []bool{false, true} {
			d := storagetest.New(uint64(at))
			if fail && at < 45 {
				continue // in the first start
			}
			if fail {
				d.FailAt(at, syscall.EIO)
			} else {
				d.CrashAt(at)
			}
			run(d)
			for range 2 {
				if rep, err := verify(d.Crash(storagetest.Random).Files()); err != nil && rep != nil && len(rep.Records) > 0 {
					t.Fatalf("operation %d, fails %v, before the next start: %v %+v", at, fail, err, rep.Records)
				}
			}
			c := d.Crash(storagetest.Random)
			v, err := vault.Open(config(c, &clock{}))
			must(t, err)
			must(t, v.Close())
			if rep, err := verify(c.Files()); err != nil {
				t.Errorf("operation %d, fails %v: %v %+v", at, fail, err, rep.Records)
			}
		}
	}
}

// TestFolderSyncOfAnother: a sync of the folder that fails for Media loses the names that the vault
// has made in it meanwhile, though the vault's own sync comes to a good end: it makes them anew.
func TestFolderSyncOfAnother(t *testing.T) {
	d, now := storagetest.New(1), &clock{now: time.Second}
	v := mustOpen(t, config(d, now))
	m := v.NewMedia(d, nil)
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	must(t, v.Append(&segment.Block{Data: entries(0, 10)}))
	must(t, v.Flush())
	must(t, m.Append('P', photo(1, randomBytes()[:1000])))
	linked := func() bool {
		names := d.OpNames()
		return strings.HasPrefix(names[len(names)-1], "link ")
	}
	for !linked() {
		if !v.Step() {
			t.Fatal("the photo is not linked")
		}
	}
	d.FailAt(4, syscall.EIO) // free, create, write, syncdir
	if err := m.Append('V', video("cam", 1, 0, randomBytes()[:1000])); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if names := d.OpNames(); !slices.ContainsFunc(names[len(names)-3:], func(n string) bool { return strings.HasPrefix(n, "syncdir") }) {
		t.Fatalf("%q", names[len(names)-4:])
	}
	for range 5 {
		for v.Step() {
		}
		now.now += 10 * time.Second
	}
	files := d.Crash(storagetest.Strict).Files()
	if files[device+"/F00000001/P000001.age"] == nil {
		t.Error("the closed form is gone after a cut")
	}
	if rep, err := verify(files); err != nil {
		t.Error(rep.State, err)
	}
	must(t, v.Close())
	if rep, err := verify(d.Files()); err != nil || rep.State != custody.VerdictClean {
		t.Error(rep.State, err)
	}
}
