// Package boards describes the companion boards Holdfast knows. A board is data: one file
// per board, no code in it. What other code wants to know about a board is a field of Board.
//
// UARTs are named by their device-tree node, since the kernel's names (ttyAMA0, ttyS0)
// change with kernel and overlays while the node stays. Node paths follow the Devicetree
// Specification (https://www.devicetree.org/specifications/).
//
// The package opens nothing but the file system handed to Detect, and drives no hardware.
package boards

import (
	"io/fs"
	"slices"
	"strings"
)

// Grade says how well a board's network ways out can be closed (docs/threat-model.md).
type Grade string

const (
	// GradeA is the image whose kernel has no network stack.
	GradeA Grade = "A"
	// GradeB is a stock system with the network lock on top.
	GradeB Grade = "B"
	// GradeNone is a board whose ways out cannot be closed; it records, unlocked.
	GradeNone Grade = "none"
)

// NotTested is the TestedOn text of a board nobody has tried yet.
const NotTested = "not tested on hardware"

// Board is everything Holdfast knows about one board. The zero value of a field means that
// the board has no such part, or that it is not known.
type Board struct {
	Name        string   // as in holdfast.toml and --board: [a-z0-9-]
	Description string   // one line for people
	Compatible  []string // root compatible strings of the device tree, most exact first

	UARTs    []UART // the first is the one to wire the autopilot to
	LED      LED
	Button   Button
	Gadget   Gadget
	Storage  Storage
	Watchdog Watchdog

	Grade         Grade  // best grade that the board can reach
	TestedOn      string // what was tried on real hardware, or NotTested
	DefaultDevice string // device of the first link when nothing else is asked for
}

// UART is one serial port of a board.
type UART struct {
	Node       string   // device-tree node path, absolute
	Names      []string // device names under /dev, the usual one first; which one holds depends on the kernel
	Kind       string   // hardware block, such as "PL011"
	Pins       string   // where to wire it
	BootConfig []string // lines for the board's boot configuration, in order
	Note       string   // what to know before using it
}

// LED is the light that shows the recorder's state.
type LED struct {
	Sysfs string // folder under /sys/class/leds
}

// Button is the push button that asks for retrieval or a clean stop.
type Button struct {
	Pin string // GPIO line name
}

// Gadget is the USB port that can act as a device towards a laptop.
type Gadget struct {
	Node       string // device-tree node path of the controller
	Port       string // the plug, in words
	BootConfig []string
}

// Storage is where the vault lies when nothing else is attached.
type Storage struct {
	Device string // whole-disk device under /dev
	Medium string // in words
}

// Watchdog is the hardware timer that restarts a hung board.
type Watchdog struct {
	Device     string // under /dev
	BootConfig []string
}

// all is the table. A new board is a new file and one line here.
var all = []Board{genericARM64, qemuVirt, rpi4}

// All returns the known boards by name. The caller may change the slice, not what it refers to.
func All() []Board {
	return slices.SortedFunc(slices.Values(all), func(a, b Board) int { return strings.Compare(a.Name, b.Name) })
}

// ByName returns the board of that name. It reports false when there is none.
func ByName(name string) (Board, bool) {
	for _, b := range all {
		if b.Name == name {
			return b, true
		}
	}
	return Board{}, false
}

// CompatiblePath is the file that Detect reads, relative to the root of the file system.
const CompatiblePath = "proc/device-tree/compatible"

// Detect finds the board it runs on from the device tree that the kernel shows below root
// (os.DirFS("/") on a board). The board's own list decides, most exact string first. It
// reports false when there is no device tree or no board fits it.
func Detect(root fs.FS) (Board, bool) {
	raw, err := fs.ReadFile(root, CompatiblePath)
	if err != nil {
		return Board{}, false
	}
	for _, name := range strings.Split(string(raw), "\x00") {
		for _, b := range all {
			if name != "" && slices.Contains(b.Compatible, name) {
				return b, true
			}
		}
	}
	return Board{}, false
}
