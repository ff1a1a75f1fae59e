// Package v4l2 captures compressed pictures from a camera by Video4Linux2: streaming with mapped
// buffers (https://docs.kernel.org/userspace-api/media/v4l/mmap.html,
// https://docs.kernel.org/userspace-api/media/v4l/capture-example.html). Structs and numbers are
// those of linux/videodev2.h, in the layouts of 64-bit and 32-bit kernels.
//
// It exists because the libraries for this in Go (vladimirvivien/go4vl v0.1.0 among them) take the
// structs from C: they need cgo, and a program of ours that was built with cgo refuses to run
// locked down (its C library makes system calls of its own). Nothing here is C.
//
// Not tested on hardware: tests go through recorded layouts and a device that is made up.
package v4l2

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"
)

var (
	// ErrNoCamera: the device captures no video in mapped buffers.
	ErrNoCamera = errors.New("v4l2: no camera that gives frames")
	// ErrFormat: the camera does not have the format.
	ErrFormat = errors.New("v4l2: the camera does not give this format")
	// ErrSilent: no frame has come in time.
	ErrSilent = errors.New("v4l2: no frame")
	// ErrWoken: Wake was called.
	ErrWoken = errors.New("v4l2: woken")
	// ErrGone: the camera was unplugged, or has failed.
	ErrGone = errors.New("v4l2: the camera is gone")
	// ErrAgain: no frame is ready.
	ErrAgain = errors.New("v4l2: not ready")
)

// Device is an open video device.
type Device interface {
	// Ioctl makes a control call with a struct of this package. The error is ErrAgain, ErrGone, or
	// the kernel's.
	Ioctl(request uint32, arg unsafe.Pointer) error
	Map(offset int64, length int) ([]byte, error)
	Unmap(p []byte) error
	// Wait waits for a frame: ErrSilent, ErrWoken, ErrGone.
	Wait(most time.Duration) error
	Close() error
}

// Config says what is asked of a camera. Zeros leave it the choice.
type Config struct {
	Format             string // mjpeg, h264
	Width, Height, FPS int
}

// pixelFormats are the formats by their four letters, the usual one first.
var pixelFormats = map[string][]uint32{
	"mjpeg": {fourcc("MJPG"), fourcc("JPEG")},
	"jpg":   {fourcc("MJPG"), fourcc("JPEG")},
	"h264":  {fourcc("H264")},
}

