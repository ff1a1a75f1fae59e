package codec_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/frame"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/codec"
)

// parse returns the frame that raw is, checksum right.
func parse(t testing.TB, raw []byte) *mavlink.Frame {
	t.Helper()
	f, ok := mavlink.ParseFrame(raw)
	if !ok || len(f.Raw) != len(raw) || !f.ChecksumOK() {
		t.Fatalf("no good frame: %x", raw)
	}
	return &f
}

// reference is the frame as gomavlib's own writer makes it.
func reference(t testing.TB, m message.Message, v2 bool) []byte {
	t.Helper()
	rw := &message.ReadWriter{Message: m}
	if err := rw.Initialize(); err != nil {
		t.Fatal(err)
	}
	var f frame.Frame
	if v2 {
		v := &frame.V2Frame{SequenceNumber: 200, SystemID: 3, ComponentID: 191, Message: rw.Write(m, true)}
		v.Checksum, f = v.GenerateChecksum(rw.CRCExtra()), v
	} else {
		v := &frame.V1Frame{SequenceNumber: 200, SystemID: 3, ComponentID: 191, Message: rw.Write(m, false)}
		v.Checksum, f = v.GenerateChecksum(rw.CRCExtra()), v
	}
	var out bytes.Buffer
	w := &frame.Writer{ByteWriter: &out}
	if err := w.Initialize(); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(f); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// filled is a message of m's type in which no field is zero. Enumerations and numbers get
// small values, which fit each field; extensions only if asked for.
func filled(m message.Message, extensions bool) message.Message {
	out := reflect.New(reflect.TypeOf(m).Elem())
	var set func(v reflect.Value, i int)
	set = func(v reflect.Value, i int) {
		switch v.Kind() {
		case reflect.Array:
			for k := range v.Len() {
				set(v.Index(k), i+k)
			}
		case reflect.String:
			v.SetString("a")
		case reflect.Float32, reflect.Float64:
			v.SetFloat(float64(i) + 0.5)
		case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			v.SetInt(-int64(i%100 + 1))
		default:
			v.SetUint(uint64(i%100 + 1))
		}
	}
	for i := range out.Elem().NumField() {
		if extensions || out.Elem().Type().Field(i).Tag.Get("mavext") != "true" {
			set(out.Elem().Field(i), i)
		}
	}
	return out.Interface().(message.Message)
}

func TestEveryMessageBothWays(t *testing.T) {
	c := codec.New()
	for _, m := range ardupilotmega.Dialect.Messages {
		empty := reflect.New(reflect.TypeOf(m).Elem()).Interface().(message.Message)
		for _, m := range []message.Message{filled(m, true), filled(m, false), empty} {
			raw, err := c.Encode(3, 191, 200, m)
			if err != nil {
				t.Fatal(err)
			}
			if want := reference(t, m, true); !bytes.Equal(raw, want) {
				t.Fatalf("%T: %x, want %x", m, raw, want)
			}
			got, err := c.Decode(parse(t, raw))
			if err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("%+v, %v, want %+v", got, err, m)
			}
		}
		if m.GetID() > 255 {
			continue // MAVLink 1 has no room for the id
		}
		plain := filled(m, false)
		got, err := c.Decode(parse(t, reference(t, plain, false)))
		if err != nil || !reflect.DeepEqual(got, plain) {
			t.Fatalf("MAVLink 1: %+v, %v, want %+v", got, err, plain)
		}
	}
}

func TestDecodeLeavesTheFrameAlone(t *testing.T) {
	c := codec.New()
	raw, err := c.Encode(1, 1, 0, &common.MessageHeartbeat{CustomMode: 5})
	if err != nil {
		t.Fatal(err)
	}
	// Behind the frame lies another one, as in a read buffer.
	buf := append(bytes.Clone(raw), "another frame, perhaps"...)
	was := bytes.Clone(buf)
	f := &mavlink.Frame{Raw: buf[:len(raw)], Version: 2}
	if _, err := c.Decode(f); err != nil || !bytes.Equal(buf, was) {
		t.Errorf("%v; bytes %x, were %x", err, buf, was)
	}
}

