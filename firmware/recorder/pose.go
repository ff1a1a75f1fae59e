package recorder

import (
	"math"
	"sync"
	"time"

	"holdfast/mavlink"
	"holdfast/storage/segment"
)

const (
	// poseKeep is how many positions and attitudes are remembered: at 50 a second, five seconds.
	poseKeep = 256
	// poseOld is the age at which a position says nothing any more of a photo.
	poseOld = 10 * time.Second
	// gpsOld is the age at which what the GPS said of its accuracy is none any more.
	gpsOld = 10 * time.Second
)

// position is a GLOBAL_POSITION_INT and when it came.
type position struct {
	at time.Duration
	p  mavlink.GlobalPosition
}

// attitude is how something was turned and when that came.
type attitude struct {
	at time.Duration
	a  mavlink.Attitude
}

// row remembers the newest few of something, in the order of arrival.
type row[T any] struct {
	list [poseKeep]T
	n    int
}

func (r *row[T]) add(v T) { r.list[r.n%poseKeep] = v; r.n++ }

// around returns the last one that came at t or before, and the one after it.
func (r *row[T]) around(t time.Duration, at func(*T) time.Duration) (before, after *T) {
	for i := r.n - 1; i >= max(r.n-poseKeep, 0); i-- {
		v := &r.list[i%poseKeep]
		if at(v) <= t {
			return v, after
		}
		after = v
	}
	return nil, after
}

// poseTracker remembers where the vehicle was and how it and its gimbal were turned, by what the
// autopilot says, so that a photo can be told where it was taken. Safe for concurrent use.
type poseTracker struct {
	mu     sync.Mutex
	pos    row[position]
	att    row[attitude]
	gimbal row[attitude]
	gps    mavlink.GPSRaw
	gpsAt  time.Duration
}

