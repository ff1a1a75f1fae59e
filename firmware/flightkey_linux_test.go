package firmware

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/crypto/open"
)

// TestMain is the process that makes flight keys where it is started as that.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == FlightKeyCommand {
		if err := FlightKeyChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// operator makes an identity.
func operator(t *testing.T) (*open.Opener, *keys.Recipients) {
	t.Helper()
	secret, line, err := keys.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.ParseIdentity(secret)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := keys.ParseRecipients(strings.NewReader(line + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return open.New(id), rs
}

func child(t *testing.T) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self, FlightKeyCommand}
}

// TestKeyMaker: the real process makes an identity for the flight and for each group, each for
// its own recipients, in the order of the groups' names, under one salt.
func TestKeyMaker(t *testing.T) {
	mine, rs := operator(t)
	video, videoTo := operator(t)
	logs, logsTo := operator(t)
	makeKey, err := keyMaker(child(t), rs, []KeyGroup{{Streams: "V", Recipients: videoTo}, {Streams: "A", Recipients: logsTo}})
	if err != nil {
		t.Fatal(err)
	}
	k, err := makeKey()
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Groups) != 2 || k.Groups[0].Streams != "A" || k.Groups[1].Streams != "V" || len(k.Salt) != custody.SaltSize {
		t.Fatalf("%d groups, salt of %d bytes", len(k.Groups), len(k.Salt))
	}
	if k.Recipients[0] != custody.Fingerprint(k.Salt, rs.Strings()[0]) || k.Groups[1].Recipients[0] != custody.Fingerprint(k.Salt, videoTo.Strings()[0]) {
		t.Error("fingerprints are of somebody else")
	}
	files := [][]byte{k.Files[0].Data, k.Groups[0].Files[0].Data, k.Groups[1].Files[0].Data}
	for i, who := range []*open.Opener{mine, logs, video} {
		for n, file := range files {
			if _, err := who.Flight(file); (err == nil) != (i == n) || err != nil && !errors.Is(err, open.ErrNoIdentity) {
				t.Errorf("operator %d opens file %d: %v", i, n, err)
			}
		}
	}
}

// TestKeyMakerAlone: without groups there is one identity, as ever.
func TestKeyMakerAlone(t *testing.T) {
	mine, rs := operator(t)
	makeKey, err := keyMaker(child(t), rs, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := makeKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mine.Flight(k.Files[0].Data); err != nil || len(k.Groups) != 0 || len(k.Files) != 1 || k.Files[0].Name != "flight.key.age" {
		t.Errorf("%v, %+v", err, k)
	}
}

func TestKeyMakerErrors(t *testing.T) {
	_, rs := operator(t)
	for _, groups := range [][]KeyGroup{{{Streams: "T", Recipients: rs}}, {{Streams: "V", Recipients: rs}, {Streams: "PV", Recipients: rs}}} {
		if _, err := keyMaker(child(t), rs, groups); !errors.Is(err, keys.ErrGroup) {
			t.Errorf("%+v: %v", groups, err)
		}
	}
	if _, err := keyMaker(child(t), rs, []KeyGroup{{Streams: "V"}}); !errors.Is(err, keys.ErrNoRecipient) {
		t.Errorf("a group for nobody: %v", err)
	}
	makeKey, err := keyMaker([]string{child(t)[0], "-test.run=^$"}, rs, nil) // a program that says something else
	if err != nil {
		t.Fatal(err)
	}
	if _, err := makeKey(); !errors.Is(err, keys.ErrFlightKey) {
		t.Errorf("no answer: %v", err)
	}
	_, other := operator(t)
	k, err := keys.NewFlightKey(rs)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseKey(answer)
	if err != nil {
		t.Fatal(err)
	}
	if err := addFingerprints(got, rs, []KeyGroup{{Streams: "V", Recipients: other}}); err == nil {
		t.Error("an answer without the group that was asked for was taken")
	}
}
