package storagetest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"testing"

	"holdfast/storage/vault"
)

// TestFS is the suite that every medium of a vault must pass: what vault.FS promises while
// the power is on. newFS gives an empty medium, a new one for each call; it may use the
// Cleanup of t. What a medium keeps in a power cut cannot be asked of it while it runs.
func TestFS(t *testing.T, newFS func(t *testing.T) vault.FS) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, fsys vault.FS)
	}{
		{"Create never overwrites", testCreateExclusive},
		{"Create needs its directory", testCreateMissingDir},
		{"Write appends", testWriteAppends},
		{"Write is seen at once", testWriteSeen},
		{"Close ends a file", testClosed},
		{"Append goes on at the end", testAppend},
		{"Truncate cuts", testTruncate},
		{"Replace writes over", testReplace},
		{"OpenSynced shows what is durable", testOpenSynced},
		{"Open reads in pieces", testOpen},
		{"missing names", testMissing},
		{"Mkdir makes one directory", testMkdir},
		{"Rename moves", testRename},
		{"Rename replaces", testRenameReplaces},
		{"Rename keeps an open reader on the old file", testRenameReader},
		{"Link gives a second name", testLink},
		{"Remove", testRemove},
		{"ReadDir", testReadDir},
		{"files are no directories", testKinds},
		{"access rights", testModes},
		{"times are zero after a sync", testTimes},
		{"Free", testFree},
		{"Lock is exclusive", testLock},
		{"names stay below the root", testEscape},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newFS(t)) })
	}
}

// put makes a file with a content, synced and closed.
func put(t *testing.T, fsys vault.FS, name, content string) {
	t.Helper()
	f := create(t, fsys, name)
	write(t, f, content)
	must(t, f.Sync())
	must(t, f.Close())
}

func create(t *testing.T, fsys vault.FS, name string) vault.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	return f
}

func write(t *testing.T, f vault.File, content string) {
	t.Helper()
	n, err := f.Write([]byte(content))
	if err != nil || n != len(content) {
		t.Fatalf("Write of %d bytes = %d, %v", len(content), n, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func wantFile(t *testing.T, fsys vault.FS, name, want string) {
	t.Helper()
	got, err := fsys.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("ReadFile(%s) = %.40q (%d bytes), %v; want %.40q", name, got, len(got), err, want)
	}
}

func wantNames(t *testing.T, fsys vault.FS, dir string, want ...string) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("ReadDir(%s) = %q, want %q", dir, got, want)
	}
}

func testCreateExclusive(t *testing.T, fsys vault.FS) {
	put(t, fsys, "a", "first")
	_, err := fsys.Create("a")
	wantErr(t, "Create of a file that is there", err, fs.ErrExist)
	wantFile(t, fsys, "a", "first")
	must(t, fsys.Mkdir("d"))
	_, err = fsys.Create("d")
	wantErr(t, "Create where a directory is", err, fs.ErrExist)
	must(t, fsys.Remove("a"))
	put(t, fsys, "a", "second")
	wantFile(t, fsys, "a", "second")
}

func testCreateMissingDir(t *testing.T, fsys vault.FS) {
	_, err := fsys.Create("d/a")
	wantErr(t, "Create in a missing directory", err, fs.ErrNotExist)
	wantErr(t, "Mkdir in a missing directory", fsys.Mkdir("d/e"), fs.ErrNotExist)
	wantNames(t, fsys, ".")
}

func testWriteAppends(t *testing.T, fsys vault.FS) {
	must(t, fsys.Mkdir("d"))
	f := create(t, fsys, "d/a")
	var want bytes.Buffer
	for i := range 200 { // sizes around and across pages
		piece := bytes.Repeat([]byte{byte(i)}, i*i%5000)
		write(t, f, string(piece))
		want.Write(piece)
		if i%50 == 0 {
			must(t, f.Sync())
		}
	}
	must(t, f.Sync())
	must(t, f.Close())
	wantFile(t, fsys, "d/a", want.String())
}

func testWriteSeen(t *testing.T, fsys vault.FS) {
	f := create(t, fsys, "a")
	wantFile(t, fsys, "a", "")
	write(t, f, "one")
	wantFile(t, fsys, "a", "one")
	write(t, f, "")
	write(t, f, "two")
	wantFile(t, fsys, "a", "onetwo")
	must(t, f.Close())
	wantFile(t, fsys, "a", "onetwo")
}

