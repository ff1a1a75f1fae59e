package keys

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

const (
	// algEd25519 is the first byte of an Ed25519 key in the signed-note format.
	algEd25519 = 1
	// maxNoteLine bounds a key or a verifier line, in bytes.
	maxNoteLine = 256
)

// errNoteKey means text that is no key or verifier line; callers give it the name of their kind.
var errNoteKey = errors.New("malformed signing key")

// noteKey is an Ed25519 key in the form of C2SP signed notes whose name follows from the key:
// a prefix, and the first 8 hex digits of the SHA-256 of the public key. It does not change and
// may be used by several goroutines.
type noteKey struct {
	prefix string
	key    ed25519.PrivateKey
}

func newNoteKey(prefix string, rand io.Reader) (noteKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return noteKey{}, err
	}
	return noteKey{prefix, ed25519.NewKeyFromSeed(seed)}, nil
}

// parseNoteKey is the inverse of Marshal.
func parseNoteKey(prefix string, b []byte) (noteKey, error) {
	// Five fields: PRIVATE, KEY, name, hash, key. Base64 may hold + itself.
	fields := strings.SplitN(string(b), "+", 5)
	if len(b) > maxNoteLine || len(fields) != 5 {
		return noteKey{}, errNoteKey
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(fields[4], "\n"))
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return noteKey{}, errNoteKey
	}
	k := noteKey{prefix, ed25519.NewKeyFromSeed(raw[1:])}
	// Name, hash and algorithm all follow from the seed.
	if string(k.Marshal()) != string(b) {
		return noteKey{}, errNoteKey
	}
	return k, nil
}

// Marshal returns the secret in the form note.NewSigner takes, with a newline at the end:
// PRIVATE+KEY+<name>+<hash>+<base64>.
func (k noteKey) Marshal() []byte {
	raw := append([]byte{algEd25519}, k.key.Seed()...)
	return fmt.Appendf(nil, "PRIVATE+KEY+%s+%s+%s\n", k.Name(), k.hash(), base64.StdEncoding.EncodeToString(raw))
}

// Verifier returns the line <name>+<hash>+<base64> that note.NewVerifier takes.
func (k noteKey) Verifier() string {
	return fmt.Sprintf("%s+%s+%s", k.Name(), k.hash(), base64.StdEncoding.EncodeToString(k.notePublic()))
}

// Signer returns k as a signer of notes.
func (k noteKey) Signer() (note.Signer, error) {
	return note.NewSigner(strings.TrimSuffix(string(k.Marshal()), "\n"))
}

// Public returns the 32 bytes of the Ed25519 public key.
func (k noteKey) Public() ed25519.PublicKey { return k.key.Public().(ed25519.PublicKey) }

// ID returns the first 8 hex digits of the SHA-256 of Public.
func (k noteKey) ID() string { return publicID(k.Public()) }

// Name returns the key's name in notes: the prefix of its kind and the ID.
func (k noteKey) Name() string { return k.prefix + k.ID() }

// String returns Name, so that a logged key does not leak.
func (k noteKey) String() string { return k.Name() }

// GoString returns Name.
func (k noteKey) GoString() string { return k.Name() }

// noteKeyID returns the ID of the key that a verifier line belongs to. One newline at the end
// is passed over. The line must be canonical, its hash right, its name that of its key.
func noteKeyID(prefix, verifier string) (string, error) {
	line := strings.TrimSuffix(verifier, "\n")
	if _, err := note.NewVerifier(line); err != nil || len(line) > maxNoteLine {
		return "", errNoteKey
	}
	fields := strings.SplitN(line, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != algEd25519 {
		return "", errNoteKey
	}
	id := publicID(raw[1:])
	canonical, err := note.NewEd25519VerifierKey(prefix+id, raw[1:])
	if err != nil || canonical != line {
		return "", errNoteKey
	}
	return id, nil
}

func publicID(public []byte) string {
	h := sha256.Sum256(public)
	return hex.EncodeToString(h[:4])
}

func (k noteKey) notePublic() []byte { return append([]byte{algEd25519}, k.Public()...) }

// hash is the key hash of the signed-note format, over name, newline and public key, in hex.
func (k noteKey) hash() string {
	h := sha256.New()
	io.WriteString(h, k.Name()+"\n")
	h.Write(k.notePublic())
	return hex.EncodeToString(h.Sum(nil)[:4])
}
