package mavlink

import "encoding/binary"

// Ids of messages that programs here name.
const (
	MsgHeartbeat         = 0
	MsgSystemTime        = 2
	MsgGPSRawInt         = 24
	MsgGlobalPositionInt = 33
	MsgCommandLong       = 76
	MsgCommandAck        = 77
	MsgTimesync          = 111
	MsgAutopilotVersion  = 148
	MsgStatustext        = 253
)

// armedFlag is MAV_MODE_FLAG_SAFETY_ARMED, a bit of HEARTBEAT.base_mode.
const armedFlag = 0x80

// Heartbeat is a HEARTBEAT message (https://mavlink.io/en/messages/common.html#HEARTBEAT).
type Heartbeat struct {
	Type         uint8 // MAV_TYPE
	Autopilot    uint8 // MAV_AUTOPILOT; 8 is a component that is no autopilot
	BaseMode     uint8 // MAV_MODE_FLAG bits
	SystemStatus uint8 // MAV_STATE
	CustomMode   uint32
}

// Armed reports whether the sender says that its motors may run.
func (h Heartbeat) Armed() bool { return h.BaseMode&armedFlag != 0 }

// DecodeHeartbeat decodes f; ok is false if f is no HEARTBEAT.
func DecodeHeartbeat(f *Frame) (h Heartbeat, ok bool) {
	var b [9]byte
	if f.ID != MsgHeartbeat || !widen(b[:], f) {
		return Heartbeat{}, false
	}
	return Heartbeat{
		CustomMode:   binary.LittleEndian.Uint32(b[0:]),
		Type:         b[4],
		Autopilot:    b[5],
		BaseMode:     b[6],
		SystemStatus: b[7],
	}, true
}

// SystemTime is a SYSTEM_TIME message (https://mavlink.io/en/messages/common.html#SYSTEM_TIME).
type SystemTime struct {
	UnixUsec uint64 // microseconds since 1970; 0 or near it while the sender does not know
	BootMs   uint32 // milliseconds since the sender started
}

// DecodeSystemTime decodes f; ok is false if f is no SYSTEM_TIME.
func DecodeSystemTime(f *Frame) (t SystemTime, ok bool) {
	var b [12]byte
	if f.ID != MsgSystemTime || !widen(b[:], f) {
		return SystemTime{}, false
	}
	return SystemTime{
		UnixUsec: binary.LittleEndian.Uint64(b[0:]),
		BootMs:   binary.LittleEndian.Uint32(b[8:]),
	}, true
}

// widen copies the payload of f to b, whose rest stays zero: MAVLink 2 does not send the
// zero bytes at the end. It is false if f holds no whole span, or one of MAVLink 1, which
// always sends all, with bytes missing.
func widen(b []byte, f *Frame) bool {
	p := f.Payload()
	if p == nil || (f.Version == 1 && len(p) < len(b)) {
		return false
	}
	copy(b, p)
	return true
}
