package vault

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// InUse tells whether a recorder holds the lock of a device's folder. It changes nothing and
// works on a medium mounted read-only.
func InUse(deviceDir string) bool {
	d, err := os.Open(filepath.Join(deviceDir, logDir))
	if err != nil {
		return false
	}
	defer d.Close()
	return errors.Is(unix.Flock(int(d.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
