// Package v4l2test is a camera that is made up, for tests. It knows control calls by their numbers
// and structs by the offsets of their fields, as they were read from linux/videodev2.h: a
// mistake in the layouts of package v4l2 does not fit it.
package v4l2test

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/firmware/media/v4l2"
)

// Camera gives the frames of a list, in buffers of Size bytes. Safe for concurrent use.
type Camera struct {
	Formats []string // four letters each
	Size    int
	Buffers uint32
	Caps    uint32
	// Lie, where set, changes what a control call has answered.
	Lie func(request uint32, answer []byte)

	mu      sync.Mutex
	frames  [][]byte
	changed chan struct{}
	woken   bool
	gone    bool
	on      bool
	memory  [][]byte
	given   []uint32
	Set     []byte // the last format that was set
	Rate    uint32
	Mapped  int
	Closed  bool
	seq     uint32
}

// New returns a camera with one format.
func New(format string) *Camera {
	return &Camera{Formats: []string{"YUYV", format}, Size: 1 << 20, Buffers: 4, Caps: 0x84a00001, changed: make(chan struct{})}
}

// Give makes frames ready.
func (c *Camera) Give(frames ...[]byte) { c.do(func() { c.frames = append(c.frames, frames...) }) }

// Unplug makes the camera go.
func (c *Camera) Unplug() { c.do(func() { c.gone = true }) }

// Plug makes it come again, as new.
func (c *Camera) Plug() {
	c.do(func() {
		c.gone, c.on, c.given, c.memory, c.frames, c.woken, c.Closed = false, false, nil, nil, nil, false, false
	})
}

// Wake is that of v4l2.File.
func (c *Camera) Wake() { c.do(func() { c.woken = true }) }

// On tells whether the camera is running.
func (c *Camera) On() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.on
}

func (c *Camera) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// wide tells whether a long has 64 bits.
const wide = unsafe.Sizeof(uintptr(0)) == 8

// Offsets in struct v4l2_buffer, and in v4l2_format behind the type.
var offsetBytes, offsetFlags, offsetTime, offsetSequence, offsetM, offsetLength, offsetPix = 8, 12, 24, 56, 64, 72, 8

func init() {
	if !wide {
		offsetTime, offsetSequence, offsetM, offsetLength, offsetPix = 20, 44, 52, 56, 4
	}
}

// number is a call's number on 64 bits, without its size where that depends on the width.
func number(request uint32) uint32 {
	switch n := request & 0xff; {
	case wide || n != 4 && n != 5 && n != 9 && n != 15 && n != 17:
		return request
	case n == 4 || n == 5:
		return request&^(0x3fff<<16) | 208<<16
	default:
		return request&^(0x3fff<<16) | 88<<16
	}
}

// Ioctl implements v4l2.Device.
func (c *Camera) Ioctl(request uint32, arg unsafe.Pointer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return v4l2.ErrGone
	}
	p := unsafe.Slice((*byte)(arg), request>>16&0x3fff)
	err := c.call(number(request), p)
	if c.Lie != nil && err == nil {
		c.Lie(number(request), p)
	}
	return err
}

func (c *Camera) call(request uint32, p []byte) error {
	order := binary.NativeEndian
	switch request {
	case 0x80685600: // VIDIOC_QUERYCAP
		copy(p, "uvcvideo")
		order.PutUint32(p[84:], c.Caps)
		order.PutUint32(p[88:], 0x04200001)
	case 0xc0405602: // VIDIOC_ENUM_FMT
		i := order.Uint32(p)
		if int(i) >= len(c.Formats) || order.Uint32(p[4:]) != 1 {
			return unix.EINVAL
		}
		copy(p[44:48], c.Formats[i])
	case 0xc0d05604, 0xc0d05605: // VIDIOC_G_FMT, VIDIOC_S_FMT
		if request == 0xc0d05605 {
			c.Set = append([]byte(nil), p[offsetPix:]...)
		}
	case 0xc0cc5616: // VIDIOC_S_PARM
		c.Rate = order.Uint32(p[16:])
	case 0xc0145608: // VIDIOC_REQBUFS
		if order.Uint32(p) > 0 {
			order.PutUint32(p, c.Buffers)
		}
	case 0xc0585609: // VIDIOC_QUERYBUF
		order.PutUint32(p[offsetM:], order.Uint32(p)*uint32(c.Size))
		order.PutUint32(p[offsetLength:], uint32(c.Size))
	case 0xc058560f: // VIDIOC_QBUF
		c.given = append(c.given, order.Uint32(p))
	case 0xc0585611: // VIDIOC_DQBUF
		return c.take(p)
	case 0x40045612: // VIDIOC_STREAMON
		c.on = true
	case 0x40045613: // VIDIOC_STREAMOFF
		c.on = false
	default:
		return fmt.Errorf("unknown control call %#x", request)
	}
	return nil
}

// take fills the oldest buffer. c.mu is held.
func (c *Camera) take(p []byte) error {
	if len(c.frames) == 0 || len(c.given) == 0 {
		return v4l2.ErrAgain
	}
	order, i := binary.NativeEndian, c.given[0]
	order.PutUint32(p, i)
	order.PutUint32(p[offsetBytes:], uint32(copy(c.memory[i], c.frames[0])))
	order.PutUint32(p[offsetFlags:], 0x2000)
	if wide {
		order.PutUint64(p[offsetTime:], 5)
		order.PutUint64(p[offsetTime+8:], 250000)
	} else {
		order.PutUint32(p[offsetTime:], 5)
		order.PutUint32(p[offsetTime+4:], 250000)
	}
	order.PutUint32(p[offsetSequence:], c.seq)
	c.seq++
	c.frames, c.given = c.frames[1:], c.given[1:]
	return nil
}

// Map implements v4l2.Device.
func (c *Camera) Map(offset int64, length int) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if length != c.Size || offset != int64(len(c.memory)*c.Size) {
		return nil, unix.EINVAL
	}
	c.memory = append(c.memory, make([]byte, length))
	c.Mapped++
	return c.memory[len(c.memory)-1], nil
}

// Unmap implements v4l2.Device.
func (c *Camera) Unmap([]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Mapped--
	return nil
}

// Wait implements v4l2.Device.
func (c *Camera) Wait(most time.Duration) error {
	limit := time.After(most)
	for {
		c.mu.Lock()
		ready, woken, gone, changed := len(c.frames) > 0 && len(c.given) > 0, c.woken, c.gone, c.changed
		c.mu.Unlock()
		switch {
		case woken:
			return v4l2.ErrWoken
		case gone:
			return v4l2.ErrGone
		case ready:
			return nil
		}
		select {
		case <-limit:
			return v4l2.ErrSilent
		case <-changed:
		}
	}
}

// Close implements v4l2.Device.
func (c *Camera) Close() error { c.do(func() { c.Closed = true }); return nil }
