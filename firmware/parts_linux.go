package firmware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"

	"periph.io/x/conn/v3/gpio"

	"holdfast/boards"
	"holdfast/firmware/config"
	"holdfast/firmware/evidence"
	"holdfast/firmware/recorder"
	"holdfast/firmware/share"
	"holdfast/firmware/status"
	"holdfast/mavlink"
	"holdfast/storage/vault"
)

// parts is what runs beside the recorder in its process. What opens something is opened before the
// process is confined.
type parts struct {
	cfg    *config.Config
	log    *slog.Logger
	run    string // folder where media process and recorder meet; empty: there is none
	shares []*sharing
	light  gpio.PinOut
	button gpio.PinIn
	talk   *talk
	r      *recorder.Recorder
	media  *vault.Media
}

// sharing is a share and the link that it shares.
type sharing struct {
	*share.Share
	link int
}

// openParts opens shares, light and button. A light or button that is named and not there is an
// error; one that is only the board's own is left out.
func openParts(cfg *config.Config, o Options) (*parts, error) {
	p := &parts{cfg: cfg, log: o.Log, run: runPath(o)}
	p.talk = newTalk(cfg, o.Log)
	p.talk.health.log = o.Log
	for i := range cfg.Share {
		if err := p.openShare(i); err != nil {
			p.close()
			return nil, err
		}
	}
	if err := p.openPins(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *parts) close() {
	for _, s := range p.shares {
		s.Close()
	}
}

// openShare opens the share with an index. On a locked board the recorder makes the terminal's link
// in its own folder, and the guard the one that the configuration names: nothing else of the run
// folder is the recorder's.
func (p *parts) openShare(i int) error {
	s := p.cfg.Share[i]
	group, err := groupID(s.Group)
	if err != nil {
		return fmt.Errorf("share %s: %w", s.Path, err)
	}
	origin := uint8(i + 1)
	link := max(linkIndex(p.cfg, s.Link), 0)
	sink := func(raw []byte) { p.r.Send(link, origin, raw) }
	if s.Mode != config.ShareWrite {
		sink = func(raw []byte) { p.r.Refuse(link, origin, raw) }
	}
	sh, err := share.Open(share.Config{Path: sharePath(p.cfg, i), Group: group, Sink: sink,
		Event: func(kind, detail string) { p.r.Event(kind, detail) }})
	if err != nil {
		return err
	}
	p.shares = append(p.shares, &sharing{sh, link})
	return nil
}

// sharePath is where the recorder puts the link to a share's terminal.
func sharePath(cfg *config.Config, i int) string {
	if cfg.Bench() {
		return cfg.Share[i].Path
	}
	return filepath.Join(cfg.Lock.Run, filepath.Dir(evidence.RecorderFile), "share-"+strconv.Itoa(i+1))
}

// linkShares makes, on a locked board, the links that the configuration names. It is the guard's to do.
func linkShares(cfg *config.Config) error {
	var errs []error
	for i, s := range cfg.Share {
		to := sharePath(cfg, i)
		if at, err := os.Readlink(s.Path); err == nil && at == to {
			continue
		}
		if fi, err := os.Lstat(s.Path); err == nil && fi.Mode()&os.ModeSymlink == 0 {
			errs = append(errs, fmt.Errorf("share %s: %w", s.Path, share.ErrTaken))
			continue
		}
		_ = os.Remove(s.Path)
		errs = append(errs, os.Symlink(to, s.Path))
	}
	return errors.Join(errs...)
}

// linkIndex finds a link by its name; -1: there is none.
func linkIndex(cfg *config.Config, name string) int {
	for i, l := range cfg.Link {
		if l.Name == name {
			return i
		}
	}
	return -1
}

// groupID looks a group up; -1: none is named.
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("share.group: this system has no group %q", name)
	}
	return strconv.Atoi(g.Gid)
}

