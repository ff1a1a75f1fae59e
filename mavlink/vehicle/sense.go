package vehicle

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	metresPerDegree = 111319.49
	geoidHeight     = 46.2 // m, of the ellipsoid model at home
)

// nav is where the flight is on Earth, and the slow errors of what measures it.
type nav struct {
	lat, lon float64 // of home, degrees
	homeAlt  float64 // m above mean sea level
	phase    [12]float64
}

func newNav(rnd *rand.Rand) nav {
	n := nav{
		lat:     52.23 + 0.01*rnd.Float64(),
		lon:     5.71 + 0.01*rnd.Float64(),
		homeAlt: 41 + 3*rnd.Float64(),
	}
	for i := range n.phase {
		n.phase[i] = rnd.Float64() * 2 * math.Pi
	}
	return n
}

// latLon turns metres from home into degrees.
func (n *nav) latLon(p vec) (lat, lon float64) {
	return n.lat + p[0]/metresPerDegree, n.lon + p[1]/(metresPerDegree*math.Cos(n.lat*math.Pi/180))
}

// e7 is latLon in the unit of MAVLink, 1e-7 degrees.
func (n *nav) e7(p vec) (lat, lon int32) {
	a, b := n.latLon(p)
	return int32(math.Round(a * 1e7)), int32(math.Round(b * 1e7))
}

// wander is a smooth error of about the given size in m; its own speed is so small that
// position and speed still fit each other.
func (n *nav) wander(t time.Duration, size float64, which int) (e vec) {
	for i := range e {
		k := (which*3 + i) % len(n.phase)
		period := 61 + 13*float64(k)
		e[i] = size * math.Sin(2*math.Pi*t.Seconds()/period+n.phase[k])
	}
	return e
}

// located tells that the estimator has a position.
func (v *Vehicle) located() bool { return v.now >= v.plan.readyAt }

// position is the estimator's, NED from home.
func (v *Vehicle) position() vec { return v.body.pos.add(v.nav.wander(v.now, 0.15, 0)) }

func (v *Vehicle) noise(sigma float64) float64 { return sigma * v.sense.NormFloat64() }

// shake is the strength of vibration, which grows with thrust: m/s².
func (v *Vehicle) shake() float64 {
	u := v.body.thrust / maxThrust
	return 0.03 + 0.9*u*u + 0.02*v.body.vel.length()*u
}

// imu is one reading of one of three units: m/s², rad/s, milligauss.
type imu struct{ acc, gyro, mag vec }

func (v *Vehicle) imu(unit int) imu {
	// The Earth's field at home: north, east, down.
	field := vec{187, 8, 451}
	r := imu{acc: v.body.force(), gyro: v.body.rates(), mag: v.body.toBody(field)}
	bias := 0.01 * float64(unit+1)
	shake := v.shake()
	for i := range r.acc {
		r.acc[i] += bias*float64(i-1) + v.noise(0.02+shake)
		r.gyro[i] += bias*0.05*float64(1-i) + v.noise(0.001+0.004*shake)
		// Motor current bends the field a little.
		r.mag[i] += v.noise(1.2) + 0.08*v.power.amps*float64(i+unit-1)
	}
	return r
}

// baro is the pressure at the vehicle in hPa and the temperature of the sensor in °C.
func (v *Vehicle) baro(unit int) (press, celsius float64) {
	alt := v.nav.homeAlt - v.body.pos[2]
	press = 1013.25*math.Pow(1-alt/44330.77, 5.25588) + 0.02*float64(unit) + v.noise(0.012)
	press += 0.03 * math.Sin(v.now.Seconds()/190+v.nav.phase[3])
	warm := 1 - math.Exp(-v.now.Seconds()/240)
	return press, 21 + 17*warm + float64(unit) + v.noise(0.03)
}

// gps is one reading of a receiver.
type gps struct {
	fix        int // 1 none, 2 2D, 3 3D, 4 differential
	lat, lon   int32
	alt        float64 // m above mean sea level
	hdop, vdop float64
	speed      float64 // m/s
	course     float64 // degrees, 0 to 360
	satellites int
	hAcc, vAcc float64 // m
	vel        vec
}

func (v *Vehicle) gps(unit int) gps {
	ready := v.now.Seconds() / v.plan.gpsAt.Seconds()
	g := gps{fix: 1, hdop: 99.99, vdop: 99.99, satellites: int(clamp(ready*9, 0, 9)), hAcc: 50, vAcc: 80}
	switch {
	case ready < 0.6:
		return g
	case ready < 1:
		g.fix, g.hdop, g.vdop, g.hAcc, g.vAcc = 2, 3.4, 6, 9, 20
	default:
		g.fix = 3
		better := 1 - math.Exp(-(ready-1)*3)
		g.satellites = 9 + int(better*float64(9-unit)+0.5*math.Sin(v.now.Seconds()/41))
		g.hdop, g.vdop = 1.9-1.2*better+math.Abs(v.noise(0.01)), 2.6-1.5*better
		g.hAcc, g.vAcc = 2.2-1.6*better, 3.4-2.3*better
		if ready > 1.4 && unit == 0 {
			g.fix = 4
		}
	}
	p := v.body.pos.add(v.nav.wander(v.now, 0.4+0.2*float64(unit), 1+unit))
	p = p.add(vec{v.noise(0.03), v.noise(0.03), v.noise(0.06)})
	g.lat, g.lon = v.nav.e7(p)
	g.alt = v.nav.homeAlt - p[2]
	g.vel = v.body.vel.add(vec{v.noise(0.04), v.noise(0.04), v.noise(0.07)})
	g.speed = g.vel.horizontal()
	g.course = degrees360(math.Atan2(g.vel[1], g.vel[0]))
	return g
}

// rangefinder is the distance to the ground below in m, by a sensor that reaches 40 m.
func (v *Vehicle) rangefinder() float64 {
	slant := v.body.height() / math.Max(math.Cos(v.body.att[0])*math.Cos(v.body.att[1]), 0.5)
	return clamp(0.22+slant+v.noise(0.008+0.002*slant), 0.2, 40)
}

// airspeed is the speed through the air in m/s.
func (v *Vehicle) airspeed() float64 { return v.body.vel.sub(v.air.wind).length() }

func degrees(rad float64) float64 { return rad * 180 / math.Pi }

// degrees360 is an angle in degrees, 0 up to but not including 360.
func degrees360(rad float64) float64 {
	d := math.Mod(degrees(rad)+360, 360)
	return math.Mod(math.Round(d*100)/100, 360)
}
