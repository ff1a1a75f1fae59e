// Package evidence is what the guard and the recorder tell each other: the state of the
// network lock, the attempts it refused, and what the recorder does meanwhile.
//
// They are two processes of two users, on a kernel that may have no sockets, so they meet in
// files and one FIFO of a folder (DefaultDir on a board): the guard replaces LockFile each
// second and writes lines into AttemptsFIFO, the recorder replaces RecorderFile. All are
// JSON, one object, keys in snake_case; times are microseconds since the kernel started
// (CLOCK_BOOTTIME), which nothing sets. Nothing here is sealed: the folder lies in memory and
// is gone with the power.
//
// The package opens nothing by itself and starts no goroutine.
package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Names in the folder where guard and recorder meet.
const (
	DefaultDir   = "/run/holdfast"
	LockFile     = "lock.json"           // Lock, by the guard
	AttemptsFIFO = "attempts"            // Attempt lines, by the guard
	RecorderFile = "recorder/state.json" // Recorder, by the recorder; its folder is the recorder's own
)

// Stale is the age at which a LockFile proves nothing any more: it is rewritten each second.
const Stale = 3 * time.Second

// MaxLine is the most bytes of a line in AttemptsFIFO, its line feed included: a write of so
// many is atomic (PIPE_BUF, pipe(7)). MaxFile bounds the files.
const (
	MaxLine = 4096
	MaxFile = 64 << 10
)

// States of the lock and grades, as status.json and leaf L have them.
const (
	Locked = "locked"
	Bench  = "bench"
	Open   = "open"
	GradeA = "A"
	GradeB = "B"
	None   = "none"
)

// ErrBad: bytes that are none of this package's.
var ErrBad = errors.New("evidence: not understood")

// Attempt is one refused way out, or several of the same kind within a second. It is a line
// of the audit stream (docs/format/v1.md) too.
type Attempt struct {
	Usec        int64  `json:"usec"`                // when it happened; the first of them
	LastUsec    int64  `json:"last_usec,omitempty"` // the last of them, where Count is above 1
	SeenUsec    int64  `json:"seen_usec"`           // when the guard had learned of it
	Layer       string `json:"layer"`               // the layer that refused it: netlock's names
	What        string `json:"what"`                // connect, send, socket, frame, link, usb, strike, summary
	PID         int    `json:"pid,omitempty"`
	UID         int64  `json:"uid"`                   // -1: not known
	Program     string `json:"program,omitempty"`     // path of the executable, not the name it gave itself
	Protocol    string `json:"protocol,omitempty"`    // tcp, udp, icmp, arp, ... or 0x and an ethertype
	Destination string `json:"destination,omitempty"` // address:port, [address]:port, address or MAC
	Link        string `json:"link,omitempty"`        // network interface
	Detail      string `json:"detail,omitempty"`      // one clause, for a reader
	Count       int64  `json:"count"`                 // attempts that this line stands for, 1 or more
}

// Layer is the state of one layer of the lock.
type Layer struct {
	Name   string `json:"name"`
	State  string `json:"state"`  // ok, missing, broken, open (for a ticket), left_out
	Needed bool   `json:"needed"` // without it the board is not called locked
	Detail string `json:"detail,omitempty"`
}

// Maintenance is a ticket that was admitted.
type Maintenance struct {
	Number     string   `json:"number"` // of the ticket: 32 hex digits
	Interfaces []string `json:"interfaces"`
	SpanUsec   int64    `json:"span_usec"`
	Phase      string   `json:"phase"` // asked: the recorder is to stop; open: the interfaces are up
	EndsUsec   int64    `json:"ends_usec,omitempty"`
}

// Phases of a maintenance.
const (
	PhaseAsked = "asked"
	PhaseOpen  = "open"
)

// Lock is LockFile.
type Lock struct {
	Boot        string       `json:"boot"`  // boot_id of the kernel that it is true of
	Lock        string       `json:"lock"`  // Locked or Open
	Grade       string       `json:"grade"` // GradeA, GradeB, None
	Why         string       `json:"why,omitempty"`
	Layers      []Layer      `json:"layers"`
	Refused     int64        `json:"refused"` // attempts since the kernel started
	Strikes     int64        `json:"strikes"` // layers found changed and set right again
	Maintenance *Maintenance `json:"maintenance,omitempty"`
	Usec        int64        `json:"usec"` // when it was written
}

// Recorder is RecorderFile.
type Recorder struct {
	Boot      string `json:"boot"`       // boot_id
	BootCount int64  `json:"boot_count"` // starts of the recorder, as in leaf B; 0: the vault is not open
	Device    string `json:"device"`     // first 8 hex digits, as the vault's folder
	State     string `json:"state"`      // as status.json
	Armed     bool   `json:"armed"`
	Record    string `json:"record,omitempty"`
	Stopped   string `json:"stopped,omitempty"` // number of the ticket for which recording stopped, durable in the public log
	Usec      int64  `json:"usec"`
}

// Marshal encodes v, one of this package's objects, as a line.
func Marshal(v any) ([]byte, error) {
	p, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	return append(p, '\n'), nil
}

// ParseLock, ParseRecorder and ParseAttempt read what Marshal wrote. All else is ErrBad.
func ParseLock(p []byte) (*Lock, error) {
	l := new(Lock)
	return l, parse(p, l)
}

// ParseRecorder reads RecorderFile.
func ParseRecorder(p []byte) (*Recorder, error) {
	r := new(Recorder)
	return r, parse(p, r)
}

// ParseAttempt reads a line of AttemptsFIFO.
func ParseAttempt(p []byte) (*Attempt, error) {
	a := new(Attempt)
	if len(p) > MaxLine {
		return a, fmt.Errorf("%w: a line of %d bytes", ErrBad, len(p))
	}
	if err := parse(p, a); err != nil {
		return a, err
	}
	if a.Count < 1 || a.Layer == "" || a.What == "" {
		return a, fmt.Errorf("%w: an attempt without layer, kind or count", ErrBad)
	}
	return a, nil
}

func parse(p []byte, v any) error {
	if len(p) > MaxFile {
		return fmt.Errorf("%w: %d bytes", ErrBad, len(p))
	}
	d := json.NewDecoder(bytes.NewReader(p))
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	return nil
}
