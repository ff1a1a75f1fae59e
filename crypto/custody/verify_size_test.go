package custody_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/crypto/custody"
)

// sizedFS has a log of so many bytes that are made as they are read.
type sizedFS struct {
	fstest.MapFS
	size int64
	read func(p []byte)
}

func (f sizedFS) Open(name string) (fs.File, error) {
	if name != logName {
		return f.MapFS.Open(name)
	}
	return &sizedFile{f: f}, nil
}

func (f sizedFS) Lstat(name string) (fs.FileInfo, error) {
	if name != logName {
		return f.MapFS.Lstat(name)
	}
	return sizedFile{f: f}.Stat()
}

type sizedFile struct {
	f  sizedFS
	at int64
}

type sizedInfo struct {
	fs.FileInfo
	size int64
}

func (i sizedInfo) Size() int64 { return i.size }

func (s sizedFile) Stat() (fs.FileInfo, error) {
	info, err := s.f.MapFS.Stat("README.txt")
	return sizedInfo{info, s.f.size}, err
}

func (s *sizedFile) Close() error { return nil }

func (s *sizedFile) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), s.f.size-s.at))
	if n == 0 {
		return 0, io.EOF
	}
	s.f.read(p[:n])
	s.at += int64(n)
	return n, nil
}

// TestHugeLogs: a log of 1 GiB of zeros or noise is refused at its first bytes, and one of
// leaves that are right in form and never end takes no more memory as it grows.
func TestHugeLogs(t *testing.T) {
	b := build(t)
	b.start()
	b.record('F', 1)
	undone := func(size int64) (fs.FS, *int) {
		n, rest := 0, []byte(nil)
		return sizedFS{b.files, size, func(p []byte) {
			for len(rest) < len(p) {
				n++
				l, err := custody.NewLeaf(&custody.Lost{Record: "F00000009", Segment: "T000001", T: int64(n), Why: "refused"})
				b.check(err)
				rest = l.Append(rest)
			}
			rest = rest[copy(p, rest):]
		}}, &n
	}
	noise := sizedFS{b.files, 1 << 30, func(p []byte) { b.random.Read(p) }}
	zeros := sizedFS{b.files, 1 << 30, func(p []byte) { clear(p) }}
	leaves, _ := undone(4 << 20)
	for name, fsys := range map[string]fs.FS{"zeros": zeros, "noise": noise, "leaves": leaves} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r := verify(t, fsys)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if r.State != custody.VerdictTampered && r.State != custody.VerdictMissing || r.Proven != 0 || len(r.Findings) > 1000 {
			t.Errorf("%s: %s, %d findings", name, r.State, len(r.Findings))
		}
		if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 4<<20 {
			t.Errorf("%s: %d bytes held", name, held)
		}
		runtime.KeepAlive(r)
	}
}

// TestManyRecords: memory does not grow with the records, once each is handed over.
func TestManyRecords(t *testing.T) {
	const n = 2000
	b := build(t)
	b.start()
	for range n {
		r := b.begin('G')
		b.close(r, b.segment(r, 10))
		b.end(r)
	}
	b.checkpoint()
	seen := 0
	var first, last runtime.MemStats
	r := b.verify(func(o *custody.Options) {
		o.Each = func(r *custody.RecordReport) {
			seen++
			switch seen {
			case n / 10:
				runtime.GC()
				runtime.ReadMemStats(&first)
			case n:
				runtime.GC()
				runtime.ReadMemStats(&last)
			}
		}
	})
	if r.State != custody.VerdictClean || seen != n || len(r.Records) != 0 || r.States[custody.VerdictClean] != n {
		t.Fatalf("%s, %d records: %s", r.State, seen, lines(said(r)))
	}
	if grown := int64(last.HeapAlloc) - int64(first.HeapAlloc); grown > 256<<10 {
		t.Errorf("%d bytes more after %d records than after %d", grown, n, n/10)
	}
}

// TestTenThousandRecords verifies 10,000 records on disk. It runs with HOLDFAST_LONG=1.
func TestTenThousandRecords(t *testing.T) {
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("HOLDFAST_LONG=1 runs it")
	}
	const n = 10_000
	b := build(t)
	b.start()
	for range n {
		r := b.begin('G')
		b.close(r, b.segment(r, 10))
		b.end(r)
	}
	b.checkpoint()
	dir := t.TempDir()
	b.store(dir)
	var held runtime.MemStats
	start := time.Now()
	r := verify(t, os.DirFS(dir), func(o *custody.Options) {
		o.Each = func(r *custody.RecordReport) {
			if r.Record == "G00010000" {
				runtime.ReadMemStats(&held)
			}
		}
	})
	t.Logf("%d records in %v, heap %d KiB in use at the last", n, time.Since(start), held.HeapAlloc>>10)
	if r.State != custody.VerdictClean || r.States[custody.VerdictClean] != n {
		t.Errorf("%s: %s", r.State, lines(said(r)))
	}
}

// store writes the folder to disk.
func (b *built) store(dir string) {
	for name, f := range b.files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		b.check(os.MkdirAll(filepath.Dir(path), 0o700))
		b.check(os.WriteFile(path, f.Data, 0o600))
	}
}
