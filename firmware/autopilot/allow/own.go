package allow

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// Rule is one row of the list, as docs/autopilot.md prints it.
type Rule struct {
	ID       uint32
	When     string // besides what Disarmed says
	Disarmed bool   // refused while armed, and while the state is not known
	Content  string
	Why      string

	check func(c *call) string // why it is refused, or nothing
}

// Own returns the rules of what Holdfast itself sends, by id.
func Own() []Rule { return sorted(ownRules) }

func sorted(m map[uint32]Rule) []Rule {
	var rules []Rule
	for id, r := range m {
		r.ID = id
		rules = append(rules, r)
	}
	slices.SortFunc(rules, func(a, b Rule) int { return int(a.ID) - int(b.ID) })
	return rules
}

var ownRules = map[uint32]Rule{
	0: {When: "1 a second", Content: "from 191 as onboard computer, 155 as log, 100 to 105 as camera; autopilot none, base mode 0; custom_mode: bits of faults, from 191 only",
		Why: "says who is there; the arming script reads the bits", check: ownHeartbeat},
	390: {When: "each 2 s", Content: "from 191; uptime, load, memory, temperature, storage, one link; what is not named is set to \"not used\"",
		Why: "the operator sees the recorder's room and load", check: ownComputer},
	261: {When: "on change, each 10 s, when asked", Content: "the storage's name is empty or \"Holdfast\"",
		Why: "the operator sees the room left", check: ownStorage},
	253: {When: "a fault appears or is over; 1 each 2 s at most", Content: "from 191; one of the texts below, whole; never a position or a name",
		Why: "the pilot learns that the record is not well", check: ownText},
	111: {When: "1 a second, later each 10 s; answers", Content: "from 191; to the autopilot or to all",
		Why: "ties the board's clock to the autopilot's", check: ownTimesync},
	76: {When: "see the commands below", Content: "to the autopilot; only the commands below, each parameter that is not named 0",
		Why: "asks for what is recorded", check: ownCommand},
	66: {When: "streams other than keep", Disarmed: true, Content: "to the autopilot; streams 1, 2, 3, 6, 10, 11, 12 at 1 to 50 Hz, start; never stop",
		Why: "message rates of an ArduPilot that does not know SET_MESSAGE_INTERVAL", check: ownDataStream},
	21:  {When: "after each start of the autopilot", Disarmed: true, Content: "to the autopilot", Why: "all parameters go into the record", check: toAutopilot},
	20:  {When: "a parameter did not come", Disarmed: true, Content: "to the autopilot; by index, without a name", Why: "as above", check: ownParamRead},
	43:  {When: "the mission may have changed", Disarmed: true, Content: "to the autopilot; the mission, no fence, no rally points", Why: "the mission goes into the record", check: ownMission},
	51:  {When: "after MISSION_COUNT", Disarmed: true, Content: "to the autopilot; the mission", Why: "as above", check: ownMission},
	47:  {When: "after the last item", Disarmed: true, Content: "to the autopilot; the mission, accepted", Why: "ends the transfer", check: ownMission},
	117: {When: "autopilot_log = pull or both", Disarmed: true, Content: "to the autopilot", Why: "the autopilot's own log goes into the record", check: toAutopilot},
	119: {When: "autopilot_log = pull or both", Disarmed: true, Content: "to the autopilot", Why: "as above", check: toAutopilot},
	122: {When: "autopilot_log = pull or both", Disarmed: true, Content: "to the autopilot", Why: "as above", check: toAutopilot},
	121: {When: "erase_logs, and the sealed copy was verified", Disarmed: true, Content: "to the autopilot", Why: "nothing plain stays on the autopilot", check: ownErase},
	110: {When: "autopilot_log = pull or both", Disarmed: true, Content: "to the autopilot; none, terminate, reset, list, open to read, read, burst, checksum; remove only with erase_logs; paths below the log folders alone; nothing behind the data",
		Why: "the faster way to pull a log; nothing is ever written", check: ownFTP},
	185: {When: "autopilot_log = stream or both", Content: "to the autopilot; status 0 or 1", Why: "ArduPilot streams its log only against acknowledgement", check: ownLogBlock},
	268: {When: "autopilot_log = stream or both", Content: "to the autopilot", Why: "PX4 repeats what is not acknowledged", check: toAutopilot},
	77: {When: "somebody commanded our camera, storage or authorisation", Content: "the answers below; authorisation from 191 to the autopilot alone, and while armed only \"accepted\"",
		Why: "a command is answered; the veto is never in the air", check: ownAck},
	259: {When: "asked for", Content: "from a camera; vendor \"Holdfast\", model of [a-z0-9_-], no definition file", Why: "camera component", check: ownCameraInformation},
	260: {When: "asked for", Content: "from a camera", Why: "camera component", check: fromCamera},
	262: {When: "asked for", Content: "from a camera", Why: "camera component", check: fromCamera},
	263: {When: "a photo was sealed", Content: "from a camera; position, attitude and file name left empty", Why: "who asked for a photo learns that it is there", check: ownImageCaptured},
}

