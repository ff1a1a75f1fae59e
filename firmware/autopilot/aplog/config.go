package aplog

import (
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/storage/segment"
)

// Mode says how logs come into the record.
type Mode string

// Modes.
const (
	Off    Mode = "off"
	Pull   Mode = "pull"
	Stream Mode = "stream"
	Both   Mode = "both"
)

func (m Mode) pulls() bool   { return m == Pull || m == Both }
func (m Mode) streams() bool { return m == Stream || m == Both }

// Flavours: MAV_AUTOPILOT in the heartbeat (https://mavlink.io/en/messages/common.html#MAV_AUTOPILOT).
const (
	ArduPilot = 3
	PX4       = 12
)

// Components that this package speaks as and to
// (https://mavlink.io/en/messages/common.html#MAV_COMPONENT).
const (
	compAutopilot = 1
	compLogger    = 155 // MAV_COMP_ID_LOG: ArduPilot streams to it and as it
	compOnboard   = 191 // MAV_COMP_ID_ONBOARD_COMPUTER
)

// Out sends a message as a component of the vehicle's system. false: there is no room now, or it
// may not be sent now; the message was not sent and may be sent later.
type Out interface {
	Send(comp uint8, m message.Message) bool
}

// Store takes pieces of files into stream A of the record.
type Store interface {
	// Put copies data, at most 32 KiB. number counts the blocks of this start from 0; false: there
	// is no room now.
	Put(f segment.File, data []byte) (number uint64, ok bool)
	// Confirm asks that all that was put so far is sealed in closed segments, read back from the
	// medium and compared.
	Confirm()
	// Confirmed is the number below which this was done for all blocks. An error says that what
	// Confirm asked is not going to be done, and why.
	Confirmed() (below uint64, err error)
}

// Config is what [New] needs. Out, Store and Now must be set.
type Config struct {
	Out   Out
	Store Store
	// Event tells the record what happened; nil: nobody wants to know.
	Event func(kind, detail string)
	// Now is the time since boot, the same clock that [Logs.Step] is given.
	Now  func() time.Duration
	Mode Mode
	// Erase lets the autopilot's logs be erased once they are safe in the record.
	Erase bool
	// Rate bounds what a pull asks for, in bytes of a log a second; 0: no limit.
	Rate int64
	// Disarmed streams while the autopilot is disarmed, too.
	Disarmed bool
	// Flight names the newest flight that has ended, "" if none has; nil: none ever.
	Flight func() (record string)
	// Known tells whether an earlier run has a log, as the autopilot lists it; nil: none has. Pulled
	// is told of each log that was pulled whole; nil: nobody wants to know. UTC is in seconds, and
	// never 0: a log without a time is known within a run alone.
	Known  func(id uint16, utc, size uint32) bool
	Pulled func(id uint16, utc, size uint32)
	// NewID numbers the files of the stream; nil: aplog counts from 1, which is right only if
	// nobody else puts files into the stream.
	NewID func() int
}

// Times and sizes, chosen for links from 57,600 baud to USB.
const (
	settle     = 5 * time.Second         // after disarming, before anything is asked: the log is still written
	settleAP   = 18 * time.Second        // of ArduPilot, which logs for 15 s more, and no more while its logs are read
	rebootOnce = 5 * time.Second         // in which a restart may be told twice
	silence    = 2500 * time.Millisecond // without a heartbeat nothing is asked: it may have armed
	storeRetry = 20 * time.Millisecond   // until the Store is asked again that had no room
	outRetry   = 20 * time.Millisecond   // until Out is asked again
	minTimeout = 200 * time.Millisecond  // of a request, before it is sent again
	maxTimeout = 5 * time.Second
	minTurn    = 60 * time.Millisecond // that a request costs, with those that are lost

	windowSize = 512 << 10 // more than a burst of ArduPilot's FTP: 2000 replies of 239 bytes
	putSize    = 32 << 10  // of one block of the record
	chunkSize  = 90 * 700  // asked for by one LOG_REQUEST_DATA: 0.7 s at 921,600 baud
	joinHoles  = 2 << 10   // holes that lie closer are asked for at once, until it is known how fast bytes come
	measured   = 16 << 10  // bytes of an answer that tell how fast they come

	maxRanges  = 4096 // ranges that a set holds
	maxEntries = 2048 // logs that a list holds
	maxKnown   = 8192 // logs that are remembered as pulled
	maxTold    = 256  // lost ranges in one block

	maxStalls  = 10 // requests without a new byte, until a hole is given up
	maxGiveUps = 3  // holes given up without a new byte between, until the rest of the log is
)

// never is a time that does not come.
const never = time.Duration(1<<63 - 1)
