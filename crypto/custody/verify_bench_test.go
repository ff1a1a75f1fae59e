package custody_test

import (
	"bufio"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"holdfast/crypto/custody"
)

// large makes a vault with one record of so many MiB in segments of 64 MiB, on disk.
func large(t testing.TB, mib int) (*built, string) {
	b := build(t)
	b.start()
	r := b.begin('F')
	dir := t.TempDir()
	b.check(os.Mkdir(filepath.Join(dir, r), 0o700))
	for left := mib; left > 0; left -= 64 {
		s := b.nextSegment(r)
		b.leaf(&custody.Opened{Record: r, Segment: s, T: b.tick(1000)})
		size, digest := b.stream(filepath.Join(dir, r, s+".age"), min(left, 64)<<20)
		b.leaf(&custody.Closed{Record: r, Segment: s, Size: size, SHA256: digest, T: b.tick(1000)})
	}
	b.end(r)
	b.checkpoint()
	b.checkpoint()
	b.store(dir)
	return b, dir
}

func (b *built) stream(path string, n int) (size int64, digest []byte) {
	f, err := os.Create(path)
	b.check(err)
	h := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<20)
	_, err = io.CopyN(w, rand.NewChaCha8([32]byte{2}), int64(n))
	b.check(err)
	b.check(w.Flush())
	b.check(f.Close())
	return int64(n), h.Sum(nil)
}

// BenchmarkVerify is the speed of verification, files in the cache.
func BenchmarkVerify(b *testing.B) {
	v, dir := large(b, 256)
	b.SetBytes(256 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if r := verify(b, os.DirFS(dir), func(o *custody.Options) { o.DeviceKey = v.device.Verifier() }); r.State != custody.VerdictClean {
			b.Fatal(lines(said(r)))
		}
	}
}

// TestVerifyAsFastAsSha256sum compares with sha256sum over the same files, in turns, best of
// five each, and prints what openssl takes, which uses the processor's SHA instructions also where
// Debian's sha256sum does not. HOLDFAST_COMPARE is the size in MiB; it is not run without.
func TestVerifyAsFastAsSha256sum(t *testing.T) {
	mib, _ := strconv.Atoi(os.Getenv("HOLDFAST_COMPARE"))
	if mib == 0 {
		t.Skip("HOLDFAST_COMPARE=1024 compares 1 GiB with sha256sum")
	}
	b, dir := large(t, mib)
	files, err := filepath.Glob(filepath.Join(dir, "F*", "T*.age"))
	b.check(err)
	ours, theirs, openssl := time.Hour, time.Hour, time.Hour
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 5 {
		start := time.Now()
		b.check(exec.Command("sha256sum", files...).Run())
		theirs = min(theirs, time.Since(start))
		start = time.Now()
		if exec.Command("openssl", append([]string{"dgst", "-sha256"}, files...)...).Run() == nil {
			openssl = min(openssl, time.Since(start))
		}
		start = time.Now()
		if r := verify(t, os.DirFS(dir), func(o *custody.Options) { o.DeviceKey = b.device.Verifier() }); r.State != custody.VerdictClean {
			t.Fatal(lines(said(r)))
		}
		ours = min(ours, time.Since(start))
	}
	runtime.ReadMemStats(&after)
	part := 100 * theirs.Seconds() / ours.Seconds()
	t.Logf("%d MiB: openssl %v, sha256sum %v, Verify %v: %.0f %% of its speed; %d KiB allocated for each run", mib, openssl, theirs, ours, part, (after.TotalAlloc-before.TotalAlloc)>>10/5)
	if part < 90 {
		t.Errorf("%.0f %% of sha256sum's speed, want 90", part)
	}
}
