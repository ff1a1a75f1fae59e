//go:build goexperiment.runtimesecret

package seal_test

import (
	"runtime/secret"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"holdfast/crypto/seal"
)

// BenchmarkSecretDo measures what secret.Do adds to the sealing of one chunk.
func BenchmarkSecretDo(b *testing.B) {
	aead, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
	if err != nil {
		b.Fatal(err)
	}
	chunk := make([]byte, seal.ChunkSize)
	out := make([]byte, 0, seal.SealedChunkSize)
	nonce := make([]byte, chacha20poly1305.NonceSize)
	step := func() { aead.Seal(out, nonce, chunk, nil) }
	nothing := func() {}
	b.Run("empty", func(b *testing.B) {
		for b.Loop() {
			secret.Do(nothing)
		}
	})
	b.Run("chunk-with", func(b *testing.B) {
		for b.Loop() {
			secret.Do(step)
		}
	})
	b.Run("chunk-without", func(b *testing.B) {
		for b.Loop() {
			step()
		}
	})
}
