package keys_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"filippo.io/age/plugin"
	"filippo.io/age/tag"
	"golang.org/x/crypto/ssh"

	"holdfast/crypto/keys"
)

// crew holds one recipient of each kind, as lines, and a few secrets.
type crew struct {
	classical, hybrid, shell, tag, tagPQ    string
	classicalSecret, hybridSecret, shellPEM string
	slowKeys
}

// slowKeys take long to make and are the same for every crew.
type slowKeys struct {
	shellPEMLocked             string
	rsaLine, rsaPEM, ecdsaLine string
}

func newCrew(t testing.TB) crew {
	t.Helper()
	c := crew{slowKeys: slow()}
	c.classicalSecret, c.classical = must2(keys.GenerateIdentity(true))
	c.hybridSecret, c.hybrid = must2(keys.GenerateIdentity(false))
	_, edKey := must2(ed25519.GenerateKey(rand.Reader))
	c.shell = authorizedKey(edKey.Public())
	c.shellPEM = string(pem.EncodeToMemory(must(ssh.MarshalPrivateKey(edKey, "somebody"))))
	c.tag, c.tagPQ = tagRecipients()
	return c
}

var slow = sync.OnceValue(func() (k slowKeys) {
	_, edKey := must2(ed25519.GenerateKey(rand.Reader))
	k.shellPEMLocked = string(pem.EncodeToMemory(must(ssh.MarshalPrivateKeyWithPassphrase(edKey, "somebody", []byte("gloves")))))
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	k.rsaLine = authorizedKey(rsaKey.Public())
	k.rsaPEM = string(pem.EncodeToMemory(must(ssh.MarshalPrivateKey(rsaKey, ""))))
	k.ecdsaLine = authorizedKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).Public())
	return k
})

func must[A any](a A, err error) A {
	if err != nil {
		panic(err)
	}
	return a
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

func authorizedKey(public any) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(public)))))
}

// tagRecipients makes recipients as hardware tokens print them.
func tagRecipients() (classical, hybrid string) {
	point := must(ecdh.P256().GenerateKey(rand.Reader)).PublicKey().Bytes()
	compressed := append([]byte{2 + point[64]&1}, point[1:33]...)
	mlkemKey := must(mlkem.GenerateKey768()).EncapsulationKey().Bytes()
	return must(tag.NewClassicRecipient(compressed)).String(), must(tag.NewHybridRecipient(append(mlkemKey, point...))).String()
}

// lowOrder is a well-formed age1... recipient that nothing can be sealed to.
func lowOrder() string {
	return must(plugin.EncodeX25519Recipient(must(ecdh.X25519().NewPublicKey(make([]byte, 32)))))
}

func parse(t testing.TB, lines ...string) *keys.Recipients {
	t.Helper()
	rs, err := keys.ParseRecipients(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatalf("ParseRecipients: %v", err)
	}
	return rs
}

func TestParseRecipients(t *testing.T) {
	c := newCrew(t)
	tests := []struct {
		name        string
		text        string
		want        []string
		mixed, safe bool
	}{
		{"classical", c.classical, []string{c.classical}, false, false},
		{"hybrid", c.hybrid + "\n", []string{c.hybrid}, false, true},
		{"ssh, comment dropped", c.shell + " alice@station\n", []string{c.shell}, false, false},
		{"tag", c.tag, []string{c.tag}, false, false},
		{"post-quantum tag", c.tagPQ, []string{c.tagPQ}, false, true},
		{"comments and blanks", "# crew\n\n  \n\t# more\n" + c.hybrid + "\n#end", []string{c.hybrid}, false, true},
		{"carriage returns and blanks", "  " + c.hybrid + " \r\n\r\n" + c.tagPQ + "\r\n", []string{c.hybrid, c.tagPQ}, false, true},
		{"mixed", c.hybrid + "\n" + c.classical, []string{c.hybrid, c.classical}, true, false},
		{"classical alone", c.shell + "\n" + c.tag, []string{c.shell, c.tag}, false, false},
		{"repeated", c.hybrid + "\n" + c.shell + " a\n" + c.hybrid + "\n" + c.shell + " b", []string{c.hybrid, c.shell}, true, false},
		{"pair", c.hybrid + " + " + c.tagPQ, []string{c.hybrid + " + " + c.tagPQ}, false, true},
		{"pair, one post-quantum", c.classical + "  +  " + c.hybrid, []string{c.classical + " + " + c.hybrid}, false, true},
		{"classical pair beside hybrid", c.hybrid + "\n" + c.classical + " + " + c.shell + " bob", []string{c.hybrid, c.classical + " + " + c.shell}, true, false},
		{"a word about secrets in a comment", "# AGE-SECRET-KEY lines do not belong here\n" + c.hybrid, []string{c.hybrid}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rs := parse(t, tt.text)
			if got := rs.Strings(); !slices.Equal(got, tt.want) {
				t.Errorf("Strings = %q, want %q", got, tt.want)
			}
			if rs.Count() != len(tt.want) || rs.Mixed() != tt.mixed || rs.PostQuantum() != tt.safe {
				t.Errorf("Count %d, Mixed %v, PostQuantum %v", rs.Count(), rs.Mixed(), rs.PostQuantum())
			}
			if again := parse(t, rs.Strings()...).Strings(); !slices.Equal(again, tt.want) {
				t.Errorf("parsed again: %q", again)
			}
		})
	}
}

