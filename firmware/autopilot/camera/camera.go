// Package camera is the MAVLink camera component of each camera on the board (component 100 to
// 105): it says what the camera is and does, takes photos and video on command, and tells of each
// photo with its index, also when it is asked again
// (https://mavlink.io/en/services/camera.html, camera protocol v2).
//
// It never destroys anything: MAV_CMD_STORAGE_FORMAT is denied, because what is on the board's
// medium is kept until the operator has a receipt for it. Video that the configuration demands
// cannot be stopped from the ground. It gives no stream, no address, no file name and no position
// away: what it says passes the allow-list of what is sent.
//
// A Component is a state machine: it opens nothing, starts nothing and reads no clock.
package camera

import (
	"math"
	"slices"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink"
)

// First is the component of the first camera, MAV_COMP_ID_CAMERA; the others follow.
const First = 100

// Ids are the messages that a Component wants to be handed.
var Ids = []uint32{(&common.MessageCommandLong{}).GetID(), (&common.MessageCommandInt{}).GetID(), (&common.MessageCameraTrigger{}).GetID()}

// Info is what the configuration says of a camera.
type Info struct {
	Name          string
	Video, Photo  bool // what it can do, and the policy lets it
	Width, Height int  // pixels; 0: not known
	// Commanded says that video is started and stopped from the ground; else it runs as the
	// configuration says, and cannot be stopped.
	Commanded bool
}

// State is what a camera does now.
type State struct {
	Recording bool
	Since     time.Duration // when the video began, since boot
	Fault     string        // empty: none
}

// Space is what the medium has, in bytes.
type Space struct{ Total, Free int64 }

// Control is what a Component works on. Its methods never wait; cameras are counted from 0.
type Control interface {
	// StartVideo and StopVideo are only called for cameras that are Commanded.
	StartVideo(camera int) bool
	StopVideo(camera int) bool
	// Shoot takes count photos (0: until told otherwise), interval apart, the first with index
	// first. It returns false where the camera cannot.
	Shoot(camera int, interval time.Duration, count, first int, trigger string) bool
	StopShooting(camera int)
	State(camera int) State
	Space() Space
	Event(kind, detail string)
}

// Sender sends as one of our components; false: not now.
type Sender interface {
	Send(comp uint8, m message.Message) bool
}

const (
	// beatEvery is how often a camera says that it is there.
	beatEvery = time.Second
	// minInterval is the shortest pause between two photos.
	minInterval = 100 * time.Millisecond
	// maxPhotos is how many photos of a camera are remembered for those who ask again.
	maxPhotos = 4096
	// maxWaiting bounds what waits to be sent.
	maxWaiting = 64
	// patience is how long something waits until the link takes it.
	patience = 2 * time.Second
	// idle is how long Step may not be called at most.
	idle = time.Second
)

// Photo is one that was taken, or was not.
type Photo struct {
	Index   int
	At      time.Duration // since boot
	UTCUsec int64         // 0: not known
	OK      bool
}

// unit is one camera.
type unit struct {
	info     Info
	next     int // index of the next photo
	photos   map[int]Photo
	interval time.Duration // 0: it takes no row of photos
	left     int           // of the row; -1: without end
	lastSeq  int           // number of the last IMAGE_START_CAPTURE that was taken; 0: none
}

// Component is all cameras of the board. Not safe for concurrent use.
type Component struct {
	out     Sender
	ctl     Control
	system  func() uint8
	units   []*unit
	waiting []outgoing
	armed   bool
	now     time.Duration
	beatAt  time.Duration
	trigger uint32 // number of the last CAMERA_TRIGGER
	heard   bool   // there was one
}

type outgoing struct {
	comp uint8
	m    message.Message
	at   time.Duration // when it was to go out
}

// New returns a Component for cameras, in the order of the configuration: at most six. system returns
// the MAVLink system that they belong to, 0 while it is not known: commands for others are not ours.
func New(out Sender, ctl Control, system func() uint8, cameras []Info) *Component {
	c := &Component{out: out, ctl: ctl, system: system}
	for _, i := range cameras[:min(len(cameras), 6)] {
		c.units = append(c.units, &unit{info: i, photos: map[int]Photo{}})
	}
	return c
}

// SetArmed implements the autopilot's Sub.
func (c *Component) SetArmed(armed bool) { c.armed = armed }

