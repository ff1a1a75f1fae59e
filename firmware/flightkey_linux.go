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
	// keyAnswerMost bounds what is read from the child, in bytes: four recipients.txt at their limits.
	keyAnswerMost = 1 << 20
)

// KeyGroup is a set of streams of each record that are sealed to recipients of their own.
type KeyGroup = keys.Group

// FlightKeyChild is the process that makes the identities of one flight, its own and that of each
// key group: it reads recipients, writes the public halves and the wrapped secret halves, and
// ends. The secret halves have never been in the recorder's memory, and the memory they were in
// ends with this process.
func FlightKeyChild(in io.Reader, out io.Writer) error {
	// No swap, no core dump, no debugger. Where memory cannot be locked (a limit in bench mode)
	// the key is still made: the process lives for a millisecond.
	_ = lockPages()
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err := confine.KeyChild(); err != nil {
		return err
	}
	rs, groups, err := keys.ParseRequest(in)
	if err != nil {
		return err
	}
	k, err := keys.NewFlightKey(rs, groups...)
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

// keyMaker returns the vault's source of flight identities: command, run once for each record.
// Streams that are in none of groups, which may be nil, are sealed to rs. Errors are those of
// keys.SortGroups.
func keyMaker(command []string, rs *keys.Recipients, groups []KeyGroup) (func() (*vault.FlightKey, error), error) {
	groups, err := keys.SortGroups(groups)
	if err != nil {
		return nil, fmt.Errorf("recipients: %w", err)
	}
	text := keys.MarshalRequest(rs, groups)
	return func() (*vault.FlightKey, error) {
		ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Stdin = bytes.NewReader(text)
		var out, errs limited
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("flight key process: %w: %s", err, firstLine(errs.String()))
		}
		k, err := parseKey(out.Bytes())
		if err == nil {
			err = addFingerprints(k, rs, groups)
		}
		return k, err
	}, nil
}

// addFingerprints says whose keys k was sealed to, with a salt of its own that all groups share.
func addFingerprints(k *vault.FlightKey, rs *keys.Recipients, groups []KeyGroup) error {
	if len(k.Groups) != len(groups) {
		return fmt.Errorf("flight key process: %d key groups, and %d were asked for", len(k.Groups), len(groups))
	}
	k.Salt = make([]byte, custody.SaltSize)
	if _, err := rand.Read(k.Salt); err != nil {
		return fmt.Errorf("salt of the flight key: %w", err)
	}
	k.Recipients = fingerprints(k.Salt, rs)
	for i, g := range groups {
		if k.Groups[i].Streams != g.Streams {
			return fmt.Errorf("flight key process: key group %s, and %s was asked for", k.Groups[i].Streams, g.Streams)
		}
		k.Groups[i].Recipients = fingerprints(k.Salt, g.Recipients)
	}
	return nil
}

func fingerprints(salt []byte, rs *keys.Recipients) (all []string) {
	for _, line := range rs.Strings() {
		all = append(all, custody.Fingerprint(salt, line))
	}
	return all
}

func parseKey(answer []byte) (*vault.FlightKey, error) {
	k, err := keys.ParseFlightKey(answer)
	if err != nil {
		return nil, fmt.Errorf("flight key process: %w", err)
	}
	out := &vault.FlightKey{Public: k.Public, Files: wrappedFiles(k.Files)}
	for _, g := range k.Groups {
		out.Groups = append(out.Groups, vault.KeyGroup{Streams: g.Streams, Public: g.Public, Files: wrappedFiles(g.Files)})
	}
	return out, nil
}

func wrappedFiles(files []keys.WrappedFile) (all []vault.KeyFile) {
	for _, f := range files {
		all = append(all, vault.KeyFile{Name: f.Name, Data: f.Data})
	}
	return all
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