func fourcc(s string) uint32 {
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func letters(f uint32) string {
	p := []byte{byte(f), byte(f >> 8), byte(f >> 16), byte(f >> 24)}
	for i, c := range p {
		if c < ' ' || c > '~' {
			p[i] = '?'
		}
	}
	return strings.TrimSpace(string(p))
}

const (
	// buffers is how many frames the camera may be ahead.
	buffers = 4
	// maxBuffer bounds one of them, in bytes.
	maxBuffer = 64 << 20
	// maxFormats bounds the list of a camera's formats.
	maxFormats = 64
)

// Capture is a camera that is running. Not safe for concurrent use.
type Capture struct {
	dev    Device
	mapped [][]byte
	on     bool
	Width  int
	Height int
}

// Frame is what a camera has given. Data is valid until Done.
type Frame struct {
	Data     []byte
	Sequence uint32
	// At is when it was taken, by CLOCK_MONOTONIC; 0: the camera does not tell.
	At time.Duration
	// Damaged: the driver says so.
	Damaged bool
	index   uint32
}

// Start sets a camera up and starts it. It does not own the device.
func Start(dev Device, c Config) (*Capture, error) {
	if err := checkCamera(dev); err != nil {
		return nil, err
	}
	pixels, err := choose(dev, c.Format)
	if err != nil {
		return nil, err
	}
	capture := &Capture{dev: dev}
	if err := capture.setFormat(pixels, c); err != nil {
		return nil, err
	}
	if c.FPS > 0 {
		setRate(dev, c.FPS) // a camera that has no such rate keeps its own
	}
	if err := capture.begin(); err != nil {
		return nil, errors.Join(err, capture.Stop())
	}
	return capture, nil
}

func checkCamera(dev Device) error {
	var c capability
	if err := dev.Ioctl(queryCap, unsafe.Pointer(&c)); err != nil {
		return fmt.Errorf("%w: %w", ErrNoCamera, err)
	}
	has := c.Capabilities
	if has&capDeviceCaps != 0 {
		has = c.DeviceCaps // of this node; the other is of the whole device
	}
	if has&capVideoCapture == 0 || has&capStreaming == 0 {
		return ErrNoCamera
	}
	return nil
}

// choose returns the camera's code of a format.
func choose(dev Device, format string) (uint32, error) {
	var have []string
	var codes []uint32
	for i := range uint32(maxFormats) {
		d := formatDescription{Index: i, Type: typeCapture}
		if err := dev.Ioctl(enumFmt, unsafe.Pointer(&d)); err != nil {
			break // there are no more
		}
		have, codes = append(have, letters(d.PixelFormat)), append(codes, d.PixelFormat)
	}
	for _, want := range pixelFormats[format] {
		if slices.Contains(codes, want) {
			return want, nil
		}
	}
	return 0, fmt.Errorf("%w: %s; it has %s", ErrFormat, format, strings.Join(have, ", "))
}

func (c *Capture) setFormat(pixels uint32, want Config) error {
	f := format{Type: typeCapture}
	if err := c.dev.Ioctl(getFmt, unsafe.Pointer(&f)); err != nil {
		return fmt.Errorf("v4l2: format: %w", err)
	}
	f.Pix.PixelFormat, f.Pix.Field = pixels, fieldAny
	f.Pix.BytesPerLine, f.Pix.SizeImage = 0, 0
	if want.Width > 0 && want.Height > 0 {
		f.Pix.Width, f.Pix.Height = uint32(want.Width), uint32(want.Height)
	}
	if err := c.dev.Ioctl(setFmt, unsafe.Pointer(&f)); err != nil {
		return fmt.Errorf("v4l2: set format: %w", err)
	}
	if f.Pix.PixelFormat != pixels {
		return fmt.Errorf("%w: it has made %s of it", ErrFormat, letters(f.Pix.PixelFormat))
	}
	c.Width, c.Height = int(f.Pix.Width), int(f.Pix.Height)
	return nil
}

func setRate(dev Device, fps int) {
	p := streamParameters{Type: typeCapture, Numerator: 1, Denominator: uint32(fps)}
	_ = dev.Ioctl(setParm, unsafe.Pointer(&p))
}

// begin maps the buffers, hands them to the camera and starts it.
func (c *Capture) begin() error {
	r := requestBuffers{Count: buffers, Type: typeCapture, Memory: memoryMmap}
	if err := c.dev.Ioctl(reqBufs, unsafe.Pointer(&r)); err != nil {
		return fmt.Errorf("v4l2: buffers: %w", err)
	}
	if r.Count == 0 || r.Count > 32 {
		return fmt.Errorf("v4l2: %d buffers", r.Count)
	}
	for i := range r.Count {
		b := buffer{Index: i, Type: typeCapture, Memory: memoryMmap}
		if err := c.dev.Ioctl(queryBuf, unsafe.Pointer(&b)); err != nil {
			return fmt.Errorf("v4l2: buffer %d: %w", i, err)
		}
		if b.Length == 0 || b.Length > maxBuffer {
			return fmt.Errorf("v4l2: buffer %d of %d bytes", i, b.Length)
		}
		p, err := c.dev.Map(int64(b.offset()), int(b.Length))
		if err != nil {
			return fmt.Errorf("v4l2: buffer %d: %w", i, err)
		}
		c.mapped = append(c.mapped, p)
		if err := c.give(i); err != nil {
			return err
		}
	}
	kind := int32(typeCapture)
	if err := c.dev.Ioctl(streamOn, unsafe.Pointer(&kind)); err != nil {
		return fmt.Errorf("v4l2: start: %w", err)
	}
	c.on = true
	return nil
}

func (c *Capture) give(index uint32) error {
	b := buffer{Index: index, Type: typeCapture, Memory: memoryMmap}
	if err := c.dev.Ioctl(qBuf, unsafe.Pointer(&b)); err != nil {
		return fmt.Errorf("v4l2: give buffer %d: %w", index, err)
	}
	return nil
}

// Next returns the next frame. Done has to be called for it. The error wraps ErrSilent, ErrWoken or
// ErrGone, or is another one of the kernel, after which the camera is of no use.
func (c *Capture) Next(most time.Duration) (Frame, error) {
	for {
		if err := c.dev.Wait(most); err != nil {
			return Frame{}, err
		}
		b := buffer{Type: typeCapture, Memory: memoryMmap}
		err := c.dev.Ioctl(dqBuf, unsafe.Pointer(&b))
		if errors.Is(err, ErrAgain) {
			continue
		}
		if err != nil {
			return Frame{}, fmt.Errorf("v4l2: take buffer: %w", err)
		}
		if int(b.Index) >= len(c.mapped) || int(b.BytesUsed) > len(c.mapped[b.Index]) {
			return Frame{}, fmt.Errorf("v4l2: buffer %d with %d bytes: %w", b.Index, b.BytesUsed, ErrGone)
		}
		f := Frame{Data: c.mapped[b.Index][:b.BytesUsed], Sequence: b.Sequence, Damaged: b.Flags&flagError != 0, index: b.Index}
		if b.Flags&flagTimestamps == flagMonotonic {
			f.At = time.Duration(b.Sec)*time.Second + time.Duration(b.Usec)*time.Microsecond
		}
		return f, nil
	}
}

// Done gives the buffer of a frame back to the camera.
func (c *Capture) Done(f Frame) error { return c.give(f.index) }

// Stop stops the camera and unmaps its buffers.
func (c *Capture) Stop() (err error) {
	kind := int32(typeCapture)
	if c.on {
		if err = c.dev.Ioctl(streamOff, unsafe.Pointer(&kind)); errors.Is(err, ErrGone) {
			err = nil
		}
	}
	c.on = false
	for _, p := range c.mapped {
		err = errors.Join(err, c.dev.Unmap(p))
	}
	c.mapped = nil
	r := requestBuffers{Type: typeCapture, Memory: memoryMmap} // none any more
	_ = c.dev.Ioctl(reqBufs, unsafe.Pointer(&r))
	return err
}
