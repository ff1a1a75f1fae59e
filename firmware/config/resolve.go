package config

import (
	"path/filepath"
	"strings"
)

// resolve puts relative paths below dir. Addresses stay as they are.
func (c *Config) resolve(dir string) {
	if dir == "" {
		return
	}
	for _, p := range []*string{&c.Vault.Path, &c.Vault.Recipients, &c.Vault.DeviceKey,
		&c.Lock.Run, &c.Lock.Ticket, &c.Lock.Signers, &c.Lock.UsedNumbers, &c.Status.File} {
		*p = below(dir, *p)
	}
	for _, p := range []*string{&c.Policy.AutopilotLogRecipients, &c.Policy.PhotoRecipients, &c.Policy.VideoRecipients, &c.Policy.ArmingOverride} {
		*p = below(dir, *p)
	}
	for i := range c.Camera {
		c.Camera[i].Path, c.Camera[i].Device = below(dir, c.Camera[i].Path), below(dir, c.Camera[i].Device)
	}
	for i := range c.Share {
		c.Share[i].Path = below(dir, c.Share[i].Path)
	}
	for i := range c.Link {
		c.Link[i].Device = resolveDevice(dir, c.Link[i].Device)
	}
}

func resolveDevice(dir, device string) string {
	if path, ok := strings.CutPrefix(device, "file:"); ok {
		return "file:" + below(dir, path)
	}
	if deviceScheme.MatchString(device) {
		return device
	}
	return below(dir, device)
}

// below leaves rooted paths alone. "/dev/serial0" counts as rooted everywhere, for a file
// made for a board is also read on a laptop that knows drives. An empty path stays empty,
// for Validate to refuse.
func below(dir, path string) string {
	if path == "" || strings.HasPrefix(path, "/") || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
