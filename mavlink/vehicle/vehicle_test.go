package vehicle_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialect"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/frame"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink/vehicle"
)

var stacks = []vehicle.Stack{vehicle.ArduPilot, vehicle.PX4}

var start = time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)

var dialectRW = sync.OnceValue(func() *dialect.ReadWriter {
	rw := &dialect.ReadWriter{Dialect: ardupilotmega.Dialect}
	if err := rw.Initialize(); err != nil {
		panic(err)
	}
	return rw
})

// heard is one frame as gomavlib's own reader understands it.
type heard struct {
	at    time.Duration
	frame *frame.V2Frame
	size  int
}

// fly runs a whole flight and parses it back; every frame must be known and right.
func fly(t *testing.T, o vehicle.Options) []heard {
	t.Helper()
	v, err := vehicle.New(o)
	if err != nil {
		t.Fatal(err)
	}
	var sent []vehicle.Emission
	var wire bytes.Buffer
	for e, ok := v.Next(); ok; e, ok = v.Next() {
		sent = append(sent, e)
		wire.Write(e.Raw)
	}
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	r := &frame.Reader{ByteReader: &wire, DialectRW: dialectRW()}
	if err := r.Initialize(); err != nil {
		t.Fatal(err)
	}
	var out []heard
	for i := range sent {
		f, err := r.Read()
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if raw, ok := f.GetMessage().(*message.MessageRaw); ok {
			t.Fatalf("frame %d: message %d is in no dialect", i, raw.ID)
		}
		out = append(out, heard{sent[i].At, f.(*frame.V2Frame), len(sent[i].Raw)})
	}
	if _, err := r.Read(); err != io.EOF {
		t.Fatalf("after the last frame: %v", err)
	}
	return out
}

// of keeps the messages of one type from component 1, with their times.
func of[M message.Message](all []heard) (msgs []M, at []time.Duration) {
	for _, h := range all {
		if m, ok := h.frame.Message.(M); ok && h.frame.ComponentID == 1 {
			msgs, at = append(msgs, m), append(at, h.at)
		}
	}
	return msgs, at
}

func TestStreamFitsTheLine(t *testing.T) {
	for _, stack := range stacks {
		t.Run(stack.String(), func(t *testing.T) {
			const length = 30 * time.Second
			all := fly(t, vehicle.Options{Stack: stack, Seed: 3, Duration: length, Start: start})
			types := map[uint32]int{}
			total := 0
			var last time.Duration
			for i, h := range all {
				// Ten bit times a byte: no frame may end before the line could carry it.
				if gap := h.at - last; gap < time.Duration(h.size)*10*time.Second/921600-time.Microsecond || h.at > length {
					t.Fatalf("frame %d of %d bytes ends at %v, the one before at %v", i, h.size, h.at, last)
				}
				last = h.at
				total += h.size
				types[h.frame.Message.GetID()]++
			}
			if n := len(types); n < 40 {
				t.Errorf("%d message types", n)
			}
			if r := float64(len(all)) / length.Seconds(); r < 740 || r > 850 {
				t.Errorf("%.0f frames a second", r)
			}
			if mean := float64(total) / float64(len(all)); mean < 50 || mean > 62 {
				t.Errorf("%.1f bytes a frame", mean)
			}
			for id, hz := range map[uint32]float64{0: 1, 30: 50, 24: 10, 33: 50, 105: 100} {
				// The position streams of PX4 begin when there is a position.
				if got := float64(types[id]) / length.Seconds(); got < hz*0.8 || got > hz*1.3 {
					t.Errorf("message %d at %.2f Hz, want %v", id, got, hz)
				}
			}
		})
	}
}

func TestSequencePerComponent(t *testing.T) {
	all := fly(t, vehicle.Options{Duration: 30 * time.Second, Camera: true, System: 7})
	next := map[byte]byte{}
	count := map[byte]int{}
	for i, h := range all {
		c := h.frame.ComponentID
		if h.frame.SystemID != 7 || h.frame.SequenceNumber != next[c] {
			t.Fatalf("frame %d: system %d component %d sequence %d, want %d", i, h.frame.SystemID, c, h.frame.SequenceNumber, next[c])
		}
		next[c]++
		count[c]++
		if m, ok := h.frame.Message.(*common.MessageHeartbeat); ok && (m.Autopilot == common.MAV_AUTOPILOT_INVALID) != (c != 1) {
			t.Fatalf("heartbeat of component %d says autopilot %v", c, m.Autopilot)
		}
	}
	if count[100] < 60 || count[154] < 800 || len(count) != 3 {
		t.Errorf("frames by component: %v", count)
	}
}

