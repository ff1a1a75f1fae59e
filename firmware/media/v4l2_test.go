package media_test

import (
	"bytes"
	"testing"

	"holdfast/firmware/media"
	"holdfast/firmware/media/v4l2/v4l2test"
	"holdfast/firmware/mediapipe"
)

// TestV4L2: frames of a camera arrive as video, photos are whole frames once its exposure has settled, and
// a camera that is unplugged and plugged again goes on in a new file.
func TestV4L2(t *testing.T) {
	cam := v4l2test.New("MJPG")
	restore := media.OpenVideo(cam)
	defer restore()
	r, _, stop := start(t, config(media.Camera{Name: "usb", Source: media.SourceV4L2, Device: "/dev/video0", Format: "mjpeg", Start: media.StartAlways}))
	frame := jpeg(300_000) // more than one piece
	cam.Give(frame, frame)
	r.await("two frames", func() bool { return len(r.order) > 0 && len(r.files[r.order[0]].data) == 2*len(frame) })
	r.tell(&mediapipe.Shoot{Camera: "usb", Count: 1, First: 3})
	for n := range 4 {
		cam.Give(frame)
		r.await("another frame", func() bool { return len(r.files[r.order[0]].data) == (3+n)*len(frame) })
	}
	r.await("a photo", func() bool { return r.ended(1) != nil })
	if p := r.ended(1); !bytes.Equal(p.data, frame) || p.begin.Index != 3 || p.begin.Kind != mediapipe.Photo {
		t.Errorf("photo: %+v, %d bytes", p.begin, len(p.data))
	}
	cam.Unplug()
	r.await("the end of the file", func() bool { return r.ended(0) != nil && r.event("camera_failed") != nil })
	if f := r.ended(0); f.end.Why == "" || f.lost != 0 {
		t.Errorf("%+v", f.end)
	}
	cam.Plug()
	eventually(t, "it runs again", cam.On)
	cam.Give(frame)
	r.await("a new file", func() bool { return len(r.order) == 3 && len(r.files[r.order[2]].data) == len(frame) })
	stop()
	r.await("its end", func() bool { return r.ended(2) != nil })
	if f := r.ended(2); f.end.Why != "" || cam.On() || !cam.Closed {
		t.Errorf("%+v", f)
	}
}
