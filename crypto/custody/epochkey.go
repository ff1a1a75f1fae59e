package custody

import (
	"crypto/ed25519"
	"fmt"
	"io"
)

// Wipes reports whether this build erases what signing left of the keys of past epochs from
// freed memory, at the next garbage collection: one with GOEXPERIMENT=runtimesecret for
// linux/amd64 or linux/arm64. The buffers that hold the keys themselves are overwritten in
// every build.
func Wipes() bool { return wipes }

// epochKey signs with the key in force, and makes the next one. It is a note.Signer.
//
// A key stands in a buffer that is allocated once, outside secret.Do, and overwritten in
// place. crypto/ed25519 keeps the expanded form of a key for as long as the key's first byte
// stays allocated, and makes it anew when the bytes have changed. So the same buffer is used
// for every epoch, and each change of it is followed by a signature: that puts the new
// expanded form in the place of the old one, which nothing refers to from then on.
type epochKey struct {
	device    string
	rand      io.Reader
	now, next ed25519.PrivateKey

	pub, nextPub   ed25519.PublicKey
	hash, nextHash uint32
}

func newEpochKey(device string, rand io.Reader) (*epochKey, error) {
	k := &epochKey{
		device: device,
		rand:   rand,
		now:    make([]byte, ed25519.PrivateKeySize),
		next:   make([]byte, ed25519.PrivateKeySize),
	}
	if _, err := k.prepare(); err != nil {
		return nil, err
	}
	k.advance()
	return k, nil
}

// prepare makes the key of the next epoch and returns its public half.
func (k *epochKey) prepare() (ed25519.PublicKey, error) {
	var err error
	do(func() {
		seed := make([]byte, ed25519.SeedSize)
		if _, err = io.ReadFull(k.rand, seed); err == nil {
			copy(k.next, ed25519.NewKeyFromSeed(seed))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("make epoch key: %w", err)
	}
	// A slice of its own: the one before stands in leaves and checkpoints.
	pub := append(ed25519.PublicKey(nil), k.next[ed25519.SeedSize:]...)
	v, err := noteVerifier(k.device, pub)
	if err != nil {
		return nil, fmt.Errorf("make epoch key: %w", err)
	}
	k.nextPub, k.nextHash = pub, v.KeyHash()
	return pub, nil
}

// advance puts the prepared key in force and wipes the one before.
func (k *epochKey) advance() {
	k.pub, k.hash = k.nextPub, k.nextHash
	copy(k.now, k.next)
	clear(k.next)
	k.sign(nil)
}

// wipe leaves no key. What k signs from then on is worthless.
func (k *epochKey) wipe() {
	clear(k.now)
	clear(k.next)
	k.sign(nil)
}

func (k *epochKey) sign(msg []byte) []byte {
	sig := make([]byte, ed25519.SignatureSize)
	do(func() { copy(sig, ed25519.Sign(k.now, msg)) })
	return sig
}

// Name implements note.Signer.
func (k *epochKey) Name() string { return Origin(k.device) }

// KeyHash implements note.Signer.
func (k *epochKey) KeyHash() uint32 { return k.hash }

// Sign implements note.Signer.
func (k *epochKey) Sign(msg []byte) ([]byte, error) { return k.sign(msg), nil }
