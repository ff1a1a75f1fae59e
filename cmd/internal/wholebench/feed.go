package main

import (
	"fmt"
	"time"

	"holdfast/mavlink"
	"holdfast/mavlink/vehicle"
)

const (
	// flightTime is how much of a simulated flight the feed is made of. It is repeated, which
	// helps no compressor: a block holds some seconds at most.
	flightTime = 2 * time.Minute
	// armedBit is MAV_MODE_FLAG_SAFETY_ARMED in HEARTBEAT.base_mode.
	armedBit = 0x80
	// baseMode is where base_mode stands in a MAVLink 2 HEARTBEAT.
	baseMode = 10 + 6
)

// feed is a run of MAVLink 2 frames without gaps or repeats.
type feed struct {
	raw    []byte
	ends   []int // of each frame in raw
	types  int   // distinct message ids
	sender map[sender]uint8
}

// sender is who counts its frames by itself.
type sender struct {
	system    mavlink.SystemID
	component mavlink.ComponentID
}

// newFeed takes the airborne part of a simulated flight and repeats it until there are n
// frames, with sequence numbers that go on and checksums to match. With armed false the same
// frames say that the vehicle is disarmed.
func newFeed(n int, armed bool) (*feed, error) {
	flight, err := airborne()
	if err != nil {
		return nil, err
	}
	f := &feed{sender: map[sender]uint8{}, ends: make([]int, 0, n)}
	ids := map[uint32]bool{}
	for i := range n {
		raw := flight[i%len(flight)]
		m, ok := mavlink.ParseFrame(raw)
		if !ok || m.Version != 2 || m.Signed {
			return nil, fmt.Errorf("frame %d of the flight is no plain MAVLink 2 frame", i)
		}
		ids[m.ID] = true
		if err := f.add(&m, armed); err != nil {
			return nil, err
		}
	}
	f.types = len(ids)
	return f, nil
}

// airborne flies, and returns the frames sent while armed.
func airborne() (frames [][]byte, err error) {
	v, err := vehicle.New(vehicle.Options{Stack: vehicle.PX4, Seed: 1, Duration: flightTime, Camera: true})
	if err != nil {
		return nil, err
	}
	for {
		e, ok := v.Next()
		if !ok {
			break
		}
		if v.State().Armed {
			frames = append(frames, e.Raw)
		}
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	if len(frames) == 0 {
		return nil, fmt.Errorf("the vehicle did not arm within %v", flightTime)
	}
	return frames, nil
}

// add appends a frame with its sender's next sequence number.
func (f *feed) add(m *mavlink.Frame, armed bool) error {
	extra, known := mavlink.CRCExtra(m.ID)
	if !known {
		return fmt.Errorf("message %d: unknown to the scanner", m.ID)
	}
	from := len(f.raw)
	f.raw = append(f.raw, m.Raw...)
	b := f.raw[from:]
	who := sender{m.System, m.Component}
	b[4] = f.sender[who]
	f.sender[who]++
	if m.ID == mavlink.MsgHeartbeat && !armed {
		b[baseMode] &^= armedBit
	}
	// The checksum covers all between start byte and checksum, then CRC_EXTRA.
	end := len(b) - 2
	b[end] = extra
	crc := mavlink.Checksum(b[1 : end+1])
	b[end], b[end+1] = byte(crc), byte(crc>>8)
	f.ends = append(f.ends, len(f.raw))
	return nil
}

// frames is how many there are.
func (f *feed) frames() int { return len(f.ends) }

// at returns frame i.
func (f *feed) at(i int) []byte { return f.span(i, i+1) }

// span returns the frames from one up to, but without, another.
func (f *feed) span(from, to int) []byte {
	begin := 0
	if from > 0 {
		begin = f.ends[from-1]
	}
	return f.raw[begin:f.ends[to-1]]
}

// head returns the first n frames as a feed.
func (f *feed) head(n int) *feed {
	n = min(n, f.frames())
	return &feed{raw: f.raw[:f.ends[n-1]], ends: f.ends[:n], types: f.types}
}
