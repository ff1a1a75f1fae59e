// Package mediapipe is what the media process and the recorder tell each other: pieces of
// photos and video one way, what the cameras should do the other way. They are two processes of
// two users, on a kernel that may have no sockets, so each way is a named FIFO. A message here
// is no MAVLink message.
//
// A message on the wire, version 1 (numbers big endian):
//
//	offset size
//	0      4    "HFmp"
//	4      1    version
//	5      1    kind
//	6      2    0
//	8      4    session: another one each time the writer has opened the FIFO
//	12     4    length of the body
//	16     4    CRC-32C of the body
//	20     4    CRC-32C of the 20 bytes before
//	24          body
//
// The body of Data is file (u32), offset (u64), boot time in microseconds (u64), bytes. All other
// bodies are one JSON object, exactly as this package writes it; another spelling of the same
// is refused.
//
// The writer may be taken over, so a reader believes nothing: every length has a limit that is
// checked before anything is allocated, every text is short and of printable characters, every
// number has bounds. A process that dies in the middle of a message leaves a part of it in the
// FIFO, which the Padding in front of the next Hello fills up. A reader that has just started
// may be in the middle of a message too, and the bytes of a camera may look like messages: it
// sends Announce with a number that nobody can guess, and believes nothing before the Hello
// that has it.
//
// The package opens nothing and starts no goroutine.
package mediapipe

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// Names of the FIFOs, in a folder of their own below the run folder.
const (
	Folder     = "media"
	ToRecorder = "to-recorder"
	ToMedia    = "to-media"
)

// Limits that a reader enforces before it allocates.
const (
	MaxData = 256 << 10 // bytes of one Data
	maxBody = DataHead + MaxData
	maxJSON = 4 << 10
	// MaxText is the longest text of a message, in bytes.
	MaxText = 512
	// MaxOpen is how many files may be open at once.
	MaxOpen = 64
	// MaxCount is the most photos, and the highest index, that a message may name.
	MaxCount = 1 << 30
	maxUsec  = 1 << 53
	maxBytes = 1 << 53
)

const (
	version  = 1
	headSize = 24
)

// HeadRoom is what PutData needs in front of the bytes of a Data, DataHead its last part.
const (
	DataHead = 4 + 8 + 8
	HeadRoom = headSize + DataHead
)

