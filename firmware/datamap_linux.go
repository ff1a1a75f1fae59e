package firmware

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
	"holdfast/firmware/config"
	"holdfast/firmware/evidence"
	"holdfast/firmware/mediapipe"
)

// DataFlow is one way data takes, as `holdfastd check --data-map` lists it.
type DataFlow struct {
	// Direction is in, out, kept, or none: what the policy does not collect.
	Direction string `json:"direction"`
	What      string `json:"what"`
	Where     string `json:"where"`
	Form      string `json:"form"`
	// Who can read it, in words, and the recipients that it is sealed to, where it is.
	Who        string   `json:"who"`
	Recipients []string `json:"recipients,omitempty"`
}

// Who reads what is not sealed.
const (
	whoAll      = "anybody on this board, and who holds its medium"
	whoRoot     = "root of this board, and who holds its medium"
	whoRecorder = "the recorder"
	whoMemory   = "root of this board while it runs; gone with the power"
	whoNobody   = "nobody"
)

// DataMap lists every file, stream and port that the configuration makes the board read or write,
// and who can read each.
func DataMap(cfg *config.Config) []DataFlow {
	return slices.Concat(lockFlows(cfg), linkFlows(cfg), shareFlows(cfg), cameraFlows(cfg), vaultFlows(cfg), boardFlows(cfg))
}

// linkFlows are what comes from the autopilot and what goes to it.
func linkFlows(cfg *config.Config) (flows []DataFlow) {
	for _, l := range cfg.Link {
		flows = append(flows, DataFlow{Direction: "in", What: "MAVLink from link " + l.Name, Where: l.Device, Form: "frames and noise", Who: whoRecorder})
	}
	l := cfg.Link[0]
	if !cfg.Policy.Send {
		return append(flows, DataFlow{Direction: "none", What: "to the autopilot", Where: l.Device, Form: "policy.send is false: nothing is ever sent", Who: whoNobody})
	}
	what := "presence, health, faults as fixed texts; requests for version, parameters, mission"
	if len(autopilot.Profiles[cfg.Policy.Streams]) > 0 {
		what += "; message rates (" + cfg.Policy.Streams + ")"
	}
	if cfg.Policy.AutopilotLog != config.LogOff {
		what += "; requests for its logs"
	}
	if cfg.Policy.EraseLogs {
		what += "; erasing of logs that are sealed and proven"
	}
	if cfg.Policy.ArmingVeto {
		what += "; answers to requests to arm"
	}
	if len(cfg.Camera) > 0 {
		what += "; answers of the camera component"
	}
	return append(flows, DataFlow{Direction: "out", What: what, Where: l.Device + " (the link on which the autopilot is found)",
		Form: fmt.Sprintf("MAVLink by an allow-list of %d commands and the messages of docs/autopilot.md; no position, name or free text; each frame is recorded", len(allow.Commands())),
		Who:  "the autopilot, and whoever it forwards to"})
}

func shareFlows(cfg *config.Config) (flows []DataFlow) {
	for _, s := range cfg.Share {
		who := "programs of the recorder's user on this board"
		if s.Group != "" {
			who = "programs of group " + s.Group + " on this board"
		}
		flows = append(flows, DataFlow{Direction: "out", What: "live stream of link " + s.Link, Where: s.Path, Form: "pseudo-terminal, in clear, never stored", Who: who})
		form := "refused, and recorded with its origin"
		if s.Mode == config.ShareWrite {
			form = "passes to the autopilot as far as the share's list admits it, and is recorded with its origin"
		}
		flows = append(flows, DataFlow{Direction: "in", What: "what programs write", Where: s.Path, Form: form, Who: whoRecorder})
	}
	return flows
}

func cameraFlows(cfg *config.Config) (flows []DataFlow) {
	for _, c := range cfg.Camera {
		f := DataFlow{Direction: "in", What: fmt.Sprintf("camera %s (%s)", c.Name, c.Format), Who: "the media process and the recorder, in memory"}
		switch c.Source {
		case config.SourceCommand:
			f.Where, f.Form = strings.Join(c.Command, " "), "standard output of a program without network"
		case config.SourceInbox:
			f.Where, f.Form = c.Path, "files in memory, in clear until they are sealed, then removed"
		default:
			f.Where, f.Form = c.Device, "V4L2"
		}
		flows = append(flows, f)
	}
	if len(cfg.Camera) > 0 && !cfg.Bench() {
		flows = append(flows, DataFlow{Direction: "in", What: "photos and video on their way to the recorder", Where: filepath.Join(cfg.Lock.Run, mediapipe.Folder),
			Form: "FIFOs, in memory", Who: "the media process and the recorder"})
	}
	return flows
}

