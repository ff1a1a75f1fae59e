package serialtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// ErrLinkTaken says that there is something at the path of the link which is not a link left
// behind by a line that is gone.
var ErrLinkTaken = errors.New("path is taken")

// makeLink links path to slave in one step: whoever opens path finds the old state or the new.
func makeLink(slave, path string) error {
	if err := checkFree(slave, path); err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.Itoa(os.Getpid())+"."+filepath.Base(slave))
	_ = os.Remove(temp) // of a process that had our number and was killed between the two steps
	if err := os.Symlink(slave, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// checkFree refuses to replace anything but a link that leads nowhere. One that leads to slave
// is such a link too: the line it was made for is gone, and its number was given to ours.
func checkFree(slave, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s: %w", path, ErrLinkTaken)
	}
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if target == slave {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w by a link to %s", path, ErrLinkTaken, target)
	}
	return nil
}

// removeLink removes the link unless somebody made it lead elsewhere.
func removeLink(slave, path string) error {
	if path == "" {
		return nil
	}
	if target, err := os.Readlink(path); err != nil || target != slave {
		return nil
	}
	return os.Remove(path)
}
