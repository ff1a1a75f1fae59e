package mavlink_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"holdfast/mavlink"
	"holdfast/mavlink/tlog"
)

// recordings lies beside the repository.
const recordings = "../../shared/data"

// counts is what a recording holds. Frames and types are those of an independent parser.
type counts struct {
	v1, v2, signed int
	types          int
	badFrames      int // entries whose frame has a wrong checksum
	badBytes       int // their bytes
	strays         int // bytes that fit no entry
}

// tally counts the frames and the noise of a recording.
type tally struct {
	counts
	ids     map[uint32]bool
	unknown int
	bytes   int
	noise   int
}

func (c *tally) Frame(f *mavlink.Frame) {
	c.bytes += len(f.Raw)
	c.ids[f.ID] = true
	if f.Version == 1 {
		c.v1++
	} else {
		c.v2++
	}
	if f.Signed {
		c.signed++
	}
	if !f.Known {
		c.unknown++
	}
}

func (c *tally) Noise(n *mavlink.Noise) { c.bytes += len(n.Data); c.noise += len(n.Data) }

// count strips the stamps and scans what is left, as if it came over one wire.
func count(r io.Reader) (c *tally, size int, err error) {
	c = &tally{ids: map[uint32]bool{}}
	s := mavlink.NewScanner(c)
	for lr := tlog.NewReader(r); ; {
		it, err := lr.Next()
		if err != nil {
			s.End(0)
			c.types = len(c.ids)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return c, size, err
		}
		if !it.Entry {
			c.strays += len(it.Raw)
		} else if f, _ := mavlink.ParseFrame(it.Raw); !f.ChecksumOK() {
			c.badFrames++
			c.badBytes += len(it.Raw)
		}
		size += len(it.Raw)
		s.Write(0, it.Raw)
	}
}

func TestPublicRecordings(t *testing.T) {
	for name, want := range map[string]counts{
		"uavlogviewer-copter.tlog":  {v2: 96646, types: 49, strays: 2565},
		"uavlogviewer-vtol-v1.tlog": {v1: 23894, types: 41},
		// 76,791 frames of 36 types, of which 1,314 of one type have a wrong checksum.
		"dronekit-flight-v1.tlog": {v1: 76791 - 1314, types: 35, badFrames: 1314, badBytes: 17082, strays: 19},
		"bruno-44min.tlog":        {v2: 61810, types: 27, strays: 2955},
		"signed-mixed.tlog":       {v1: 1393, v2: 8884, signed: 1, types: 44},
		"mostly-junk.tlog":        {v2: 1422, types: 24, strays: 2893891},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(filepath.Join(recordings, name))
			if errors.Is(err, os.ErrNotExist) {
				t.Skip("the public recordings are not beside this repository")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, size, err := count(f)
			if err != nil {
				t.Fatal(err)
			}
			if got.counts != want || got.unknown != 0 {
				t.Errorf("got %+v and %d unknown, want %+v", got.counts, got.unknown, want)
			}
			if got.bytes != size || got.noise != want.strays+want.badBytes {
				t.Errorf("%d bytes out of %d, %d of them noise", got.bytes, size, got.noise)
			}
		})
	}
}
