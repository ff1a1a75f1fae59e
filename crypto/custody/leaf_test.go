package custody_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/crypto/custody"
)

var (
	b64of32 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	b64of64 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 64))
)

// aGroup is one key group of a leaf K, of photos and video; twoGroups is all of them.
const (
	aGroup    = `{"files":[{"data":"YQ==","name":"flight.PV.key.age"},{"data":"YWI=","name":"flight.PV.key.2.age"}],"pub":"age1pq1w","recipients":["ffeeddccbbaa99887766554433221100"],"streams":"PV"}`
	logGroup  = `{"files":[{"data":"YQ==","name":"flight.A.key.age"}],"pub":"age1pq1e","recipients":["ffeeddccbbaa99887766554433221100"],"streams":"A"}`
	twoGroups = `[` + logGroup + `,` + aGroup + `]`
)

// withGroups puts key groups where they belong in a leaf K; changes are pairs of old and new.
func withGroups(groups string, changes ...string) string {
	return `"groups":` + strings.NewReplacer(changes...).Replace(groups) + `,"policy"`
}

// goodBodies holds one body of each kind and form, as it must stand in a leaf.
var goodBodies = []struct {
	kind custody.Kind
	body string
}{
	{'B', `{"boot":1,"key":"` + b64of32 + `","sig":"` + b64of64 + `","signed":0,"slots":"none","t":0,"torn":0,"v":1}`},
	{'B', `{"boot":9007199254740991,"key":"` + b64of32 + `","sig":"` + b64of64 + `","signed":77,"slots":"torn","t":9007199254740991,"torn":12,"v":1}`},
	{'L', `{"grade":"A","lock":"locked","refused":3,"t":17}`},
	{'L', `{"grade":"none","lock":"open","refused":0,"t":18,"ticket":"0a1b2c3d4e5f60718293a4b5c6d7e8f9"}`},
	{'R', `{"files":[],"record":"G00000001","t":18}`},
	{'R', `{"files":[{"name":"T000001.age","sha256":"` + b64of32 + `","size":5},{"name":"T000002.open.age","sha256":"` + b64of32 + `","size":0}],"record":"F00000042","t":18}`},
	{'R', `{"files":[{"name":"T000002.open.age","sha256":"` + b64of32 + `","signed_sha256":"` + b64of32 + `","signed_size":70000,"size":0}],"record":"F00000042","t":18}`},
	{'K', `{"files":[{"data":"YQ==","name":"flight.key.age"},{"data":"YWI=","name":"flight.key.2.age"},{"data":"YWJj","name":"flight.key.10.age"}],"policy":{"flush_armed_usec":200000,"flush_idle_usec":900000,"record":"always","when_full":"oldest"},"pub":"age1pq1q","recipients":["00112233445566778899aabbccddeeff"],"record":"F00000042","t":19}`},
	{'K', `{"files":[{"data":"YQ==","name":"flight.key.age"}],"groups":` + twoGroups + `,"policy":{"flush_armed_usec":200000,"flush_idle_usec":900000,"record":"always","when_full":"oldest"},"pub":"age1pq1q","recipients":["00112233445566778899aabbccddeeff"],"record":"F00000042","t":19}`},
	{'O', `{"record":"F00000042","segment":"T000001","t":20}`},
	{'C', `{"frames":9,"from":1,"record":"F00000042","segment":"V999999","sha256":"` + b64of32 + `","size":70000,"t":21,"to":2}`},
	{'X', `{"record":"F00000042","t":22,"why":"deleted"}`},
	{'X', `{"record":"F00000042","t":22,"why":"undone"}`},
	{'X', `{"record":"F00000042","segment":"T000009","t":22,"why":"undone"}`},
	{'X', `{"record":"F00000042","segment":"T000009","sha256":"` + b64of32 + `","size":0,"t":22,"why":"failed"}`},
	{'X', `{"record":"F00000042","segment":"V000009","t":22,"why":"refused"}`},
	{'Z', `{"record":"F00000042","segments":{},"t":23}`},
	{'Z', `{"record":"F00000042","segments":{"T":4,"V":1},"t":23}`},
	{'E', `{"boot":1,"epoch":1,"key":"` + b64of32 + `","sig":"` + b64of64 + `","t":24}`},
}

