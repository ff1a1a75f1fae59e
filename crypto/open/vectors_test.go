package open_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"strings"
	"testing"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age"
	"filippo.io/age/armor"

	"holdfast/crypto/open"
)

// vector is one file of the C2SP CCTV age test vectors.
type vector struct {
	name       string
	expect     string
	payload    string // SHA-256 of what may be released, in hex
	ids        []age.Identity
	passphrase bool
	armored    bool
	file       []byte
}

// readVectors returns all vectors.
func readVectors(t testing.TB) []vector {
	t.Helper()
	entries, err := fs.ReadDir(agetest.Vectors, ".")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for _, e := range entries {
		text, err := fs.ReadFile(agetest.Vectors, e.Name())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parseVector(t, e.Name(), text))
	}
	return all
}

func parseVector(t testing.TB, name string, text []byte) vector {
	t.Helper()
	v := vector{name: name}
	head, file, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		t.Fatal("vector without a file")
	}
	v.file = file
	for line := range strings.SplitSeq(string(head), "\n") {
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "expect":
			v.expect = value
		case "payload":
			v.payload = value
		case "identity":
			v.ids = append(v.ids, vectorIdentity(t, value))
		case "passphrase":
			id, err := age.NewScryptIdentity(value)
			if err != nil {
				t.Fatal(err)
			}
			v.ids, v.passphrase = append(v.ids, id), true
		case "armored":
			v.armored = true
		case "compressed":
			v.file = inflate(t, v.file)
		case "file key", "comment":
		default:
			t.Fatalf("vector with unknown key %q", key)
		}
	}
	return v
}

func vectorIdentity(t testing.TB, s string) age.Identity {
	t.Helper()
	if id, err := age.ParseX25519Identity(s); err == nil {
		return id
	}
	id, err := age.ParseHybridIdentity(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func inflate(t testing.TB, b []byte) []byte {
	t.Helper()
	r, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestVectors runs every vector through Salvage. Armor, which segments never have, is taken
// off by age first; passphrases go in as the identities they are in age.
func TestVectors(t *testing.T) {
	outcomes := make(map[string]int)
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) { outcomes[checkVector(t, v)]++ })
	}
	want := map[string]int{
		"success":                      26,
		"payload failure":              19,
		"no match":                     13,
		"HMAC failure":                 1,
		"header failure":               58,
		"header failure, reported cut": 4,
		"armor failure in age":         26,
	}
	if !maps.Equal(outcomes, want) {
		t.Errorf("outcomes %v, want %v", outcomes, want)
	}
}

// checkVector returns what happened, in the words of the vector.
func checkVector(t *testing.T, v vector) string {
	if v.armored {
		plain, err := io.ReadAll(armor.NewReader(bytes.NewReader(v.file)))
		if err != nil {
			if v.expect != "armor failure" {
				t.Errorf("want %s, armor fails: %v", v.expect, err)
			}
			return "armor failure in age"
		}
		v.file = plain
	}
	s, err := open.Salvage(bytes.NewReader(v.file), int64(len(v.file)), v.ids...)
	switch {
	case errors.Is(err, open.ErrNoIdentity):
		return matches(t, v, "no match", err)
	case errors.Is(err, open.ErrDamaged) && strings.Contains(err.Error(), "MAC"):
		return matches(t, v, "HMAC failure", err)
	case errors.Is(err, open.ErrDamaged):
		return matches(t, v, "header failure", err)
	case err != nil:
		t.Fatalf("an error of no known kind: %v", err)
	}
	hash, clean := prefix(t, s)
	res := s.Result()
	switch {
	case res.Cut && res.Chunks == 0 && v.expect == "header failure":
		if res.CutBytes != int64(len(v.file)) {
			t.Errorf("cut in the header: CutBytes = %d of %d", res.CutBytes, len(v.file))
		}
		return "header failure, reported cut"
	case clean:
		matches(t, v, "success", nil)
	default:
		matches(t, v, "payload failure", nil)
	}
	if hash != v.payload {
		t.Errorf("SHA-256 of the plaintext before the first fault is %s, want %s", hash, v.payload)
	}
	return v.expect
}

func matches(t *testing.T, v vector, got string, err error) string {
	t.Helper()
	if got != v.expect {
		t.Errorf("got %s (%v), want %s", got, err, v.expect)
	}
	return got
}

// prefix reads s to its end and returns the hash of what comes before the first fault.
func prefix(t *testing.T, s *open.Salvaged) (hash string, clean bool) {
	t.Helper()
	h := sha256.New()
	whole := true
	for {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if whole = whole && c.Lost == 0; whole {
			h.Write(c.Plain)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), s.Result().Clean()
}