func testClosed(t *testing.T, fsys vault.FS) {
	f := create(t, fsys, "a")
	write(t, f, "one")
	must(t, f.Close())
	if n, err := f.Write([]byte("two")); err == nil || n != 0 {
		t.Errorf("Write after Close = %d, %v", n, err)
	}
	if err := f.Sync(); err == nil {
		t.Error("Sync after Close reports success")
	}
	wantFile(t, fsys, "a", "one")
}

func testOpen(t *testing.T, fsys vault.FS) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	put(t, fsys, "a", string(content))
	r, err := fsys.Open("a")
	must(t, err)
	first := make([]byte, 7)
	_, err = io.ReadFull(r, first)
	must(t, err)
	rest, err := io.ReadAll(r)
	must(t, err)
	if !bytes.Equal(append(first, rest...), content) {
		t.Errorf("read %d bytes that differ from the %d written", len(first)+len(rest), len(content))
	}
	must(t, r.Close())
	if _, err := r.Read(first); err == nil || err == io.EOF {
		t.Errorf("Read after Close = %v", err)
	}
	// Two files of the same content are two files.
	put(t, fsys, "b", "x")
	wantFile(t, fsys, "a", string(content))
}

func testMissing(t *testing.T, fsys vault.FS) {
	must(t, fsys.Mkdir("d"))
	for _, name := range []string{"a", "d/a", "e/a"} {
		_, err := fsys.Open(name)
		wantErr(t, "Open "+name, err, fs.ErrNotExist)
		_, err = fsys.OpenSynced(name)
		wantErr(t, "OpenSynced "+name, err, fs.ErrNotExist)
		_, err = fsys.Append(name)
		wantErr(t, "Append "+name, err, fs.ErrNotExist)
		wantErr(t, "Truncate "+name, fsys.Truncate(name, 0), fs.ErrNotExist)
		wantErr(t, "Replace "+name, fsys.Replace(name, []byte("x")), fs.ErrNotExist)
		_, err = fsys.ReadFile(name)
		wantErr(t, "ReadFile "+name, err, fs.ErrNotExist)
		_, err = fsys.ReadDir(name)
		wantErr(t, "ReadDir "+name, err, fs.ErrNotExist)
		_, err = fsys.Lock(name)
		wantErr(t, "Lock "+name, err, fs.ErrNotExist)
		wantErr(t, "Remove "+name, fsys.Remove(name), fs.ErrNotExist)
		wantErr(t, "Rename "+name, fsys.Rename(name, name+"2"), fs.ErrNotExist)
		wantErr(t, "SyncDir "+name, fsys.SyncDir(name), fs.ErrNotExist)
	}
	wantNames(t, fsys, ".", "d")
}

func testMkdir(t *testing.T, fsys vault.FS) {
	must(t, fsys.Mkdir("d"))
	must(t, fsys.Mkdir("d/e"))
	put(t, fsys, "d/e/a", "deep")
	must(t, fsys.SyncDir("d/e"))
	must(t, fsys.SyncDir("d"))
	must(t, fsys.SyncDir("."))
	wantErr(t, "Mkdir of a directory that is there", fsys.Mkdir("d"), fs.ErrExist)
	wantErr(t, "Mkdir where a file is", fsys.Mkdir("d/e/a"), fs.ErrExist)
	wantFile(t, fsys, "d/e/a", "deep")
	wantNames(t, fsys, ".", "d")
	wantNames(t, fsys, "d", "e")
}

func testRename(t *testing.T, fsys vault.FS) {
	must(t, fsys.Mkdir("d"))
	put(t, fsys, "d/a.tmp", "content")
	must(t, fsys.Rename("d/a.tmp", "d/a"))
	wantFile(t, fsys, "d/a", "content")
	wantNames(t, fsys, "d", "a")
	_, err := fsys.ReadFile("d/a.tmp")
	wantErr(t, "ReadFile of the old name", err, fs.ErrNotExist)
	must(t, fsys.Rename("d", "e"))
	wantFile(t, fsys, "e/a", "content")
}