// TestLeafRoundTrip takes each good body through log.bin and back.
func TestLeafRoundTrip(t *testing.T) {
	for _, tt := range goodBodies {
		l := custody.Leaf{Kind: tt.kind, Body: []byte(tt.body)}
		e, err := l.Entry()
		if err != nil {
			t.Errorf("%v %s: %v", tt.kind, tt.body, err)
			continue
		}
		again, err := custody.NewLeaf(e)
		if err != nil || again.Kind != l.Kind || string(again.Body) != tt.body {
			t.Errorf("encoded again: %c %s, %v", again.Kind, again.Body, err)
		}
		file := l.Append([]byte("before"))
		if int64(len(file)-6) != l.Size() {
			t.Errorf("%v: %d bytes in the file, Size %d", tt.kind, len(file)-6, l.Size())
		}
		r := custody.NewReader(bytes.NewReader(file[6:]))
		read, err := r.Next()
		if err != nil || !reflect.DeepEqual(read, l) || r.Offset() != l.Size() {
			t.Errorf("read again: %+v, %v, offset %d", read, err, r.Offset())
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("behind the last leaf: %v", err)
		}
		if want := sha256.Sum256([]byte("\x00" + string(rune(tt.kind)) + tt.body)); l.Hash() != want {
			t.Errorf("%v: hash is not that of 0x00, kind and body", tt.kind)
		}
	}
}

// TestLeafBytes pins a leaf and its hash. Both were put together outside of this project, the
// CRC bit by bit.
func TestLeafBytes(t *testing.T) {
	const body = `{"grade":"A","lock":"locked","refused":3,"t":17}`
	l := custody.Leaf{Kind: custody.KindLock, Body: []byte(body)}
	if got, want := hex.EncodeToString(l.Append(nil)), "00000030"+"4c"+hex.EncodeToString([]byte(body))+"d2164296"; got != want {
		t.Errorf("leaf is %s, want %s", got, want)
	}
	if got, want := l.Hash(), "c9237f3d9cbf1366b360a6522737390b7809d99c305df4349f6a238c28fd910c"; hex.EncodeToString(got[:]) != want {
		t.Errorf("hash is %x, want %s", got, want)
	}
}