func TestCameraFollowsTheSurvey(t *testing.T) {
	photos := 0
	for _, h := range fly(t, vehicle.Options{Duration: 40 * time.Second, Camera: true, Start: start}) {
		m, ok := h.frame.Message.(*common.MessageCameraImageCaptured)
		if !ok {
			continue
		}
		photos++
		if m.ImageIndex != int32(photos) || m.RelativeAlt < 3000 || h.frame.ComponentID != 100 {
			t.Errorf("photo %d: %+v", photos, m)
		}
	}
	if photos < 5 {
		t.Errorf("%d photos", photos)
	}
}

func digest(t *testing.T, o vehicle.Options, component byte) [32]byte {
	t.Helper()
	v, err := vehicle.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for e, ok := v.Next(); ok; e, ok = v.Next() {
		if component == 0 {
			fmt.Fprintln(h, e.At)
		}
		if component == 0 || e.Raw[6] == component {
			h.Write(e.Raw)
		}
	}
	return [32]byte(h.Sum(nil))
}

func TestSameOptionsSameBytes(t *testing.T) {
	for _, stack := range stacks {
		o := vehicle.Options{Stack: stack, Seed: 9, Duration: 14 * time.Second, Start: start}
		base := digest(t, o, 0)
		if digest(t, o, 0) != base {
			t.Errorf("%v: two flights of the same options differ", stack)
		}
		alone := digest(t, o, 1)
		other := o
		other.Seed = 10
		if digest(t, other, 0) == base {
			t.Errorf("%v: another seed gives the same flight", stack)
		}
		other = o
		other.Camera = true
		if digest(t, other, 1) != alone {
			t.Errorf("%v: a camera changes what component 1 says", stack)
		}
	}
}

func TestParametersOnce(t *testing.T) {
	for _, stack := range stacks {
		words := vehicle.ParamWords(stack)
		params, at := of[*common.MessageParamValue](fly(t, vehicle.Options{Stack: stack, Duration: 12 * time.Second}))
		if len(params) != len(words)/2 || len(words)%2 != 0 {
			t.Fatalf("%v: %d parameters of %d words", stack, len(params), len(words))
		}
		for i, p := range params {
			if p.ParamId != words[2*i] || len(p.ParamId) > 16 || int(p.ParamIndex) != i || int(p.ParamCount) != len(params) {
				t.Errorf("%v: parameter %d is %+v", stack, i, p)
			}
			var want float64
			if _, err := fmt.Sscan(words[2*i+1], &want); err != nil {
				t.Errorf("%v: %s = %s: %v", stack, words[2*i], words[2*i+1], err)
			}
			if p.ParamType == common.MAV_PARAM_TYPE_REAL32 && p.ParamValue != float32(want) {
				t.Errorf("%v: %s is %v, want %v", stack, p.ParamId, p.ParamValue, want)
			}
		}
		if last := at[len(at)-1]; last > 4*time.Second {
			t.Errorf("%v: the burst lasts until %v", stack, last)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		o    vehicle.Options
		want error
	}{
		{vehicle.Options{}, nil},
		{vehicle.Options{Stack: vehicle.PX4, Duration: 1}, nil},
		{vehicle.Options{Stack: 2}, vehicle.ErrStack},
		{vehicle.Options{Stack: -1}, vehicle.ErrStack},
		{vehicle.Options{Duration: -1}, vehicle.ErrDuration},
	} {
		if _, err := vehicle.New(tt.o); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.o, err, tt.want)
		}
	}
	for _, s := range stacks {
		if got, err := vehicle.ParseStack(s.String()); got != s || err != nil {
			t.Errorf("%v: %v, %v", s, got, err)
		}
	}
	if _, err := vehicle.ParseStack("inav"); !errors.Is(err, vehicle.ErrStack) {
		t.Errorf("inav: %v", err)
	}
}

func TestFramesMayBeKept(t *testing.T) {
	v, err := vehicle.New(vehicle.Options{Duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := v.Next()
	was := bytes.Clone(first.Raw)
	for _, ok := v.Next(); ok; _, ok = v.Next() {
	}
	if !bytes.Equal(first.Raw, was) {
		t.Error("a frame changed after it was given out")
	}
}

// BenchmarkFlight is the cost of one second of flight, frames included.
func BenchmarkFlight(b *testing.B) {
	for _, stack := range stacks {
		b.Run(stack.String(), func(b *testing.B) {
			v, err := vehicle.New(vehicle.Options{Stack: stack})
			if err != nil {
				b.Fatal(err)
			}
			frames := 0
			for i := 1; b.Loop(); i++ {
				for e, _ := v.Next(); e.At < time.Duration(i)*time.Second; e, _ = v.Next() {
					frames++
				}
			}
			b.ReportMetric(float64(frames)/float64(b.N), "frames/op")
		})
	}
}