func TestParseRecipientsErrors(t *testing.T) {
	c := newCrew(t)
	device, err := keys.NewDeviceKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	many := strings.Repeat(c.classical+"\n", 101)
	tests := []struct {
		name string
		text string
		line int
		want error
	}{
		{"empty", "", 0, keys.ErrNoRecipient},
		{"comments only", "# nobody\n\n", 0, keys.ErrNoRecipient},
		{"secret", c.hybrid + "\n" + c.hybridSecret, 2, keys.ErrSecretKey},
		{"classical secret", c.classicalSecret, 1, keys.ErrSecretKey},
		{"identity file", "# created: now\n# public key: " + c.hybrid + "\n" + c.hybridSecret + "\n", 3, keys.ErrSecretKey},
		{"secret behind rubbish", "rubbish\n\n" + c.classicalSecret, 3, keys.ErrSecretKey},
		{"secret in lower case", strings.ToLower(c.classicalSecret), 1, keys.ErrSecretKey},
		{"secret cut short", c.classicalSecret[:18], 1, keys.ErrSecretKey},
		{"secret in a comment", c.hybrid + "\n# old: " + c.hybridSecret, 2, keys.ErrSecretKey},
		{"secret in a pair", c.hybrid + " + " + c.hybridSecret, 1, keys.ErrSecretKey},
		{"ssh private key", c.shellPEM, 1, keys.ErrSecretKey},
		{"device key", string(device.Marshal()), 1, keys.ErrSecretKey},
		{"plugin identity", "AGE-PLUGIN-YUBIKEY-1QQQQQQQQ", 1, keys.ErrSecretKey},
		{"plugin recipient", c.hybrid + "\n" + plugin.EncodeRecipient("yubikey", make([]byte, 33)), 2, keys.ErrUnsupported},
		{"ssh-rsa", c.rsaLine, 1, keys.ErrUnsupported},
		{"ecdsa", c.ecdsaLine, 1, keys.ErrUnsupported},
		{"security key", "sk-ssh-ed25519@openssh.com AAAA", 1, keys.ErrUnsupported},
		{"one letter wrong", c.classical[:20] + "b" + c.classical[21:], 1, keys.ErrMalformed},
		{"one letter missing", c.hybrid[:len(c.hybrid)-1], 1, keys.ErrMalformed},
		{"tag with a letter missing", c.tag[:len(c.tag)-1], 1, keys.ErrMalformed},
		{"low order", lowOrder(), 1, keys.ErrMalformed},
		{"ssh without key", "ssh-ed25519 ", 1, keys.ErrUnsupported},
		{"ssh with bad key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA", 1, keys.ErrMalformed},
		{"ssh with options", `command="x" ` + c.shell, 1, keys.ErrMalformed},
		{"ssh with another kind of key", "ssh-ed25519 " + strings.Fields(c.rsaLine)[1], 1, keys.ErrMalformed},
		{"three joined", c.hybrid + " + " + c.classical + " + " + c.tag, 1, keys.ErrMalformed},
		{"the same twice", c.shell + " + " + c.shell + " bob", 1, keys.ErrMalformed},
		{"half a pair", c.hybrid + " + ", 1, keys.ErrMalformed},
		{"plus without blanks", c.classical + "+" + c.tag, 1, keys.ErrUnsupported},
		{"plus in an ssh comment", c.shell + " alice + bob", 1, keys.ErrMalformed},
		{"text", "hello", 1, keys.ErrMalformed},
		{"not UTF-8", c.shell + " caf\xe9", 1, keys.ErrMalformed},
		{"UTF-16", "\xff\xfea\x00g\x00e\x001\x00", 1, keys.ErrMalformed},
		{"byte order mark", "\xef\xbb\xbf" + c.hybrid, 1, keys.ErrMalformed},
		{"long line", c.shell + " " + strings.Repeat("x", 8200), 1, keys.ErrTooLarge},
		{"many lines", many, 101, keys.ErrTooLarge},
		{"many bytes", strings.Repeat("#\n", 40000), 0, keys.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rs, err := keys.ParseRecipients(strings.NewReader(tt.text))
			var line *keys.LineError
			if !errors.As(err, &line) || !errors.Is(err, tt.want) || line.Line != tt.line {
				t.Fatalf("got %v, %v, want line %d: %v", rs, err, tt.line, tt.want)
			}
			checkSilent(t, err, tt.text)
		})
	}
}

