package vehicle

import (
	"math"
	"math/rand/v2"
)

const (
	gravity     = 9.80665 // m/s²
	maxThrust   = 2.1 * gravity
	idleThrust  = 0.06 * gravity
	thrustLag   = 0.06 // s
	linearDrag  = 0.18 // 1/s
	quadDrag    = 0.006
	attitudeHz  = 9.0 // rad/s, natural frequency of roll and pitch
	yawHz       = 3.0
	maxRate     = 3.8  // rad/s
	maxYawRate  = 1.05 // rad/s
	restingTilt = 0.008
)

// vec is north, east, down or forward, right, down; or roll, pitch, yaw.
type vec [3]float64

func (a vec) horizontal() float64 { return math.Hypot(a[0], a[1]) }

func (a vec) length() float64 { return math.Sqrt(a[0]*a[0] + a[1]*a[1] + a[2]*a[2]) }

func (a vec) add(b vec) vec { return vec{a[0] + b[0], a[1] + b[1], a[2] + b[2]} }

func (a vec) sub(b vec) vec { return vec{a[0] - b[0], a[1] - b[1], a[2] - b[2]} }

func (a vec) times(f float64) vec { return vec{a[0] * f, a[1] * f, a[2] * f} }

// body is the airframe. Positions are metres from home, rotations radians.
type body struct {
	pos, vel, acc vec
	att, attRate  vec // roll, pitch, yaw and their rates
	attAcc        vec
	thrust        float64 // specific thrust, m/s²
	onGround      bool
}

// command is what the pilot asks of the airframe.
type command struct {
	att    vec
	thrust float64
	motors bool
}

// terrain is the height of the ground above home at a point, in m. It is flat at home.
func terrain(pos vec) float64 {
	d2 := pos[0]*pos[0] + pos[1]*pos[1]
	far := 1 - math.Exp(-d2/(70*70))
	return far * (2.2*math.Sin(pos[0]/31) + 1.4*math.Cos(pos[1]/23+pos[0]/57))
}

func (b *body) height() float64 { return math.Max(0, -b.pos[2]-terrain(b.pos)) }

// step integrates the body over dt seconds in the given wind (NED, m/s).
func (b *body) step(dt float64, c command, wind vec) {
	want := c.thrust
	if !c.motors {
		want = 0
	}
	b.thrust += (want - b.thrust) * dt / thrustLag
	if b.onGround && b.thrust*math.Cos(restingTilt) <= gravity {
		b.rest(dt)
		return
	}
	b.onGround = false
	b.rotate(dt, c.att)
	b.acc = b.lift().add(drag(wind.sub(b.vel)))
	b.acc[2] += gravity
	b.vel = b.vel.add(b.acc.times(dt))
	b.pos = b.pos.add(b.vel.times(dt))
	if -b.pos[2] <= terrain(b.pos) {
		b.pos[2] = -terrain(b.pos)
		if b.vel[2] >= 0 {
			b.onGround = true
			b.rest(dt)
		}
	}
}

// rest holds the body on the ground; the attitude settles on the landing gear.
func (b *body) rest(dt float64) {
	b.vel, b.acc = vec{}, vec{}
	b.rotate(dt, vec{restingTilt, -restingTilt / 2, b.att[2]})
}

// rotate follows the wanted attitude as a damped second-order system.
func (b *body) rotate(dt float64, want vec) {
	for i := range b.att {
		w, limit := attitudeHz, maxRate
		diff := want[i] - b.att[i]
		if i == 2 {
			w, limit = yawHz, maxYawRate
			diff = wrapPi(diff)
		}
		b.attAcc[i] = w*w*diff - 1.7*w*b.attRate[i]
		was := b.attRate[i]
		b.attRate[i] = clamp(was+b.attAcc[i]*dt, -limit, limit)
		b.attAcc[i] = (b.attRate[i] - was) / dt
		b.att[i] += b.attRate[i] * dt
	}
	b.att[2] = wrapPi(b.att[2])
}

// lift is the acceleration by thrust in NED.
func (b *body) lift() vec { return b.toEarth(vec{0, 0, -b.thrust}) }

func drag(air vec) vec { return air.times(linearDrag + quadDrag*air.length()) }

// rates are the body rates p, q, r in rad/s.
func (b *body) rates() vec {
	sr, cr := math.Sincos(b.att[0])
	sp, cp := math.Sincos(b.att[1])
	d := b.attRate
	return vec{d[0] - sp*d[2], cr*d[1] + sr*cp*d[2], -sr*d[1] + cr*cp*d[2]}
}

// force is what ideal accelerometers read: forward, right, down, m/s².
func (b *body) force() vec { return b.toBody(b.acc.sub(vec{0, 0, gravity})) }