// badBodies differ from the first good body of their kind in one place.
var badBodies = []struct {
	why      string
	kind     custody.Kind
	old, new string // first occurrence
}{
	{"no object", 'L', `{"grade":"A","lock":"locked","refused":3,"t":17}`, `[]`},
	{"null", 'L', `{"grade":"A","lock":"locked","refused":3,"t":17}`, `null`},
	{"empty object", 'L', `{"grade":"A","lock":"locked","refused":3,"t":17}`, `{}`},
	{"cut", 'L', `17}`, `17`},
	{"bytes behind", 'L', `17}`, `17}}`},
	{"white space", 'L', `,"t"`, `, "t"`},
	{"line feed at the end", 'L', `17}`, "17}\n"},
	{"keys out of order", 'L', `"grade":"A","lock":"locked"`, `"lock":"locked","grade":"A"`},
	{"a key twice", 'L', `"t":17`, `"t":17,"t":17`},
	{"a key missing", 'L', `"refused":3,`, ``},
	{"a key more", 'L', `"t":17`, `"t":17,"u":1`},
	{"a key in other case", 'L', `"t":17`, `"T":17`},
	{"leading zero", 'L', `:17`, `:017`},
	{"plus", 'L', `:17`, `:+17`},
	{"minus zero", 'L', `"refused":3`, `"refused":-0`},
	{"fraction", 'L', `:17`, `:17.0`},
	{"exponent", 'L', `:17`, `:17e0`},
	{"over 2^53-1", 'L', `:17`, `:9007199254740992`},
	{"over 2^63", 'L', `:17`, `:9223372036854775808`},
	{"negative", 'L', `:17`, `:-17`},
	{"number as string", 'L', `:17`, `:"17"`},
	{"string as number", 'L', `"A"`, `1`},
	{"a null in it", 'L', `:17`, `:null`},
	{"true", 'L', `:17`, `:true`},
	{"escape", 'L', `"A"`, `"\u0041"`},
	{"byte over 0x7E", 'L', `"A"`, "\"\x80\""},
	{"DEL", 'L', `"A"`, "\"\x7f\""},
	{"not ASCII", 'L', `"A"`, `"Ä"`},
	{"control character", 'L', `"A"`, "\"A\x01\""},
	{"grade unknown", 'L', `"A"`, `"C"`},
	{"grade unknown with a sign that is escaped", 'L', `"A"`, `"<"`},
	{"lock unknown", 'L', `"locked"`, `"shut"`},
	{"ticket while locked", 'L', `"t":17`, `"t":17,"ticket":"0a1b2c3d4e5f60718293a4b5c6d7e8f9"`},
	{"ticket of 31 digits", 'L', `"lock":"locked","refused":3,"t":17`, `"lock":"open","refused":3,"t":17,"ticket":"0a1b2c3d4e5f60718293a4b5c6d7e8f"`},
	{"ticket in upper case", 'L', `"lock":"locked","refused":3,"t":17`, `"lock":"open","refused":3,"t":17,"ticket":"0A1B2C3D4E5F60718293A4B5C6D7E8F9"`},
	{"ticket that is empty", 'L', `"lock":"locked","refused":3,"t":17`, `"lock":"open","refused":3,"t":17,"ticket":""`},
	{"ticket before its turn", 'L', `"lock":"locked","refused":3,"t":17`, `"lock":"open","refused":3,"ticket":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","t":17`},
	{"refused negative", 'L', `"refused":3`, `"refused":-3`},

	{"boot 0", 'B', `"boot":1`, `"boot":0`},
	{"boot 2^53", 'B', `"boot":1`, `"boot":9007199254740992`},
	{"boot that wraps", 'B', `"boot":1`, `"boot":-9223372036854775808`},
	{"version", 'B', `"v":1`, `"v":2`},
	{"slots unknown", 'B', `"none"`, `"gone"`},
	{"key too short", 'B', b64of32, "YQ=="},
	{"key null", 'B', `"` + b64of32 + `"`, "null"},
	{"signature too short", 'B', b64of64, b64of32},
	{"base64 without padding", 'B', b64of32, strings.TrimSuffix(b64of32, "=")},
	{"base64 with bits that are not used", 'B', b64of32, strings.TrimSuffix(b64of32, "E=") + "F="},
	{"base64 for URLs", 'B', b64of32[:8], "____----"},
	{"torn negative", 'B', `"torn":0`, `"torn":-1`},
	{"signed negative", 'B', `"signed":0`, `"signed":-1`},

	{"files null", 'R', `[]`, `null`},
	{"files an object", 'R', `[]`, `{}`},
	{"record with a letter unknown", 'R', `G00000001`, `H00000001`},
	{"record 0", 'R', `G00000001`, `G00000000`},
	{"record too short", 'R', `G00000001`, `G0000001`},
	{"record with a path", 'R', `G00000001`, `../000001`},
	{"signed hash alone", 'R', `[]`, `[{"name":"T000001.open.age","sha256":"` + b64of32 + `","signed_sha256":"` + b64of32 + `","size":0}]`},
	{"signed size alone", 'R', `[]`, `[{"name":"T000001.open.age","sha256":"` + b64of32 + `","signed_size":0,"size":0}]`},
	{"signed closed form", 'R', `[]`, `[{"name":"T000001.age","sha256":"` + b64of32 + `","signed_sha256":"` + b64of32 + `","signed_size":0,"size":0}]`},
	{"signed size negative", 'R', `[]`, `[{"name":"T000001.open.age","sha256":"` + b64of32 + `","signed_sha256":"` + b64of32 + `","signed_size":-1,"size":0}]`},
	{"signed hash short", 'R', `[]`, `[{"name":"T000001.open.age","sha256":"` + b64of32 + `","signed_sha256":"AQ==","signed_size":1,"size":0}]`},
	{"signed keys not in order", 'R', `[]`, `[{"name":"T000001.open.age","sha256":"` + b64of32 + `","signed_size":1,"signed_sha256":"` + b64of32 + `","size":0}]`},
	{"files not in order", 'R', `[]`, `[{"name":"T000002.age","sha256":"` + b64of32 + `","size":0},{"name":"T000001.age","sha256":"` + b64of32 + `","size":0}]`},
	{"a file twice", 'R', `[]`, `[{"name":"T000001.age","sha256":"` + b64of32 + `","size":0},{"name":"T000001.age","sha256":"` + b64of32 + `","size":0}]`},
	{"file that is no segment", 'R', `[]`, `[{"name":"flight.pub","sha256":"` + b64of32 + `","size":0}]`},
	{"file in the making", 'R', `[]`, `[{"name":"T000001.age.tmp","sha256":"` + b64of32 + `","size":0}]`},
	{"file with a path", 'R', `[]`, `[{"name":"../T000001.age","sha256":"` + b64of32 + `","size":0}]`},
	{"size negative", 'R', `[]`, `[{"name":"T000001.age","sha256":"` + b64of32 + `","size":-1}]`},
	{"hash too long", 'R', `[]`, `[{"name":"T000001.age","sha256":"` + b64of64 + `","size":1}]`},
	{"a key more in a file", 'R', `[]`, `[{"mode":1,"name":"T000001.age","sha256":"` + b64of32 + `","size":1}]`},

	{"no key file", 'K', `[{"data":"YQ==","name":"flight.key.age"},{"data":"YWI=","name":"flight.key.2.age"},{"data":"YWJj","name":"flight.key.10.age"}]`, `[]`},
	{"key file of no bytes", 'K', `YQ==`, ``},
	{"key file 1", 'K', `flight.key.2.age`, `flight.key.1.age`},
	{"key file 02", 'K', `flight.key.2.age`, `flight.key.02.age`},
	{"key file 100", 'K', `flight.key.10.age`, `flight.key.100.age`},
	{"key file without number", 'K', `flight.key.2.age`, `flight.key..age`},
	{"key files not in order", 'K', `flight.key.10.age`, `flight.key.2.age`},
	{"key file by another name", 'K', `flight.key.age`, `flight.key`},
	{"no recipient", 'K', `"00112233445566778899aabbccddeeff"`, ``},
	{"fingerprint too short", 'K', `00112233445566778899aabbccddeeff`, `0011`},
	{"fingerprint in upper case", 'K', `aabb`, `AABB`},
	{"pub that is none", 'K', `age1pq1q`, `AGE-SECRET-KEY-PQ-1`},
	{"pub with a line feed", 'K', `age1pq1q`, `age1pq1q\n`},
	{"policy null", 'K', `{"flush_armed_usec":200000,"flush_idle_usec":900000,"record":"always","when_full":"oldest"}`, `null`},
	{"policy with a key more", 'K', `"record":"always"`, `"place":1,"record":"always"`},
	{"policy record", 'K', `always`, `never`},
	{"policy when_full", 'K', `oldest`, `newest`},
	{"policy negative", 'K', `200000`, `-200000`},

	{"groups null", 'K', `"policy"`, withGroups(`null`)},
	{"groups that are none", 'K', `"policy"`, withGroups(`[]`)},
	{"groups an object", 'K', `"policy"`, withGroups(`{}`)},
	{"groups not in order", 'K', `"policy"`, withGroups(`[` + aGroup + `,` + logGroup + `]`)},
	{"a group twice", 'K', `"policy"`, withGroups(`[` + aGroup + `,` + aGroup + `]`)},
	{"groups before files", 'K', `{"files"`, `{"groups":` + twoGroups + `,"files"`},
	{"a stream in two groups", 'K', `"policy"`, withGroups(`[`+logGroup+`,`+aGroup+`]`, `"PV"`, `"AV"`, `.PV.`, `.AV.`)},
	{"a group of telemetry", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `"A"`, `"T"`, `.A.`, `.T.`)},
	{"a group of no stream", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `"A"`, `""`, `.A.`, `.`)},
	{"streams of a group not in order", 'K', `"policy"`, withGroups(`[`+aGroup+`]`, `"PV"`, `"VP"`, `.PV.`, `.VP.`)},
	{"a file of the flight in a group", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `.A.`, `.`)},
	{"a file of another group", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `.A.`, `.V.`)},
	{"a file of a group in the flight", 'K', `"name":"flight.key.2.age"`, `"name":"flight.V.key.2.age"`},
	{"files of a group not in order", 'K', `"policy"`, withGroups(`[`+aGroup+`]`, `PV.key.age`, `PV.key.3.age`)},
	{"a group without files", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `{"data":"YQ==","name":"flight.A.key.age"}`, ``)},
	{"a group without recipients", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `"ffeeddccbbaa99887766554433221100"`, ``)},
	{"a group whose pub is none", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `age1pq1e`, `age`)},
	{"a group with a key more", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `"streams"`, `"salt":1,"streams"`)},
	{"keys of a group not in order", 'K', `"policy"`, withGroups(`[`+logGroup+`]`, `{"files"`, `{"streams":"A","files"`, `,"streams":"A"`, ``)},

	{"segment 0", 'O', `T000001`, `T000000`},
	{"segment with a letter unknown", 'O', `T000001`, `Q000001`},
	{"segment with its suffix", 'O', `T000001`, `T000001.age`},
	{"segment with a sign", 'O', `T000001`, `T+00001`},

	{"hash missing", 'C', `"sha256":"` + b64of32 + `",`, ``},
	{"frames negative", 'C', `"frames":9`, `"frames":-9`},
	{"to negative", 'C', `"to":2`, `"to":-2`},

	{"why unknown", 'X', `deleted`, `stolen`},
	{"deleted with a segment", 'X', `"t"`, `"segment":"T000001","t"`},
	{"deleted with an empty segment", 'X', `"t"`, `"segment":"","t"`},
	{"deleted with a size", 'X', `"t"`, `"size":1,"t"`},
	{"failed without a segment", 'X', `"t":22,"why":"deleted"`, `"sha256":"` + b64of32 + `","size":0,"t":22,"why":"failed"`},
	{"failed without a hash", 'X', `"t":22,"why":"deleted"`, `"segment":"T000009","size":0,"t":22,"why":"failed"`},
	{"failed without a size", 'X', `"t":22,"why":"deleted"`, `"segment":"T000009","sha256":"` + b64of32 + `","t":22,"why":"failed"`},
	{"failed with a size of null", 'X', `"t":22,"why":"deleted"`, `"segment":"T000009","sha256":"` + b64of32 + `","size":null,"t":22,"why":"failed"`},
	{"failed with a negative size", 'X', `"t":22,"why":"deleted"`, `"segment":"T000009","sha256":"` + b64of32 + `","size":-1,"t":22,"why":"failed"`},
	{"failed with an empty hash", 'X', `"t":22,"why":"deleted"`, `"segment":"T000009","sha256":"","size":1,"t":22,"why":"failed"`},
	{"refused without a segment", 'X', `deleted`, `refused`},
	{"refused with a size", 'X', `"t":22,"why":"deleted"`, `"segment":"T000009","size":1,"t":22,"why":"refused"`},

	{"segments null", 'Z', `{}`, `null`},
	{"segments an array", 'Z', `{}`, `[]`},
	{"stream unknown", 'Z', `{}`, `{"Q":1}`},
	{"stream of two letters", 'Z', `{}`, `{"TV":1}`},
	{"stream of no letter", 'Z', `{}`, `{"":1}`},
	{"streams not in order", 'Z', `{}`, `{"V":1,"T":1}`},
	{"stream twice", 'Z', `{}`, `{"T":1,"T":1}`},
	{"segment number 0", 'Z', `{}`, `{"T":0}`},
	{"segment number over 6 digits", 'Z', `{}`, `{"T":1000000}`},

	{"epoch 0", 'E', `"epoch":1`, `"epoch":0`},
	{"epoch of boot 0", 'E', `"boot":1`, `"boot":0`},
	{"epoch key too short", 'E', b64of32, "YQ=="},
	{"body of another kind", 'E', `"epoch":1,`, ``},
}

