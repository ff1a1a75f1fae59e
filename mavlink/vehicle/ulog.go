package vehicle

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// ulogFormat makes PX4's log, ULog version 1: a header of 16 bytes, then messages, each a
// size of 16 bits, a letter for its type, and as many bytes, little-endian
// (https://docs.px4.io/main/en/dev_log/ulog_file_format.html).
type ulogFormat struct{}

// ulogMagic begins a file; the last byte is the version.
var ulogMagic = []byte{'U', 'L', 'o', 'g', 0x01, 0x12, 0x35, 1}

// ulogSync marks a place from which reading can go on.
var ulogSync = []byte{0x2F, 0x73, 0x13, 0x20, 0x25, 0x0C, 0xBB, 0x12}

// Ids of the topics below, in their order.
const (
	topicAttitude = iota
	topicSensors
	topicPosition
	topicBattery
)

// ulogTopics are what is logged. Fields stand in falling order of size, so that none needs
// padding.
var ulogTopics = []string{
	"vehicle_attitude:uint64_t timestamp;float[4] q;",
	"sensor_combined:uint64_t timestamp;float[3] gyro_rad;float[3] accelerometer_m_s2;",
	"vehicle_gps_position:uint64_t timestamp;int32_t lat;int32_t lon;int32_t alt;float vel_m_s;float vel_d_m_s;uint8_t fix_type;uint8_t satellites_used;",
	"battery_status:uint64_t timestamp;float voltage_v;float current_a;float discharged_mah;",
}

func ulogMessage(kind byte, body []byte) []byte {
	b := binary.LittleEndian.AppendUint16(make([]byte, 0, 3+len(body)), uint16(len(body)))
	return append(append(b, kind), body...)
}

// ulogKeyed is an information or a parameter: a key with its type, and the value.
func ulogKeyed(kind byte, key string, value []byte) []byte {
	return ulogMessage(kind, append(append([]byte{byte(len(key))}, key...), value...))
}

func ulogText(key, text string) []byte {
	return ulogKeyed('I', fmt.Sprintf("char[%d] %s", len(text), key), []byte(text))
}

func (ulogFormat) header(us uint64, params []param) [][]byte {
	out := [][]byte{binary.LittleEndian.AppendUint64(append([]byte(nil), ulogMagic...), us)}
	const flagBits = 40 // 8 compatible, 8 incompatible, 3 offsets of appended data
	out = append(out, ulogMessage('B', make([]byte, flagBits)))
	for _, t := range ulogTopics {
		out = append(out, ulogMessage('F', []byte(t)))
	}
	out = append(out, ulogText("sys_name", "PX4"), ulogText("ver_hw", "PX4_FMU_V6X"), ulogText("ver_sw", "3fc7011a"))
	for _, p := range params {
		kind, bits := "float ", math.Float32bits(float32(p.value))
		if p.integer {
			kind, bits = "int32_t ", uint32(int32(p.value))
		}
		out = append(out, ulogKeyed('P', kind+p.name, binary.LittleEndian.AppendUint32(nil, bits)))
	}
	for id, t := range ulogTopics {
		name, _, _ := strings.Cut(t, ":")
		out = append(out, ulogMessage('A', append([]byte{0, byte(id), byte(id >> 8)}, name...)))
	}
	return out
}

// ulogData is one sample of a topic.
func ulogData(topic int, us uint64, fields ...any) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(topic))
	b = binary.LittleEndian.AppendUint64(b, us)
	for _, f := range fields {
		switch x := f.(type) {
		case float64:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(x)))
		case float32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		case int32:
			b = binary.LittleEndian.AppendUint32(b, uint32(x))
		case uint8:
			b = append(b, x)
		}
	}
	return ulogMessage('D', b)
}

func (ulogFormat) entry(n int, s sample) []byte {
	switch {
	case n%200 == 199:
		return ulogMessage('S', ulogSync)
	case n%25 == 24:
		return ulogData(topicBattery, s.us, s.volts, s.amps, s.usedMah)
	case n%10 == 9:
		return ulogData(topicPosition, s.us, s.lat, s.lon, millis(s.alt), s.speed, -s.climb, uint8(4), uint8(17))
	case n%2 == 1:
		q := quaternion(s.att)
		return ulogData(topicAttitude, s.us, q[0], q[1], q[2], q[3])
	}
	return ulogData(topicSensors, s.us, s.rates[0], s.rates[1], s.rates[2], s.force[0], s.force[1], s.force[2])
}

// text is a logged string; its level is the character of the number.
func (ulogFormat) text(us uint64, severity common.MAV_SEVERITY, text string) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{byte('0' + severity%8)}, us)
	return ulogMessage('L', append(b, text...))
}
