package storagetest_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"strings"
	"syscall"
	"testing"

	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// outcomes crashes at random over many seeds after prepare, and counts what was found.
func outcomes(t *testing.T, prepare func(d *storagetest.Disk)) map[string]int {
	t.Helper()
	found := map[string]int{}
	for seed := range uint64(400) {
		d := storagetest.New(seed)
		prepare(d)
		found[show(d.Crash(storagetest.Random))]++
	}
	return found
}

// wantOutcomes wants exactly these outcomes, each at least once.
func wantOutcomes(t *testing.T, found map[string]int, want ...string) {
	t.Helper()
	allowed := map[string]bool{}
	for _, w := range want {
		allowed[w] = true
		if found[w] == 0 {
			t.Errorf("never found %q", w)
		}
	}
	for f, n := range found {
		if !allowed[f] {
			t.Errorf("found %q %d times, which cannot be", f, n)
		}
	}
}

func TestStrictKeepsWhatWasSyncedOnly(t *testing.T) {
	d := storagetest.New(1)
	f := create(t, d, "a")
	write(t, f, "synced")
	must(t, f.Sync())
	wantShow(t, d.Crash(storagetest.Strict), "") // the entry is not durable yet
	must(t, d.SyncDir("."))
	write(t, f, " and not")
	wantShow(t, d.Crash(storagetest.Strict), "a=synced")
	wantShow(t, d.Crash(storagetest.KeepAll), "a=synced and not")
	wantShow(t, d, "a=synced and not") // a crash leaves the Disk as it was
	must(t, f.Close())
	wantShow(t, d.Crash(storagetest.Strict), "a=synced") // Close syncs nothing
}

func TestEntryWithoutData(t *testing.T) {
	d := storagetest.New(1)
	write(t, create(t, d, "a"), "x")
	must(t, d.SyncDir("."))
	wantShow(t, d.Crash(storagetest.Strict), "a=")
}

func TestStrictEntries(t *testing.T) {
	d := storagetest.New(1)
	put(t, d, "removed", "1")
	put(t, d, "old", "2")
	must(t, d.Remove("removed"))
	must(t, d.Rename("old", "new"))
	wantShow(t, d.Crash(storagetest.Strict), "old=2 removed=1")
	must(t, d.SyncDir("."))
	wantShow(t, d.Crash(storagetest.Strict), "new=2")
}

// SyncDir of a directory does not make its own name durable.
func TestSyncDirIsOfOneDirectory(t *testing.T) {
	d := storagetest.New(1)
	must(t, d.Mkdir("d"))
	put(t, d, "d/a", "x")
	wantShow(t, d.Crash(storagetest.Strict), "")
	must(t, d.SyncDir("."))
	wantShow(t, d.Crash(storagetest.Strict), "d/a=x")
	put(t, d, "b", "y") // syncs the root, not d
	must(t, d.Remove("d/a"))
	must(t, d.SyncDir("."))
	wantShow(t, d.Crash(storagetest.Strict), "b=y d/a=x")
}

func TestUnsyncedCreate(t *testing.T) {
	wantOutcomes(t, outcomes(t, func(d *storagetest.Disk) {
		f := create(t, d, "a")
		write(t, f, "x")
		must(t, f.Sync())
	}), "", "a=x")
}

func TestUnsyncedRemove(t *testing.T) {
	wantOutcomes(t, outcomes(t, func(d *storagetest.Disk) {
		put(t, d, "a", "x")
		must(t, d.Remove("a"))
	}), "", "a=x")
}

func TestUnsyncedRenameIsAtomic(t *testing.T) {
	wantOutcomes(t, outcomes(t, func(d *storagetest.Disk) {
		put(t, d, "a", "x")
		must(t, d.Rename("a", "b"))
	}), "a=x", "b=x")
	wantOutcomes(t, outcomes(t, func(d *storagetest.Disk) {
		put(t, d, "a.tmp", "new")
		put(t, d, "a", "old")
		must(t, d.Rename("a.tmp", "a"))
	}), "a=old a.tmp=new", "a=new")
}

// The close of a segment without the directory sync between: the remove may outrun
// the rename, but the content is there under one name or the other.
func TestRemoveOutrunsRename(t *testing.T) {
	wantOutcomes(t, outcomes(t, func(d *storagetest.Disk) {
		put(t, d, "t.open", "padded")
		put(t, d, "t.tmp", "whole")
		must(t, d.Rename("t.tmp", "t"))
		must(t, d.Remove("t.open"))
	}), "t.open=padded t.tmp=whole", "t=whole t.open=padded", "t.tmp=whole", "t=whole")
}

