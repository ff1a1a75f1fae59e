package vehicle

import (
	"math"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// This file holds the messages that both stacks send: power, radio, sensors and time.

func sysStatus(v *Vehicle) message.Message {
	sensors := common.MAV_SYS_STATUS_SENSOR_3D_GYRO | common.MAV_SYS_STATUS_SENSOR_3D_ACCEL | common.MAV_SYS_STATUS_SENSOR_3D_MAG |
		common.MAV_SYS_STATUS_SENSOR_ABSOLUTE_PRESSURE | common.MAV_SYS_STATUS_SENSOR_GPS | common.MAV_SYS_STATUS_SENSOR_LASER_POSITION |
		common.MAV_SYS_STATUS_SENSOR_RC_RECEIVER | common.MAV_SYS_STATUS_SENSOR_MOTOR_OUTPUTS | common.MAV_SYS_STATUS_AHRS |
		common.MAV_SYS_STATUS_TERRAIN | common.MAV_SYS_STATUS_SENSOR_BATTERY | common.MAV_SYS_STATUS_PREARM_CHECK
	healthy := sensors
	if v.now < v.plan.gpsAt {
		healthy &^= common.MAV_SYS_STATUS_SENSOR_GPS
	}
	if !v.located() {
		healthy &^= common.MAV_SYS_STATUS_PREARM_CHECK | common.MAV_SYS_STATUS_AHRS
	}
	return &common.MessageSysStatus{
		OnboardControlSensorsPresent: sensors, OnboardControlSensorsEnabled: sensors, OnboardControlSensorsHealth: healthy,
		Load: uint16(230 + 60*math.Abs(v.noise(0.3))), VoltageBattery: uint16(v.power.volts * 1000),
		CurrentBattery: int16(v.power.amps * 100), BatteryRemaining: int8(v.power.left() * 100),
	}
}

func batteryStatus(v *Vehicle) message.Message {
	p := &v.power
	m := &common.MessageBatteryStatus{
		BatteryFunction: common.MAV_BATTERY_FUNCTION_ALL, Type: common.MAV_BATTERY_TYPE_LIPO,
		Temperature: int16(2350 + p.usedMah*0.12), CurrentBattery: int16(p.amps * 100),
		CurrentConsumed: int32(p.usedMah), EnergyConsumed: int32(p.usedJoule / 100), BatteryRemaining: int8(p.left() * 100),
		TimeRemaining: int32((capacity - p.usedMah) * 3.6 / math.Max(p.amps, 0.1)), ChargeState: common.MAV_BATTERY_CHARGE_STATE_OK,
	}
	if p.left() < lowBattery {
		m.ChargeState = common.MAV_BATTERY_CHARGE_STATE_LOW
	}
	for i := range m.Voltages {
		m.Voltages[i] = math.MaxUint16 // no such cell
		if i < cells {
			m.Voltages[i] = uint16(p.volts*1000/cells + float64(i%3) - 1)
		}
	}
	return m
}

func vibration(v *Vehicle) message.Message {
	s := v.shake() * 14
	return &common.MessageVibration{
		TimeUsec: v.us(), VibrationX: float32(s * (1 + v.noise(0.05))), VibrationY: float32(s * (1.1 + v.noise(0.05))),
		VibrationZ: float32(s * (1.4 + v.noise(0.05))),
	}
}

func scaledPressure(v *Vehicle) message.Message {
	press, celsius := v.baro(0)
	return &common.MessageScaledPressure{TimeBootMs: v.ms(), PressAbs: float32(press), Temperature: int16(celsius * 100)}
}

// sticks are the pilot's channels in µs: roll, pitch, throttle, yaw, mode, then switches.
func (v *Vehicle) sticks() (ch [8]uint16) {
	ch = [8]uint16{1500, 1500, 1000, 1500, 1165, 1000, 1000, 1900}
	switch p := v.pilot.phase; {
	case p == armed:
		ch[3] = 1890 // arming gesture
		ch[4] = 1425
	case v.pilot.airborne():
		ch[2], ch[4] = 1500, 1425
	}
	for i := range 4 {
		ch[i] = uint16(float64(ch[i]) + v.noise(0.7))
	}
	return ch
}

func rcChannels(v *Vehicle) message.Message {
	c := v.sticks()
	return &common.MessageRcChannels{
		TimeBootMs: v.ms(), Chancount: 16, Chan1Raw: c[0], Chan2Raw: c[1], Chan3Raw: c[2], Chan4Raw: c[3],
		Chan5Raw: c[4], Chan6Raw: c[5], Chan7Raw: c[6], Chan8Raw: c[7], Chan9Raw: 1500, Chan10Raw: 1500,
		Chan11Raw: 1000, Chan12Raw: 1000, Chan13Raw: 1500, Chan14Raw: 1500, Chan15Raw: 1500, Chan16Raw: 1500,
		Rssi: uint8(clamp(232-v.body.pos.horizontal()/6+v.noise(2), 0, 254)),
	}
}

// pwm are the motor outputs in µs.
func (v *Vehicle) pwm() (out [4]uint16) {
	for i, u := range v.body.motors() {
		out[i] = 1000
		if v.pilot.armed() {
			out[i] = uint16(1000 + 1000*u)
		}
	}
	return out
}

func servoOutput(v *Vehicle) message.Message {
	o := v.pwm()
	return &common.MessageServoOutputRaw{
		TimeUsec: uint32(v.us()), Servo1Raw: o[0], Servo2Raw: o[1], Servo3Raw: o[2], Servo4Raw: o[3],
		Servo9Raw: 1500, Servo10Raw: uint16(1500 + degrees(v.body.att[1])*9),
	}
}

// rpm is the speed of each motor.
func (v *Vehicle) rpm() (out [4]float64) {
	for i, u := range v.body.motors() {
		if v.pilot.armed() {
			out[i] = 7600 * u * (1 + v.noise(0.003))
		}
	}
	return out
}

// escAmps is the current of each motor: what the battery gives, less the avionics,
// shared by the square of the outputs.
func (v *Vehicle) escAmps() (out [4]float64) {
	u := v.body.motors()
	sum := u[0]*u[0] + u[1]*u[1] + u[2]*u[2] + u[3]*u[3]
	if sum == 0 {
		return out
	}
	flow := math.Max(v.power.amps-baseWatts/v.power.volts, 0)
	for i := range out {
		out[i] = flow * u[i] * u[i] / sum
	}
	return out
}

func distanceSensor(v *Vehicle) message.Message {
	return &common.MessageDistanceSensor{
		TimeBootMs: v.ms(), MinDistance: 20, MaxDistance: 4000, CurrentDistance: uint16(v.rangefinder() * 100),
		Type: common.MAV_DISTANCE_SENSOR_LASER, Id: 1, Orientation: common.MAV_SENSOR_ROTATION_PITCH_270, SignalQuality: 92,
	}
}

// obstacleDistance is a lidar that turns once a reading: the mast near home is in it.
func obstacleDistance(v *Vehicle) message.Message {
	m := &common.MessageObstacleDistance{
		TimeUsec: v.us(), SensorType: common.MAV_DISTANCE_SENSOR_LASER, Increment: 5, MinDistance: 20, MaxDistance: 4000,
		IncrementF: 5, Frame: common.MAV_FRAME_BODY_FRD,
	}
	mast := vec{9, -14, 0}.sub(v.body.pos)
	bearing := degrees360(math.Atan2(mast[1], mast[0]) - v.body.att[2])
	for i := range m.Distances {
		m.Distances[i] = m.MaxDistance + 1 // nothing in reach
		if off := math.Abs(math.Mod(bearing-float64(i*5)+540, 360) - 180); off < 3 && mast.horizontal() < 40 {
			m.Distances[i] = uint16(clamp(mast.horizontal()*100+v.noise(4), 20, 4000))
		}
	}
	return m
}

func hygrometer(v *Vehicle) message.Message {
	return &common.MessageHygrometerSensor{Temperature: int16(1720 + v.noise(4)), Humidity: uint16(6150 + v.noise(12))}
}

func fenceStatus(*Vehicle) message.Message { return &common.MessageFenceStatus{} }

func autopilotVersion(v *Vehicle) message.Message {
	m := &common.MessageAutopilotVersion{
		Capabilities: common.MAV_PROTOCOL_CAPABILITY_MISSION_INT | common.MAV_PROTOCOL_CAPABILITY_COMMAND_INT |
			common.MAV_PROTOCOL_CAPABILITY_MAVLINK2 | common.MAV_PROTOCOL_CAPABILITY_SET_ATTITUDE_TARGET,
		FlightSwVersion: 0x040600ff, BoardVersion: 140 << 16, VendorId: 0x1209, ProductId: 0x5741,
		Uid: v.opt.Seed*0x9e3779b97f4a7c15 | 1,
	}
	if v.opt.FTP {
		m.Capabilities |= common.MAV_PROTOCOL_CAPABILITY_FTP
	}
	copy(m.FlightCustomVersion[:], "3fc7011a")
	return m
}
