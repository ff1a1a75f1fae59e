package v4l2

import "unsafe"

// The structs of linux/videodev2.h. Where the kernel has a long or a pointer Go has an int or a
// uintptr: 32 bits wide on arm, where a time in a buffer is one of 32 bits too (the kernel tells
// the layouts apart by their sizes, which are part of a request's number).

type capability struct {
	Driver       [16]byte
	Card         [32]byte
	BusInfo      [32]byte
	Version      uint32
	Capabilities uint32
	DeviceCaps   uint32
	_            [3]uint32
}

type formatDescription struct {
	Index       uint32
	Type        uint32
	Flags       uint32
	Description [32]byte
	PixelFormat uint32
	_           [4]uint32
}

type pixelFormat struct {
	Width, Height, PixelFormat, Field uint32
	BytesPerLine, SizeImage           uint32
	ColorSpace, Priv, Flags           uint32
	YCbCrEncoding, Quantization, Xfer uint32
}

// format has a union of 200 bytes, with pointers in one of its members.
type format struct {
	Type uint32
	_    [0]uintptr
	Pix  pixelFormat
	_    [200 - unsafe.Sizeof(pixelFormat{})]byte
}

type streamParameters struct {
	Type                   uint32
	Capability, Mode       uint32
	Numerator, Denominator uint32
	_                      [200 - 16]byte
}

type requestBuffers struct {
	Count, Type, Memory, Capabilities uint32
	Flags                             uint8
	_                                 [3]byte
}

type buffer struct {
	Index, Type, BytesUsed, Flags, Field uint32
	Sec, Usec                            int
	Timecode                             [4]uint32
	Sequence, Memory                     uint32
	M                                    uintptr // a union; its first 32 bits are the offset
	Length, Reserved2, RequestFD         uint32
}

// offset is the member of the union that counts for mapped buffers.
func (b *buffer) offset() uint32 { return *(*uint32)(unsafe.Pointer(&b.M)) }

// Values of the fields.
const (
	typeCapture = 1
	memoryMmap  = 1
	fieldAny    = 0

	capVideoCapture = 0x00000001
	capStreaming    = 0x04000000
	capDeviceCaps   = 0x80000000

	flagError      = 0x00000040
	flagTimestamps = 0x0000e000
	flagMonotonic  = 0x00002000
)

// Numbers of the control calls (asm-generic/ioctl.h: direction, size, type, number).
const (
	write = 1
	read  = 2

	queryCap  = read<<30 | uint32(unsafe.Sizeof(capability{}))<<16 | 'V'<<8 // number 0
	enumFmt   = (read|write)<<30 | uint32(unsafe.Sizeof(formatDescription{}))<<16 | 'V'<<8 | 2
	getFmt    = (read|write)<<30 | uint32(unsafe.Sizeof(format{}))<<16 | 'V'<<8 | 4
	setFmt    = (read|write)<<30 | uint32(unsafe.Sizeof(format{}))<<16 | 'V'<<8 | 5
	reqBufs   = (read|write)<<30 | uint32(unsafe.Sizeof(requestBuffers{}))<<16 | 'V'<<8 | 8
	queryBuf  = (read|write)<<30 | uint32(unsafe.Sizeof(buffer{}))<<16 | 'V'<<8 | 9
	qBuf      = (read|write)<<30 | uint32(unsafe.Sizeof(buffer{}))<<16 | 'V'<<8 | 15
	dqBuf     = (read|write)<<30 | uint32(unsafe.Sizeof(buffer{}))<<16 | 'V'<<8 | 17
	streamOn  = write<<30 | 4<<16 | 'V'<<8 | 18
	streamOff = write<<30 | 4<<16 | 'V'<<8 | 19
	setParm   = (read|write)<<30 | uint32(unsafe.Sizeof(streamParameters{}))<<16 | 'V'<<8 | 22
)

// A build in which a struct has another size than the kernel's does not compile.
const (
	long = unsafe.Sizeof(uintptr(0))

	_ = -(unsafe.Sizeof(capability{}) ^ 104)
	_ = -(unsafe.Sizeof(formatDescription{}) ^ 64)
	_ = -(unsafe.Sizeof(format{}) ^ (200 + long))
	_ = -(unsafe.Sizeof(streamParameters{}) ^ 204)
	_ = -(unsafe.Sizeof(requestBuffers{}) ^ 20)
	_ = -(unsafe.Sizeof(buffer{}) ^ (48 + 5*long))
)
