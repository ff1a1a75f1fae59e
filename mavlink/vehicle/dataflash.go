package vehicle

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// dataflash makes ArduPilot's log: messages of fixed length, each two bytes that tell a
// start, one for the type, and the fields without gaps, little-endian. FMT messages tell
// how the others are built
// (https://github.com/ArduPilot/ardupilot/blob/master/libraries/AP_Logger/LogStructure.h).
type dataflash struct{}

const (
	dataflashHead1 = 0xA3
	dataflashHead2 = 0x95
	dataflashHead  = 3
)

// dataflashType describes one type of message. Each character of fields is one: B and H
// and I and Q are unsigned, b h i q signed, f a float, L degrees in 1e-7, c and C
// hundredths in 16 bits, e in 32, n N Z text of 4, 16 and 64 bytes, M a mode.
type dataflashType struct {
	id             byte
	name           string // at most 4 bytes
	fields, labels string // at most 16 and 64 bytes
}

var (
	dfFMT  = dataflashType{128, "FMT", "BBnNZ", "Type,Length,Name,Format,Columns"}
	dfPARM = dataflashType{64, "PARM", "QNff", "TimeUS,Name,Value,Default"}
	dfMSG  = dataflashType{65, "MSG", "QZ", "TimeUS,Message"}
	dfATT  = dataflashType{66, "ATT", "Qffffff", "TimeUS,DesRoll,Roll,DesPitch,Pitch,DesYaw,Yaw"}
	dfIMU  = dataflashType{67, "IMU", "Qffffff", "TimeUS,GyrX,GyrY,GyrZ,AccX,AccY,AccZ"}
	dfGPS  = dataflashType{68, "GPS", "QBBIHBcLLefff", "TimeUS,I,Status,GMS,GWk,NSats,HDop,Lat,Lng,Alt,Spd,GCrs,VZ"}
	dfBAT  = dataflashType{69, "BAT", "Qfff", "TimeUS,Volt,Curr,CurrTot"}

	dataflashTypes = []dataflashType{dfFMT, dfPARM, dfMSG, dfATT, dfIMU, dfGPS, dfBAT}
)

// dataflashSizes are the bytes of each kind of field.
var dataflashSizes = map[rune]int{
	'b': 1, 'B': 1, 'M': 1, 'h': 2, 'H': 2, 'c': 2, 'C': 2, 'i': 4, 'I': 4, 'e': 4, 'E': 4, 'f': 4, 'L': 4,
	'n': 4, 'q': 8, 'Q': 8, 'd': 8, 'N': 16, 'Z': 64, 'a': 64,
}

// size is the whole length of a message of the type.
func (t dataflashType) size() int {
	n := dataflashHead
	for _, f := range t.fields {
		n += dataflashSizes[f]
	}
	return n
}

// pack makes a message; values stand in the order of the fields, texts as string.
func (t dataflashType) pack(values ...any) []byte {
	b := append(make([]byte, 0, t.size()), dataflashHead1, dataflashHead2, t.id)
	for i, f := range t.fields {
		switch x := values[i].(type) {
		case string:
			text := make([]byte, dataflashSizes[f])
			copy(text, x)
			b = append(b, text...)
		case uint8:
			b = append(b, x)
		case int16:
			b = binary.LittleEndian.AppendUint16(b, uint16(x))
		case uint16:
			b = binary.LittleEndian.AppendUint16(b, x)
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, x)
		case int32:
			b = binary.LittleEndian.AppendUint32(b, uint32(x))
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, x)
		case float64:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(x)))
		}
	}
	return b
}

func (dataflash) header(us uint64, params []param) [][]byte {
	var out [][]byte
	for _, t := range dataflashTypes {
		out = append(out, dfFMT.pack(t.id, uint8(t.size()), t.name, t.fields, t.labels))
	}
	for _, p := range params {
		out = append(out, dfPARM.pack(us, p.name, p.value, p.value))
	}
	return append(out, dfMSG.pack(us, "ArduCopter V4.6.0 (3fc7011a)"))
}

func (dataflash) entry(n int, s sample) []byte {
	switch {
	case n%25 == 24:
		return dfBAT.pack(s.us, s.volts, s.amps, s.usedMah)
	case n%10 == 9:
		week, ms := gpsTime(s.utc)
		const fix, satellites, hdop = uint8(4), uint8(17), int16(70) // hundredths
		return dfGPS.pack(s.us, uint8(0), fix, ms, week, satellites, hdop, s.lat, s.lon, int32(math.Round(s.alt*100)), s.speed, s.course, -s.climb)
	case n%2 == 1:
		a := [3]float64{degrees(s.att[0]), degrees(s.att[1]), degrees360(s.att[2])}
		return dfATT.pack(s.us, a[0], a[0], a[1], a[1], a[2], a[2])
	}
	return dfIMU.pack(s.us, s.rates[0], s.rates[1], s.rates[2], s.force[0], s.force[1], s.force[2])
}

// gpsTime is GPS week and milliseconds of the week: since 1980-01-06, and ahead of UTC by
// the 18 leap seconds since. Readers of logs take UTC from it.
func gpsTime(utc time.Time) (week uint16, ms uint32) {
	const leap, perWeek = 18 * time.Second, 7 * 24 * time.Hour
	since := utc.Sub(time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC)) + leap
	if since < 0 {
		return 0, 0
	}
	return uint16(since / perWeek), uint32(since % perWeek / time.Millisecond)
}

func (dataflash) text(us uint64, _ common.MAV_SEVERITY, text string) []byte {
	return dfMSG.pack(us, text)
}
