package seal_test

import (
	"crypto/rand"
	"io"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"holdfast/crypto/seal"
)

func benchRecipient(b *testing.B) age.Recipient {
	b.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		b.Fatal(err)
	}
	return id.Recipient()
}

// BenchmarkSeal compares writing full chunks through a Sealer with the same through age
// alone, and with the cipher alone, which is the limit.
func BenchmarkSeal(b *testing.B) {
	chunk := make([]byte, seal.ChunkSize)
	rand.Read(chunk)
	b.Run("cipher", func(b *testing.B) {
		aead, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
		if err != nil {
			b.Fatal(err)
		}
		out := make([]byte, 0, seal.SealedChunkSize)
		nonce := make([]byte, chacha20poly1305.NonceSize)
		b.SetBytes(seal.ChunkSize)
		for b.Loop() {
			aead.Seal(out, nonce, chunk, nil)
		}
	})
	b.Run("age", func(b *testing.B) {
		w, err := age.Encrypt(io.Discard, benchRecipient(b))
		if err != nil {
			b.Fatal(err)
		}
		benchWrites(b, w, chunk)
	})
	b.Run("sealer", func(b *testing.B) {
		w, err := seal.New(io.Discard, benchRecipient(b))
		if err != nil {
			b.Fatal(err)
		}
		defer w.Abandon()
		benchWrites(b, w, chunk)
	})
	b.Run("sealer-1KiB-writes", func(b *testing.B) {
		w, err := seal.New(io.Discard, benchRecipient(b))
		if err != nil {
			b.Fatal(err)
		}
		defer w.Abandon()
		benchWrites(b, w, chunk[:1024])
	})
}

func benchWrites(b *testing.B, w io.Writer, p []byte) {
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Write(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFlush is one flush of a kilobyte, as telemetry does each 200 ms.
func BenchmarkFlush(b *testing.B) {
	s, err := seal.New(io.Discard, benchRecipient(b))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Abandon()
	p := make([]byte, 1024)
	p[0] = 0x50
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewClose is what one segment costs beside its chunks.
func BenchmarkNewClose(b *testing.B) {
	to := benchRecipient(b)
	b.ReportAllocs()
	for b.Loop() {
		s, err := seal.New(io.Discard, to)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWipe is the collection after a segment, with a small heap.
func BenchmarkWipe(b *testing.B) {
	for b.Loop() {
		seal.Wipe()
	}
}
