package vehicle

import (
	"math"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// This file holds the messages that both stacks send: attitude, position and guidance.

// up is the time since the autopilot started.
func (v *Vehicle) up() time.Duration { return v.now - v.bootAt }

func (v *Vehicle) ms() uint32 { return uint32(v.up().Milliseconds()) }

func (v *Vehicle) us() uint64 { return uint64(v.up().Microseconds()) }

func attitude(v *Vehicle) message.Message {
	r := v.body.rates()
	a := v.body.att
	return &common.MessageAttitude{
		TimeBootMs: v.ms(), Roll: float32(a[0]), Pitch: float32(a[1]), Yaw: float32(a[2]),
		Rollspeed: float32(r[0] + v.noise(0.001)), Pitchspeed: float32(r[1] + v.noise(0.001)), Yawspeed: float32(r[2] + v.noise(0.001)),
	}
}

func attitudeQuaternion(v *Vehicle) message.Message {
	q, r := quaternion(v.body.att), v.body.rates()
	return &common.MessageAttitudeQuaternion{
		TimeBootMs: v.ms(), Q1: q[0], Q2: q[1], Q3: q[2], Q4: q[3],
		Rollspeed: float32(r[0] + v.noise(0.001)), Pitchspeed: float32(r[1] + v.noise(0.001)), Yawspeed: float32(r[2] + v.noise(0.001)),
	}
}

func localPosition(v *Vehicle) message.Message {
	if !v.located() {
		return nil
	}
	p, s := v.position(), v.body.vel
	return &common.MessageLocalPositionNed{
		TimeBootMs: v.ms(), X: float32(p[0]), Y: float32(p[1]), Z: float32(p[2]),
		Vx: float32(s[0]), Vy: float32(s[1]), Vz: float32(s[2]),
	}
}

func globalPosition(v *Vehicle) message.Message {
	p, s := v.position(), v.body.vel
	m := &common.MessageGlobalPositionInt{
		TimeBootMs: v.ms(), Alt: millis(v.nav.homeAlt - p[2]), RelativeAlt: millis(-p[2]),
		Vx: cm(s[0]), Vy: cm(s[1]), Vz: cm(s[2]), Hdg: uint16(degrees360(v.body.att[2]) * 100),
	}
	// Before the estimator has a position, latitude and longitude stay zero.
	if v.located() {
		m.Lat, m.Lon = v.nav.e7(p)
	}
	return m
}

func gpsRaw(v *Vehicle) message.Message {
	g := v.gps(0)
	return &common.MessageGpsRawInt{
		TimeUsec: v.us(), FixType: common.GPS_FIX_TYPE(g.fix), Lat: g.lat, Lon: g.lon, Alt: millis(g.alt),
		Eph: uint16(g.hdop * 100), Epv: uint16(g.vdop * 100), Vel: uint16(g.speed * 100), Cog: uint16(g.course * 100),
		SatellitesVisible: uint8(g.satellites), AltEllipsoid: millis(g.alt + geoidHeight),
		HAcc: uint32(g.hAcc * 1000), VAcc: uint32(g.vAcc * 1000), VelAcc: 180, HdgAcc: 500000,
	}
}

func vfrHud(v *Vehicle) message.Message {
	b := &v.body
	return &common.MessageVfrHud{
		Airspeed: float32(v.airspeed()), Groundspeed: float32(b.vel.horizontal()), Heading: int16(degrees360(b.att[2])),
		Throttle: uint16(b.thrust / maxThrust * 100), Alt: float32(v.nav.homeAlt - b.pos[2]), Climb: float32(-b.vel[2]),
	}
}

func navController(v *Vehicle) message.Message {
	p, c := &v.pilot, v.pilot.cmd.att
	to := v.target().sub(v.body.pos)
	m := &common.MessageNavControllerOutput{
		NavRoll: float32(degrees(c[0])), NavPitch: float32(degrees(c[1])), NavBearing: int16(degrees(p.yaw)),
	}
	if p.airborne() {
		m.TargetBearing, m.WpDist = int16(degrees(math.Atan2(to[1], to[0]))), uint16(to.horizontal())
		m.AltError, m.XtrackError = float32(-to[2]), float32(v.crossTrack())
	}
	return m
}

// target is the place flown to, NED from home.
func (v *Vehicle) target() vec {
	switch v.pilot.phase {
	case takeOff:
		return vec{0, 0, -v.plan.height}
	case surveying:
		return v.plan.grid[v.pilot.next]
	case returning:
		return vec{0, 0, v.body.pos[2]}
	}
	return vec{0, 0, -terrain(v.body.pos)}
}

// crossTrack is the distance from the leg in m, positive to the right of it.
func (v *Vehicle) crossTrack() float64 {
	leg, off := v.target().sub(v.pilot.from), v.body.pos.sub(v.pilot.from)
	if v.pilot.phase != surveying || leg.horizontal() < 0.1 {
		return 0
	}
	return (leg[0]*off[1] - leg[1]*off[0]) / leg.horizontal()
}

func targetGlobal(v *Vehicle) message.Message {
	if !v.located() {
		return nil
	}
	t, w, a := v.target(), v.pilot.wantVel, v.pilot.wantAcc
	lat, lon := v.nav.e7(t)
	return &common.MessagePositionTargetGlobalInt{
		TimeBootMs: v.ms(), CoordinateFrame: common.MAV_FRAME_GLOBAL_INT, LatInt: lat, LonInt: lon,
		Alt: float32(v.nav.homeAlt - t[2]), Vx: float32(w[0]), Vy: float32(w[1]), Vz: float32(w[2]),
		Afx: float32(a[0]), Afy: float32(a[1]), Afz: float32(a[2]), Yaw: float32(v.pilot.yaw), YawRate: float32(v.body.attRate[2]),
	}
}

func targetLocal(v *Vehicle) message.Message {
	if !v.located() {
		return nil
	}
	t, w, a := v.target(), v.pilot.wantVel, v.pilot.wantAcc
	return &common.MessagePositionTargetLocalNed{
		TimeBootMs: v.ms(), CoordinateFrame: common.MAV_FRAME_LOCAL_NED, X: float32(t[0]), Y: float32(t[1]), Z: float32(t[2]),
		Vx: float32(w[0]), Vy: float32(w[1]), Vz: float32(w[2]),
		Afx: float32(a[0]), Afy: float32(a[1]), Afz: float32(a[2]), Yaw: float32(v.pilot.yaw), YawRate: float32(v.body.attRate[2]),
	}
}

func globalOrigin(v *Vehicle) message.Message {
	lat, lon := v.nav.e7(vec{})
	return &common.MessageGpsGlobalOrigin{Latitude: lat, Longitude: lon, Altitude: millis(v.nav.homeAlt), TimeUsec: v.us()}
}

func homePosition(v *Vehicle) message.Message {
	if !v.located() {
		return nil
	}
	lat, lon := v.nav.e7(vec{})
	return &common.MessageHomePosition{
		Latitude: lat, Longitude: lon, Altitude: millis(v.nav.homeAlt), Q: quaternion(vec{}), ApproachZ: 1, TimeUsec: v.us(),
	}
}

func highresIMU(v *Vehicle) message.Message {
	r := v.imu(0)
	press, celsius := v.baro(0)
	return &common.MessageHighresImu{
		TimeUsec: v.us(), Xacc: float32(r.acc[0]), Yacc: float32(r.acc[1]), Zacc: float32(r.acc[2]),
		Xgyro: float32(r.gyro[0]), Ygyro: float32(r.gyro[1]), Zgyro: float32(r.gyro[2]),
		Xmag: float32(r.mag[0] / 1000), Ymag: float32(r.mag[1] / 1000), Zmag: float32(r.mag[2] / 1000),
		AbsPressure: float32(press), PressureAlt: float32(44330.77 * (1 - math.Pow(press/1013.25, 0.190263))),
		Temperature: float32(celsius), FieldsUpdated: 0x1bff,
	}
}

// units is a reading in the units of the old IMU messages: mG, mrad/s, milligauss.
func (r imu) units() (a, g, m [3]int16) {
	for i := range a {
		a[i], g[i], m[i] = int16(r.acc[i]/gravity*1000), int16(r.gyro[i]*1000), int16(r.mag[i])
	}
	return a, g, m
}

// millis is metres as millimetres, rounded.
func millis(m float64) int32 { return int32(math.Round(m * 1000)) }

// cm is m/s as cm/s, rounded.
func cm(m float64) int16 { return int16(math.Round(m * 100)) }
