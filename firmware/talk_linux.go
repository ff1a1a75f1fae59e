package firmware

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
	"holdfast/firmware/autopilot/aplog"
	"holdfast/firmware/autopilot/camera"
	"holdfast/firmware/config"
	"holdfast/firmware/recorder"
	"holdfast/mavlink"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// ErrOutside: what is to be sent comes from nobody who may.
var ErrOutside = errors.New("nobody of this board sends it")

// talk is what the recorder's process says to the autopilot, and asks it: package autopilot, with
// logs and cameras plugged in. It is made before the recorder, which asks it about each frame.
type talk struct {
	cfg  *config.Config
	r    *recorder.Recorder // set before anything runs
	part *autopilot.Part
	logs *logPart
	cams *cameraPart
	// battery watches what is left; nil: nobody asked for that.
	battery *batteryWatch
	ids     atomic.Int64 // of files of stream A
	lifted  atomic.Int64 // until when, since boot in nanoseconds, the button has lifted the veto
	health  healthMeter
}

func newTalk(cfg *config.Config, log *slog.Logger) *talk {
	t := &talk{cfg: cfg}
	p := &cfg.Policy
	t.part = autopilot.New(autopilot.Config{
		Out: t, Health: t.read, Record: t, Now: sinceBoot(), Log: log,
		Rates: p.Streams, Camera: len(cfg.Camera) > 0, Erase: p.EraseLogs, VetoOn: p.ArmingVeto, Override: t.override,
		LogBeats: p.AutopilotLog == config.LogStream || p.AutopilotLog == config.LogBoth,
	})
	if p.Send && p.AutopilotLog != config.LogOff {
		t.logs = newLogPart(t, log)
		t.part.Plug(t.logs, aplog.Heard()...)
	}
	if len(cfg.Camera) > 0 {
		t.cams = newCameraPart(t)
		t.part.Plug(t.cams, camera.Ids...)
	}
	if p.LowBattery != config.BatteryOn {
		t.battery = &batteryWatch{t: t}
		t.part.Plug(t.battery, batteryIDs...)
	}
	return t
}

// allow judges a frame for the recorder: what the board itself says by its own list, what programs
// on a share with mode "write" say by theirs. It is the last gate, whoever has judged before.
func (t *talk) allow(origin uint8, raw []byte) error {
	list := t.part.List()
	if origin == recorder.OriginOwn {
		return list.Check(raw, t.r.Armed())
	}
	if i := int(origin) - 1; i < len(t.cfg.Share) && t.cfg.Share[i].Mode == config.ShareWrite {
		return list.CheckShare(raw)
	}
	return ErrOutside
}

// origins names who sends, as the records have it.
func origins(cfg *config.Config) []string {
	names := []string{"holdfast"}
	for _, s := range cfg.Share {
		names = append(names, "share:"+s.Path)
	}
	return names
}

// Send implements autopilot.Out.
func (t *talk) Send(link int, raw []byte) bool { return t.r.Send(link, recorder.OriginOwn, raw) }

// Event implements autopilot.Record.
func (t *talk) Event(kind, detail string) { t.r.Event(kind, detail) }

// Clock implements autopilot.Record.
func (t *talk) Clock(p segment.ClockPair) { t.r.Clock(p) }

// fileID numbers the files of stream A, of all parts that put some there.
func (t *talk) fileID() int { return int(t.ids.Add(1)) }

// PutFile implements autopilot.Record: all of a file or nothing. Parameters of a large autopilot
// take two or three pieces.
func (t *talk) PutFile(f segment.File, data []byte) bool {
	if !t.r.FileRoom(len(data)) {
		return false
	}
	f.ID, f.Size = t.fileID(), int64(len(data))
	for {
		piece := data[:min(len(data), vault.MaxFilePiece)]
		data = data[len(piece):]
		f.End = len(data) == 0
		if _, ok := t.r.PutFile(f, piece); !ok {
			return false // cannot be: room was asked for, and nobody else puts meanwhile
		}
		if f.End {
			return true
		}
		f.Offset += int64(len(piece))
	}
}

// override tells whether the operator has lifted the veto: by a file, or by the button.
func (t *talk) override() (reason string, lifted bool) {
	if until := time.Duration(t.lifted.Load()); until > 0 && sinceBoot()() < until {
		return "button", true
	}
	f, err := os.Open(t.cfg.Policy.ArmingOverride)
	if err != nil {
		return "", false
	}
	defer f.Close()
	const most = 200
	p, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return "", false
	}
	text := strings.Join(strings.Fields(string(bytes.ToValidUTF8(p, nil))), " ")
	if text == "" {
		text = "no reason given"
	}
	return text, true
}

