package custody_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"holdfast/crypto/custody"
)

const checkpointDevice = "0a1b2c3d"

// checkpointSigner is a key whose private half is known to the tests.
func checkpointSigner(t testing.TB) (note.Signer, ed25519.PublicKey) {
	t.Helper()
	skey, _, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{9}, 64)), custody.Origin(checkpointDevice))
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, publicOf(t, skey)
}

func manyRecords(n int) (names []string) {
	for i := range n {
		names = append(names, recordName("FG"[i%2], i+1))
	}
	return names
}

// checkpoints holds checkpoints of each form. Key is set by signedCheckpoints.
func checkpoints() map[string]*custody.Checkpoint {
	h := bytes.Repeat([]byte{0xAB}, 32)
	var open []custody.OpenFile
	for i := range 64 {
		open = append(open, custody.OpenFile{Record: "F00000042", Name: fmt.Sprintf("V%06d.open.age", i+1), Bytes: int64(i), SHA256: h})
	}
	return map[string]*custody.Checkpoint{
		"plain": {Size: 4, LogBytes: 900, Boot: 1, T: 5, Next: 1, Frontier: make([]tlog.Hash, 1)},
		"all lines": {
			Size: 7, LogBytes: 1900, Boot: 3, Epoch: 2, T: 121e6, Next: 44, Root: tlog.Hash{1, 2, 3}, Frontier: make([]tlog.Hash, 3),
			Live: []string{"F00000042", "G00000043"}, Deleting: []string{"G00000001"}, Open: open[:1],
		},
		"empty tree":    {Next: 1},
		"largest":       {Size: 1<<53 - 1, LogBytes: 1<<53 - 1, Boot: 1<<53 - 1, Epoch: 1<<53 - 1, T: 1<<53 - 1, Next: 1<<53 - 1, Frontier: make([]tlog.Hash, 53)},
		"lists to full": {Size: 7, Next: 256, Live: manyRecords(255), Deleting: manyRecords(255), Open: open, Frontier: make([]tlog.Hash, 3)},
	}
}

