// Package runfile reads and replaces the small files of the run folder (package evidence), in
// which guard and recorder meet. Either may be taken over, so that neither trusts what the other
// puts there: no link is followed, no pipe waited for, nothing large read.
package runfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast/firmware/evidence"
)

// ErrNoFile: what should be a file is none. ErrTooLong: it is larger than evidence.MaxFile.
var (
	ErrNoFile  = errors.New("not a regular file")
	ErrTooLong = fmt.Errorf("more than %d bytes", evidence.MaxFile)
)

// Read returns what a file holds. The error is of package os, ErrNoFile or ErrTooLong.
func Read(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(ErrNoFile, err)
	}
	p, err := io.ReadAll(io.LimitReader(f, evidence.MaxFile+1))
	if err == nil && len(p) > evidence.MaxFile {
		err = ErrTooLong
	}
	return p, err
}

// Replace puts a file under its name at once, readable for all. The folder lies in memory:
// nothing is synced.
func Replace(name string, p []byte) error {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".tmp")
	if err := os.WriteFile(tmp, p, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