// badLeaf returns the body of a row of badBodies.
func badLeaf(t testing.TB, kind custody.Kind, from, to string) custody.Leaf {
	t.Helper()
	for _, good := range goodBodies {
		if good.kind != kind {
			continue
		}
		body := strings.Replace(good.body, from, to, 1)
		if body == good.body {
			t.Fatalf("%v: %q does not stand in the good body", kind, from)
		}
		return custody.Leaf{Kind: kind, Body: []byte(body)}
	}
	t.Fatalf("no good body of kind %v", kind)
	return custody.Leaf{}
}

// TestLeafNotCanonical wants each bad body refused, and the framing to be none the wiser.
func TestLeafNotCanonical(t *testing.T) {
	for _, tt := range badBodies {
		t.Run(tt.kind.String()+" "+tt.why, func(t *testing.T) {
			l := badLeaf(t, tt.kind, tt.old, tt.new)
			if e, err := l.Entry(); !errors.Is(err, custody.ErrLeaf) || e != nil {
				t.Errorf("%s: %+v, %v", l.Body, e, err)
			}
			if _, err := custody.NewReader(bytes.NewReader(l.Append(nil))).Next(); err != nil {
				t.Errorf("framing: %v", err)
			}
		})
	}
}

func TestLeafKindUnknown(t *testing.T) {
	for _, k := range []custody.Kind{0, 'A', 'b', 'Y', 0xFF} {
		if _, err := (custody.Leaf{Kind: k, Body: []byte(`{"t":1}`)}).Entry(); !errors.Is(err, custody.ErrLeaf) {
			t.Errorf("kind 0x%02x: %v", byte(k), err)
		}
	}
}