func signedCheckpoints(t testing.TB) map[string][]byte {
	t.Helper()
	s, key := checkpointSigner(t)
	out := map[string][]byte{}
	for name, c := range checkpoints() {
		c.Device, c.Key = checkpointDevice, key
		msg, err := c.Sign(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = msg
	}
	return out
}

func TestCheckpointRoundTrip(t *testing.T) {
	s, key := checkpointSigner(t)
	verifier, err := note.NewEd25519VerifierKey(custody.Origin(checkpointDevice), key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	for name, msg := range signedCheckpoints(t) {
		want := checkpoints()[name]
		want.Device, want.Key = checkpointDevice, key
		got, err := custody.ParseCheckpoint(msg)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		if len(msg)%512 != 0 {
			t.Errorf("%s: %d bytes", name, len(msg))
		}
		if again, err := got.Sign(s); err != nil || !bytes.Equal(again, msg) {
			t.Errorf("%s: signed again: other bytes, %v", name, err)
		}
		// A reader of plain C2SP notes takes it, and finds the tree's head.
		n, err := note.Open(msg, note.VerifierList(v))
		if err != nil {
			t.Errorf("%s: as a note: %v", name, err)
			continue
		}
		if lines := strings.Split(n.Text, "\n"); lines[0] != "holdfast-"+checkpointDevice || lines[1] != fmt.Sprint(want.Size) || lines[2] != want.Root.String() {
			t.Errorf("%s: text begins %q", name, lines[:3])
		}
	}
}

// TestCheckpointPads wants a multiple of 512 bytes for each length that a text can have.
func TestCheckpointPads(t *testing.T) {
	s, key := checkpointSigner(t)
	sizes := map[int]bool{}
	for n := range 40 {
		c := checkpoints()["plain"]
		c.Device, c.Key, c.Live = checkpointDevice, key, manyRecords(n)
		for _, c.T = range []int64{1, 10, 100, 1000, 10000, 100000, 1e6, 1e7, 1e8, 1e9} {
			msg, err := c.Sign(s)
			if err != nil {
				t.Fatal(err)
			}
			sizes[len(msg)] = true
			if _, err := custody.ParseCheckpoint(msg); err != nil || len(msg)%512 != 0 {
				t.Errorf("%d live records, time %d: %d bytes, %v", n, c.T, len(msg), err)
			}
		}
	}
	if len(sizes) < 2 {
		t.Errorf("sizes seen: %v", sizes)
	}
}

func TestCheckpointSignRefuses(t *testing.T) {
	s, key := checkpointSigner(t)
	h := make([]byte, 32)
	for name, change := range map[string]func(c *custody.Checkpoint){
		"device":            func(c *custody.Checkpoint) { c.Device = "0A1B2C3D" },
		"device short":      func(c *custody.Checkpoint) { c.Device = "0a1b2c" },
		"negative":          func(c *custody.Checkpoint) { c.Size = -1 },
		"too large":         func(c *custody.Checkpoint) { c.T = 1 << 53 },
		"key short":         func(c *custody.Checkpoint) { c.Key = c.Key[:31] },
		"live no record":    func(c *custody.Checkpoint) { c.Live = []string{"F1"} },
		"live twice":        func(c *custody.Checkpoint) { c.Live = []string{"F00000001", "F00000001"} },
		"live out of order": func(c *custody.Checkpoint) { c.Live = []string{"F00000002", "F00000001"} },
		"live one number":   func(c *custody.Checkpoint) { c.Live = []string{"F00000002", "G00000002"} },
		"live too many":     func(c *custody.Checkpoint) { c.Live = manyRecords(256) },
		"frontier too long": func(c *custody.Checkpoint) { c.Frontier = make([]tlog.Hash, 65) },
		"open closed file":  func(c *custody.Checkpoint) { c.Open = []custody.OpenFile{{"F00000001", "T000001.age", 1, h}} },
		"open with a path":  func(c *custody.Checkpoint) { c.Open = []custody.OpenFile{{"F00000001", "../T000001.open.age", 1, h}} },
		"open no hash":      func(c *custody.Checkpoint) { c.Open = []custody.OpenFile{{"F00000001", "T000001.open.age", 1, nil}} },
		"open negative":     func(c *custody.Checkpoint) { c.Open = []custody.OpenFile{{"F00000001", "T000001.open.age", -1, h}} },
		"open twice": func(c *custody.Checkpoint) {
			c.Open = []custody.OpenFile{{"F00000001", "T000001.open.age", 1, h}, {"F00000001", "T000001.open.age", 1, h}}
		},
	} {
		c := checkpoints()["plain"]
		c.Device, c.Key = checkpointDevice, key
		change(c)
		if _, err := c.Sign(s); !errors.Is(err, custody.ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := checkpoints()["plain"]
	c.Device, c.Key = checkpointDevice, key
	if _, err := c.Sign(failingSigner{s}); !errors.Is(err, errMedium) {
		t.Errorf("a signer that fails: %v", err)
	}
}

// badTexts are changes to the text of "all lines". Each is signed again, so the signature is
// right and the form alone is wrong.
var badTexts = []struct{ why, old, new string }{
	{"other origin", "holdfast-0a1b2c3d\n", "sigsum-0a1b2c3d\n"},
	{"no origin", "holdfast-0a1b2c3d\n", ""},
	{"device in upper case", "holdfast-0a1b2c3d\n", "holdfast-0A1B2C3D\n"},
	{"device too long", "holdfast-0a1b2c3d\n", "holdfast-0a1b2c3d4\n"},
	{"size with a zero", "\n7\n", "\n07\n"},
	{"size with a plus", "\n7\n", "\n+7\n"},
	{"size negative", "\n7\n", "\n-7\n"},
	{"size in hex", "\n7\n", "\n0x7\n"},
	{"size too large", "\n7\n", "\n9007199254740992\n"},
	{"size over 64 bits", "\n7\n", "\n18446744073709551623\n"},
	{"size missing", "\n7\n", "\n"},
	{"root short", "AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AQID"},
	{"root with bits that are not used", "AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB="},
	{"boot missing", "boot 3 2 121000000", "3 2 121000000"},
	{"boot with a word less", "boot 3 2 121000000", "boot 3 121000000"},
	{"boot with a word more", "boot 3 2 121000000", "boot 3 2 1 121000000"},
	{"boot with two spaces", "boot 3", "boot  3"},
	{"log missing", "log 1900\n", ""},
	{"log twice", "log 1900\n", "log 1900\nlog 1900\n"},
	{"log with a word more", "log 1900", "log 1900 1"},
	{"space at the end", "log 1900\n", "log 1900 \n"},
	{"tab", "log 1900\n", "log\t1900\n"},
	{"next before log", "log 1900\nnext 44\n", "next 44\nlog 1900\n"},
	{"live without a record", "live F00000042 G00000043\n", "live\n"},
	{"live with an empty record", "live F00000042 G00000043\n", "live \n"},
	{"live twice", "live F00000042 G00000043\n", "live F00000042\nlive G00000043\n"},
	{"live out of order", "F00000042 G00000043", "G00000043 F00000042"},
	{"live with one record twice", "F00000042 G00000043", "F00000042 F00000042"},
	{"live with a path", "F00000042 G00000043", "F00000042 ../000043"},
	{"deleting before live", "live F00000042 G00000043\ndeleting G00000001\n", "deleting G00000001\nlive F00000042 G00000043\n"},
	{"frontier missing", "frontier", "border"},
	{"frontier without a space", "frontier ", "frontier"},
	{"frontier with a space too many", "frontier ", "frontier  "},
	{"open of a closed file", "V000001.open.age", "V000001.age"},
	{"open of no segment", "V000001.open.age", "flight.pub"},
	{"open with a path", "F00000042/V", "F00000042/../V"},
	{"open without a record", "F00000042/V", "V"},
	{"open with a word more", "V000001.open.age 0", "V000001.open.age 0 0"},
	{"open with a word less", "V000001.open.age 0 ", "V000001.open.age "},
	{"open without words", "open F", "open\nopen F"},
	{"open before frontier", "frontier", "open F00000042/T000001.open.age 0 q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\nfrontier"},
	{"open out of order", "open F", "open G00000043/T000001.open.age 0 q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\nopen F"},
	{"a line unknown", "frontier", "witness 1\nfrontier"},
	{"an empty line", "frontier", "\nfrontier"},
	{"a line behind", "pad x", "more 1\npad x"},
	{"pad twice", "pad x", "pad x\npad x"},
	{"pad of nothing", "\npad x", "\npad \npad x"},
	{"pad of another letter", "pad x", "pad y"},
	{"pad with two words", "pad x", "pad x x"},
}

// resign puts a changed text into the place of the one in msg and signs it, padded to size.
func resign(t testing.TB, msg []byte, from, to string) []byte {
	t.Helper()
	s, _ := checkpointSigner(t)
	text := string(msg[:bytes.LastIndex(msg, []byte("\n\n"))+1])
	changed := strings.Replace(text, from, to, 1)
	if changed == text {
		t.Fatalf("%q does not stand in the text", from)
	}
	// Bring the size back to a multiple of 512 by the letters of the pad, which are last.
	d := (len(changed) - len(text)) % 512
	if d > 0 {
		changed = strings.TrimSuffix(changed, strings.Repeat("x", d)+"\n") + "\n"
	} else {
		changed = strings.TrimSuffix(changed, "\n") + strings.Repeat("x", -d) + "\n"
	}
	out, err := note.Sign(&note.Note{Text: changed}, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(out)%512 != 0 {
		t.Fatalf("the test makes %d bytes", len(out))
	}
	return out
}

func TestCheckpointNotCanonical(t *testing.T) {
	good := signedCheckpoints(t)["all lines"]
	// Control: a change that keeps the form is taken, so it is the form that is refused below.
	if _, err := custody.ParseCheckpoint(resign(t, good, "next 44", "next 1045")); err != nil {
		t.Fatalf("control: %v", err)
	}
	for _, tt := range badTexts {
		t.Run(tt.why, func(t *testing.T) {
			if c, err := custody.ParseCheckpoint(resign(t, good, tt.old, tt.new)); !errors.Is(err, custody.ErrCheckpoint) || c != nil {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

// TestCheckpointEnvelope changes what stands around the text.
func TestCheckpointEnvelope(t *testing.T) {
	good := string(signedCheckpoints(t)["all lines"])
	at := strings.LastIndex(good, "\n\n") + 2
	text, line := good[:at], good[at:]
	fields := strings.Fields(line)
	raw, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(good[:at], "next 44", "next 45", 1)
	hash := bytes.Clone(raw)
	hash[0] ^= 1
	long := append(bytes.Clone(raw), 0, 0, 0)
	// A second line of the same key, cut to any length, would be passed over by note.Open.
	second := "— " + fields[1] + " " + base64.StdEncoding.EncodeToString(raw[:8])
	for name, msg := range map[string]string{
		"empty":                      "",
		"zeros":                      strings.Repeat("\x00", 1024),
		"line feeds":                 strings.Repeat("\n", 1024),
		"not a multiple of 512":      good + "\n",
		"too long":                   strings.Repeat(good, 65<<10/len(good)+1),
		"text of another":            other + line,
		"no signature":               text,
		"no text":                    line,
		"signature of another key":   text + strings.Replace(line, fields[2], base64.StdEncoding.EncodeToString(hash), 1),
		"signature too long":         text + "— " + fields[1] + " " + base64.StdEncoding.EncodeToString(long) + "\n",
		"base64 not canonical":       text + strings.Replace(line, fields[2], loosened(fields[2]), 1),
		"two signatures":             text + line + line,
		"a second one of this key":   text + line + second + "\n",
		"one of an unknown key more": text + line + "— someone " + fields[2] + "\n",
		"another dash":               text + strings.Replace(line, "—", "-", 1),
		"not UTF-8":                  text[:at-10] + "\xff" + text[at-9:] + line,
		"a return":                   text + strings.Replace(line, "\n", "\r\n", 1),
	} {
		if pad := -len(msg) & 511; pad != 0 && name != "not a multiple of 512" {
			msg += strings.Repeat("\n", pad)
		}
		if c, err := custody.ParseCheckpoint([]byte(msg)); !errors.Is(err, custody.ErrCheckpoint) || c != nil {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// loosened sets a bit of base64 that no byte holds.
func loosened(s string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := len(strings.TrimRight(s, "=")) - 1
	return s[:i] + string(digits[strings.IndexByte(digits, s[i])+1]) + s[i+1:]
}

// TestCheckpointMalleable puts more signatures of the same key behind the right one, with
// lengths that keep the size a multiple of 512 bytes. note.Open passes over them.
func TestCheckpointMalleable(t *testing.T) {
	s, key := checkpointSigner(t)
	c := checkpoints()["plain"]
	c.Device, c.Key = checkpointDevice, key
	good, err := c.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	hash := keyHashOf(good[bytes.LastIndex(good, []byte("\n\n"))+2:])
	msg := bytes.Clone(good)
	for _, n := range []int{9, 9, 9, 288} {
		sig := append(bytes.Clone(hash), make([]byte, n-len(hash))...)
		msg = fmt.Appendf(msg, "— %s %s\n", custody.Origin(checkpointDevice), base64.StdEncoding.EncodeToString(sig))
	}
	if len(msg) != len(good)+512 {
		t.Fatalf("the test makes %d bytes", len(msg))
	}
	if _, err := custody.ParseCheckpoint(msg); !errors.Is(err, custody.ErrCheckpoint) {
		t.Errorf("five signatures: %v", err)
	}
}

func keyHashOf(line []byte) []byte {
	raw, _ := base64.StdEncoding.DecodeString(strings.Fields(string(line))[2])
	return raw[:4]
}

// TestCheckpointFlips wants every single bit of a checkpoint to matter.
func TestCheckpointFlips(t *testing.T) {
	good := signedCheckpoints(t)["all lines"]
	msg := bytes.Clone(good)
	for i := range msg {
		for bit := range 8 {
			msg[i] ^= 1 << bit
			if _, err := custody.ParseCheckpoint(msg); !errors.Is(err, custody.ErrCheckpoint) {
				t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
			}
			msg[i] ^= 1 << bit
		}
	}
	for i := 0; i < len(good); i += 7 {
		torn := append(bytes.Clone(good[:i]), make([]byte, len(good)-i)...)
		if _, err := custody.ParseCheckpoint(torn); !errors.Is(err, custody.ErrCheckpoint) {
			t.Errorf("zeros from byte %d: %v", i, err)
		}
	}
}
