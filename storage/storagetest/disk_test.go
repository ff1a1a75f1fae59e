package storagetest_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

func TestDiskPassesTheSuite(t *testing.T) {
	storagetest.TestFS(t, func(t *testing.T) vault.FS { return storagetest.New(1) })
}

// A Disk after a crash is a medium like any other.
func TestCrashedDiskPassesTheSuite(t *testing.T) {
	storagetest.TestFS(t, func(t *testing.T) vault.FS {
		return storagetest.New(1).Crash(storagetest.Random)
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, fsys vault.FS, name string) vault.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	return f
}

func write(t testing.TB, f io.Writer, content string) {
	t.Helper()
	_, err := io.WriteString(f, content)
	must(t, err)
}

// put makes a file that is durable with its entry.
func put(t testing.TB, fsys vault.FS, name, content string) {
	t.Helper()
	f := create(t, fsys, name)
	write(t, f, content)
	must(t, f.Sync())
	must(t, f.Close())
	must(t, fsys.SyncDir(filepath.ToSlash(filepath.Dir(name))))
}

// show gives the files of a Disk as one line, sorted: "a=xx b=yy".
func show(d *storagetest.Disk) string {
	files := d.Files()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		parts = append(parts, name+"="+strings.ReplaceAll(string(files[name]), "\x00", "0"))
	}
	return strings.Join(parts, " ")
}

func wantShow(t testing.TB, d *storagetest.Disk, want string) {
	t.Helper()
	if got := show(d); got != want {
		t.Errorf("the disk holds %q, want %q", got, want)
	}
}

func TestFailAt(t *testing.T) {
	for _, want := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
		d := storagetest.New(1)
		d.FailAt(2, want)
		d.FailAt(4, want)
		must(t, d.Mkdir("a"))
		for i := range 2 {
			if err := d.Mkdir("b"); !errors.Is(err, want) {
				t.Errorf("failure %d: %v, want %v", i, err, want)
			}
			if i == 0 {
				must(t, d.Mkdir("c"))
			}
		}
		must(t, d.Mkdir("b"))
		if err := d.Mkdir("a"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("after the failures: %v", err)
		}
	}
}

// Each call of the FS can be made to fail, and then changes nothing.
func TestFailAtEveryCall(t *testing.T) {
	calls := map[string]func(d *storagetest.Disk) error{
		"create a":       func(d *storagetest.Disk) error { _, err := d.Create("a"); return err },
		"open old":       func(d *storagetest.Disk) error { _, err := d.Open("old"); return err },
		"append old":     func(d *storagetest.Disk) error { _, err := d.Append("old"); return err },
		"opensynced old": func(d *storagetest.Disk) error { _, err := d.OpenSynced("old"); return err },
		"read old":       func(d *storagetest.Disk) error { _, err := d.ReadFile("old"); return err },
		"mkdir a":        func(d *storagetest.Disk) error { return d.Mkdir("a") },
		"rename o n":     func(d *storagetest.Disk) error { return d.Rename("o", "n") },
		"remove old":     func(d *storagetest.Disk) error { return d.Remove("old") },
		"readdir .":      func(d *storagetest.Disk) error { _, err := d.ReadDir("."); return err },
		"syncdir .":      func(d *storagetest.Disk) error { return d.SyncDir(".") },
		"free":           func(d *storagetest.Disk) error { _, err := d.Free(); return err },
		"lock .":         func(d *storagetest.Disk) error { _, err := d.Lock("."); return err },
	}
	for name, call := range calls {
		d := storagetest.New(1)
		put(t, d, "old", "x")
		put(t, d, "o", "y")
		d.FailAt(1, syscall.EIO)
		if err := call(d); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want EIO", name, err)
		}
		if names := d.OpNames(); names[len(names)-1] != name {
			t.Errorf("the call is named %q, want %q", names[len(names)-1], name)
		}
		wantShow(t, d, "o=y old=x")
		if err := call(d); err != nil {
			t.Errorf("%s, second time: %v", name, err)
		}
	}
}

func TestFailedWriteTakesAFirstPart(t *testing.T) {
	taken := map[int]bool{}
	for seed := range uint64(50) {
		d := storagetest.New(seed)
		f := create(t, d, "a")
		d.FailAt(1, syscall.ENOSPC)
		n, err := f.Write([]byte("0123456789"))
		if !errors.Is(err, syscall.ENOSPC) || n >= 10 {
			t.Fatalf("Write = %d, %v", n, err)
		}
		wantShow(t, d, "a="+"0123456789"[:n])
		taken[n] = true
	}
	if !taken[0] || len(taken) < 4 {
		t.Errorf("sizes taken over the seeds: %v, want none and several", taken)
	}
}

