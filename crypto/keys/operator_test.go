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

func fixedOperator(t testing.TB, seed byte) *keys.OperatorKey {
	t.Helper()
	k, err := keys.NewOperatorKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestOperatorKey compares each form of the key with what package note makes of the same seed.
func TestOperatorKey(t *testing.T) {
	k := fixedOperator(t, 1)
	pub := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)).Public().(ed25519.PublicKey)
	if want := "holdfast-operator-" + fmt.Sprintf("%x", sha256.Sum256(pub))[:8]; k.Name() != want {
		t.Errorf("name %s, want %s", k.Name(), want)
	}
	if want, err := note.NewEd25519VerifierKey(k.Name(), pub); err != nil || want != k.Verifier() {
		t.Errorf("Verifier = %s, want %s, %v", k.Verifier(), want, err)
	}
	again, err := keys.ParseOperatorKey(k.Marshal())
	if err != nil || !bytes.Equal(again.Marshal(), k.Marshal()) {
		t.Fatalf("parsed again: %v", err)
	}
	for _, line := range []string{k.Verifier(), k.Verifier() + "\n"} {
		if id, err := keys.OperatorIDOf(line); err != nil || id != k.ID() {
			t.Errorf("OperatorIDOf(%q) = %s, %v", line, id, err)
		}
	}
}

func TestOperatorKeyNotes(t *testing.T) {
	k := fixedOperator(t, 2)
	s, err := k.Signer()
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(k.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	msg, err := note.Sign(&note.Note{Text: "text\n"}, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(msg, note.VerifierList(v)); err != nil {
		t.Errorf("verify: %v", err)
	}
}

func TestOperatorKeyPrints(t *testing.T) {
	k := fixedOperator(t, 3)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, of := range []any{k, *k} {
			if got := fmt.Sprintf(format, of); got != k.Name() {
				t.Errorf("%s prints %s", format, got)
			}
		}
	}
}

func TestNewOperatorKeyShortRandom(t *testing.T) {
	if _, err := keys.NewOperatorKey(bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// TestKeyKindsStayApart: the same seed makes a device key and an operator's key, and neither
// passes for the other.
func TestKeyKindsStayApart(t *testing.T) {
	operator, device := fixedOperator(t, 4), fixedDevice(t, 4)
	if _, err := keys.ParseOperatorKey(device.Marshal()); !errors.Is(err, keys.ErrOperatorKey) {
		t.Errorf("a device key: %v", err)
	}
	if _, err := keys.ParseDeviceKey(operator.Marshal()); !errors.Is(err, keys.ErrDeviceKey) {
		t.Errorf("an operator's key: %v", err)
	}
	if _, err := keys.OperatorIDOf(device.Verifier()); !errors.Is(err, keys.ErrOperatorKey) {
		t.Errorf("a device's verifier: %v", err)
	}
	if _, err := keys.DeviceIDOf(operator.Verifier()); !errors.Is(err, keys.ErrDeviceKey) {
		t.Errorf("an operator's verifier: %v", err)
	}
}

func TestParseOperatorKeyErrors(t *testing.T) {
	k, other := fixedOperator(t, 5), fixedOperator(t, 6)
	good := string(k.Marshal())
	for name, s := range map[string]string{
		"empty":       "",
		"no newline":  strings.TrimSuffix(good, "\n"),
		"cut":         good[:len(good)-3],
		"other name":  strings.Replace(good, k.Name(), other.Name(), 1),
		"verifier":    k.Verifier() + "\n",
		"two lines":   good + good,
		"long":        good + strings.Repeat("x", 300),
		"age secret":  "AGE-SECRET-KEY-1QQQ\n",
		"leading gap": " " + good,
	} {
		if _, err := keys.ParseOperatorKey([]byte(s)); !errors.Is(err, keys.ErrOperatorKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, s := range map[string]string{"empty": "", "secret": good, "two lines": k.Verifier() + "\n\n",
		"other name": strings.Replace(k.Verifier(), k.Name(), other.Name(), 1)} {
		if _, err := keys.OperatorIDOf(s); !errors.Is(err, keys.ErrOperatorKey) {
			t.Errorf("verifier, %s: %v", name, err)
		}
	}
}

func FuzzParseOperatorKey(f *testing.F) {
	k := fixedOperator(f, 7)
	f.Add(string(k.Marshal()))
	f.Add(k.Verifier())
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := keys.ParseOperatorKey([]byte(s)); err == nil && string(k.Marshal()) != s {
			t.Fatalf("%q is not canonical", s)
		}
		if id, err := keys.OperatorIDOf(s); err == nil && len(id) != 8 {
			t.Fatalf("ID %q", id)
		}
	})
}
