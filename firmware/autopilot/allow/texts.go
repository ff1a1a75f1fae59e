package allow

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Fault is something that is not well. Its number is the bit that tells of it in custom_mode of
// component 191's HEARTBEAT; scripts/ardupilot/holdfast-arming.lua reads the first ones.
type Fault uint8

// Faults. Bit 0 is no fault: see [BitNoObjection].
const (
	FaultLock    Fault = iota + 1 // a way out of the board is open
	FaultVault                    // nothing can be written
	FaultKeys                     // nobody to seal to
	FaultLink                     // a link is silent or gone; the number is its own, from 1
	FaultFull                     // no room but for telemetry
	FaultLow                      // room runs out; the number is what is left, in MB
	FaultSlow                     // the medium holds writing up
	FaultLost                     // telemetry was lost on the board
	FaultCamera                   // a camera gives nothing; the number is its own, from 1
	FaultMedia                    // video or photos were lost
	FaultLog                      // the autopilot's log has holes
	FaultBattery                  // records are closed: the battery is low
	faultEnd
)

// BitNoObjection is the bit of custom_mode that says that nothing speaks against arming: all is
// well, or the veto is off or lifted.
const BitNoObjection = 1 << 0

// faultBits are the bits of custom_mode that mean something.
const faultBits = 1<<faultEnd - 1

// text is how a fault is told when it appears and when it is over. A %d in appeared takes the
// fault's number. A STATUSTEXT holds 50 bytes.
type text struct{ name, appeared, over string }

var texts = [faultEnd]text{
	FaultLock:    {"lock", "Holdfast: network lock open", "Holdfast: network lock closed again"},
	FaultVault:   {"vault", "Holdfast: recording has stopped", "Holdfast: recording again"},
	FaultKeys:    {"keys", "Holdfast: no keys to seal to", "Holdfast: keys are there again"},
	FaultLink:    {"link", "Holdfast: link %d is silent", "Holdfast: links are heard again"},
	FaultFull:    {"full", "Holdfast: storage full, telemetry only", "Holdfast: storage has room again"},
	FaultLow:     {"low", "Holdfast: storage low, %d MB left", "Holdfast: storage no longer low"},
	FaultSlow:    {"slow", "Holdfast: storage is slow", "Holdfast: storage keeps up again"},
	FaultLost:    {"lost", "Holdfast: telemetry was lost", "Holdfast: no more telemetry lost"},
	FaultCamera:  {"camera", "Holdfast: camera %d failed", "Holdfast: cameras work again"},
	FaultMedia:   {"media", "Holdfast: video or photos were lost", "Holdfast: no more video or photos lost"},
	FaultLog:     {"log", "Holdfast: autopilot log has holes", "Holdfast: autopilot log whole again"},
	FaultBattery: {"battery", "Holdfast: battery low, records closed", "Holdfast: battery no longer low"},
}

// deniedText goes out with a denial, with the fault's name.
const deniedText = "Holdfast: arming denied, "

// Faults returns all faults, the gravest first.
func Faults() []Fault {
	var all []Fault
	for f := FaultLock; f < faultEnd; f++ {
		all = append(all, f)
	}
	return all
}

// String returns the fault's name: one word.
func (f Fault) String() string {
	if f == 0 || f >= faultEnd {
		return "none"
	}
	return texts[f].name
}

// Bit returns the fault's bit in custom_mode, 0 for no fault.
func (f Fault) Bit() uint32 {
	if f == 0 || f >= faultEnd {
		return 0
	}
	return 1 << f
}

// Text returns the text of STATUSTEXT for a fault that appeared, with the number that belongs
// to it, or that is over; "" for no fault.
func (f Fault) Text(over bool, number int) string {
	switch {
	case f == 0 || f >= faultEnd:
		return ""
	case over:
		return texts[f].over
	case strings.Contains(texts[f].appeared, "%d"):
		return fmt.Sprintf(texts[f].appeared, max(0, min(number, maxNumber)))
	}
	return texts[f].appeared
}

// DeniedText returns the text that says why arming is denied.
func (f Fault) DeniedText() string { return deniedText + f.String() }

// maxNumber is the greatest number in a text: seven digits.
const maxNumber = 9999999

// textPattern fits every text that may be sent and no other.
var textPattern = sync.OnceValue(func() *regexp.Regexp {
	var any []string
	for _, f := range Faults() {
		appeared := strings.ReplaceAll(regexp.QuoteMeta(texts[f].appeared), "%d", `(0|[1-9]\d{0,6})`)
		any = append(any, appeared, regexp.QuoteMeta(texts[f].over), regexp.QuoteMeta(f.DeniedText()))
	}
	return regexp.MustCompile(`^(` + strings.Join(any, "|") + `)$`)
})