func TestSetFree(t *testing.T) {
	short := map[int]bool{}
	for seed := range uint64(20) {
		d := storagetest.New(seed)
		f := create(t, d, "a")
		d.SetFree(10)
		write(t, f, "1234")
		n, err := f.Write([]byte("56789abcdef"))
		if !errors.Is(err, syscall.ENOSPC) || n != 0 && n != 6 {
			t.Fatalf("Write of 11 bytes into 6 = %d, %v", n, err)
		}
		short[n] = true
		if free, err := d.Free(); err != nil || free != int64(6-n) {
			t.Errorf("Free = %d, %v after %d bytes", free, err, 4+n)
		}
		if err := d.Mkdir("d"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Mkdir on a full disk: %v", err)
		}
		must(t, d.Remove("a"))
		if free, _ := d.Free(); free != int64(6-n) {
			t.Errorf("Free = %d while the removed file is open", free)
		}
		must(t, f.Close())
		if free, _ := d.Free(); free != 10 {
			t.Errorf("Free = %d after the file is gone", free)
		}
	}
	if len(short) != 2 {
		t.Errorf("a write that does not fit took %v, want both nothing and what fits", short)
	}
}

func TestFreeAfterCrash(t *testing.T) {
	d := storagetest.New(1)
	d.SetFree(10_000)
	must(t, d.Mkdir("d")) // 4096
	must(t, d.SyncDir("."))
	put(t, d, "kept", "12345")
	write(t, create(t, d, "lost"), "1234567")
	if free, err := d.Crash(storagetest.Strict).Free(); err != nil || free != 10_000-4096-5 {
		t.Errorf("Free after a strict crash = %d, %v", free, err)
	}
	if free, err := d.Crash(storagetest.KeepAll).Free(); err != nil || free != 10_000-4096-12 {
		t.Errorf("Free after a crash that keeps all = %d, %v", free, err)
	}
}

