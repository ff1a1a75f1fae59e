package flight_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/mavlink/tlog"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// photo returns a JPEG of some detail.
func photo(t testing.TB, size int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, size, size*3/4))
	for y := range size * 3 / 4 {
		for x := range size {
			img.Set(x, y, color.RGBA{byte(x * 255 / size), byte(y ^ x), byte(y), 255})
		}
	}
	var w bytes.Buffer
	if err := jpeg.Encode(&w, img, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}

// TestPhotos: photos stay as they are, with a sidecar; a copy has geotags where the position is
// known, and flight.json says why there is none elsewhere.
func TestPhotos(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	pair := segment.ClockPair{BootUsec: b.clock.Microseconds(), UTCUsec: utc + b.clock.Microseconds(), Source: "autopilot", UncertaintyUsec: 20_000}
	b.block(1, 0, segment.Meta{Clock: []segment.ClockPair{pair}})
	m := b.cameras()
	taken := b.clock.Microseconds()
	pose := &segment.Pose{BootUsec: taken, Latitude: -33.856784, Longitude: 151.215297, Altitude: 58.25, Height: 40, Roll: 1.5, Pitch: -2, Yaw: 200,
		HorizontalM: 0.8, VerticalM: 1.2, UncertaintyM: 0.3}
	pixels := photo(t, 640)
	add := func(id, index int, format string, p *segment.Pose, data []byte) {
		b.media(m, 'P', segment.File{ID: id, Kind: segment.KindPhoto, Source: "cam", Format: format, Size: int64(len(data)), End: true,
			Photo: &segment.Photo{Index: index, Trigger: "command", TakenUsec: taken, UncertaintyUsec: 5_000, Pose: p}}, data)
		b.finish()
	}
	add(1, 1, "jpg", pose, pixels)
	add(2, 2, "jpg", nil, pixels)
	add(3, 3, "jpg", pose, pixels[:len(pixels)/2])
	add(4, -1, "json", pose, []byte("no photo"))
	add(5, 1, "jpg", pose, pixels) // the index again
	b.check(m.End())
	b.finish()
	b.check(b.v.Close())
	_, out := b.open()
	for _, name := range []string{"P000001.jpg", "P000002.jpg", "P000001-2.jpg"} {
		if got := read(t, out, "media", "cam", name); !bytes.Equal(got, pixels) {
			t.Errorf("%s is not what was sealed", name)
		}
	}
	for name, why := range map[string]string{"P000001.jpg": "", "P000002.jpg": "its position is not known", "P000003.jpg": "its end is missing", "PN000004.dat": "only JPEG is geotagged", "P000001-2.jpg": ""} {
		r := report(t, out, "media/cam/"+name)
		if r.GeotagWhy != why || (r.Geotagged == "") != (why != "") || !r.Complete {
			t.Errorf("%+v", r)
		}
		if r.Sidecar != "media/cam/"+strings.SplitN(name, ".", 2)[0]+".json" {
			t.Errorf("%+v", r)
		}
	}
	var side struct {
		Taken       string        `json:"taken"`
		Uncertainty int64         `json:"taken_uncertainty_usec"`
		Angles      string        `json:"angles"`
		Sealed      segment.Photo `json:"sealed"`
	}
	b.check(json.Unmarshal(read(t, out, "media", "cam", "P000001.json"), &side))
	if want := time.UnixMicro(utc + taken).UTC().Format("2006-01-02T15:04:05.000000Z"); side.Taken != want || side.Uncertainty != 25_000 || side.Angles != "vehicle" || *side.Sealed.Pose != *pose {
		t.Errorf("%+v, want %s", side, want)
	}
	same(t, pixels, read(t, out, "media", "cam", "P000001-geotagged.jpg"))
	modes(t, out)
}