// TestNewLeafRefuses wants the encoder to make nothing that a reader refuses.
func TestNewLeafRefuses(t *testing.T) {
	long := keyLeaf("F00000001").(*custody.FlightKey)
	long.Files[0].Data = make([]byte, custody.MaxBody)
	for name, e := range map[string]custody.Entry{
		"no fields":         &custody.Boot{},
		"record":            &custody.Opened{Record: "F1", Segment: "T000001"},
		"one signed field":  &custody.Recovered{Record: "F00000001", Files: []custody.File{{Name: "T000001.open.age", SHA256: make([]byte, 32), SignedSHA256: make([]byte, 32)}}},
		"nil list":          &custody.Recovered{Record: "F00000001"},
		"nil map":           &custody.Ended{Record: "F00000001"},
		"a quote":           &custody.Lock{Grade: `A"`, Lock: "locked"},
		"longer than 1 MiB": long,
	} {
		if l, err := custody.NewLeaf(e); !errors.Is(err, custody.ErrLeaf) {
			t.Errorf("%s: %s, %v", name, l.Body, err)
		}
	}
	for _, pub := range []string{"age1<", "age1>", "age1&", "age1\"", "age1\\", "age1\n", "age1é", "age1\x7f", "age1\u2028"} {
		e := keyLeaf("F00000001").(*custody.FlightKey)
		e.Pub = pub
		if _, err := custody.NewLeaf(e); !errors.Is(err, custody.ErrLeaf) {
			t.Errorf("pub %q: %v", pub, err)
		}
	}
}

