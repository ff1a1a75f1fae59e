package flight

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/dsoprea/go-exif/v3"
	exifcommon "github.com/dsoprea/go-exif/v3/common"
)

// Tags of EXIF 2.32 (CIPA DC-008, https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E).
const (
	tagGPSInfo     = 0x8825 // of the first directory: where the GPS directory is
	tagGPSHError   = 0x001F // GPSHPositioningError, which the library's table lacks
	pathExif       = "IFD/Exif"
	pathGPS        = "IFD/GPSInfo"
	secondFraction = 1_000_000 // denominator of seconds of arc
)

// buildExif returns EXIF with the geotags of p, and all tags of old that a reader can have. The
// note tells where old was not one that can be read.
func buildExif(old []byte, p *place) (data []byte, note string, err error) {
	if len(old) > 0 && soundTIFF(old) {
		if data, err = encodeExif(old, p); err == nil && len(data) <= maxSegment-len(exifID) {
			return data, "", nil
		}
	}
	if len(old) > 0 {
		note = "the camera's own EXIF cannot be kept in the copy"
	}
	data, err = encodeExif(nil, p)
	return data, note, err
}

// encodeExif does the work. The library panics in places, on what it reads and what it writes.
func encodeExif(old []byte, p *place) (data []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("EXIF: %v", r)
		}
	}()
	mapping, err := exifcommon.NewIfdMappingWithStandard()
	if err != nil {
		return nil, fmt.Errorf("EXIF: %w", err)
	}
	tags := exif.NewTagIndex()
	root := exif.NewIfdBuilder(mapping, tags, exifcommon.IfdStandardIfdIdentity, exifcommon.EncodeDefaultByteOrder)
	if len(old) > 0 {
		_, index, err := exif.Collect(mapping, tags, old)
		if err != nil {
			return nil, fmt.Errorf("EXIF: %w", err)
		}
		root = exif.NewIfdBuilderFromExistingChain(index.RootIfd)
		if _, err := root.DeleteAll(tagGPSInfo); err != nil && !errors.Is(err, exif.ErrTagEntryNotFound) {
			return nil, fmt.Errorf("EXIF: %w", err)
		}
	}
	if err := setTime(root, p); err != nil {
		return nil, fmt.Errorf("EXIF: %w", err)
	}
	if err := setGPS(root, p); err != nil {
		return nil, fmt.Errorf("EXIF: %w", err)
	}
	data, err = exif.NewIfdByteEncoder().EncodeToExif(root)
	if err != nil {
		return nil, fmt.Errorf("EXIF: %w", err)
	}
	if !sortTIFF(data) {
		return nil, errors.New("EXIF: more than a copy may have")
	}
	return data, nil
}

// setTime writes when the photo was taken. Without a clock that somebody vouches for it is left
// as it was.
func setTime(root *exif.IfdBuilder, p *place) error {
	if p.utc.IsZero() {
		return nil
	}
	b, err := exif.GetOrCreateIbFromRootIb(root, pathExif)
	if err != nil {
		return err
	}
	return setAll(b, []tag{
		{"DateTimeOriginal", p.utc.Format("2006:01:02 15:04:05")},
		{"SubSecTimeOriginal", fmt.Sprintf("%06d", p.utc.Nanosecond()/1000)},
		{"OffsetTimeOriginal", "+00:00"},
	})
}

// tag is a tag by the name that the library's table has.
type tag struct {
	name  string
	value any
}

func setAll(b *exif.IfdBuilder, tags []tag) error {
	for _, t := range tags {
		if err := b.SetStandardWithName(t.name, t.value); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

func setGPS(root *exif.IfdBuilder, p *place) error {
	b, err := exif.GetOrCreateIbFromRootIb(root, pathGPS)
	if err != nil {
		return err
	}
	below := byte(0)
	if p.altitude < 0 {
		below = 1
	}
	tags := []tag{
		{"GPSVersionID", []byte{2, 3, 0, 0}},
		{"GPSLatitudeRef", either(p.latitude < 0, "S", "N")}, {"GPSLatitude", arc(p.latitude)},
		{"GPSLongitudeRef", either(p.longitude < 0, "W", "E")}, {"GPSLongitude", arc(p.longitude)},
		{"GPSAltitudeRef", []byte{below}}, {"GPSAltitude", rational(math.Abs(p.altitude), 1000)},
		{"GPSImgDirectionRef", "T"}, {"GPSImgDirection", rational(p.direction, 100)},
		{"GPSMapDatum", "WGS-84"},
	}
	if t := p.utc; !t.IsZero() {
		micros := uint32(t.Second()*1e6 + t.Nanosecond()/1000)
		tags = append(tags, tag{"GPSDateStamp", t.Format("2006:01:02")}, tag{"GPSTimeStamp",
			[]exifcommon.Rational{{Numerator: uint32(t.Hour()), Denominator: 1}, {Numerator: uint32(t.Minute()), Denominator: 1}, {Numerator: micros, Denominator: 1e6}}})
	}
	if err := setAll(b, tags); err != nil || p.horizontal == 0 {
		return err
	}
	r := rational(p.horizontal, 1000)[0]
	order := exifcommon.EncodeDefaultByteOrder
	value := order.AppendUint32(order.AppendUint32(nil, r.Numerator), r.Denominator)
	return b.Set(exif.NewBuilderTag(pathGPS, tagGPSHError, exifcommon.TypeRational, exif.NewIfdBuilderTagValueFromBytes(value), binary.ByteOrder(order)))
}

func either(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

// rational returns a value that is not negative with so many parts of 1.
func rational(v float64, parts uint32) []exifcommon.Rational {
	return []exifcommon.Rational{{Numerator: uint32(math.Round(min(v*float64(parts), math.MaxUint32))), Denominator: parts}}
}

// arc returns degrees, minutes and seconds. It is rounded first, so that no 60 comes out.
func arc(degrees float64) []exifcommon.Rational {
	n := uint64(math.Round(math.Abs(degrees) * 3600 * secondFraction))
	seconds := uint32(n % (60 * secondFraction))
	minutes := uint32(n / (60 * secondFraction) % 60)
	return []exifcommon.Rational{{Numerator: uint32(n / (3600 * secondFraction)), Denominator: 1},
		{Numerator: minutes, Denominator: 1}, {Numerator: seconds, Denominator: secondFraction}}
}

// place is what is written into a photo: where it was taken, when, and how the camera was turned.
type place struct {
	latitude, longitude, altitude float64   // degrees, m above mean sea level
	horizontal, vertical          float64   // m; 0: not known
	direction                     float64   // degrees from true north, 0 to 360
	roll, pitch, yaw              float64   // degrees, as XMP wants them
	utc                           time.Time // zero: not known
}
