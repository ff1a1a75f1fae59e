package autopilot

import "time"

// Turn is what Run does each time it wakes.
func (p *Part) Turn(now time.Duration) time.Duration { return p.turn(now) }
