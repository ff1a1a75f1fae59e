package keys

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/tag"
	"golang.org/x/crypto/ssh"
)

// Recipient is somebody, or some token, to whom files can be sealed. It is an age.Recipient
// with labels, so age goes on refusing to mix classical and post-quantum ones in a file.
// A Recipient does not change and may be used by several goroutines.
type Recipient struct {
	to          age.Recipient
	text        string
	postQuantum bool
}

var _ age.RecipientWithLabels = (*Recipient)(nil)

// ParseRecipient parses one recipient: age1..., age1pq1..., age1tag1..., age1tagpq1... or a
// line "ssh-ed25519 ...". Errors wrap ErrNoRecipient, ErrSecretKey, ErrUnsupported,
// ErrMalformed or ErrTooLarge, and never repeat s.
func ParseRecipient(s string) (*Recipient, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, ErrNoRecipient
	}
	if err := checkLine(s); err != nil {
		return nil, err
	}
	if secretForm.MatchString(s) || hasPrefixFold(s, "AGE-SECRET-KEY-") || hasPrefixFold(s, "AGE-PLUGIN-") {
		return nil, ErrSecretKey
	}
	r, err := parseKind(s)
	if err != nil {
		return nil, err
	}
	// A point of low order parses but cannot be sealed to. Find that here, in the
	// workshop, and not at the first arming.
	if _, labels, err := r.WrapWithLabels(make([]byte, 16)); err != nil {
		return nil, fmt.Errorf("%w: nothing can be sealed to it", ErrMalformed)
	} else {
		r.postQuantum = slices.Contains(labels, "postquantum")
	}
	return r, nil
}

// parseKind chooses the parser by the beginning of s. age's own errors are dropped, because
// they repeat s.
func parseKind(s string) (*Recipient, error) {
	switch {
	case strings.HasPrefix(s, "age1tag1"), strings.HasPrefix(s, "age1tagpq1"):
		return stringer(tag.ParseRecipient(s))
	case strings.HasPrefix(s, "age1pq1"):
		return stringer(age.ParseHybridRecipient(s))
	case strings.HasPrefix(s, "age1") && strings.Count(s, "1") > 1:
		// "1" ends the name of a plugin and is no letter of bech32 data.
		return nil, fmt.Errorf("%w: recipient of an age plugin", ErrUnsupported)
	case strings.HasPrefix(s, "age1"):
		return stringer(age.ParseX25519Recipient(s))
	case strings.HasPrefix(s, "ssh-ed25519 "), strings.HasPrefix(s, "ssh-ed25519\t"):
		return parseSSH(s)
	case strings.HasPrefix(s, "ssh-"), strings.HasPrefix(s, "sk-"), strings.HasPrefix(s, "ecdsa-"):
		return nil, fmt.Errorf("%w: ssh key other than ssh-ed25519", ErrUnsupported)
	}
	return nil, ErrMalformed
}

// stringer wraps a recipient of age that prints itself in canonical form.
func stringer[R interface {
	age.Recipient
	String() string
}](to R, err error) (*Recipient, error) {
	if err != nil {
		return nil, ErrMalformed
	}
	return &Recipient{to: to, text: to.String()}, nil
}

// parseSSH takes an authorized_keys line without options. The comment is not kept: it is
// often a name, and fingerprints must not depend on it.
func parseSSH(s string) (*Recipient, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s))
	if err != nil || key.Type() != ssh.KeyAlgoED25519 {
		return nil, ErrMalformed
	}
	to, err := agessh.NewEd25519Recipient(key)
	if err != nil {
		return nil, ErrMalformed
	}
	text := key.Type() + " " + base64.StdEncoding.EncodeToString(key.Marshal())
	return &Recipient{to: to, text: text}, nil
}

// String returns the canonical form: what ParseRecipient takes, without comment.
func (r *Recipient) String() string { return r.text }

// PostQuantum reports whether what is sealed to r withstands a quantum computer.
func (r *Recipient) PostQuantum() bool { return r.postQuantum }

// Wrap implements age.Recipient.
func (r *Recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) { return r.to.Wrap(fileKey) }

// WrapWithLabels implements age.RecipientWithLabels.
func (r *Recipient) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	if l, ok := r.to.(age.RecipientWithLabels); ok {
		return l.WrapWithLabels(fileKey)
	}
	s, err := r.to.Wrap(fileKey)
	return s, nil, err
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
