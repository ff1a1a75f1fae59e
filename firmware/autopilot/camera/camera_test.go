package camera_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/firmware/autopilot/camera"
	"holdfast/mavlink"
	"holdfast/mavlink/codec"
)

// bench is a board with two cameras: one that waits for commands, one that films always and takes
// no photos.
type bench struct {
	*camera.Component
	now    time.Duration
	full   bool            // the link takes nothing
	never  message.Message // nor ever a message of this type
	sent   []message.Message
	from   []uint8
	calls  []string
	events []string
	states [2]camera.State

	codec   *codec.Codec
	list    *allow.List
	outside []error // of what was sent, what the allow-list refuses
}

func newBench(t *testing.T) *bench {
	b := &bench{now: time.Second, codec: codec.New(), list: allow.New(allow.Options{Camera: true})}
	b.list.SetSystem(1)
	t.Cleanup(func() {
		if len(b.outside) > 0 {
			t.Errorf("said outside the allow-list: %v", b.outside)
		}
	})
	b.Component = camera.New(b, b, func() uint8 { return 1 }, []camera.Info{
		{Name: "front", Video: true, Photo: true, Width: 1280, Height: 720, Commanded: true}, {Name: "down", Video: true}})
	return b
}

func (b *bench) Send(comp uint8, m message.Message) bool {
	if b.full || b.never != nil && b.never.GetID() == m.GetID() {
		return false
	}
	b.sent, b.from = append(b.sent, m), append(b.from, comp)
	raw, err := b.codec.Encode(1, comp, 0, m)
	if err == nil {
		err = b.list.Check(raw, true)
	}
	if err != nil {
		b.outside = append(b.outside, err)
	}
	return true
}

func (b *bench) call(format string, args ...any) bool {
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
	return true
}

func (b *bench) StartVideo(i int) bool {
	b.states[i].Recording, b.states[i].Since = true, b.now
	return b.call("film %d", i)
}
func (b *bench) StopVideo(i int) bool {
	b.states[i].Recording = false
	return b.call("stop %d", i)
}
func (b *bench) Shoot(i int, gap time.Duration, count, first int, trigger string) bool {
	return b.call("shoot %d %v %d %d %s", i, gap, count, first, trigger)
}
func (b *bench) StopShooting(i int)       { b.call("enough %d", i) }
func (b *bench) State(i int) camera.State { return b.states[i] }
func (b *bench) Space() camera.Space      { return camera.Space{Total: 100 << 20, Free: 40 << 20} }
func (b *bench) Event(kind, _ string)     { b.events = append(b.events, kind) }

// command sends a COMMAND_LONG from a ground station and returns the answers, without heartbeats.
func (b *bench) command(comp uint8, cmd common.MAV_CMD, params ...float32) (got []message.Message) {
	m := &common.MessageCommandLong{TargetSystem: 1, TargetComponent: comp, Command: cmd}
	for i, p := range []*float32{&m.Param1, &m.Param2, &m.Param3, &m.Param4} {
		if i < len(params) {
			*p = params[i]
		}
	}
	b.Handle(m, &mavlink.Frame{System: 255, Component: 190, At: b.now})
	return b.step()
}

func (b *bench) step() (got []message.Message) {
	from := len(b.sent)
	b.Step(b.now)
	for _, m := range b.sent[from:] {
		if _, beat := m.(*common.MessageHeartbeat); !beat {
			got = append(got, m)
		}
	}
	return got
}

func ack(t *testing.T, got []message.Message, want common.MAV_RESULT) {
	t.Helper()
	if len(got) == 0 {
		t.Fatalf("no answer, want %v", want)
	}
	a, ok := got[0].(*common.MessageCommandAck)
	if !ok || a.Result != want || a.TargetSystem != 255 || a.TargetComponent != 190 {
		t.Errorf("answer %+v, want %v", got[0], want)
	}
}