func (p *parts) openPins() (err error) {
	board, _ := boards.Detect(os.DirFS("/"))
	p.light, err = openPin(p.cfg.Status.LED, board.LED.Sysfs, status.OpenLight, p.log)
	if err != nil {
		return err
	}
	p.button, err = openPin(p.cfg.Status.Button, board.Button.Pin, status.OpenButton, p.log)
	return err
}

// openPin opens the pin that the configuration names, or with "auto" the board's own.
func openPin[P any](name, own string, open func(string) (P, error), log *slog.Logger) (none P, err error) {
	switch {
	case name == config.PartOff, name == config.PartAuto && own == "":
		return none, nil
	case name != config.PartAuto:
		return open(name)
	}
	pin, err := open(own)
	if err != nil {
		log.Warn("left out", slog.Any("err", err))
		return none, nil
	}
	return pin, nil
}

// configure adds what the parts want of the recorder.
func (p *parts) configure(c *recorder.Config) {
	c.Tap = p.tap
	c.Origins = origins(p.cfg)
	c.NoTelemetry = !p.cfg.Policy.Telemetry
	if p.cfg.Policy.Send {
		c.Allow = p.talk.allow
	}
}

// tap hands on what came in. The ring's lock is held.
func (p *parts) tap(link int, f *mavlink.Frame) {
	p.talk.heard(link, f)
	for _, s := range p.shares {
		if s.link == link {
			s.Heard(f.Raw)
		}
	}
}

// openMedia opens the way of photos and video into the vault, where there is a media process to come.
func (p *parts) openMedia(v *vault.Vault, r *recorder.Recorder) error {
	if p.run == "" || !p.cfg.Media() {
		return nil
	}
	fsys, err := vault.NewOSFS(p.cfg.Vault.Path)
	if err != nil {
		return fmt.Errorf("vault: %w", plain(err))
	}
	p.media = v.NewMedia(fsys, r.Wake)
	return nil
}

// attach names the recorder, before anything runs.
func (p *parts) attach(r *recorder.Recorder) { p.r, p.talk.r = r, r }

// start runs all parts; they have ended when the function that it returns does.
func (p *parts) start() (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := p.talk.run(ctx); err != nil {
			p.log.Error("autopilot", slog.Any("err", err))
		}
	})
	for _, s := range p.shares {
		all.Go(func() { s.Run(ctx) })
	}
	if p.light != nil {
		l := &status.Light{Pin: p.light, Look: func() status.Show { return status.Choose(p.health()) }, Log: p.log}
		all.Go(func() { l.Run(ctx) })
	}
	if p.button != nil {
		b := &status.Button{Pin: p.button, Tell: p.pressed}
		all.Go(func() { b.Run(ctx) })
	}
	if p.media != nil {
		all.Go(func() { p.runMedia(ctx) })
	}
	return func() {
		stop()
		all.Wait()
	}
}

func (p *parts) runMedia(ctx context.Context) {
	c := RecorderMedia(p.cfg, p.run, p.media)
	if p.talk.cams != nil {
		c.Taken = p.talk.cams.photo
	}
	if err := p.r.RunMedia(ctx, c); err != nil {
		p.log.Error("media", slog.Any("err", err))
	}
}

// health is what the light is chosen by.
func (p *parts) health() status.Health {
	s := p.r.Snapshot()
	h := status.Health{Report: report(s), Sealed: s.Sealed, Unlocked: !p.cfg.Bench() && s.Lock != evidence.Locked}
	for _, c := range p.r.MediaStatus() {
		h.MediaRefused = h.MediaRefused || c.LastError != ""
	}
	return h
}

// pressed does what a press of the button asks for.
func (p *parts) pressed(press status.Press) {
	p.r.Event("button", string(press))
	switch press {
	case status.PressSeal:
		p.r.Seal(!p.r.Snapshot().Sealed)
	case status.PressOverride:
		p.talk.lift()
	}
}
