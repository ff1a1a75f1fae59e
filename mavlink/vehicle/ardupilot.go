package vehicle

import (
	"math"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// autopilotStreams are the messages of component 1 and their rates, as integrators set
// them for a companion computer on a fast port.
func autopilotStreams(s Stack) []stream {
	rates := copterRates
	if s == PX4 {
		rates = px4Rates
	}
	var out []stream
	for _, r := range rates {
		for _, build := range r.builds {
			out = append(out, stream{hz: r.hz, comp: autopilotID, build: build})
		}
	}
	return out
}

// rate is a group of messages sent equally often.
type rate struct {
	hz     float64
	builds []func(*Vehicle) message.Message
}

type builders = []func(*Vehicle) message.Message

var copterRates = []rate{
	{100, builders{highresIMU}},
	{50, builders{
		attitude, attitudeQuaternion, rawIMU, globalPosition, localPosition, servoOutput, rcChannels,
		targetGlobal, escTelemetry, obstacleDistance,
	}},
	{10, builders{
		scaledIMU2, scaledIMU3, vfrHud, vibration, gpsRaw, gps2Raw, targetLocal, navController, batteryStatus,
		scaledPressure, scaledPressure2, ahrs, ahrs2, ekfStatus, windReport, rangefinder, distanceSensor, motorRPM,
	}},
	{4, builders{sysStatus, powerStatus, terrainReport}},
	{2, builders{memInfo, missionCurrent, extendedState}},
	{1, builders{heartbeat, systemTime, timesync, mcuStatus, fenceStatus, hygrometer, homePosition}},
	{0.1, builders{autopilotVersion}},
}

func rawIMU(v *Vehicle) message.Message {
	a, g, m := v.imu(0).units()
	_, celsius := v.baro(0)
	return &common.MessageRawImu{
		TimeUsec: v.us(), Xacc: a[0], Yacc: a[1], Zacc: a[2], Xgyro: g[0], Ygyro: g[1], Zgyro: g[2],
		Xmag: m[0], Ymag: m[1], Zmag: m[2], Temperature: int16(celsius * 100),
	}
}

func scaledIMU2(v *Vehicle) message.Message {
	a, g, m := v.imu(1).units()
	return &common.MessageScaledImu2{
		TimeBootMs: v.ms(), Xacc: a[0], Yacc: a[1], Zacc: a[2], Xgyro: g[0], Ygyro: g[1], Zgyro: g[2],
		Xmag: m[0], Ymag: m[1], Zmag: m[2], Temperature: 4480,
	}
}

func scaledIMU3(v *Vehicle) message.Message {
	a, g, m := v.imu(2).units()
	return &common.MessageScaledImu3{
		TimeBootMs: v.ms(), Xacc: a[0], Yacc: a[1], Zacc: a[2], Xgyro: g[0], Ygyro: g[1], Zgyro: g[2],
		Xmag: m[0], Ymag: m[1], Zmag: m[2], Temperature: 4310,
	}
}

func scaledPressure2(v *Vehicle) message.Message {
	press, celsius := v.baro(1)
	return &common.MessageScaledPressure2{TimeBootMs: v.ms(), PressAbs: float32(press), Temperature: int16(celsius * 100)}
}

func gps2Raw(v *Vehicle) message.Message {
	g := v.gps(1)
	return &common.MessageGps2Raw{
		TimeUsec: v.us(), FixType: common.GPS_FIX_TYPE(g.fix), Lat: g.lat, Lon: g.lon, Alt: millis(g.alt),
		Eph: uint16(g.hdop * 100), Epv: uint16(g.vdop * 100), Vel: uint16(g.speed * 100), Cog: uint16(g.course * 100),
		SatellitesVisible: uint8(g.satellites), AltEllipsoid: millis(g.alt + geoidHeight),
		HAcc: uint32(g.hAcc * 1000), VAcc: uint32(g.vAcc * 1000), VelAcc: 210, HdgAcc: 500000,
	}
}

func ahrs(v *Vehicle) message.Message {
	return &ardupilotmega.MessageAhrs{
		Omegaix: float32(0.0004 + v.noise(1e-5)), Omegaiy: float32(-0.0002 + v.noise(1e-5)), Omegaiz: float32(0.0001 + v.noise(1e-5)),
		ErrorRp: float32(0.003 + math.Abs(v.noise(0.001))), ErrorYaw: float32(0.005 + math.Abs(v.noise(0.002))),
	}
}

// ahrs2 is the second estimator, a little off the first.
func ahrs2(v *Vehicle) message.Message {
	a, p := v.body.att, v.body.pos.add(v.nav.wander(v.now, 0.4, 3))
	m := &ardupilotmega.MessageAhrs2{
		Roll: float32(a[0] + v.noise(0.003)), Pitch: float32(a[1] + v.noise(0.003)), Yaw: float32(wrapPi(a[2] + 0.01)),
		Altitude: float32(v.nav.homeAlt - p[2]),
	}
	if v.located() {
		m.Lat, m.Lng = v.nav.e7(p)
	}
	return m
}

func ekfStatus(v *Vehicle) message.Message {
	m := &ardupilotmega.MessageEkfStatusReport{
		Flags:            ardupilotmega.EKF_ATTITUDE | ardupilotmega.EKF_VELOCITY_VERT | ardupilotmega.EKF_POS_VERT_ABS | ardupilotmega.EKF_CONST_POS_MODE,
		VelocityVariance: float32(0.04 + math.Abs(v.noise(0.02))), PosHorizVariance: float32(0.05 + math.Abs(v.noise(0.02))),
		PosVertVariance: float32(0.03 + math.Abs(v.noise(0.01))), CompassVariance: float32(0.05 + math.Abs(v.noise(0.02))),
		TerrainAltVariance: float32(0.02 + math.Abs(v.noise(0.01))),
	}
	if v.located() {
		m.Flags = m.Flags&^ardupilotmega.EKF_CONST_POS_MODE | ardupilotmega.EKF_VELOCITY_HORIZ | ardupilotmega.EKF_POS_HORIZ_REL |
			ardupilotmega.EKF_POS_HORIZ_ABS | ardupilotmega.EKF_PRED_POS_HORIZ_REL | ardupilotmega.EKF_PRED_POS_HORIZ_ABS
	}
	return m
}

func windReport(v *Vehicle) message.Message {
	w := v.air.wind
	return &ardupilotmega.MessageWind{
		Direction: float32(degrees(math.Atan2(-w[1], -w[0]))), Speed: float32(w.horizontal()), SpeedZ: float32(w[2]),
	}
}

func rangefinder(v *Vehicle) message.Message {
	d := v.rangefinder()
	return &ardupilotmega.MessageRangefinder{Distance: float32(d), Voltage: float32(d / 12)}
}

func motorRPM(v *Vehicle) message.Message {
	r := v.rpm()
	return &ardupilotmega.MessageRpm{Rpm1: float32(r[0]), Rpm2: float32(r[1])}
}

func escTelemetry(v *Vehicle) message.Message {
	m := &ardupilotmega.MessageEscTelemetry_1To_4{}
	rpm, amps := v.rpm(), v.escAmps()
	for i := range rpm {
		m.Temperature[i] = uint8(28 + v.power.usedMah*0.004 + amps[i]*0.8)
		m.Voltage[i], m.Current[i] = uint16(v.power.volts*100), uint16(amps[i]*100)
		m.Totalcurrent[i], m.Rpm[i] = uint16(v.power.usedMah/4), uint16(rpm[i])
		m.Count[i] = uint16(v.now.Milliseconds() / 20)
	}
	return m
}

func powerStatus(v *Vehicle) message.Message {
	return &common.MessagePowerStatus{
		Vcc: uint16(5060 + v.noise(6) - v.power.amps*0.4), Vservo: uint16(5120 + v.noise(4)),
		Flags: common.MAV_POWER_STATUS_BRICK_VALID | common.MAV_POWER_STATUS_SERVO_VALID,
	}
}

func terrainReport(v *Vehicle) message.Message {
	if !v.located() {
		return nil
	}
	lat, lon := v.nav.e7(v.position())
	return &common.MessageTerrainReport{
		Lat: lat, Lon: lon, Spacing: 100, TerrainHeight: float32(v.nav.homeAlt + terrain(v.body.pos)),
		CurrentHeight: float32(v.body.height()), Loaded: 504,
	}
}

func memInfo(v *Vehicle) message.Message {
	return &ardupilotmega.MessageMeminfo{Freemem: math.MaxUint16, Freemem32: 211_440 - uint32(v.now.Seconds())%64*16}
}

func mcuStatus(v *Vehicle) message.Message {
	_, celsius := v.baro(0)
	return &ardupilotmega.MessageMcuStatus{
		McuTemperature: int16(celsius*100 + 900), McuVoltage: uint16(3302 + v.noise(3)), McuVoltageMin: 3288, McuVoltageMax: 3319,
	}
}