// vaultFlows are the sealed streams, each with those who can open it.
func vaultFlows(cfg *config.Config) []DataFlow {
	p := &cfg.Policy
	groups := map[byte]string{}
	for file, letters := range cfg.StreamRecipients() {
		for _, l := range []byte(letters) {
			groups[l] = file
		}
	}
	flows := []DataFlow{{Direction: "in", What: "recipients (public)", Where: cfg.Vault.Recipients, Form: "text", Who: whoAll}}
	for _, file := range slices.Sorted(slices.Values(valuesOf(cfg.StreamRecipients()))) {
		flows = append(flows, DataFlow{Direction: "in", What: "recipients (public)", Where: file, Form: "text", Who: whoAll})
	}
	sound := ", without sound"
	if p.Audio {
		sound = ", with sound where a camera has it"
	}
	for _, s := range []struct {
		letter byte
		what   string
		on     bool
	}{
		{'T', "telemetry, noise, events, what was sent to the autopilot, operator and case tags", true},
		{'X', "who tried to send and was refused", !cfg.Bench()},
		{'A', "the autopilot's own log (" + p.AutopilotLog + "), parameters, mission, identity", p.Send},
		{'P', "photos with pose and time", p.Photo && len(cfg.Camera) > 0},
		{'V', "video" + sound, p.Video && len(cfg.Camera) > 0},
	} {
		if !s.on {
			flows = append(flows, DataFlow{Direction: "none", What: strings.TrimSuffix(s.what, sound), Where: "stream " + string(s.letter), Form: "not collected by this configuration", Who: whoNobody})
			continue
		}
		file := groups[s.letter]
		if file == "" {
			file = cfg.Vault.Recipients
		}
		flows = append(flows, sealedFlow(cfg, s.letter, s.what, file))
	}
	return append(flows,
		DataFlow{Direction: "kept", What: "public log (counters, sizes, hashes, times since boot; no place, date or name)", Where: filepath.Join(cfg.Vault.Path, "*", "LOG"), Form: "signed, in clear", Who: whoAll},
		DataFlow{Direction: "kept", What: "each record's public key, and its secret wrapped for the recipients", Where: filepath.Join(cfg.Vault.Path, "*", "[FG]*", "flight.*"), Form: "text and age files", Who: "the recipients; the board cannot open it"},
		DataFlow{Direction: "kept", What: "how to open and check a vault without this program", Where: filepath.Join(cfg.Vault.Path, "*", "README.txt"), Form: "text, the same on every board but for the device's name", Who: whoAll},
	)
}

func valuesOf(files map[string]string) (list []string) {
	for file := range files {
		list = append(list, file)
	}
	return list
}

func sealedFlow(cfg *config.Config, letter byte, what, file string) DataFlow {
	f := DataFlow{Direction: "kept", What: what, Where: filepath.Join(cfg.Vault.Path, "*", "*", string(letter)+"*.age"),
		Form: "age files, sealed; no key to open them is on the board"}
	rs, err := recipients(file)
	if err != nil {
		f.Who = "nobody: " + err.Error()
		return f
	}
	f.Recipients = rs.Strings()
	f.Who = fmt.Sprintf("holders of the %d recipient line(s) of %s", rs.Count(), file)
	return f
}

// boardFlows are what the board keeps for itself.
func boardFlows(cfg *config.Config) []DataFlow {
	flows := []DataFlow{
		{Direction: "kept", What: "device key (names this board and signs for it; opens nothing)", Where: cfg.Vault.DeviceKey, Form: "file, mode 0600", Who: whoRoot},
		{Direction: "kept", What: "which of the autopilot's logs were pulled (salted hashes)", Where: filepath.Join(filepath.Dir(cfg.Vault.DeviceKey), pulledName), Form: "text, mode 0600", Who: whoRoot},
		{Direction: "kept", What: "health (counts and states; no position, no key)", Where: cfg.Status.File, Form: "JSON, in clear", Who: whoAll},
		{Direction: "out", What: "state of the board", Where: "LED: " + cfg.Status.LED, Form: "blink patterns", Who: "who sees the board"},
		{Direction: "in", What: "presses", Where: "button: " + cfg.Status.Button, Form: "an event in the record", Who: whoRecorder},
	}
	if cfg.Policy.Send {
		flows = append(flows, DataFlow{Direction: "in", What: "load, memory and temperature of the board", Where: strings.Join(healthFiles, ", "), Form: "numbers; told to the autopilot", Who: whoRecorder})
	}
	if cfg.Policy.ArmingVeto {
		flows = append(flows, DataFlow{Direction: "in", What: "override of the arming veto", Where: cfg.Policy.ArmingOverride, Form: "text; its presence lifts the veto, its words are sealed", Who: whoAll})
	}
	if cfg.Policy.LowBattery == config.BatteryPowerOff && !cfg.Bench() {
		flows = append(flows, DataFlow{Direction: "out", What: "request to switch the power off", Where: filepath.Join(cfg.Lock.Run, PowerOffFile), Form: "text", Who: whoMemory})
	}
	held := heldLocked(cfg)
	if cfg.Bench() {
		held = filepath.Join(runFolders, "holdfast-run-*", heldName)
	}
	flows = append(flows, DataFlow{Direction: "kept", What: "frames that came while the medium was away, until the next recorder has taken them", Where: held, Form: "not sealed, in memory, mode 0600", Who: whoRecorder})
	if !cfg.Bench() {
		flows = append(flows, DataFlow{Direction: "kept", What: "state of recorder and lock", Where: filepath.Join(cfg.Lock.Run, filepath.Dir(evidence.RecorderFile)), Form: "JSON, in memory", Who: whoMemory})
	}
	return flows
}