// rotation is the matrix from body to earth axes.
func (b *body) rotation() [3]vec {
	sr, cr := math.Sincos(b.att[0])
	sp, cp := math.Sincos(b.att[1])
	sy, cy := math.Sincos(b.att[2])
	return [3]vec{
		{cp * cy, sr*sp*cy - cr*sy, cr*sp*cy + sr*sy},
		{cp * sy, sr*sp*sy + cr*cy, cr*sp*sy - sr*cy},
		{-sp, sr * cp, cr * cp},
	}
}

func (b *body) toEarth(a vec) (out vec) {
	for i, row := range b.rotation() {
		out[i] = row[0]*a[0] + row[1]*a[1] + row[2]*a[2]
	}
	return out
}

func (b *body) toBody(a vec) (out vec) {
	for i, row := range b.rotation() {
		for j := range row {
			out[j] += row[j] * a[i]
		}
	}
	return out
}

// quaternion is the attitude as w, x, y, z.
func quaternion(att vec) [4]float32 {
	sr, cr := math.Sincos(att[0] / 2)
	sp, cp := math.Sincos(att[1] / 2)
	sy, cy := math.Sincos(att[2] / 2)
	return [4]float32{
		float32(cr*cp*cy + sr*sp*sy), float32(sr*cp*cy - cr*sp*sy),
		float32(cr*sp*cy + sr*cp*sy), float32(cr*cp*sy - sr*sp*cy),
	}
}

// motors are the four outputs of a quad in X, 0 to 1: front right, rear left, front
// left, rear right. They carry the thrust and the torque that turns the body.
func (b *body) motors() (out [4]float64) {
	if b.thrust < 0.01 {
		return out
	}
	roll, pitch, yaw := b.attAcc[0]*0.02, b.attAcc[1]*0.02, b.attAcc[2]*0.05
	mix := [4]float64{-roll + pitch + yaw, roll - pitch + yaw, roll + pitch - yaw, -roll - pitch - yaw}
	for i := range out {
		out[i] = clamp(math.Sqrt(b.thrust/maxThrust)*(1+mix[i]*0.4), 0.02, 1)
	}
	return out
}

// air is the wind: a mean that grows with height and gusts that come and go.
type air struct {
	rnd        *rand.Rand
	mean, gust vec
	wind       vec // NED, m/s
}

func newAir(rnd *rand.Rand) air {
	from, speed := rnd.Float64()*2*math.Pi, 2+4*rnd.Float64()
	return air{rnd: rnd, mean: vec{-speed * math.Cos(from), -speed * math.Sin(from), 0}}
}

func (a *air) step(dt, height float64) {
	const settle = 3.0 // s
	sigma := vec{1.1, 1.1, 0.35}
	for i := range a.gust {
		a.gust[i] += -a.gust[i]*dt/settle + sigma[i]*math.Sqrt(2*dt/settle)*a.rnd.NormFloat64()
	}
	// Next to the ground the wind is slower; this is the usual power law.
	shear := math.Pow(clamp(height+0.5, 0.5, 120)/20, 0.16)
	a.wind = a.mean.add(a.gust).times(shear)
}

// power is a six-cell battery of 10 Ah and what the motors draw from it.
type power struct {
	volts, amps float64
	usedMah     float64
	usedJoule   float64
}

const (
	cells      = 6
	capacity   = 10000.0 // mAh
	resistance = 0.026   // ohm
	hoverWatts = 350.0
	baseWatts  = 11.0
)

func newPower() power { return power{volts: cells * 4.19, amps: 0.45} }

func (p *power) left() float64 { return clamp(1-p.usedMah/capacity, 0, 1) }

func (p *power) step(dt, thrust float64, armed bool) {
	watts := baseWatts
	if armed {
		watts += 6 + hoverWatts*math.Pow(math.Max(thrust, 0)/gravity, 1.5)
	}
	p.amps += (watts/p.volts - p.amps) * dt / 0.15
	soc := p.left()
	rest := cells * (3.30 + 0.75*soc + 0.15*math.Pow(soc, 8) - 0.25*math.Exp(-soc*25))
	p.volts = math.Max(rest-p.amps*resistance, cells*2.5)
	p.usedMah += p.amps * dt / 3.6
	p.usedJoule += p.amps * p.volts * dt
}

func clamp(x, low, high float64) float64 { return math.Min(math.Max(x, low), high) }

// wrapPi brings an angle into -π to π.
func wrapPi(a float64) float64 {
	for a > math.Pi {
		a -= 2 * math.Pi
	}
	for a < -math.Pi {
		a += 2 * math.Pi
	}
	return a
}
