// Package open opens sealed flights and salvages cut and damaged segments. It is for the
// ground: no program on a board may import it.
//
// Wrapped flight keys go through age (https://c2sp.org/age) alone. Segments do too, up to the
// file key. Their payload is read here, because age stops at the first chunk that does not
// authenticate, and a salvage must not: the nonce of a chunk is its position, so a bad chunk
// costs itself alone. The payload is the one of age.md, "Payload": HKDF-SHA-256 and
// ChaCha20-Poly1305 over chunks of 64 KiB.
//
// What comes from a board is hostile input. Nothing is returned that did not authenticate,
// and memory is bounded. The package does not tell who sealed a file: anybody who knows a
// recipient can seal to it. Signatures are the matter of package custody.
//
// The package opens no file: the caller passes bytes or an io.ReaderAt in.
package open

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"holdfast/crypto/keys"
)

var (
	// ErrNoIdentity means that none of the identities given fits.
	ErrNoIdentity = errors.New("no identity fits")
	// ErrNoSecondIdentity means that the first half of a two-person lock opened, and none
	// of the identities fits the second. It is an ErrNoIdentity.
	ErrNoSecondIdentity = fmt.Errorf("%w the second half of a two-person lock", ErrNoIdentity)
	// ErrDamaged means bytes that are not what was written, or that the medium does not
	// return, so that whether an identity fits cannot be known.
	ErrDamaged = errors.New("damaged")
)

const (
	ageMagic = "age-encryption.org/v1\n"
	// maxNesting bounds age files inside age files. A pair needs 2.
	maxNesting = 4
)

// Opener tries the identities it was made with. It may be used by several goroutines if the
// identities may; those of age may.
type Opener struct {
	ids []age.Identity
}

// New returns an Opener for ids. Without any, everything is ErrNoIdentity.
func New(ids ...age.Identity) *Opener { return &Opener{ids} }

// Flight unwraps the identity of a flight from the contents of its flight.key.age,
// flight.key.2.age and so on, each of which is enough. The first that opens decides.
//
// Errors: ErrDamaged where a file that did not open is damaged, for it could have been the
// one; else ErrNoSecondIdentity where half of a two-person lock opened; else ErrNoIdentity.
func (o *Opener) Flight(files ...[]byte) (age.Identity, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: no wrapped flight key", ErrDamaged)
	}
	var worst error
	for i, f := range files {
		id, err := o.unwrap(f, 1)
		if err == nil {
			return id, nil
		}
		if worst == nil || rank(err) > rank(worst) {
			worst = fmt.Errorf("wrapped flight key %d: %w", i+1, err)
		}
	}
	return nil, worst
}

// rank orders the errors of several files by what they say about the flight.
func rank(err error) int {
	switch {
	case errors.Is(err, ErrNoSecondIdentity):
		return 1
	case errors.Is(err, ErrNoIdentity):
		return 0
	}
	return 2
}

// unwrap opens one file and the age files in it.
func (o *Opener) unwrap(file []byte, depth int) (age.Identity, error) {
	if len(file) > keys.MaxWrappedFile {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrDamaged, keys.MaxWrappedFile)
	}
	plain, err := o.decrypt(file)
	switch {
	case errors.Is(err, ErrNoIdentity) && depth > 1:
		return nil, ErrNoSecondIdentity
	case err != nil:
		return nil, err
	case bytes.HasPrefix(plain, []byte(ageMagic)):
		if depth == maxNesting {
			return nil, fmt.Errorf("%w: nested too deep", ErrDamaged)
		}
		return o.unwrap(plain, depth+1)
	}
	return parseFlightIdentity(plain)
}

// decrypt returns the plaintext of a whole age file, which cannot be longer than the file.
func (o *Opener) decrypt(file []byte) ([]byte, error) {
	if len(o.ids) == 0 {
		return nil, ErrNoIdentity
	}
	r, err := age.Decrypt(bytes.NewReader(file), o.ids...)
	if err != nil {
		return nil, classify(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return plain, nil
}

// classify tells an identity that does not fit from all else age finds wrong.
func classify(err error) error {
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return ErrNoIdentity
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// parseFlightIdentity takes one identity line, hybrid or X25519, and nothing else. The error
// does not repeat it.
func parseFlightIdentity(plain []byte) (age.Identity, error) {
	id, err := keys.ParseIdentity(strings.TrimSuffix(string(plain), "\n"))
	if err != nil {
		return nil, fmt.Errorf("%w: the content is no flight identity", ErrDamaged)
	}
	return id, nil
}