// Step sends what waits and the heartbeats that are due.
func (c *Component) Step(now time.Duration) (next time.Duration) {
	c.now = now
	if now >= c.beatAt {
		c.beatAt = now + beatEvery
		for i := range c.units {
			c.say(i, &common.MessageHeartbeat{Type: common.MAV_TYPE_CAMERA, Autopilot: common.MAV_AUTOPILOT_INVALID, SystemStatus: c.status(i), MavlinkVersion: 3})
		}
	}
	for len(c.waiting) > 0 {
		// What is not taken for long is none that may go out: it must not hold up the others.
		if w := c.waiting[0]; !c.out.Send(w.comp, w.m) && now-w.at < patience {
			return now + idle/10
		}
		c.waiting = c.waiting[1:]
	}
	c.waiting = nil
	return min(c.beatAt, now+idle)
}

func (c *Component) status(i int) common.MAV_STATE {
	if c.ctl.State(i).Fault != "" {
		return common.MAV_STATE_CRITICAL
	}
	return common.MAV_STATE_ACTIVE
}

// say queues a message of a camera; what finds no room is asked for again.
func (c *Component) say(i int, m message.Message) {
	if len(c.waiting) < maxWaiting {
		c.waiting = append(c.waiting, outgoing{uint8(First + i), m, c.now})
	}
}

// Handle takes a command or a trigger.
func (c *Component) Handle(m message.Message, f *mavlink.Frame) {
	c.now = max(c.now, f.At)
	switch m := m.(type) {
	case *common.MessageCommandLong:
		c.command(command{f: f, id: m.Command, system: m.TargetSystem, comp: m.TargetComponent,
			p: [7]float64{float64(m.Param1), float64(m.Param2), float64(m.Param3), float64(m.Param4), float64(m.Param5), float64(m.Param6), float64(m.Param7)}})
	case *common.MessageCommandInt:
		c.command(command{f: f, id: m.Command, system: m.TargetSystem, comp: m.TargetComponent,
			p: [7]float64{float64(m.Param1), float64(m.Param2), float64(m.Param3), float64(m.Param4), float64(m.X), float64(m.Y), float64(m.Z)}})
	case *common.MessageCameraTrigger:
		c.triggered(m)
	}
}

// command is one that may be for us.
type command struct {
	f            *mavlink.Frame
	id           common.MAV_CMD
	system, comp uint8 // that it is for; 0: all
	p            [7]float64
}

// answered are the commands that the list of what is sent lets a camera answer.
var answered, _ = allow.Answers()

// command finds the cameras that a command is for. A broadcast is for each that can do it, and
// those that cannot say nothing.
func (c *Component) command(m command) {
	if m.system != 0 && m.system != c.system() {
		return
	}
	for i := range c.units {
		if int(m.comp) != First+i && m.comp != 0 {
			continue
		}
		result, known := c.do(i, m)
		if !known {
			if m.comp == 0 || !slices.Contains(answered, m.id) {
				continue // nothing is said about what is no camera's business
			}
			result = common.MAV_RESULT_UNSUPPORTED
		}
		c.say(i, &common.MessageCommandAck{Command: m.id, Result: result, TargetSystem: uint8(m.f.System), TargetComponent: uint8(m.f.Component)})
		c.answer(i, m, result)
	}
}

// do carries out a command; known is false for one that no camera of ours has.
func (c *Component) do(i int, m command) (result common.MAV_RESULT, known bool) {
	u := c.units[i]
	switch m.id {
	case common.MAV_CMD_IMAGE_START_CAPTURE:
		return c.startPhotos(i, m), true
	case common.MAV_CMD_IMAGE_STOP_CAPTURE:
		u.interval, u.left = 0, 0
		c.ctl.StopShooting(i)
		return common.MAV_RESULT_ACCEPTED, true
	case common.MAV_CMD_VIDEO_START_CAPTURE:
		return c.startVideo(i), true
	case common.MAV_CMD_VIDEO_STOP_CAPTURE:
		return c.stopVideo(i), true
	case common.MAV_CMD_STORAGE_FORMAT:
		c.ctl.Event("storage_format_denied", c.units[i].info.Name)
		return common.MAV_RESULT_DENIED, true
	case common.MAV_CMD_DO_DIGICAM_CONTROL: // of autopilots that know no camera protocol; parameter 5 is the shutter
		if m.p[4] != 1 {
			return common.MAV_RESULT_UNSUPPORTED, true
		}
		return c.startPhotos(i, command{p: [7]float64{2: 1}}), true
	case common.MAV_CMD_SET_CAMERA_MODE, common.MAV_CMD_RESET_CAMERA_SETTINGS:
		return common.MAV_RESULT_ACCEPTED, true // it takes photos while it films, and has no settings
	}
	_, known = requested(m)
	return common.MAV_RESULT_ACCEPTED, known
}

