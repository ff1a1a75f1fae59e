// Package codec turns messages into MAVLink 2 frames and frames into messages, for the ids
// of gomavlib's ardupilotmega dialect, which holds all of the common one
// (https://mavlink.io/en/messages/ardupilotmega.html).
//
// The plan of a message type is made when its id is first met: a whole dialect would take
// tens of milliseconds at each start. Nothing is prepared when a program begins. The
// package checks no checksum of what it decodes (see [mavlink.Scanner]) and no signature,
// and opens nothing.
package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
)

// ErrUnknown is returned for a message that is not of the dialect.
var ErrUnknown = errors.New("message is not of the dialect")

// ErrPayload is returned by Decode for a MAVLink 1 payload that has not the size of its
// message, and for a frame that holds no whole span.
var ErrPayload = errors.New("payload does not fit the message")

const (
	startV2      = 0xFD
	headerSize   = 10
	checksumSize = 2
	maxPayload   = 255
)

// Codec encodes and decodes. Not safe for concurrent use.
type Codec struct {
	all     map[uint32]message.Message // of the dialect; nil until the first look-up
	types   map[uint32]*message.ReadWriter
	scratch [maxPayload]byte
}

// New returns a Codec, at no cost.
func New() *Codec { return &Codec{} }

// Encode returns the MAVLink 2 frame of m, unsigned, in bytes that are the caller's. Of a
// text or number that is too long for its field only the part that fits is sent. The error
// is ErrUnknown where m is nil or no message of the dialect.
func (c *Codec) Encode(system, comp, seq uint8, m message.Message) ([]byte, error) {
	rw, err := c.planOf(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	payload := rw.Write(m, true).Payload
	id := m.GetID()
	raw := make([]byte, 0, headerSize+len(payload)+checksumSize)
	raw = append(raw, startV2, byte(len(payload)), 0, 0, seq, system, comp, byte(id), byte(id>>8), byte(id>>16))
	raw = append(raw, payload...)
	// The checksum has the id's extra byte behind the payload, which is not sent.
	sum := mavlink.Checksum(append(raw, rw.CRCExtra())[1:])
	return binary.LittleEndian.AppendUint16(raw, sum), nil
}

// Decode returns the message of f, which keeps no reference to f. The zero bytes that
// MAVLink 2 cuts off are restored, bytes behind the end of the message are left out. The
// error is ErrUnknown or ErrPayload.
func (c *Codec) Decode(f *mavlink.Frame) (message.Message, error) {
	rw, err := c.plan(f.ID)
	if err != nil {
		return nil, fmt.Errorf("decode message %d: %w", f.ID, err)
	}
	payload := f.Payload()
	if payload == nil {
		return nil, fmt.Errorf("decode message %d: %w", f.ID, ErrPayload)
	}
	if f.Version == 2 {
		// The reader of gomavlib appends zeros to what it is given: it must not be f.Raw.
		clear(c.scratch[copy(c.scratch[:], payload):])
		payload = c.scratch[:]
	}
	m, err := rw.Read(&message.MessageRaw{ID: f.ID, Payload: payload}, f.Version == 2)
	if err != nil {
		return nil, fmt.Errorf("decode message %d: %w: %d bytes", f.ID, ErrPayload, len(payload))
	}
	return m, nil
}

// planOf returns the plan of m's type. A type of somebody else that has an id of the
// dialect does not fit the plan of that id.
func (c *Codec) planOf(m message.Message) (*message.ReadWriter, error) {
	if m == nil || reflect.ValueOf(m).Kind() != reflect.Pointer || reflect.ValueOf(m).IsNil() {
		return nil, ErrUnknown
	}
	rw, err := c.plan(m.GetID())
	if err != nil {
		return nil, err
	}
	if reflect.TypeOf(m) != reflect.TypeOf(rw.Message) {
		return nil, ErrUnknown
	}
	return rw, nil
}

func (c *Codec) plan(id uint32) (*message.ReadWriter, error) {
	if rw := c.types[id]; rw != nil {
		return rw, nil
	}
	if c.all == nil {
		c.fill()
	}
	m := c.all[id]
	if m == nil {
		return nil, ErrUnknown
	}
	rw := &message.ReadWriter{Message: m}
	if err := rw.Initialize(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	c.types[id] = rw
	return rw, nil
}

// fill notes which messages there are; it makes no plan.
func (c *Codec) fill() {
	c.types = map[uint32]*message.ReadWriter{}
	c.all = make(map[uint32]message.Message, len(ardupilotmega.Dialect.Messages))
	for _, m := range ardupilotmega.Dialect.Messages {
		c.all[m.GetID()] = m
	}
}
