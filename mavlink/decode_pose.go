package mavlink

import (
	"encoding/binary"
	"math"
)

// Ids of messages that tell where a vehicle is and how it and its gimbal are turned.
const (
	MsgAttitude             = 30
	MsgMountOrientation     = 265
	MsgGimbalAttitudeStatus = 285
)

// GlobalPosition is a GLOBAL_POSITION_INT message
// (https://mavlink.io/en/messages/common.html#GLOBAL_POSITION_INT).
type GlobalPosition struct {
	Latitude, Longitude float64 // degrees
	Altitude, Height    float64 // m above mean sea level, above home
	North, East, Down   float64 // m/s
}

// DecodeGlobalPosition decodes f; ok is false if f is no GLOBAL_POSITION_INT.
func DecodeGlobalPosition(f *Frame) (g GlobalPosition, ok bool) {
	var b [28]byte
	if f.ID != MsgGlobalPositionInt || !widen(b[:], f) {
		return g, false
	}
	return GlobalPosition{
		Latitude: float64(i32(b[4:])) / 1e7, Longitude: float64(i32(b[8:])) / 1e7,
		Altitude: float64(i32(b[12:])) / 1000, Height: float64(i32(b[16:])) / 1000,
		North: float64(i16(b[20:])) / 100, East: float64(i16(b[22:])) / 100, Down: float64(i16(b[24:])) / 100,
	}, true
}

// GPSRaw is what a GPS_RAW_INT message tells of its accuracy
// (https://mavlink.io/en/messages/common.html#GPS_RAW_INT).
type GPSRaw struct {
	Fix                  uint8   // GPS_FIX_TYPE: 3 and above are of three dimensions
	Horizontal, Vertical float64 // uncertainty in m; 0: not told
}

// DecodeGPSRaw decodes f; ok is false if f is no GPS_RAW_INT.
func DecodeGPSRaw(f *Frame) (g GPSRaw, ok bool) {
	var base [30]byte // MAVLink 1 has no extensions
	if f.ID != MsgGPSRawInt || !widen(base[:], f) {
		return g, false
	}
	g.Fix = base[28]
	var b [52]byte
	if f.Version == 2 && widen(b[:], f) {
		g.Horizontal = float64(binary.LittleEndian.Uint32(b[34:])) / 1000
		g.Vertical = float64(binary.LittleEndian.Uint32(b[38:])) / 1000
	}
	return g, true
}

// Attitude is an ATTITUDE message (https://mavlink.io/en/messages/common.html#ATTITUDE), or another
// that tells how something is turned. Angles are in degrees; yaw counts from north, clockwise.
type Attitude struct{ Roll, Pitch, Yaw float64 }

// DecodeAttitude decodes f; ok is false if f is no ATTITUDE, or tells no angles.
func DecodeAttitude(f *Frame) (a Attitude, ok bool) {
	var b [28]byte
	if f.ID != MsgAttitude || !widen(b[:], f) {
		return a, false
	}
	const degrees = 180 / math.Pi
	a = Attitude{f32(b[4:]) * degrees, f32(b[8:]) * degrees, f32(b[12:]) * degrees}
	return a, a.finite()
}

// DecodeMountOrientation decodes f; ok is false if f is no MOUNT_ORIENTATION
// (https://mavlink.io/en/messages/common.html#MOUNT_ORIENTATION), or does not tell the yaw from north.
func DecodeMountOrientation(f *Frame) (a Attitude, ok bool) {
	var b [20]byte
	if f.ID != MsgMountOrientation || f.Version == 1 || !widen(b[:], f) {
		return a, false
	}
	a = Attitude{f32(b[4:]), f32(b[8:]), f32(b[16:])} // the last is an extension: yaw_absolute
	return a, a.finite()
}

// gimbalYawInVehicleFrame and gimbalYawInEarthFrame are bits of GIMBAL_DEVICE_FLAGS: from what the yaw
// counts; without either, a locked yaw (bit 4) counts from north.
const (
	gimbalYawLock           = 1 << 4
	gimbalYawInVehicleFrame = 1 << 5
	gimbalYawInEarthFrame   = 1 << 6
)

// DecodeGimbalAttitude decodes f; ok is false if f is no GIMBAL_DEVICE_ATTITUDE_STATUS
// (https://mavlink.io/en/messages/common.html#GIMBAL_DEVICE_ATTITUDE_STATUS). fromVehicle says that
// the yaw counts from the vehicle's nose.
func DecodeGimbalAttitude(f *Frame) (a Attitude, fromVehicle, ok bool) {
	var b [40]byte
	if f.ID != MsgGimbalAttitudeStatus || f.Version == 1 || !widen(b[:], f) {
		return a, false, false
	}
	a = fromQuaternion(f32(b[4:]), f32(b[8:]), f32(b[12:]), f32(b[16:]))
	flags := binary.LittleEndian.Uint16(b[36:])
	earth := flags&gimbalYawInEarthFrame != 0 || flags&gimbalYawInVehicleFrame == 0 && flags&gimbalYawLock != 0
	return a, !earth, a.finite()
}

// fromQuaternion turns a rotation into angles
// (https://mavlink.io/en/services/gimbal_v2.html: w, x, y, z; the zero rotation is 1, 0, 0, 0).
func fromQuaternion(w, x, y, z float64) Attitude {
	n := math.Sqrt(w*w + x*x + y*y + z*z)
	w, x, y, z = w/n, x/n, y/n, z/n // NaN where there is none
	const degrees = 180 / math.Pi
	return Attitude{
		Roll:  math.Atan2(2*(w*x+y*z), 1-2*(x*x+y*y)) * degrees,
		Pitch: math.Asin(min(max(2*(w*y-z*x), -1), 1)) * degrees,
		Yaw:   math.Atan2(2*(w*z+x*y), 1-2*(y*y+z*z)) * degrees,
	}
}

func (a Attitude) finite() bool {
	sum := a.Roll + a.Pitch + a.Yaw
	return !math.IsNaN(sum) && !math.IsInf(sum, 0) && math.Abs(a.Roll)+math.Abs(a.Pitch)+math.Abs(a.Yaw) < 1e6
}

func i16(b []byte) int16   { return int16(binary.LittleEndian.Uint16(b)) }
func i32(b []byte) int32   { return int32(binary.LittleEndian.Uint32(b)) }
func f32(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) }
