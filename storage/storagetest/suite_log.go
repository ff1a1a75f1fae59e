package storagetest

import (
	"bytes"
	"io"
	"testing"

	"holdfast/storage/vault"
)

// The part of the suite that is about the public log: a file that grows over starts, is cut back, and
// slots that are written in place.

func testAppend(t *testing.T, fsys vault.FS) {
	put(t, fsys, "a", "one")
	f, err := fsys.Append("a")
	must(t, err)
	write(t, f, "two")
	wantFile(t, fsys, "a", "onetwo")
	must(t, f.Sync())
	must(t, fsys.Truncate("a", 4))
	write(t, f, "three") // at the end that there is now
	must(t, f.Sync())
	must(t, f.Close())
	wantFile(t, fsys, "a", "onetthree")
}

func testTruncate(t *testing.T, fsys vault.FS) {
	f := create(t, fsys, "a")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	write(t, f, string(content))
	for _, size := range []int{16000, 15999, 8192, 4097, 1, 0, 0} {
		must(t, fsys.Truncate("a", int64(size)))
		wantFile(t, fsys, "a", string(content[:size]))
	}
	must(t, f.Close())
	put(t, fsys, "b", "whole")
	if err := fsys.Truncate("b", -1); err == nil {
		t.Error("Truncate to less than nothing reports success")
	}
	wantFile(t, fsys, "b", "whole")
	must(t, fsys.Mkdir("d"))
	if err := fsys.Truncate("d", 0); err == nil {
		t.Error("Truncate of a directory reports success")
	}
}

func testReplace(t *testing.T, fsys vault.FS) {
	put(t, fsys, "a", "")
	for i, size := range []int{512, 512, 5120, 1024, 0, 512} {
		content := bytes.Repeat([]byte{byte('a' + i)}, size)
		must(t, fsys.Replace("a", content))
		wantFile(t, fsys, "a", string(content))
	}
	wantNames(t, fsys, ".", "a")
	must(t, fsys.Mkdir("d"))
	if err := fsys.Replace("d", []byte("x")); err == nil {
		t.Error("Replace of a directory reports success")
	}
}

func testOpenSynced(t *testing.T, fsys vault.FS) {
	f := create(t, fsys, "a")
	write(t, f, "0123456789")
	r, err := fsys.OpenSynced("a") // synced by nobody before
	must(t, err)
	for _, at := range []int64{4, 0, 10} {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != "0123456789"[at:] {
			t.Errorf("from %d: %q, %v", at, got, err)
		}
	}
	if size, err := r.Seek(0, io.SeekEnd); err != nil || size != 10 {
		t.Errorf("the end is at %d, %v", size, err)
	}
	must(t, r.Close())
	must(t, f.Close())
}
