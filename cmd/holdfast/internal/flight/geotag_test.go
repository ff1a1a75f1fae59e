package flight

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bep/imagemeta"

	"holdfast/storage/segment"
)

var testPlace = place{latitude: -33.8567841, longitude: 151.2152967, altitude: -12.345, horizontal: 1.1, vertical: 1.2, direction: 200,
	roll: 1.5, pitch: -2, yaw: -160, utc: time.Date(2026, 9, 21, 7, 5, 59, 123456000, time.UTC)}

func testJPEG(t testing.TB) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 320, 200))
	for y := range 200 {
		for x := range 320 {
			img.Set(x, y, color.RGBA{byte(x), byte(y), byte(x * y), 255})
		}
	}
	var w bytes.Buffer
	if err := jpeg.Encode(&w, img, nil); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}

// withSegment puts an APP1 segment behind the start of a JPEG.
func withSegment(photo, id, content []byte) []byte {
	return append(appendAPP1([]byte{0xFF, markerSOI}, id, content), photo[2:]...)
}

// tags reads a JPEG by another library than the one that wrote it.
func tags(t *testing.T, p []byte) imagemeta.Tags {
	t.Helper()
	var all imagemeta.Tags
	_, err := imagemeta.Decode(imagemeta.Options{R: bytes.NewReader(p), ImageFormat: imagemeta.JPEG, Sources: imagemeta.EXIF | imagemeta.XMP,
		HandleTag: func(i imagemeta.TagInfo) error { all.Add(i); return nil }, Warnf: func(f string, a ...any) { t.Errorf(f, a...) }})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within || math.IsNaN(got) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestGeotagsRead: another library reads what was written.
func TestGeotagsRead(t *testing.T) {
	tagged, note, err := geotag(testJPEG(t), &testPlace)
	if err != nil || note != "" {
		t.Fatal(err, note)
	}
	all := tags(t, tagged)
	lat, lon, err := all.GetLatLong()
	if err != nil {
		t.Fatal(err)
	}
	near(t, "latitude", lat, testPlace.latitude, 1e-9)
	near(t, "longitude", lon, testPlace.longitude, 1e-9)
	exif := all.EXIF()
	if got := exif["DateTimeOriginal"].Value; got != "2026:09:21 07:05:59" {
		t.Errorf("DateTimeOriginal %v", got)
	}
	if got := exif["OffsetTimeOriginal"].Value; got != "+00:00" {
		t.Errorf("OffsetTimeOriginal %v", got)
	}
	for _, name := range []string{"GPSAltitude", "GPSImgDirection", "GPSDateStamp", "GPSTimeStamp", "GPSAltitudeRef", "GPSHPositioningError"} {
		if _, ok := exif[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
	xmp := all.XMP()
	for name, want := range map[string]string{"Yaw": "-160.00", "Pitch": "-2.00", "Roll": "1.50", "GPSXYAccuracy": "1.100", "GPSZAccuracy": "1.200"} {
		if got := xmp[name].Value; got != want {
			t.Errorf("XMP %s: %v, want %s", name, got, want)
		}
	}
}

// TestGeotagsExiftool: so does exiftool, without a warning.
func TestGeotagsExiftool(t *testing.T) {
	exiftool, err := exec.LookPath("exiftool")
	if err != nil {
		t.Skip("exiftool is not installed")
	}
	tagged, _, err := geotag(testJPEG(t), &testPlace)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "P.jpg")
	if err := os.WriteFile(name, tagged, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(exiftool, "-j", "-n", "-validate", "-warning", "-a", "-G1", "-all:all", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var docs []map[string]any
	if err := json.Unmarshal(out, &docs); err != nil {
		t.Fatal(err)
	}
	d := docs[0]
	number := func(key string) float64 {
		v, ok := d[key].(float64)
		if !ok {
			t.Errorf("%s: %v", key, d[key])
		}
		return v
	}
	near(t, "latitude", number("Composite:GPSLatitude"), testPlace.latitude, 1e-8)
	near(t, "longitude", number("Composite:GPSLongitude"), testPlace.longitude, 1e-8)
	near(t, "altitude", number("Composite:GPSAltitude"), testPlace.altitude, 1e-3)
	near(t, "direction", number("GPS:GPSImgDirection"), 200, 1e-9)
	near(t, "error", number("GPS:GPSHPositioningError"), 1.1, 1e-9)
	near(t, "pitch", number("XMP-Camera:Pitch"), -2, 1e-9)
	near(t, "yaw", number("XMP-Camera:Yaw"), -160, 1e-9)
	for key, want := range map[string]string{"ExifIFD:DateTimeOriginal": "2026:09:21 07:05:59", "ExifIFD:OffsetTimeOriginal": "+00:00",
		"Composite:GPSDateTime": "2026:09:21 07:05:59.123456Z", "GPS:GPSMapDatum": "WGS-84"} {
		if d[key] != want {
			t.Errorf("%s: %v, want %s", key, d[key], want)
		}
	}
	for key, v := range d {
		if (strings.HasSuffix(key, ":Warning") || strings.HasSuffix(key, ":Error")) && !strings.HasPrefix(fmt.Sprint(v), "[minor]") {
			t.Errorf("%s: %v", key, v)
		}
	}
}

// TestOldMetadata: what the camera wrote stays in the copy; what cannot be read goes, and is named.
func TestOldMetadata(t *testing.T) {
	photo := testJPEG(t)
	camera, _, err := geotag(photo, &place{latitude: 1, longitude: 2, altitude: 3, vertical: 9, utc: time.Unix(1, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	// TIFF with one tag, Make = "Acme".
	maker := append([]byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x0f\x00\x02\x00\x00\x00\x05\x00\x00\x00\x1a\x00\x00\x00\x00"), "Acme\x00\x00"...)
	xmp := []byte(`<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:a="http://a.example/" a:Lens="wide"/></rdf:RDF></x:xmpmeta>`)
	cases := map[string]struct {
		photo []byte
		note  string
		want  string
	}{
		"make":       {withSegment(photo, exifID, maker), "", "Acme"},
		"old place":  {camera, "the camera's own XMP cannot be kept in the copy", ""},
		"other XMP":  {withSegment(photo, xmpID, xmp), "", `a:Lens="wide"`},
		"no TIFF":    {withSegment(photo, exifID, []byte("nonsense")), "the camera's own EXIF cannot be kept in the copy", ""},
		"full XMP":   {withSegment(photo, xmpID, append(bytes.Repeat([]byte(" "), 65_000), xmp...)), "the camera's own XMP cannot be kept in the copy", ""},
		"both":       {withSegment(withSegment(photo, xmpID, xmp), exifID, maker), "", "Acme"},
		"EXIF bomb":  {withSegment(photo, exifID, tiffBomb()), "the camera's own EXIF cannot be kept in the copy", ""},
		"EXIF cycle": {withSegment(photo, exifID, []byte("MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x08")), "the camera's own EXIF cannot be kept in the copy", ""},
	}
	for name, c := range cases {
		tagged, note, err := geotag(c.photo, &testPlace)
		if err != nil || note != c.note {
			t.Errorf("%s: %v, note %q", name, err, note)
			continue
		}
		if !bytes.Contains(tagged, []byte(c.want)) {
			t.Errorf("%s: %q is gone", name, c.want)
		}
		if n := bytes.Count(tagged, exifID) + bytes.Count(tagged, xmpID); n != 2 {
			t.Errorf("%s: %d segments of metadata", name, n)
		}
		lat, _, err := tags2(t, tagged)
		if err != nil || math.Abs(lat-testPlace.latitude) > 1e-9 {
			t.Errorf("%s: latitude %v %v", name, lat, err)
		}
	}
}

func tags2(t *testing.T, p []byte) (lat, lon float64, err error) {
	all := tags(t, p)
	return all.GetLatLong()
}

// tiffBomb claims in 60 kB some hundred megabytes of values.
func tiffBomb() []byte {
	p := []byte("MM\x00*\x00\x00\x00\x08\x13\x00")
	for range 0x1300 {
		p = append(p, 0x92, 0x86)
		p = append(p, 0, 7, 0, 0, 0xE0, 0, 0, 0, 0, 0)
	}
	return append(p, 0, 0, 0, 0)
}

// TestBombIsNotRead: EXIF that would take memory without end is not handed to the library.
func TestBombIsNotRead(t *testing.T) {
	many := []byte("II*\x00\x08\x00\x00\x00\x00\x00")
	for i := range 20 { // a row of empty directories
		many = binary.LittleEndian.AppendUint32(many, uint32(14+6*i))
		many = append(many, 0, 0)
	}
	for name, p := range map[string][]byte{"values": tiffBomb(), "directories": append(many, 0, 0, 0, 0)} {
		if soundTIFF(p) {
			t.Errorf("%s: taken", name)
		}
	}
	if data, err := encodeExif(nil, &testPlace); err != nil || !soundTIFF(data) {
		t.Errorf("our own is not taken: %v", err)
	}
}

// TestHostileJPEG: what is no whole JPEG gives no copy, with a reason, and no panic.
func TestHostileJPEG(t *testing.T) {
	photo := testJPEG(t)
	bomb := bytes.Clone(photo)
	at := bytes.Index(bomb, []byte{0xFF, 0xC0})
	copy(bomb[at+5:], []byte{0xFF, 0xFF, 0xFF, 0xFF})
	for name, p := range map[string][]byte{
		"nothing": nil, "garbage": []byte("no photo at all"), "start only": {0xFF, 0xD8}, "bomb": bomb,
		"cut in its head": photo[:100], "cut in its picture": photo[:len(photo)-2], "no picture": {0xFF, 0xD8, 0xFF, 0xD9},
		"a length of 0": {0xFF, 0xD8, 0xFF, 0xE1, 0, 0, 0xFF, 0xD9}, "fill bytes": bytes.Repeat([]byte{0xFF, 0xD8}, 1), "all ff": append([]byte{0xFF, 0xD8}, bytes.Repeat([]byte{0xFF}, 1000)...),
	} {
		if tagged, _, err := geotag(p, &testPlace); err == nil || tagged != nil {
			t.Errorf("%s: %d bytes, %v", name, len(tagged), err)
		}
	}
}

// TestPlaceOf: attitude as photogrammetry wants it, and what is no place.
func TestPlaceOf(t *testing.T) {
	known := times{Clock{Source: "autopilot", UncertaintyUsec: 1000, OffsetUsec: 1_790_000_000_000_000}}
	pose := segment.Pose{Latitude: 1, Longitude: 2, Roll: 3, Pitch: 4, Yaw: 350}
	p, err := placeOf(&segment.Photo{TakenUsec: 5, Pose: &pose}, known)
	if err != nil || p.yaw != -10 || p.direction != 350 || p.pitch != 4 || p.horizontal != 0 || p.utc.UnixMicro() != 1_790_000_000_000_005 {
		t.Errorf("%+v %v", p, err)
	}
	pose.Gimbal, pose.HorizontalM, pose.UncertaintyM = &segment.Gimbal{Pitch: -90, Yaw: 45}, 2, 0.5
	p, err = placeOf(&segment.Photo{Pose: &pose}, times{Clock{Source: "host_unsynchronised", UncertaintyUsec: -1}})
	if err != nil || p.pitch != 0 || p.yaw != 45 || p.direction != 45 || p.horizontal != 2.5 || !p.utc.IsZero() {
		t.Errorf("%+v %v", p, err)
	}
	for _, bad := range []segment.Pose{{Latitude: 91}, {Longitude: -181}, {Altitude: 1e9}, {Latitude: math.NaN()}} {
		if p, err := placeOf(&segment.Photo{Pose: &bad}, known); err == nil {
			t.Errorf("%+v", p)
		}
	}
}

// TestArc: no minute has 60 seconds.
func TestArc(t *testing.T) {
	r := arc(59.99999999999)
	if r[0].Numerator != 60 || r[1].Numerator != 0 || r[2].Numerator != 0 {
		t.Errorf("%+v", r)
	}
}

// FuzzGeotag: whatever a photo holds, its coded picture is the same in the copy, and what the copy
// holds can be geotagged again.
func FuzzGeotag(f *testing.F) {
	photo := testJPEG(f)
	tagged, _, err := geotag(photo, &testPlace)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(photo)
	f.Add(tagged)
	f.Add(withSegment(photo, exifID, tiffBomb()))
	f.Add([]byte{0xFF, 0xD8, 0xFF, 0xE1, 0, 8, 'E', 'x', 'i', 'f', 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		out, _, err := geotag(p, &testPlace)
		if err != nil {
			return
		}
		_, rest, err := splitJPEG(p)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(out, rest) {
			t.Error("the picture was changed")
		}
		again, note, err := geotag(out, &testPlace)
		if err != nil || strings.Contains(note, "EXIF") {
			t.Errorf("the copy: %v, note %q", err, note)
		}
		if _, other, _ := splitJPEG(again); !bytes.Equal(other, rest) {
			t.Error("the picture was changed in the copy of the copy")
		}
	})
}
