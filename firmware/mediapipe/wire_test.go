package mediapipe_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/firmware/mediapipe"
)

var samples = []mediapipe.Message{
	&mediapipe.Hello{Process: "p1", Cameras: []string{"front", "down"}, Nonce: "0123abcd"},
	&mediapipe.Hello{Process: "p2"},
	&mediapipe.Begin{File: 1, Camera: "front", Kind: mediapipe.Video, Format: "h264", BeganUsec: 12},
	&mediapipe.Begin{File: 2, Camera: "down", Kind: mediapipe.Photo, Format: "jpg", Name: "IMG 1.jpg", BeganUsec: 12, Size: 9, Asks: true,
		Trigger: mediapipe.TriggerInbox, Index: -1, TakenUsec: 11, UncertaintyUsec: 5},
	&mediapipe.Data{File: 1, Offset: 7, BootUsec: 13, Bytes: []byte("HFmp looks like a message")},
	&mediapipe.Data{File: 1, Offset: 70, BootUsec: 14, Bytes: bytes.Repeat([]byte{5}, mediapipe.MaxData)},
	&mediapipe.Lost{File: 1, Bytes: 4096, Why: mediapipe.WhyFast},
	&mediapipe.End{File: 1, Size: 99, BootUsec: 15, SHA256: strings.Repeat("0a", 32), Why: "x"},
	&mediapipe.Event{BootUsec: 3, Camera: "front", Kind: "camera_died", Detail: "exit status 3"},
	&mediapipe.State{Armed: true},
	&mediapipe.VideoCommand{Camera: "front", On: true},
	&mediapipe.Shoot{Camera: "down", IntervalMs: 500, Count: 3, First: 8},
	&mediapipe.StopShooting{Camera: "down"},
	&mediapipe.Kept{Session: 9, File: 2, OK: true},
	&mediapipe.Announce{Nonce: "0123abcd"},
}

func encode(t testing.TB, session uint32, ms ...mediapipe.Message) (p []byte) {
	t.Helper()
	for _, m := range ms {
		var err error
		if p, err = mediapipe.Append(p, session, m); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// all reads to the end; it returns copies.
func all(t testing.TB, r io.Reader) (ms []mediapipe.Message, garbage int64) {
	t.Helper()
	reader := mediapipe.NewReader(r)
	for {
		m, _, err := reader.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return ms, reader.Garbage()
		}
		if d, ok := m.(*mediapipe.Data); ok {
			m = &mediapipe.Data{File: d.File, Offset: d.Offset, BootUsec: d.BootUsec, Bytes: bytes.Clone(d.Bytes)}
		}
		ms = append(ms, m)
	}
}

func TestRoundTrip(t *testing.T) {
	p := encode(t, 7, samples...)
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(p), "halves": iotest.HalfReader(bytes.NewReader(p)), "bytes": iotest.OneByteReader(bytes.NewReader(p[:len(encode(t, 7, samples[:5]...))]))} {
		want := samples
		if name == "bytes" {
			want = samples[:5]
		}
		got, garbage := all(t, r)
		if !reflect.DeepEqual(got, want) || garbage != 0 {
			t.Errorf("%s: %d messages, %d bytes of garbage", name, len(got), garbage)
		}
	}
}

// TestCutInTheMiddle: a writer dies at any byte, the next one begins with padding and Hello, and
// nothing whole is lost but the message it died in.
func TestCutInTheMiddle(t *testing.T) {
	first := encode(t, 1, samples[2], samples[4], samples[5])
	rest := []mediapipe.Message{samples[0], samples[3], samples[4]}
	next := append(mediapipe.Padding(), encode(t, 2, rest...)...)
	for _, cut := range []int{0, 1, 3, 4, 20, 23, 24, 30, 60, 130, 200, len(first) - 200000, len(first) - 1} {
		got, _ := all(t, bytes.NewReader(append(bytes.Clone(first[:cut]), next...)))
		if n := len(got); n < 3 || !reflect.DeepEqual(got[n-3:], rest) {
			t.Errorf("cut at %d: %d messages", cut, n)
		}
	}
}

// TestNoMessageInsideAnother: what a camera gives is never taken for a message, also where the
// message that carries it is damaged.
func TestNoMessageInsideAnother(t *testing.T) {
	inner := encode(t, 1, &mediapipe.Event{Camera: "front", Kind: "forged"})
	p := encode(t, 1, &mediapipe.Data{File: 1, Bytes: inner})
	p[len(p)-1] ^= 1
	got, garbage := all(t, bytes.NewReader(append(p, encode(t, 1, samples[9])...)))
	if len(got) != 1 || !reflect.DeepEqual(got[0], samples[9]) || garbage != int64(len(p)) {
		t.Errorf("%v, garbage %d of %d", got, garbage, len(p))
	}
}

