package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"holdfast/crypto/seal"
)

// meta is an empty metadata frame, with which the data of each flush begins.
var meta = []byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newSealer(t testing.TB, w io.Writer, to age.Recipient) *seal.Sealer {
	t.Helper()
	s, err := seal.New(w, to)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, s *seal.Sealer, p []byte) {
	t.Helper()
	if n, err := s.Write(p); err != nil || n != len(p) {
		t.Fatalf("Write of %d bytes = %d, %v", len(p), n, err)
	}
}

func flush(t testing.TB, s *seal.Sealer) int64 {
	t.Helper()
	n, err := s.Flush()
	if err != nil {
		t.Fatalf("Flush: %v", err)
	}
	return n
}

// openCut returns what age releases of a file that has no closing chunk.
func openCut(t testing.TB, file []byte, id age.Identity) []byte {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		t.Fatalf("open header: %v", err)
	}
	plain, err := io.ReadAll(r)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("reading a file without closing chunk ended with %v", err)
	}
	return plain
}

// openClean returns the plaintext of a closed file.
func openClean(t testing.TB, file []byte, id age.Identity) []byte {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		t.Fatalf("open header: %v", err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return plain
}

func compress(t testing.TB, p []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.EncodeAll(p, nil)
}

func decompress(p []byte) ([]byte, error) {
	d, err := zstd.NewReader(bytes.NewReader(p))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return io.ReadAll(d)
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

func TestCloseWithoutFlush(t *testing.T) {
	id := newIdentity(t)
	const c = seal.ChunkSize
	for _, size := range []int{0, 1, c - 1, c, c + 1, 2*c - 1, 2 * c, 2*c + 1, 3*c + 5} {
		for _, step := range []int{1000, c - 1, c, c + 1, 3*c + 5} {
			t.Run(fmt.Sprintf("%d by %d", size, step), func(t *testing.T) {
				var file bytes.Buffer
				s := newSealer(t, &file, id.Recipient())
				want := random(1, size)
				for p := range slices.Chunk(want, step) {
					write(t, s, p)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if got := openClean(t, file.Bytes(), id); !bytes.Equal(got, want) {
					t.Errorf("opened %d bytes, not the %d written", len(got), len(want))
				}
				if s.Size() != int64(file.Len()) {
					t.Errorf("Size = %d, the file has %d", s.Size(), file.Len())
				}
			})
		}
	}
}

// TestFlushedNeverClosed is the power cut: after each flush the file as it is gives exactly
// the flushed plaintext, and zstd reads it to its end without error.
func TestFlushedNeverClosed(t *testing.T) {
	id := newIdentity(t)
	var file bytes.Buffer
	s := newSealer(t, &file, id.Recipient())
	header := file.Len()
	var want []byte
	var sum int64
	for i := range 12 {
		frame := random(uint64(i), i*i*1500+1)
		want = append(want, frame...)
		write(t, s, meta)
		write(t, s, compress(t, frame))
		sum += flush(t, s)

		if sum != int64(file.Len()) || sum != s.Size() {
			t.Fatalf("flush %d: handed over %d, Size %d, file %d", i, sum, s.Size(), file.Len())
		}
		if (file.Len()-header)%seal.SealedChunkSize != 0 {
			t.Fatalf("flush %d: file does not end with a full chunk", i)
		}
		plain := openCut(t, file.Bytes(), id)
		if len(plain)%seal.ChunkSize != 0 {
			t.Fatalf("flush %d: %d bytes of plaintext", i, len(plain))
		}
		got, err := decompress(plain)
		if err != nil {
			t.Fatalf("flush %d: zstd: %v", i, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("flush %d: zstd gives %d bytes, want %d", i, len(got), len(want))
		}
	}
	// The control: with the promised byte in the file zstd would fail.
	if _, err := decompress(append(openCut(t, file.Bytes(), id), meta[0])); err == nil {
		t.Error("control: zstd takes a lone byte at the end, so this test proves nothing")
	}
}

// TestPadding holds the plaintext of a flush to the format, byte by byte, around the end of
// a chunk.
func TestPadding(t *testing.T) {
	id := newIdentity(t)
	const c = seal.ChunkSize
	for _, n := range []int{1, 8, c - 9, c - 8, c - 7, c - 1, c, c + 1, 2*c - 8, 2*c - 7} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var file bytes.Buffer
			s := newSealer(t, &file, id.Recipient())
			data := random(7, n)
			write(t, s, data)
			flush(t, s)
			plain := openCut(t, file.Bytes(), id)
			if len(plain)%c != 0 || !bytes.HasPrefix(plain, data) {
				t.Fatalf("%d bytes of plaintext", len(plain))
			}
			pad := plain[n:]
			if len(pad) == 0 {
				return
			}
			if len(pad) > c+7 {
				t.Errorf("padding of %d bytes is longer than it must be", len(pad))
			}
			size := len(pad) - 8
			head := []byte{0x5f, 0x2a, 0x4d, 0x18, byte(size), byte(size >> 8), byte(size >> 16), 0}
			if !bytes.Equal(pad[:8], head) || len(bytes.Trim(pad[8:], "\x00")) != 0 {
				t.Errorf("padding begins % x, want % x and zeros", pad[:8], head)
			}
		})
	}
}

func TestCloseAfterFlush(t *testing.T) {
	id := newIdentity(t)
	var file bytes.Buffer
	s := newSealer(t, &file, id.Recipient())
	write(t, s, compress(t, []byte("before")))
	flush(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	plain := openClean(t, file.Bytes(), id)
	if !bytes.Equal(plain[len(plain)-8:], meta) || len(plain) != seal.ChunkSize+8 {
		t.Errorf("the last of %d bytes are % x, want an empty metadata frame", len(plain), plain[len(plain)-8:])
	}
	got, err := decompress(plain)
	if err != nil || string(got) != "before" {
		t.Errorf("zstd: %q, %v", got, err)
	}
}

func TestCloseAfterFlushAndWrite(t *testing.T) {
	id := newIdentity(t)
	var file bytes.Buffer
	s := newSealer(t, &file, id.Recipient())
	write(t, s, compress(t, []byte("before, ")))
	flush(t, s)
	write(t, s, meta[:1])
	write(t, s, meta[1:])
	write(t, s, compress(t, []byte("after")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := decompress(openClean(t, file.Bytes(), id))
	if err != nil || string(got) != "before, after" {
		t.Errorf("zstd: %q, %v", got, err)
	}
}

func TestEmptyFlush(t *testing.T) {
	id := newIdentity(t)
	var file bytes.Buffer
	s := newSealer(t, &file, id.Recipient())
	header := file.Len()
	if n := flush(t, s); n != 0 || file.Len() != header {
		t.Errorf("flush of nothing: n = %d, file grew by %d", n, file.Len()-header)
	}
	write(t, s, nil)
	if n := flush(t, s); n != 0 {
		t.Errorf("flush after an empty write: n = %d", n)
	}
	write(t, s, meta)
	if n := flush(t, s); n != int64(header+seal.SealedChunkSize) {
		t.Errorf("first flush: n = %d, want header and one chunk", n)
	}
	before := file.Len()
	if n := flush(t, s); n != 0 || file.Len() != before {
		t.Errorf("second flush of nothing: n = %d, file grew by %d", n, file.Len()-before)
	}
	write(t, s, meta[:1])
	if n := flush(t, s); n != seal.SealedChunkSize {
		t.Errorf("flush after one byte: n = %d, want one chunk", n)
	}
}

func TestNotMeta(t *testing.T) {
	id := newIdentity(t)
	var file bytes.Buffer
	s := newSealer(t, &file, id.Recipient())
	write(t, s, []byte("anything goes before the first flush"))
	flush(t, s)
	if n, err := s.Write([]byte{0x28, 0xb5}); n != 0 || !errors.Is(err, seal.ErrNotMeta) {
		t.Errorf("Write = %d, %v", n, err)
	}
	if _, err := s.Flush(); !errors.Is(err, seal.ErrNotMeta) {
		t.Errorf("Flush after an error: %v", err)
	}
	if err := s.Close(); !errors.Is(err, seal.ErrNotMeta) {
		t.Errorf("Close after an error: %v", err)
	}
	openCut(t, file.Bytes(), id)
}

func TestAbandon(t *testing.T) {
	id := newIdentity(t)
	var file bytes.Buffer
	s := newSealer(t, &file, id.Recipient())
	write(t, s, meta)
	flush(t, s)
	size := s.Size()
	write(t, s, meta)
	s.Abandon()
	s.Abandon()
	if got := len(openCut(t, file.Bytes(), id)); got != seal.ChunkSize {
		t.Errorf("%d bytes of plaintext, want the flushed chunk", got)
	}
	if s.Size() != size {
		t.Errorf("Size after Abandon = %d, want %d", s.Size(), size)
	}
	if _, err := s.Write(meta); !errors.Is(err, seal.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
	if _, err := s.Flush(); !errors.Is(err, seal.ErrClosed) {
		t.Errorf("Flush: %v", err)
	}
	if err := s.Close(); !errors.Is(err, seal.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
}

var errMedium = errors.New("medium is gone")

// failing is a writer that takes some bytes and then fails, or takes less than it is given.
type failing struct {
	bytes.Buffer
	room  int
	short bool
}

func (f *failing) Write(p []byte) (int, error) {
	if len(p) <= f.room {
		f.room -= len(p)
		return f.Buffer.Write(p)
	}
	n, _ := f.Buffer.Write(p[:f.room])
	f.room = 0
	if f.short {
		return n, nil
	}
	return n, errMedium
}

func TestWriterFails(t *testing.T) {
	id := newIdentity(t)
	for _, short := range []bool{false, true} {
		want := errMedium
		if short {
			want = io.ErrShortWrite
		}
		if _, err := seal.New(&failing{room: 10, short: short}, id.Recipient()); !errors.Is(err, want) {
			t.Errorf("New: %v, want %v", err, want)
		}
		f := &failing{room: 1000 + 2*seal.SealedChunkSize, short: short}
		s := newSealer(t, f, id.Recipient())
		write(t, s, meta)
		flush(t, s)
		write(t, s, meta)
		flush(t, s)
		write(t, s, meta)
		if _, err := s.Flush(); !errors.Is(err, want) {
			t.Errorf("Flush: %v, want %v", err, want)
		}
		if s.Size() != int64(f.Len()) {
			t.Errorf("Size = %d, the writer took %d", s.Size(), f.Len())
		}
		if _, err := s.Write(meta); !errors.Is(err, want) {
			t.Errorf("Write after an error: %v, want %v", err, want)
		}
		took := f.Len()
		if err := s.Close(); !errors.Is(err, want) || f.Len() != took {
			t.Errorf("Close after an error: %v, wrote %d more bytes", err, f.Len()-took)
		}
	}
}

type badRecipient struct{}

var errBadRecipient = errors.New("token is gone")

func (badRecipient) Wrap([]byte) ([]*age.Stanza, error) { return nil, errBadRecipient }

func TestRecipientFails(t *testing.T) {
	var file bytes.Buffer
	if _, err := seal.New(&file, badRecipient{}); !errors.Is(err, errBadRecipient) || file.Len() != 0 {
		t.Errorf("New: %v, %d bytes written", err, file.Len())
	}
}

func TestWriteAllocates(t *testing.T) {
	s := newSealer(t, io.Discard, newIdentity(t).Recipient())
	defer s.Abandon()
	p := make([]byte, 10000)
	write(t, s, make([]byte, 3*seal.ChunkSize)) // age has its buffer now
	if n := testing.AllocsPerRun(200, func() { s.Write(p) }); n != 0 {
		t.Errorf("%v allocations for each Write", n)
	}
}

// FuzzSealer runs a list of writes and flushes and compares with the plainest model: the
// plaintext is what was written, with padding where a flush was.
func FuzzSealer(f *testing.F) {
	f.Add([]byte{1, 0, 255, 0, 0, 200, 254, 0})
	f.Add([]byte{253, 253, 253, 0, 7, 0, 252, 251, 250, 0, 250, 250})
	id := newIdentity(f)
	f.Fuzz(func(t *testing.T, ops []byte) {
		var file bytes.Buffer
		s := newSealer(t, &file, id.Recipient())
		var want [][]byte // what each flush added
		var last []byte
		for _, op := range ops[:min(len(ops), 24)] {
			if op == 0 {
				if n := flush(t, s); (n > 0) != (len(last) > 0) {
					t.Fatalf("flush after %d bytes: n = %d", len(last), n)
				}
				if len(last) > 0 {
					want, last = append(want, last), nil
				}
				continue
			}
			p := append([]byte{meta[0]}, random(uint64(op), int(op)*int(op)*2)...)
			write(t, s, p)
			last = append(last, p...)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		plain := openClean(t, file.Bytes(), id)
		for i, w := range want {
			if !bytes.HasPrefix(plain, w) {
				t.Fatalf("flush %d is not what was written", i)
			}
			chunks := (len(w) + seal.ChunkSize - 1) / seal.ChunkSize * seal.ChunkSize
			if gap := chunks - len(w); gap > 0 && gap < 8 {
				chunks += seal.ChunkSize
			}
			plain = plain[chunks:]
		}
		if len(last) == 0 && len(want) > 0 {
			last = meta
		}
		if !bytes.Equal(plain, last) {
			t.Fatalf("%d bytes after the last flush, want %d", len(plain), len(last))
		}
	})
}
