package config

import (
	"slices"
	"strings"
	"time"
)

// A key is one line of holdfast.toml. The table of keys is the only list of them: reading,
// writing and hints all go by it.
type key struct {
	name    string // such as "vault.path"
	comment string // for Marshal: what it does and what it takes

	// One of these points at the value of the key.
	text     func(target) *string
	integer  func(target) *int
	duration func(target) *time.Duration
	size     func(target) *int64
	devices  func(target) *[]USBRule
	truth    func(target) *bool
	words    func(target) *[]string
}

// target is what a key belongs to: the configuration and, below a [[table]], its newest element.
type target struct {
	*Config
	link   *Link
	share  *Share
	camera *Camera
}

var keys = []key{
	{name: "board.profile", comment: `a name of "holdfast boards", or "auto"`,
		text: func(t target) *string { return &t.Config.Board.Profile }},

	{name: "link.name", comment: "a short name, [a-z0-9_-], for records and reports",
		text: func(t target) *string { return &t.link.Name }},
	{name: "link.device", comment: "the serial port of the autopilot; on the bench also tcp:, udp: or file:",
		text: func(t target) *string { return &t.link.Device }},
	{name: "link.baud", comment: "bit/s",
		integer: func(t target) *int { return &t.link.Baud }},

	{name: "vault.path", comment: "folder of the sealed records",
		text: func(t target) *string { return &t.Config.Vault.Path }},
	{name: "vault.recipients", comment: "who can open them: one recipient a line",
		text: func(t target) *string { return &t.Config.Vault.Recipients }},
	{name: "vault.device_key", comment: "signs the public log; made at first start, stays outside the vault",
		text: func(t target) *string { return &t.Config.Vault.DeviceKey }},
	{name: "vault.flush_armed", comment: "at most this much waits in memory while armed (10ms to 5s)",
		duration: func(t target) *time.Duration { return &t.Config.Vault.FlushArmed }},
	{name: "vault.flush_idle", comment: "the same while not armed (10ms to 60s)",
		duration: func(t target) *time.Duration { return &t.Config.Vault.FlushIdle }},
	{name: "vault.reserve", comment: "free space that only telemetry may use (B, KiB, MiB, GiB)",
		size: func(t target) *int64 { return &t.Config.Vault.Reserve }},
	{name: "vault.record", comment: `"always", or "armed": only from arming to disarming`,
		text: func(t target) *string { return &t.Config.Vault.Record }},
	{name: "vault.when_full", comment: `"stop", or "oldest": give up the oldest record`,
		text: func(t target) *string { return &t.Config.Vault.WhenFull }},

	{name: "lock.mode", comment: `"locked", or "bench": nothing on the host is changed`,
		text: func(t target) *string { return &t.Config.Lock.Mode }},
	{name: "lock.run", comment: "folder in memory where guard and recorder meet",
		text: func(t target) *string { return &t.Config.Lock.Run }},
	{name: "lock.ticket", comment: `where a ticket for maintenance is put ("holdfast ticket")`,
		text: func(t target) *string { return &t.Config.Lock.Ticket }},
	{name: "lock.signers", comment: "whose tickets are admitted; without the file nobody's",
		text: func(t target) *string { return &t.Config.Lock.Signers }},
	{name: "lock.used_numbers", comment: "tickets that were used; must last, stays outside the vault",
		text: func(t target) *string { return &t.Config.Lock.UsedNumbers }},

	{name: "usb.allow", comment: `what stays in use: "1-1.4 0403:6001" (port, vendor:product) or "* 1209:5740"`,
		devices: func(t target) *[]USBRule { return &t.Config.USB.Allow }},

	{name: "status.file", comment: "rewritten each second: state, counts, last error",
		text: func(t target) *string { return &t.Config.Status.File }},
	{name: "status.led", comment: `"auto" (the board's), "off", or the name of a LED or GPIO line`,
		text: func(t target) *string { return &t.Config.Status.LED }},
	{name: "status.button", comment: `"auto" (the board's), "off", or the name of a GPIO line`,
		text: func(t target) *string { return &t.Config.Status.Button }},

	{name: "share.path", comment: "where programs on this board find the stream: a link to a pseudo-terminal",
		text: func(t target) *string { return &t.share.Path }},
	{name: "share.mode", comment: `"read", or "write": what they send goes to the autopilot, and into the record`,
		text: func(t target) *string { return &t.share.Mode }},
	{name: "share.link", comment: "name of the link that is shared; empty: the first one",
		text: func(t target) *string { return &t.share.Link }},
	{name: "share.group", comment: "group of users that may open it; empty: the recorder's alone",
		text: func(t target) *string { return &t.share.Group }},

	{name: "camera.name", comment: "a short name, [a-z0-9_-]; it is sealed",
		text: func(t target) *string { return &t.camera.Name }},
	{name: "camera.source", comment: `"command" (its output), "inbox" (files closed in a folder in memory) or "v4l2"`,
		text: func(t target) *string { return &t.camera.Source }},
	{name: "camera.command", comment: `program and arguments, such as ["rpicam-vid", "-t", "0", "-o", "-"]`,
		words: func(t target) *[]string { return &t.camera.Command }},
	{name: "camera.path", comment: "folder of an inbox; must lie in memory",
		text: func(t target) *string { return &t.camera.Path }},
	{name: "camera.device", comment: "of a v4l2 camera, such as /dev/video0",
		text: func(t target) *string { return &t.camera.Device }},
	{name: "camera.format", comment: `"h264", "mjpeg", "ts" (MPEG-TS), "mp4" (fragmented) or "jpg"`,
		text: func(t target) *string { return &t.camera.Format }},
	{name: "camera.width", comment: "pixels; 0: as the camera likes",
		integer: func(t target) *int { return &t.camera.Width }},
	{name: "camera.height", comment: "pixels; 0: as the camera likes",
		integer: func(t target) *int { return &t.camera.Height }},
	{name: "camera.fps", comment: "frames a second; 0: as the camera likes",
		integer: func(t target) *int { return &t.camera.FPS }},
	{name: "camera.start", comment: `"always", "armed" (while armed), or "command" (when MAVLink says so)`,
		text: func(t target) *string { return &t.camera.Start }},
	{name: "camera.audio", comment: "the stream has sound; needs policy.audio = true",
		truth: func(t target) *bool { return &t.camera.Audio }},

	{name: "policy.send", comment: "false: nothing is ever sent to the autopilot",
		truth: func(t target) *bool { return &t.Config.Policy.Send }},
	{name: "policy.streams", comment: `message rates: "keep" (as they are), "survey", "full" or "low"`,
		text: func(t target) *string { return &t.Config.Policy.Streams }},
	{name: "policy.telemetry", comment: "record what the autopilot sends",
		truth: func(t target) *bool { return &t.Config.Policy.Telemetry }},
	{name: "policy.autopilot_log", comment: `its own log: "pull" (after disarming), "stream" (while armed), "both" or "off"`,
		text: func(t target) *string { return &t.Config.Policy.AutopilotLog }},
	{name: "policy.erase_logs", comment: "erase its logs when all of them are sealed here, read back and equal",
		truth: func(t target) *bool { return &t.Config.Policy.EraseLogs }},
	{name: "policy.photo", comment: "record photos",
		truth: func(t target) *bool { return &t.Config.Policy.Photo }},
	{name: "policy.video", comment: "record video",
		truth: func(t target) *bool { return &t.Config.Policy.Video }},
	{name: "policy.audio", comment: "allow cameras whose stream has sound",
		truth: func(t target) *bool { return &t.Config.Policy.Audio }},
	{name: "policy.autopilot_log_recipients", comment: "who can open those; empty: vault.recipients",
		text: func(t target) *string { return &t.Config.Policy.AutopilotLogRecipients }},
	{name: "policy.photo_recipients", comment: "the same for photos",
		text: func(t target) *string { return &t.Config.Policy.PhotoRecipients }},
	{name: "policy.video_recipients", comment: "the same for video",
		text: func(t target) *string { return &t.Config.Policy.VideoRecipients }},
	{name: "policy.media_rate", comment: "bytes a second of photos and video together; 0B: no limit",
		size: func(t target) *int64 { return &t.Config.Policy.MediaRate }},
	{name: "policy.log_rate", comment: "bytes a second asked of the autopilot for its logs; 0B: as fast as it gives",
		size: func(t target) *int64 { return &t.Config.Policy.LogRate }},
	{name: "policy.yield", comment: "order in which streams end as space runs out; telemetry is last always",
		words: func(t target) *[]string { return &t.Config.Policy.Yield }},
	{name: "policy.arming_veto", comment: "deny arming while lock, vault, keys or link are not well",
		truth: func(t target) *bool { return &t.Config.Policy.ArmingVeto }},
	{name: "policy.arming_override", comment: "file whose presence lifts the veto; what it says is recorded",
		text: func(t target) *string { return &t.Config.Policy.ArmingOverride }},
	{name: "policy.low_battery", comment: `when disarmed and low: "keep" on, "seal" and stop, or "poweroff"`,
		text: func(t target) *string { return &t.Config.Policy.LowBattery }},
	{name: "policy.low_battery_percent", comment: "what is low, by the autopilot's own word",
		integer: func(t target) *int { return &t.Config.Policy.LowBatteryPercent }},
	{name: "policy.operator", comment: "tag of each record; it is sealed",
		text: func(t target) *string { return &t.Config.Policy.Operator }},
	{name: "policy.case", comment: "tag of each record, such as a case number; it is sealed",
		text: func(t target) *string { return &t.Config.Policy.Case }},
}

// Tables that are written [[so]]: there may be several of each.
const (
	linkTable   = "link"
	shareTable  = "share"
	cameraTable = "camera"
)

func isArray(table string) bool {
	return table == linkTable || table == shareTable || table == cameraTable
}

func lookup(name string) (key, bool) {
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return key{}, false
	}
	return keys[i], true
}

// Keys returns the names of all keys, such as "vault.path", in the order of the file.
func Keys() []string {
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	return names
}

func isTable(name string) bool {
	return slices.ContainsFunc(keys, func(k key) bool { return strings.HasPrefix(k.name, name+".") })
}