// checkSilent holds that an error repeats no part of a key.
func checkSilent(t *testing.T, err error, text string) {
	t.Helper()
	msg := strings.ToLower(err.Error())
	for word := range strings.FieldsSeq(strings.ToLower(text)) {
		for i := 0; i+12 <= len(word); i++ {
			if strings.Contains(msg, word[i:i+12]) {
				t.Fatalf("the error repeats %q: %v", word[i:i+12], err)
			}
		}
	}
}

func TestParseRecipientsReadError(t *testing.T) {
	_, err := keys.ParseRecipients(iotest.ErrReader(io.ErrClosedPipe))
	if line := (*keys.LineError)(nil); !errors.Is(err, io.ErrClosedPipe) || errors.As(err, &line) {
		t.Errorf("got %v", err)
	}
}

func TestParseRecipient(t *testing.T) {
	c := newCrew(t)
	for _, s := range []string{c.classical, c.hybrid, c.shell, c.tag, c.tagPQ} {
		r, err := keys.ParseRecipient(s)
		if err != nil || r.String() != s {
			t.Errorf("%.20s: %v, %v", s, r, err)
			continue
		}
		if want := s == c.hybrid || s == c.tagPQ; r.PostQuantum() != want {
			t.Errorf("%.20s: PostQuantum = %v", s, !want)
		}
	}
	for s, want := range map[string]error{
		"":                              keys.ErrNoRecipient,
		"# " + c.hybrid:                 keys.ErrMalformed,
		c.hybrid + " + " + c.classical:  keys.ErrMalformed,
		c.hybrid + "\n" + c.hybrid:      keys.ErrMalformed,
		c.shell + "\n" + c.shell:        keys.ErrMalformed,
		c.hybridSecret:                  keys.ErrSecretKey,
		strings.ToLower(c.hybridSecret): keys.ErrSecretKey,
	} {
		if _, err := keys.ParseRecipient(s); !errors.Is(err, want) {
			t.Errorf("%.20q: %v, want %v", s, err, want)
		}
	}
}

func FuzzParseRecipients(f *testing.F) {
	c := newCrew(f)
	for _, s := range []string{c.classical, c.hybrid, c.shell + " alice", c.tag, c.tagPQ, c.classicalSecret, c.rsaLine, "# x\n\n"} {
		f.Add(s)
	}
	f.Add(c.classical + " + " + c.shell + "\n" + c.tag)
	f.Fuzz(func(t *testing.T, text string) {
		rs, err := keys.ParseRecipients(strings.NewReader(text))
		if err != nil {
			if line := (*keys.LineError)(nil); !errors.As(err, &line) {
				t.Fatalf("an error of no known kind: %v", err)
			}
			return
		}
		if again := parse(t, rs.Strings()...); !slices.Equal(again.Strings(), rs.Strings()) {
			t.Fatalf("%q, parsed again %q", rs.Strings(), again.Strings())
		}
	})
}