func (c *Component) startVideo(i int) common.MAV_RESULT {
	u := c.units[i]
	switch {
	case !u.info.Video:
		return common.MAV_RESULT_UNSUPPORTED
	case c.ctl.State(i).Recording:
		return common.MAV_RESULT_ACCEPTED
	case !u.info.Commanded:
		return common.MAV_RESULT_TEMPORARILY_REJECTED // it films when the configuration says so
	case !c.ctl.StartVideo(i):
		return common.MAV_RESULT_FAILED
	}
	return common.MAV_RESULT_ACCEPTED
}

func (c *Component) stopVideo(i int) common.MAV_RESULT {
	u := c.units[i]
	switch {
	case !u.info.Video:
		return common.MAV_RESULT_UNSUPPORTED
	case !u.info.Commanded:
		c.ctl.Event("video_stop_denied", u.info.Name)
		return common.MAV_RESULT_DENIED
	case !c.ctl.StopVideo(i):
		return common.MAV_RESULT_FAILED
	}
	return common.MAV_RESULT_ACCEPTED
}

// startPhotos takes one photo, a row of a number, or a row without end (0 photos). A command with a
// sequence number that was carried out already is a repetition: the first answer was lost.
func (c *Component) startPhotos(i int, m command) common.MAV_RESULT {
	u := c.units[i]
	interval, count, seq := m.p[1], m.p[2], m.p[3]
	switch {
	case !u.info.Photo:
		return common.MAV_RESULT_UNSUPPORTED
	case math.IsNaN(count) || count < 0 || count > 1<<20:
		return common.MAV_RESULT_DENIED
	case count == 1 && seq >= 1 && int(seq) == u.lastSeq:
		return common.MAV_RESULT_ACCEPTED
	case math.IsNaN(interval) || interval > 1<<20:
		return common.MAV_RESULT_DENIED
	}
	gap := max(time.Duration(interval*float64(time.Second)), minInterval)
	if !c.ctl.Shoot(i, gap, int(count), u.next, trigger(count)) {
		return common.MAV_RESULT_TEMPORARILY_REJECTED
	}
	if count == 1 && seq >= 1 && seq < 1<<31 {
		u.lastSeq = int(seq)
	}
	u.interval, u.left = gap, int(count)
	if count == 0 {
		u.left = -1
	}
	return common.MAV_RESULT_ACCEPTED
}

func trigger(count float64) string {
	if count == 1 {
		return "command"
	}
	return "interval"
}

// triggered takes the autopilot's word that a camera was triggered: a camera of ours that waits for
// commands takes a photo. The record has the message, and the event with the number of those
// that were missed, so that photos of other cameras can be told apart later.
func (c *Component) triggered(m *common.MessageCameraTrigger) {
	if c.heard && m.Seq == c.trigger {
		return // said twice
	}
	if c.heard && m.Seq > c.trigger+1 {
		c.ctl.Event("camera_triggers_missed", itoa(int(m.Seq-c.trigger-1)))
	}
	c.trigger, c.heard = m.Seq, true
	for i, u := range c.units {
		if u.info.Photo && u.info.Commanded {
			c.ctl.Shoot(i, minInterval, 1, u.next, "trigger")
		}
	}
}

// Captured takes word of a photo: from the goroutine that calls the other methods. Photos of a camera
// that takes them by itself come here too.
func (c *Component) Captured(i int, p Photo) {
	if i < 0 || i >= len(c.units) {
		return
	}
	u := c.units[i]
	if p.Index < 0 {
		p.Index = u.next
	}
	u.next = max(u.next, p.Index+1)
	if u.left > 0 {
		u.left--
	}
	if u.left == 0 {
		u.interval = 0
	}
	u.photos[p.Index] = p
	delete(u.photos, p.Index-maxPhotos)
	c.say(i, c.captured(p))
}
