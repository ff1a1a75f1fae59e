package config

import (
	"slices"
	"strings"
)

// Values of the keys of policy, camera, share and status that take one word out of a few.
const (
	LogPull    = "pull"
	LogStream  = "stream"
	LogBoth    = "both"
	LogOff     = "off"
	RatesKeep  = "keep"
	BatteryOn  = "keep"
	ShareRead  = "read"
	ShareWrite = "write"
	PartAuto   = "auto"
	PartOff    = "off"

	BatterySeal     = "seal"
	BatteryPowerOff = "poweroff"

	SourceCommand = "command"
	SourceInbox   = "inbox"
	SourceV4L2    = "v4l2"

	StartAlways  = "always"
	StartArmed   = "armed"
	StartCommand = "command"
)

// Rates are the profiles of message rates, the first of which changes nothing.
var Rates = []string{RatesKeep, "survey", "full", "low"}

// Streams that yield when space runs out, by the names that policy.yield has.
const (
	YieldVideo = "video"
	YieldPhoto = "photo"
	YieldLog   = "autopilot_log"
)

// MaxCameras is how many cameras MAVLink has components for (MAV_COMP_ID_CAMERA to CAMERA6).
const MaxCameras = 6

// Limits of lists and texts.
const (
	MaxShares  = 8
	MaxWords   = 256 // of a command
	MaxTag     = 256 // bytes of policy.operator and policy.case
	MaxWordLen = 4096
	maxPixels  = 16384
	maxFPS     = 1000
)

// Policy says what is recorded, for whom, and what is asked of the autopilot for it.
type Policy struct {
	Send                   bool   // false: nothing is ever sent to the autopilot
	Streams                string // one of Rates
	Telemetry              bool
	AutopilotLog           string // LogPull, LogStream, LogBoth, LogOff
	EraseLogs              bool
	Photo, Video, Audio    bool
	AutopilotLogRecipients string // file; empty: Vault.Recipients
	PhotoRecipients        string
	VideoRecipients        string
	MediaRate              int64 // bytes a second of all cameras; 0: no limit
	LogRate                int64 // bytes a second asked of the autopilot; 0: no limit
	// Yield has each of YieldVideo, YieldPhoto, YieldLog once, what ends first in front: the last
	// one ends where Vault.Reserve is left, each one before it a reserve earlier.
	Yield             []string
	ArmingVeto        bool
	ArmingOverride    string // file whose presence lifts the veto
	LowBattery        string // BatteryOn, BatterySeal, BatteryPowerOff
	LowBatteryPercent int    // of what the autopilot says is left
	Operator, Case    string // tags, sealed
}

// DefaultPolicy returns the policy of a file that says nothing of it.
func DefaultPolicy() Policy {
	return Policy{
		Send: true, Streams: RatesKeep, Telemetry: true, AutopilotLog: LogPull, Photo: true, Video: true,
		Yield: []string{YieldVideo, YieldPhoto, YieldLog}, ArmingOverride: "arming.override",
		LowBattery: BatteryOn, LowBatteryPercent: 10,
	}
}

// Camera is one source of photos or video.
type Camera struct {
	Name               string // unique, [a-z0-9_-]
	Source             string // SourceCommand, SourceInbox, SourceV4L2
	Command            []string
	Path               string // folder of an inbox
	Device             string // of V4L2
	Format             string // of what it gives; an inbox: of files whose names do not tell
	Width, Height, FPS int
	Start              string // StartAlways, StartArmed, StartCommand
	Audio              bool
}

// DefaultCamera returns a camera of which nothing is said yet.
func DefaultCamera() Camera { return Camera{Source: SourceCommand, Format: "h264", Start: StartAlways} }

// Formats are what a camera may give, by the usual extension.
var Formats = []string{"h264", "mjpeg", "ts", "mp4", "jpg"}

// Share hands the live stream of a link to other programs on the board.
type Share struct {
	Path  string // of the symbolic link to the pseudo-terminal
	Mode  string // ShareRead, ShareWrite
	Link  string // name; empty: the first link
	Group string // whose members may open it; empty: nobody else
}

// DefaultShare returns a share of which nothing is said yet.
func DefaultShare() Share { return Share{Mode: ShareRead} }

// Media tells whether the configuration has anything for the media process.
func (c *Config) Media() bool { return len(c.Camera) > 0 }

// StreamRecipients returns, by file, the letters of the streams that are sealed to the recipients
// of another file than Vault.Recipients: A, P, V, in ascending order.
func (c *Config) StreamRecipients() map[string]string {
	groups := map[string]string{}
	for _, s := range []struct{ letter, file string }{
		{"A", c.Policy.AutopilotLogRecipients}, {"P", c.Policy.PhotoRecipients}, {"V", c.Policy.VideoRecipients},
	} {
		if s.file != "" && s.file != c.Vault.Recipients {
			groups[s.file] += s.letter
		}
	}
	return groups
}