// Changes of one name keep their order: never the second without the first.
func TestOrderOfOneName(t *testing.T) {
	wantOutcomes(t, outcomes(t, func(d *storagetest.Disk) {
		for _, content := range []string{"1", "2"} {
			f := create(t, d, "tmp")
			write(t, f, content)
			must(t, f.Sync())
			must(t, d.Rename("tmp", "cp"))
		}
	}), "", "tmp=1", "cp=1", "cp=1 tmp=2", "cp=2")
}

func TestUnsyncedDirectory(t *testing.T) {
	wantOutcomes(t, outcomes(t, func(d *storagetest.Disk) {
		must(t, d.Mkdir("d"))
		put(t, d, "d/a", "x")
		f := create(t, d, "d/b")
		write(t, f, "y")
		must(t, f.Sync())
	}), "", "d/a=x", "d/a=x d/b=y")
}

// page is long enough for several pages of both sizes, with no zero byte in it.
var page = strings.Repeat("0123456789abcdef", 3*4096/16)

// tails counts how the unsynced second half of a file was found.
func tails(t *testing.T, find func(synced, tail []byte) string) map[string]int {
	t.Helper()
	found := map[string]int{}
	for seed := range uint64(600) {
		d := storagetest.New(seed)
		f := create(t, d, "a")
		must(t, d.SyncDir("."))
		write(t, f, page[:5000])
		must(t, f.Sync())
		write(t, f, page[5000:9000])
		write(t, f, page[9000:])
		got := d.Crash(storagetest.Random).Files()["a"]
		if len(got) < 5000 || string(got[:5000]) != page[:5000] {
			t.Fatalf("seed %d: synced data is lost", seed)
		}
		if len(got) > len(page) {
			t.Fatalf("seed %d: the file has grown to %d bytes", seed, len(got))
		}
		for i, b := range got {
			if b != 0 && b != page[i] {
				t.Fatalf("seed %d: byte %d was never written", seed, i)
			}
		}
		found[find(got[:5000], got[5000:])]++
	}
	return found
}

func TestTornTails(t *testing.T) {
	found := tails(t, func(_, tail []byte) string {
		size := 5000 + len(tail)
		holes := bytes.Count(tail, []byte{0})
		switch {
		case len(tail) == 0:
			return "dropped"
		case holes == 0 && size == len(page):
			return "kept"
		case holes == 0 && size%512 != 0 && size > 9000:
			return "torn in the last write"
		case holes == 0 && size%512 != 0:
			return "torn at a byte"
		case holes == 0 && size%4096 != 0:
			return "torn at 512"
		case holes == 0:
			return "torn at 4096"
		case holes == len(tail) && size%512 != 0 && size != len(page):
			return "zero-filled"
		case holes == len(tail):
			return "no page"
		case tail[0] == 0 && tail[len(tail)-1] != 0:
			return "later page without earlier"
		}
		return "some pages"
	})
	for _, want := range []string{
		"dropped", "kept", "torn in the last write", "torn at a byte", "torn at 512", "torn at 4096",
		"zero-filled", "no page", "later page without earlier", "some pages",
	} {
		if found[want] == 0 {
			t.Errorf("over the seeds never %s: %v", want, found)
		}
	}
}

// Tears are more likely in the newest write than its size alone would make them.
func TestNewestWriteIsTorn(t *testing.T) {
	torn := 0
	for seed := range uint64(400) {
		d := storagetest.New(seed)
		f := create(t, d, "a")
		must(t, d.SyncDir("."))
		write(t, f, page)
		write(t, f, "0123456789")
		if n := len(d.Crash(storagetest.Random).Files()["a"]); n > len(page) && n < len(page)+10 {
			torn++
		}
	}
	if torn < 20 {
		t.Errorf("%d of 400 crashes tore the newest write of 10 bytes", torn)
	}
}

// Half of the crashes keep a prefix of the changes over all directories, as a journal does;
// the others keep any subset.
func TestJournalAndSubsets(t *testing.T) {
	names := strings.Split("d/a b d/c e d/f g d/h i", " ")
	prefixes, all := 0, 0
	found := outcomes(t, func(d *storagetest.Disk) {
		for range 50 { // durable changes before, which the choice of a prefix must leave out
			must(t, d.Mkdir("d"))
			must(t, d.Remove("d"))
		}
		must(t, d.Mkdir("d"))
		must(t, d.SyncDir("."))
		for _, name := range names {
			create(t, d, name)
		}
	})
	lengths := map[int]bool{}
	for files, n := range found {
		kept := strings.Count(files, "=")
		prefix := true
		for _, name := range names[:kept] {
			prefix = prefix && strings.Contains(" "+files, " "+name+"=")
		}
		if prefix {
			prefixes += n
			lengths[kept] = true
		}
		all += n
	}
	if found[""] > all/4 {
		t.Errorf("%d of %d crashes kept nothing", found[""], all)
	}
	if prefixes < all/2 || prefixes > all*9/10 || len(lengths) != len(names)+1 {
		t.Errorf("%d of %d crashes kept a prefix, of %d lengths", prefixes, all, len(lengths))
	}
}

