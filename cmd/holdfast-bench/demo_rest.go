package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// rest is what the demo found beside telemetry.
type rest struct {
	log         string // the autopilot's, of this flight
	logBytes    int
	logEqual    bool
	params      int
	pictures    int // of the video, each one that was filmed
	strange     int // pictures of the video that were not
	photos      int
	photosEqual bool
	geotagged   int
	sentToPilot int
}

// demoCamera is what the demo adds to the board's configuration.
const demoCamera = `
[[camera]]
name = "down"
source = "command"
command = [%q, "camera", "--fps", "5"]
format = "mjpeg"
`

// film gives the board a camera: this program, as one whose pictures are known.
func (d *demo) film() error {
	f, err := os.OpenFile(d.path("holdfast.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, demoCamera, d.tools["holdfast-bench"])
	return errors.Join(err, f.Close())
}

// beside holds what was sealed beside telemetry against what the autopilot and the camera had.
func (d *demo) beside(context.Context) error {
	for _, check := range []func() error{d.compareLog, d.comparePictures} {
		if err := check(); err != nil {
			return err
		}
	}
	r := &d.result.rest
	sent, err := readFiles(d.path("opened/*/*/sent.jsonl"))
	if err != nil {
		return err
	}
	for _, p := range sent {
		r.sentToPilot += bytes.Count(p, []byte("\n"))
	}
	params, err := readFiles(d.path("opened/*/*/autopilot/params-*.param"))
	if err != nil {
		return err
	}
	for _, p := range params {
		r.params = max(r.params, bytes.Count(p, []byte("\n1\t1\t")))
	}
	d.say("   the autopilot's log %s: %d bytes equal to its own; %d parameters; %d pictures and %d photos as they were filmed",
		filepath.Base(r.log), r.logBytes, r.params, r.pictures, r.photos)
	return nil
}

// readFiles reads the files that fit a pattern.
func readFiles(pattern string) (files map[string][]byte, err error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	files = map[string][]byte{}
	for _, name := range names {
		if files[name], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// compareLog holds the log in the flight's own folder against the autopilot's.
func (d *demo) compareLog() error {
	kept, err := readFiles(d.path("autopilot-logs/*"))
	if err != nil {
		return err
	}
	sealed, err := readFiles(d.path("opened/*/F*/autopilot/*-pull.bin"))
	if err != nil {
		return err
	}
	for name, p := range sealed {
		for _, own := range kept {
			if bytes.Equal(p, own) && len(p) > 0 {
				d.result.rest.log, d.result.rest.logBytes, d.result.rest.logEqual = name, len(p), true
			}
		}
	}
	if !d.result.rest.logEqual {
		return fmt.Errorf("none of the %d logs that were pulled is one of the %d that the autopilot has", len(sealed), len(kept))
	}
	return nil
}

// comparePictures holds each picture against those that the camera makes.
func (d *demo) comparePictures() error {
	r := &d.result.rest
	filmed := map[string]bool{}
	for n := range 2000 {
		p, err := picture(n)
		if err != nil {
			return err
		}
		filmed[string(p)] = true
	}
	videos, err := readFiles(d.path("opened/*/*/media/down/V*.mjpeg"))
	if err != nil {
		return err
	}
	for _, v := range videos {
		for i, p := range bytes.SplitAfter(v, []byte{0xFF, 0xD9}) { // the end of a JPEG picture
			switch {
			case len(p) == 0, i == 0 && !filmed[string(p)], !bytes.HasSuffix(p, []byte{0xFF, 0xD9}): // begun in another record
			case filmed[string(p)]:
				r.pictures++
			default:
				r.strange++
			}
		}
	}
	photos, err := readFiles(d.path("opened/*/*/media/down/P*.jpg"))
	if err != nil {
		return err
	}
	r.photosEqual = true
	for name, p := range photos {
		if strings.HasSuffix(name, "-geotagged.jpg") {
			if _, err := jpeg.Decode(bytes.NewReader(p)); err == nil {
				r.geotagged++
			}
			continue
		}
		r.photos++
		r.photosEqual = r.photosEqual && filmed[string(p)]
	}
	if r.pictures == 0 || r.strange > 0 || r.photos == 0 || !r.photosEqual {
		return fmt.Errorf("%d pictures, %d that nobody filmed, %d photos, equal %v", r.pictures, r.strange, r.photos, r.photosEqual)
	}
	return nil
}

// filmedPatterns are pieces of pictures and of the log that must not stand in the vault.
func (d *demo) filmedPatterns() (ps []pattern, clear map[string][]byte, err error) {
	clear, err = readFiles(d.path("autopilot-logs/*"))
	if err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(clear)) {
		if p := clear[name]; len(p) > 4096 {
			ps = append(ps, pattern{"a piece of the autopilot's log", p[2048:2112]})
		}
	}
	var pictures []byte
	for n := 20; n < 100; n += 10 {
		p, err := picture(n)
		if err != nil {
			return nil, nil, err
		}
		pictures = append(pictures, p...)
		ps = append(ps, pattern{"a piece of a picture", p[len(p)/2 : len(p)/2+64]})
	}
	clear["camera"] = pictures
	return ps, clear, nil
}
