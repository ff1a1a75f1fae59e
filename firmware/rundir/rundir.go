// Package rundir is the recorder's side of the run folder, in which guard and recorder meet
// (package evidence): it reads how the lock stands and what was refused, and writes what the
// recorder does. It implements recorder.Guard.
//
// The guard is another process: it may be absent, die, be started again, and put other files
// in the place of its own. What it says is believed only while it is of this run of the kernel
// and a moment old. Nothing here waits for it but Attempts, which has a goroutine of its own.
package rundir

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/firmware/evidence"
	"holdfast/firmware/recorder"
	"holdfast/firmware/runfile"
)

// CountedFile is the recorder's own, beside evidence.RecorderFile.
const CountedFile = "recorder/counted.json"

// Config is what a Dir needs. All fields must be set.
type Config struct {
	Path   string // the run folder
	Boot   string // boot_id of the kernel
	Device string // first 8 hex digits
	// Now is the time since the kernel started.
	Now func() time.Duration
}

// Dir is the run folder. Safe for concurrent use.
type Dir struct {
	cfg Config

	mu   sync.Mutex
	seen os.FileInfo // of the lock file that was read last
	lock evidence.Lock
	err  error
}

// New returns the folder. It reads nothing yet.
func New(cfg Config) *Dir { return &Dir{cfg: cfg} }

func (d *Dir) path(name string) string { return filepath.Join(d.cfg.Path, name) }

var (
	errNobody = errors.New("the guard says nothing")
	errStale  = errors.New("the guard has said nothing for too long")
	errBoot   = errors.New("what the guard says is of another run of the kernel")
	errSense  = errors.New("what the guard says makes no sense")
)

// Lock implements recorder.Guard.
func (d *Dir) Lock() evidence.Lock {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.read()
	if err == nil {
		err = d.judge()
	}
	if err != nil {
		return evidence.Lock{Lock: evidence.Open, Grade: evidence.None, Why: err.Error(), Refused: -1}
	}
	return d.lock
}

// read reads the file again where it is another one, or has changed.
func (d *Dir) read() error {
	name := d.path(evidence.LockFile)
	fi, err := os.Lstat(name)
	if err != nil {
		d.seen = nil
		return errNobody
	}
	if d.seen != nil && os.SameFile(fi, d.seen) && fi.ModTime().Equal(d.seen.ModTime()) && fi.Size() == d.seen.Size() {
		return d.err
	}
	d.seen = fi
	p, err := runfile.Read(name)
	if err == nil {
		var l *evidence.Lock
		if l, err = evidence.ParseLock(p); err == nil {
			d.lock = *l
		}
	}
	d.err = err
	return err
}

// judge tells why what was read is not to be believed; nil: it is.
func (d *Dir) judge() error {
	l := &d.lock
	age := d.cfg.Now() - time.Duration(l.Usec)*time.Microsecond
	switch {
	case l.Boot != d.cfg.Boot:
		return errBoot
	case age > evidence.Stale || age < -evidence.Stale:
		return errStale
	case l.Refused < 0, l.Lock != evidence.Locked && l.Lock != evidence.Open,
		l.Grade != evidence.GradeA && l.Grade != evidence.GradeB && l.Grade != evidence.None,
		l.Lock == evidence.Locked && l.Grade == evidence.None,
		l.Maintenance != nil && !good(l.Maintenance):
		return errSense
	}
	return nil
}

func good(m *evidence.Maintenance) bool {
	const digits = "0123456789abcdef"
	for _, c := range []byte(m.Number) {
		if !contains(digits, c) {
			return false
		}
	}
	return len(m.Number) == 32 && (m.Phase == evidence.PhaseAsked || m.Phase == evidence.PhaseOpen)
}

func contains(s string, c byte) bool {
	for i := range len(s) {
		if s[i] == c {
			return true
		}
	}
	return false
}

// Tell implements recorder.Guard.
func (d *Dir) Tell(r evidence.Recorder) error {
	r.Boot, r.Usec = d.cfg.Boot, d.cfg.Now().Microseconds()
	p, err := evidence.Marshal(&r)
	if err != nil {
		return err
	}
	return runfile.Replace(d.path(evidence.RecorderFile), p)
}

// counted is CountedFile.
type counted struct {
	Boot    string             `json:"boot"`
	Device  string             `json:"device"`
	Counted []recorder.Counted `json:"counted"`
}

// Counted implements recorder.Guard. It is empty where the kernel or the device is another one.
func (d *Dir) Counted() []recorder.Counted {
	p, err := runfile.Read(d.path(CountedFile))
	if err != nil {
		return nil
	}
	var c counted
	if json.Unmarshal(p, &c) != nil || c.Boot != d.cfg.Boot || c.Device != d.cfg.Device {
		return nil
	}
	return c.Counted
}

// SetCounted implements recorder.Guard.
func (d *Dir) SetCounted(c []recorder.Counted) error {
	p, err := evidence.Marshal(&counted{d.cfg.Boot, d.cfg.Device, c})
	if err != nil {
		return err
	}
	return runfile.Replace(d.path(CountedFile), p)
}
