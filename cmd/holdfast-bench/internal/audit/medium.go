package audit

import (
	"io"
	"strings"
	"syscall"

	"holdfast/storage/vault"
)

// medium is a vault's file system in the audit's hands: it takes the lock from a recorder that
// is left where it stands, fails one sync, and says that there is no room.
type medium struct {
	vault.FS
	failSync string // the next sync of a file with this in its name fails
	full     bool   // until something was removed
	locks    []io.Closer
}

// kill is a loss of power on a medium that has kept everything: the recorder is not called any
// more, and its locks are gone.
func (m *medium) kill() {
	for _, l := range m.locks {
		_ = l.Close() // as the kernel does
	}
	m.locks = nil
}

func (m *medium) Create(name string) (vault.File, error) {
	f, err := m.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &mediumFile{f, m, name}, nil
}

func (m *medium) Remove(name string) error {
	m.full = false
	return m.FS.Remove(name)
}

func (m *medium) Free() (int64, error) {
	if m.full {
		return 0, nil
	}
	return 1 << 40, nil
}

func (m *medium) Lock(name string) (io.Closer, error) {
	l, err := m.FS.Lock(name)
	if err == nil {
		m.locks = append(m.locks, l)
	}
	return l, err
}

type mediumFile struct {
	vault.File
	m    *medium
	name string
}

func (f *mediumFile) Sync() error {
	if f.m.failSync != "" && strings.Contains(f.name, f.m.failSync) {
		f.m.failSync = ""
		return syscall.EIO
	}
	return f.File.Sync()
}
