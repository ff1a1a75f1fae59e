package segment

// Streams A, V and P hold files: the autopilot's own log, parameters and mission; video; photos.
// Their segments are blocks like those of telemetry (docs/format/v1.md, section 3.7): the data
// of a block is a piece of a file, as it is, and the metadata say of which file and where in it.

// Streams of a record, by the letter that begins the names of their segments.
const (
	StreamTelemetry = 'T'
	StreamAudit     = 'X'
	StreamAutopilot = 'A'
	StreamVideo     = 'V'
	StreamPhoto     = 'P'
)

// Kinds of files.
const (
	KindLog       = "log"       // the autopilot's own log
	KindParams    = "params"    // all its parameters, at one time
	KindMission   = "mission"   // its mission, at one time
	KindAutopilot = "autopilot" // who it is: version, UID
	KindReport    = "report"    // what comparing two copies of a log found
	KindVideo     = "video"
	KindPhoto     = "photo"
)

// File says to which file the data of a block belongs, and where in it. The pieces of a file may
// come in any order and overlap; what comes later is the same bytes again. Times are microseconds
// since boot.
type File struct {
	// ID tells files of a stream and record apart, from 1. A file that goes on in the next record
	// has Continues.
	ID   int    `json:"id"`
	Kind string `json:"kind"`
	// Source is the camera's name for video and photos; for a log how it came: stream, pull or
	// ftp; else autopilot.
	Source string `json:"source"`
	// Format is the usual extension of such a file, without the dot: bin, ulg, param, plan, json;
	// h264, mjpeg, ts, mp4, jpg. Reader: [a-z0-9]{1,8}, else "dat".
	Format string `json:"format"`
	// Name is what the file was called where it came from; for people, never for a path.
	Name string `json:"name,omitempty"`
	// Offset is where the data of this block begins in the file, in bytes.
	Offset int64 `json:"offset"`
	// Size is that of the whole file; 0: not known (yet).
	Size int64 `json:"size,omitempty"`
	// BeganUsec is when the first byte of the file came; BootUsec when this piece came.
	BeganUsec int64 `json:"began_usec,omitempty"`
	BootUsec  int64 `json:"boot_usec,omitempty"`
	// Of is the record that the file is about, where it is not the one it lies in: a log that was
	// pulled after the flight.
	Of string `json:"of,omitempty"`
	// Log is the number that the autopilot gives the log, UTCUsec its time as the autopilot says.
	Log     int   `json:"log,omitempty"`
	UTCUsec int64 `json:"utc_usec,omitempty"`
	// Lost are ranges of the file that did not come and will not. They are bytes of the file
	// where Offset counts them (a log), and for video what a full buffer or a slow medium cost.
	Lost []Range `json:"lost,omitempty"`
	// LostBytes counts bytes that were lost before the data of this block and are not counted by
	// Offset: of a video that came faster than it could be kept.
	LostBytes int64  `json:"lost_bytes,omitempty"`
	Why       string `json:"why,omitempty"` // of Lost, LostBytes, or of an End that came too early
	// End says that no more of the file comes.
	End       bool   `json:"end,omitempty"`
	SHA256    string `json:"sha256,omitempty"` // hex, of the whole file, with End where the board knows it
	Continues string `json:"continues,omitempty"`
	Photo     *Photo `json:"photo,omitempty"`
}

// Range is a row of bytes of a file.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"` // the first byte behind it
}

// Photo is what is known about a photo beside its pixels.
type Photo struct {
	// Index counts the photos of a camera, as CAMERA_IMAGE_CAPTURED does; -1: it has none.
	Index int `json:"index"`
	// Trigger is what made the camera take it: command, interval, trigger, inbox.
	Trigger string `json:"trigger,omitempty"`
	// TakenUsec is when it was taken, within UncertaintyUsec.
	TakenUsec       int64 `json:"taken_usec"`
	UncertaintyUsec int64 `json:"uncertainty_usec"`
	Pose            *Pose `json:"pose,omitempty"`
}

// Pose is where the vehicle was and how it was turned, by its own telemetry.
type Pose struct {
	BootUsec  int64   `json:"boot_usec"`     // of the position
	Latitude  float64 `json:"latitude"`      // degrees, WGS 84, north is positive
	Longitude float64 `json:"longitude"`     // degrees, east is positive
	Altitude  float64 `json:"altitude"`      // m above mean sea level
	Height    float64 `json:"height"`        // m above home
	Roll      float64 `json:"roll"`          // degrees
	Pitch     float64 `json:"pitch"`         // degrees, nose up is positive
	Yaw       float64 `json:"yaw"`           // degrees from north, clockwise
	AttUsec   int64   `json:"attitude_usec"` // when the attitude came
	// HorizontalM and VerticalM are what the autopilot says of the accuracy of its position, in m
	// (one standard deviation); 0: not known.
	HorizontalM float64 `json:"horizontal_m,omitempty"`
	VerticalM   float64 `json:"vertical_m,omitempty"`
	// UncertaintyM is how far the vehicle may have moved between the position and the photo, in m.
	UncertaintyM float64 `json:"uncertainty_m"`
	Gimbal       *Gimbal `json:"gimbal,omitempty"`
}

// Gimbal is how the camera was turned, in degrees, in the frame of the earth.
type Gimbal struct {
	BootUsec int64   `json:"boot_usec"`
	Roll     float64 `json:"roll"`
	Pitch    float64 `json:"pitch"`
	Yaw      float64 `json:"yaw"`
}
