package vehicle

import (
	"math"
	"time"
)

// phase is a part of the flight, in order.
type phase int

const (
	boot phase = iota
	standby
	armed
	takeOff
	surveying
	returning
	landing
	landed
	disarmed
)

// String returns the name used in State.
func (p phase) String() string {
	return [...]string{"boot", "standby", "armed", "take-off", "survey", "return", "land", "landed", "disarmed"}[p]
}

const (
	maxTilt   = 0.52 // rad, 30°
	slewAcc   = 2.5  // m/s², how fast the wanted velocity changes
	maxPush   = 4.5  // m/s², horizontal acceleration asked for
	reachedAt = 2.5  // m from a waypoint
)

// pilot decides where to fly and turns it into attitude and thrust.
type pilot struct {
	phase    phase
	since    time.Duration // when the phase began
	next     int           // waypoint flown to
	flown    int           // waypoints reached, over all laps
	from     vec           // where the leg began
	wantVel  vec           // after slewing
	integral vec
	wantAcc  vec
	yaw      float64
	cmd      command
}

func (p *pilot) armed() bool { return p.phase >= armed && p.phase <= landed }

func (p *pilot) airborne() bool { return p.phase >= takeOff && p.phase <= landing }

// enter changes the phase and lets the stack announce it.
func (v *Vehicle) enter(next phase) {
	if v.pilot.phase == next {
		return
	}
	v.pilot.phase, v.pilot.since = next, v.now
	if next == takeOff {
		v.pilot.wantVel, v.pilot.integral = vec{}, vec{}
	}
	if next == surveying {
		v.pilot.from = v.body.pos
	}
	v.announce(next)
}

// fly moves the phase on and returns the command for this step.
func (v *Vehicle) fly(dt float64) command {
	v.decide()
	p := &v.pilot
	switch {
	case !p.armed():
		p.cmd = command{att: v.body.att}
	case !p.airborne():
		p.cmd = command{att: v.body.att, motors: true, thrust: idleThrust}
	default:
		p.cmd = v.track(dt, v.guide())
	}
	return p.cmd
}

// decide makes the transitions between phases.
func (v *Vehicle) decide() {
	p, t := &v.pilot, v.now-v.pilot.since
	switch p.phase {
	case boot:
		if v.now >= v.plan.readyAt {
			v.enter(standby)
		}
	case standby:
		if v.now >= v.plan.armAt && v.mayArm() {
			v.enter(armed)
		}
	case armed:
		v.decideArmed(t)
	case takeOff:
		if v.mustReturn() {
			v.enter(landing)
		} else if -v.body.pos[2] > 0.95*v.plan.height {
			v.enter(surveying)
		}
	case surveying:
		if v.mustReturn() {
			v.enter(returning)
		}
	case returning:
		if v.body.pos.horizontal() < 0.8 && v.body.vel.horizontal() < 0.8 || v.mustLand() {
			v.enter(landing)
		}
	case landing:
		if v.body.onGround {
			v.enter(landed)
		}
	case landed:
		if t >= spoolDown || v.overdue() {
			v.enter(disarmed)
		}
	}
}

func (v *Vehicle) decideArmed(t time.Duration) {
	if v.overdue() {
		v.enter(landed)
		return
	}
	began := v.plan.armAt
	if v.arming.late {
		began = v.pilot.since
	}
	if t >= spoolUp && (v.plan.disarmBy == 0 || (v.plan.disarmBy-began).Seconds() >= shortestHop) {
		v.enter(takeOff)
	}
}

// overdue tells that the motors must stop now, once on the ground.
func (v *Vehicle) overdue() bool {
	return v.plan.disarmBy > 0 && v.now >= v.plan.disarmBy-spoolDown
}

// remaining is the time left until disarming, in s.
func (v *Vehicle) remaining() float64 {
	if v.plan.disarmBy == 0 {
		return math.Inf(1)
	}
	return (v.plan.disarmBy - v.now).Seconds()
}

// mustReturn tells that the time or the battery left is needed for the way home.
func (v *Vehicle) mustReturn() bool {
	home := v.body.pos.horizontal()/v.plan.speed + 2*v.plan.speed/slewAcc + 1
	if v.pilot.phase == takeOff {
		home = 0
	}
	return v.remaining() < 1.05*(home+descentTime(v.body.height()))+1.2 || v.power.left() < lowBattery
}

func (v *Vehicle) mustLand() bool {
	return v.remaining() < descentTime(v.body.height())+1.0
}