// observe takes a frame that came from the autopilot's system. The frame is not kept.
func (t *poseTracker) observe(f *mavlink.Frame) {
	switch f.ID {
	case mavlink.MsgGlobalPositionInt, mavlink.MsgGPSRawInt, mavlink.MsgAttitude, mavlink.MsgMountOrientation, mavlink.MsgGimbalAttitudeStatus:
	default:
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch f.ID {
	case mavlink.MsgGlobalPositionInt:
		if p, ok := mavlink.DecodeGlobalPosition(f); ok && sane(p) {
			t.pos.add(position{f.At, p})
		}
	case mavlink.MsgGPSRawInt:
		if g, ok := mavlink.DecodeGPSRaw(f); ok {
			t.gps, t.gpsAt = g, f.At
		}
	case mavlink.MsgAttitude:
		if a, ok := mavlink.DecodeAttitude(f); ok {
			t.att.add(attitude{f.At, a})
		}
	default:
		t.observeGimbal(f)
	}
}

// observeGimbal takes what tells how the camera is turned. t.mu is held.
func (t *poseTracker) observeGimbal(f *mavlink.Frame) {
	a, ok := mavlink.DecodeMountOrientation(f)
	if f.ID == mavlink.MsgGimbalAttitudeStatus {
		var fromVehicle bool
		a, fromVehicle, ok = mavlink.DecodeGimbalAttitude(f)
		if fromVehicle && t.att.n == 0 {
			return // nobody knows where the nose points
		}
		if fromVehicle {
			nose, _ := t.att.around(f.At, func(a *attitude) time.Duration { return a.at })
			if nose == nil {
				return
			}
			a.Yaw += nose.a.Yaw
		}
	}
	if ok {
		t.gimbal.add(attitude{f.At, a})
	}
}

// sane tells whether a position is one: without a fix an autopilot sends zeros.
func sane(p mavlink.GlobalPosition) bool {
	return (p.Latitude != 0 || p.Longitude != 0) && math.Abs(p.Latitude) <= 90 && math.Abs(p.Longitude) <= 180
}

// at returns the pose at a time since boot that is known within some; nil: none is known that is
// worth a word.
func (t *poseTracker) at(when, within time.Duration) *segment.Pose {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, after := t.pos.around(when, func(p *position) time.Duration { return p.at })
	if before != nil && when-before.at > poseOld {
		before = nil
	}
	if after != nil && after.at-when > poseOld {
		after = nil
	}
	pose, speed := place(before, after, when)
	if pose == nil {
		return nil
	}
	pose.UncertaintyM += speed * within.Seconds()
	if when-t.gpsAt < gpsOld && t.gpsAt > 0 {
		pose.HorizontalM, pose.VerticalM = t.gps.Horizontal, t.gps.Vertical
	}
	if a, at, ok := turned(&t.att, when); ok {
		pose.Roll, pose.Pitch, pose.Yaw, pose.AttUsec = a.Roll, a.Pitch, compass(a.Yaw), at.Microseconds()
	}
	if a, at, ok := turned(&t.gimbal, when); ok {
		pose.Gimbal = &segment.Gimbal{BootUsec: at.Microseconds(), Roll: a.Roll, Pitch: a.Pitch, Yaw: compass(a.Yaw)}
	}
	return pose
}

// place returns where the vehicle was at a time: between two positions on the line between them, else
// at the nearer one. UncertaintyM is how far it can have been from there: half the time between the
// two, or the age of the one, at the speed that it had, and a part of that for turning.
func place(before, after *position, when time.Duration) (pose *segment.Pose, speed float64) {
	switch {
	case before == nil && after == nil:
		return nil, 0
	case before == nil:
		return poseOf(after.p, after.at, after.at-when)
	case after == nil:
		return poseOf(before.p, before.at, when-before.at)
	}
	k := 0.0
	if gap := after.at - before.at; gap > 0 {
		k = float64(when-before.at) / float64(gap)
	}
	mid := mavlink.GlobalPosition{
		Latitude: mix(before.p.Latitude, after.p.Latitude, k), Longitude: mixAngle(before.p.Longitude, after.p.Longitude, k),
		Altitude: mix(before.p.Altitude, after.p.Altitude, k), Height: mix(before.p.Height, after.p.Height, k),
		North: mix(before.p.North, after.p.North, k), East: mix(before.p.East, after.p.East, k), Down: mix(before.p.Down, after.p.Down, k),
	}
	pose, speed = poseOf(mid, when, 0)
	// How far the line may be from the way: what the change of speed over the gap can have done.
	gap := (after.at - before.at).Seconds()
	change := math.Hypot(math.Hypot(after.p.North-before.p.North, after.p.East-before.p.East), after.p.Down-before.p.Down)
	pose.UncertaintyM = change * gap / 8
	return pose, speed
}

func poseOf(p mavlink.GlobalPosition, at, age time.Duration) (pose *segment.Pose, speed float64) {
	speed = math.Hypot(math.Hypot(p.North, p.East), p.Down)
	return &segment.Pose{BootUsec: at.Microseconds(), Latitude: p.Latitude, Longitude: p.Longitude, Altitude: p.Altitude, Height: p.Height,
		UncertaintyM: speed * age.Seconds()}, speed
}

// turned returns how something was turned at a time, between two that are known or by the nearer one,
// and when the one came that counts most.
func turned(r *row[attitude], when time.Duration) (a mavlink.Attitude, at time.Duration, ok bool) {
	before, after := r.around(when, func(a *attitude) time.Duration { return a.at })
	if before != nil && when-before.at > poseOld {
		before = nil
	}
	if after != nil && after.at-when > poseOld {
		after = nil
	}
	switch {
	case before == nil && after == nil:
		return a, 0, false
	case before == nil:
		return after.a, after.at, true
	case after == nil || after.at <= before.at:
		return before.a, before.at, true
	}
	k := float64(when-before.at) / float64(after.at-before.at)
	return mavlink.Attitude{Roll: mixAngle(before.a.Roll, after.a.Roll, k), Pitch: mixAngle(before.a.Pitch, after.a.Pitch, k), Yaw: mixAngle(before.a.Yaw, after.a.Yaw, k)}, when, true
}

func mix(a, b, k float64) float64 { return a + (b-a)*k }

// mixAngle goes the short way round, in degrees; the result lies within 180 of zero.
func mixAngle(a, b, k float64) float64 {
	return math.Remainder(a+math.Remainder(b-a, 360)*k, 360)
}

// compass brings an angle into 0 to 360 degrees.
func compass(a float64) float64 {
	if a = math.Mod(a, 360); a < 0 {
		a += 360
	}
	return a
}