// TestCommands: each command of the camera protocol, what it does and what is answered.
func TestCommands(t *testing.T) {
	const (
		ok     = common.MAV_RESULT_ACCEPTED
		denied = common.MAV_RESULT_DENIED
		no     = common.MAV_RESULT_UNSUPPORTED
		later  = common.MAV_RESULT_TEMPORARILY_REJECTED
	)
	nan := float32(math.NaN())
	for _, c := range []struct {
		name   string
		comp   uint8
		cmd    common.MAV_CMD
		params []float32
		result common.MAV_RESULT
		calls  []string
	}{
		{"one photo", 100, common.MAV_CMD_IMAGE_START_CAPTURE, []float32{0, 0, 1, 1}, ok, []string{"shoot 0 100ms 1 0 command"}},
		{"a row", 100, common.MAV_CMD_IMAGE_START_CAPTURE, []float32{0, 2, 5}, ok, []string{"shoot 0 2s 5 0 interval"}},
		{"without end", 100, common.MAV_CMD_IMAGE_START_CAPTURE, []float32{0, 0.5, 0}, ok, []string{"shoot 0 500ms 0 0 interval"}},
		{"no number", 100, common.MAV_CMD_IMAGE_START_CAPTURE, []float32{0, nan, 5}, denied, nil},
		{"minus one", 100, common.MAV_CMD_IMAGE_START_CAPTURE, []float32{0, 1, -1}, denied, nil},
		{"a camera without photos", 101, common.MAV_CMD_IMAGE_START_CAPTURE, []float32{0, 0, 1}, no, nil},
		{"enough", 100, common.MAV_CMD_IMAGE_STOP_CAPTURE, nil, ok, []string{"enough 0"}},
		{"film", 100, common.MAV_CMD_VIDEO_START_CAPTURE, nil, ok, []string{"film 0"}},
		{"cut", 100, common.MAV_CMD_VIDEO_STOP_CAPTURE, nil, ok, []string{"stop 0"}},
		{"a film that the configuration wants", 101, common.MAV_CMD_VIDEO_STOP_CAPTURE, nil, denied, nil},
		{"a film that comes by itself", 101, common.MAV_CMD_VIDEO_START_CAPTURE, nil, later, nil},
		{"format", 100, common.MAV_CMD_STORAGE_FORMAT, []float32{1, 1}, denied, nil},
		{"mode", 100, common.MAV_CMD_SET_CAMERA_MODE, nil, ok, nil},
		{"trigger control", 100, common.MAV_CMD_DO_TRIGGER_CONTROL, nil, no, nil},
		{"the old shutter, not pressed", 100, common.MAV_CMD_DO_DIGICAM_CONTROL, nil, no, nil},
		{"a message that is not ours", 100, common.MAV_CMD_REQUEST_MESSAGE, []float32{0}, no, nil},
		{"a message that is none", 100, common.MAV_CMD_REQUEST_MESSAGE, []float32{nan}, no, nil},
	} {
		b := newBench(t)
		ack(t, b.command(c.comp, c.cmd, c.params...), c.result)
		if !slices.Equal(b.calls, c.calls) {
			t.Errorf("%s: %q, want %q", c.name, b.calls, c.calls)
		}
	}
}

// TestNothingHoldsUpTheOthers: what may not go out is given up, and the rest goes.
func TestNothingHoldsUpTheOthers(t *testing.T) {
	b := newBench(t)
	b.full = true
	if got := b.command(100, common.MAV_CMD_REQUEST_CAMERA_INFORMATION); len(got) != 0 {
		t.Fatalf("%d answers on a link that takes nothing", len(got))
	}
	b.now += time.Second
	b.step()
	b.never = &common.MessageCommandAck{} // what waits first
	b.full = false
	if got := b.step(); len(got) != 0 {
		t.Errorf("%d answers went past one that waits", len(got))
	}
	b.now += 2 * time.Second
	if got := b.step(); len(got) != 1 {
		t.Errorf("%d answers, want the one behind", len(got))
	}
}

// TestNotOurs: commands for others are not answered, broadcasts by those that can.
func TestNotOurs(t *testing.T) {
	b := newBench(t)
	for _, comp := range []uint8{1, 99, 102, 191} {
		if got := b.command(comp, common.MAV_CMD_IMAGE_START_CAPTURE, 0, 0, 1); len(got) != 0 {
			t.Errorf("component %d: %v", comp, got)
		}
	}
	for _, cmd := range []common.MAV_CMD{common.MAV_CMD_COMPONENT_ARM_DISARM, common.MAV_CMD_VIDEO_START_STREAMING, 0, 65535} {
		if got := b.command(100, cmd, 1); len(got) != 0 || len(b.calls) != 0 {
			t.Errorf("command %d: %v %q", cmd, got, b.calls)
		}
	}
	b.Handle(&common.MessageCommandLong{TargetSystem: 1, TargetComponent: 100, Command: common.MAV_CMD_DO_DIGICAM_CONTROL, Param5: 1}, &mavlink.Frame{System: 255, Component: 190})
	ack(t, b.step(), common.MAV_RESULT_ACCEPTED)
	if want := []string{"shoot 0 100ms 1 0 command"}; !slices.Equal(b.calls, want) {
		t.Errorf("the old shutter: %q", b.calls)
	}
	b.calls = nil
	b.Handle(&common.MessageCommandLong{TargetSystem: 2, TargetComponent: 100, Command: common.MAV_CMD_VIDEO_START_CAPTURE}, &mavlink.Frame{})
	if got := b.step(); len(got) != 0 || len(b.calls) != 0 {
		t.Errorf("another system's: %v %q", got, b.calls)
	}
	if got := b.command(0, common.MAV_CMD_NAV_TAKEOFF); len(got) != 0 {
		t.Errorf("a broadcast that is not for cameras: %v", got)
	}
	if got := b.command(0, common.MAV_CMD_REQUEST_CAMERA_INFORMATION); len(got) != 4 {
		t.Errorf("%d answers of two cameras, want 4", len(got))
	}
}