func TestReadOnly(t *testing.T) {
	d := storagetest.New(1)
	put(t, d, "a", "x")
	f := create(t, d, "b")
	write(t, f, "y")
	d.ReadOnly(true)
	_, createErr := d.Create("c")
	_, writeErr := f.Write([]byte("z"))
	for name, err := range map[string]error{
		"Create": createErr, "Write": writeErr, "Sync": f.Sync(), "Mkdir": d.Mkdir("d"),
		"Append": second(d.Append("a")), "Truncate": d.Truncate("a", 0), "Replace": d.Replace("a", []byte("z")),
		"Rename": d.Rename("a", "c"), "Remove": d.Remove("a"), "SyncDir": d.SyncDir("."),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
	if data, err := d.ReadFile("a"); err != nil || string(data) != "x" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	if _, err := d.Lock("."); err != nil {
		t.Errorf("Lock: %v", err)
	}
	d.ReadOnly(false)
	must(t, f.Sync())
	wantShow(t, d.Crash(storagetest.Strict), "a=x")
	if _, err := d.Create("c"); err != nil {
		t.Errorf("Create after ReadOnly(false): %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestOperationsAreNamed(t *testing.T) {
	d := storagetest.New(1)
	var heard []string
	d.SetOnOp(func(name string) {
		heard = append(heard, name)
		if d.Ops() != len(heard)-1 {
			t.Errorf("%s: Ops = %d while operation %d begins", name, d.Ops(), len(heard))
		}
	})
	must(t, d.Mkdir("F00000001"))
	f := create(t, d, "F00000001/T000001.open.age")
	write(t, f, "x")
	must(t, f.Sync())
	must(t, f.Close())
	must(t, d.Rename("F00000001/T000001.open.age", "F00000001/T000001.age"))
	must(t, d.SyncDir("F00000001"))
	_, err := d.Free()
	must(t, err)
	_, err = d.Create("../x")
	if !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Create outside of the root: %v", err)
	}
	want := []string{
		"mkdir F00000001",
		"create F00000001/T000001.open.age",
		"write F00000001/T000001.open.age",
		"sync F00000001/T000001.open.age",
		"rename F00000001/T000001.open.age F00000001/T000001.age",
		"syncdir F00000001",
		"free",
		"create ../x",
	}
	if got := d.OpNames(); !slices.Equal(got, want) || d.Ops() != len(want) {
		t.Errorf("OpNames = %q, Ops = %d, want %q", got, d.Ops(), want)
	}
	if !slices.Equal(heard, want) {
		t.Errorf("the hook heard %q", heard)
	}
}

// The hook can cut the power before each operation of one run.
func TestCrashInTheHook(t *testing.T) {
	d := storagetest.New(1)
	var found []string
	d.SetOnOp(func(string) { found = append(found, show(d.Crash(storagetest.Strict))) })
	f := create(t, d, "a")
	must(t, d.SyncDir("."))
	write(t, f, "x")
	must(t, f.Sync())
	must(t, d.Remove("a"))
	must(t, d.SyncDir("."))
	_, err := d.Free()
	must(t, err)
	if want := []string{"", "", "a=", "a=", "a=x", "a=x", ""}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

func TestCorrupt(t *testing.T) {
	d := storagetest.New(1)
	put(t, d, "a", "abc")
	before, _ := d.Free()
	must(t, d.Corrupt("a", func(b []byte) []byte { b[1] ^= 1; return append(b, '!') }))
	wantShow(t, d, "a=acc!")
	wantShow(t, d.Crash(storagetest.Strict), "a=acc!")
	if after, _ := d.Free(); after != before-1 {
		t.Errorf("Free went from %d to %d for one byte more", before, after)
	}
	must(t, d.Corrupt("a", func(b []byte) []byte { return nil }))
	wantShow(t, d, "a=")
	if err := d.Corrupt("b", bytes.Clone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Corrupt of a missing file: %v", err)
	}
}

// What Crash made shares bytes with the Disk it came from; neither sees the other's edits.
func TestCrashedDiskIsIndependent(t *testing.T) {
	d := storagetest.New(1)
	f := create(t, d, "a")
	write(t, f, "abc")
	must(t, f.Sync())
	must(t, d.SyncDir("."))
	next := d.Crash(storagetest.Strict)
	write(t, f, "def")
	must(t, d.Corrupt("a", func(b []byte) []byte { b[0] = 'X'; return b }))
	wantShow(t, next, "a=abc")
	must(t, next.Corrupt("a", func(b []byte) []byte { b[0] = 'Y'; return b }))
	must(t, next.Remove("a"))
	wantShow(t, d, "a=Xbcdef")
	data, err := d.ReadFile("a")
	must(t, err)
	data[0] = 'Z'
	wantShow(t, d, "a=Xbcdef")
}

func TestWriteTo(t *testing.T) {
	d := storagetest.New(1)
	must(t, d.Mkdir("d"))
	must(t, d.Mkdir("d/empty"))
	put(t, d, "d/a", "abc")
	put(t, d, "b", "")
	dir := filepath.Join(t.TempDir(), "out")
	must(t, d.WriteTo(dir))
	got := map[string]string{}
	must(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			got[name] = "dir"
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		got[name] = string(data)
		return err
	}))
	want := map[string]string{".": "dir", "d": "dir", "d/empty": "dir", "d/a": "abc", "b": ""}
	if !maps.Equal(got, want) {
		t.Errorf("written: %q, want %q", got, want)
	}
	if err := d.WriteTo(filepath.Join(dir, "b")); err == nil {
		t.Error("WriteTo a file reports success")
	}
}

func TestRenameRules(t *testing.T) {
	d := storagetest.New(1)
	must(t, d.Mkdir("d"))
	must(t, d.Mkdir("full"))
	must(t, d.Mkdir("empty"))
	put(t, d, "full/x", "x")
	put(t, d, "a", "1")
	for _, c := range []struct {
		from, to string
		want     error
	}{
		{"a", "d/a", syscall.EXDEV},
		{"a", "a", nil},
		{"a", "d", syscall.EISDIR},
		{"d", "a", syscall.ENOTDIR},
		{"d", "full", syscall.ENOTEMPTY},
		{"d", "empty", nil},
	} {
		if err := d.Rename(c.from, c.to); !errors.Is(err, c.want) {
			t.Errorf("Rename(%s, %s) = %v, want %v", c.from, c.to, err, c.want)
		}
	}
	wantShow(t, d, "a=1 full/x=x")
}

// A file goes on under its new name, and without a name at all.
func TestWriteAfterRenameAndRemove(t *testing.T) {
	d := storagetest.New(1)
	f := create(t, d, "a")
	must(t, d.Rename("a", "b"))
	write(t, f, "x")
	wantShow(t, d, "b=x")
	r, err := d.Open("b")
	must(t, err)
	must(t, d.Remove("b"))
	write(t, f, "y")
	must(t, f.Sync())
	wantShow(t, d, "")
	if data, err := io.ReadAll(r); err != nil || string(data) != "xy" {
		t.Errorf("a reader of a removed file got %q, %v", data, err)
	}
}
