package firmware

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/boards"
	"holdfast/firmware/config"
	"holdfast/firmware/share"
)

// checkParts looks at what runs beside the recorder.
func checkParts(cfg *config.Config) (rows []CheckRow) {
	rows = append(rows, checkPolicy(cfg))
	for _, c := range cfg.Camera {
		rows = append(rows, checkCamera(c))
	}
	for _, s := range cfg.Share {
		rows = append(rows, checkShare(cfg, s))
	}
	rows = append(rows, checkArming(cfg))
	board, _ := boards.Detect(os.DirFS("/"))
	return append(rows, checkPin("led", cfg.Status.LED, board.LED.Sysfs), checkPin("button", cfg.Status.Button, board.Button.Pin))
}

// checkGroups looks at the recipients that streams have for themselves.
func checkGroups(cfg *config.Config) (rows []CheckRow) {
	for path, streams := range cfg.StreamRecipients() {
		rs, err := recipients(path)
		if err != nil {
			rows = append(rows, CheckRow{"keys", false, err.Error()})
			continue
		}
		detail := fmt.Sprintf("streams %s: %d recipient line(s) of %s", streams, rs.Count(), filepath.Base(path))
		if rs.Count() < 2 {
			detail += "; only one: without a second one for recovery a lost key loses these streams"
		}
		rows = append(rows, CheckRow{"keys", true, detail})
	}
	return rows
}

func checkPolicy(cfg *config.Config) CheckRow {
	p := &cfg.Policy
	var kept, left []string
	for _, s := range []struct {
		name string
		on   bool
	}{{"telemetry", p.Telemetry}, {"autopilot log (" + p.AutopilotLog + ")", p.AutopilotLog != config.LogOff},
		{"photos", p.Photo && cfg.Media()}, {"video", p.Video && cfg.Media()}, {"sound", p.Audio && cfg.Media()}} {
		if s.on {
			kept = append(kept, s.name)
		} else {
			left = append(left, strings.TrimSuffix(s.name, " ("+p.AutopilotLog+")"))
		}
	}
	detail := "records " + strings.Join(kept, ", ") + "; not " + strings.Join(left, ", ")
	switch {
	case !p.Send && p.AutopilotLog != config.LogOff:
		return CheckRow{"policy", true, detail + "; policy.send is false: no log, parameter or mission is asked for, and the autopilot is not told of faults"}
	case p.EraseLogs && p.AutopilotLog != config.LogPull && p.AutopilotLog != config.LogBoth:
		return CheckRow{"policy", false, detail + `; erase_logs needs autopilot_log = "pull" or "both": nothing would ever be erased`}
	case !p.Telemetry:
		return CheckRow{"policy", true, detail + "; without telemetry no flight can be drawn or reported"}
	}
	return CheckRow{"policy", true, detail}
}

func checkCamera(c config.Camera) CheckRow {
	row := CheckRow{What: "camera", OK: true, Detail: fmt.Sprintf("%s: %s, %s, starts %s", c.Name, c.Source, c.Format, c.Start)}
	bad := func(format string, args ...any) CheckRow {
		row.OK = false
		row.Detail += ": " + fmt.Sprintf(format, args...)
		return row
	}
	switch c.Source {
	case config.SourceCommand:
		path, err := exec.LookPath(c.Command[0])
		if err != nil {
			return bad("%s is no program here; install it, or name it with its path", c.Command[0])
		}
		row.Detail += ": " + path
	case config.SourceV4L2:
		if err := unix.Access(c.Device, unix.R_OK|unix.W_OK); err != nil {
			return bad("%s: %v; plug it in, and let the media process's user (group video) use it", c.Device, err)
		}
	case config.SourceInbox:
		if err := inMemory(c.Path); err != nil {
			return bad("%v; mount a tmpfs there, as docs/media.md says: what is put into it is plaintext", err)
		}
	}
	return row
}

var errOnDisk = errors.New("not in memory")

// inMemory tells whether a folder lies on a file system that is gone with the power.
func inMemory(path string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if t := int64(uint32(s.Type)); t != unix.TMPFS_MAGIC && t != unix.RAMFS_MAGIC {
		return fmt.Errorf("%s: %w", path, errOnDisk)
	}
	return nil
}

func checkShare(cfg *config.Config, s config.Share) CheckRow {
	row := CheckRow{"share", false, fmt.Sprintf("%s: %s", s.Path, s.Mode)}
	if _, err := groupID(s.Group); err != nil {
		row.Detail += ": " + err.Error()
		return row
	}
	fi, err := os.Lstat(s.Path)
	switch dir := filepath.Dir(s.Path); {
	case err == nil && fi.Mode()&os.ModeSymlink == 0:
		row.Detail += ": " + share.ErrTaken.Error()
		return row
	case err == nil: // the recorder's, or one that it will replace
	case unix.Access(dir, unix.W_OK) != nil && cfg.Bench():
		row.Detail += fmt.Sprintf(": cannot make a link in %s", dir)
		return row
	}
	row.OK = true
	row.Detail += "; whole frames, to who opens it"
	if s.Mode == config.ShareWrite {
		row.Detail += "; what is written goes to the autopilot as far as docs/autopilot.md lists it, and into the record"
	}
	return row
}

func checkArming(cfg *config.Config) CheckRow {
	p := &cfg.Policy
	if !p.ArmingVeto {
		return CheckRow{"arming", true, "no veto: the vehicle arms whether the record is safe or not"}
	}
	row := CheckRow{"arming", true, "veto on: PX4 needs COM_ARM_AUTH_REQ, ArduPilot the script of docs/autopilot.md"}
	if _, err := os.Stat(p.ArmingOverride); err == nil {
		row.Detail += fmt.Sprintf("; LIFTED by %s: remove it to have the veto again", p.ArmingOverride)
	}
	return row
}

func checkPin(what, name, own string) CheckRow {
	switch {
	case name == config.PartOff:
		return CheckRow{what, true, "off"}
	case name == config.PartAuto && own == "":
		return CheckRow{what, true, "this board has none that is known"}
	case name == config.PartAuto:
		name = own
	}
	return CheckRow{what, true, name + ": opened when recording starts; an unknown name ends the start with a line that says so"}
}
