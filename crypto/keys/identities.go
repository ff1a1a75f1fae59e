package keys

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// GenerateIdentity makes an operator's identity: hybrid post-quantum (AGE-SECRET-KEY-PQ-1...,
// age1pq1...), or X25519 (AGE-SECRET-KEY-1..., age1...) where classical is set. secret opens
// everything sealed to recipient; the caller must store it where only the operator reads it.
func GenerateIdentity(classical bool) (secret, recipient string, err error) {
	if classical {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return "", "", fmt.Errorf("make identity: %w", err)
		}
		return id.String(), id.Recipient().String(), nil
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return "", "", fmt.Errorf("make identity: %w", err)
	}
	return id.String(), id.Recipient().String(), nil
}

// ParseIdentities reads an age identity file (X25519 and hybrid, one a line, # comments and
// blank lines) or one OpenSSH ed25519 private key in PEM form. It returns at least one.
//
// Errors: ErrNotIdentity for an empty file or a recipient, ErrEncryptedKey for a file that a
// passphrase protects, ErrUnsupported for plugins and other ssh keys, ErrMalformed and
// ErrTooLarge, each in a *LineError; or an error of r.
func ParseIdentities(r io.Reader) ([]age.Identity, error) {
	text, err := readText(r)
	if err != nil {
		return nil, err
	}
	head := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(head, "age-encryption.org/v1"),
		strings.HasPrefix(head, "-----BEGIN AGE ENCRYPTED FILE-----"):
		return nil, &LineError{Line: 1, Err: ErrEncryptedKey}
	case strings.HasPrefix(head, "-----BEGIN "):
		id, err := parsePEM(head)
		if err != nil {
			return nil, &LineError{Line: 1, Err: err}
		}
		return []age.Identity{id}, nil
	}
	return parseIdentityLines(text)
}

func parseIdentityLines(text string) ([]age.Identity, error) {
	var ids []age.Identity
	for n, line := range lines(text) {
		if isComment(line) {
			continue
		}
		id, err := ParseIdentity(line)
		if err != nil {
			return nil, &LineError{Line: n, Err: err}
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, &LineError{Err: fmt.Errorf("%w: no line with one", ErrNotIdentity)}
	}
	return ids, nil
}

// ParseIdentity parses one line AGE-SECRET-KEY-1... or AGE-SECRET-KEY-PQ-1.... Errors wrap
// ErrNotIdentity, ErrUnsupported, ErrMalformed or ErrTooLarge and never repeat the line.
func ParseIdentity(line string) (age.Identity, error) {
	if err := checkLine(line); err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		return identity(age.ParseHybridIdentity(line))
	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		return identity(age.ParseX25519Identity(line))
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		return nil, fmt.Errorf("%w: identity of an age plugin", ErrUnsupported)
	case strings.HasPrefix(line, "PRIVATE+KEY+"):
		return nil, fmt.Errorf("%w: a signing key", ErrNotIdentity)
	case strings.HasPrefix(line, "age1"), strings.HasPrefix(line, "ssh-"):
		return nil, fmt.Errorf("%w: a recipient", ErrNotIdentity)
	}
	return nil, ErrMalformed
}

// identity drops age's own error, which may repeat a part of the secret.
func identity[I age.Identity](id I, err error) (age.Identity, error) {
	if err != nil {
		return nil, ErrMalformed
	}
	return id, nil
}

// parsePEM takes one PEM block and nothing after it.
func parsePEM(text string) (age.Identity, error) {
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil || strings.TrimSpace(string(rest)) != "":
		return nil, ErrMalformed
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, ErrEncryptedKey
	case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf("%w: not a private key", ErrNotIdentity)
	}
	id, err := agessh.ParseIdentity([]byte(text))
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, ErrEncryptedKey
	}
	if err != nil {
		return nil, ErrMalformed
	}
	if _, ok := id.(*agessh.Ed25519Identity); !ok {
		return nil, fmt.Errorf("%w: ssh key other than ed25519", ErrUnsupported)
	}
	return id, nil
}
