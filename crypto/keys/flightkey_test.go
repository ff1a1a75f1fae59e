package keys_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"holdfast/crypto/keys"
)

func newFlightKey(t testing.TB, lines ...string) *keys.FlightKey {
	t.Helper()
	k, err := keys.NewFlightKey(parse(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func parseID(t testing.TB, text string) age.Identity {
	t.Helper()
	ids, err := keys.ParseIdentities(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return ids[0]
}

func decrypt(file []byte, id age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// checkSecret holds that plain is an identity file of the flight, newline at the end.
func checkSecret(t *testing.T, k *keys.FlightKey, plain []byte) {
	t.Helper()
	line, ok := strings.CutSuffix(string(plain), "\n")
	id, err := age.ParseHybridIdentity(line)
	if !ok || err != nil || id.Recipient().String() != k.Public {
		t.Errorf("the plaintext is not the secret of the flight and a newline: %v", err)
	}
}

func TestNewFlightKey(t *testing.T) {
	a, b, d := newCrew(t), newCrew(t), newCrew(t)
	k := newFlightKey(t,
		a.classical, b.hybrid+" + "+a.shell, a.hybrid, b.shell, d.classical+" + "+d.hybrid, a.tagPQ, a.tag)
	var names []string
	for _, f := range k.Files {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "flight.key.age flight.key.2.age flight.key.3.age flight.key.4.age" {
		t.Fatalf("files %s", got)
	}
	// Post-quantum singles, classical singles, then the pairs in order, outer half first.
	for i, ways := range [][][]string{
		{{a.hybridSecret}},
		{{a.classicalSecret}, {b.shellPEM}},
		{{b.hybridSecret, a.shellPEM}},
		{{d.classicalSecret, d.hybridSecret}},
	} {
		for _, way := range ways {
			plain := k.Files[i].Data
			for _, secret := range way {
				var err error
				if plain, err = decrypt(plain, parseID(t, secret)); err != nil {
					t.Fatalf("file %d: %v", i+1, err)
				}
			}
			checkSecret(t, k, plain)
		}
	}
	if _, err := decrypt(k.Files[2].Data, parseID(t, a.shellPEM)); err == nil {
		t.Error("the second half of a pair opens the outer file")
	}
	if n := bytes.Count(k.Files[0].Data, []byte("\n-> mlkem768p256tag ")); n != 1 {
		t.Errorf("%d stanzas for the post-quantum token", n)
	}
	if n := bytes.Count(k.Files[1].Data, []byte("\n-> p256tag ")); n != 1 {
		t.Errorf("%d stanzas for the token", n)
	}
}

func TestNewFlightKeyFirstName(t *testing.T) {
	c := newCrew(t)
	for _, line := range []string{c.hybrid, c.classical, c.tag, c.classical + " + " + c.shell} {
		k := newFlightKey(t, line)
		if len(k.Files) != 1 || k.Files[0].Name != "flight.key.age" {
			t.Errorf("%.20s: %d files, the first %s", line, len(k.Files), k.Files[0].Name)
		}
	}
	if _, err := keys.NewFlightKey(nil); !errors.Is(err, keys.ErrNoRecipient) {
		t.Errorf("no recipients: %v", err)
	}
	one, two := newFlightKey(t, c.hybrid), newFlightKey(t, c.hybrid)
	if one.Public == two.Public {
		t.Error("two flights have the same identity")
	}
}

// TestFlightKeyLimits takes the largest recipients.txt of each kind.
func TestFlightKeyLimits(t *testing.T) {
	line := func(classical bool) string {
		_, r, err := keys.GenerateIdentity(classical)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		name  string
		lines int
		line  func() string
		files int
	}{
		{"hybrid", 33, func() string { return line(false) }, 1},
		{"classical", 100, func() string { return line(true) }, 1},
		{"hybrid pairs", 16, func() string { return line(false) + " + " + line(false) }, 16},
		{"classical pairs", 100, func() string { return line(true) + " + " + line(true) }, 100},
	} {
		var lines []string
		for range tt.lines {
			lines = append(lines, tt.line())
		}
		k := newFlightKey(t, lines...)
		b, err := k.Marshal()
		if err != nil || len(k.Files) != tt.files {
			t.Errorf("%s: %d files, %v", tt.name, len(k.Files), err)
		}
		if _, err := keys.ParseFlightKey(b); err != nil {
			t.Errorf("%s, %d bytes: %v", tt.name, len(b), err)
		}
	}
}

func TestFlightKeyMarshal(t *testing.T) {
	c := newCrew(t)
	k := newFlightKey(t, c.hybrid, c.classical, c.classical+" + "+c.shell)
	b, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := keys.ParseFlightKey(b)
	if err != nil || !reflect.DeepEqual(got, k) {
		t.Fatalf("parsed again: %v", err)
	}
	if bytes.Contains(b, []byte("SECRET")) {
		t.Error("a secret is in the clear")
	}
}

func TestParseFlightKeyErrors(t *testing.T) {
	c := newCrew(t)
	k := newFlightKey(t, c.hybrid, c.classical)
	good, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	// change marshals a changed copy without the checks of Marshal.
	change := func(f func(*keys.FlightKey)) string {
		var copied keys.FlightKey
		if err := json.Unmarshal(good, &copied); err != nil {
			t.Fatal(err)
		}
		f(&copied)
		b, err := json.Marshal(copied)
		if err != nil {
			t.Fatal(err)
		}
		return string(b) + "\n"
	}
	if change(func(*keys.FlightKey) {}) != string(good) {
		t.Fatal("control: an unchanged copy differs")
	}
	header := bytes.LastIndex(k.Files[0].Data, []byte("\n--- ")) + 49
	text := string(good)
	tests := map[string]string{
		"empty":            "",
		"null":             "null\n",
		"cut":              text[:len(text)-2],
		"no newline":       strings.TrimSuffix(text, "\n"),
		"two newlines":     text + "\n",
		"twice":            text + text,
		"blanks":           " " + text,
		"unknown key":      strings.Replace(text, "{", `{"x":1,`, 1),
		"repeated key":     strings.Replace(text, "{", `{"public":"",`, 1),
		"key in capitals":  strings.Replace(text, `"public"`, `"Public"`, 1),
		"large":            text + strings.Repeat(" ", 1<<20),
		"no public":        change(func(k *keys.FlightKey) { k.Public = "" }),
		"classical public": change(func(k *keys.FlightKey) { k.Public = c.classical }),
		"garbled public":   change(func(k *keys.FlightKey) { k.Public = k.Public[:40] + "b" + k.Public[41:] }),
		"no files":         change(func(k *keys.FlightKey) { k.Files = nil }),
		"many files": change(func(k *keys.FlightKey) {
			for i := range 101 {
				k.Files = append(k.Files, keys.WrappedFile{Name: keys.WrappedName(i + 2), Data: k.Files[1].Data})
			}
		}),
		"first name":   change(func(k *keys.FlightKey) { k.Files[0].Name = "flight.key.1.age" }),
		"path as name": change(func(k *keys.FlightKey) { k.Files[1].Name = "../flight.key.2.age" }),
		"order":        change(func(k *keys.FlightKey) { k.Files[0].Name, k.Files[1].Name = k.Files[1].Name, k.Files[0].Name }),
		"no data":      change(func(k *keys.FlightKey) { k.Files[0].Data = nil }),
		"plain data":   change(func(k *keys.FlightKey) { k.Files[0].Data = []byte(c.hybridSecret) }),
		"header only":  change(func(k *keys.FlightKey) { k.Files[0].Data = k.Files[0].Data[:header] }),
		"no payload":   change(func(k *keys.FlightKey) { k.Files[0].Data = k.Files[0].Data[:header+31] }),
		"large data":   change(func(k *keys.FlightKey) { k.Files[0].Data = append(k.Files[0].Data, make([]byte, 65536)...) }),
	}
	for name, b := range tests {
		if got, err := keys.ParseFlightKey([]byte(b)); !errors.Is(err, keys.ErrFlightKey) {
			t.Errorf("%s: %v, %v", name, got, err)
		} else {
			checkSilent(t, err, b)
		}
	}
	if _, err := (&keys.FlightKey{}).Marshal(); !errors.Is(err, keys.ErrFlightKey) {
		t.Errorf("marshal of nothing: %v", err)
	}
}

// fixedFlightKey was made once, so that finds of the fuzzer can be repeated.
func fixedFlightKey(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/flightkey.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseFixedFlightKey(t *testing.T) {
	k, err := keys.ParseFlightKey(fixedFlightKey(t))
	if err != nil || len(k.Files) != 2 {
		t.Errorf("%v, %v", k, err)
	}
}

// FuzzParseFlightKey puts text in the place of a part of a good encoding, or of all of it.
// Short inputs keep the fuzzer fast.
func FuzzParseFlightKey(f *testing.F) {
	good := fixedFlightKey(f)
	f.Add(uint16(0), uint16(0), "")
	f.Add(uint16(0), uint16(65535), `{"public":"","files":[]}`)
	f.Add(uint16(1), uint16(0), `"x":1,`)
	f.Add(uint16(bytes.Index(good, []byte("flight.key.2"))), uint16(16), "flight.key.3.age")
	f.Add(uint16(bytes.Index(good, []byte(`"data"`))+8), uint16(40), "YWdlLWVuY3J5cHRpb24ub3JnL3YxCg==")
	f.Fuzz(func(t *testing.T, at, length uint16, text string) {
		from := min(int(at), len(good))
		to := min(from+int(length), len(good))
		b := slices.Concat(good[:from], []byte(text), good[to:])
		k, err := keys.ParseFlightKey(b)
		if err != nil {
			if !errors.Is(err, keys.ErrFlightKey) {
				t.Fatalf("an error of no known kind: %v", err)
			}
			return
		}
		if again, err := k.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("marshalled again: %v", err)
		}
	})
}

// BenchmarkNewFlightKey is what the child process computes at each start of a flight.
func BenchmarkNewFlightKey(b *testing.B) {
	c := newCrew(b)
	for _, lines := range [][]string{{c.hybrid}, {c.hybrid, c.tagPQ, c.classical}} {
		rs := parse(b, lines...)
		b.Run(fmt.Sprint(len(lines)), func(b *testing.B) {
			for b.Loop() {
				if _, err := keys.NewFlightKey(rs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