var magic = [4]byte{'H', 'F', 'm', 'p'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrBad: bytes that are no message of this package.
var ErrBad = errors.New("mediapipe: not understood")

// Kind tells messages apart on the wire.
type Kind uint8

// Kinds of messages. The first row goes to the recorder, the second to the media process.
const (
	KindHello Kind = iota + 1
	KindBegin
	KindData
	KindLost
	KindEnd
	KindEvent
)

// Kinds of messages to the media process.
const (
	KindState Kind = iota + 65
	KindVideo
	KindShoot
	KindStopShooting
	KindKept
	KindAnnounce
)

// Kinds of files, as storage/segment has them.
const (
	Video = "video"
	Photo = "photo"
)

// Triggers of photos, as storage/segment has them.
const (
	TriggerCommand  = "command"
	TriggerInterval = "interval"
	TriggerInbox    = "inbox"
)

// Reasons of Lost, and of an End that came early.
const (
	WhyFast   = "too fast"
	WhyRate   = "rate limit"
	WhyNobody = "nobody took it"
	WhyAudio  = "audio_refused"
)

// Message is one of the types below, by pointer.
type Message interface {
	kind() Kind
	valid() bool
}

// Hello is the first message after the writer has opened the FIFO.
type Hello struct {
	// Process is another word each time the media process has started: files of another one are over.
	Process string   `json:"process"`
	Cameras []string `json:"cameras"`
	Nonce   string   `json:"nonce,omitempty"` // of the last Announce, if any
}

// Begin announces a file. It is told again after each Hello.
type Begin struct {
	File   uint32 `json:"file"` // from 1, never used twice by a process
	Camera string `json:"camera"`
	Kind   string `json:"kind"` // Video, Photo
	Format string `json:"format"`
	Name   string `json:"name,omitempty"`
	// BeganUsec is when its first byte came, in microseconds since boot.
	BeganUsec int64 `json:"began_usec"`
	Size      int64 `json:"size,omitempty"` // 0: not known yet
	// Offset is how many bytes the camera has given that were handed over, or lost, before this is
	// told: 0 the first time.
	Offset int64 `json:"offset,omitempty"`
	// Asks says that the writer waits for Kept: it has the file still.
	Asks bool `json:"asks,omitempty"`
	// Of a photo: what made it, its index (-1: none), and when it was taken.
	Trigger         string `json:"trigger,omitempty"`
	Index           int    `json:"index,omitempty"`
	TakenUsec       int64  `json:"taken_usec,omitempty"`
	UncertaintyUsec int64  `json:"uncertainty_usec,omitempty"`
}

// Data is a piece of a file. Offset counts all bytes that the camera gave, those that were lost
// on the way too.
type Data struct {
	File     uint32
	Offset   int64
	BootUsec int64
	Bytes    []byte // from a Reader valid until its next call
}

// Lost says that bytes of a file were dropped, right before the next Data.
type Lost struct {
	File  uint32 `json:"file"`
	Bytes int64  `json:"bytes"`
	Why   string `json:"why"`
}

// End says that no more of a file comes.
type End struct {
	File     uint32 `json:"file"`
	Size     int64  `json:"size"` // all bytes that the camera gave
	BootUsec int64  `json:"boot_usec"`
	// SHA256 is of all that was handed over, in hex; empty where something was lost.
	SHA256 string `json:"sha256,omitempty"`
	Why    string `json:"why,omitempty"` // it came too early; empty: as it should
}

// Event is something that happened to a camera.
type Event struct {
	BootUsec int64  `json:"boot_usec"`
	Camera   string `json:"camera"`
	Kind     string `json:"kind"`
	Detail   string `json:"detail,omitempty"`
}

// State tells the media process, once a second and at each change, whether the vehicle is armed.
type State struct {
	Armed bool `json:"armed"`
}

// VideoCommand starts or stops the video of a camera.
type VideoCommand struct {
	Camera string `json:"camera"`
	On     bool   `json:"on"`
}

// Shoot asks a camera for photos.
type Shoot struct {
	Camera string `json:"camera"`
	// IntervalMs lies between two photos; Count is how many, 0: until StopShooting.
	IntervalMs int64 `json:"interval_ms"`
	Count      int   `json:"count"`
	First      int   `json:"first"` // index of the first
}

// StopShooting ends what Shoot has begun.
type StopShooting struct {
	Camera string `json:"camera"`
}

// Kept answers the End of a file whose Begin asked: all of it is durable, or it is not.
type Kept struct {
	Session uint32 `json:"session"`
	File    uint32 `json:"file"`
	OK      bool   `json:"ok"`
	Why     string `json:"why,omitempty"`
}

// Announce asks for Hello and for Begin of each open file: the recorder has just started.
type Announce struct {
	Nonce string `json:"nonce"` // random, for Hello to repeat
}

func (*Hello) kind() Kind        { return KindHello }
func (*Begin) kind() Kind        { return KindBegin }
func (*Data) kind() Kind         { return KindData }
func (*Lost) kind() Kind         { return KindLost }
func (*End) kind() Kind          { return KindEnd }
func (*Event) kind() Kind        { return KindEvent }
func (*State) kind() Kind        { return KindState }
func (*VideoCommand) kind() Kind { return KindVideo }
func (*Shoot) kind() Kind        { return KindShoot }
func (*StopShooting) kind() Kind { return KindStopShooting }
func (*Kept) kind() Kind         { return KindKept }
func (*Announce) kind() Kind     { return KindAnnounce }

// empty returns a message to decode into, nil where there is no such kind.
func empty(k Kind) Message {
	switch k {
	case KindHello:
		return &Hello{}
	case KindBegin:
		return &Begin{}
	case KindLost:
		return &Lost{}
	case KindEnd:
		return &End{}
	case KindEvent:
		return &Event{}
	case KindState:
		return &State{}
	case KindVideo:
		return &VideoCommand{}
	case KindShoot:
		return &Shoot{}
	case KindStopShooting:
		return &StopShooting{}
	case KindKept:
		return &Kept{}
	case KindAnnounce:
		return &Announce{}
	}
	return nil
}

func body(m Message) ([]byte, error) {
	if !m.valid() {
		return nil, fmt.Errorf("%w: %T out of bounds", ErrBad, m)
	}
	p, err := json.Marshal(m)
	if err != nil || len(p) > maxJSON {
		return nil, fmt.Errorf("%w: %T of %d bytes: %w", ErrBad, m, len(p), err)
	}
	return p, nil
}
