package custody

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/mod/sumdb/tlog"
)

// Kind tells what a leaf says (docs/format/v1.md, section 6.4).
type Kind byte

// Kinds of leaves.
const (
	KindBoot    Kind = 'B'
	KindLock    Kind = 'L'
	KindRecover Kind = 'R'
	KindKey     Kind = 'K'
	KindOpen    Kind = 'O'
	KindClose   Kind = 'C'
	KindLost    Kind = 'X'
	KindEnd     Kind = 'Z'
	KindEpoch   Kind = 'E'
)

func (k Kind) String() string { return string(rune(k)) }

// MaxBody is the longest body of a leaf, in bytes.
const MaxBody = 1 << 20

const (
	leafHead = 5 // u32 length, u8 kind
	leafTail = 4 // CRC-32C
)

// ErrLeaf means bytes that are no whole, canonical leaf with a right CRC.
var ErrLeaf = errors.New("no valid leaf")

// Leaf is one entry of the log. Body is its canonical JSON.
type Leaf struct {
	Kind Kind
	Body []byte
}

// Entry is the content of a leaf: a pointer to Boot, Lock, Recovered, FlightKey, Opened, Closed,
// Lost, Ended or Epoch.
type Entry interface {
	kind() Kind
	check() error
	// Time is when the leaf was made, in microseconds since the kernel started.
	Time() int64
	setTime(usec int64)
}

// Boot says that the recorder started. The device key signs BootMessage.
type Boot struct {
	Boot   int64  `json:"boot"` // counts the starts of the recorder, from 1
	Key    []byte `json:"key"`  // Ed25519 public key of epoch 0
	Sig    []byte `json:"sig"`
	Signed int64  `json:"signed"` // leaves that the newest checkpoint found at the start counted
	Slots  string `json:"slots"`  // good, torn, bad or none
	T      int64  `json:"t"`
	Torn   int64  `json:"torn"` // bytes cut off behind the last whole leaf
	V      int64  `json:"v"`    // Version
}

// Version is the version of the log's format.
const Version = 1

// What a start found in the two checkpoint slots.
const (
	SlotsGood = "good" // both valid
	SlotsTorn = "torn" // one valid
	SlotsBad  = "bad"  // none, although there were leaves of records
	SlotsNone = "none" // none, and nothing that one would have counted
)

// Lock is the state of the network lock at a start, or from now on.
type Lock struct {
	Grade   string `json:"grade"`   // A, B or none
	Lock    string `json:"lock"`    // locked, bench or open
	Refused int64  `json:"refused"` // attempts since the leaf before
	T       int64  `json:"t"`
	// Ticket is the number of the statement for which recording has stopped and the lock is
	// open until the next leaf Lock; empty where there is none.
	Ticket string `json:"ticket,omitempty"`
}

// File is a segment file as it was found: with size 0 where it was gone. The two signed fields,
// both or none, are what the newest checkpoint that was found said of it in an open line.
type File struct {
	Name         string `json:"name"` // T000003.open.age
	SHA256       []byte `json:"sha256"`
	SignedSHA256 []byte `json:"signed_sha256,omitempty"` // of the first SignedSize bytes
	SignedSize   *int64 `json:"signed_size,omitempty"`
	Size         int64  `json:"size"`
}

// Recovered ends a record that was cut, and names the files of it that no leaf Closed names, and
// those that a checkpoint named and that are not what it said.
type Recovered struct {
	Files  []File `json:"files"` // by name
	Record string `json:"record"`
	T      int64  `json:"t"`
}

// KeyFile is one wrapped copy of a flight's identity.
type KeyFile struct {
	Data []byte `json:"data"`
	Name string `json:"name"` // flight.key.age; of a group flight.V.key.age
}

// KeyGroup is a set of streams of a record that are sealed to an identity of their own.
type KeyGroup struct {
	Files      []KeyFile `json:"files"`
	Pub        string    `json:"pub"`
	Recipients []string  `json:"recipients"` // Fingerprint of each
	Streams    string    `json:"streams"`    // keys.IsGroup
}

// Policy is what the recorder was told, as far as it says nothing about place, time or people.
type Policy struct {
	FlushArmedUsec int64  `json:"flush_armed_usec"`
	FlushIdleUsec  int64  `json:"flush_idle_usec"`
	Record         string `json:"record"`
	WhenFull       string `json:"when_full"`
}

// FlightKey begins a record.
type FlightKey struct {
	Files []KeyFile `json:"files"`
	// Groups, by Streams, each stream in one at most. Empty where all is sealed to Pub.
	Groups     []KeyGroup `json:"groups,omitempty"`
	Policy     Policy     `json:"policy"`
	Pub        string     `json:"pub"`
	Recipients []string   `json:"recipients"` // Fingerprint of each
	Record     string     `json:"record"`
	T          int64      `json:"t"`
}

// Opened says that a segment was begun.
type Opened struct {
	Record  string `json:"record"`
	Segment string `json:"segment"`
	T       int64  `json:"t"`
}

// Closed says that a segment stands in its closed form.
type Closed struct {
	Frames  int64  `json:"frames"`
	From    int64  `json:"from"` // time since boot of the first block, in microseconds
	Record  string `json:"record"`
	Segment string `json:"segment"`
	SHA256  []byte `json:"sha256"`
	Size    int64  `json:"size"`
	T       int64  `json:"t"`
	To      int64  `json:"to"` // of the last block
}

// Why something was lost.
const (
	WhyDeleted = "deleted" // a whole record, to make room or with a receipt
	WhyUndone  = "undone"  // a number that was begun and taken back
	WhyFailed  = "failed"  // the open form of a segment, of which Size bytes are durable
	WhyRefused = "refused" // a segment that medium or policy refused to keep
)

