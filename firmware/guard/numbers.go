package guard

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
)

// maxNumbers bounds the file of used numbers: 42 bytes for each of custody.MaxNumbers.
const maxNumbers = 42 * custody.MaxNumbers

// FileAdmit returns an Admit that goes by two files: whose tickets are good (signers), and which
// numbers were used. Both are read anew for each ticket, so that neither has to be there before.
func FileAdmit(signers, usedNumbers string) Admit {
	return func(msg []byte, device string, boot int64, now time.Duration) (*custody.Statement, error) {
		trusted, err := readSigners(signers)
		if err != nil {
			return nil, err
		}
		used, file, err := openNumbers(usedNumbers)
		if err != nil {
			return nil, fmt.Errorf("used numbers: %w", err)
		}
		defer file.Close()
		return custody.NewGate(device, trusted, used).Admit(msg, custody.ActionTicket, boot, now)
	}
}

// ErrNoSigners: nobody's tickets are admitted on this board.
var ErrNoSigners = errors.New("no signer is trusted by this board")

func readSigners(name string) ([]note.Verifier, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoSigners
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := trustworthy(f); err != nil {
		return nil, err
	}
	list, err := keys.ParseSigners(f)
	if err == nil && len(list) == 0 {
		err = ErrNoSigners
	}
	return list, err
}

// ErrWritable: a list of signers that others than the guard's user can change.
var ErrWritable = errors.New("others can change the list of signers: it must belong to root, with mode 0644 or less")

// trustworthy: whoever can write the list can open the lock.
func trustworthy(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	owner, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() || fi.Mode().Perm()&0o022 != 0 {
		return ErrWritable
	}
	return nil
}

// openNumbers opens the list of used numbers, makes it where it is missing, and cuts off what a
// power cut left at its end.
func openNumbers(name string) (*custody.NumberLog, io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	log, err := loadNumbers(f)
	if err == nil {
		err = syncDir(filepath.Dir(name)) // the file may be new
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return log, f, nil
}

func loadNumbers(f *os.File) (*custody.NumberLog, error) {
	content, err := io.ReadAll(io.LimitReader(f, maxNumbers+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxNumbers {
		return nil, fmt.Errorf("%w: larger than %d bytes", custody.ErrNumbers, maxNumbers)
	}
	log, good, err := custody.LoadNumbers(content, func(line []byte) error {
		if _, err := f.Write(line); err != nil {
			return err
		}
		return f.Sync()
	})
	if err != nil {
		return nil, err
	}
	if good < int64(len(content)) {
		if err := errors.Join(f.Truncate(good), f.Sync()); err != nil {
			return nil, err
		}
	}
	return log, nil
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
