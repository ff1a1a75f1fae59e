package evidence_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"holdfast/firmware/evidence"
)

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	p, err := evidence.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if p[len(p)-1] != '\n' || bytes.Count(p, []byte("\n")) != 1 {
		t.Fatalf("not one line: %q", p)
	}
	return p
}

var (
	attempt = evidence.Attempt{Usec: 1, LastUsec: 9, SeenUsec: 10, Layer: "cgroup-bpf", What: "connect", PID: 7, UID: 1000,
		Program: "/usr/bin/a b\n", Protocol: "tcp", Destination: "[2001:db8::1]:443", Link: "eth0", Detail: "ü", Count: 3}
	lock = evidence.Lock{Boot: "b", Lock: evidence.Open, Grade: evidence.None, Why: "swap broken", Refused: 4, Strikes: 1, Usec: 5,
		Layers:      []evidence.Layer{{Name: "swap", State: "broken", Needed: true, Detail: "/dev/zram0"}},
		Maintenance: &evidence.Maintenance{Number: "00", Interfaces: []string{"eth0"}, SpanUsec: 1, Phase: evidence.PhaseOpen, EndsUsec: 2}}
	recorder = evidence.Recorder{Boot: "b", BootCount: 3, Device: "0a1b2c3d", State: "recording", Armed: true, Record: "F00000001", Usec: 8}
)

func TestThereAndBack(t *testing.T) {
	a, err := evidence.ParseAttempt(marshal(t, &attempt))
	if err != nil || !reflect.DeepEqual(*a, attempt) {
		t.Errorf("%+v %v", a, err)
	}
	l, err := evidence.ParseLock(marshal(t, &lock))
	if err != nil || !reflect.DeepEqual(*l, lock) {
		t.Errorf("%+v %v", l, err)
	}
	r, err := evidence.ParseRecorder(marshal(t, &recorder))
	if err != nil || !reflect.DeepEqual(*r, recorder) {
		t.Errorf("%+v %v", r, err)
	}
}

func TestRefused(t *testing.T) {
	for name, line := range map[string]string{
		"empty":       "",
		"noise":       "\x00\xff",
		"no count":    `{"layer":"tc","what":"frame"}`,
		"count 0":     `{"layer":"tc","what":"frame","count":0}`,
		"no layer":    `{"what":"frame","count":1}`,
		"no kind":     `{"layer":"tc","count":1}`,
		"wrong type":  `{"layer":"tc","what":"frame","count":"1"}`,
		"an array":    `[]`,
		"cut":         `{"layer":"tc","what":"fra`,
		"beyond long": `{"layer":"tc","what":"frame","count":99999999999999999999}`,
		"too long":    `{"layer":"tc","what":"frame","count":1,"detail":"` + strings.Repeat("x", evidence.MaxLine) + `"}`,
	} {
		if a, err := evidence.ParseAttempt([]byte(line)); !errors.Is(err, evidence.ErrBad) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	for _, p := range [][]byte{nil, []byte("x"), []byte(`{"layers":3}`), make([]byte, evidence.MaxFile+1)} {
		if _, err := evidence.ParseLock(p); !errors.Is(err, evidence.ErrBad) {
			t.Errorf("lock %.20q: %v", p, err)
		}
	}
	if _, err := evidence.ParseRecorder([]byte(`{"boot_count":"x"}`)); !errors.Is(err, evidence.ErrBad) {
		t.Errorf("recorder: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(marshal(f, &attempt))
	f.Add(marshal(f, &lock))
	f.Add(marshal(f, &recorder))
	f.Add([]byte(`{"layer":"tc","what":"frame","count":-1}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		if a, err := evidence.ParseAttempt(p); err == nil {
			if a.Count < 1 || a.Layer == "" {
				t.Errorf("%+v", a)
			}
			if b, err := evidence.ParseAttempt(marshal(t, a)); len(marshal(t, a)) <= evidence.MaxLine && (err != nil || *b != *a) {
				t.Errorf("%+v became %+v, %v", a, b, err)
			}
		}
		_, _ = evidence.ParseLock(p) // must not panic
		_, _ = evidence.ParseRecorder(p)
	})
}
