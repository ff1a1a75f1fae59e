package keys_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/crypto/keys"
)

func verifierLine(t testing.TB, seed byte) string {
	t.Helper()
	k, err := keys.NewOperatorKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k.Verifier()
}

func TestParseSigners(t *testing.T) {
	a, b := verifierLine(t, 1), verifierLine(t, 2)
	device, err := keys.NewDeviceKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	many := ""
	for i := range keys.MaxSigners + 1 {
		many += verifierLine(t, byte(i)) + "\n"
	}
	for name, c := range map[string]struct {
		text string
		want int // -1: refused
	}{
		"empty":                 {"", 0},
		"comments and blanks":   {"# crash desk\n\n" + a + "\n  \n" + b, 2},
		"CR LF":                 {a + "\r\n" + b + "\r\n", 2},
		"twice the same":        {a + "\n" + a + "\n", 1},
		"a device's key":        {device.Verifier() + "\n", -1},
		"a secret key":          {"PRIVATE+KEY+" + a + "\n", -1},
		"another name":          {strings.Replace(a, "operator", "operatxr", 1), -1},
		"one letter changed":    {a[:len(a)-3] + "AAA", -1},
		"a recipient":           {"age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgp", -1},
		"a line too many":       {many, -1},
		"a line without an end": {strings.Repeat("#", 70_000), -1},
		"megabytes":             {strings.Repeat("\n", 1<<20), -1},
	} {
		got, err := keys.ParseSigners(strings.NewReader(c.text))
		switch {
		case c.want < 0 && !errors.Is(err, keys.ErrSigners):
			t.Errorf("%s: %d keys and %v, want ErrSigners", name, len(got), err)
		case c.want >= 0 && (err != nil || len(got) != c.want):
			t.Errorf("%s: %d keys and %v, want %d", name, len(got), err, c.want)
		}
	}
	got, _ := keys.ParseSigners(strings.NewReader(b))
	if len(got) != 1 || !strings.HasPrefix(b, got[0].Name()+"+") {
		t.Errorf("names %v, want that of %s", got, b)
	}
}

func FuzzParseSigners(f *testing.F) {
	f.Add(fmt.Sprintf("# x\n%s\n\n%s", verifierLine(f, 1), verifierLine(f, 2)))
	f.Add("holdfast-operator-34750f98+45f65c50+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := keys.ParseSigners(strings.NewReader(text))
		if err == nil && len(list) > keys.MaxSigners {
			t.Errorf("%d keys", len(list))
		}
		for _, v := range list {
			if !strings.Contains(text, v.Name()) {
				t.Errorf("%s is not in the text", v.Name())
			}
		}
	})
}