// Lost says what is not there, and why.
type Lost struct {
	Record  string `json:"record"`
	Segment string `json:"segment,omitempty"`
	SHA256  []byte `json:"sha256,omitempty"`
	Size    *int64 `json:"size,omitempty"`
	T       int64  `json:"t"`
	Why     string `json:"why"`
}

// Ended says that a record ended in good order.
type Ended struct {
	Record   string           `json:"record"`
	Segments map[string]int64 `json:"segments"` // by stream, the highest segment number
	T        int64            `json:"t"`
}

// Epoch hands over to the next epoch's key. The key in force signs EpochMessage.
type Epoch struct {
	Boot  int64  `json:"boot"`
	Epoch int64  `json:"epoch"`
	Key   []byte `json:"key"`
	Sig   []byte `json:"sig"`
	T     int64  `json:"t"`
}

func (e *Boot) kind() Kind      { return KindBoot }
func (e *Lock) kind() Kind      { return KindLock }
func (e *Recovered) kind() Kind { return KindRecover }
func (e *FlightKey) kind() Kind { return KindKey }
func (e *Opened) kind() Kind    { return KindOpen }
func (e *Closed) kind() Kind    { return KindClose }
func (e *Lost) kind() Kind      { return KindLost }
func (e *Ended) kind() Kind     { return KindEnd }
func (e *Epoch) kind() Kind     { return KindEpoch }

// Time implements Entry.
func (e *Boot) Time() int64      { return e.T }
func (e *Lock) Time() int64      { return e.T }
func (e *Recovered) Time() int64 { return e.T }
func (e *FlightKey) Time() int64 { return e.T }
func (e *Opened) Time() int64    { return e.T }
func (e *Closed) Time() int64    { return e.T }
func (e *Lost) Time() int64      { return e.T }
func (e *Ended) Time() int64     { return e.T }
func (e *Epoch) Time() int64     { return e.T }

func (e *Boot) setTime(t int64)      { e.T = t }
func (e *Lock) setTime(t int64)      { e.T = t }
func (e *Recovered) setTime(t int64) { e.T = t }
func (e *FlightKey) setTime(t int64) { e.T = t }
func (e *Opened) setTime(t int64)    { e.T = t }
func (e *Closed) setTime(t int64)    { e.T = t }
func (e *Lost) setTime(t int64)      { e.T = t }
func (e *Ended) setTime(t int64)     { e.T = t }
func (e *Epoch) setTime(t int64)     { e.T = t }

// NewLeaf encodes e. ErrLeaf where e breaks a rule of the format: a bug of the caller's.
func NewLeaf(e Entry) (Leaf, error) {
	body, err := json.Marshal(e)
	if err == nil {
		err = errors.Join(e.check(), plain(body))
	}
	if err != nil {
		return Leaf{}, fmt.Errorf("%w: %c: %w", ErrLeaf, e.kind(), err)
	}
	return Leaf{e.kind(), body}, nil
}

// Entry decodes the body and checks it against the format. All else is ErrLeaf.
func (l Leaf) Entry() (Entry, error) {
	e := newEntry(l.Kind)
	if e == nil {
		return nil, fmt.Errorf("%w: unknown kind 0x%02x", ErrLeaf, byte(l.Kind))
	}
	if err := plain(l.Body); err != nil {
		return nil, fmt.Errorf("%w: %c: %w", ErrLeaf, l.Kind, err)
	}
	if err := json.Unmarshal(l.Body, e); err != nil {
		return nil, fmt.Errorf("%w: %c: not the JSON of its kind", ErrLeaf, l.Kind)
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("%w: %c: %w", ErrLeaf, l.Kind, err)
	}
	// Keys that are missing, unknown, twice or out of order, spaces, odd numbers: all differ
	// from what the encoder makes.
	if again, err := json.Marshal(e); err != nil || !bytes.Equal(again, l.Body) {
		return nil, fmt.Errorf("%w: %c: not canonical", ErrLeaf, l.Kind)
	}
	return e, nil
}

func newEntry(k Kind) Entry {
	switch k {
	case KindBoot:
		return &Boot{}
	case KindLock:
		return &Lock{}
	case KindRecover:
		return &Recovered{}
	case KindKey:
		return &FlightKey{}
	case KindOpen:
		return &Opened{}
	case KindClose:
		return &Closed{}
	case KindLost:
		return &Lost{}
	case KindEnd:
		return &Ended{}
	case KindEpoch:
		return &Epoch{}
	}
	return nil
}

// plain refuses what the encoder would have to escape.
func plain(body []byte) error {
	if len(body) > MaxBody {
		return errors.New("longer than a body may be")
	}
	for _, c := range body {
		if c < 0x20 || c > 0x7E || c == '\\' || c == '<' || c == '>' || c == '&' {
			return errors.New("a character that no body has")
		}
	}
	return nil
}

// Hash is the leaf hash: SHA-256(0x00 || kind || body), RFC 6962 section 2.1.
func (l Leaf) Hash() tlog.Hash {
	return tlog.RecordHash(append([]byte{byte(l.Kind)}, l.Body...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the leaf to dst as it stands in log.bin.
func (l Leaf) Append(dst []byte) []byte {
	from := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Body)))
	dst = append(append(dst, byte(l.Kind)), l.Body...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli))
}

// Size is the number of bytes that the leaf takes in log.bin.
func (l Leaf) Size() int64 { return int64(leafHead + len(l.Body) + leafTail) }
