package vehicle

import (
	"math"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

var px4Rates = []rate{
	{100, builders{highresIMU, attitudeQuaternion}},
	{50, builders{attitude, localPosition, globalPositionPX4, attitudeTarget, targetLocal, servoOutput, actuatorControl}},
	{30, builders{odometry}},
	{20, builders{scaledIMU, vfrHud, rcChannels, escStatus, actuatorOutputs}},
	{10, builders{
		gpsRaw, estimatorStatus, vibration, altitude, distanceSensor, navController, targetGlobal, scaledPressure, timesync, obstacleDistance,
	}},
	{5, builders{sysStatus, batteryStatus, extendedState, windCov, missionCurrent}},
	{1, builders{
		heartbeat, systemTime, homePosition, utmPosition, linkStatus, currentMode, escInfo, timeEstimate, hygrometer, eventSequence,
	}},
	{0.1, builders{autopilotVersion, ping, storageInfo}},
}

// globalPositionPX4 is silent until there is a position, as PX4 is.
func globalPositionPX4(v *Vehicle) message.Message {
	if !v.located() {
		return nil
	}
	return globalPosition(v)
}

func scaledIMU(v *Vehicle) message.Message {
	a, g, m := v.imu(0).units()
	return &common.MessageScaledImu{
		TimeBootMs: v.ms(), Xacc: a[0], Yacc: a[1], Zacc: a[2], Xgyro: g[0], Ygyro: g[1], Zgyro: g[2],
		Xmag: m[0], Ymag: m[1], Zmag: m[2], Temperature: 4480,
	}
}

func attitudeTarget(v *Vehicle) message.Message {
	c := v.pilot.cmd
	return &common.MessageAttitudeTarget{
		TimeBootMs: v.ms(), Q: quaternion(c.att), Thrust: float32(c.thrust / maxThrust),
		BodyRollRate: float32(v.body.attRate[0]), BodyPitchRate: float32(v.body.attRate[1]), BodyYawRate: float32(v.body.attRate[2]),
	}
}

// torque is the normalised control demand: roll, pitch, yaw, thrust.
func (v *Vehicle) torque() [4]float32 {
	a := v.body.attAcc
	return [4]float32{
		float32(clamp(a[0]*0.008, -1, 1)), float32(clamp(a[1]*0.008, -1, 1)), float32(clamp(a[2]*0.02, -1, 1)),
		float32(v.body.thrust / maxThrust),
	}
}

func actuatorControl(v *Vehicle) message.Message {
	m := &common.MessageActuatorControlTarget{TimeUsec: v.us()}
	t := v.torque()
	copy(m.Controls[:], t[:])
	m.Controls[7] = -1
	return m
}

func actuatorOutputs(v *Vehicle) message.Message {
	m := &common.MessageActuatorOutputStatus{TimeUsec: v.us(), Active: 4}
	for i, o := range v.pwm() {
		m.Actuator[i] = float32(o)
	}
	return m
}

func odometry(v *Vehicle) message.Message {
	if !v.located() {
		return nil
	}
	p, s, r := v.position(), v.body.toBody(v.body.vel), v.body.rates()
	m := &common.MessageOdometry{
		TimeUsec: v.us(), FrameId: common.MAV_FRAME_LOCAL_NED, ChildFrameId: common.MAV_FRAME_BODY_FRD,
		X: float32(p[0]), Y: float32(p[1]), Z: float32(p[2]), Q: quaternion(v.body.att),
		Vx: float32(s[0]), Vy: float32(s[1]), Vz: float32(s[2]),
		Rollspeed: float32(r[0]), Pitchspeed: float32(r[1]), Yawspeed: float32(r[2]),
		EstimatorType: common.MAV_ESTIMATOR_TYPE_AUTOPILOT, Quality: 95,
	}
	// The diagonal of a 6x6 matrix kept as its upper triangle.
	for i, at := range []int{0, 6, 11, 15, 18, 20} {
		m.PoseCovariance[at] = float32(0.02 + 0.01*float64(i%3) + math.Abs(v.noise(0.001)))
		m.VelocityCovariance[at] = float32(0.01 + math.Abs(v.noise(0.001)))
	}
	return m
}

func estimatorStatus(v *Vehicle) message.Message {
	m := &common.MessageEstimatorStatus{
		TimeUsec: v.us(), Flags: common.ESTIMATOR_ATTITUDE | common.ESTIMATOR_VELOCITY_VERT | common.ESTIMATOR_POS_VERT_ABS | common.ESTIMATOR_CONST_POS_MODE,
		VelRatio: float32(math.Abs(v.noise(0.05))), PosHorizRatio: float32(math.Abs(v.noise(0.05))), PosVertRatio: float32(math.Abs(v.noise(0.04))),
		MagRatio: float32(math.Abs(v.noise(0.04))), HaglRatio: float32(math.Abs(v.noise(0.02))),
		PosHorizAccuracy: float32(v.gps(0).hAcc / 3), PosVertAccuracy: float32(v.gps(0).vAcc / 3),
	}
	if v.located() {
		m.Flags = m.Flags&^common.ESTIMATOR_CONST_POS_MODE | common.ESTIMATOR_VELOCITY_HORIZ | common.ESTIMATOR_POS_HORIZ_REL |
			common.ESTIMATOR_POS_HORIZ_ABS | common.ESTIMATOR_PRED_POS_HORIZ_REL | common.ESTIMATOR_PRED_POS_HORIZ_ABS | common.ESTIMATOR_POS_VERT_AGL
	}
	return m
}

func altitude(v *Vehicle) message.Message {
	p := v.position()
	up := -p[2]
	return &common.MessageAltitude{
		TimeUsec: v.us(), AltitudeMonotonic: float32(v.nav.homeAlt + up), AltitudeAmsl: float32(v.nav.homeAlt + up),
		AltitudeLocal: float32(up), AltitudeRelative: float32(up), AltitudeTerrain: float32(v.nav.homeAlt + terrain(v.body.pos)),
		BottomClearance: float32(v.rangefinder()),
	}
}

func windCov(v *Vehicle) message.Message {
	w := v.air.wind
	return &common.MessageWindCov{
		TimeUsec: v.us(), WindX: float32(w[0]), WindY: float32(w[1]), WindZ: float32(w[2]), VarHoriz: 0.4, VarVert: 0.2,
		WindAlt: float32(v.nav.homeAlt - v.body.pos[2]), HorizAccuracy: 0.6, VertAccuracy: 0.5,
	}
}

func escStatus(v *Vehicle) message.Message {
	m := &common.MessageEscStatus{TimeUsec: v.us()}
	rpm, amps := v.rpm(), v.escAmps()
	for i := range rpm {
		m.Rpm[i], m.Voltage[i], m.Current[i] = int32(rpm[i]), float32(v.power.volts), float32(amps[i])
	}
	return m
}

func escInfo(v *Vehicle) message.Message {
	m := &common.MessageEscInfo{
		TimeUsec: v.us(), Counter: uint16(v.now / time.Second), Count: 4, ConnectionType: common.ESC_CONNECTION_TYPE_DSHOT, Info: 0xf,
	}
	for i, a := range v.escAmps() {
		m.Temperature[i] = int16(2800 + v.power.usedMah*0.4 + a*80)
	}
	return m
}

func utmPosition(v *Vehicle) message.Message {
	if !v.located() {
		return nil
	}
	p, s := v.position(), v.body.vel
	lat, lon := v.nav.e7(p)
	nextLat, nextLon := v.nav.e7(v.target())
	m := &common.MessageUtmGlobalPosition{
		Time: uint64(v.opt.Start.Add(v.now).UnixMicro()), Lat: lat, Lon: lon, Alt: millis(v.nav.homeAlt - p[2]), RelativeAlt: millis(-p[2]),
		Vx: cm(s[0]), Vy: cm(s[1]), Vz: cm(s[2]), HAcc: 700, VAcc: 900, VelAcc: 180, NextLat: nextLat, NextLon: nextLon,
		NextAlt: millis(v.nav.homeAlt - v.target()[2]), UpdateRate: 100, FlightState: common.UTM_FLIGHT_STATE_GROUND, Flags: 0x7f,
	}
	copy(m.UasId[:], "bench-vehicle-0001")
	if !v.body.onGround {
		m.FlightState = common.UTM_FLIGHT_STATE_AIRBORNE
	}
	return m
}

func linkStatus(v *Vehicle) message.Message {
	return &common.MessageLinkNodeStatus{Timestamp: uint64(v.now.Milliseconds()), TxBuf: 12, TxRate: 46000, MessagesSent: v.sent}
}

func currentMode(v *Vehicle) message.Message {
	return &common.MessageCurrentMode{CustomMode: v.customMode(), IntendedCustomMode: v.customMode()}
}

func timeEstimate(v *Vehicle) message.Message {
	home := time.Duration(v.body.pos.horizontal() / v.plan.speed * float64(time.Second))
	down := time.Duration(descentTime(v.body.height()) * float64(time.Second))
	m := &common.MessageTimeEstimateToTarget{SafeReturn: -1, Land: -1, MissionNextItem: -1, MissionEnd: -1, CommandedAction: -1}
	if v.pilot.airborne() {
		m.SafeReturn, m.Land = int32((home+down)/time.Second), int32(down/time.Second)
	}
	return m
}

// event is PX4's numbered event for a phase, and counts them.
func (v *Vehicle) event(p phase) message.Message {
	v.eventNo++
	m := &common.MessageEvent{Id: 0x01a00000 + uint32(p), EventTimeBootMs: v.ms(), Sequence: v.eventNo, LogLevels: 0x66}
	m.Arguments[0] = uint8(p)
	return m
}

func eventSequence(v *Vehicle) message.Message {
	return &common.MessageCurrentEventSequence{Sequence: v.eventNo}
}

func ping(v *Vehicle) message.Message {
	return &common.MessagePing{TimeUsec: v.us(), Seq: uint32(v.now / (10 * time.Second))}
}

func storageInfo(v *Vehicle) message.Message {
	used := 1800 + 0.05*v.now.Seconds()
	return &common.MessageStorageInformation{
		TimeBootMs: v.ms(), StorageId: 1, StorageCount: 1, Status: common.STORAGE_STATUS_READY, TotalCapacity: 30436,
		UsedCapacity: float32(used), AvailableCapacity: float32(30436 - used), ReadSpeed: 18, WriteSpeed: 9, Type: common.STORAGE_TYPE_MICROSD,
	}
}
