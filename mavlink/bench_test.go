package mavlink_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/all"
	"github.com/bluenviron/gomavlib/v3/pkg/frame"
	gotlog "github.com/bluenviron/gomavlib/v3/pkg/tlog"

	"holdfast/mavlink"
)

const benchFrames = 20_000

// feed is a stream of MAVLink 2 frames of 48 kinds, 57 bytes long on average.
func feed() []byte {
	rnd := rand.New(rand.NewPCG(48, 57))
	var ids []uint32
	for _, m := range all.Dialect.Messages[:48] {
		ids = append(ids, m.GetID())
	}
	var b []byte
	for i := range benchFrames {
		kind := rnd.IntN(len(ids))
		payload := make([]byte, 10+kind*70/47) // 10 to 80, fixed per kind
		for i := range payload {
			payload[i] = byte(rnd.Uint32())
		}
		b = append(b, v2(ids[kind], byte(i), 0, payload)...)
	}
	return b
}

// perFrame reports the time per frame of a benchmark whose loop takes the feed once.
func perFrame(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchFrames, "ns/frame")
}

func BenchmarkScanner(b *testing.B) {
	in := feed()
	h := new(counter)
	s := mavlink.NewScanner(h)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		for part := range slices.Chunk(in, 4096) {
			s.Write(0, part)
		}
	}
	perFrame(b)
	if h.frames != b.N*benchFrames || h.noise != 0 {
		b.Fatalf("%d frames, %d bytes of noise", h.frames, h.noise)
	}
}

// BenchmarkCopyX25 is the limit: copy each frame and compute its checksum, nothing else.
func BenchmarkCopyX25(b *testing.B) {
	in := feed()
	var ends []int
	for rest := in; len(rest) > 0; rest = rest[mavlink.SpanSize(rest):] {
		ends = append(ends, mavlink.SpanSize(rest))
	}
	out := make([]byte, mavlink.MaxFrameSize)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	var crc uint16
	for b.Loop() {
		rest := in
		for _, n := range ends {
			copy(out, rest[:n])
			crc ^= mavlink.Checksum(out[1 : n-2])
			rest = rest[n:]
		}
	}
	perFrame(b)
	sink = crc
}

var sink uint16

// BenchmarkScannerDirty is a line with 0.5 % of the bytes wrong.
func BenchmarkScannerDirty(b *testing.B) {
	in := feed()
	rnd := rand.New(rand.NewPCG(5, 1000))
	for range len(in) / 200 {
		in[rnd.IntN(len(in))] = byte(rnd.Uint32())
	}
	s := mavlink.NewScanner(new(counter))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		for part := range slices.Chunk(in, 4096) {
			s.Write(0, part)
		}
	}
	perFrame(b)
}

// BenchmarkGomavlibReader is gomavlib's frame reader without a dialect (so without a look
// at the checksum) on the same feed, alone and writing a plain .tlog.
func BenchmarkGomavlibReader(b *testing.B) {
	in := feed()
	b.Run("raw", func(b *testing.B) {
		gomavlibPass(b, in, func(frame.Frame) error { return nil })
	})
	b.Run("tlog", func(b *testing.B) {
		out := bufio.NewWriterSize(io.Discard, 64<<10)
		w := &gotlog.Writer{ByteWriter: out}
		if err := w.Initialize(); err != nil {
			b.Fatal(err)
		}
		now := time.Now()
		gomavlibPass(b, in, func(f frame.Frame) error { return w.Write(&gotlog.Entry{Time: now, Frame: f}) })
	})
}

func gomavlibPass(b *testing.B, in []byte, each func(frame.Frame) error) {
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r := &frame.Reader{BufByteReader: bufio.NewReaderSize(bytes.NewReader(in), 4096)}
		if err := r.Initialize(); err != nil {
			b.Fatal(err)
		}
		for {
			f, err := r.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if err := each(f); err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	perFrame(b)
	if n != b.N*benchFrames {
		b.Fatalf("%d frames", n)
	}
}
