package keys_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"holdfast/crypto/keys"
)

func TestIsGroup(t *testing.T) {
	for s, want := range map[string]bool{
		"A": true, "P": true, "V": true, "AP": true, "AV": true, "PV": true, "APV": true,
		"": false, "T": false, "X": false, "VP": false, "VV": false, "v": false, "VT": false, "APVV": false, "V ": false, "PVX": false,
	} {
		if keys.IsGroup(s) != want {
			t.Errorf("IsGroup(%q) = %v", s, !want)
		}
	}
}

func TestCheckNames(t *testing.T) {
	for _, good := range [][]string{nil, {"V"}, {"AP", "V"}, {"A", "P", "V"}, {"A", "PV"}} {
		if err := keys.CheckNames(good...); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	for _, bad := range [][]string{{""}, {"T"}, {"V", "A"}, {"V", "V"}, {"AV", "V"}, {"AP", "PV"}, {"A", "APV"}} {
		if err := keys.CheckNames(bad...); !errors.Is(err, keys.ErrGroup) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestGroupFileNames(t *testing.T) {
	for name, want := range map[string][2]string{
		"flight.V.key.age": {"V", "flight.key.age"}, "flight.PV.key.12.age": {"PV", "flight.key.12.age"}, "flight.A.pub": {"A", "flight.pub"},
		"flight.key.age": {"", "flight.key.age"}, "flight.pub": {"", "flight.pub"}, "flight.VP.pub": {"", "flight.VP.pub"},
		"flight.T.key.age": {"", "flight.T.key.age"}, "flight.V": {"", "flight.V"}, "T000001.age": {"", "T000001.age"}, "": {"", ""},
	} {
		group, base := keys.SplitGroup(name)
		if group != want[0] || base != want[1] || keys.JoinGroup(group, base) != name {
			t.Errorf("%q: %q %q, joined %q", name, group, base, keys.JoinGroup(group, base))
		}
	}
}

// TestFlightKeyGroups: each group has an identity of its own, which its recipients open and
// nobody else, in files of its own.
func TestFlightKeyGroups(t *testing.T) {
	a, b, d := newCrew(t), newCrew(t), newCrew(t)
	k, err := keys.NewFlightKey(parse(t, a.hybrid), keys.Group{Streams: "V", Recipients: parse(t, b.hybrid, b.classical)},
		keys.Group{Streams: "AP", Recipients: parse(t, d.classical+" + "+d.hybrid)})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, g := range k.Groups {
		for _, f := range g.Files {
			names = append(names, f.Name)
		}
	}
	if got := strings.Join(names, " "); got != "flight.AP.key.age flight.V.key.age flight.V.key.2.age" {
		t.Fatalf("files %s", got)
	}
	video := k.Groups[1]
	if video.Streams != "V" || video.Public == k.Public || video.Public == k.Groups[0].Public {
		t.Error("two share an identity")
	}
	for i, secret := range []string{b.hybridSecret, b.classicalSecret} {
		plain, err := decrypt(video.Files[i].Data, parseID(t, secret))
		if err != nil {
			t.Fatal(err)
		}
		checkSecret(t, &keys.FlightKey{Public: video.Public}, plain)
	}
	if _, err := decrypt(video.Files[0].Data, parseID(t, a.hybridSecret)); err == nil {
		t.Error("the flight's recipient opens the group")
	}
	if _, err := decrypt(k.Files[0].Data, parseID(t, b.hybridSecret)); err == nil {
		t.Error("the group's recipient opens the flight")
	}
	text, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := keys.ParseFlightKey(text); err != nil || !reflect.DeepEqual(back, k) {
		t.Errorf("parsed again: %v", err)
	}
	if bytes.Contains(text, []byte("SECRET")) {
		t.Error("a secret is in the clear")
	}
}

func TestFlightKeyGroupErrors(t *testing.T) {
	c := newCrew(t)
	to := parse(t, c.hybrid)
	for _, names := range [][]string{{"T"}, {""}, {"V", "V"}, {"AV", "PV"}} {
		var groups []keys.Group
		for _, n := range names {
			groups = append(groups, keys.Group{Streams: n, Recipients: to})
		}
		if _, err := keys.NewFlightKey(to, groups...); !errors.Is(err, keys.ErrGroup) {
			t.Errorf("%v: %v", names, err)
		}
	}
	if _, err := keys.NewFlightKey(to, keys.Group{Streams: "V"}); !errors.Is(err, keys.ErrNoRecipient) {
		t.Errorf("nobody: %v", err)
	}
	k, err := keys.NewFlightKey(to, keys.Group{Streams: "A", Recipients: to}, keys.Group{Streams: "V", Recipients: to})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(k *keys.FlightKey){
		"order":        func(k *keys.FlightKey) { k.Groups[0], k.Groups[1] = k.Groups[1], k.Groups[0] },
		"telemetry":    func(k *keys.FlightKey) { k.Groups[1].Streams = "T" },
		"files of it":  func(k *keys.FlightKey) { k.Groups[0].Files = k.Groups[1].Files },
		"no file":      func(k *keys.FlightKey) { k.Groups[0].Files = nil },
		"no recipient": func(k *keys.FlightKey) { k.Groups[0].Public = "" },
	} {
		bad := *k
		bad.Groups = append([]keys.GroupKey(nil), k.Groups...)
		change(&bad)
		if _, err := bad.Marshal(); !errors.Is(err, keys.ErrFlightKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Recipients that were made once, so that finds of the fuzzer can be repeated.
const (
	oneLine   = "age1ejk6ajc4sjrd9rpa49kxrd2d352qn5vd6ts73v05rw6pnja6ldxsz2rcny"
	otherLine = "age149lxv3y0xqc6trld87pq63hcunmfpx2nlx58ddr3lmk7zlys6gqqam0vek"
)

// requests are what the process that makes flight keys may be asked.
func requests() map[string]string {
	return map[string]string{
		"flight alone": oneLine + "\n",
		"one group":    oneLine + "\n" + otherLine + "\n[V]\n" + otherLine + " + " + oneLine + "\n",
		"three groups": oneLine + "\n[A]\n" + otherLine + "\n[P]\n" + otherLine + "\n[V]\n" + oneLine + "\n",
	}
}

func TestRequest(t *testing.T) {
	for name, text := range requests() {
		r, groups, err := keys.ParseRequest(strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := keys.MarshalRequest(r, groups); string(again) != text || len(groups) != strings.Count(text, "[") {
			t.Errorf("%s: %d groups, written again it differs", name, len(groups))
		}
	}
	c := newCrew(t)
	for text, want := range map[string]error{
		"":                                     keys.ErrNoRecipient,
		"[V]\n" + c.hybrid + "\n":              keys.ErrNoRecipient,
		c.hybrid + "\n[V]\n":                   keys.ErrNoRecipient,
		c.hybrid + "\n[T]\n" + c.hybrid + "\n": keys.ErrGroup,
		c.hybrid + "\n[V]\n" + c.hybrid + "\n[A]\n" + c.hybrid: keys.ErrGroup,
		c.hybrid + "\n[V]x\n" + c.hybrid:                       keys.ErrMalformed,
		c.hybrid + "\n[V]\n" + c.hybridSecret:                  keys.ErrSecretKey,
		c.hybrid + strings.Repeat("\n", 300<<10):               keys.ErrTooLarge,
		c.hybrid + strings.Repeat("\n[V]\n"+c.hybrid, 4):       keys.ErrGroup,
	} {
		if _, _, err := keys.ParseRequest(strings.NewReader(text)); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", text, err, want)
		} else {
			checkSilent(t, err, text)
		}
	}
}

// FuzzRequest: whatever parses is written again so that it parses to the same.
func FuzzRequest(f *testing.F) {
	for _, text := range requests() {
		f.Add([]byte(text))
	}
	f.Add([]byte("# nobody\n[V]\n[V]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, groups, err := keys.ParseRequest(bytes.NewReader(text))
		if err != nil {
			return
		}
		first := keys.MarshalRequest(r, groups)
		r, groups, err = keys.ParseRequest(bytes.NewReader(first))
		if err != nil || !bytes.Equal(keys.MarshalRequest(r, groups), first) {
			t.Fatalf("written again: %v", err)
		}
	})
}
