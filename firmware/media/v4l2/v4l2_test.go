package v4l2_test

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/firmware/media/v4l2"
	"holdfast/firmware/media/v4l2/v4l2test"
)

func TestCapture(t *testing.T) {
	for format, letters := range map[string]string{"mjpeg": "MJPG", "h264": "H264"} {
		cam := v4l2test.New(letters)
		c, err := v4l2.Start(cam, v4l2.Config{Format: format, Width: 1280, Height: 720, FPS: 25})
		if err != nil {
			t.Fatal(err)
		}
		set := cam.Set
		if w, h := binary.NativeEndian.Uint32(set), binary.NativeEndian.Uint32(set[4:]); w != 1280 || h != 720 || string(set[8:12]) != letters || cam.Rate != 25 || !cam.On() || cam.Mapped != 4 {
			t.Errorf("%d x %d %s, rate %d, %d mapped", w, h, set[8:12], cam.Rate, cam.Mapped)
		}
		for i := range uint32(20) {
			want := strings.Repeat("x", int(i)*1000)
			cam.Give([]byte(want))
			f, err := c.Next(time.Minute)
			if err != nil || string(f.Data) != want || f.Sequence != i || f.At != 5250*time.Millisecond || f.Damaged {
				t.Fatalf("frame %d: %d bytes, %+v, %v", i, len(f.Data), f.At, err)
			}
			if err := c.Done(f); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Next(0); !errors.Is(err, v4l2.ErrSilent) {
			t.Errorf("no frame: %v", err)
		}
		cam.Wake()
		if _, err := c.Next(time.Minute); !errors.Is(err, v4l2.ErrWoken) {
			t.Errorf("woken: %v", err)
		}
		if err := c.Stop(); err != nil || cam.On() || cam.Mapped != 0 {
			t.Errorf("stop: %v, %d mapped", err, cam.Mapped)
		}
	}
}

func TestRefused(t *testing.T) {
	cam := v4l2test.New("MJPG")
	if _, err := v4l2.Start(cam, v4l2.Config{Format: "h264"}); !errors.Is(err, v4l2.ErrFormat) || !strings.Contains(err.Error(), "YUYV, MJPG") {
		t.Errorf("a format it has not: %v", err)
	}
	cam = v4l2test.New("MJPG")
	cam.Caps = 0x04000002 // gives out video
	if _, err := v4l2.Start(cam, v4l2.Config{Format: "mjpeg"}); !errors.Is(err, v4l2.ErrNoCamera) {
		t.Errorf("no camera: %v", err)
	}
	if _, err := v4l2.Open("/dev/null"); err != nil {
		t.Errorf("a device that is none is told by its answers: %v", err)
	}
	if _, err := v4l2.Open("v4l2_test.go"); !errors.Is(err, v4l2.ErrNoCamera) {
		t.Errorf("a file: %v", err)
	}
	if _, err := v4l2.Open("/dev/video-that-is-not-there"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

// TestLies: a driver, or a camera behind it, that answers nonsense ends the capture, and nothing else.
func TestLies(t *testing.T) {
	for name, lie := range map[string]func(request uint32, p []byte){
		"no buffers":        func(r uint32, p []byte) { lieAt(r, 0xc0145608, p, 0, 0) },
		"too many buffers":  func(r uint32, p []byte) { lieAt(r, 0xc0145608, p, 0, 1<<30) },
		"another format":    func(r uint32, p []byte) { lieAt(r, 0xc0d05605, p, len(p)-200+8, 0x56595559) },
		"a buffer too long": func(r uint32, p []byte) { lieAt(r, 0xc0585609, p, len(p)-16, 1<<31) },
		"an empty buffer":   func(r uint32, p []byte) { lieAt(r, 0xc0585609, p, len(p)-16, 0) },
		"a strange buffer":  func(r uint32, p []byte) { lieAt(r, 0xc0585611, p, 0, 77) },
		"more than it has":  func(r uint32, p []byte) { lieAt(r, 0xc0585611, p, 8, 1<<30) },
	} {
		cam := v4l2test.New("MJPG")
		cam.Lie = lie
		c, err := v4l2.Start(cam, v4l2.Config{Format: "mjpeg"})
		if err == nil {
			cam.Give([]byte("x"))
			_, err = c.Next(time.Second)
			_ = c.Stop()
		}
		if err == nil {
			t.Errorf("%s: taken", name)
		}
		if cam.Mapped != 0 {
			t.Errorf("%s: %d buffers stay mapped", name, cam.Mapped)
		}
	}
}

func lieAt(request, of uint32, p []byte, at int, value uint32) {
	if request == of {
		binary.NativeEndian.PutUint32(p[at:], value)
	}
}

func TestUnplugged(t *testing.T) {
	cam := v4l2test.New("MJPG")
	c, err := v4l2.Start(cam, v4l2.Config{Format: "mjpeg"})
	if err != nil {
		t.Fatal(err)
	}
	cam.Unplug()
	if _, err := c.Next(time.Minute); !errors.Is(err, v4l2.ErrGone) {
		t.Errorf("%v", err)
	}
	if err := c.Stop(); err != nil || cam.Mapped != 0 {
		t.Errorf("stop: %v", err)
	}
}
