package allow

import (
	"fmt"
	"maps"
	"slices"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// Share returns the rules of what other programs on the board may send through a share in
// "write" mode, by id.
func Share() []Rule { return sorted(shareRules) }

// Components that a program on the board may address: the autopilot, all of its system, and
// gimbals behind it. A message to somebody else (a ground station, a radio) would be carried on
// over the autopilot's radio, as autopilots route by target.
func addressable(comp uint8) bool {
	return comp <= ComponentAutopilot || comp == 154 || comp >= 171 && comp <= 175
}

// Reasons that several rows share.
const (
	forControl = "flies the vehicle from the board"
	forSense   = "gives the autopilot's estimator what the board sees"
	forMission = "missions of companion programs"
	forParams  = "parameters of companion programs"
	forGimbal  = "points a gimbal"
	numbers    = "numbers alone"
	toVehicle  = "to the vehicle"
)

var shareRules = map[uint32]Rule{
	0:     {Content: "says that it is no autopilot; custom_mode 0", Why: "programs say that they are there", check: shareHeartbeat},
	11:    {Content: toVehicle, Why: forControl, check: shareTarget},
	20:    {Content: toVehicle, Why: forParams, check: shareTarget},
	21:    {Content: toVehicle, Why: forParams, check: shareTarget},
	23:    {Content: toVehicle, Why: forParams, check: shareTarget},
	37:    {Content: toVehicle, Why: forMission, check: shareTarget},
	38:    {Content: toVehicle, Why: forMission, check: shareTarget},
	39:    {Content: toVehicle, Why: forMission, check: shareTarget},
	40:    {Content: toVehicle, Why: forMission, check: shareTarget},
	41:    {Content: toVehicle, Why: forMission, check: shareTarget},
	43:    {Content: toVehicle, Why: forMission, check: shareTarget},
	44:    {Content: toVehicle, Why: forMission, check: shareTarget},
	45:    {Content: toVehicle, Why: forMission, check: shareTarget},
	47:    {Content: toVehicle, Why: forMission, check: shareTarget},
	48:    {Content: toVehicle, Why: "origin of the estimator", check: shareTarget},
	51:    {Content: toVehicle, Why: forMission, check: shareTarget},
	66:    {Content: toVehicle, Why: "message rates of companion programs", check: shareTarget},
	69:    {Content: toVehicle, Why: forControl, check: shareTarget},
	70:    {Content: toVehicle, Why: forControl, check: shareTarget},
	73:    {Content: toVehicle, Why: forMission, check: shareTarget},
	75:    {Content: toVehicle + "; not the commands below", Why: forControl, check: shareCommand},
	76:    {Content: toVehicle + "; not the commands below", Why: forControl, check: shareCommand},
	77:    {Content: toVehicle + "; not for authorisation to arm", Why: "answers of companion programs", check: shareAck},
	80:    {Content: toVehicle, Why: forControl, check: shareTarget},
	82:    {Content: toVehicle, Why: forControl, check: shareTarget},
	84:    {Content: toVehicle, Why: forControl, check: shareTarget},
	86:    {Content: toVehicle, Why: forControl, check: shareTarget},
	100:   {Content: numbers, Why: forSense, check: shareAny},
	101:   {Content: numbers, Why: forSense, check: shareAny},
	102:   {Content: numbers, Why: forSense, check: shareAny},
	103:   {Content: numbers, Why: forSense, check: shareAny},
	104:   {Content: numbers, Why: forSense, check: shareAny},
	106:   {Content: numbers, Why: forSense, check: shareAny},
	111:   {Content: "to the vehicle, or to all", Why: "clocks of companion programs", check: shareTimesync},
	132:   {Content: numbers, Why: forSense, check: shareAny},
	138:   {Content: numbers, Why: forSense, check: shareAny},
	139:   {Content: toVehicle, Why: forControl, check: shareTarget},
	144:   {Content: "numbers alone; custom_state 0", Why: forControl, check: shareFollow},
	149:   {Content: numbers, Why: forSense, check: shareAny},
	232:   {Content: numbers, Why: forSense, check: shareAny},
	243:   {Content: toVehicle, Why: forControl, check: shareTarget},
	282:   {Content: toVehicle, Why: forGimbal, check: shareTarget},
	287:   {Content: toVehicle, Why: forGimbal, check: shareTarget},
	288:   {Content: toVehicle, Why: forGimbal, check: shareTarget},
	330:   {Content: numbers, Why: forSense, check: shareAny},
	331:   {Content: numbers, Why: forSense, check: shareAny},
	332:   {Content: numbers, Why: forControl, check: shareAny},
	11037: {Content: numbers, Why: forSense, check: shareAny},
}

// Refused is a row of what a share refuses although somebody might expect it.
type Refused struct{ What, Why string }

// ShareRefused returns what is refused, and why. Whatever is on no list is refused too.
func ShareRefused() []Refused {
	return []Refused{
		{"FILE_TRANSFER_PROTOCOL, TUNNEL, V2_EXTENSION, ENCAPSULATED_DATA, DATA_TRANSMISSION_HANDSHAKE, DATA16 to DATA96, SERIAL_CONTROL, MEMORY_VECT", "free bytes: autopilots carry them on over their radio"},
		{"STATUSTEXT, NAMED_VALUE_*, DEBUG*, PLAY_TUNE*, PARAM_EXT_*, STATUSTEXT_LONG", "free text or names, shown on the ground"},
		{"LOG_*, LOGGING_*, REMOTE_LOG_*", "the autopilot's log is pulled and sealed by Holdfast alone"},
		{"GPS_RTCM_DATA, GPS_INJECT_DATA", "free bytes; corrections come to the autopilot over its own radio"},
		{"OPEN_DRONE_ID_*, ADSB_VEHICLE, UAVIONIX_*, CELLULAR_*, WIFI_*, HIGH_LATENCY*", "go out by other transmitters, or set them up"},
		{"SYSTEM_TIME", "a program must not move the clock that the record is dated by"},
		{"SETUP_SIGNING, AUTH_KEY, CHANGE_OPERATOR_CONTROL, signed frames, MAVLink 1 frames", "keys, and bytes that nobody here can read"},
		{"HIL_*, SIM_STATE", "simulated flight"},
		{"anything to another system or to all where the message has a target", "autopilots route it on to the ground"},
		{"anything from the autopilot's system as 1, 191, 155, 100 to 105", "the autopilot and Holdfast speak for themselves"},
		{"an answer to a request for authorisation to arm", "the veto is Holdfast's"},
	}
}

// doSendScriptMessage is MAV_CMD_DO_SEND_SCRIPT_MESSAGE of the ardupilotmega dialect.
const doSendScriptMessage = 217

// shareCommands are the commands that no program on the board may send.
var shareCommands = map[common.MAV_CMD]string{
	common.MAV_CMD_ARM_AUTHORIZATION_REQUEST: "asks for authorisation",
	common.MAV_CMD_LOGGING_START:             "the autopilot's log is streamed to Holdfast alone",
	common.MAV_CMD_LOGGING_STOP:              "the autopilot's log is streamed to Holdfast alone",
	common.MAV_CMD_PREFLIGHT_STORAGE:         "writes or erases the autopilot's storage",
	common.MAV_CMD_STORAGE_FORMAT:            "erases storage",
	doSendScriptMessage:                      "free numbers to scripts",
	common.MAV_CMD_CONTROL_HIGH_LATENCY:      "switches a transmitter",
	common.MAV_CMD_START_RX_PAIR:             "pairs a receiver",
	common.MAV_CMD_VIDEO_START_STREAMING:     "sends video",
	common.MAV_CMD_PANORAMA_CREATE:           "belongs to cameras",
}

// ShareCommands returns the commands that a share refuses, and why.
func ShareCommands() []Refused {
	var all []Refused
	for _, c := range slices.Sorted(maps.Keys(shareCommands)) {
		name := c.String()
		if c == doSendScriptMessage {
			name = "MAV_CMD_DO_SEND_SCRIPT_MESSAGE"
		}
		all = append(all, Refused{name, shareCommands[c]})
	}
	return all
}

func shareHeartbeat(c *call) string {
	m := c.m.(*common.MessageHeartbeat)
	if m.Autopilot != common.MAV_AUTOPILOT_INVALID || m.CustomMode != 0 || m.MavlinkVersion != 3 {
		return "says that it is an autopilot"
	}
	return ""
}

func shareTarget(c *call) string {
	sys, comp, ok := target(c.m)
	if !ok || sys != c.system || !addressable(comp) {
		return fmt.Sprintf("goes to %d/%d, which is not the vehicle", sys, comp)
	}
	return ""
}

// shareAny takes what has no target and no text.
func shareAny(*call) string { return "" }

func shareTimesync(c *call) string {
	if m := c.m.(*common.MessageTimesync); m.TargetSystem == 0 && m.TargetComponent == 0 {
		return ""
	}
	return shareTarget(c)
}

func shareFollow(c *call) string {
	if c.m.(*common.MessageFollowTarget).CustomState != 0 {
		return "has a state of its own"
	}
	return ""
}

func shareCommand(c *call) string {
	var command common.MAV_CMD
	switch m := c.m.(type) {
	case *common.MessageCommandLong:
		command = m.Command
	case *common.MessageCommandInt:
		command = m.Command
	}
	if why, no := shareCommands[command]; no {
		return fmt.Sprintf("has command %d: %s", command, why)
	}
	return shareTarget(c)
}

func shareAck(c *call) string {
	if c.m.(*common.MessageCommandAck).Command == common.MAV_CMD_ARM_AUTHORIZATION_REQUEST {
		return "answers for arming"
	}
	return shareTarget(c)
}
