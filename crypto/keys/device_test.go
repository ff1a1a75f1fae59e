package keys_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/keys"
)

func fixedDevice(t testing.TB, seed byte) *keys.DeviceKey {
	t.Helper()
	k, err := keys.NewDeviceKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestDeviceKey(t *testing.T) {
	k := fixedDevice(t, 1)
	pub := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)).Public().(ed25519.PublicKey)
	if want := fmt.Sprintf("%x", sha256.Sum256(pub))[:8]; k.ID() != want || k.Name() != "holdfast-"+want {
		t.Errorf("ID %s, name %s, want %s", k.ID(), k.Name(), want)
	}
	if !k.Public().Equal(pub) {
		t.Error("Public is not the key of the seed")
	}
	again, err := keys.ParseDeviceKey(k.Marshal())
	if err != nil || !bytes.Equal(again.Marshal(), k.Marshal()) {
		t.Fatalf("parsed again: %v", err)
	}
	if id, err := keys.DeviceIDOf(k.Verifier()); err != nil || id != k.ID() {
		t.Errorf("DeviceIDOf = %s, %v", id, err)
	}
	if id, err := keys.DeviceIDOf(k.Verifier() + "\n"); err != nil || id != k.ID() {
		t.Errorf("DeviceIDOf with newline = %s, %v", id, err)
	}
	if want, err := note.NewEd25519VerifierKey(k.Name(), pub); err != nil || want != k.Verifier() {
		t.Errorf("Verifier = %s, want %s, %v", k.Verifier(), want, err)
	}
}

// TestDeviceKeyNotes signs with each form of the key and verifies with the verifier line.
func TestDeviceKeyNotes(t *testing.T) {
	k := fixedDevice(t, 2)
	verifier, err := note.NewVerifier(k.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	own, err := k.Signer()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := note.NewSigner(strings.TrimSuffix(string(k.Marshal()), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []note.Signer{own, parsed} {
		if s.Name() != verifier.Name() || s.KeyHash() != verifier.KeyHash() {
			t.Errorf("signer %s %x, verifier %s %x", s.Name(), s.KeyHash(), verifier.Name(), verifier.KeyHash())
		}
		msg, err := note.Sign(&note.Note{Text: "head\n"}, s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := note.Open(msg, note.VerifierList(verifier)); err != nil {
			t.Errorf("verify: %v", err)
		}
	}
}

func TestDeviceKeyPrints(t *testing.T) {
	k := fixedDevice(t, 3)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, k); got != k.Name() {
			t.Errorf("%s prints %s", format, got)
		}
	}
}

func TestNewDeviceKeyShortRandom(t *testing.T) {
	if _, err := keys.NewDeviceKey(bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestParseDeviceKeyErrors(t *testing.T) {
	k, other := fixedDevice(t, 4), fixedDevice(t, 5)
	good, strange := string(k.Marshal()), string(other.Marshal())
	for name, s := range map[string]string{
		"empty":             "",
		"no newline":        strings.TrimSuffix(good, "\n"),
		"two newlines":      good + "\n",
		"carriage return":   strings.Replace(good, "\n", "\r\n", 1),
		"cut":               good[:len(good)-3],
		"other name":        strings.Replace(good, k.Name(), other.Name(), 1),
		"other seed":        good[:len(good)-45] + strange[len(strange)-45:],
		"other hash":        good[:30] + "00000000" + good[38:],
		"verifier":          k.Verifier() + "\n",
		"small first words": strings.Replace(good, "PRIVATE", "private", 1),
		"long":              good + strings.Repeat("x", 300),
	} {
		if _, err := keys.ParseDeviceKey([]byte(s)); !errors.Is(err, keys.ErrDeviceKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDeviceIDOfErrors(t *testing.T) {
	k, other := fixedDevice(t, 6), fixedDevice(t, 7)
	named, err := note.NewEd25519VerifierKey("example.com", k.Public())
	if err != nil {
		t.Fatal(err)
	}
	borrowed, err := note.NewEd25519VerifierKey(other.Name(), k.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := k.Verifier()
	for name, s := range map[string]string{
		"empty":            "",
		"secret":           string(k.Marshal()),
		"other name":       named,
		"another's name":   borrowed,
		"two newlines":     good + "\n\n",
		"cut":              good[:len(good)-4],
		"changed key":      strings.Replace(good, good[len(good)-8:], "AAAAAAA=", 1),
		"hash in capitals": strings.ToUpper(good),
		"long":             good + strings.Repeat("A", 300),
	} {
		if id, err := keys.DeviceIDOf(s); !errors.Is(err, keys.ErrDeviceKey) {
			t.Errorf("%s: %s, %v", name, id, err)
		}
	}
}

func FuzzParseDeviceKey(f *testing.F) {
	k := fixedDevice(f, 8)
	f.Add(string(k.Marshal()))
	f.Add(k.Verifier())
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := keys.ParseDeviceKey([]byte(s)); err == nil && string(k.Marshal()) != s {
			t.Fatalf("%q is not canonical", s)
		}
		if id, err := keys.DeviceIDOf(s); err == nil && len(id) != 8 {
			t.Fatalf("ID %q", id)
		}
	})
}
