package keys

import (
	"errors"
	"fmt"
)

// Errors about recipients and identities. They come wrapped in a *LineError where a line of
// a file is at fault.
var (
	// ErrNoRecipient means that the text names no recipient at all.
	ErrNoRecipient = errors.New("no recipient")
	// ErrSecretKey means that a secret (an age identity, a PEM private key, a signing key)
	// stands where a recipient belongs. The error does not repeat it.
	ErrSecretKey = errors.New("a secret key stands where a recipient belongs")
	// ErrUnsupported means a kind of key that age knows and this package does not take:
	// plugins, ssh-rsa, other ssh keys.
	ErrUnsupported = errors.New("unsupported kind of key")
	// ErrMalformed means text that is no recipient or identity of any known kind.
	ErrMalformed = errors.New("malformed key")
	// ErrTooLarge means that a limit of this package is exceeded.
	ErrTooLarge = errors.New("too large")
	// ErrEncryptedKey means an identity file that is itself protected by a passphrase.
	ErrEncryptedKey = errors.New("identity file is protected by a passphrase")
	// ErrNotIdentity means a file that holds no identity, for instance a recipient.
	ErrNotIdentity = errors.New("not an identity")
)

// LineError says which line of a file is at fault.
type LineError struct {
	Line int // counted from 1; 0 where the file as a whole is at fault
	Err  error
}

func (e *LineError) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Err }
