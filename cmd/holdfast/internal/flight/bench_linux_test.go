package flight_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// BenchmarkOpenVideo opens a record with 256 MiB of video, to whole files. peak-MB is what the Go
// runtime holds of the machine's memory afterwards.
func BenchmarkOpenVideo(b *testing.B) {
	bd := newBoard(b)
	const size, piece = 256 << 20, 256 << 10
	bd.check(bd.v.Begin(vault.Flight, vault.RecordID{}))
	m := bd.cameras()
	data := randomContent(1, piece)
	for at := int64(0); at < size; at += piece {
		bd.media(m, 'V', segment.File{ID: 1, Kind: segment.KindVideo, Source: "front", Format: "h264", Offset: at, End: at+piece == size}, data)
		bd.clock += 5 * time.Millisecond
		bd.finish()
	}
	bd.check(m.End())
	bd.finish()
	bd.check(bd.v.Close())
	d, r := bd.record()
	b.SetBytes(size)
	b.ResetTimer()
	for range b.N {
		out := filepath.Join(b.TempDir(), "out")
		o := &flight.Opener{FS: os.DirFS(bd.dir), Keys: open.New(bd.operator)}
		if _, err := o.Open(d, r, out); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := os.RemoveAll(out); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.Sys)/1e6, "peak-MB")
}
