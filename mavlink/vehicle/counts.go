package vehicle

import (
	"fmt"
	"time"
)

// Counts tell what was exchanged. Numbers are since power-on, over restarts.
type Counts struct {
	Heard        uint64            `json:"heard"`         // frames of others
	HeardBy      map[string]uint64 `json:"heard_by"`      // the same, by "component/message"
	Ignored      uint64            `json:"ignored"`       // of them while restarting, or too many at once
	PulledBytes  uint64            `json:"pulled_bytes"`  // log bytes in LOG_DATA, repeats too
	FTPBytes     uint64            `json:"ftp_bytes"`     // file bytes by FTP, repeats too
	StreamBytes  uint64            `json:"stream_bytes"`  // log bytes streamed, repeats not
	StreamResent uint64            `json:"stream_resent"` // blocks sent once more
	StreamLost   uint64            `json:"stream_lost"`   // log bytes the buffers had no room for
	LogRequests  uint64            `json:"log_requests"`  // to list, send or erase logs, FTP too
	// LogRequestsArmed are those of LogRequests that came while armed.
	LogRequestsArmed uint64     `json:"log_requests_armed"`
	LogErases        uint64     `json:"log_erases"`
	ParamSets        []ParamSet `json:"param_sets"`
	ArmRequests      uint64     `json:"arm_requests"` // asked of an authoriser
	ArmAccepted      uint64     `json:"arm_accepted"` // its answers
	ArmDenied        uint64     `json:"arm_denied"`
	ArmUnanswered    uint64     `json:"arm_unanswered"`
	ArmHeld          uint64     `json:"arm_held"` // arming put off, the onboard computer not being well
	ArmForced        bool       `json:"arm_forced"`
	Images           uint64     `json:"images"`  // CAMERA_IMAGE_CAPTURED of components 100 to 105
	Acks             []Ack      `json:"acks"`    // answers of others to commands, the first 1000
	Unknown          uint64     `json:"unknown"` // frames heard that the dialect does not know or that do not fit
}

// ParamSet is an attempt to change a setting.
type ParamSet struct {
	At        time.Duration `json:"at_ns"`
	System    uint8         `json:"system"`
	Component uint8         `json:"component"`
	Name      string        `json:"name"`
	Value     float32       `json:"value"` // as sent: PX4 puts the bits of integers here
	Known     bool          `json:"known"` // there is such a setting, and it was changed
	Armed     bool          `json:"armed"`
}

// Ack is a COMMAND_ACK heard.
type Ack struct {
	At        time.Duration `json:"at_ns"`
	Component uint8         `json:"component"`
	Command   uint32        `json:"command"`
	Result    uint32        `json:"result"`
}

// maxNotes bounds the lists in Counts: whoever floods the vehicle fills no memory.
const maxNotes = 1000

// Counts returns what was counted so far; the lists are shared with v.
func (v *Vehicle) Counts() Counts { return v.counts }

func note[T any](list *[]T, item T) {
	if len(*list) < maxNotes {
		*list = append(*list, item)
	}
}

// tally counts a frame under its sender's component and its message.
func (c *Counts) tally(comp uint8, name string) {
	if c.HeardBy == nil {
		c.HeardBy = map[string]uint64{}
	}
	c.HeardBy[fmt.Sprintf("%d/%s", comp, name)]++
}