// toAutopilot wants the message's target to be the autopilot, by the component that asks.
func toAutopilot(c *call) string {
	sys, comp, ok := target(c.m)
	switch {
	case !ok || sys != c.system || comp != ComponentAutopilot:
		return fmt.Sprintf("goes to %d/%d, which is not the autopilot", sys, comp)
	case isCamera(c.comp):
		return "comes from a camera, which asks for nothing"
	}
	return ""
}

// target returns whom m is for. ok is false for a message that has no such field.
func target(m any) (system, component uint8, ok bool) {
	v := reflect.ValueOf(m).Elem()
	sys, comp := v.FieldByName("TargetSystem"), v.FieldByName("TargetComponent")
	if !sys.IsValid() {
		sys = v.FieldByName("Target")
	}
	if !sys.IsValid() || sys.Kind() != reflect.Uint8 {
		return 0, 0, false
	}
	if comp.IsValid() && comp.Kind() == reflect.Uint8 {
		component = uint8(comp.Uint())
	}
	return uint8(sys.Uint()), component, true
}

func fromCamera(c *call) string {
	if !isCamera(c.comp) {
		return "comes from no camera"
	}
	return ""
}

func fromComputer(c *call) string {
	if c.comp != ComponentComputer {
		return "does not come from 191"
	}
	return ""
}

func ownHeartbeat(c *call) string {
	m := c.m.(*common.MessageHeartbeat)
	kind, bits := common.MAV_TYPE_ONBOARD_CONTROLLER, uint32(faultBits)
	switch {
	case c.comp == ComponentLog:
		kind, bits = common.MAV_TYPE_LOG, 0
	case isCamera(c.comp):
		kind, bits = common.MAV_TYPE_CAMERA, 0
	}
	switch {
	case m.Type != kind:
		return fmt.Sprintf("has type %d, not %d", m.Type, kind)
	case m.Autopilot != common.MAV_AUTOPILOT_INVALID || m.BaseMode != 0 || m.MavlinkVersion != 3:
		return "says that it is an autopilot, or has a mode"
	case m.CustomMode&^bits != 0:
		return "has bits that mean nothing"
	case m.SystemStatus > common.MAV_STATE_EMERGENCY:
		return "has a state that there is not"
	}
	return ""
}

// Values by which ONBOARD_COMPUTER_STATUS says that a field is not used.
const (
	notUsed8  = math.MaxUint8
	notUsed32 = math.MaxUint32
)

func ownComputer(c *call) string {
	m := *c.m.(*common.MessageOnboardComputerStatus)
	allowed := NewComputerStatus()
	allowed.TimeUsec, allowed.Uptime, allowed.CpuCores = m.TimeUsec, m.Uptime, m.CpuCores
	allowed.TemperatureBoard, allowed.RamUsage, allowed.RamTotal = m.TemperatureBoard, m.RamUsage, m.RamTotal
	allowed.StorageType[0], allowed.StorageUsage[0], allowed.StorageTotal[0] = m.StorageType[0], m.StorageUsage[0], m.StorageTotal[0]
	allowed.LinkType[0], allowed.LinkTxRate[0], allowed.LinkRxRate[0] = m.LinkType[0], m.LinkTxRate[0], m.LinkRxRate[0]
	allowed.StatusFlags = m.StatusFlags
	if m != *allowed || m.StatusFlags > 15 {
		return "uses fields that must stay unused"
	}
	return fromComputer(c)
}

