package open_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"holdfast/crypto/open"
	"holdfast/crypto/seal"
)

const (
	chunk  = seal.ChunkSize
	sealed = seal.SealedChunkSize
)

// segment is a sealed file and what it holds.
type segment struct {
	id    age.Identity
	file  []byte
	plain []byte
	start int // of the first chunk
}

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// newSegment seals size bytes. The file ends with a closing chunk.
func newSegment(t testing.TB, size int) segment {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	s, err := seal.New(&file, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	g := segment{id: id, plain: random(1, size)}
	if _, err := s.Write(g.plain); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	g.file = file.Bytes()
	header, err := age.ExtractHeader(bytes.NewReader(g.file))
	if err != nil {
		t.Fatal(err)
	}
	g.start = len(header) + 16
	return g
}

// chunkAt returns the offset of a chunk in the file.
func (g segment) chunkAt(i int) int { return g.start + i*sealed }

// salvage reads src to its end and returns the positions that were found. It fails where
// a chunk is not what was sealed at its position, or the account of lost bytes is wrong.
func (g segment) salvage(t testing.TB, src io.ReaderAt, size int) (found []int64, res open.Result) {
	t.Helper()
	s, err := open.Salvage(src, int64(size), g.id)
	if err != nil {
		t.Fatalf("Salvage: %v", err)
	}
	return g.drain(t, s)
}

func (g segment) drain(t testing.TB, s *open.Salvaged) (found []int64, res open.Result) {
	t.Helper()
	next := int64(0) // plaintext offset behind the last chunk
	for {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		at := c.Index * chunk
		if at > int64(len(g.plain)) || !bytes.Equal(c.Plain, g.plain[at:min(at+chunk, int64(len(g.plain)))]) {
			t.Fatalf("chunk %d is not what was sealed there", c.Index)
		}
		if c.Lost != at-next {
			t.Fatalf("chunk %d: Lost = %d, want %d", c.Index, c.Lost, at-next)
		}
		next = at + int64(len(c.Plain))
		found = append(found, c.Index)
	}
	if _, err := s.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("Next after the end: %v", err)
	}
	return found, s.Result()
}

func upTo(n int) []int64 {
	var s []int64
	for i := range n {
		s = append(s, int64(i))
	}
	return s
}

func except(s []int64, lost ...int64) []int64 {
	return slices.DeleteFunc(s, func(i int64) bool { return slices.Contains(lost, i) })
}

func check(t *testing.T, g segment, file []byte, found []int64, want open.Result) {
	t.Helper()
	gotFound, got := g.salvage(t, bytes.NewReader(file), len(file))
	if !slices.Equal(gotFound, found) {
		t.Errorf("found chunks %v, want %v", gotFound, found)
	}
	if got != want {
		t.Errorf("result\n%+v, want\n%+v", got, want)
	}
}

func TestSalvageClean(t *testing.T) {
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 3*chunk + 9} {
		g := newSegment(t, size)
		n := max(1, (size+chunk-1)/chunk)
		check(t, g, g.file, upTo(n), open.Result{Ended: true, Chunks: int64(n)})
	}
}

func TestSalvageCut(t *testing.T) {
	g := newSegment(t, 3*chunk+100)
	var cuts []int
	for n := range g.start {
		cuts = append(cuts, n)
	}
	for i := range 4 {
		at := g.chunkAt(i)
		cuts = append(cuts, at, at+1, at+15, at+16, at+17, at+100, at+sealed/2, at+sealed-17, at+sealed-16, at+sealed-1)
	}
	for _, n := range cuts {
		if n >= len(g.file) {
			continue
		}
		chunks, rest := 0, n
		if n >= g.start {
			chunks, rest = (n-g.start)/sealed, (n-g.start)%sealed
		}
		check(t, g, g.file[:n], upTo(chunks), open.Result{Cut: true, Chunks: int64(chunks), CutBytes: int64(rest)})
		if t.Failed() {
			t.Fatalf("cut at %d", n)
		}
	}
}

func TestSalvageFlip(t *testing.T) {
	g := newSegment(t, 4*chunk+100)
	for c := range 4 {
		for _, off := range []int{0, 1, 16, 4095, sealed / 2, sealed - 17, sealed - 16, sealed - 1} {
			file := bytes.Clone(g.file)
			file[g.chunkAt(c)+off] ^= 1 << (off % 8)
			check(t, g, file, except(upTo(5), int64(c)),
				open.Result{Ended: true, Damaged: true, Chunks: 4, BadChunks: 1, LostBytes: chunk})
		}
	}
	// The closing chunk is short: a flip there looks like a cut.
	for off := range 116 {
		file := bytes.Clone(g.file)
		file[g.chunkAt(4)+off] ^= 0x80
		check(t, g, file, upTo(4), open.Result{Cut: true, Chunks: 4, CutBytes: 116})
	}
	// The nonce is part of every chunk's key.
	file := bytes.Clone(g.file)
	file[g.start-1] ^= 1
	check(t, g, file, nil, open.Result{Cut: true, Damaged: true, BadChunks: 4, LostBytes: 4 * chunk, CutBytes: 116})
}

