// Package config reads and writes holdfast.toml, the one configuration file of a board.
//
// The format is TOML 1.0 (https://toml.io/en/v1.0.0). A file may leave out every key but
// the name and device of a link; what is left out takes the value that Default holds. A
// key nobody knows is refused by name, so that a slip of the pen never becomes a silent
// default. Durations are texts such as "200ms"; sizes are texts with a unit out of B, KiB,
// MiB and GiB, such as "512MiB" (a bare number is refused: nobody can tell its unit). USB
// devices are texts such as "1-1.4 0403:6001": a port as the kernel names it, or * for any,
// then vendor and product in hex.
// Relative paths are relative to the folder of the file.
//
// The package opens no device and no network address, and does not look whether paths
// exist: that is the work of those who use them.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// MaxFileSize is the largest holdfast.toml that is read, in bytes. A real one has 1 KiB.
const MaxFileSize = 1 << 20

// Limits of the values, in the units that their names say.
const (
	MinFlush      = 10 * time.Millisecond // below this the medium does nothing but sync
	MaxFlushArmed = 5 * time.Second       // above this a cut costs more than one segment's half
	MaxFlushIdle  = 60 * time.Second
	MaxBaud       = 4_000_000 // the highest rate the serial ports know, bit/s
	MaxLinkName   = 32        // bytes
)

// Values of the keys that take one word out of a few.
const (
	ModeLocked   = "locked"
	ModeBench    = "bench"
	RecordAlways = "always"
	RecordArmed  = "armed"
	FullStop     = "stop"
	FullOldest   = "oldest"
	ProfileAuto  = "auto"
)

// Config is a whole holdfast.toml. It is plain data: safe to read from many goroutines
// while nobody changes it.
type Config struct {
	Board  Board
	Link   []Link
	Vault  Vault
	Policy Policy
	Camera []Camera
	Share  []Share
	Lock   Lock
	USB    USB
	Status Status
}

// Board says which board this is.
type Board struct {
	Profile string // name of a board, or ProfileAuto
}

// Link is one stream of MAVLink bytes.
type Link struct {
	Name   string // unique, [a-z0-9_-]
	Device string // path of a serial port, or tcp:, udp: or file: in bench mode
	Baud   int    // bit/s
}

// Vault says where sealed records go and how.
type Vault struct {
	Path       string        // folder of the vault
	Recipients string        // file of those who can open what is recorded
	DeviceKey  string        // file of the key that signs the public log; outside Path
	FlushArmed time.Duration // longest wait before received bytes are synced, armed
	FlushIdle  time.Duration // the same, not armed
	Reserve    int64         // free space that only telemetry may use, in bytes
	Record     string        // RecordAlways or RecordArmed
	WhenFull   string        // FullStop or FullOldest
}

// Lock says how network ways out are treated.
type Lock struct {
	Mode        string // ModeLocked or ModeBench
	Run         string // folder where guard and recorder meet; it lies in memory
	Ticket      string // file the guard looks at for a ticket; mostly absent
	Signers     string // file of those whose tickets are admitted; may be absent
	UsedNumbers string // file of the numbers of statements that were used; outside Vault.Path, never in Run
}

// USB says which devices on the USB the lock leaves in use. Hubs, and devices that a link
// of this file needs, are not named here.
type USB struct {
	Allow []USBRule
}

// Status says where the board's health is shown.
type Status struct {
	File   string
	LED    string // PartAuto, PartOff, or a name
	Button string // the same
}

// Default returns the values of a file that says nothing. It has no link and its paths
// are relative, so it is a start, not yet a configuration to run with.
func Default() *Config {
	return &Config{
		Board: Board{Profile: ProfileAuto},
		Vault: Vault{
			Path:       "vault",
			Recipients: "recipients.txt",
			DeviceKey:  "device.key",
			FlushArmed: 200 * time.Millisecond,
			FlushIdle:  900 * time.Millisecond,
			Reserve:    256 << 20,
			Record:     RecordAlways,
			WhenFull:   FullStop,
		},
		Lock: Lock{
			Mode:        ModeLocked,
			Run:         "/run/holdfast",
			Ticket:      "maintenance.ticket",
			Signers:     "signers.txt",
			UsedNumbers: "used-numbers",
		},
		Policy: DefaultPolicy(),
		Status: Status{File: "status.json", LED: PartAuto, Button: PartAuto},
	}
}

// DefaultLink returns the link that the contract gives as the default.
func DefaultLink() Link {
	return Link{Name: "fc", Device: "/dev/serial0", Baud: DefaultBaud}
}

// DefaultBaud is the rate of a link that names none, in bit/s.
const DefaultBaud = 921600

// Bench tells whether c is for the bench.
func (c *Config) Bench() bool { return c.Lock.Mode == ModeBench }

// Load reads, completes and checks the file at path. Relative paths in it become absolute.
// It returns an *Error, wrapped with path, when the content is at fault, else an error of
// package os, ErrNotRegular or ErrTooLarge.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	c, err := Parse(data, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ErrTooLarge tells that a file is larger than MaxFileSize.
var ErrTooLarge = errors.New("larger than 1 MiB")

// ErrNotRegular tells that a path names a folder, a pipe or a device.
var ErrNotRegular = errors.New("not a regular file")

func readFile(path string) ([]byte, error) {
	// Asked before the open: opening a pipe nobody writes to would wait for ever.
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("%s: %w", path, ErrTooLarge)
	}
	return data, nil
}