// A time that was not set to zero can be found after the cut: it tells of the flight.
func TestTimesAfterTheCut(t *testing.T) {
	modified := func(d *storagetest.Disk) map[string]bool {
		entries, err := d.ReadDir(".")
		must(t, err)
		times := map[string]bool{}
		for _, e := range entries {
			info, err := e.Info()
			must(t, err)
			times[e.Name()] = info.ModTime().Unix() != 0
		}
		return times
	}
	d := storagetest.New(1)
	must(t, d.Mkdir("d"))
	put(t, d, "synced", "x")
	f := create(t, d, "written")
	must(t, f.Sync())
	must(t, d.SyncDir("."))
	must(t, d.SyncDir("d"))
	write(t, f, "y")
	must(t, d.Mkdir("d/e"))
	strict := map[string]bool{"d": false, "synced": false, "written": false}
	if got := modified(d.Crash(storagetest.Strict)); !maps.Equal(got, strict) {
		t.Errorf("after a strict crash: %v, want %v", got, strict)
	}
	kept := map[string]bool{"d": true, "synced": false, "written": true}
	if got := modified(d.Crash(storagetest.KeepAll)); !maps.Equal(got, kept) {
		t.Errorf("after a crash that keeps all: %v, want %v", got, kept)
	}
}

func TestFailedSyncLosesItsPages(t *testing.T) {
	d := storagetest.New(1)
	f := create(t, d, "a")
	must(t, d.SyncDir("."))
	write(t, f, "one")
	must(t, f.Sync())
	write(t, f, "two")
	d.FailAt(1, syscall.EIO)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Sync = %v, want EIO", err)
	}
	must(t, f.Sync()) // a success that is none
	wantShow(t, d.Crash(storagetest.Strict), "a=one")
	wantShow(t, d.Crash(storagetest.KeepAll), "a=one000")
	r, err := d.Open("a")
	must(t, err)
	if cached, err := io.ReadAll(r); err != nil || string(cached) != "onetwo" {
		t.Errorf("the page cache holds %q, %v", cached, err)
	}
	wantShow(t, d, "a=one000") // what ReadFile gives
	write(t, f, "three")
	must(t, f.Sync())
	wantShow(t, d.Crash(storagetest.Strict), "a=one000three")
	for range 50 {
		wantShow(t, d.Crash(storagetest.Random), "a=one000three")
	}
}

func TestFailedSyncDirLosesItsEntries(t *testing.T) {
	d := storagetest.New(1)
	put(t, d, "old", "1")
	put(t, d, "removed", "2")
	must(t, d.Rename("old", "new"))
	must(t, d.Remove("removed"))
	f := create(t, d, "created")
	must(t, f.Sync())
	d.FailAt(1, syscall.EIO)
	if err := d.SyncDir("."); !errors.Is(err, syscall.EIO) {
		t.Fatalf("SyncDir = %v, want EIO", err)
	}
	must(t, d.SyncDir("."))
	for _, mode := range []storagetest.CrashMode{storagetest.Strict, storagetest.Random, storagetest.KeepAll} {
		wantShow(t, d.Crash(mode), "old=1 removed=2")
	}
	// A later change of the same file is durable on its own, and leaves one name.
	must(t, d.Rename("new", "newer"))
	must(t, d.SyncDir("."))
	wantShow(t, d.Crash(storagetest.Strict), "newer=1 removed=2")
}