// TestAnswers: what can be asked for, by both generations of commands, and what is in it.
func TestAnswers(t *testing.T) {
	b := newBench(t)
	b.Captured(0, camera.Photo{Index: 0, At: 1500 * time.Millisecond, UTCUsec: 1_790_000_000_000_000, OK: true})
	b.step()
	for _, c := range []struct {
		id  uint32
		old common.MAV_CMD
	}{{259, common.MAV_CMD_REQUEST_CAMERA_INFORMATION}, {260, common.MAV_CMD_REQUEST_CAMERA_SETTINGS}, {261, common.MAV_CMD_REQUEST_STORAGE_INFORMATION},
		{262, common.MAV_CMD_REQUEST_CAMERA_CAPTURE_STATUS}, {263, common.MAV_CMD_REQUEST_CAMERA_IMAGE_CAPTURE}} {
		for _, got := range [][]message.Message{b.command(100, common.MAV_CMD_REQUEST_MESSAGE, float32(c.id)), b.command(100, c.old)} {
			ack(t, got, common.MAV_RESULT_ACCEPTED)
			if len(got) != 2 || got[1].GetID() != c.id {
				t.Errorf("%d: %+v", c.id, got)
			}
		}
	}
	i := b.command(100, common.MAV_CMD_REQUEST_MESSAGE, 259)[1].(*common.MessageCameraInformation)
	if i.ResolutionH != 1280 || i.CamDefinitionUri != "" || i.Flags != common.CAMERA_CAP_FLAGS_CAPTURE_VIDEO|common.CAMERA_CAP_FLAGS_CAPTURE_IMAGE|common.CAMERA_CAP_FLAGS_CAN_CAPTURE_IMAGE_IN_VIDEO_MODE {
		t.Errorf("%+v", i)
	}
	s := b.command(100, common.MAV_CMD_REQUEST_MESSAGE, 261)[1].(*common.MessageStorageInformation)
	if s.TotalCapacity != 100 || s.AvailableCapacity != 40 || s.UsedCapacity != 60 || s.Name != "" {
		t.Errorf("%+v", s)
	}
	p := b.command(100, common.MAV_CMD_REQUEST_MESSAGE, 263, 0)[1].(*common.MessageCameraImageCaptured)
	if p.ImageIndex != 0 || p.TimeBootMs != 1500 || p.TimeUtc != 1_790_000_000_000_000 || p.CaptureResult != common.MAV_BOOL_TRUE || p.FileUrl != "" || p.Lat != 0 || p.Lon != 0 {
		t.Errorf("%+v", p)
	}
	if got := b.command(100, common.MAV_CMD_REQUEST_MESSAGE, 263, 7); len(got) != 1 {
		t.Errorf("a photo that is not there: %v", got)
	}
}

// TestCaptureStatus goes with what the camera does.
func TestCaptureStatus(t *testing.T) {
	b := newBench(t)
	status := func() *common.MessageCameraCaptureStatus {
		return b.command(100, common.MAV_CMD_REQUEST_MESSAGE, 262)[1].(*common.MessageCameraCaptureStatus)
	}
	if s := status(); s.ImageStatus != 0 || s.VideoStatus != 0 || s.ImageCount != 0 {
		t.Errorf("%+v", s)
	}
	b.command(100, common.MAV_CMD_VIDEO_START_CAPTURE)
	b.command(100, common.MAV_CMD_IMAGE_START_CAPTURE, 0, 2, 2)
	b.now += 3 * time.Second
	if s := status(); s.ImageStatus != 2 || s.ImageInterval != 2 || s.VideoStatus != 1 || s.RecordingTimeMs != 3000 {
		t.Errorf("%+v", s)
	}
	b.Captured(0, camera.Photo{Index: 0, OK: true})
	b.Captured(0, camera.Photo{Index: 1})
	b.step()
	if s := status(); s.ImageStatus != 0 || s.ImageInterval != 0 || s.ImageCount != 2 {
		t.Errorf("%+v", s)
	}
}

