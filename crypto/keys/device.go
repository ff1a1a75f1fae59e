package keys

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

const (
	deviceNamePrefix = "holdfast-"
	// algEd25519 is the first byte of an Ed25519 key in the signed-note format.
	algEd25519 = 1
)

// ErrDeviceKey means text that is no device key or verifier line as this package makes them.
var ErrDeviceKey = errors.New("malformed device key")

// DeviceKey is the Ed25519 key by which a board signs its log. It opens nothing. It does not
// change and may be used by several goroutines.
type DeviceKey struct {
	key ed25519.PrivateKey
}

// NewDeviceKey makes a key from 32 bytes of rand.
func NewDeviceKey(rand io.Reader) (*DeviceKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("make device key: %w", err)
	}
	return &DeviceKey{ed25519.NewKeyFromSeed(seed)}, nil
}

// ParseDeviceKey is the inverse of Marshal. All else is ErrDeviceKey.
func ParseDeviceKey(b []byte) (*DeviceKey, error) {
	// Five fields: PRIVATE, KEY, name, hash, key. Base64 may hold + itself.
	fields := strings.SplitN(string(b), "+", 5)
	if len(b) > 256 || len(fields) != 5 {
		return nil, ErrDeviceKey
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(fields[4], "\n"))
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return nil, ErrDeviceKey
	}
	k := &DeviceKey{ed25519.NewKeyFromSeed(raw[1:])}
	// Name, hash and algorithm all follow from the seed.
	if string(k.Marshal()) != string(b) {
		return nil, ErrDeviceKey
	}
	return k, nil
}

// Marshal returns the secret in the form note.NewSigner takes, with a newline at the end:
// PRIVATE+KEY+<name>+<hash>+<base64>.
func (k *DeviceKey) Marshal() []byte {
	raw := append([]byte{algEd25519}, k.key.Seed()...)
	return fmt.Appendf(nil, "PRIVATE+KEY+%s+%08x+%s\n", k.Name(), k.hash(), base64.StdEncoding.EncodeToString(raw))
}

// Verifier returns the line <name>+<hash>+<base64> that note.NewVerifier takes.
func (k *DeviceKey) Verifier() string {
	return fmt.Sprintf("%s+%08x+%s", k.Name(), k.hash(), base64.StdEncoding.EncodeToString(k.notePublic()))
}

// Signer returns k as a signer of notes.
func (k *DeviceKey) Signer() (note.Signer, error) {
	return note.NewSigner(strings.TrimSuffix(string(k.Marshal()), "\n"))
}

// Public returns the 32 bytes of the Ed25519 public key.
func (k *DeviceKey) Public() ed25519.PublicKey { return k.key.Public().(ed25519.PublicKey) }

// ID returns the first 8 hex digits of the SHA-256 of Public. It names the device's folder.
func (k *DeviceKey) ID() string { return deviceID(k.Public()) }

// Name returns the key's name in notes, "holdfast-" and the ID.
func (k *DeviceKey) Name() string { return deviceNamePrefix + k.ID() }

// String returns Name, so that a logged key does not leak.
func (k *DeviceKey) String() string { return k.Name() }

// GoString returns Name.
func (k *DeviceKey) GoString() string { return k.Name() }

// DeviceIDOf returns the ID of the device that a verifier line belongs to. One newline at
// the end is passed over. A line that is not canonical, whose hash is wrong, or whose name is
// not that of its key, is ErrDeviceKey.
func DeviceIDOf(verifier string) (string, error) {
	line := strings.TrimSuffix(verifier, "\n")
	if _, err := note.NewVerifier(line); err != nil || len(line) > 256 {
		return "", ErrDeviceKey
	}
	fields := strings.SplitN(line, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != algEd25519 {
		return "", ErrDeviceKey
	}
	id := deviceID(raw[1:])
	canonical, err := note.NewEd25519VerifierKey(deviceNamePrefix+id, raw[1:])
	if err != nil || canonical != line {
		return "", ErrDeviceKey
	}
	return id, nil
}

func deviceID(public []byte) string {
	h := sha256.Sum256(public)
	return hex.EncodeToString(h[:4])
}

func (k *DeviceKey) notePublic() []byte { return append([]byte{algEd25519}, k.Public()...) }

// hash is the key hash of the signed-note format: over name, newline and public key.
func (k *DeviceKey) hash() uint32 {
	h := sha256.New()
	io.WriteString(h, k.Name()+"\n")
	h.Write(k.notePublic())
	return binary.BigEndian.Uint32(h.Sum(nil))
}
