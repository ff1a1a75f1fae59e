package vault_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

func osFS(t testing.TB, dir string) vault.FS {
	t.Helper()
	fsys, err := vault.NewOSFS(dir)
	must(t, err)
	return fsys
}

func TestOSFS(t *testing.T) {
	storagetest.TestFS(t, func(t *testing.T) vault.FS {
		dir := filepath.Join(t.TempDir(), "vault")
		return &lateFS{osFS(t, dir), dir}
	})
}

// lateFS gives what is made or written a time again, as a kernel does: the file system under it
// sets times to zero at once, and the suite wants to see that a sync does it too.
type lateFS struct {
	vault.FS
	dir string
}

func (l *lateFS) touch(name string) {
	late := time.Unix(1_000_000_000, 0)
	_ = os.Chtimes(filepath.Join(l.dir, name), late, late)
}

func (l *lateFS) Mkdir(name string) error {
	err := l.FS.Mkdir(name)
	if err == nil {
		l.touch(name)
	}
	return err
}

func (l *lateFS) Create(name string) (vault.File, error) {
	f, err := l.FS.Create(name)
	if err != nil {
		return nil, err
	}
	l.touch(path.Dir(name))
	return &lateFile{f, l, name}, nil
}

type lateFile struct {
	vault.File
	l    *lateFS
	name string
}

func (f *lateFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.l.touch(f.name)
	return n, err
}

// readTree returns every file below dir, and checks modes, and the times of all there is.
func readTree(t *testing.T, when, dir string) map[string][]byte {
	t.Helper()
	// Looking must not change what is looked at: times first, content later.
	var names []string
	must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			t.Errorf("%s: %s has mode %v, want %v", when, name, info.Mode(), want)
		}
		st := info.Sys().(*syscall.Stat_t)
		if atime := time.Unix(st.Atim.Unix()); !info.ModTime().Equal(time.Unix(0, 0)) || !d.IsDir() && !atime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s: %s has times %v, %v", when, name, info.ModTime(), atime)
		}
		if !d.IsDir() {
			names = append(names, name)
		}
		return nil
	}))
	files := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(t, err)
		short, err := filepath.Rel(dir, name)
		must(t, err)
		files[filepath.ToSlash(short)] = data
		must(t, os.Chtimes(name, time.Unix(0, 0), time.Unix(0, 0)))
	}
	return files
}

// stock is what age and zstd make of a segment, and the error of either.
func stock(t *testing.T, files map[string][]byte, name string) (entries []byte, ageErr, zstdErr error) {
	t.Helper()
	me, _ := crew()
	id, err := open.New(me).Flight(files[path.Join(path.Dir(name), "flight.key.age")])
	must(t, err)
	r, err := age.Decrypt(bytes.NewReader(files[name]), id)
	must(t, err)
	plain, ageErr := io.ReadAll(r)
	z, err := zstd.NewReader(bytes.NewReader(plain))
	must(t, err)
	defer z.Close()
	entries, zstdErr = io.ReadAll(z)
	if program, err := exec.LookPath("zstd"); err == nil {
		cmd := exec.Command(program, "-dc")
		cmd.Stdin = bytes.NewReader(plain)
		if got, err := cmd.Output(); err != nil || !bytes.Equal(got, entries) {
			t.Errorf("%s: zstd -dc gives %d bytes, %v; want %d", name, len(got), err, len(entries))
		}
	}
	return entries, ageErr, zstdErr
}

var allowedName = regexp.MustCompile(`^fe812c12/(README\.txt|LOG/(device\.pub|log\.bin|cp\.[AB])|NEXT/flight\.(pub|key\.age)|[FG]\d{8}/(flight\.pub|flight\.key\.age|[TX]\d{6}\.(open\.)?age))$`)

// TestTree records on the real file system and looks at it after a flush, after a program was
// killed, and after a clean close.
func TestTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	fsys := osFS(t, dir)
	now := &clock{}
	v := mustOpen(t, config(fsys, now))
	r := newRig(v, now, 1, 0)
	r.onFlush = func() {
		if r.durable > 30 {
			r.onFlush = nil
		}
		readTree(t, "after a flush", dir)
	}
	must(t, r.run(phase{vault.Ground, 3 * time.Second}))
	readTree(t, "after the end", dir)
	r.want = vault.Flight
	v.SetArmed(true)
	for i := 0; now.now < 16*time.Second; i++ {
		must(t, r.tick())
		if i%40 == 0 { // anywhere between two operations: what a kill leaves
			readTree(t, "at work", dir)
		}
	}
	must(t, v.Append(&segment.Block{Noise: noise(200 << 10)})) // written, not synced
	files := readTree(t, "between write and sync", dir)
	const cut = device + "/F00000002/T000002.open.age"
	if _, ok := files[cut]; !ok {
		t.Fatalf("no open segment in %q", slices.Sorted(maps.Keys(files)))
	}
	if _, err := check(files, r.durable, r); err != nil {
		t.Errorf("copy of an open record: %v", err)
	}
	must(t, v.Flush())
	files = readTree(t, "after a flush", dir)
	got, ageErr, zstdErr := stock(t, files, cut)
	if !errors.Is(ageErr, io.ErrUnexpectedEOF) {
		t.Errorf("age on a cut segment: %v", ageErr)
	}
	if first := binary.BigEndian.Uint64(got[8:]); zstdErr != nil || !bytes.Equal(got, entries(first, r.durable)) {
		t.Errorf("zstd on an open segment after a flush: %d bytes, %v", len(got), zstdErr)
	}
	must(t, v.Close())
	testClosed(t, readTree(t, "after the close", dir), r)
	// The next start leaves no times either, and goes on with the numbers.
	v = mustOpen(t, config(fsys, now))
	readTree(t, "after the next start", dir)
	must(t, v.Begin(vault.Ground, vault.RecordID{}))
	if v.Record().Number != 3 {
		t.Errorf("the next record is %s", v.Record())
	}
	must(t, v.Close())
}

