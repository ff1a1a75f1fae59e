package firmware

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/firmware/confine"
	"holdfast/storage/vault"
)

// FlightKeyCommand is the argument with which a program runs FlightKeyChild.
const FlightKeyCommand = "flight-key"

const (
	// keyTimeout is how long the child may take; it needs some milliseconds on a Pi.
	keyTimeout = 10 * time.Second
	// keyAnswerMost bounds what is read from the child.
	keyAnswerMost = 1 << 20
)

// FlightKeyChild is the process that makes one flight identity: it reads recipients, writes
// the public half and the wrapped secret half, and ends. The secret half has never been in the
// recorder's memory, and the memory it was in ends with this process.
func FlightKeyChild(in io.Reader, out io.Writer) error {
	// No swap, no core dump, no debugger. Where memory cannot be locked (a limit in bench mode)
	// the key is still made: the process lives for a millisecond.
	_ = lockPages()
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err := confine.KeyChild(); err != nil {
		return err
	}
	rs, err := keys.ParseRecipients(in)
	if err != nil {
		return err
	}
	k, err := keys.NewFlightKey(rs)
	if err != nil {
		return err
	}
	answer, err := k.Marshal()
	if err != nil {
		return err
	}
	_, err = out.Write(answer)
	return err
}

// keyMaker returns the vault's source of flight identities: command, run once for each.
func keyMaker(command []string, rs *keys.Recipients) func() (*vault.FlightKey, error) {
	text := strings.Join(rs.Strings(), "\n") + "\n"
	return func() (*vault.FlightKey, error) {
		ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Stdin = strings.NewReader(text)
		var out, errs limited
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("flight key process: %w: %s", err, firstLine(errs.String()))
		}
		k, err := parseKey(out.Bytes())
		if err == nil {
			err = addFingerprints(k, rs)
		}
		return k, err
	}
}

// addFingerprints says whose keys k was sealed to, with a salt of its own.
func addFingerprints(k *vault.FlightKey, rs *keys.Recipients) error {
	k.Salt = make([]byte, custody.SaltSize)
	if _, err := rand.Read(k.Salt); err != nil {
		return fmt.Errorf("salt of the flight key: %w", err)
	}
	for _, line := range rs.Strings() {
		k.Recipients = append(k.Recipients, custody.Fingerprint(k.Salt, line))
	}
	return nil
}

func parseKey(answer []byte) (*vault.FlightKey, error) {
	k, err := keys.ParseFlightKey(answer)
	if err != nil {
		return nil, fmt.Errorf("flight key process: %w", err)
	}
	out := &vault.FlightKey{Public: k.Public}
	for _, f := range k.Files {
		out.Files = append(out.Files, vault.KeyFile{Name: f.Name, Data: f.Data})
	}
	return out, nil
}

// ahead runs f at once and gives its answer to the first call; later calls run f again.
func ahead(f func() (*vault.FlightKey, error)) func() (*vault.FlightKey, error) {
	type answer struct {
		key *vault.FlightKey
		err error
	}
	first := make(chan answer, 1)
	go func() {
		k, err := f()
		first <- answer{k, err}
	}()
	return func() (*vault.FlightKey, error) {
		if first == nil {
			return f()
		}
		a := <-first
		first = nil
		return a.key, a.err
	}
}

// limited is a buffer that a misbehaving child cannot fill without end.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > keyAnswerMost {
		return 0, errors.New("answer too long")
	}
	return l.Buffer.Write(p)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
