package flight

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"holdfast/storage/segment"
)

// maxPhoto is the largest photo that is geotagged: it is held in memory, twice.
const maxPhoto = 256 << 20

// sidecarDoc is what stands in the sidecar of a photo, beside all that the board sealed of it.
type sidecarDoc struct {
	Photo  string `json:"photo"` // its file, in the same folder
	Camera string `json:"camera"`
	// Taken is when, as UTC by the record's clock, within UTCUncertaintyUsec; -1: nobody vouches
	// for that clock, or there is none, and then it is a time since boot.
	Taken              string         `json:"taken"`
	TakenUTCUsec       int64          `json:"taken_time_usec"`
	UTCUncertaintyUsec int64          `json:"taken_uncertainty_usec"`
	Clock              string         `json:"clock"`
	Sealed             *segment.Photo `json:"sealed"` // times in it are since boot
	// Angles tells whose attitude the geotags have: the gimbal's, or that of the vehicle, for a
	// camera that is fixed to it and looks straight down.
	Angles string `json:"angles,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// sidecar writes the sidecar of a photo, and the copy with geotags.
func (s *files) sidecar(f *file, r *FileReport, t times) error {
	if f.letter != segment.StreamPhoto {
		return nil
	}
	m := f.meta.Photo
	doc := sidecarDoc{Photo: base(r.Name), Camera: f.meta.Source, Clock: t.clock.Source, Sealed: m, SHA256: r.SHA256, UTCUncertaintyUsec: -1}
	if m != nil {
		doc.Taken, doc.TakenUTCUsec = t.utc(m.TakenUsec)
		if t.clock.UncertaintyUsec >= 0 {
			doc.UTCUncertaintyUsec = t.clock.UncertaintyUsec + max(m.UncertaintyUsec, 0)
		}
		doc.Angles = angles(m.Pose)
	}
	data, err := json.MarshalIndent(&doc, "", "  ")
	if err != nil {
		return err
	}
	stem := strings.TrimSuffix(r.Name, "."+extension(r.Name))
	r.Sidecar = stem + ".json"
	if err := s.create(r.Sidecar, append(data, '\n')); err != nil {
		return err
	}
	return s.geotagged(f, r, stem, t)
}

// extension returns what stands behind the last dot.
func extension(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// angles tells whose attitude a photo is given.
func angles(p *segment.Pose) string {
	switch {
	case p == nil:
		return ""
	case p.Gimbal != nil:
		return "gimbal"
	}
	return "vehicle"
}

// geotagged writes the copy of a photo with geotags; where there is none, r says why. The error
// is one of writing.
func (s *files) geotagged(f *file, r *FileReport, stem string, t times) error {
	p, err := placeOf(f.meta.Photo, t)
	if err == nil && !slices.Contains([]string{"jpg", "jpeg"}, extension(r.Name)) {
		err = errors.New("only JPEG is geotagged")
	}
	if err == nil && (r.LostBytes > 0 || !r.Complete) {
		err = errors.New("the photo is not complete")
	}
	if err == nil && r.Bytes > maxPhoto {
		err = fmt.Errorf("it has more than %d bytes", maxPhoto)
	}
	if err != nil {
		r.GeotagWhy = err.Error()
		return nil
	}
	photo, err := s.readAll(f)
	if err != nil {
		return err
	}
	tagged, note, err := geotag(photo, p)
	if err != nil {
		r.GeotagWhy = err.Error()
		return nil
	}
	r.Geotagged, r.GeotagNote = stem+"-geotagged."+extension(r.Name), note
	return s.create(r.Geotagged, tagged)
}

func (s *files) readAll(f *file) ([]byte, error) {
	w, err := s.handle(f)
	if err != nil {
		return nil, err
	}
	p := make([]byte, f.had.end())
	_, err = io.ReadFull(io.NewSectionReader(w, 0, int64(len(p))), p)
	return p, err
}

// geotag returns photo, a JPEG, with the metadata of p. The coded picture is the same, byte for
// byte. note tells what of the camera's own metadata is not in it.
func geotag(photo []byte, p *place) (tagged []byte, note string, err error) {
	head, rest, err := splitJPEG(photo)
	if err != nil {
		return nil, "", err
	}
	exif, note, err := buildExif(metadata(head, exifID), p)
	if err != nil {
		return nil, "", err
	}
	xmp, more := buildXMP(metadata(head, xmpID), p)
	if more != "" {
		note = strings.TrimPrefix(note+"; "+more, "; ")
	}
	tagged, err = joinJPEG(head, rest, exif, xmp)
	return tagged, note, err
}

// placeOf returns what is known of where a photo was taken; an error says why it is not enough.
func placeOf(m *segment.Photo, t times) (*place, error) {
	if m == nil || m.Pose == nil {
		return nil, errors.New("its position is not known")
	}
	p := m.Pose
	if !within(p.Latitude, 90) || !within(p.Longitude, 180) || !within(p.Altitude, 100_000) {
		return nil, errors.New("its position is none on earth")
	}
	g := &place{latitude: p.Latitude, longitude: p.Longitude, altitude: p.Altitude,
		roll: turn(p.Roll), pitch: p.Pitch, yaw: turn(p.Yaw)}
	// A camera's pitch is 0 where it looks straight down, for those who read these tags; a gimbal's
	// is then -90. A camera without one is taken to look down when the vehicle is level.
	if p.Gimbal != nil {
		g.roll, g.pitch, g.yaw = turn(p.Gimbal.Roll), p.Gimbal.Pitch+90, turn(p.Gimbal.Yaw)
	}
	g.pitch = turn(g.pitch)
	g.direction = math.Mod(g.yaw+360, 360)
	if p.HorizontalM > 0 {
		g.horizontal = p.HorizontalM + max(p.UncertaintyM, 0)
	}
	g.vertical = max(p.VerticalM, 0)
	if t.clock.UncertaintyUsec >= 0 && t.clock.Source != "none" {
		_, usec := t.utc(m.TakenUsec)
		g.utc = time.UnixMicro(usec).UTC()
		if y := g.utc.Year(); y < 1970 || y > 9999 {
			g.utc = time.Time{}
		}
	}
	return g, nil
}

// within tells a number whose size is at most limit; NaN is none.
func within(v, limit float64) bool { return math.Abs(v) <= limit }

// turn brings an angle into -180 to 180.
func turn(v float64) float64 {
	if !within(v, 1e6) {
		return 0
	}
	return math.Remainder(v, 360)
}