func TestCrashAt(t *testing.T) {
	d := storagetest.New(1)
	f := create(t, d, "a")
	must(t, d.SyncDir("."))
	write(t, f, "x")
	must(t, f.Sync())
	r, err := d.Open("a")
	must(t, err)
	d.CrashAt(2)
	must(t, d.Mkdir("d"))
	ops, heard := d.Ops(), 0
	d.SetOnOp(func(string) { heard++ })
	_, writeErr := f.Write([]byte("y"))
	_, createErr := d.Create("c")
	_, openErr := d.Open("a")
	_, fileErr := d.ReadFile("a")
	_, dirErr := d.ReadDir(".")
	_, freeErr := d.Free()
	_, lockErr := d.Lock(".")
	_, readErr := r.Read(make([]byte, 1))
	for name, err := range map[string]error{
		"Write": writeErr, "Create": createErr, "Open": openErr, "ReadFile": fileErr, "ReadDir": dirErr,
		"Free": freeErr, "Lock": lockErr, "Read": readErr, "Sync": f.Sync(), "Mkdir": d.Mkdir("e"),
		"Rename": d.Rename("a", "b"), "Remove": d.Remove("a"), "SyncDir": d.SyncDir("."),
	} {
		if !errors.Is(err, storagetest.ErrPowerCut) {
			t.Errorf("%s: %v, want ErrPowerCut", name, err)
		}
	}
	must(t, f.Close())
	if heard != 1 {
		t.Errorf("the hook was called %d times, want once for the operation that was cut", heard)
	}
	if d.Ops() != ops+1 {
		t.Errorf("%d operations were counted, want the one that was cut", d.Ops()-ops)
	}
	next := d.Crash(storagetest.Strict)
	wantShow(t, next, "a=x")
	must(t, next.Mkdir("e")) // the power is back
}

// The operation the power cut falls into is done, or not, or in part; a sync is not.
func TestCrashWithinAnOperation(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(d *storagetest.Disk, f vault.File) error
		want []string
	}{
		"write": {func(_ *storagetest.Disk, f vault.File) error { _, err := f.Write([]byte("yz")); return err },
			[]string{"a=x", "a=xy"}},
		"rename":  {func(d *storagetest.Disk, _ vault.File) error { return d.Rename("a", "b") }, []string{"a=x", "b=x"}},
		"remove":  {func(d *storagetest.Disk, _ vault.File) error { return d.Remove("a") }, []string{"a=x", ""}},
		"create":  {func(d *storagetest.Disk, _ vault.File) error { _, err := d.Create("b"); return err }, []string{"a=x", "a=x b="}},
		"sync":    {func(_ *storagetest.Disk, f vault.File) error { return f.Sync() }, []string{"a=x"}},
		"syncdir": {func(d *storagetest.Disk, _ vault.File) error { return d.SyncDir(".") }, []string{"a=x"}},
	} {
		t.Run(name, func(t *testing.T) {
			found := map[string]int{}
			for seed := range uint64(50) {
				d := storagetest.New(seed)
				f := create(t, d, "a")
				must(t, d.SyncDir("."))
				write(t, f, "x")
				must(t, f.Sync())
				d.CrashAt(1)
				if err := c.do(d, f); !errors.Is(err, storagetest.ErrPowerCut) {
					t.Fatalf("error %v, want ErrPowerCut", err)
				}
				wantShow(t, d.Crash(storagetest.Strict), "a=x")
				found[show(d.Crash(storagetest.KeepAll))]++
			}
			wantOutcomes(t, found, c.want...)
		})
	}
}

func TestCrashAtTakenBack(t *testing.T) {
	d := storagetest.New(1)
	d.CrashAt(1)
	d.CrashAt(0)
	must(t, d.Mkdir("d"))
}

func TestLockIsFreeAfterTheCut(t *testing.T) {
	d := storagetest.New(1)
	must(t, d.Mkdir("d"))
	must(t, d.SyncDir("."))
	_, err := d.Lock("d")
	must(t, err)
	next := d.Crash(storagetest.Strict)
	_, err = next.Lock("d")
	must(t, err)
	for _, disk := range []*storagetest.Disk{d, next} {
		if _, err := disk.Lock("d"); !errors.Is(err, vault.ErrLocked) {
			t.Errorf("second Lock: %v, want ErrLocked", err)
		}
	}
}

func TestIgnoreSync(t *testing.T) {
	d := storagetest.New(1)
	put(t, d, "a", "x")
	d.IgnoreSync(true)
	put(t, d, "b", "y")
	wantShow(t, d, "a=x b=y")
	next := d.Crash(storagetest.Strict)
	wantShow(t, next, "a=x")
	put(t, next, "c", "z") // the medium goes on lying
	wantShow(t, next.Crash(storagetest.Strict), "a=x")
}

// One seed and one order of calls give one outcome.
func TestSeedsRepeat(t *testing.T) {
	run := func(seed uint64) string {
		d := storagetest.New(seed)
		for _, name := range strings.Split("abcdefghij", "") {
			write(t, create(t, d, name), page)
		}
		d = d.Crash(storagetest.Random)
		must(t, d.Mkdir("x"))
		return show(d.Crash(storagetest.Random))
	}
	different := map[string]bool{}
	for seed := range uint64(20) {
		first := run(seed)
		different[first] = true
		if run(seed) != first {
			t.Fatalf("seed %d gives two outcomes", seed)
		}
	}
	if len(different) < 15 {
		t.Errorf("20 seeds give only %d outcomes", len(different))
	}
}
