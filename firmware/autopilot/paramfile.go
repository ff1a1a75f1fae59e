package autopilot

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// same tells whether two values are equal to the bit: PX4's integers are no floats.
func (a param) same(b param) bool {
	return a.kind == b.kind && math.Float32bits(a.value) == math.Float32bits(b.value)
}

// paramFile writes parameters as QGroundControl does: system, component, name, value and
// MAV_PARAM_TYPE in columns divided by tabs
// (https://docs.qgroundcontrol.com/master/en/qgc-dev-guide/file_formats/parameters.html).
func paramFile(s *params) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Onboard parameters for Vehicle %d\n#\n# Autopilot: %s\n", s.p.pilot.system, s.p.pilot.flavour)
	switch {
	case s.complete():
		fmt.Fprintf(&b, "# Complete: yes, %d parameters\n", len(s.values))
	case len(s.have) > 0:
		fmt.Fprintf(&b, "# Complete: no, %d of %d parameters came\n", s.count, len(s.have))
	default:
		fmt.Fprintf(&b, "# Complete: no, %d parameters are known\n", len(s.values))
	}
	b.WriteString("#\n# Vehicle-Id Component-Id Name Value Type\n")
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		v := s.values[name]
		fmt.Fprintf(&b, "%d\t1\t%s\t%s\t%d\n", s.p.pilot.system, paramName(name), v.text(s.p.pilot.flavour == PX4), v.kind)
	}
	return b.Bytes()
}

// text writes the value. PX4 puts the bits of an integer into the float, ArduPilot its number
// (https://mavlink.io/en/services/parameter.html#parameter-encoding).
func (a param) text(bitwise bool) string {
	bits := math.Float32bits(a.value)
	if !bitwise || a.kind == common.MAV_PARAM_TYPE_REAL32 {
		return strconv.FormatFloat(float64(a.value), 'f', -1, 32)
	}
	switch a.kind {
	case common.MAV_PARAM_TYPE_UINT8:
		return strconv.Itoa(int(uint8(bits)))
	case common.MAV_PARAM_TYPE_INT8:
		return strconv.Itoa(int(int8(bits)))
	case common.MAV_PARAM_TYPE_UINT16:
		return strconv.Itoa(int(uint16(bits)))
	case common.MAV_PARAM_TYPE_INT16:
		return strconv.Itoa(int(int16(bits)))
	case common.MAV_PARAM_TYPE_UINT32:
		return strconv.FormatUint(uint64(bits), 10)
	case common.MAV_PARAM_TYPE_INT32:
		return strconv.Itoa(int(int32(bits)))
	}
	return strconv.FormatFloat(float64(a.value), 'f', -1, 32)
}
