package allow

import (
	"fmt"
	"math"
	"slices"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// Command is one row of the commands that Holdfast sends, as docs/autopilot.md prints it.
type Command struct {
	Command  common.MAV_CMD
	Disarmed bool
	Content  string
	Why      string

	check func(c *call, m *common.MessageCommandLong) string
}

// Commands returns the commands that Holdfast sends.
func Commands() []Command { return slices.Clone(commands) }

var commands = []Command{
	{Command: common.MAV_CMD_REQUEST_MESSAGE, Disarmed: true, Content: "AUTOPILOT_VERSION (148)", Why: "who the autopilot is goes into the record", check: requestMessage},
	{Command: common.MAV_CMD_SET_MESSAGE_INTERVAL, Disarmed: true, Content: "only with streams other than keep; a message of the profiles, 0.02 to 10 s; never off", Why: "message rates", check: setInterval},
	{Command: common.MAV_CMD_GET_MESSAGE_INTERVAL, Disarmed: true, Content: "only with streams other than keep; a message of the profiles", Why: "verifies the rate", check: getInterval},
	{Command: common.MAV_CMD_LOGGING_START, Content: "format 0 (ULog)", Why: "PX4 streams its log", check: logging},
	{Command: common.MAV_CMD_LOGGING_STOP, Content: "", Why: "ends the stream", check: logging},
}

// requestable are messages that may be asked for once.
var requestable = []float32{148}

// rateIDs are the messages whose rate may be set.
var rateIDs = []uint32{1, 2, 24, 27, 29, 30, 31, 32, 33, 36, 42, 62, 65, 74, 83, 85, 87, 105, 116, 125, 129, 137, 141,
	147, 168, 178, 193, 225, 226, 230, 231, 241, 242, 245, 285, 290, 291, 340, 11030}

// RateIDs returns the messages whose rate may be set.
func RateIDs() []uint32 { return slices.Clone(rateIDs) }

// Bounds of an interval, in microseconds.
const (
	minInterval = 1e6 / maxRate
	maxInterval = 10e6
)

func ownCommand(c *call) string {
	m := c.m.(*common.MessageCommandLong)
	i := slices.IndexFunc(commands, func(k Command) bool { return k.Command == m.Command })
	switch {
	case i < 0:
		return fmt.Sprintf("has command %d, which is not sent", m.Command)
	case commands[i].Disarmed && c.armed:
		return fmt.Sprintf("has command %d, which is sent only while disarmed", m.Command)
	case m.Confirmation > 10:
		return "was repeated too often"
	case !zero(m.Param3, m.Param4, m.Param5, m.Param6, m.Param7):
		return "has parameters that must be 0"
	}
	if why := commands[i].check(c, m); why != "" {
		return why
	}
	return toAutopilot(c)
}

// zero wants each to be 0 to the bit.
func zero(params ...float32) bool {
	for _, p := range params {
		if math.Float32bits(p) != 0 {
			return false
		}
	}
	return true
}

func requestMessage(_ *call, m *common.MessageCommandLong) string {
	if !slices.Contains(requestable, m.Param1) || !zero(m.Param2) {
		return "asks for a message that is not asked for"
	}
	return ""
}

// rateOf tells whether p is the id of a message whose rate may be set.
func rateOf(p float32) bool {
	return slices.ContainsFunc(rateIDs, func(id uint32) bool { return float32(id) == p })
}

func setInterval(c *call, m *common.MessageCommandLong) string {
	switch {
	case !c.opt.Rates:
		return "sets rates, which the policy does not"
	case !rateOf(m.Param1):
		return "sets the rate of a message that is not on the list"
	case !(m.Param2 >= minInterval && m.Param2 <= maxInterval):
		return "sets a rate out of bounds"
	}
	return ""
}

func getInterval(c *call, m *common.MessageCommandLong) string {
	if !c.opt.Rates || !rateOf(m.Param1) || !zero(m.Param2) {
		return "asks for the rate of a message that is not on the list"
	}
	return ""
}

func logging(_ *call, m *common.MessageCommandLong) string {
	if !zero(m.Param1, m.Param2) {
		return "has a format other than ULog"
	}
	return ""
}

// cameraCommands are those that a camera component answers; computerCommands those that the
// onboard computer answers.
var (
	cameraCommands = []common.MAV_CMD{
		common.MAV_CMD_REQUEST_MESSAGE, common.MAV_CMD_REQUEST_CAMERA_INFORMATION, common.MAV_CMD_REQUEST_CAMERA_SETTINGS,
		common.MAV_CMD_REQUEST_STORAGE_INFORMATION, common.MAV_CMD_STORAGE_FORMAT, common.MAV_CMD_REQUEST_CAMERA_CAPTURE_STATUS,
		common.MAV_CMD_RESET_CAMERA_SETTINGS, common.MAV_CMD_SET_CAMERA_MODE, common.MAV_CMD_IMAGE_START_CAPTURE,
		common.MAV_CMD_IMAGE_STOP_CAPTURE, common.MAV_CMD_REQUEST_CAMERA_IMAGE_CAPTURE, common.MAV_CMD_DO_TRIGGER_CONTROL,
		common.MAV_CMD_VIDEO_START_CAPTURE, common.MAV_CMD_VIDEO_STOP_CAPTURE, common.MAV_CMD_DO_DIGICAM_CONTROL,
	}
	computerCommands = []common.MAV_CMD{common.MAV_CMD_REQUEST_MESSAGE, common.MAV_CMD_REQUEST_STORAGE_INFORMATION}
)

// Answers returns the commands that are answered, by cameras and by the onboard computer.
func Answers() (camera, computer []common.MAV_CMD) {
	return slices.Clone(cameraCommands), slices.Clone(computerCommands)
}

// MaxApproval is the longest time, in seconds, for which an authorisation may hold.
const MaxApproval = 10

func ownAck(c *call) string {
	m := c.m.(*common.MessageCommandAck)
	if m.Command == common.MAV_CMD_ARM_AUTHORIZATION_REQUEST {
		return ownAuthorisation(c, m)
	}
	answered := computerCommands
	if isCamera(c.comp) {
		answered = cameraCommands
	}
	switch {
	case c.comp == ComponentLog || !slices.Contains(answered, m.Command):
		return fmt.Sprintf("answers command %d, which is not answered", m.Command)
	case m.Result > common.MAV_RESULT_CANCELLED || m.Progress != 0 && m.Progress > 100 && m.Progress != notUsed8 || m.ResultParam2 != 0:
		return "has a result that there is not"
	}
	return ""
}

// ownAuthorisation is the veto's answer. PX4 takes the reason from progress and, where it
// accepts, the seconds it holds from result_param2
// (https://mavlink.io/en/services/arm_authorization.html).
func ownAuthorisation(c *call, m *common.MessageCommandAck) string {
	accepted := m.Result == common.MAV_RESULT_ACCEPTED && m.Progress == 0 && m.ResultParam2 >= 0 && m.ResultParam2 <= MaxApproval
	denied := m.Result == common.MAV_RESULT_DENIED && m.Progress == 0 &&
		m.ResultParam2 == int32(common.MAV_ARM_AUTH_DENIED_REASON_GENERIC)
	switch {
	case !c.opt.Veto:
		return "answers for arming, which the policy does not"
	case m.TargetSystem != c.system:
		return "answers for arming to somebody who is not the autopilot"
	case !accepted && !denied:
		return "neither allows arming nor denies it"
	case denied && c.armed:
		return "denies arming to a vehicle that is armed"
	}
	return fromComputer(c)
}

func ownCameraInformation(c *call) string {
	m := c.m.(*common.MessageCameraInformation)
	vendor, okV := word(m.VendorName[:])
	model, okM := word(m.ModelName[:])
	switch {
	case !okV || vendor != "Holdfast" || !okM || !plainName(model):
		return "has another vendor, or a model that is no plain name"
	case m.CamDefinitionUri != "" || m.CamDefinitionVersion != 0:
		return "names a definition file"
	}
	return fromCamera(c)
}

// word returns the text in a field; ok is false where anything follows its end.
func word(field []byte) (text string, ok bool) {
	end := slices.Index(field, 0)
	if end < 0 {
		return string(field), true
	}
	return string(field[:end]), !slices.ContainsFunc(field[end:], func(b byte) bool { return b != 0 })
}

func plainName(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return false
		}
	}
	return true
}

func ownImageCaptured(c *call) string {
	m := c.m.(*common.MessageCameraImageCaptured)
	switch {
	case m.Lat != 0 || m.Lon != 0 || m.Alt != 0 || m.RelativeAlt != 0 || !zero(m.Q[:]...):
		return "has a position or an attitude"
	case m.FileUrl != "":
		return "names a file"
	}
	return fromCamera(c)
}