// liftFor is how long the button lifts the veto.
const liftFor = 5 * time.Minute

func (t *talk) lift() { t.lifted.Store(int64(sinceBoot()() + liftFor)) }

// run talks until ctx ends.
func (t *talk) run(ctx context.Context) error {
	err := t.part.Run(ctx)
	for n := 0; t.logs != nil && n < closeTries && !t.logs.Close(); n++ {
		time.Sleep(closePause) // until the recorder has taken some of what waits
	}
	if t.logs != nil {
		t.logs.pulled.close()
	}
	return err
}

// closeTries and closePause bound how long the end of a log's file waits for room in the record.
const (
	closeTries = 20
	closePause = 20 * time.Millisecond
)

// heard takes a frame from the recorder's tap.
func (t *talk) heard(link int, f *mavlink.Frame) { t.part.Heard(link, f) }

// logPart plugs package aplog in.
type logPart struct {
	*aplog.Logs
	t      *talk
	pulled *pulledLogs
}

func newLogPart(t *talk, log *slog.Logger) *logPart {
	p := &t.cfg.Policy
	pulled := openPulled(t.cfg, log)
	return &logPart{t: t, pulled: pulled, Logs: aplog.New(aplog.Config{
		Known: pulled.known, Pulled: pulled.pulled, Out: t.part.Sender(), Store: (*logStore)(t), Event: t.Event, Now: sinceBoot(), Mode: aplog.Mode(p.AutopilotLog),
		Erase: p.EraseLogs, Rate: p.LogRate, Flight: func() string { return t.r.LastFlight() }, NewID: t.fileID,
	})}
}

// Step tells the logs who flies, and goes on.
func (l *logPart) Step(now time.Duration) time.Duration {
	if a, found := l.t.part.Sender().Autopilot(); found {
		l.SetAutopilot(a.System, uint8(a.Flavour))
	}
	l.pulled.step(now)
	return l.Logs.Step(now)
}

// logStore is stream A as package aplog wants it.
type logStore talk

func (s *logStore) Put(f segment.File, data []byte) (number uint64, ok bool) {
	return s.r.PutFile(f, data)
}
func (s *logStore) Confirm()                             { s.r.ConfirmFiles() }
func (s *logStore) Confirmed() (below uint64, err error) { return s.r.FilesConfirmed() }

// cameraPart plugs package camera in.
type cameraPart struct {
	*camera.Component
	t     *talk
	taken chan takenPhoto
}

type takenPhoto struct {
	camera string
	photo  segment.Photo
}

// takenMost is how many photos may wait until they are told of.
const takenMost = 64

func newCameraPart(t *talk) *cameraPart {
	c := &cameraPart{t: t, taken: make(chan takenPhoto, takenMost)}
	var infos []camera.Info
	for _, cam := range t.cfg.Camera {
		infos = append(infos, cameraInfo(&t.cfg.Policy, cam))
	}
	c.Component = camera.New(t.part.Sender(), c, c.system, infos)
	return c
}

// cameraInfo says what a camera can do: a row of JPEG pictures gives photos too.
func cameraInfo(p *config.Policy, c config.Camera) camera.Info {
	stills := c.Format == "mjpeg" || c.Format == "jpg"
	return camera.Info{Name: c.Name, Width: c.Width, Height: c.Height, Commanded: c.Start == config.StartCommand,
		Video: p.Video && c.Source != config.SourceInbox && c.Format != "jpg", Photo: p.Photo && c.Source != config.SourceInbox && stills}
}

func (c *cameraPart) system() uint8 {
	a, _ := c.t.part.Sender().Autopilot()
	return a.System
}

func (c *cameraPart) name(i int) string { return c.t.cfg.Camera[i].Name }

// Step tells of photos that were taken meanwhile.
func (c *cameraPart) Step(now time.Duration) time.Duration {
	for {
		select {
		case p := <-c.taken:
			i := slices.IndexFunc(c.t.cfg.Camera, func(cam config.Camera) bool { return cam.Name == p.camera })
			c.Captured(i, camera.Photo{Index: p.photo.Index, At: time.Duration(p.photo.TakenUsec) * time.Microsecond, UTCUsec: c.t.r.UTC(p.photo.TakenUsec), OK: true})
			continue
		default:
		}
		return min(c.Component.Step(now), now+takenEvery)
	}
}