// testClosed checks a tree that was closed in good order.
func testClosed(t *testing.T, files map[string][]byte, r *rig) {
	t.Helper()
	var stream, lines, wantLines []byte
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !allowedName.MatchString(name) || strings.Contains(name, ".open.") {
			t.Errorf("%s is there after a clean close", name)
		}
		for _, secret := range []string{"secret-link", "ttySECRET", "AGE-SECRET", string(entries(5, 6))} {
			if bytes.Contains(files[name], []byte(secret)) {
				t.Errorf("%s holds %q", name, secret)
			}
		}
		if strings.HasPrefix(path.Base(name), "T") {
			got, ageErr, zstdErr := stock(t, files, name)
			if ageErr != nil || zstdErr != nil {
				t.Errorf("%s: age %v, zstd %v", name, ageErr, zstdErr)
			}
			stream = append(stream, got...)
		}
		if strings.HasPrefix(path.Base(name), "X") {
			got, ageErr, zstdErr := stock(t, files, name)
			if ageErr != nil || zstdErr != nil {
				t.Errorf("%s: age %v, zstd %v", name, ageErr, zstdErr)
			}
			lines = append(lines, got...)
		}
	}
	for n := range r.lines {
		wantLines = append(wantLines, line(n)...)
	}
	if len(lines) != len(wantLines) || len(lines) == 0 {
		t.Errorf("stock tools give %d bytes of the audit, want %d", len(lines), len(wantLines))
	}
	if !bytes.Equal(stream, entriesByRecord(files, r)) {
		t.Error("stock tools do not give the entries")
	}
	w, err := check(files, all, r)
	must(t, err)
	for i, h := range w.headers {
		if h.Device != device || h.Format != 1 || h.Stream != "T" || h.Segment < 1 || len(h.Links) != 1 || h.Links[0].Device != "/dev/ttySECRET" || h.Continues != "" {
			t.Errorf("header %d: %+v", i, h)
		}
	}
	readme := string(files[device+"/README.txt"])
	count := strings.Count(readme, "\n")
	if count < 15 || count > 25 || !strings.Contains(readme, "zstd -dc") || !strings.Contains(readme, "age -d -i") {
		t.Errorf("README.txt has %d lines", count)
	}
	for line := range strings.Lines(readme) {
		if len(line) > 120 || strings.Trim(line, "\n") != "" && strings.ContainsAny(line, "\t\r") {
			t.Errorf("README.txt: %q", line)
		}
	}
	if got := string(files[device+"/LOG/device.pub"]); got != devicePub {
		t.Errorf("device.pub has %q", got)
	}
}

// entriesByRecord returns the entries as the names sort: flights before ground records.
func entriesByRecord(files map[string][]byte, r *rig) []byte {
	begin := flightBegan(files) // the ground record came first, and sorts last
	return append(entries(begin, r.next), entries(0, begin)...)
}

// flightBegan returns the number of the first entry of the flight.
func flightBegan(files map[string][]byte) uint64 {
	only := maps.Clone(files)
	maps.DeleteFunc(only, func(name string, _ []byte) bool { return strings.Contains(name, "/G") })
	w, err := look(only)
	if err != nil || len(w.entries) == 0 {
		return 0
	}
	return w.entries[0]
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	if vault.InUse(filepath.Join(dir, device)) {
		t.Error("a folder that is not there is in use")
	}
	v := mustOpen(t, config(osFS(t, dir), &clock{}))
	if _, err := vault.Open(config(osFS(t, dir), &clock{})); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("a second Open: %v", err)
	}
	if !vault.InUse(filepath.Join(dir, device)) {
		t.Error("not in use")
	}
	must(t, v.Close())
	if vault.InUse(filepath.Join(dir, device)) {
		t.Error("in use after the close")
	}
	must(t, v.Close()) // once more does no harm
	for what, err := range map[string]error{
		"Begin":  v.Begin(vault.Flight, vault.RecordID{}),
		"Append": v.Append(&segment.Block{}),
	} {
		if !errors.Is(err, vault.ErrClosed) {
			t.Errorf("%s after the close: %v", what, err)
		}
	}
	if v.Flush() != nil || v.Step() || v.End() != nil {
		t.Error("calls after the close")
	}
	must(t, mustOpen(t, config(osFS(t, dir), &clock{})).Close())
}

