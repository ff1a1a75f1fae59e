package autopilot

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/storage/segment"
)

const (
	versionID    = 148 // message id of AUTOPILOT_VERSION
	identityTry  = 2 * time.Second
	identityMost = 8 // requests
)

// identity asks who the autopilot is, once after each start, and writes it into the record, then
// and at each arming.
type identity struct {
	p     *Part
	known bool
	tries int
	next  time.Duration
	file  pending
	whole []byte // the newest file; nil: it is not known who it is
}

// Identity is the content of the file of kind "autopilot". Empty values were not told.
type Identity struct {
	System        int    `json:"system"`
	Autopilot     string `json:"autopilot"` // ardupilot, px4 or other
	UID           string `json:"uid"`       // hex; the older of the two
	UID2          string `json:"uid2"`      // hex; the longer of the two
	Flight        string `json:"flight_version"`
	FlightGit     string `json:"flight_git"` // what the autopilot gives of its revision
	Middleware    string `json:"middleware_version"`
	MiddlewareGit string `json:"middleware_git"`
	OS            string `json:"os_version"`
	OSGit         string `json:"os_git"`
	Board         uint32 `json:"board_version"`
	Vendor        uint16 `json:"vendor_id"`
	Product       uint16 `json:"product_id"`
	Capabilities  uint64 `json:"capabilities"`
}

// armed writes what is known: the flight is a record of its own.
func (i *identity) armed(on bool) {
	if on && i.whole != nil {
		i.write()
	}
}

func (i *identity) rebooted() { i.known, i.tries, i.next, i.whole = false, 0, 0, nil }

func (i *identity) write() { i.file.put(i.p, segment.KindAutopilot, "json", "autopilot.json", i.whole) }

func (i *identity) step(now time.Duration) time.Duration {
	due := i.file.step(i.p, now)
	if i.known || i.tries >= identityMost || !i.p.pilot.mayAsk() {
		return due
	}
	if now >= i.next {
		i.p.command(common.MAV_CMD_REQUEST_MESSAGE, i.tries, versionID, 0)
		i.next = now + identityTry
		if i.tries++; i.tries == identityMost {
			i.p.event("autopilot_identity_unknown", fmt.Sprintf("no answer to %d requests", identityMost))
		}
	}
	return min(due, i.next)
}

func (i *identity) handle(m message.Message, _ *entry) {
	v, ok := m.(*common.MessageAutopilotVersion)
	if !ok || i.known {
		return
	}
	i.known = true
	data, err := json.MarshalIndent(i.describe(v), "", "  ")
	if err != nil {
		return // numbers and short texts always encode
	}
	i.whole = append(data, '\n')
	i.write()
}

func (i *identity) describe(v *common.MessageAutopilotVersion) Identity {
	id := Identity{System: int(i.p.pilot.system), Autopilot: i.p.pilot.flavour.String(),
		Flight: version(v.FlightSwVersion), Middleware: version(v.MiddlewareSwVersion), OS: version(v.OsSwVersion),
		FlightGit: revision(v.FlightCustomVersion), MiddlewareGit: revision(v.MiddlewareCustomVersion), OSGit: revision(v.OsCustomVersion),
		Board: v.BoardVersion, Vendor: v.VendorId, Product: v.ProductId, Capabilities: uint64(v.Capabilities)}
	if v.Uid != 0 {
		id.UID = fmt.Sprintf("%016x", v.Uid)
	}
	if v.Uid2 != [18]uint8{} {
		id.UID2 = hex.EncodeToString(v.Uid2[:])
	}
	return id
}

// String returns the flavour's name, in small letters.
func (f Flavour) String() string {
	switch f {
	case ArduPilot:
		return "ardupilot"
	case PX4:
		return "px4"
	}
	return "other"
}

// version reads the four bytes of a version: major, minor, patch, FIRMWARE_VERSION_TYPE.
func version(v uint32) string {
	if v == 0 {
		return ""
	}
	kind := map[byte]string{0: "-dev", 64: "-alpha", 128: "-beta", 192: "-rc", 255: ""}
	tail, ok := kind[byte(v)]
	if !ok {
		tail = fmt.Sprintf("-%d", byte(v))
	}
	return fmt.Sprintf("%d.%d.%d%s", v>>24, v>>16&255, v>>8&255, tail)
}

// revision returns eight letters of ArduPilot as they are, and eight bytes of PX4, which sends
// the lowest first, in hex.
func revision(b [8]uint8) string {
	if b == [8]uint8{} {
		return ""
	}
	text := strings.TrimRight(string(b[:]), "\x00")
	if strings.Trim(text, "0123456789abcdefABCDEF") == "" {
		return text
	}
	for i := range 4 {
		b[i], b[7-i] = b[7-i], b[i]
	}
	return hex.EncodeToString(b[:])
}