// takenEvery is how soon a photo is told of.
const takenEvery = 100 * time.Millisecond

// photo takes word of a photo from the recorder's media goroutine.
func (c *cameraPart) photo(name string, p segment.Photo) {
	select {
	case c.taken <- takenPhoto{name, p}:
	default: // whoever wants to know asks again, by index
	}
}

// StartVideo and the others implement camera.Control.
func (c *cameraPart) StartVideo(i int) bool { return c.t.r.StartVideo(c.name(i)) == nil }
func (c *cameraPart) StopVideo(i int) bool  { return c.t.r.StopVideo(c.name(i)) == nil }
func (c *cameraPart) StopShooting(i int)    { _ = c.t.r.StopShooting(c.name(i)) }

func (c *cameraPart) Shoot(i int, interval time.Duration, count, first int, trigger string) bool {
	return c.t.r.Shoot(c.name(i), interval, count, first) == nil
}

func (c *cameraPart) State(i int) camera.State {
	for _, s := range c.t.r.MediaStatus() {
		if s.Name == c.name(i) {
			return camera.State{Recording: s.Recording, Since: s.Since, Fault: s.LastError}
		}
	}
	return camera.State{}
}

func (c *cameraPart) Space() camera.Space {
	s := c.t.r.Snapshot()
	return camera.Space{Total: c.t.health.total(c.t.cfg.Vault.Path), Free: s.Free}
}

func (c *cameraPart) Event(kind, detail string) { c.t.Event(kind, detail) }

// batteryWatch acts on a low battery while the vehicle is disarmed.
type batteryWatch struct {
	t      *talk
	armed  bool
	landed bool
	low    time.Duration // since when it is low, or the vehicle has landed with it; 0: it is not
	acted  bool
}

var batteryIDs = []uint32{(&ardupilotmega.MessageSysStatus{}).GetID(), (&ardupilotmega.MessageBatteryStatus{}).GetID()}

// batteryFor is how long a battery must be low: a value that is wrong once acts on nothing.
const batteryFor = 10 * time.Second

// batteryLogs is how long the autopilot's log may hold that up: ArduPilot logs for 15 s more behind a
// landing, and the power is about to fail.
const batteryLogs = 3 * time.Minute

// Handle takes what the autopilot says of its battery; -1 says that it does not know.
func (b *batteryWatch) Handle(m message.Message, f *mavlink.Frame) {
	a, found := b.t.part.Sender().Autopilot()
	if !found || uint8(f.System) != a.System || f.Component != allow.ComponentAutopilot {
		return
	}
	left := int8(-1)
	switch m := m.(type) {
	case *ardupilotmega.MessageSysStatus:
		left = m.BatteryRemaining
	case *ardupilotmega.MessageBatteryStatus:
		if m.Id == 0 {
			left = m.BatteryRemaining
		}
	}
	switch {
	case left < 0:
	case int(left) > b.t.cfg.Policy.LowBatteryPercent:
		b.low, b.acted = 0, false
	case b.low == 0:
		b.low = max(f.At, 1)
	}
}

// SetArmed implements autopilot.Sub. A landing with a low battery is one more occasion: arming has
// undone what was done at the last one.
func (b *batteryWatch) SetArmed(armed bool) {
	b.landed = b.armed && !armed
	if b.armed = armed; armed {
		b.acted = false
	}
}

// wait is how long a battery must be low now.
func (b *batteryWatch) wait() time.Duration {
	if b.t.logs != nil && b.t.logs.Busy() {
		return batteryLogs
	}
	return batteryFor
}

// Step ends the record when the battery has been low on the ground for long enough, and asks for the
// power to be switched off when all is sealed.
func (b *batteryWatch) Step(now time.Duration) time.Duration {
	if b.landed && b.low != 0 {
		b.low = now // the autopilot's log is to come first, where it is short
	}
	b.landed = false
	if b.low == 0 || b.armed || now-b.low < b.wait() {
		return now + time.Second
	}
	if !b.acted {
		b.acted = true
		b.t.Event("low_battery", b.t.cfg.Policy.LowBattery)
		b.t.r.Seal(true)
	}
	if b.t.cfg.Policy.LowBattery == config.BatteryPowerOff && b.t.r.Snapshot().Sealed {
		askPowerOff(b.t.cfg, b.t.health.log)
	}
	return now + time.Second
}
