package mavlink

import "time"

// The wire format (https://mavlink.io/en/guide/serialization.html).
const (
	startV1 = 0xFE
	startV2 = 0xFD

	headerSizeV1  = 6
	headerSizeV2  = 10
	checksumSize  = 2
	signatureSize = 13

	flagSigned = 0x01 // incompatibility flag: a signature follows the checksum

	// MaxFrameSize is the size of the longest frame, in bytes: a signed MAVLink 2 frame.
	MaxFrameSize = headerSizeV2 + 255 + checksumSize + signatureSize
)

// SystemID tells vehicles and ground stations of one network apart.
type SystemID uint8

// ComponentID tells the parts of one system apart: autopilot, gimbal, camera.
type ComponentID uint8

// Frame is one MAVLink unit as it came over the wire.
type Frame struct {
	Raw       []byte        // all its bytes; from a Scanner valid only during the callback
	At        time.Duration // arrival of the read that brought its last byte
	Offset    int64         // of its first byte, in bytes since the scanner was made
	ID        uint32        // message id
	System    SystemID      // sender
	Component ComponentID   // sender
	Seq       uint8         // the sender's count of frames
	Version   uint8         // of the protocol: 1 or 2
	Known     bool          // CRCExtra knows the id (so a Scanner has checked the checksum)
	Signed    bool          // carries a signature, which nothing here checks
}

// Payload returns the payload as it was sent: MAVLink 2 cuts zero bytes at its end. It is
// part of f.Raw, nil if f holds no whole span.
func (f *Frame) Payload() []byte {
	head := headerSizeV1
	if f.Version == 2 {
		head = headerSizeV2
	}
	if len(f.Raw) < head || len(f.Raw) < head+int(f.Raw[1]) {
		return nil
	}
	return f.Raw[head : head+int(f.Raw[1])]
}

// ParseFrame reads the span at the start of p: a start byte and as many bytes as its
// header asks for. ok is false if p starts with no start byte or holds the span only in
// part. f.Raw is part of p; At and Offset are zero. The checksum is not looked at:
// see [Frame.ChecksumOK].
func ParseFrame(p []byte) (f Frame, ok bool) {
	if !startsSpan(p) {
		return Frame{}, false
	}
	size, id := measure(p)
	if size == 0 || size > len(p) {
		return Frame{}, false
	}
	_, known := CRCExtra(id)
	f.fill(p[:size:size], id, known)
	return f, true
}

// SpanSize returns the whole size, in bytes, that the header at the start of p asks for. It
// is 0 if p starts with no start byte or is too short to tell; ten bytes always tell.
func SpanSize(p []byte) int {
	if !startsSpan(p) {
		return 0
	}
	size, _ := measure(p)
	return size
}

// ChecksumOK reports whether the checksum is right. It is false for an unknown id, whose
// checksum nobody can check.
func (f *Frame) ChecksumOK() bool {
	size := SpanSize(f.Raw)
	if size == 0 || size != len(f.Raw) {
		return false
	}
	_, id := measure(f.Raw)
	extra, known := CRCExtra(id)
	return known && sound(f.Raw, extra)
}

// fill sets all that stands in the bytes of a whole span.
func (f *Frame) fill(raw []byte, id uint32, known bool) {
	f.Raw, f.ID, f.Known = raw, id, known
	if raw[0] == startV2 {
		f.Version = 2
		f.Signed = raw[2]&flagSigned != 0
		f.Seq, f.System, f.Component = raw[4], SystemID(raw[5]), ComponentID(raw[6])
		return
	}
	f.Version = 1
	f.Signed = false
	f.Seq, f.System, f.Component = raw[2], SystemID(raw[3]), ComponentID(raw[4])
}

func isStart(b byte) bool { return b == startV2 || b == startV1 }

func startsSpan(p []byte) bool { return len(p) > 0 && isStart(p[0]) }

// measure returns the whole size that the header of a span asks for, and the message id.
// p begins with a start byte; size is 0 as long as the header is not complete.
func measure(p []byte) (size int, id uint32) {
	if p[0] == startV2 {
		if len(p) < headerSizeV2 {
			return 0, 0
		}
		size = headerSizeV2 + int(p[1]) + checksumSize
		if p[2]&flagSigned != 0 {
			size += signatureSize
		}
		return size, uint32(p[7]) | uint32(p[8])<<8 | uint32(p[9])<<16
	}
	if len(p) < headerSizeV1 {
		return 0, 0
	}
	return headerSizeV1 + int(p[1]) + checksumSize, uint32(p[5])
}