// guide returns the wanted velocity, NED in m/s.
func (v *Vehicle) guide() vec {
	b, p := &v.body, &v.pilot
	switch p.phase {
	case takeOff:
		up := clamp(0.9*(v.plan.height+0.4+b.pos[2]), 0.3, climbSpeed)
		return hold(b.pos, vec{}, -up)
	case landing:
		return hold(b.pos, p.from, v.sink())
	case returning:
		p.from = vec{}
		return v.toward(vec{0, 0, b.pos[2]}, true)
	}
	target := v.plan.grid[p.next]
	if target.sub(b.pos).horizontal() < reachedAt*clamp(v.plan.speed/4, 0.5, 1.5) {
		v.reached()
		target = v.plan.grid[p.next]
	}
	return v.toward(target, false)
}

// hold keeps the horizontal place and moves down at the given speed.
func hold(pos, at vec, down float64) vec {
	const most = 1.5 // m/s
	return vec{clamp(at[0]-pos[0], -most, most), clamp(at[1]-pos[1], -most, most), down}
}

// sink is the speed of descent: slower near the ground, unless time runs out.
func (v *Vehicle) sink() float64 {
	h := v.body.height()
	down := clamp(sinkPerMetre*h, touchSpeed, sinkSpeed)
	if left := v.remaining() - spoolDown.Seconds() - 0.5; !math.IsInf(left, 1) && h > 0.3 {
		down = math.Max(down, math.Min(h/math.Max(left, 0.1), 3))
	}
	return down
}

// toward flies along the leg to the target; the aim runs ahead on the leg so that the
// line between the waypoints is held in the wind.
func (v *Vehicle) toward(target vec, stop bool) vec {
	b, p := &v.body, &v.pilot
	leg := target.sub(p.from)
	length := math.Max(leg.horizontal(), 0.1)
	done := b.pos.sub(p.from)
	along := (done[0]*leg[0] + done[1]*leg[1]) / length
	ahead := clamp(along+math.Max(2, 1.2*v.plan.speed), 0, length)
	aim := p.from.add(leg.times(ahead / length))
	if stop {
		aim = target
	}
	to, left := aim.sub(b.pos), target.sub(b.pos).horizontal()
	// Waypoints are rounded, not stopped at: the bank of the turn comes from this.
	speed := math.Min(v.plan.speed, math.Sqrt(2*0.8*slewAcc*left)+1)
	if stop {
		speed = math.Min(v.plan.speed, 0.6*left)
	}
	d := math.Max(to.horizontal(), 0.1)
	if left > 2 {
		p.yaw = math.Atan2(target[1]-b.pos[1], target[0]-b.pos[0])
	}
	return vec{to[0] / d * speed, to[1] / d * speed, clamp(0.8*(target[2]-b.pos[2]), -1.5, 1.5)}
}

// reached moves to the next waypoint, round the grid again after the last.
func (v *Vehicle) reached() {
	p := &v.pilot
	v.missionReached(p.next)
	p.from = v.plan.grid[p.next]
	p.flown++
	p.next = p.flown % len(v.plan.grid)
}

// track turns a wanted velocity into attitude and thrust.
func (v *Vehicle) track(dt float64, want vec) command {
	p, b := &v.pilot, &v.body
	p.slew(dt, want)
	for i := range p.wantAcc {
		gain, sum, most := 1.8, 0.7, maxPush
		if i == 2 {
			gain, sum, most = 3.0, 1.2, 3.5
		}
		diff := p.wantVel[i] - b.vel[i]
		p.integral[i] = clamp(p.integral[i]+sum*diff*dt, -most, most)
		p.wantAcc[i] = clamp(gain*diff+p.integral[i], -most, most)
	}
	return command{att: p.attitude(b.att[2]), thrust: p.thrust(), motors: true}
}

// slew limits how fast the wanted velocity may change.
func (p *pilot) slew(dt float64, want vec) {
	diff := want.sub(p.wantVel)
	if h := diff.horizontal(); h > slewAcc*dt {
		diff[0], diff[1] = diff[0]/h*slewAcc*dt, diff[1]/h*slewAcc*dt
	}
	diff[2] = clamp(diff[2], -slewAcc*dt, slewAcc*dt)
	p.wantVel = p.wantVel.add(diff)
}

// thrust is the length of the wanted specific force.
func (p *pilot) thrust() float64 {
	f := p.wantAcc.sub(vec{0, 0, gravity})
	return clamp(f.length(), 0.3*gravity, maxThrust)
}

// attitude tilts the thrust toward the wanted acceleration, seen from the heading.
func (p *pilot) attitude(heading float64) vec {
	sin, cos := math.Sincos(heading)
	f := p.wantAcc.sub(vec{0, 0, gravity})
	forward, right := cos*f[0]+sin*f[1], cos*f[1]-sin*f[0]
	pitch := clamp(math.Atan2(-forward, -f[2]), -maxTilt, maxTilt)
	roll := clamp(math.Atan2(right, math.Hypot(forward, f[2])), -maxTilt, maxTilt)
	return vec{roll, pitch, p.yaw}
}