func testRenameReplaces(t *testing.T, fsys vault.FS) {
	put(t, fsys, "a", "old, and longer than the new one")
	put(t, fsys, "a.tmp", "new")
	must(t, fsys.Rename("a.tmp", "a"))
	wantFile(t, fsys, "a", "new")
	wantNames(t, fsys, ".", "a")
	must(t, fsys.Mkdir("d"))
	if err := fsys.Rename("a", "d"); err == nil {
		t.Error("Rename of a file onto a directory reports success")
	}
	wantFile(t, fsys, "a", "new")
	wantNames(t, fsys, ".", "a", "d")
}

func testRenameReader(t *testing.T, fsys vault.FS) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not replace a file that is open")
	}
	put(t, fsys, "a", "old")
	r, err := fsys.Open("a")
	must(t, err)
	put(t, fsys, "a.tmp", "new")
	must(t, fsys.Rename("a.tmp", "a"))
	got, err := io.ReadAll(r)
	must(t, err)
	must(t, r.Close())
	if string(got) != "old" {
		t.Errorf("a reader opened before the Rename got %q", got)
	}
}

func testLink(t *testing.T, fsys vault.FS) {
	must(t, fsys.Mkdir("d"))
	f := create(t, fsys, "d/a")
	write(t, f, "one")
	err := fsys.Link("d/a", "d/b")
	if vault.NoLinks(err) {
		t.Skip("this medium has no hard links")
	}
	must(t, err)
	write(t, f, "two")
	must(t, f.Sync())
	must(t, f.Close())
	must(t, fsys.SyncDir("d"))
	wantFile(t, fsys, "d/b", "onetwo")
	wantErr(t, "Link onto a name that is taken", fsys.Link("d/a", "d/b"), fs.ErrExist)
	wantErr(t, "Link of a missing file", fsys.Link("d/x", "d/y"), fs.ErrNotExist)
	must(t, fsys.Rename("d/a", "d/b")) // two names of one file: nothing is done
	wantNames(t, fsys, "d", "a", "b")
	must(t, fsys.Remove("d/a"))
	wantNames(t, fsys, "d", "b")
	wantFile(t, fsys, "d/b", "onetwo")
	must(t, fsys.Rename("d/b", "d/c"))
	wantNames(t, fsys, "d", "c")
	wantFile(t, fsys, "d/c", "onetwo")
	must(t, fsys.Remove("d/c"))
	must(t, fsys.Remove("d"))
}

func testRemove(t *testing.T, fsys vault.FS) {
	must(t, fsys.Mkdir("d"))
	put(t, fsys, "d/a", "x")
	if err := fsys.Remove("d"); err == nil {
		t.Error("Remove of a directory with a file in it reports success")
	}
	wantFile(t, fsys, "d/a", "x")
	must(t, fsys.Remove("d/a"))
	wantNames(t, fsys, "d")
	must(t, fsys.Remove("d"))
	wantNames(t, fsys, ".")
	wantErr(t, "second Remove", fsys.Remove("d"), fs.ErrNotExist)
}

func testReadDir(t *testing.T, fsys vault.FS) {
	wantNames(t, fsys, ".")
	must(t, fsys.Mkdir("d"))
	put(t, fsys, "b", "12345")
	put(t, fsys, "d/inner", "x")
	wantNames(t, fsys, ".", "b", "d")
	entries, err := fsys.ReadDir(".")
	must(t, err)
	for _, e := range entries {
		if e.IsDir() != (e.Name() == "d") {
			t.Errorf("%s: IsDir = %v", e.Name(), e.IsDir())
		}
		info, err := e.Info()
		must(t, err)
		if e.Name() == "b" && info.Size() != 5 {
			t.Errorf("size of a file of 5 bytes: %d", info.Size())
		}
	}
}

func testKinds(t *testing.T, fsys vault.FS) {
	put(t, fsys, "a", "x")
	must(t, fsys.Mkdir("d"))
	if _, err := fsys.ReadDir("a"); err == nil {
		t.Error("ReadDir of a file reports success")
	}
	if _, err := fsys.ReadFile("d"); err == nil {
		t.Error("ReadFile of a directory reports success")
	}
	if _, err := fsys.ReadFile("a/b"); err == nil {
		t.Error("ReadFile below a file reports success")
	}
	if _, err := fsys.Create("a/b"); err == nil {
		t.Error("Create below a file reports success")
	}
	wantFile(t, fsys, "a", "x")
	wantNames(t, fsys, ".", "a", "d")
}

// infos returns what ReadDir of the root says of each name.
func infos(t *testing.T, fsys vault.FS) map[string]fs.FileInfo {
	t.Helper()
	entries, err := fsys.ReadDir(".")
	must(t, err)
	all := map[string]fs.FileInfo{}
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		all[e.Name()] = info
	}
	return all
}

