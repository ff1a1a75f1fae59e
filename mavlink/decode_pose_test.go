package mavlink_test

import (
	"math"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
)

// frameOf makes a frame with the payload that gomavlib writes.
func frameOf(t *testing.T, m message.Message, v2 bool) *mavlink.Frame {
	t.Helper()
	rw := &message.ReadWriter{Message: m}
	if err := rw.Initialize(); err != nil {
		t.Fatal(err)
	}
	p := rw.Write(m, v2).Payload
	id := m.GetID()
	raw := []byte{0xFD, byte(len(p)), 0, 0, 0, 1, 1, byte(id), byte(id >> 8), byte(id >> 16)}
	f := &mavlink.Frame{ID: id, Version: 2}
	if !v2 {
		raw, f.Version = []byte{0xFE, byte(len(p)), 0, 1, 1, byte(id)}, 1
	}
	f.Raw = append(append(raw, p...), 0, 0)
	return f
}

func near(a, b mavlink.Attitude) bool {
	return math.Abs(a.Roll-b.Roll) < 1e-3 && math.Abs(a.Pitch-b.Pitch) < 1e-3 && math.Abs(a.Yaw-b.Yaw) < 1e-3
}

// TestDecodePose compares with what gomavlib encodes.
func TestDecodePose(t *testing.T) {
	for _, v2 := range []bool{true, false} {
		g, ok := mavlink.DecodeGlobalPosition(frameOf(t, &ardupilotmega.MessageGlobalPositionInt{TimeBootMs: 5, Lat: 473977418, Lon: -85455939, Alt: 488123, RelativeAlt: -1500,
			Vx: 1200, Vy: -300, Vz: 50, Hdg: 9}, v2))
		if want := (mavlink.GlobalPosition{47.3977418, -8.5455939, 488.123, -1.5, 12, -3, 0.5}); !ok || g != want {
			t.Errorf("%+v, %v", g, ok)
		}
		raw, ok := mavlink.DecodeGPSRaw(frameOf(t, &ardupilotmega.MessageGpsRawInt{FixType: 6, HAcc: 1234, VAcc: 2500, VelAcc: 7, HdgAcc: 8, Alt: 3, SatellitesVisible: 12}, v2))
		if want := map[bool]mavlink.GPSRaw{true: {6, 1.234, 2.5}, false: {6, 0, 0}}[v2]; !ok || raw != want {
			t.Errorf("%+v, %v", raw, ok)
		}
		a, ok := mavlink.DecodeAttitude(frameOf(t, &ardupilotmega.MessageAttitude{TimeBootMs: 1, Roll: math.Pi / 6, Pitch: -math.Pi / 4, Yaw: math.Pi / 2, Rollspeed: 3}, v2))
		if !ok || !near(a, mavlink.Attitude{Roll: 30, Pitch: -45, Yaw: 90}) {
			t.Errorf("%+v, %v", a, ok)
		}
	}
	a, ok := mavlink.DecodeMountOrientation(frameOf(t, &ardupilotmega.MessageMountOrientation{Roll: 1, Pitch: -90, Yaw: 5, YawAbsolute: 123}, true))
	if !ok || !near(a, mavlink.Attitude{Roll: 1, Pitch: -90, Yaw: 123}) {
		t.Errorf("%+v, %v", a, ok)
	}
	// 30 degrees of yaw, then -60 of pitch.
	q := [4]float32{float32(math.Cos(math.Pi/12) * math.Cos(math.Pi/6)), float32(math.Sin(math.Pi/12) * math.Sin(math.Pi/6)),
		-float32(math.Cos(math.Pi/12) * math.Sin(math.Pi/6)), float32(math.Sin(math.Pi/12) * math.Cos(math.Pi/6))}
	for flags, vehicle := range map[ardupilotmega.GIMBAL_DEVICE_FLAGS]bool{0: true, 16: false, 32: true, 64: false, 32 | 16: true} {
		a, from, ok := mavlink.DecodeGimbalAttitude(frameOf(t, &ardupilotmega.MessageGimbalDeviceAttitudeStatus{TargetSystem: 1, TimeBootMs: 9, Flags: flags, Q: q, FailureFlags: 1}, true))
		if !ok || from != vehicle || !near(a, mavlink.Attitude{Pitch: -60, Yaw: 30}) {
			t.Errorf("flags %d: %+v, %v, %v", flags, a, from, ok)
		}
	}
	if _, _, ok := mavlink.DecodeGimbalAttitude(frameOf(t, &ardupilotmega.MessageGimbalDeviceAttitudeStatus{}, true)); ok {
		t.Error("no rotation is taken for one")
	}
	if _, ok := mavlink.DecodeAttitude(frameOf(t, &ardupilotmega.MessageAttitude{Roll: float32(math.NaN())}, true)); ok {
		t.Error("NaN is taken for an angle")
	}
}
