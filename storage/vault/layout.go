package vault

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind tells a flight from a ground record.
type Kind byte

// Kinds of records. Both share one counter.
const (
	Flight Kind = 'F' // arming to disarming
	Ground Kind = 'G' // everything else
)

func (k Kind) String() string {
	switch k {
	case Flight:
		return "flight"
	case Ground:
		return "ground"
	}
	return "unknown"
}

// RecordID names a record on one device.
type RecordID struct {
	Kind   Kind
	Number int
}

func (r RecordID) String() string {
	if r.Number == 0 {
		return ""
	}
	return fmt.Sprintf("%c%08d", r.Kind, r.Number)
}

// ParseRecordID reads F00000042 or G00000043.
func ParseRecordID(s string) (RecordID, bool) {
	if len(s) != 9 || (s[0] != byte(Flight) && s[0] != byte(Ground)) {
		return RecordID{}, false
	}
	n, ok := digits(s[1:])
	return RecordID{Kind(s[0]), n}, ok && n > 0
}

func digits(s string) (int, bool) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// IsDeviceID tells whether name can be the folder of a device: the first 8 hex digits of the
// SHA-256 of its public key.
func IsDeviceID(name string) bool {
	return len(name) == 8 && strings.Trim(name, "0123456789abcdef") == ""
}

// Suffixes of a segment's file in the steps of its life.
const (
	suffixClosed = ".age"      // closed: a whole age file
	suffixOpen   = ".open.age" // being written, or cut: whole chunks, no closing one
	suffixTmp    = ".age.tmp"  // the closed form being written; never the only copy
)

// SegmentFile is what a segment's file name says.
type SegmentFile struct {
	Stream byte // T, V, P, A, X
	Number int
	Suffix string
}

func (s SegmentFile) String() string {
	return fmt.Sprintf("%c%06d%s", s.Stream, s.Number, s.Suffix)
}

// Closed, Open and Tmp tell the step of life.
func (s SegmentFile) Closed() bool { return s.Suffix == suffixClosed }

// Open tells a segment that is being written or was cut.
func (s SegmentFile) Open() bool { return s.Suffix == suffixOpen }

// Tmp tells the unfinished closed form of a segment.
func (s SegmentFile) Tmp() bool { return s.Suffix == suffixTmp }

// ParseSegmentFile reads T000001.age, T000001.open.age or T000001.age.tmp.
func ParseSegmentFile(name string) (SegmentFile, bool) {
	if len(name) < 7 || !strings.ContainsRune("TVPAX", rune(name[0])) {
		return SegmentFile{}, false
	}
	n, ok := digits(name[1:7])
	s := SegmentFile{Stream: name[0], Number: n, Suffix: name[7:]}
	return s, ok && n > 0 && (s.Closed() || s.Open() || s.Tmp())
}

// Names inside a device's folder and a record's folder.
const (
	logDir        = "LOG"
	devicePub     = "device.pub"
	readmeFile    = "README.txt"
	flightPub     = "flight.pub"
	flightKeyFile = "flight.key.age"
)

// IsFlightKeyFile tells flight.key.age and its parallel files flight.key.2.age and on.
func IsFlightKeyFile(name string) bool {
	if name == flightKeyFile {
		return true
	}
	n, ok := strings.CutPrefix(name, "flight.key.")
	n, end := strings.CutSuffix(n, ".age")
	i, num := digits(n)
	return ok && end && num && i >= 2 && i <= 99
}

var (
	// ErrLocked: another process records into this vault.
	ErrLocked = errors.New("vault: in use by another recorder")
	// ErrFull: the medium has no room left and the policy is to stop.
	ErrFull = errors.New("vault: no room left on the medium")
	// ErrClosed: the vault was closed.
	ErrClosed = errors.New("vault: closed")
	// ErrForeignKey: device.pub in the vault is not of the device key given.
	ErrForeignKey = errors.New("vault: device.pub is not of this device key")
)

// Readme is README.txt, as appendix A of the format has it.
const Readme = readmeText

// readmeText is README.txt: how to open the records with stock tools alone.
const readmeText = `Sealed flights, Holdfast format v1.

Everything here that ends in .age is a stock age file (https://age-encryption.org/v1).
It can be read only with an identity (key file) that the operator holds.
Needed: age 1.3 or later and zstd, both free software. Holdfast itself is not needed.

F00000042 is a flight (arming to disarming), G00000043 a record of what lies between.
1. Unlock a record, once:
     age -d -i operator.key F00000042/flight.key.age > flight.key
   (flight.key.2.age and on are other ways to the same key. Where two people are needed:
     age -d -i first.key F00000042/flight.key.age | age -d -i second.key > flight.key)
2. Open its telemetry, segment by segment, in the order of the numbers:
     age -d -i flight.key F00000042/T000001.age | zstd -dc > telemetry-1.tlog
   A segment named T000001.open.age was cut by a loss of power. The same command gives what
   reached the medium; age says "unexpected EOF" at its end, as it should.
3. A .tlog is a row of: 8 bytes, microseconds (big endian), then one MAVLink frame.
Microseconds count from 1970, or from the start of the board where its clock was not known.
Destroy flight.key after use. Keep these files as they are: a copy proves more than an edit.
`