func (k *checker) shares(c *Config) {
	if len(c.Share) > MaxShares {
		k.refuse(ErrValue, shareTable, "%d of them are more than %d", len(c.Share), MaxShares)
	}
	for i, s := range c.Share {
		k.link = i
		if s.Path == "" && k.line("share.path", i) == 0 {
			k.missing("share.path")
		}
		k.path("share.path", s.Path)
		k.oneOf("share.mode", s.Mode, ShareRead, ShareWrite)
		if s.Link != "" && !slices.ContainsFunc(c.Link, func(l Link) bool { return l.Name == s.Link }) {
			k.refuse(ErrValue, "share.link", "%s is the name of no [[link]]", quoted(s.Link))
		}
		if s.Group != "" && !linkName.MatchString(s.Group) {
			k.refuse(ErrValue, "share.group", "%s is not the name of a group", quoted(s.Group))
		}
		if s.Mode == ShareWrite && !c.Policy.Send {
			k.refuse(ErrValue, "share.mode", `"write" needs policy.send = true`)
		}
	}
}

func (k *checker) cameras(c *Config) {
	if len(c.Camera) > MaxCameras {
		k.refuse(ErrValue, cameraTable, "%d of them are more than the %d that MAVLink has components for", len(c.Camera), MaxCameras)
	}
	names := map[string]bool{}
	for i, cam := range c.Camera {
		k.link = i
		k.shortName("camera.name", cam.Name)
		if names[cam.Name] {
			k.refuse(ErrValue, "camera.name", "%s is the name of another camera too", quoted(cam.Name))
		}
		names[cam.Name] = true
		k.oneOf("camera.format", cam.Format, Formats...)
		k.oneOf("camera.start", cam.Start, StartAlways, StartArmed, StartCommand)
		k.cameraSource(c, &cam)
		k.number("camera.width", cam.Width, maxPixels)
		k.number("camera.height", cam.Height, maxPixels)
		k.number("camera.fps", cam.FPS, maxFPS)
		if cam.Audio && !c.Policy.Audio {
			k.refuse(ErrValue, "camera.audio", "is true, and policy.audio does not allow it")
		}
	}
}

func (k *checker) cameraSource(c *Config, cam *Camera) {
	k.oneOf("camera.source", cam.Source, SourceCommand, SourceInbox, SourceV4L2)
	switch cam.Source {
	case SourceCommand:
		if len(cam.Command) == 0 || cam.Command[0] == "" {
			k.missing("camera.command")
		}
		if len(cam.Command) > MaxWords {
			k.refuse(ErrValue, "camera.command", "%d words are more than %d", len(cam.Command), MaxWords)
		}
		for _, w := range cam.Command {
			k.text("camera.command", w, MaxWordLen)
		}
	case SourceInbox:
		if cam.Path == "" {
			k.missing("camera.path")
		}
		k.path("camera.path", cam.Path)
		if inside(c.Vault.Path, cam.Path) || inside(cam.Path, c.Vault.Path) {
			k.refuse(ErrValue, "camera.path", "%s and vault.path %s lie inside each other", quoted(cam.Path), quoted(c.Vault.Path))
		}
	case SourceV4L2:
		if cam.Device == "" {
			k.missing("camera.device")
		}
		k.path("camera.device", cam.Device)
	}
}

func (k *checker) policy(c *Config) {
	p := &c.Policy
	k.oneOf("policy.streams", p.Streams, Rates...)
	k.oneOf("policy.autopilot_log", p.AutopilotLog, LogPull, LogStream, LogBoth, LogOff)
	k.oneOf("policy.low_battery", p.LowBattery, BatteryOn, BatterySeal, BatteryPowerOff)
	k.number("policy.low_battery_percent", p.LowBatteryPercent, 100)
	known := []string{YieldVideo, YieldPhoto, YieldLog}
	for _, name := range p.Yield {
		k.oneOf("policy.yield", name, known...)
	}
	if sorted := slices.Sorted(slices.Values(p.Yield)); len(sorted) != len(known) || len(slices.Compact(sorted)) != len(known) {
		k.refuse(ErrValue, "policy.yield", `must have each of "%s" once`, strings.Join(known, `", "`))
	}
	k.path("policy.arming_override", p.ArmingOverride)
	k.text("policy.operator", p.Operator, MaxTag)
	k.text("policy.case", p.Case, MaxTag)
	k.text("status.led", c.Status.LED, MaxTag)
	k.text("status.button", c.Status.Button, MaxTag)
	for name, path := range map[string]string{"policy.autopilot_log_recipients": p.AutopilotLogRecipients,
		"policy.photo_recipients": p.PhotoRecipients, "policy.video_recipients": p.VideoRecipients} {
		k.text(name, path, MaxWordLen)
	}
	k.needsSend(p)
}

// needsSend refuses what cannot be had from an autopilot that is never asked.
func (k *checker) needsSend(p *Policy) {
	switch {
	case p.Send:
	case p.Streams != RatesKeep:
		k.refuse(ErrValue, "policy.streams", "%s needs policy.send = true", quoted(p.Streams))
	case p.ArmingVeto:
		k.refuse(ErrValue, "policy.arming_veto", "needs policy.send = true")
	case p.EraseLogs:
		k.refuse(ErrValue, "policy.erase_logs", "needs policy.send = true")
	}
}

func (k *checker) number(name string, n, most int) {
	if n < 0 || n > most {
		k.refuse(ErrValue, name, "%d is outside 0 to %d", n, most)
	}
}

// text refuses what is too long, or would garble an error or a log.
func (k *checker) text(name, text string, most int) {
	if len(text) > most {
		k.refuse(ErrValue, name, "%d bytes are more than %d", len(text), most)
	}
	if text != "" {
		k.path(name, text)
	}
}
