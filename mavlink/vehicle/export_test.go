package vehicle

import "strings"

// Mute stops the steady streams and the burst of parameters, so that a test of the flight
// alone runs fast. What is said when a phase begins is still sent.
func (v *Vehicle) Mute() { v.streams, v.params = nil, nil }

// Hush leaves of the steady streams those of at most 1 Hz and ATTITUDE, and no burst of
// parameters, so that a test of a conversation that needs no busy line runs fast.
func (v *Vehicle) Hush() {
	v.params = nil
	for i := range v.streams {
		s := &v.streams[i]
		attitude := s.hz == 50 && v.streamOf(30) == s
		s.off = s.hz > 1 && !attitude
	}
}

// Drain leaves the given part of the battery.
func (v *Vehicle) Drain(left float64) { v.power.usedMah = capacity * (1 - left) }

// Down is the position below home in m; State has it rounded off by the terrain.
func (v *Vehicle) Down() float64 { return v.body.pos[2] + terrain(v.body.pos) }

// Step advances the flight by one tick, whether there are frames or not, and drops them.
func (v *Vehicle) Step() bool {
	v.step()
	return !v.done
}

// ParamWords are the words of the list of settings of a stack.
func ParamWords(s Stack) []string {
	if s == PX4 {
		return strings.Fields(px4Params)
	}
	return strings.Fields(copterParams)
}