// same fails unless two JPEGs are the same picture.
func same(t *testing.T, a, b []byte) {
	t.Helper()
	x, err := jpeg.Decode(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	y, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	p, q := x.(*image.YCbCr), y.(*image.YCbCr)
	if x.Bounds() != y.Bounds() || !bytes.Equal(p.Y, q.Y) || !bytes.Equal(p.Cb, q.Cb) || !bytes.Equal(p.Cr, q.Cr) {
		t.Error("the copy is another picture")
	}
	if bytes.Equal(a, b) {
		t.Error("the copy has no tags")
	}
}

// TestSent: what went out is in sent.tlog, all of it in sent.jsonl, with who wanted it.
func TestSent(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	boot := b.clock.Microseconds()
	frames := [][]byte{frame(1), frame(2), frame(3)}
	var sent []byte
	for i, r := range []segment.SentRun{
		{Origin: 0, Outcome: segment.SentOut, Data: frames[0]},
		{Origin: 1, Outcome: segment.SentRefused, Data: frames[1]},
		{Origin: 0, Outcome: segment.SentFailed, Data: frames[2]},
		{Origin: 9, Outcome: 77, Data: []byte("no frame")},
		{Origin: 0, Outcome: segment.SentOut, Data: frames[2]},
	} {
		r.StampUsec = uint64(boot + int64(i))
		sent = segment.AppendSent(sent, r)
	}
	blk := segment.Block{Sent: sent, Meta: segment.Meta{Clock: []segment.ClockPair{{BootUsec: boot, UTCUsec: utc + boot, Source: "host"}}}}
	b.check(b.v.Append(&blk))
	b.check(b.v.Flush())
	b.check(b.v.Close())
	s, out := b.open()
	f, err := os.Open(filepath.Join(out, "sent.tlog"))
	b.check(err)
	defer f.Close()
	r := tlog.NewReader(f)
	for i, want := range []int{0, 2} {
		item, err := r.Next()
		b.check(err)
		if !item.Entry || !bytes.Equal(item.Raw, frames[want]) || item.TimeUsec != uint64(utc+boot+int64([]int{0, 4}[i])) {
			t.Errorf("entry %d: %+v", i, item)
		}
	}
	if _, err := r.Next(); err == nil {
		t.Error("more went out than was sent")
	}
	var got []string
	for line := range strings.Lines(string(read(t, out, "sent.jsonl"))) {
		var l struct {
			Time    string `json:"time"`
			Origin  string `json:"origin"`
			Outcome string `json:"outcome"`
			ID      int    `json:"message_id"`
			Name    string `json:"name"`
			Length  int    `json:"length"`
			Offset  int    `json:"offset"`
			Link    string `json:"link_name"`
			Raw     string `json:"raw"`
		}
		b.check(json.Unmarshal([]byte(line), &l))
		got = append(got, fmt.Sprintf("%s %s %d %s %d %d %s %d", l.Origin, l.Outcome, l.ID, l.Name, l.Length, l.Offset, l.Link, len(l.Raw)))
	}
	want := []string{"holdfast sent 30 ATTITUDE 40 0 fc 0", "share:ros refused 30 ATTITUDE 40 -1 fc 80", "holdfast failed 30 ATTITUDE 40 -1 fc 80",
		"origin-9 unknown -1  8 -1 fc 16", "holdfast sent 30 ATTITUDE 40 48 fc 0"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if s.Sent.Frames != 2 || s.Sent.Refused != 1 || s.Sent.Failed != 1 || len(s.Sent.Counts) != 4 || s.Sent.Counts[0] != (flight.SentCount{Origin: "holdfast", Outcome: "sent", MessageID: 30, Name: "ATTITUDE", Count: 2, Bytes: 80}) {
		t.Errorf("%+v", s.Sent)
	}
	if s.Operator != "N. N." || s.Case != "case 7" {
		t.Errorf("%q %q", s.Operator, s.Case)
	}
	if _, err := os.Stat(filepath.Join(out, ".sent.spool")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the spool was left behind")
	}
}
