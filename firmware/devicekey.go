package firmware

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/crypto/keys"
)

// deviceKey reads the key that names this board, and makes it at the first start: 0600, outside
// the vault, complete under its name or not there at all.
func deviceKey(path string) (*keys.DeviceKey, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newDeviceKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("device key: %w", plain(err))
	}
	k, err := keys.ParseDeviceKey(data)
	if err != nil {
		return nil, fmt.Errorf("device key %s: %w; restore it from a copy, or move it away to start as a new device", path, err)
	}
	return k, nil
}

func newDeviceKey(path string) (*keys.DeviceKey, error) {
	k, err := keys.NewDeviceKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("device key: %w", plain(err))
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".device.key.*") // CreateTemp makes it 0600
	if err != nil {
		return nil, fmt.Errorf("device key: %w", plain(err))
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(k.Marshal())
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return nil, fmt.Errorf("device key: %w", plain(err))
	}
	// Link, not rename: of two first starts at the same time one wins and the other reads.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(tmp.Name(), path); err != nil {
			return nil, fmt.Errorf("device key: %w", plain(err))
		}
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("device key: %w", plain(err))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("device key: %w", plain(err))
	}
	return keys.ParseDeviceKey(data)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
