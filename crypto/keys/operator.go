package keys

import (
	"errors"
	"fmt"
	"io"
)

const operatorNamePrefix = "holdfast-operator-"

// ErrOperatorKey means text that is no operator's signing key or verifier line as this package
// makes them.
var ErrOperatorKey = errors.New("malformed signing key of an operator")

// OperatorKey is the Ed25519 key by which an operator signs statements to a board: receipts,
// tickets, sticks, lists of recipients. It opens nothing. It does not change and may be used by
// several goroutines.
type OperatorKey struct {
	noteKey
}

// NewOperatorKey makes a key from 32 bytes of rand.
func NewOperatorKey(rand io.Reader) (*OperatorKey, error) {
	k, err := newNoteKey(operatorNamePrefix, rand)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	return &OperatorKey{k}, nil
}

// ParseOperatorKey is the inverse of Marshal. All else is ErrOperatorKey; a device key too.
func ParseOperatorKey(b []byte) (*OperatorKey, error) {
	k, err := parseNoteKey(operatorNamePrefix, b)
	if err != nil {
		return nil, ErrOperatorKey
	}
	return &OperatorKey{k}, nil
}

// OperatorIDOf returns the ID of the key that a verifier line belongs to, under the rules of
// DeviceIDOf. All else is ErrOperatorKey.
func OperatorIDOf(verifier string) (string, error) {
	id, err := noteKeyID(operatorNamePrefix, verifier)
	if err != nil {
		return "", ErrOperatorKey
	}
	return id, nil
}
