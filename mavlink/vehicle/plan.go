package vehicle

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	climbSpeed   = 2.5 // m/s
	sinkSpeed    = 2.0 // m/s
	touchSpeed   = 0.5 // m/s
	sinkPerMetre = 0.6 // 1/s: sink speed for each metre left, between the two above
	spoolUp      = 800 * time.Millisecond
	spoolDown    = 600 * time.Millisecond
	// shortestHop is the least armed time in which leaving the ground and landing fit.
	shortestHop = 4.0 // s
	lowBattery  = 0.22
)

// plan is what the flight intends: times since power-on, heights and the grid.
type plan struct {
	gpsAt    time.Duration // 3D fix
	readyAt  time.Duration // estimator settled, home set
	armAt    time.Duration
	disarmBy time.Duration // 0: no end
	height   float64       // m above home
	speed    float64       // m/s over ground
	grid     []vec         // waypoints at height, flown in laps
}

// newPlan fits the flight into d: on the ground until 5.5 s (8 s at most, on long
// flights), disarmed two seconds before the end; shorter than 12 s all is scaled.
func newPlan(d time.Duration, rnd *rand.Rand) plan {
	p := plan{armAt: 8 * time.Second}
	armed := math.Inf(1)
	if d > 0 {
		p.armAt, p.disarmBy = window(d)
		armed = (p.disarmBy - p.armAt).Seconds()
	}
	p.gpsAt, p.readyAt = p.armAt*55/100, p.armAt*75/100
	p.height = clamp(armed*0.3, 0.4, 38)
	p.speed = clamp(armed*0.12, 1, 8)
	p.grid = survey(p.height, clamp(armed*0.7, 4, 90), clamp(armed*0.12, 2, 14), rnd)
	return p
}

func window(d time.Duration) (arm, disarm time.Duration) {
	const full = 12 * time.Second
	if d < full {
		return d * 55 / 120, d * 100 / 120
	}
	arm = max(5500*time.Millisecond, min(d/5, 8*time.Second))
	return arm, d - 2*time.Second
}

// survey is a lawn-mower grid: eight lines of the given length and spacing in m.
func survey(height, length, spacing float64, rnd *rand.Rand) []vec {
	const lines = 8
	sin, cos := math.Sincos(rnd.Float64() * 2 * math.Pi)
	var grid []vec
	for i := range lines {
		from, to := 0.1*length, 1.1*length
		if i%2 == 1 {
			from, to = to, from
		}
		across := (float64(i) - lines/2) * spacing
		for _, along := range []float64{from, to} {
			grid = append(grid, vec{along*cos - across*sin, along*sin + across*cos, -height})
		}
	}
	return grid
}

// descentTime is how long a landing from height takes, in s.
func descentTime(height float64) float64 {
	slow, fast := touchSpeed/sinkPerMetre, sinkSpeed/sinkPerMetre
	t := 0.8 // until it sinks at speed
	if height > fast {
		t += (height - fast) / sinkSpeed
		height = fast
	}
	if height > slow {
		t += math.Log(height/slow) / sinkPerMetre
		height = slow
	}
	return t + height/touchSpeed
}
