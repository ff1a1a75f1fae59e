// Package allow is the one list of what Holdfast ever sends to an autopilot. A frame passes by
// its id and by what is in it; whatever the list does not name is refused. docs/autopilot.md
// prints the list, from the rules in this package.
//
// Two rules hold for every frame before its own rule is asked. It is an unsigned MAVLink 2 frame
// (https://mavlink.io/en/guide/serialization.html) of a known message with a right checksum. And
// it is exactly what encoding its decoded message gives: no byte behind the message, behind a
// text's end or in a flag that nobody reads may carry anything.
//
// The package sends nothing, opens nothing and reads no clock.
package allow

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/codec"
	"holdfast/mavlink/names"
)

// ErrRefused is in every error of this package: the frame must not leave.
var ErrRefused = errors.New("not on the list of what is sent")

// Components that Holdfast sends as (https://mavlink.io/en/messages/minimal.html#MAV_COMPONENT).
const (
	ComponentAutopilot = 1   // MAV_COMP_ID_AUTOPILOT1: whom it sends to
	ComponentComputer  = 191 // MAV_COMP_ID_ONBOARD_COMPUTER
	ComponentLog       = 155 // MAV_COMP_ID_LOG
	ComponentCamera    = 100 // MAV_COMP_ID_CAMERA, the first of Cameras
	Cameras            = 6   // to MAV_COMP_ID_CAMERA6
)

// Options are what the policy adds to the list. The zero value adds nothing.
type Options struct {
	Rates     bool // message rates may be set
	EraseLogs bool // logs may be erased on the autopilot
	Veto      bool // requests for authorisation to arm are answered
	Camera    bool // there is a camera component
}

// List decides about frames. All its methods may be called concurrently.
type List struct {
	opt Options

	mu     sync.Mutex
	codec  *codec.Codec
	system uint8 // of the autopilot; 0: not known, nothing may be sent
}

// New returns a list that refuses everything until SetSystem names the autopilot.
func New(opt Options) *List { return &List{opt: opt, codec: codec.New()} }

// SetSystem names the autopilot's system, which is also the one that Holdfast's own components
// belong to. 0 takes it back: nothing may be sent.
func (l *List) SetSystem(id uint8) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.system = id
}

// call is one frame before its rule.
type call struct {
	opt    Options
	system uint8 // of the autopilot
	comp   uint8 // of the sender
	sender uint8 // its system
	armed  bool
	m      message.Message
}

// Check returns nil if Holdfast itself may send the frame now, else an error that is ErrRefused
// and names the message and the reason. armed is also true where the state is not known.
func (l *List) Check(raw []byte, armed bool) error {
	return l.check(raw, armed, true)
}

// CheckShare returns nil if a program on the board may send the frame through a share in "write"
// mode, else an error as Check does.
func (l *List) CheckShare(raw []byte) error {
	return l.check(raw, false, false)
}

func (l *List) check(raw []byte, armed, own bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.parse(raw)
	if err != nil {
		return err
	}
	rules := ownRules
	if !own {
		rules = shareRules
	}
	r, ok := rules[f.ID]
	if !ok {
		return refuse(f.ID, "is not on it")
	}
	c := call{opt: l.opt, system: l.system, sender: uint8(f.System), comp: uint8(f.Component), armed: armed}
	if err := c.senderFits(own); err != "" {
		return refuse(f.ID, err)
	}
	if c.m, err = l.decode(f); err != nil {
		return err
	}
	if own && armed && r.Disarmed {
		return refuse(f.ID, "is sent only while the autopilot is known to be disarmed")
	}
	if why := r.check(&c); why != "" {
		return refuse(f.ID, why)
	}
	return nil
}

// parse returns the frame that raw is, all of it.
func (l *List) parse(raw []byte) (*mavlink.Frame, error) {
	f, ok := mavlink.ParseFrame(raw)
	switch {
	case !ok || len(f.Raw) != len(raw):
		return nil, fmt.Errorf("%w: %d bytes that are not one frame", ErrRefused, len(raw))
	case f.Version != 2:
		return nil, refuse(f.ID, "is a MAVLink 1 frame")
	case f.Signed || raw[2] != 0 || raw[3] != 0:
		return nil, refuse(f.ID, "is signed, or has flags")
	case !f.ChecksumOK():
		return nil, refuse(f.ID, "has a wrong checksum, or is not known")
	}
	return &f, nil
}

// decode returns the message of f if f holds nothing else.
func (l *List) decode(f *mavlink.Frame) (message.Message, error) {
	m, err := l.codec.Decode(f)
	if err != nil {
		return nil, refuse(f.ID, "cannot be read")
	}
	again, err := l.codec.Encode(uint8(f.System), uint8(f.Component), f.Seq, m)
	if err != nil || !bytes.Equal(again, f.Raw) {
		return nil, refuse(f.ID, "holds bytes that are not part of its message")
	}
	return m, nil
}

// senderFits returns why the sender may not be the one it says, or nothing.
func (c *call) senderFits(own bool) string {
	ours := ourComponent(c.comp)
	switch {
	case c.system == 0:
		return "has nobody to go to: no autopilot was heard"
	case own && (c.sender != c.system || !ours):
		return fmt.Sprintf("comes from %d/%d, which is none of Holdfast's components", c.sender, c.comp)
	case own && isCamera(c.comp) && !c.opt.Camera:
		return "comes from a camera, and there is none"
	case !own && (c.sender == 0 || c.comp == 0):
		return "comes from nobody"
	case !own && c.sender == c.system && (ours || c.comp == ComponentAutopilot):
		return fmt.Sprintf("says that it comes from %d/%d, which is not the program's", c.sender, c.comp)
	}
	return ""
}

func ourComponent(comp uint8) bool {
	return comp == ComponentComputer || comp == ComponentLog || isCamera(comp)
}

func isCamera(comp uint8) bool { return comp >= ComponentCamera && comp < ComponentCamera+Cameras }

func refuse(id uint32, why string) error {
	return fmt.Errorf("%w: %s (%d) %s", ErrRefused, nameOf(id), id, why)
}

func nameOf(id uint32) string {
	if n := names.MessageName(id); n != "" {
		return n
	}
	return "message"
}