func TestForeignKey(t *testing.T) {
	dir := t.TempDir()
	must(t, mustOpen(t, config(osFS(t, dir), &clock{})).Close())
	cfg := config(osFS(t, dir), &clock{})
	cfg.DevicePub = strings.Replace(devicePub, "AepK", "AepL", 1)
	for range 2 {
		if _, err := vault.Open(cfg); !errors.Is(err, vault.ErrForeignKey) {
			t.Errorf("Open with another key: %v", err)
		}
	}
	must(t, mustOpen(t, config(osFS(t, dir), &clock{})).Close())
	cfg.DevicePub = devicePub[:10] // of which the one there is no beginning
	if _, err := vault.Open(cfg); !errors.Is(err, vault.ErrForeignKey) {
		t.Errorf("Open with a key cut short: %v", err)
	}
}

// TestHalfWritten: files that were cut while they were first written are mended.
func TestHalfWritten(t *testing.T) {
	for _, name := range []string{"README.txt", "LOG/device.pub"} {
		dir := t.TempDir()
		must(t, mustOpen(t, config(osFS(t, dir), &clock{})).Close())
		full := filepath.Join(dir, device, name)
		want, err := os.ReadFile(full)
		must(t, err)
		for n := range len(want) {
			if n > 40 && n%97 > 0 {
				continue
			}
			must(t, os.WriteFile(full, want[:n], 0o600))
			if n%2 == 0 {
				must(t, os.WriteFile(full+".tmp", []byte("half"), 0o600))
			}
			must(t, mustOpen(t, config(osFS(t, dir), &clock{})).Close())
			if got, err := os.ReadFile(full); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s with %d bytes became %q, %v", name, n, got, err)
			}
		}
	}
}

// TestRotation: a segment ends after 10 s and at 2 MiB.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	now := &clock{}
	v := mustOpen(t, config(osFS(t, dir), now))
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	segments := func() int {
		names, err := filepath.Glob(filepath.Join(dir, device, "F00000001", "T*"))
		must(t, err)
		seen := map[string]bool{}
		for _, n := range names {
			seen[filepath.Base(n)[:7]] = true
		}
		return len(seen)
	}
	add := func(size, want int) {
		t.Helper()
		must(t, v.Append(&segment.Block{Noise: noise(size)}))
		must(t, v.Flush())
		for v.Step() {
		}
		if got := segments(); got != want {
			t.Errorf("at %v: %d segments, want %d", now.now, got, want)
		}
	}
	add(10, 1)
	now.now += 9998 * time.Millisecond
	add(10, 1)
	now.now += 2 * time.Millisecond
	add(10, 2) // the next one is opened ahead, while nothing waits
	add(2<<20-5000, 2)
	add(10000, 3)
	add(10, 3)
	// One that nothing comes to any more is closed in the end, and nothing is begun for it.
	now.now += 20 * time.Second
	for v.Step() {
	}
	names, err := filepath.Glob(filepath.Join(dir, device, "F00000001", "T*"))
	must(t, err)
	if len(names) != 3 || strings.Contains(strings.Join(names, " "), "open") {
		t.Errorf("after a rest: %q", names)
	}
	must(t, v.Close())
}

// TestWipe: after each closed segment the keys are wiped.
func TestWipe(t *testing.T) {
	now, wiped := &clock{}, 0
	cfg := config(storagetest.New(1), now)
	cfg.Wipe = func() { wiped++ }
	v := mustOpen(t, cfg)
	r := newRig(v, now, 1, 0)
	must(t, r.run(phase{vault.Flight, 31 * time.Second}))
	must(t, v.Close())
	if wiped != 5 {
		t.Errorf("wiped %d times after 4 segments of telemetry and one of audit", wiped)
	}
}

// BenchmarkVault is append and flush of blocks of 128 KiB on a real file system.
func BenchmarkVault(b *testing.B) {
	dir := b.TempDir()
	now := &clock{}
	cfg := config(osFS(b, dir), now)
	v := mustOpen(b, cfg)
	must(b, v.Begin(vault.Flight, vault.RecordID{}))
	data := entries(0, (128<<10)/entrySize)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		now.now += 200 * time.Millisecond
		must(b, v.Append(&segment.Block{Data: data}))
		must(b, v.Flush())
		for v.Step() {
		}
	}
	b.StopTimer()
	must(b, v.Close())
}
