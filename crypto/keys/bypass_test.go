package keys_test

import (
	"strings"
	"testing"

	"holdfast/crypto/keys"
)

func TestBypassed(t *testing.T) {
	var r [3]string
	for i := range r {
		_, public, err := keys.GenerateIdentity(true)
		if err != nil {
			t.Fatal(err)
		}
		r[i] = public
	}
	for text, want := range map[string]bool{
		r[0]:                              false,
		r[0] + " + " + r[1]:               false,
		r[0] + " + " + r[1] + "\n" + r[2]: true,
		r[0] + "\n" + r[1]:                false,
	} {
		rs, err := keys.ParseRecipients(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := rs.Bypassed(); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