// TestRepetition: a command whose answer was lost takes no second photo; the next index follows the
// last photo, and a photo that failed is told as that.
func TestRepetition(t *testing.T) {
	b := newBench(t)
	for range 3 {
		ack(t, b.command(100, common.MAV_CMD_IMAGE_START_CAPTURE, 0, 0, 1, 9), common.MAV_RESULT_ACCEPTED)
	}
	b.Captured(0, camera.Photo{Index: 0})
	got := b.step()
	if m := got[0].(*common.MessageCameraImageCaptured); m.CaptureResult != common.MAV_BOOL_FALSE {
		t.Errorf("%+v", m)
	}
	b.command(100, common.MAV_CMD_IMAGE_START_CAPTURE, 0, 0, 1, 10)
	if want := []string{"shoot 0 100ms 1 0 command", "shoot 0 100ms 1 1 command"}; !slices.Equal(b.calls, want) {
		t.Errorf("%q", b.calls)
	}
}

// TestTrigger: the autopilot's triggers take a photo each, said twice or not; missed ones are told.
func TestTrigger(t *testing.T) {
	b := newBench(t)
	for _, seq := range []uint32{1, 1, 2, 5} {
		b.Handle(&common.MessageCameraTrigger{Seq: seq}, &mavlink.Frame{})
	}
	if len(b.calls) != 3 || !strings.HasSuffix(b.calls[0], "trigger") || !slices.Equal(b.events, []string{"camera_triggers_missed"}) {
		t.Errorf("%q %q", b.calls, b.events)
	}
}

// TestNothingDestroyed: whatever is asked, nothing of Control is called that could delete, and a denied
// format is an event.
func TestNothingDestroyed(t *testing.T) {
	b := newBench(t)
	b.command(0, common.MAV_CMD_STORAGE_FORMAT, 1, 1, 1)
	if !slices.Equal(b.events, []string{"storage_format_denied", "storage_format_denied"}) || len(b.calls) != 0 {
		t.Errorf("%q %q", b.events, b.calls)
	}
}

// TestFullLink: nothing grows without bounds, and what waits goes out later.
func TestFullLink(t *testing.T) {
	b := newBench(t)
	b.full = true
	for range 10_000 {
		b.command(100, common.MAV_CMD_REQUEST_MESSAGE, 259)
		b.Captured(0, camera.Photo{Index: -1, OK: true})
	}
	b.full = false
	if got := b.step(); len(got) == 0 || len(got) > 64 {
		t.Errorf("%d messages waited", len(got))
	}
}

// FuzzHandle: no message makes it panic, or say anything but what a camera says.
func FuzzHandle(f *testing.F) {
	f.Add(uint8(0), uint16(2000), float32(1), float32(2), float32(3), int32(4))
	f.Add(uint8(100), uint16(512), float32(263), float32(math.Inf(1)), float32(-1), int32(-4))
	f.Add(uint8(101), uint16(2002), float32(-1), float32(1e30), float32(math.NaN()), int32(0))
	said := []reflect.Type{reflect.TypeFor[*common.MessageHeartbeat](), reflect.TypeFor[*common.MessageCommandAck](), reflect.TypeFor[*common.MessageCameraInformation](),
		reflect.TypeFor[*common.MessageCameraSettings](), reflect.TypeFor[*common.MessageStorageInformation](), reflect.TypeFor[*common.MessageCameraCaptureStatus](),
		reflect.TypeFor[*common.MessageCameraImageCaptured]()}
	f.Fuzz(func(t *testing.T, comp uint8, cmd uint16, p1, p2, p3 float32, x int32) {
		b := newBench(t)
		b.Handle(&common.MessageCommandLong{TargetSystem: 1, TargetComponent: comp, Command: common.MAV_CMD(cmd), Param1: p1, Param2: p2, Param3: p3, Param4: float32(x)}, &mavlink.Frame{})
		b.Handle(&common.MessageCommandInt{TargetComponent: comp, Command: common.MAV_CMD(cmd), Param1: p1, Param2: p2, X: x, Z: p3}, &mavlink.Frame{})
		b.Handle(&common.MessageCameraTrigger{Seq: uint32(x)}, &mavlink.Frame{})
		for _, m := range ardupilotmega.Dialect.Messages[:5] {
			b.Handle(m, &mavlink.Frame{})
		}
		b.Captured(int(x), camera.Photo{Index: int(x)})
		b.Captured(0, camera.Photo{Index: int(x)})
		b.Step(b.now)
		for _, m := range b.sent {
			if !slices.Contains(said, reflect.TypeOf(m)) {
				t.Errorf("said %T", m)
			}
		}
	})
}
