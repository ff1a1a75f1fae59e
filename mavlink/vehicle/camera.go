package vehicle

import (
	"math/rand/v2"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// photoEvery is the pause between two photos of the survey.
const photoEvery = 1500 * time.Millisecond

// camera is a stills camera on a two-axis gimbal that looks straight down in the survey.
type camera struct {
	rnd     *rand.Rand
	pitch   float64 // rad, of the gimbal
	images  uint32
	last    time.Duration
	pending []message.Message // of the camera, for this step
}

func newCamera(rnd *rand.Rand) *camera { return &camera{rnd: rnd} }

func cameraStreams() []stream {
	var out []stream
	add := func(comp uint8, hz float64, build func(*Vehicle) message.Message) {
		out = append(out, stream{hz: hz, comp: comp, build: build})
	}
	add(cameraID, 1, func(*Vehicle) message.Message { return peripheral(common.MAV_TYPE_CAMERA) })
	add(cameraID, 1, captureStatus)
	add(cameraID, 0.1, cameraInformation)
	add(gimbalID, 1, func(*Vehicle) message.Message { return peripheral(common.MAV_TYPE_GIMBAL) })
	add(gimbalID, 20, gimbalAttitude)
	add(gimbalID, 10, mountOrientation)
	add(gimbalID, 0.1, gimbalInformation)
	return out
}

func peripheral(t common.MAV_TYPE) message.Message {
	return &common.MessageHeartbeat{
		Type: t, Autopilot: common.MAV_AUTOPILOT_INVALID, SystemStatus: common.MAV_STATE_ACTIVE, MavlinkVersion: 3,
	}
}

// step moves the gimbal and takes photos along the survey.
func (c *camera) step(v *Vehicle) {
	want := 0.0
	if v.pilot.phase == surveying {
		want = -1.5708
		if v.now-c.last >= photoEvery {
			c.last = v.now
			c.shoot(v)
		}
	}
	c.pitch += clamp(want-c.pitch, -0.8*tick.Seconds(), 0.8*tick.Seconds())
}

func (c *camera) shoot(v *Vehicle) {
	c.images++
	lat, lon := v.nav.e7(v.position())
	c.pending = append(c.pending,
		&common.MessageCameraTrigger{TimeUsec: v.us(), Seq: c.images},
		&common.MessageCameraImageCaptured{
			TimeBootMs: v.ms(), TimeUtc: uint64(v.utc().UnixMicro()), CameraId: 1, Lat: lat, Lon: lon,
			Alt: millis(v.nav.homeAlt - v.body.pos[2]), RelativeAlt: millis(-v.body.pos[2]), Q: c.quaternion(v),
			ImageIndex: int32(c.images), CaptureResult: 1,
		})
}

func (c *camera) flush(v *Vehicle) {
	for _, m := range c.pending {
		v.send(cameraID, m)
	}
	c.pending = c.pending[:0]
}

// quaternion is where the lens looks: roll is held level, yaw follows the vehicle.
func (c *camera) quaternion(v *Vehicle) [4]float32 { return quaternion(vec{0, c.pitch, v.body.att[2]}) }

func captureStatus(v *Vehicle) message.Message {
	m := &common.MessageCameraCaptureStatus{
		TimeBootMs: v.ms(), AvailableCapacity: float32(59_000 - 12*float64(v.camera.images)), ImageCount: int32(v.camera.images),
	}
	if v.pilot.phase == surveying {
		m.ImageStatus, m.ImageInterval = 3, float32(photoEvery.Seconds())
	}
	return m
}

func cameraInformation(v *Vehicle) message.Message {
	m := &common.MessageCameraInformation{
		TimeBootMs: v.ms(), FirmwareVersion: 0x00020104, FocalLength: 16, SensorSizeH: 23.5, SensorSizeV: 15.6,
		ResolutionH: 6000, ResolutionV: 4000, LensId: 1, Flags: common.CAMERA_CAP_FLAGS_CAPTURE_IMAGE, GimbalDeviceId: gimbalID,
	}
	copy(m.VendorName[:], "Holdfast bench")
	copy(m.ModelName[:], "Stills 24")
	return m
}

func gimbalAttitude(v *Vehicle) message.Message {
	noise := func() float32 { return float32(0.002 * v.camera.rnd.NormFloat64()) }
	return &common.MessageGimbalDeviceAttitudeStatus{
		TimeBootMs: v.ms(), Flags: common.GIMBAL_DEVICE_FLAGS_ROLL_LOCK | common.GIMBAL_DEVICE_FLAGS_PITCH_LOCK, Q: v.camera.quaternion(v),
		AngularVelocityX: noise(), AngularVelocityY: noise(), AngularVelocityZ: float32(v.body.attRate[2]) + noise(),
	}
}

func mountOrientation(v *Vehicle) message.Message {
	return &common.MessageMountOrientation{
		TimeBootMs: v.ms(), Pitch: float32(degrees(v.camera.pitch)), YawAbsolute: float32(degrees360(v.body.att[2])),
	}
}

func gimbalInformation(v *Vehicle) message.Message {
	return &common.MessageGimbalDeviceInformation{
		TimeBootMs: v.ms(), VendorName: "Holdfast bench", ModelName: "Two axes", FirmwareVersion: 0x00010302, HardwareVersion: 2,
		Uid: v.opt.Seed | 1, CapFlags: common.GIMBAL_DEVICE_CAP_FLAGS_HAS_PITCH_AXIS | common.GIMBAL_DEVICE_CAP_FLAGS_HAS_ROLL_AXIS,
		RollMin: -0.7, RollMax: 0.7, PitchMin: -1.6, PitchMax: 0.5,
	}
}