// raw makes a message of any body.
func raw(kind byte, body string) []byte {
	p := append([]byte("HFmp\x01"), kind, 0, 0, 0, 0, 0, 1)
	p = binary.BigEndian.AppendUint32(p, uint32(len(body)))
	table := crc32.MakeTable(crc32.Castagnoli)
	p = binary.BigEndian.AppendUint32(p, crc32.Checksum([]byte(body), table))
	p = binary.BigEndian.AppendUint32(p, crc32.Checksum(p, table))
	return append(p, body...)
}

func TestRefused(t *testing.T) {
	if got, _ := all(t, bytes.NewReader(raw(65, `{"armed":true}`))); len(got) != 1 {
		t.Fatal("this test makes no messages")
	}
	for name, p := range map[string][]byte{
		"unknown kind":        raw(99, `{}`),
		"another spelling":    raw(65, `{"armed": true}`),
		"an unknown key":      raw(65, `{"armed":true,"x":1}`),
		"two objects":         raw(65, `{"armed":true}{}`),
		"no object":           raw(65, `null`),
		"empty":               raw(65, ``),
		"a long body":         raw(6, `{"boot_usec":0,"camera":"c","kind":"k","detail":"`+strings.Repeat("x", 5000)+`"}`),
		"a name with a slash": raw(66, `{"camera":"../x","on":true}`),
		"control characters":  raw(6, `{"boot_usec":0,"camera":"c","kind":"k","detail":"\u001b[2J"}`),
		"negative time":       raw(6, `{"boot_usec":-1,"camera":"c","kind":"k"}`),
		"file 0":              raw(4, `{"file":0,"bytes":1,"why":""}`),
		"no data":             raw(3, string(make([]byte, 20))),
		"half a head":         raw(3, "\x00\x00\x00\x01"),
		"a negative offset":   raw(3, "\x00\x00\x00\x01\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00x"),
		"too much data":       raw(3, "\x00\x00\x00\x01"+string(make([]byte, 16+mediapipe.MaxData+1))),
		"a kind of neither":   raw(2, `{"file":1,"camera":"c","kind":"sound","format":"wav","began_usec":0}`),
	} {
		p = append(p, mediapipe.Padding()...)
		if got, _ := all(t, bytes.NewReader(append(p, raw(65, `{"armed":true}`)...))); len(got) != 1 {
			t.Errorf("%s: %d messages: %+v", name, len(got), got)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, m := range []mediapipe.Message{
		&mediapipe.Data{File: 1}, &mediapipe.Data{Bytes: []byte("x")}, &mediapipe.Event{Camera: "A", Kind: "x"},
		&mediapipe.Event{Camera: "a", Kind: "x", Detail: "\x00"}, &mediapipe.End{File: 1, SHA256: "zz"}, &mediapipe.Hello{Process: "p", Cameras: []string{""}},
	} {
		if p, err := mediapipe.Append(nil, 1, m); !errors.Is(err, mediapipe.ErrBad) || len(p) > 0 {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{"plain é": "plain é", "a\x1b[2Jb\n": "a?[2Jb?", "\xff": "?", strings.Repeat("é", 400): strings.Repeat("é", 256)} {
		if got := mediapipe.Text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzReader: whatever comes, the reader ends, hands over nothing out of bounds, and what it takes
// encodes to the same bytes again. Bytes taken and garbage are all that came.
func FuzzReader(f *testing.F) {
	f.Add(encode(f, 7, samples[:5]...))
	f.Add(encode(f, 7, samples[6:]...))
	f.Add(append(encode(f, 7, samples[4])[:40], encode(f, 8, samples[0])...))
	f.Fuzz(func(t *testing.T, p []byte) {
		r := mediapipe.NewReader(bytes.NewReader(p))
		taken := int64(0)
		for {
			m, session, err := r.Next()
			if err != nil {
				break
			}
			again, err := mediapipe.Append(nil, session, m)
			if err != nil || !bytes.Contains(p, again) {
				t.Fatalf("%+v does not encode to what it came from: %v", m, err)
			}
			taken += int64(len(again))
		}
		if taken+r.Garbage() != int64(len(p)) {
			t.Fatalf("%d taken, %d garbage, of %d", taken, r.Garbage(), len(p))
		}
	})
}

func BenchmarkReader(b *testing.B) {
	p := encode(b, 1, samples[5])
	b.SetBytes(int64(len(p)))
	r := mediapipe.NewReader(&endless{p: p})
	for b.Loop() {
		if _, _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

// endless gives p again and again.
type endless struct {
	p  []byte
	at int
}

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.p[e.at:])
	e.at = (e.at + n) % len(e.p)
	return n, nil
}