func testModes(t *testing.T, fsys vault.FS) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such access rights")
	}
	put(t, fsys, "a", "x")
	must(t, fsys.Mkdir("d"))
	all := infos(t, fsys)
	if mode := all["a"].Mode(); mode != 0o600 {
		t.Errorf("a file has mode %v, want 0600", mode)
	}
	if mode := all["d"].Mode(); mode != fs.ModeDir|0o700 {
		t.Errorf("a directory has mode %v, want 0700", mode)
	}
}

func testTimes(t *testing.T, fsys vault.FS) {
	f := create(t, fsys, "a")
	write(t, f, "x")
	must(t, fsys.Mkdir("d"))
	put(t, fsys, "d/b", "y")
	before := infos(t, fsys)
	if before["a"].ModTime().Unix() == 0 || before["d"].ModTime().Unix() == 0 {
		t.Fatal("times are zero before the sync: this test shows nothing")
	}
	must(t, f.Sync())
	must(t, fsys.Replace("d/b", []byte("z")))
	must(t, fsys.Truncate("d/b", 0))
	must(t, fsys.SyncDir("d"))
	must(t, f.Close())
	for name, info := range infos(t, fsys) {
		if s := info.ModTime().Unix(); s != 0 {
			t.Errorf("%s: modified %d s after 1970, want 0", name, s)
		}
	}
}

func testFree(t *testing.T, fsys vault.FS) {
	free, err := fsys.Free()
	must(t, err)
	if free <= 0 {
		t.Errorf("Free of an empty medium = %d", free)
	}
	put(t, fsys, "a", "x")
	if free, err = fsys.Free(); err != nil || free < 0 {
		t.Errorf("Free = %d, %v", free, err)
	}
}

func testLock(t *testing.T, fsys vault.FS) {
	must(t, fsys.Mkdir("d"))
	must(t, fsys.Mkdir("e"))
	held, err := fsys.Lock("d")
	must(t, err)
	_, err = fsys.Lock("d")
	wantErr(t, "second Lock", err, vault.ErrLocked)
	_, err = fsys.Lock("d")
	wantErr(t, "third Lock, after one that was refused", err, vault.ErrLocked)
	other, err := fsys.Lock("e")
	must(t, err)
	put(t, fsys, "d/a", "the lock keeps nobody from writing")
	must(t, held.Close())
	again, err := fsys.Lock("d")
	must(t, err)
	must(t, again.Close())
	must(t, other.Close())
	wantNames(t, fsys, ".", "d", "e")
	wantNames(t, fsys, "d", "a")
}

// testEscape refuses by the name alone: fs.ErrNotExist would mean that a name outside of
// the root was looked up.
func testEscape(t *testing.T, fsys vault.FS) {
	put(t, fsys, "in", "x")
	must(t, fsys.Mkdir("d"))
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: error %v, want the name to be refused", what, err)
		}
	}
	for _, name := range []string{"../x", "/x", "d/../../x", "..", "/"} {
		_, err := fsys.Create(name)
		refused("Create "+name, err)
		_, err = fsys.Open(name)
		refused("Open "+name, err)
		_, err = fsys.OpenSynced(name)
		refused("OpenSynced "+name, err)
		_, err = fsys.Append(name)
		refused("Append "+name, err)
		refused("Truncate "+name, fsys.Truncate(name, 0))
		refused("Replace "+name, fsys.Replace(name, []byte("x")))
		_, err = fsys.ReadFile(name)
		refused("ReadFile "+name, err)
		_, err = fsys.ReadDir(name)
		refused("ReadDir "+name, err)
		_, err = fsys.Lock(name)
		refused("Lock "+name, err)
		refused("Mkdir "+name, fsys.Mkdir(name))
		refused("Remove "+name, fsys.Remove(name))
		refused("SyncDir "+name, fsys.SyncDir(name))
		refused("Rename in to "+name, fsys.Rename("in", name))
		refused("Link in to "+name, fsys.Link("in", name))
		refused("Link to out of "+name, fsys.Link(name, "out"))
		refused("Rename to in of "+name, fsys.Rename(name, "in"))
	}
	wantFile(t, fsys, "in", "x")
	wantNames(t, fsys, ".", "d", "in")
}