func TestSalvageFlippedHeader(t *testing.T) {
	g := newSegment(t, 100)
	for off := range g.start - 16 {
		for bit := range 8 {
			file := bytes.Clone(g.file)
			file[off] ^= 1 << bit
			s, err := open.Salvage(bytes.NewReader(file), int64(len(file)), g.id)
			if errors.Is(err, open.ErrDamaged) || errors.Is(err, open.ErrNoIdentity) {
				continue
			}
			if err != nil {
				t.Fatalf("byte %d bit %d: %v", off, bit, err)
			}
			if _, res := g.drain(t, s); !res.Cut || res.Chunks != 0 {
				t.Fatalf("byte %d bit %d: %+v", off, bit, res)
			}
		}
	}
}

// TestSalvageRearranged moves whole chunks about.
func TestSalvageRearranged(t *testing.T) {
	g := newSegment(t, 5*chunk+100)
	other := newSegment(t, 5*chunk+100)
	at := g.chunkAt
	swapped := slices.Concat(g.file[:at(1)], g.file[at(2):at(3)], g.file[at(1):at(2)], g.file[at(3):])
	check(t, g, swapped, []int64{0, 3, 4, 5},
		open.Result{Ended: true, Damaged: true, Chunks: 4, BadChunks: 2, LostBytes: 2 * chunk})

	repeated := slices.Concat(g.file[:at(2)], g.file[at(1):at(2)], g.file[at(3):])
	check(t, g, repeated, []int64{0, 1, 3, 4, 5},
		open.Result{Ended: true, Damaged: true, Chunks: 5, BadChunks: 1, LostBytes: chunk})

	foreign := slices.Concat(g.file[:at(3)], other.file[at(3):at(4)], g.file[at(4):])
	check(t, g, foreign, []int64{0, 1, 2, 4, 5},
		open.Result{Ended: true, Damaged: true, Chunks: 5, BadChunks: 1, LostBytes: chunk})

	trailing := append(bytes.Clone(g.file), "more"...)
	found, res := g.salvage(t, bytes.NewReader(trailing), len(trailing))
	// The closing chunk is short, so the bytes after it become a part of it.
	if len(found) != 5 || res != (open.Result{Cut: true, Chunks: 5, CutBytes: 120}) {
		t.Errorf("bytes after a short closing chunk: %v %+v", found, res)
	}
}

func TestSalvageTrailing(t *testing.T) {
	g := newSegment(t, 2*chunk)
	file := append(bytes.Clone(g.file), random(9, 2*sealed+7)...)
	check(t, g, file, upTo(2), open.Result{Ended: true, Damaged: true, Chunks: 2, TrailingBytes: 2*sealed + 7})
}

// TestSalvageUnwritten covers what a power failure leaves where the file system had given
// the file its length before the data: zeros.
func TestSalvageUnwritten(t *testing.T) {
	g := newSegment(t, 6*chunk)
	zero := func(from, to int) []byte {
		file := bytes.Clone(g.file)
		clear(file[from:to])
		return file
	}
	at := g.chunkAt
	check(t, g, zero(at(4), at(6)), upTo(4), open.Result{Cut: true, Chunks: 4, CutBytes: 2 * sealed})
	check(t, g, zero(at(3)+4096, at(6)), upTo(3), open.Result{Cut: true, Chunks: 3, CutBytes: 3 * sealed})
	check(t, g, zero(at(3)+4096, at(6))[:at(5)+10], upTo(3), open.Result{Cut: true, Chunks: 3, CutBytes: 2*sealed + 10})
	check(t, g, zero(at(2), at(4)), []int64{0, 1, 4, 5},
		open.Result{Ended: true, Damaged: true, Chunks: 4, BadChunks: 2, LostBytes: 2 * chunk})
	// Zeros before a bad chunk that is not zero are damage too.
	file := zero(at(3), at(5))
	file[at(5)] ^= 1
	check(t, g, file, upTo(3), open.Result{Cut: true, Damaged: true, Chunks: 3, BadChunks: 3, LostBytes: 3 * chunk})
}

var errMedium = errors.New("medium cannot return this")

// badSectors fails to read anything that touches a range, and may return some bytes of it.
type badSectors struct {
	*bytes.Reader
	from, to int64
}

func (b badSectors) ReadAt(p []byte, off int64) (int, error) {
	if off < b.to && off+int64(len(p)) > b.from {
		n := max(0, b.from-off)
		b.Reader.ReadAt(p[:n], off)
		return int(n), errMedium
	}
	return b.Reader.ReadAt(p, off)
}