// stranger has the id of a HEARTBEAT and another shape.
type stranger struct{ A, B string }

func (stranger) GetID() uint32 { return 0 }

// private has an id that the dialect does not know.
type private struct{ A uint8 }

func (*private) GetID() uint32 { return 0xABCDEF }

func TestRefusals(t *testing.T) {
	c := codec.New()
	for _, m := range []message.Message{nil, (*common.MessageHeartbeat)(nil), stranger{}, &stranger{}, &private{}, &message.MessageRaw{}} {
		if raw, err := c.Encode(1, 1, 0, m); !errors.Is(err, codec.ErrUnknown) || raw != nil {
			t.Errorf("encode %T: %x, %v", m, raw, err)
		}
	}
	for _, tt := range []struct {
		name string
		raw  []byte
		id   uint32
		want error
	}{
		{"unknown id", []byte{0xFD, 1, 0, 0, 0, 1, 1, 0xEF, 0xCD, 0xAB, 9, 0, 0}, 0xABCDEF, codec.ErrUnknown},
		{"short MAVLink 1", []byte{0xFE, 8, 0, 1, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}, 0, codec.ErrPayload},
		{"long MAVLink 1", []byte{0xFE, 10, 0, 1, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0}, 0, codec.ErrPayload},
		{"cut", []byte{0xFD, 9, 0, 0, 0, 1, 1, 0, 0, 0, 9}, 0, codec.ErrPayload},
		{"nothing", nil, 0, codec.ErrPayload},
	} {
		f, ok := mavlink.ParseFrame(tt.raw)
		if !ok {
			f = mavlink.Frame{Raw: tt.raw, ID: tt.id, Version: 2}
		}
		if m, err := c.Decode(&f); !errors.Is(err, tt.want) || m != nil {
			t.Errorf("%s: %+v, %v", tt.name, m, err)
		}
	}
}

func TestTooLongIsCut(t *testing.T) {
	c := codec.New()
	raw, err := c.Encode(1, 1, 0, &common.MessageStatustext{Severity: 0x1_0000_0003, Text: string(bytes.Repeat([]byte("x"), 90))})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Decode(parse(t, raw))
	if s, ok := m.(*common.MessageStatustext); !ok || err != nil || len(s.Text) != 50 || s.Severity != 3 {
		t.Errorf("%+v, %v", m, err)
	}
}

// FuzzDecode holds for any payload: no panic, and what decodes encodes to a frame that
// decodes to the same.
func FuzzDecode(f *testing.F) {
	c := codec.New()
	for _, m := range ardupilotmega.Dialect.Messages {
		raw, err := c.Encode(1, 1, 0, filled(m, true))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.GetID(), raw[10:len(raw)-2], false)
		f.Add(m.GetID(), raw[10:len(raw)-2], true)
	}
	f.Fuzz(func(t *testing.T, id uint32, payload []byte, old bool) {
		payload = payload[:min(len(payload), 255)]
		id &= 0xFFFFFF
		raw := append([]byte{0xFD, byte(len(payload)), 0, 0, 0, 1, 1, byte(id), byte(id >> 8), byte(id >> 16)}, payload...)
		if old {
			raw = append([]byte{0xFE, byte(len(payload)), 0, 1, 1, byte(id)}, payload...)
		}
		span, ok := mavlink.ParseFrame(append(raw, 0, 0))
		if !ok {
			t.Fatal("no span")
		}
		m, err := c.Decode(&span)
		if err != nil {
			return
		}
		again, err := c.Encode(1, 1, 0, m)
		if err != nil {
			t.Fatal(err)
		}
		second, err := c.Decode(parse(t, again))
		if err != nil || !same(reflect.ValueOf(second), reflect.ValueOf(m)) {
			t.Fatalf("%+v, %v, first %+v", second, err, m)
		}
	})
}

// same compares bit by bit, so that a NaN is like itself.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		return same(a.Elem(), b.Elem())
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Array:
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Float32, reflect.Float64:
		return math.Float64bits(a.Float()) == math.Float64bits(b.Float()) || a.Float() != a.Float() && b.Float() != b.Float()
	}
	return a.Equal(b)
}