// NewComputerStatus returns a message all of whose fields say that they are not used.
func NewComputerStatus() *common.MessageOnboardComputerStatus {
	m := &common.MessageOnboardComputerStatus{TemperatureBoard: math.MaxInt8, RamUsage: notUsed32, RamTotal: notUsed32}
	fill(m.CpuCores[:], notUsed8)
	fill(m.CpuCombined[:], notUsed8)
	fill(m.GpuCores[:], notUsed8)
	fill(m.GpuCombined[:], notUsed8)
	fill(m.TemperatureCore[:], math.MaxInt8)
	fill(m.FanSpeed[:], math.MaxInt16)
	for _, row := range [][]uint32{m.StorageType[:], m.StorageUsage[:], m.StorageTotal[:], m.LinkType[:],
		m.LinkTxRate[:], m.LinkRxRate[:], m.LinkTxMax[:], m.LinkRxMax[:]} {
		fill(row, notUsed32)
	}
	return m
}

func fill[T any](row []T, v T) {
	for i := range row {
		row[i] = v
	}
}

func ownStorage(c *call) string {
	m := c.m.(*common.MessageStorageInformation)
	if m.Name != "" && m.Name != "Holdfast" {
		return "has another name"
	}
	return ""
}

func ownText(c *call) string {
	m := c.m.(*common.MessageStatustext)
	if m.Id != 0 || m.ChunkSeq != 0 || m.Severity > common.MAV_SEVERITY_DEBUG || !textPattern().MatchString(m.Text) {
		return "has a text that is none of the fixed ones"
	}
	return fromComputer(c)
}

func ownTimesync(c *call) string {
	m := c.m.(*common.MessageTimesync)
	all := m.TargetSystem == 0 && m.TargetComponent == 0
	if !all && (m.TargetSystem != c.system || m.TargetComponent != ComponentAutopilot) {
		return "goes to somebody else"
	}
	if m.Tc1 < 0 || m.Ts1 < 0 {
		return "has a time before the start"
	}
	return fromComputer(c)
}

// dataStreams are those of MAV_DATA_STREAM that REQUEST_DATA_STREAM may ask for.
var dataStreams = []common.MAV_DATA_STREAM{1, 2, 3, 6, 10, 11, 12}

// maxRate bounds message rates, in Hz.
const maxRate = 50

func ownDataStream(c *call) string {
	m := c.m.(*common.MessageRequestDataStream)
	switch {
	case !c.opt.Rates:
		return "sets rates, which the policy does not"
	case !slices.Contains(dataStreams, m.ReqStreamId) || m.StartStop != 1 || m.ReqMessageRate < 1 || m.ReqMessageRate > maxRate:
		return "asks for a stream or a rate out of bounds"
	}
	return toAutopilot(c)
}

func ownParamRead(c *call) string {
	m := c.m.(*common.MessageParamRequestRead)
	if m.ParamId != "" || m.ParamIndex < 0 {
		return "asks by name"
	}
	return toAutopilot(c)
}

func ownMission(c *call) string {
	plain := false
	switch m := c.m.(type) {
	case *common.MessageMissionRequestList:
		plain = m.MissionType == 0
	case *common.MessageMissionRequestInt:
		plain = m.MissionType == 0
	case *common.MessageMissionAck:
		plain = m.MissionType == 0 && m.Type == common.MAV_MISSION_ACCEPTED && m.OpaqueId == 0
	}
	if !plain {
		return "is not about the mission, or does not accept it"
	}
	return toAutopilot(c)
}

func ownErase(c *call) string {
	if !c.opt.EraseLogs {
		return "erases logs, which the policy does not"
	}
	return toAutopilot(c)
}

func ownLogBlock(c *call) string {
	if m := c.m.(*ardupilotmega.MessageRemoteLogBlockStatus); m.Status > 1 {
		return "has a status that there is not"
	}
	return toAutopilot(c)
}
