package keys

import (
	"errors"
	"fmt"
	"io"
)

const deviceNamePrefix = "holdfast-"

// ErrDeviceKey means text that is no device key or verifier line as this package makes them.
var ErrDeviceKey = errors.New("malformed device key")

// DeviceKey is the Ed25519 key by which a board signs its log. It opens nothing. Its ID names
// the device's folder. It does not change and may be used by several goroutines.
type DeviceKey struct {
	noteKey
}

// NewDeviceKey makes a key from 32 bytes of rand.
func NewDeviceKey(rand io.Reader) (*DeviceKey, error) {
	k, err := newNoteKey(deviceNamePrefix, rand)
	if err != nil {
		return nil, fmt.Errorf("make device key: %w", err)
	}
	return &DeviceKey{k}, nil
}

// ParseDeviceKey is the inverse of Marshal. All else is ErrDeviceKey.
func ParseDeviceKey(b []byte) (*DeviceKey, error) {
	k, err := parseNoteKey(deviceNamePrefix, b)
	if err != nil {
		return nil, ErrDeviceKey
	}
	return &DeviceKey{k}, nil
}

// DeviceIDOf returns the ID of the device that a verifier line belongs to. One newline at
// the end is passed over. A line that is not canonical, whose hash is wrong, or whose name is
// not that of its key, is ErrDeviceKey.
func DeviceIDOf(verifier string) (string, error) {
	id, err := noteKeyID(deviceNamePrefix, verifier)
	if err != nil {
		return "", ErrDeviceKey
	}
	return id, nil
}
