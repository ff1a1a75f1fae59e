package camera

import (
	"math"
	"strconv"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

func itoa(n int) string { return strconv.Itoa(n) }

// requests are the commands of before MAV_CMD_REQUEST_MESSAGE, and what they ask for.
var requests = map[common.MAV_CMD]uint32{
	common.MAV_CMD_REQUEST_CAMERA_INFORMATION:    (&common.MessageCameraInformation{}).GetID(),
	common.MAV_CMD_REQUEST_CAMERA_SETTINGS:       (&common.MessageCameraSettings{}).GetID(),
	common.MAV_CMD_REQUEST_STORAGE_INFORMATION:   (&common.MessageStorageInformation{}).GetID(),
	common.MAV_CMD_REQUEST_CAMERA_CAPTURE_STATUS: (&common.MessageCameraCaptureStatus{}).GetID(),
	common.MAV_CMD_REQUEST_CAMERA_IMAGE_CAPTURE:  (&common.MessageCameraImageCaptured{}).GetID(),
}

// answers are the ids that can be asked for.
var answers = map[uint32]bool{
	(&common.MessageCameraInformation{}).GetID(): true, (&common.MessageCameraSettings{}).GetID(): true,
	(&common.MessageStorageInformation{}).GetID(): true, (&common.MessageCameraCaptureStatus{}).GetID(): true,
	(&common.MessageCameraImageCaptured{}).GetID(): true,
}

// requested returns the id of the message that a command asks for.
func requested(m command) (id uint32, known bool) {
	if id, known = requests[m.id]; known {
		return id, true
	}
	if m.id != common.MAV_CMD_REQUEST_MESSAGE || !(m.p[0] >= 0 && m.p[0] < 1<<24) {
		return 0, false
	}
	id = uint32(m.p[0])
	return id, answers[id]
}

// answer sends what a command asked for, behind its acknowledgement.
func (c *Component) answer(i int, m command, result common.MAV_RESULT) {
	if result != common.MAV_RESULT_ACCEPTED {
		return
	}
	id, known := requested(m)
	if !known {
		return
	}
	switch id {
	case (&common.MessageCameraInformation{}).GetID():
		c.say(i, c.information(i))
	case (&common.MessageCameraSettings{}).GetID():
		c.say(i, &common.MessageCameraSettings{TimeBootMs: c.bootMs(), ModeId: c.mode(i), Zoomlevel: nan32(), Focuslevel: nan32()})
	case (&common.MessageStorageInformation{}).GetID():
		c.say(i, c.storage())
	case (&common.MessageCameraCaptureStatus{}).GetID():
		c.say(i, c.captureStatus(i))
	case (&common.MessageCameraImageCaptured{}).GetID():
		c.again(i, m)
	}
}

// again sends what was said of a photo once more, by its index; a negative one or none asks for all
// that are still remembered, which would flood the link: the newest is sent.
func (c *Component) again(i int, m command) {
	u := c.units[i]
	index := m.p[1]
	if m.id == common.MAV_CMD_REQUEST_CAMERA_IMAGE_CAPTURE {
		index = m.p[0]
	}
	if !(index >= 0 && index < 1<<31) {
		index = float64(u.next - 1)
	}
	if p, ok := u.photos[int(index)]; ok {
		c.say(i, c.captured(p))
	}
}

func (c *Component) bootMs() uint32 { return uint32(c.now / time.Millisecond) }

func nan32() float32 { return float32(math.NaN()) }

func (c *Component) mode(i int) common.CAMERA_MODE {
	if c.ctl.State(i).Recording || !c.units[i].info.Photo {
		return common.CAMERA_MODE_VIDEO
	}
	return common.CAMERA_MODE_IMAGE
}

// information says what the camera is. It names neither camera nor board, and no address.
func (c *Component) information(i int) *common.MessageCameraInformation {
	u := c.units[i]
	m := &common.MessageCameraInformation{TimeBootMs: c.bootMs(), FocalLength: nan32(), SensorSizeH: nan32(), SensorSizeV: nan32(),
		ResolutionH: uint16(u.info.Width), ResolutionV: uint16(u.info.Height)}
	copy(m.VendorName[:], "Holdfast")
	copy(m.ModelName[:], "camera-"+itoa(i+1))
	if u.info.Video {
		m.Flags |= common.CAMERA_CAP_FLAGS_CAPTURE_VIDEO
	}
	if u.info.Photo {
		m.Flags |= common.CAMERA_CAP_FLAGS_CAPTURE_IMAGE
	}
	if u.info.Video && u.info.Photo {
		m.Flags |= common.CAMERA_CAP_FLAGS_CAN_CAPTURE_IMAGE_IN_VIDEO_MODE
	}
	return m
}

// storage tells of the medium, in MiB.
func (c *Component) storage() *common.MessageStorageInformation {
	s := c.ctl.Space()
	return &common.MessageStorageInformation{TimeBootMs: c.bootMs(), StorageId: 1, StorageCount: 1, Status: common.STORAGE_STATUS_READY,
		TotalCapacity: mib(s.Total), UsedCapacity: mib(s.Total - s.Free), AvailableCapacity: mib(s.Free),
		ReadSpeed: nan32(), WriteSpeed: nan32(), Type: common.STORAGE_TYPE_OTHER,
		StorageUsage: common.STORAGE_USAGE_FLAG_SET | common.STORAGE_USAGE_FLAG_PHOTO | common.STORAGE_USAGE_FLAG_VIDEO | common.STORAGE_USAGE_FLAG_LOGS}
}

func mib(n int64) float32 { return float32(float64(max(n, 0)) / (1 << 20)) }

func (c *Component) captureStatus(i int) *common.MessageCameraCaptureStatus {
	u, s := c.units[i], c.ctl.State(i)
	m := &common.MessageCameraCaptureStatus{TimeBootMs: c.bootMs(), AvailableCapacity: mib(c.ctl.Space().Free), ImageCount: int32(u.next)}
	if s.Recording {
		m.VideoStatus, m.RecordingTimeMs = 1, uint32(max(c.now-s.Since, 0)/time.Millisecond)
	}
	if u.left != 0 {
		m.ImageStatus, m.ImageInterval = 2, float32(u.interval.Seconds()) // 2: interval set, idle between two
	}
	return m
}

// captured says of a photo that it was taken. Where that was is sealed with it and not said on the
// air: position, attitude and address stay empty.
func (c *Component) captured(p Photo) *common.MessageCameraImageCaptured {
	m := &common.MessageCameraImageCaptured{TimeBootMs: uint32(p.At / time.Millisecond), TimeUtc: uint64(max(p.UTCUsec, 0)), ImageIndex: int32(p.Index),
		CaptureResult: common.MAV_BOOL_FALSE}
	if p.OK {
		m.CaptureResult = common.MAV_BOOL_TRUE
	}
	return m
}
