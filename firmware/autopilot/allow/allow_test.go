package allow_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/all"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink"
	"holdfast/mavlink/codec"
)

const pilot = 7 // the autopilot's system

var everything = allow.Options{Rates: true, EraseLogs: true, Veto: true, Camera: true}

func list(opt allow.Options) *allow.List {
	l := allow.New(opt)
	l.SetSystem(pilot)
	return l
}

func encode(t testing.TB, sys, comp uint8, m message.Message) []byte {
	t.Helper()
	raw, err := codec.New().Encode(sys, comp, 3, m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// frame makes a frame of any id with a right checksum.
func frame(id uint32, sys, comp uint8, payload []byte) []byte {
	raw := append([]byte{0xFD, byte(len(payload)), 0, 0, 0, sys, comp, byte(id), byte(id >> 8), byte(id >> 16)}, payload...)
	return seal(append(raw, 0, 0))
}

// seal sets the checksum of raw.
func seal(raw []byte) []byte {
	id := uint32(raw[7]) | uint32(raw[8])<<8 | uint32(raw[9])<<16
	extra, _ := mavlink.CRCExtra(id)
	body := append(slices.Clone(raw[1:len(raw)-2]), extra)
	binary.LittleEndian.PutUint16(raw[len(raw)-2:], mavlink.Checksum(body))
	return raw
}

// fields of 32 bytes.
func word(s string) (b [32]uint8) { copy(b[:], s); return b }

func heartbeat(kind common.MAV_TYPE, bits uint32) *common.MessageHeartbeat {
	return &common.MessageHeartbeat{Type: kind, Autopilot: common.MAV_AUTOPILOT_INVALID, CustomMode: bits,
		SystemStatus: common.MAV_STATE_ACTIVE, MavlinkVersion: 3}
}

func command(cmd common.MAV_CMD, p ...float32) *common.MessageCommandLong {
	p = append(p, make([]float32, 7)...)
	return &common.MessageCommandLong{TargetSystem: pilot, TargetComponent: 1, Command: cmd,
		Param1: p[0], Param2: p[1], Param3: p[2], Param4: p[3], Param5: p[4], Param6: p[5], Param7: p[6]}
}

func ftp(op byte, data string) *common.MessageFileTransferProtocol {
	m := &common.MessageFileTransferProtocol{TargetSystem: pilot, TargetComponent: 1}
	m.Payload[3], m.Payload[4] = op, byte(len(data))
	copy(m.Payload[12:], data)
	return m
}

func with[T any](m *T, change func(*T)) *T { change(m); return m }

func ack(cmd common.MAV_CMD, result common.MAV_RESULT) *common.MessageCommandAck {
	return &common.MessageCommandAck{Command: cmd, Result: result, TargetSystem: pilot, TargetComponent: 1}
}

func text(s string) *common.MessageStatustext {
	return &common.MessageStatustext{Severity: common.MAV_SEVERITY_WARNING, Text: s}
}

// when says in which state a case passes.
type when int

const (
	never when = iota
	disarmed
	always
)

type ownCase struct {
	name string
	comp uint8
	m    message.Message
	when when
}

// ownCases has for each rule of content what passes and what does not.
var ownCases = []ownCase{
	{"heartbeat", 191, heartbeat(18, 1|allow.FaultLock.Bit()), always},
	{"heartbeat of the logger", 155, heartbeat(38, 0), always},
	{"heartbeat of a camera", 105, heartbeat(30, 0), always},
	{"heartbeat as the autopilot", 1, heartbeat(18, 0), never},
	{"heartbeat of a seventh camera", 106, heartbeat(30, 0), never},
	{"heartbeat with another type", 191, heartbeat(2, 0), never},
	{"heartbeat with bits of nobody", 191, heartbeat(18, 1<<20), never},
	{"heartbeat of a camera with bits", 100, heartbeat(30, 1), never},
	{"heartbeat that claims an autopilot", 191, with(heartbeat(18, 0), func(m *common.MessageHeartbeat) { m.Autopilot = 3 }), never},
	{"heartbeat that claims to be armed", 191, with(heartbeat(18, 0), func(m *common.MessageHeartbeat) { m.BaseMode = 128 }), never},
	{"computer status", 191, with(allow.NewComputerStatus(), func(m *common.MessageOnboardComputerStatus) { m.Uptime, m.StatusFlags = 5, 8 }), always},
	{"computer status with bytes in unused fields", 191, with(allow.NewComputerStatus(), func(m *common.MessageOnboardComputerStatus) { m.GpuCombined[3] = 65 }), never},
	{"computer status of the camera", 100, allow.NewComputerStatus(), never},
	{"storage", 191, &common.MessageStorageInformation{StorageId: 1, Name: "Holdfast"}, always},
	{"storage with a name", 191, &common.MessageStorageInformation{StorageId: 1, Name: "case 4711"}, never},
	{"text", 191, text("Holdfast: network lock open"), always},
	{"text with a number", 191, text(allow.FaultLow.Text(false, 1234567)), always},
	{"text that denies", 191, text(allow.FaultKeys.DeniedText()), always},
	{"text with a position", 191, text("Holdfast: at 47.3977 8.5455"), never},
	{"text with more behind", 191, text("Holdfast: network lock open 47.39"), never},
	{"text with a number too long", 191, text("Holdfast: storage low, 473977418 MB left"), never},
	{"text with a number that begins with 0", 191, text("Holdfast: storage low, 0012 MB left"), never},
	{"text in pieces", 191, with(text("Holdfast: network lock open"), func(m *common.MessageStatustext) { m.Id = 4 }), never},
	{"text of a camera", 100, text("Holdfast: network lock open"), never},
	{"timesync", 191, &common.MessageTimesync{Ts1: 5}, always},
	{"timesync to a ground station", 191, &common.MessageTimesync{Ts1: 5, TargetSystem: 255, TargetComponent: 190}, never},
	{"timesync before the start", 191, &common.MessageTimesync{Ts1: -5}, never},

	{"request of the version", 191, command(common.MAV_CMD_REQUEST_MESSAGE, 148), disarmed},
	{"request of another message", 191, command(common.MAV_CMD_REQUEST_MESSAGE, 300), never},
	{"request with parameters", 191, command(common.MAV_CMD_REQUEST_MESSAGE, 148, 0, 0, 0, 0, 0, 1), never},
	{"request with a negative zero", 191, command(common.MAV_CMD_REQUEST_MESSAGE, 148, float32(math.Copysign(0, -1))), never},
	{"request by a camera", 100, command(common.MAV_CMD_REQUEST_MESSAGE, 148), never},
	{"interval", 191, command(common.MAV_CMD_SET_MESSAGE_INTERVAL, 30, 100000), disarmed},
	{"interval too short", 191, command(common.MAV_CMD_SET_MESSAGE_INTERVAL, 30, 10000), never},
	{"interval that stops", 191, command(common.MAV_CMD_SET_MESSAGE_INTERVAL, 30, -1), never},
	{"interval that is no number", 191, command(common.MAV_CMD_SET_MESSAGE_INTERVAL, 30, float32(math.NaN())), never},
	{"interval of the heartbeat", 191, command(common.MAV_CMD_SET_MESSAGE_INTERVAL, 0, 100000), never},
	{"interval asked back", 191, command(common.MAV_CMD_GET_MESSAGE_INTERVAL, 30), disarmed},
	{"interval of the heartbeat asked back", 191, command(common.MAV_CMD_GET_MESSAGE_INTERVAL, 0), never},
	{"log stream", 155, command(common.MAV_CMD_LOGGING_START), always},
	{"log stream of another format", 155, command(common.MAV_CMD_LOGGING_START, 1), never},
	{"log stream ends", 155, command(common.MAV_CMD_LOGGING_STOP), always},
	{"arm", 191, command(common.MAV_CMD_COMPONENT_ARM_DISARM, 1), never},
	{"disarm", 191, command(common.MAV_CMD_COMPONENT_ARM_DISARM, 0, 21196), never},
	{"reboot", 191, command(common.MAV_CMD_PREFLIGHT_REBOOT_SHUTDOWN, 1), never},
	{"terminate", 191, command(common.MAV_CMD_DO_FLIGHTTERMINATION, 1), never},
	{"mode", 191, command(common.MAV_CMD_DO_SET_MODE, 1), never},
	{"take-off", 191, command(common.MAV_CMD_NAV_TAKEOFF), never},
	{"command to somebody else", 191, with(command(common.MAV_CMD_REQUEST_MESSAGE, 148), func(m *common.MessageCommandLong) { m.TargetSystem = 255 }), never},
	{"command to the gimbal", 191, with(command(common.MAV_CMD_REQUEST_MESSAGE, 148), func(m *common.MessageCommandLong) { m.TargetComponent = 154 }), never},
	{"data stream", 191, &common.MessageRequestDataStream{TargetSystem: pilot, TargetComponent: 1, ReqStreamId: 1, ReqMessageRate: 5, StartStop: 1}, disarmed},
	{"data stream that stops", 191, &common.MessageRequestDataStream{TargetSystem: pilot, TargetComponent: 1, ReqStreamId: 1, ReqMessageRate: 5}, never},
	{"all data streams", 191, &common.MessageRequestDataStream{TargetSystem: pilot, TargetComponent: 1, ReqMessageRate: 5, StartStop: 1}, never},
	{"data stream too fast", 191, &common.MessageRequestDataStream{TargetSystem: pilot, TargetComponent: 1, ReqStreamId: 1, ReqMessageRate: 51, StartStop: 1}, never},

	{"all parameters", 191, &common.MessageParamRequestList{TargetSystem: pilot, TargetComponent: 1}, disarmed},
	{"a parameter", 191, &common.MessageParamRequestRead{TargetSystem: pilot, TargetComponent: 1, ParamIndex: 5}, disarmed},
	{"a parameter by name", 191, &common.MessageParamRequestRead{TargetSystem: pilot, TargetComponent: 1, ParamIndex: -1, ParamId: "RC1_MIN"}, never},
	{"set a parameter", 191, &common.MessageParamSet{TargetSystem: pilot, TargetComponent: 1, ParamId: "SYSID_THISMAV", ParamValue: 1}, never},
	{"mission list", 191, &common.MessageMissionRequestList{TargetSystem: pilot, TargetComponent: 1}, disarmed},
	{"fence list", 191, &common.MessageMissionRequestList{TargetSystem: pilot, TargetComponent: 1, MissionType: 1}, never},
	{"mission item", 191, &common.MessageMissionRequestInt{TargetSystem: pilot, TargetComponent: 1, Seq: 4}, disarmed},
	{"mission accepted", 191, &common.MessageMissionAck{TargetSystem: pilot, TargetComponent: 1}, disarmed},
	{"mission refused", 191, &common.MessageMissionAck{TargetSystem: pilot, TargetComponent: 1, Type: 1}, never},
	{"mission count", 191, &common.MessageMissionCount{TargetSystem: pilot, TargetComponent: 1}, never},
	{"mission cleared", 191, &common.MessageMissionClearAll{TargetSystem: pilot, TargetComponent: 1}, never},

	{"log list", 191, &common.MessageLogRequestList{TargetSystem: pilot, TargetComponent: 1, End: 65535}, disarmed},
	{"log data", 191, &common.MessageLogRequestData{TargetSystem: pilot, TargetComponent: 1, Count: 90}, disarmed},
	{"log end", 191, &common.MessageLogRequestEnd{TargetSystem: pilot, TargetComponent: 1}, disarmed},
	{"log erase", 191, &common.MessageLogErase{TargetSystem: pilot, TargetComponent: 1}, disarmed},
	{"log block", 155, &ardupilotmega.MessageRemoteLogBlockStatus{TargetSystem: pilot, TargetComponent: 1, Seqno: 2147483646, Status: 1}, always},
	{"log block with another status", 155, &ardupilotmega.MessageRemoteLogBlockStatus{TargetSystem: pilot, TargetComponent: 1, Status: 2}, never},
	{"log acknowledged", 155, &common.MessageLoggingAck{TargetSystem: pilot, TargetComponent: 1, Sequence: 3}, always},
	{"log data out", 155, &common.MessageLoggingData{TargetSystem: pilot, TargetComponent: 1, Length: 3}, never},

	{"ftp list", 191, ftp(3, "/APM/LOGS"), disarmed},
	{"ftp list with a zero behind", 191, ftp(3, "/APM/LOGS\x00"), disarmed},
	{"ftp open", 191, ftp(4, "/fs/microsd/log/2026-11-30/10_00_00.ulg"), disarmed},
	{"ftp open of something else", 191, ftp(4, "/APM/LOGSX/1.bin"), never},
	{"ftp open by way of a folder of logs", 191, ftp(4, "/APM/LOGS/../../etc/key"), never},
	{"ftp open of nothing", 191, ftp(4, ""), never},
	{"ftp open with bytes behind the path", 191, ftp(4, "/APM/LOGS/1.BIN\x00geheim"), never},
	{"ftp read", 191, with(ftp(5, ""), func(m *common.MessageFileTransferProtocol) { m.Payload[4], m.Payload[8] = 239, 90 }), disarmed},
	{"ftp read that carries bytes", 191, ftp(5, "secret"), never},
	{"ftp burst", 191, with(ftp(15, ""), func(m *common.MessageFileTransferProtocol) { m.Payload[4] = 239 }), disarmed},
	{"ftp checksum", 191, ftp(14, "/log/sess001/log100.ulg"), disarmed},
	{"ftp reset", 191, ftp(2, ""), disarmed},
	{"ftp reset with bytes", 191, ftp(2, "abc"), never},
	{"ftp remove", 191, ftp(8, "/APM/LOGS/00000001.BIN"), disarmed},
	{"ftp remove of something else", 191, ftp(8, "/APM/scripts/x.lua"), never},
	{"ftp create", 191, ftp(6, "/APM/LOGS/1.BIN"), never},
	{"ftp write", 191, ftp(7, "/APM/LOGS/1.BIN"), never},
	{"ftp folder", 191, ftp(9, "/APM/LOGS/x"), never},
	{"ftp open to write", 191, ftp(11, "/APM/LOGS/1.BIN"), never},
	{"ftp truncate", 191, ftp(12, "/APM/LOGS/1.BIN"), never},
	{"ftp rename", 191, ftp(13, "/APM/LOGS/1.BIN\x00/APM/LOGS/2.BIN"), never},
	{"ftp answer", 191, ftp(128, ""), never},
	{"ftp bytes behind the data", 191, with(ftp(3, "/APM/LOGS"), func(m *common.MessageFileTransferProtocol) { m.Payload[200] = 1 }), never},
	{"ftp to another network", 191, with(ftp(3, "/APM/LOGS"), func(m *common.MessageFileTransferProtocol) { m.TargetNetwork = 1 }), never},
	{"ftp with a size that cannot be", 191, with(ftp(3, "/APM/LOGS"), func(m *common.MessageFileTransferProtocol) { m.Payload[4] = 250 }), never},

	{"photo taken", 100, &common.MessageCameraImageCaptured{ImageIndex: 4, TimeUtc: 5}, always},
	{"photo taken somewhere", 100, &common.MessageCameraImageCaptured{ImageIndex: 4, Lat: 473977418}, never},
	{"photo with a file name", 100, &common.MessageCameraImageCaptured{FileUrl: "http://10.0.0.1/x.jpg"}, never},
	{"photo taken by the computer", 191, &common.MessageCameraImageCaptured{ImageIndex: 4}, never},
	{"camera", 101, &common.MessageCameraInformation{VendorName: word("Holdfast"), ModelName: word("front-1")}, always},
	{"camera of somebody", 101, &common.MessageCameraInformation{VendorName: word("ACME"), ModelName: word("front")}, never},
	{"camera with a text", 101, &common.MessageCameraInformation{VendorName: word("Holdfast"), ModelName: word("N 47.39 E 8.54")}, never},
	{"camera with bytes behind its name", 101, &common.MessageCameraInformation{VendorName: word("Holdfast"), ModelName: word("front\x00x")}, never},
	{"camera with a definition", 101, &common.MessageCameraInformation{VendorName: word("Holdfast"), CamDefinitionUri: "http://x"}, never},
	{"camera settings", 101, &common.MessageCameraSettings{}, always},
	{"camera settings of the computer", 191, &common.MessageCameraSettings{}, never},
	{"capture status", 101, &common.MessageCameraCaptureStatus{}, always},
	{"capture status of the computer", 191, &common.MessageCameraCaptureStatus{}, never},
	{"log acknowledged to the ground", 155, &common.MessageLoggingAck{TargetSystem: 255, TargetComponent: 1, Sequence: 3}, never},
	{"video stream", 101, &common.MessageVideoStreamInformation{Uri: "rtsp://x"}, never},
	{"answer of a camera", 100, with(ack(common.MAV_CMD_IMAGE_START_CAPTURE, 0), func(m *common.MessageCommandAck) { m.TargetSystem, m.TargetComponent = 255, 190 }), always},
	{"answer of a camera to what it has not", 100, ack(common.MAV_CMD_VIDEO_START_STREAMING, 0), never},
	{"answer of the computer", 191, ack(common.MAV_CMD_REQUEST_STORAGE_INFORMATION, 0), always},
	{"answer with a number", 191, with(ack(common.MAV_CMD_REQUEST_MESSAGE, 0), func(m *common.MessageCommandAck) { m.ResultParam2 = 4711 }), never},
	{"arming allowed", 191, with(ack(common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, 0), func(m *common.MessageCommandAck) { m.ResultParam2 = 5 }), always},
	{"arming allowed for ever", 191, with(ack(common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, 0), func(m *common.MessageCommandAck) { m.ResultParam2 = 3600 }), never},
	{"arming denied", 191, ack(common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, common.MAV_RESULT_DENIED), disarmed},
	{"arming denied to somebody else", 191, with(ack(common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, common.MAV_RESULT_DENIED), func(m *common.MessageCommandAck) { m.TargetSystem = 255 }), never},
	{"arming denied by a camera", 100, ack(common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, common.MAV_RESULT_DENIED), never},

	{"position target", 191, &common.MessageSetPositionTargetLocalNed{TargetSystem: pilot, TargetComponent: 1}, never},
	{"tunnel", 191, &common.MessageTunnel{TargetSystem: pilot, TargetComponent: 1, PayloadLength: 4}, never},
	{"serial control", 191, &common.MessageSerialControl{Count: 1}, never},
	{"encapsulated data", 191, &common.MessageEncapsulatedData{Data: [253]uint8{1}}, never},
	{"extension", 191, &common.MessageV2Extension{}, never},
	{"named value", 191, &common.MessageNamedValueInt{Name: "x"}, never},
}

func TestOwn(t *testing.T) {
	for _, c := range ownCases {
		raw := encode(t, pilot, c.comp, c.m)
		for _, armed := range []bool{false, true} {
			err := list(everything).Check(raw, armed)
			if want := c.when == always || c.when == disarmed && !armed; (err == nil) != want {
				t.Errorf("%s, armed %v: %v", c.name, armed, err)
			}
			if err != nil && !errors.Is(err, allow.ErrRefused) {
				t.Errorf("%s: %v is not ErrRefused", c.name, err)
			}
		}
	}
}

// TestEveryRuleHasCases wants each row to have a case that passes and one that does not.
func TestEveryRuleHasCases(t *testing.T) {
	pass, fail := map[uint32]bool{}, map[uint32]bool{}
	for _, c := range ownCases {
		if c.when == never || c.when == disarmed {
			fail[c.m.GetID()] = true
		}
		if c.when != never {
			pass[c.m.GetID()] = true
		}
	}
	for _, r := range allow.Own() {
		if !pass[r.ID] {
			t.Errorf("no case of %d passes", r.ID)
		}
		if !fail[r.ID] {
			t.Errorf("no case of %d is refused", r.ID)
		}
	}
}

// TestPolicyBringsWhatItNames: without the option the same frame is refused.
func TestPolicyBringsWhatItNames(t *testing.T) {
	for name, c := range map[string]struct {
		comp uint8
		m    message.Message
		opt  allow.Options
	}{
		"interval":    {191, command(common.MAV_CMD_SET_MESSAGE_INTERVAL, 30, 100000), allow.Options{Rates: true}},
		"data stream": {191, &common.MessageRequestDataStream{TargetSystem: pilot, TargetComponent: 1, ReqStreamId: 1, ReqMessageRate: 5, StartStop: 1}, allow.Options{Rates: true}},
		"erase":       {191, &common.MessageLogErase{TargetSystem: pilot, TargetComponent: 1}, allow.Options{EraseLogs: true}},
		"ftp remove":  {191, ftp(8, "/APM/LOGS/1.BIN"), allow.Options{EraseLogs: true}},
		"veto":        {191, ack(common.MAV_CMD_ARM_AUTHORIZATION_REQUEST, common.MAV_RESULT_DENIED), allow.Options{Veto: true}},
		"camera":      {100, heartbeat(30, 0), allow.Options{Camera: true}},
	} {
		raw := encode(t, pilot, c.comp, c.m)
		if err := list(c.opt).Check(raw, false); err != nil {
			t.Errorf("%s with its option: %v", name, err)
		}
		if err := list(allow.Options{}).Check(raw, false); err == nil {
			t.Errorf("%s passes without its option", name)
		}
	}
}

// TestFrame is about the frame around the message.
func TestFrame(t *testing.T) {
	good := encode(t, pilot, 191, heartbeat(18, 1))
	for name, c := range map[string]struct {
		raw  []byte
		pass bool
	}{
		"whole":               {good, true},
		"cut":                 {good[:len(good)-1], false},
		"with a byte behind":  {append(slices.Clone(good), 0), false},
		"empty":               {nil, false},
		"flag":                {seal(changed(good, 3, 1)), false},
		"signed flag":         {seal(changed(good, 2, 1)), false},
		"MAVLink 1":           {[]byte{0xFE, 9, 0, pilot, 191, 0, 0, 0, 0, 0, 18, 8, 0, 4, 3, 0, 0}, false},
		"zeros not cut off":   {frame(0, pilot, 191, append(slices.Clone(good[10:len(good)-2]), 0)), false},
		"bytes behind":        {frame(0, pilot, 191, append(slices.Clone(good[10:len(good)-2]), 'x')), false},
		"other system":        {encode(t, pilot+1, 191, heartbeat(18, 1)), false},
		"text behind its end": {frame(253, pilot, 191, append(append([]byte{4}, "Holdfast: network lock open\x00geheim"...), make([]byte, 0)...)), false},
	} {
		if err := list(everything).Check(c.raw, false); (err == nil) != c.pass {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := list(everything).Check(changed(good, 4, good[4]+1), false); err == nil {
		t.Error("a wrong checksum passes")
	}
	if err := allow.New(everything).Check(good, false); err == nil {
		t.Error("a frame passes before the autopilot is known")
	}
}

func changed(raw []byte, at int, b byte) []byte {
	raw = slices.Clone(raw)
	raw[at] = b
	return raw
}

// forbidden are ids that must never be on Holdfast's own list, whatever else is.
var forbidden = []uint32{4, 5, 6, 7, 11, 23, 37, 38, 39, 40, 41, 44, 45, 48, 69, 70, 73, 75, 80, 82, 84, 86, 123, 126, 130, 131,
	139, 233, 243, 248, 250, 251, 252, 254, 256, 257, 258, 266, 267, 323, 385, 401, 511}

func TestForbiddenIsNotOnTheList(t *testing.T) {
	for _, r := range allow.Own() {
		if slices.Contains(forbidden, r.ID) {
			t.Errorf("%d is on the list", r.ID)
		}
	}
}

// TestEveryMessage sends every id there is, with random payloads and from every component of
// ours, through both lists: only what is listed passes.
func TestEveryMessage(t *testing.T) {
	own, share := ids(allow.Own()), ids(allow.Share())
	l := list(everything)
	r := rand.New(rand.NewPCG(1, 2))
	for _, m := range all.Dialect.Messages {
		id := m.GetID()
		if _, ok := mavlink.CRCExtra(id); !ok {
			t.Errorf("%d is not known", id)
		}
		for range 40 {
			payload := randomPayload(r)
			for _, comp := range []uint8{191, 155, 100, 1, 42} {
				raw := frame(id, pilot, comp, payload)
				if err := l.Check(raw, false); err == nil && !own[id] {
					t.Errorf("message %d passes", id)
				}
				if err := l.CheckShare(raw); err == nil && !share[id] {
					t.Errorf("message %d passes through a share", id)
				}
			}
		}
	}
}

func randomPayload(r *rand.Rand) []byte {
	p := make([]byte, 1+r.IntN(255))
	for i := range p {
		p[i] = byte(r.Uint32())
		if r.IntN(2) == 0 {
			p[i] = []byte{0, 1, pilot}[r.IntN(3)]
		}
	}
	for len(p) > 1 && p[len(p)-1] == 0 {
		p = p[:len(p)-1]
	}
	return p
}

func ids(rules []allow.Rule) map[uint32]bool {
	m := map[uint32]bool{}
	for _, r := range rules {
		m[r.ID] = true
	}
	return m
}

// TestNothingOnTheListIsUnlisted flips bits of what passes: what still passes must be on the
// list, and from one of our components.
func TestNothingOnTheListIsUnlisted(t *testing.T) {
	l := list(everything)
	own := ids(allow.Own())
	for _, c := range ownCases {
		raw := encode(t, pilot, c.comp, c.m)
		for bit := range (len(raw) - 2) * 8 {
			b := slices.Clone(raw)
			b[bit/8] ^= 1 << (bit % 8)
			if b[0] != 0xFD || int(b[1])+12 != len(b) {
				continue
			}
			if seal(b); l.Check(b, true) == nil {
				judge(t, b, own)
			}
		}
	}
}

// judge is a second opinion about what passed while armed, by the bytes alone.
func judge(t testing.TB, b []byte, own map[uint32]bool) {
	t.Helper()
	id := uint32(b[7]) | uint32(b[8])<<8 | uint32(b[9])<<16
	asking := slices.Contains([]uint32{20, 21, 43, 51, 47, 66, 110, 117, 119, 121, 122}, id)
	if !own[id] || asking || b[5] != pilot || !(b[6] == 191 || b[6] == 155 || b[6] >= 100 && b[6] <= 105) {
		t.Errorf("passed while armed: message %d from %d/%d", id, b[5], b[6])
	}
	if id == 76 {
		if cmd := binary.LittleEndian.Uint16(b[10+28:]); cmd != 2510 && cmd != 2511 {
			t.Errorf("passed while armed: command %d", cmd)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, c := range ownCases {
		f.Add(encode(f, pilot, c.comp, c.m))
	}
	for _, c := range shareCases {
		f.Add(encode(f, c.sys, c.comp, c.m))
	}
	own, share := ids(allow.Own()), ids(allow.Share())
	l := list(everything)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 12 && b[0] == 0xFD {
			seal(b)
		}
		if l.Check(b, true) == nil {
			judge(t, b, own)
			if err := l.Check(b, false); err != nil {
				t.Errorf("passes while armed, not while disarmed: %v", err)
			}
		}
		if l.CheckShare(b) == nil && !share[uint32(b[7])|uint32(b[8])<<8|uint32(b[9])<<16] {
			t.Errorf("%x passes through a share", b)
		}
	})
}

func ExampleList_Check() {
	l := allow.New(allow.Options{})
	l.SetSystem(1)
	raw, _ := codec.New().Encode(1, 191, 0, &common.MessageParamSet{TargetSystem: 1, TargetComponent: 1, ParamId: "ARMING_CHECK"})
	fmt.Println(l.Check(raw, false))
	// Output: not on the list of what is sent: PARAM_SET (23) is not on it
}