func goodLeaf() []byte {
	return custody.Leaf{Kind: goodBodies[0].kind, Body: []byte(goodBodies[0].body)}.Append(nil)
}

// TestReaderStops wants the good bytes before the fault, whatever follows.
func TestReaderStops(t *testing.T) {
	good := goodLeaf()
	flipped := bytes.Clone(good)
	flipped[20] ^= 1
	kind := bytes.Clone(good)
	kind[4] ^= 1
	crc := bytes.Clone(good)
	crc[len(crc)-1] ^= 1
	for name, bad := range map[string][]byte{
		"one byte":          {0},
		"head cut":          good[:4],
		"head alone":        good[:5],
		"body cut":          good[:len(good)-5],
		"CRC cut":           good[:len(good)-1],
		"zeros":             make([]byte, 4096),
		"one zero leaf":     make([]byte, 9),
		"length 1":          {0, 0, 0, 1, 'L', '{', 0, 0, 0, 0},
		"length over 1 MiB": append([]byte{0, 0x10, 0, 1, 'L'}, make([]byte, 2<<20)...),
		"length of 4 GiB":   append([]byte{0xFF, 0xFF, 0xFF, 0xFF, 'L'}, make([]byte, 64)...),
		"body flipped":      flipped,
		"kind flipped":      kind,
		"CRC flipped":       crc,
	} {
		file := bytes.Join([][]byte{good, good, bad}, nil)
		for what, in := range map[string]io.Reader{
			"at once": bytes.NewReader(file), "byte by byte": iotest.OneByteReader(bytes.NewReader(file)),
		} {
			r := custody.NewReader(in)
			for range 2 {
				if _, err := r.Next(); err != nil {
					t.Fatalf("%s, %s: good leaf: %v", name, what, err)
				}
			}
			for range 2 { // the error stays
				if l, err := r.Next(); !errors.Is(err, custody.ErrLeaf) || l.Body != nil {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
			if r.Offset() != int64(2*len(good)) {
				t.Errorf("%s, %s: offset %d, want %d", name, what, r.Offset(), 2*len(good))
			}
		}
	}
}

// TestReaderFault wants a medium that fails told from a log that ends.
func TestReaderFault(t *testing.T) {
	good := goodLeaf()
	for _, n := range []int{0, 3, 5, 40} {
		r := custody.NewReader(io.MultiReader(bytes.NewReader(good), bytes.NewReader(good[:n]), iotest.ErrReader(errMedium)))
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); !errors.Is(err, errMedium) || errors.Is(err, custody.ErrLeaf) || errors.Is(err, io.EOF) {
			t.Errorf("medium fails %d bytes into a leaf: %v", n, err)
		}
	}
}

// TestReaderBodies wants bodies that do not change when the reader goes on.
func TestReaderBodies(t *testing.T) {
	var file []byte
	for _, tt := range goodBodies {
		file = custody.Leaf{Kind: tt.kind, Body: []byte(tt.body)}.Append(file)
	}
	r := custody.NewReader(bytes.NewReader(file))
	var leaves []custody.Leaf
	for range goodBodies {
		l, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, l)
	}
	for i, l := range leaves {
		if string(l.Body) != goodBodies[i].body {
			t.Errorf("leaf %d is %s", i, l.Body)
		}
	}
}
