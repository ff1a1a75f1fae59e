package firmware

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"holdfast/firmware/config"
	"holdfast/firmware/confine"
	"holdfast/firmware/evidence"
	"holdfast/firmware/mediapipe"
	"holdfast/storage/segment"
)

// Restrict takes from the supervisor what its children do not need either. On the bench what the
// kernel could not do is left out; the recorder notes it.
func Restrict(cfg *config.Config) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := confineOptions(cfg, self)
	if cfg.Media() {
		o.Media = true
		o.Programs = append(o.Programs, cameraPrograms(cfg)...)
	}
	_, err = confine.Supervisor(o)
	return err
}

// cameraPrograms are those that are named by a path; others lie in folders of the system.
func cameraPrograms(cfg *config.Config) (list []string) {
	for _, c := range cfg.Camera {
		if c.Source == config.SourceCommand && filepath.IsAbs(c.Command[0]) {
			list = append(list, c.Command[0])
		}
	}
	return list
}

// confineMedia takes from the media process, and from all that it starts, what cameras do not need.
func confineMedia(cfg *config.Config, run string) ([]confine.Note, error) {
	o := confine.MediaOptions{Bench: cfg.Bench(), FIFOs: filepath.Join(run, mediapipe.Folder), Programs: cameraPrograms(cfg)}
	if !o.Bench {
		o.User = MediaUser
	}
	for _, c := range cfg.Camera {
		switch c.Source {
		case config.SourceInbox:
			o.Inboxes = append(o.Inboxes, c.Path)
		case config.SourceV4L2:
			o.Plugged = true
		}
	}
	return confine.Media(o)
}

// confineRecorder takes from this process, for good, what recording does not need, before it
// reads anything that comes from outside; the key child inherits it. settle is to be called when
// the vault and the device key are there: until then they may be made.
func confineRecorder(cfg *config.Config, of Options) (notes []segment.Note, settle func() error, err error) {
	_ = bootID() // while every file of the kernel may still be read
	o := confineOptions(cfg, of.KeyCommand[0])
	if run := runPath(of); run != "" && cfg.Media() {
		o.Pipes = append(o.Pipes, filepath.Join(run, mediapipe.Folder))
	}
	for _, path := range []string{cfg.Vault.Path, cfg.Vault.DeviceKey} {
		if _, err := os.Stat(path); err != nil {
			o.Make = append(o.Make, path)
		}
	}
	list, err := confine.Recorder(o)
	for _, n := range list {
		notes = append(notes, segment.Note{What: n.What, Why: n.Why})
	}
	settle = func() error {
		if len(o.Make) == 0 {
			return nil
		}
		_, err := confine.Narrow(o) // what the kernel does not have was noted
		return err
	}
	return notes, settle, err
}

// confineOptions says what a recorder with cfg works with. program is its own, which makes the
// flight keys.
func confineOptions(cfg *config.Config, program string) confine.Options {
	o := confine.Options{
		Bench:    cfg.Bench(),
		Read:     []string{cfg.Vault.Recipients, cfg.Vault.DeviceKey},
		Write:    []string{cfg.Vault.Path, filepath.Dir(cfg.Status.File)},
		Programs: []string{program},
		Send:     cfg.Policy.Send,
	}
	for path := range cfg.StreamRecipients() {
		o.Read = append(o.Read, path)
	}
	if cfg.Policy.Send {
		o.Read = append(o.Read, healthFiles...)
	}
	if cfg.Policy.ArmingVeto {
		o.Read = append(o.Read, cfg.Policy.ArmingOverride)
	}
	for i := range cfg.Share {
		o.Remove = append(o.Remove, filepath.Dir(sharePath(cfg, i)))
	}
	if !o.Bench {
		o.User = RecorderUser
		o.Read = append(o.Read, cfg.Lock.Run)
		o.Write = append(o.Write, filepath.Dir(filepath.Join(cfg.Lock.Run, evidence.RecorderFile)))
	}
	for _, l := range cfg.Link {
		kind, rest, _ := strings.Cut(l.Device, ":")
		addr, err := netip.ParseAddrPort(rest)
		switch {
		case kind == "tcp" && err == nil:
			o.TCP = append(o.TCP, addr.Port())
		case kind == "udp" && err == nil:
			o.UDP = append(o.UDP, addr.Port())
		case kind == "file":
			o.Read = append(o.Read, rest)
		default:
			o.Lines = append(o.Lines, l.Device)
		}
	}
	return o
}
