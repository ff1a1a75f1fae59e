package keys_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"filippo.io/age/armor"

	"holdfast/crypto/keys"
)

// opensFor reports whether one of ids opens what is sealed to the recipient.
func opensFor(t *testing.T, recipient string, ids ...age.Identity) bool {
	t.Helper()
	r, err := keys.ParseRecipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = age.Decrypt(&file, ids...)
	return err == nil
}

func TestParseIdentities(t *testing.T) {
	c := newCrew(t)
	tests := []struct {
		name  string
		text  string
		opens []string
	}{
		{"hybrid", c.hybridSecret, []string{c.hybrid}},
		{"classical", c.classicalSecret + "\n", []string{c.classical}},
		{"both, with comments", "# mine\n\n" + c.classicalSecret + "\r\n# and\r\n  " + c.hybridSecret + " \r\n", []string{c.classical, c.hybrid}},
		{"ssh", c.shellPEM, []string{c.shell}},
		{"ssh, blanks around", "\n" + c.shellPEM + "\n\n", []string{c.shell}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ids, err := keys.ParseIdentities(strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if len(ids) != len(tt.opens) {
				t.Fatalf("%d identities, want %d", len(ids), len(tt.opens))
			}
			for i, r := range tt.opens {
				if !opensFor(t, r, ids[i]) {
					t.Errorf("identity %d does not open its file", i)
				}
			}
		})
	}
}

// lockedIdentity is an identity file under a passphrase, as age -p makes it.
func lockedIdentity(t testing.TB, secret string, armored bool) string {
	t.Helper()
	r, err := age.NewScryptRecipient("gloves")
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(1)
	var file bytes.Buffer
	var out io.Writer = &file
	a := armor.NewWriter(&file)
	if armored {
		out = a
	}
	w, err := age.Encrypt(out, r)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, secret)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if armored {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return file.String()
}

func TestParseIdentitiesErrors(t *testing.T) {
	c := newCrew(t)
	tests := []struct {
		name string
		text string
		line int
		want error
	}{
		{"empty", "", 0, keys.ErrNotIdentity},
		{"comments only", "# key\n", 0, keys.ErrNotIdentity},
		{"recipient", "# key\n" + c.hybrid, 2, keys.ErrNotIdentity},
		{"ssh recipient", c.shell, 1, keys.ErrNotIdentity},
		{"signing key", "PRIVATE+KEY+holdfast-00000000+00000000+AAAA", 1, keys.ErrNotIdentity},
		{"public PEM", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 1, keys.ErrNotIdentity},
		{"under a passphrase", lockedIdentity(t, c.hybridSecret, false), 1, keys.ErrEncryptedKey},
		{"under a passphrase, armored", lockedIdentity(t, c.hybridSecret, true), 1, keys.ErrEncryptedKey},
		{"ssh under a passphrase", c.shellPEMLocked, 1, keys.ErrEncryptedKey},
		{"PKCS 8 under a passphrase", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", 1, keys.ErrEncryptedKey},
		{"ssh-rsa", c.rsaPEM, 1, keys.ErrUnsupported},
		{"plugin", "AGE-PLUGIN-YUBIKEY-1QQQQQQQQ", 1, keys.ErrUnsupported},
		{"ssh, cut", c.shellPEM[:len(c.shellPEM)/2], 1, keys.ErrMalformed},
		{"ssh, garbled", strings.Replace(c.shellPEM, "b3Blbn", "b3Blbm", 1), 1, keys.ErrMalformed},
		{"ssh and another key", c.shellPEM + c.hybridSecret, 1, keys.ErrMalformed},
		{"one letter missing", c.classicalSecret + "\n" + c.hybridSecret[:len(c.hybridSecret)-1], 2, keys.ErrMalformed},
		{"classical with hybrid prefix", strings.Replace(c.classicalSecret, "KEY-1", "KEY-PQ-1", 1), 1, keys.ErrMalformed},
		{"lower case", strings.ToLower(c.hybridSecret), 1, keys.ErrMalformed},
		{"UTF-16", "\xff\xfeA\x00G\x00E\x00", 1, keys.ErrMalformed},
		{"text", "hello", 1, keys.ErrMalformed},
		{"binary", "\x00\x01\x02\xfe", 1, keys.ErrMalformed},
		{"many bytes", strings.Repeat("#\n", 40000), 0, keys.ErrTooLarge},
		{"long line", strings.Repeat("A", 9000), 1, keys.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ids, err := keys.ParseIdentities(strings.NewReader(tt.text))
			var line *keys.LineError
			if !errors.As(err, &line) || !errors.Is(err, tt.want) || line.Line != tt.line || ids != nil {
				t.Fatalf("got %d identities, %v, want line %d: %v", len(ids), err, tt.line, tt.want)
			}
			checkSilent(t, err, tt.text)
		})
	}
	if _, err := keys.ParseIdentities(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("reader fails: %v", err)
	}
}

func TestGenerateIdentity(t *testing.T) {
	for _, classical := range []bool{false, true} {
		secret, recipient, err := keys.GenerateIdentity(classical)
		if err != nil {
			t.Fatal(err)
		}
		if pq := strings.HasPrefix(recipient, "age1pq1") && strings.HasPrefix(secret, "AGE-SECRET-KEY-PQ-1"); pq == classical {
			t.Errorf("classical %v: %.20s", classical, recipient)
		}
		id, err := keys.ParseIdentity(secret)
		if err != nil || !opensFor(t, recipient, id) {
			t.Errorf("classical %v: the secret does not open what is sealed to the recipient: %v", classical, err)
		}
	}
}

func FuzzParseIdentities(f *testing.F) {
	c := newCrew(f)
	for _, s := range []string{c.classicalSecret, c.hybridSecret, c.shellPEM, c.shellPEMLocked, c.rsaPEM, c.hybrid, "# x\n"} {
		f.Add(s)
	}
	f.Add(c.classicalSecret + "\n#\n" + c.hybridSecret)
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := keys.ParseIdentities(strings.NewReader(text))
		if err == nil && len(ids) == 0 {
			t.Fatal("no identity and no error")
		}
		if line := (*keys.LineError)(nil); err != nil && (!errors.As(err, &line) || ids != nil) {
			t.Fatalf("%d identities and an error of no known kind: %v", len(ids), err)
		}
	})
}
