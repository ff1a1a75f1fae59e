package storagetest_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast/storage/storagetest"
)

const sector = 512

func fill(c byte, size int) []byte { return bytes.Repeat([]byte{c}, size) }

// kinds tells what the sectors of a file hold: old, new, zero, torn.
func kinds(data []byte) string {
	found := map[string]bool{}
	for s := range slices.Chunk(data, sector) {
		switch {
		case !bytes.ContainsAny(s, "n\x00"):
			found["old"] = true
		case !bytes.ContainsAny(s, "o\x00"):
			found["new"] = true
		case !bytes.ContainsAny(s, "on"):
			found["zero"] = true
		default:
			found["torn"] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), "+")
}

// TestReplaceIsCut: a cut within a Replace leaves old, new or zero sectors and torn ones, and
// the size of either; one that has succeeded is there to the byte.
func TestReplaceIsCut(t *testing.T) {
	seen, sizes := map[string]int{}, map[int]int{}
	for seed := range uint64(400) {
		d := storagetest.New(seed)
		put(t, d, "cp", string(fill('o', 8*sector)))
		d.CrashAt(1)
		if err := d.Replace("cp", fill('n', 6*sector)); !errors.Is(err, storagetest.ErrPowerCut) {
			t.Fatal(err)
		}
		if got := d.Crash(storagetest.Strict).Files()["cp"]; kinds(got) != "old" || len(got) != 8*sector {
			t.Fatalf("strict: %s", kinds(got))
		}
		got := d.Crash(storagetest.Random).Files()["cp"]
		seen[kinds(got)]++
		sizes[len(got)]++
	}
	for _, want := range []string{"old", "new", "new+old", "new+zero", "new+old+torn+zero"} {
		if seen[want] == 0 {
			t.Errorf("never %s: %v", want, seen)
		}
	}
	if len(sizes) != 2 {
		t.Errorf("sizes %v", sizes)
	}
	d := storagetest.New(1)
	put(t, d, "cp", string(fill('o', 8*sector)))
	must(t, d.Replace("cp", fill('n', 8*sector)))
	for _, mode := range []storagetest.CrashMode{storagetest.Strict, storagetest.Random, storagetest.KeepAll} {
		if got := d.Crash(mode).Files()["cp"]; kinds(got) != "new" {
			t.Errorf("%s after a Replace with success", kinds(got))
		}
	}
}

// TestReplaceFails: what a failure leaves is there at once, and a second try heals it.
func TestReplaceFails(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(200) {
		d := storagetest.New(seed)
		put(t, d, "cp", string(fill('o', 4*sector)))
		d.FailAt(1, syscall.EIO)
		if err := d.Replace("cp", fill('n', 4*sector)); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		running, err := d.ReadFile("cp")
		must(t, err)
		if cut := d.Crash(storagetest.Random).Files()["cp"]; !bytes.Equal(cut, running) {
			t.Fatal("the medium differs from what a reader finds")
		}
		seen[kinds(running)]++
		must(t, d.Replace("cp", fill('n', 4*sector)))
		if got := d.Crash(storagetest.Strict).Files()["cp"]; kinds(got) != "new" {
			t.Fatalf("after the second try: %s", kinds(got))
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %v", seen)
	}
}

func TestReplaceSpace(t *testing.T) {
	d := storagetest.New(1)
	put(t, d, "cp", string(fill('o', sector)))
	d.SetFree(sector)
	if err := d.Replace("cp", fill('n', 3*sector)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Replace beyond the space: %v", err)
	}
	must(t, d.Replace("cp", fill('n', 2*sector)))
	must(t, d.Replace("cp", fill('n', 2*sector))) // as long as before: no space needed
	if free, _ := d.Free(); free != 0 {
		t.Errorf("%d bytes free, want 0", free)
	}
	must(t, d.Truncate("cp", 0))
	if free, _ := d.Free(); free != 2*sector {
		t.Errorf("%d bytes free, want %d", free, 2*sector)
	}
}

// TestTruncateIsCut: it is done or it is not, and what is written behind it is a new tail.
func TestTruncateIsCut(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(50) {
		d := storagetest.New(seed)
		put(t, d, "log", "leaves")
		d.CrashAt(1)
		if err := d.Truncate("log", 3); !errors.Is(err, storagetest.ErrPowerCut) {
			t.Fatal(err)
		}
		seen[show(d.Crash(storagetest.Strict))]++
	}
	if len(seen) != 2 || seen["log=leaves"] == 0 || seen["log=lea"] == 0 {
		t.Errorf("%v", seen)
	}
	d := storagetest.New(1)
	put(t, d, "log", "leaves")
	old := d.Crash(storagetest.Strict) // shares its bytes
	must(t, d.Truncate("log", 3))
	f, err := d.Append("log")
	must(t, err)
	write(t, f, "XY")
	wantShow(t, d.Crash(storagetest.Strict), "log=lea")
	must(t, f.Sync())
	wantShow(t, d.Crash(storagetest.Strict), "log=leaXY")
	wantShow(t, old, "log=leaves")
}

// TestRewind: what a failed sync has lost is cut off and written again.
func TestRewind(t *testing.T) {
	d := storagetest.New(1)
	put(t, d, "log", "one")
	f, err := d.Append("log")
	must(t, err)
	write(t, f, "two")
	d.FailAt(1, syscall.EIO)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	r, err := d.OpenSynced("log") // shows that it is lost
	must(t, err)
	if got, err := io.ReadAll(r); err != nil || string(got) != "one\x00\x00\x00" {
		t.Errorf("OpenSynced shows %q, %v", got, err)
	}
	must(t, d.Truncate("log", 3))
	f, err = d.Append("log")
	must(t, err)
	write(t, f, "two")
	must(t, f.Sync())
	for range 20 {
		wantShow(t, d.Crash(storagetest.Random), "log=onetwo")
	}
}

// TestOpenSyncedFails: the first call tells of the failure and loses the pages; the second one
// shows what is left.
func TestOpenSyncedFails(t *testing.T) {
	d := storagetest.New(1)
	put(t, d, "a", "one")
	f, err := d.Append("a")
	must(t, err)
	write(t, f, "two")
	d.FailAt(1, syscall.EIO)
	if _, err := d.OpenSynced("a"); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	r, err := d.OpenSynced("a")
	must(t, err)
	if got, err := io.ReadAll(r); err != nil || string(got) != "one\x00\x00\x00" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, r.Close())
	must(t, f.Close())
}
