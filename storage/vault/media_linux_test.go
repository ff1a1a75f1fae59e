package vault_test

import (
	"crypto/rand"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"holdfast/crypto/custody"
	"holdfast/crypto/seal"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// TestMediaOnDisk: both goroutines on a real file system, through two changes of record. With the
// race detector it shows that they share nothing but the mailbox.
func TestMediaOnDisk(t *testing.T) {
	dir := t.TempDir()
	now := since()
	cfg := config(osFS(t, dir), &clock{})
	cfg.Now = now
	v := mustOpen(t, cfg)
	told := make(chan struct{}, 1)
	m := v.NewMedia(osFS(t, dir), func() {
		select {
		case told <- struct{}{}:
		default:
		}
	})
	stop := make(chan struct{})
	done := make(chan [2]int, 1)
	go func() {
		n, videos := [2]int{}, 0
		for {
			select {
			case <-stop:
				_ = m.End()
				done <- n
				return
			default:
			}
			b := video("cam", 1+videos/1000, int64(videos%1000)*1000, randomBytes()[:1000])
			b.Meta.File.End = videos%1000 == 999
			if m.Append('V', b) == nil {
				videos++
				n[0]++
			}
			if n[0]%500 == 0 && m.Append('P', photo(n[0], randomBytes()[:20<<10])) == nil {
				n[1]++
			}
			if at, ok := m.Due(); ok && at <= now() {
				_ = m.Flush(now())
			}
		}
	}()
	v.SetArmed(true)
	for i := range 3 {
		must(t, v.Begin([]vault.Kind{vault.Ground, vault.Flight}[i%2], vault.RecordID{}))
		for n := range uint64(15) {
			must(t, v.Append(&segment.Block{Meta: segment.Meta{Frames: 1}, Data: entries(n, n+1)}))
			must(t, v.Flush())
			if _, err := v.SetLock(custody.Lock{Lock: "open", Grade: "none"}); err != nil {
				t.Fatal(err)
			}
			v.PutFile(piece(0, 1000))
			for v.Step() {
			}
			if n%5 == 0 {
				<-told // Media has ended or begun a segment meanwhile
			}
		}
	}
	close(stop)
	n := <-done
	must(t, v.Close())
	rep, err := custody.Verify(os.DirFS(dir+"/"+device), custody.Options{Device: device, DeviceKey: devicePub, Readme: []byte(vault.Readme)})
	must(t, err)
	if rep.State != custody.VerdictClean || len(rep.Findings) > 0 {
		t.Errorf("%s: %+v", rep.State, rep.Findings)
	}
	segments := 0
	for _, r := range rep.Records {
		segments += len(r.Segments)
	}
	if n[0] == 0 || n[1] == 0 || segments < n[1] {
		t.Errorf("%d blocks of video, %d photos, %d segments", n[0], n[1], segments)
	}
	t.Logf("%d blocks of video, %d photos, %d segments", n[0], n[1], segments)
}

// BenchmarkMedia is video in blocks of 256 KiB onto a file system in memory; BenchmarkMediaCipher
// is the cipher alone, the limit.
func BenchmarkMedia(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-")
	if err != nil {
		b.Skip(err)
	}
	defer os.RemoveAll(dir)
	now := since()
	cfg := config(benchFS(b, dir), &clock{})
	cfg.Now = now
	v := mustOpen(b, cfg)
	m := v.NewMedia(benchFS(b, dir), nil)
	must(b, v.Begin(vault.Flight, vault.RecordID{}))
	data := make([]byte, 256<<10)
	rand.Read(data)
	blk := video("cam", 1, 0, data)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Append('V', blk); err != nil {
			b.Fatal(err)
		}
		if blk.Meta.File.Offset += int64(len(data)); blk.Meta.File.Offset%(512<<20) == 0 {
			b.StopTimer() // the folder in memory is not that large
			must(b, m.End())
			must(b, v.Begin(vault.Ground, vault.RecordID{}))
			for v.Step() {
			}
			emptyOld(b, dir)
			b.StartTimer()
		}
	}
	_ = m.End()
	_ = v.Close()
}

// emptyOld makes room.
func emptyOld(b *testing.B, dir string) {
	root := os.DirFS(dir + "/" + device)
	files, err := fs.Glob(root, "[FG]*/V*.age")
	must(b, err)
	for _, f := range files {
		must(b, os.Truncate(dir+"/"+device+"/"+f, 0))
	}
}

func benchFS(b *testing.B, dir string) vault.FS {
	fsys, err := vault.NewOSFS(dir)
	must(b, err)
	return fsys
}

func BenchmarkMediaCipher(b *testing.B) {
	aead, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
	must(b, err)
	chunk, out, nonce := make([]byte, seal.ChunkSize), make([]byte, 0, seal.SealedChunkSize), make([]byte, chacha20poly1305.NonceSize)
	b.SetBytes(seal.ChunkSize)
	for b.Loop() {
		aead.Seal(out, nonce, chunk, nil)
	}
}