func TestSalvageUnreadable(t *testing.T) {
	g := newSegment(t, 4*chunk+100)
	read := func(from, to int) (io.ReaderAt, int) {
		return badSectors{bytes.NewReader(g.file), int64(from), int64(to)}, len(g.file)
	}
	at := g.chunkAt
	tests := []struct {
		name     string
		from, to int
		found    []int64
		want     open.Result
	}{
		{"one sector", at(1) + 5000, at(1) + 5512, []int64{0, 2, 3, 4},
			open.Result{Ended: true, Damaged: true, Chunks: 4, BadChunks: 1, Unreadable: 1, LostBytes: chunk}},
		{"across two chunks", at(2) - 1, at(2) + 1, []int64{0, 3, 4},
			open.Result{Ended: true, Damaged: true, Chunks: 3, BadChunks: 2, Unreadable: 2, LostBytes: 2 * chunk}},
		{"closing chunk", at(4) + 3, at(4) + 4, []int64{0, 1, 2, 3},
			open.Result{Cut: true, Damaged: true, Chunks: 4, BadChunks: 1, Unreadable: 1, LostBytes: 100}},
		{"all chunks", at(0), len(g.file), nil,
			open.Result{Cut: true, Damaged: true, BadChunks: 5, Unreadable: 5, LostBytes: 4*chunk + 100}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, size := read(tt.from, tt.to)
			found, got := g.salvage(t, src, size)
			tt.want.ReadError = errMedium
			if !slices.Equal(found, tt.found) || got != tt.want {
				t.Errorf("found %v, %+v\nwant %v, %+v", found, got, tt.found, tt.want)
			}
		})
	}
	for name, off := range map[string]int{"intro": 3, "stanza": 60, "nonce": g.start - 5} {
		src, size := read(off, off+1)
		if _, err := open.Salvage(src, int64(size), g.id); !errors.Is(err, open.ErrDamaged) || !errors.Is(err, errMedium) {
			t.Errorf("%s unreadable: %v", name, err)
		}
	}
}

// TestSalvageShorterThanSaid has a size that is more than the source returns.
func TestSalvageShorterThanSaid(t *testing.T) {
	g := newSegment(t, 3*chunk)
	short := g.file[:g.chunkAt(2)]
	for _, said := range []int{len(short) + 1, len(short) + 10*sealed} {
		found, res := g.salvage(t, bytes.NewReader(short), said)
		if want := (open.Result{Cut: true, Chunks: 2}); len(found) != 2 || res != want {
			t.Errorf("said %d more: %v %+v", said-len(short), found, res)
		}
	}
}

func TestSalvageErrors(t *testing.T) {
	g, other := newSegment(t, 100), newSegment(t, 100)
	src := bytes.NewReader(g.file)
	size := int64(len(g.file))
	if _, err := open.Salvage(src, size); !errors.Is(err, open.ErrNoIdentity) {
		t.Errorf("no identity: %v", err)
	}
	if _, err := open.Salvage(src, size, other.id); !errors.Is(err, open.ErrNoIdentity) {
		t.Errorf("a stranger's identity: %v", err)
	}
	if s, err := open.Salvage(src, size, other.id, g.id); err != nil {
		t.Errorf("the second of two identities: %v", err)
	} else if _, res := g.drain(t, s); !res.Clean() {
		t.Errorf("the second of two identities: %+v", res)
	}
	for _, text := range []string{"plain text", "age-encryption.org/v2\n", ageHeaderOnly + "\n"} {
		if _, err := open.Salvage(bytes.NewReader([]byte(text)), int64(len(text)), g.id); !errors.Is(err, open.ErrDamaged) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

const ageHeaderOnly = "age-encryption.org/v1\n---"

// TestSalvageFlushed salvages what seal flushed and never closed, with a torn piece behind.
func TestSalvageFlushed(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	var file, plain, frames bytes.Buffer
	s, err := seal.New(&file, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i := range 5 {
		frame := random(byte(i), 30000)
		frames.Write(frame)
		if _, err := s.Write(append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, e.EncodeAll(frame, nil)...)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	s.Abandon()
	torn := append(bytes.Clone(file.Bytes()), random(9, 12345)...)
	got, err := open.Salvage(bytes.NewReader(torn), int64(len(torn)), id)
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := got.Next()
		if err != nil {
			break
		}
		plain.Write(c.Plain)
	}
	if want := (open.Result{Cut: true, Chunks: 5, CutBytes: 12345}); got.Result() != want {
		t.Errorf("%+v, want %+v", got.Result(), want)
	}
	d, err := zstd.NewReader(&plain)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out, err := io.ReadAll(d)
	if err != nil || !bytes.Equal(out, frames.Bytes()) {
		t.Errorf("zstd gives %d bytes of %d, %v", len(out), frames.Len(), err)
	}
}

func TestSalvageAllocates(t *testing.T) {
	g := newSegment(t, 20*chunk)
	file := bytes.Clone(g.file)
	file[g.chunkAt(3)] ^= 1
	s, err := open.Salvage(bytes.NewReader(file), int64(len(file)), g.id)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(15, func() { s.Next() }); n != 0 {
		t.Errorf("%v allocations for each chunk", n)
	}
}
