package main

import (
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"

	"holdfast/crypto/keys"
)

// TestKeytestGroups: an identity may fit the recipients of all streams, of some, or of none.
func TestKeytestGroups(t *testing.T) {
	operator := func(classical bool) (age.Identity, *keys.Recipients) {
		secret, line, err := keys.GenerateIdentity(classical)
		if err != nil {
			t.Fatal(err)
		}
		id, err := keys.ParseIdentity(secret)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := keys.ParseRecipients(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		return id, rs
	}
	crash, crashTo := operator(false)
	video, videoTo := operator(true)
	stranger, _ := operator(false)
	groups := []keys.Group{{Streams: "V", Recipients: videoTo}, {Streams: "P", Recipients: crashTo}}
	for _, tt := range []struct {
		name  string
		ids   []age.Identity
		opens []bool // P, V, the rest
		says  string
	}{
		{"crash desk", []age.Identity{crash}, []bool{true, false, true}, "streams P: ok: opens\nstreams V: sealed to others\nall other streams: ok: opens\n"},
		{"video desk", []age.Identity{video}, []bool{false, true, false}, "streams P: sealed to others\nstreams V: ok: opens\nall other streams: sealed to others\n"},
		{"both", []age.Identity{crash, video}, []bool{true, true, true}, "ok: what board seals opens with this identity\n"},
		{"stranger", []age.Identity{stranger}, []bool{false, false, false}, ""},
	} {
		result, err := tryKeys(crashTo, groups, tt.ids)
		if err != nil {
			t.Fatal(err)
		}
		want := []probed{{"P", tt.opens[0], 1, true}, {"V", tt.opens[1], 1, false}, {"", tt.opens[2], 1, true}}
		if !reflect.DeepEqual(result.Groups, want) || result.OK != (tt.says != "") || (result.Reason == "") != result.OK {
			t.Errorf("%s: %+v", tt.name, result)
		}
		var out strings.Builder
		if err := (keytestOptions{}).print(&out, result, "board"); err != nil || out.String() != tt.says {
			t.Errorf("%s: %v, %q", tt.name, err, out.String())
		}
	}
}
