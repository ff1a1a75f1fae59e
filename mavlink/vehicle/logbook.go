package vehicle

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// sample is what one moment of a flight adds to a log.
type sample struct {
	us           uint64 // since start
	utc          time.Time
	att, rates   vec   // rad, rad/s
	force        vec   // m/s²
	lat, lon     int32 // 1e-7 degrees
	alt          float64
	speed, climb float64 // m/s
	course       float64 // degrees
	volts, amps  float64
	usedMah      float64
}

// logFormat makes the entries of one kind of log.
type logFormat interface {
	// header is what a log begins with: all that is needed to read the rest.
	header(us uint64, params []param) [][]byte
	// entry is the n-th entry about the flight.
	entry(n int, s sample) []byte
	// text is an entry with words.
	text(us uint64, severity common.MAV_SEVERITY, text string) []byte
}

// flightLog is one log in the memory of the autopilot.
type flightLog struct {
	number int // in the name of an ArduPilot log
	utc    time.Time
	data   []byte
	make   func() []byte // of data, at first need; nil once made
	header [][]byte
	n      int     // entries about the flight
	due    float64 // bytes that it may grow by now
	left   []byte  // of Options.LogFile, not yet in data
}

func (l *flightLog) bytes() []byte {
	if l.make != nil {
		l.data, l.make = l.make(), nil
	}
	return l.data
}

// logbook holds the logs, the oldest first.
type logbook struct {
	stack Stack
	logs  []*flightLog
	open  *flightLog // the last of logs, or nil
	next  int        // number of the next log; numbers do not come twice
	// first are the entries of the next log, where a stream has them already.
	first [][]byte
}

// Log is a log as it can be pulled.
type Log struct {
	ID   uint16 // in LOG_ENTRY
	Path string // by MAVLink FTP
	UTC  time.Time
	Data []byte // shared with the vehicle: not to be changed
}

// Logs returns all logs there are, the oldest first. The last one may still grow.
func (v *Vehicle) Logs() []Log {
	var out []Log
	for i, l := range v.logs.logs {
		data := l.bytes()
		out = append(out, Log{ID: v.logs.id(i), Path: v.logs.path(i), UTC: l.utc, Data: data[:len(data):len(data)]})
	}
	return out
}

func newLogbook(o *Options) logbook {
	b := logbook{stack: o.Stack, next: 1}
	for i := range o.OldLogs {
		at := o.Start.AddDate(0, 0, i-o.OldLogs).Add(time.Duration(i) * 37 * time.Minute)
		size, seed := o.LogSize, o.Seed+uint64(i)
		b.add(&flightLog{utc: at, make: func() []byte { return oldLog(o.Stack, at, size, seed) }})
		if o.EmptyLog && i == 0 {
			b.add(&flightLog{utc: at.Add(time.Hour)})
		}
	}
	if o.EmptyLog && o.OldLogs <= 0 {
		b.add(&flightLog{utc: o.Start.Add(-time.Hour)})
	}
	return b
}

func (b *logbook) add(l *flightLog) {
	l.number = b.next
	b.next++
	b.logs = append(b.logs, l)
}

func (b *logbook) remove(i int) { b.logs = append(b.logs[:i:i], b.logs[i+1:]...) }

// id is the number of the i-th log: ArduPilot counts from 1, PX4 from 0.
func (b *logbook) id(i int) uint16 {
	if b.stack == ArduPilot {
		return uint16(i + 1)
	}
	return uint16(i)
}

// byID returns nil where there is no such log.
func (b *logbook) byID(id uint16) *flightLog {
	i := int(id)
	if b.stack == ArduPilot {
		i--
	}
	if i < 0 || i >= len(b.logs) {
		return nil
	}
	return b.logs[i]
}

// Folders of the logs (https://ardupilot.org/copter/docs/common-downloading-and-analyzing-data-logs-in-mission-planner.html,
// https://docs.px4.io/main/en/dev_log/logging.html).
const (
	copterLogs = "/APM/LOGS"
	px4Logs    = "/fs/microsd/log"
)

func (b *logbook) path(i int) string {
	if b.stack == ArduPilot {
		return fmt.Sprintf("%s/%08d.BIN", copterLogs, b.logs[i].number)
	}
	return fmt.Sprintf("%s/%s.ulg", px4Logs, b.logs[i].utc.UTC().Format("2006-01-02/15_04_05"))
}

func formatOf(s Stack) logFormat {
	if s == PX4 {
		return ulogFormat{}
	}
	return dataflash{}
}

// openLog begins the log of the flight, unless it has begun: when the motors are armed or
// when somebody asks for the stream of it. There is one log from start to restart.
func (v *Vehicle) openLog() *flightLog {
	if v.logs.open != nil {
		return v.logs.open
	}
	l := &flightLog{utc: v.utc().Truncate(time.Second)}
	if v.opt.LogFile != nil {
		l.left = v.opt.LogFile
	} else {
		l.header = v.firstEntries()
		l.data = bytes.Join(l.header, nil)
	}
	v.logs.add(l)
	v.logs.open, v.logs.first = l, nil
	return l
}

// firstEntries are those that tell how to read the log of this flight, or else of the next one.
func (v *Vehicle) firstEntries() [][]byte {
	switch {
	case v.logs.open != nil:
		return v.logs.open.header
	case v.logs.first == nil && v.opt.LogFile == nil:
		v.logs.first = formatOf(v.opt.Stack).header(v.us(), v.params)
	}
	return v.logs.first
}

// close ends the log of the flight; what is left of Options.LogFile is put into it.
func (b *logbook) close() {
	if b.open != nil {
		b.open.data = append(b.open.data, b.open.left...)
		b.open.left, b.open = nil, nil
	}
}

// erase removes all logs, also one that is open.
func (v *Vehicle) erase() {
	v.counts.LogErases++
	v.logs.logs, v.logs.open = nil, nil
	v.pull, v.files.burst, v.blocks, v.ulog = pull{}, burst{}, nil, nil
	v.files.open = nil
}

// writeLog lets the log of the flight grow while the motors are armed.
func (v *Vehicle) writeLog() {
	if !v.pilot.armed() || v.dark() {
		if l := v.logs.open; l != nil && v.pilot.phase == disarmed {
			l.data, l.left = append(l.data, l.left...), nil
		}
		return
	}
	l := v.openLog()
	l.due += float64(v.opt.LogRate) * tick.Seconds()
	for {
		entry := v.nextEntry(l)
		if len(entry) == 0 || float64(len(entry)) > l.due {
			return
		}
		l.due -= float64(len(entry))
		l.n++
		v.record(l, entry)
	}
}

// fileStep is how much of Options.LogFile makes up an entry.
const fileStep = 60

func (v *Vehicle) nextEntry(l *flightLog) []byte {
	if v.opt.LogFile != nil {
		return l.left[:min(len(l.left), fileStep)]
	}
	return formatOf(v.opt.Stack).entry(l.n, v.sample())
}

// record appends an entry to the log and to the streams of it.
func (v *Vehicle) record(l *flightLog, entry []byte) {
	l.data = append(l.data, entry...)
	if v.opt.LogFile != nil {
		l.left = l.left[len(entry):]
	}
	if v.blocks != nil {
		v.blocks.offer(v, entry)
	}
	if v.ulog != nil {
		v.ulog.offer(v, entry)
	}
}

// logText notes what the autopilot says in the log of the flight.
func (v *Vehicle) logText(s common.MAV_SEVERITY, text string) {
	if l := v.logs.open; l != nil && v.opt.LogFile == nil && v.pilot.armed() && !v.dark() {
		v.record(l, formatOf(v.opt.Stack).text(v.us(), s, text))
	}
}

// sample takes no noise: what is logged must not change what is sent.
func (v *Vehicle) sample() sample {
	b := &v.body
	s := sample{
		us: v.us(), utc: v.utc(), att: b.att, rates: b.rates(), force: b.force(), alt: v.nav.homeAlt - b.pos[2],
		speed: b.vel.horizontal(), climb: -b.vel[2], volts: v.power.volts, amps: v.power.amps, usedMah: v.power.usedMah,
	}
	s.lat, s.lon = v.nav.e7(b.pos)
	s.course = degrees360(math.Atan2(b.vel[1], b.vel[0]))
	return s
}

// oldLog is the log of a flight long ago: smooth turns, at the pace of any log.
func oldLog(s Stack, began time.Time, size int, seed uint64) []byte {
	f := formatOf(s)
	data := bytes.Join(f.header(0, autopilotParams(s)), nil)
	data = append(data, f.text(1000, common.MAV_SEVERITY_NOTICE, "Motors armed")...)
	for n := 0; len(data) < size; n++ {
		t := float64(n) * 0.004
		turn := t/7 + float64(seed%97)
		data = append(data, f.entry(n, sample{
			us: uint64(t * 1e6), utc: began.Add(time.Duration(t * float64(time.Second))), att: vec{0.2 * math.Sin(turn), 0.1 * math.Cos(turn), wrapPi(math.Mod(turn, 6.28))},
			rates: vec{0.03 * math.Cos(turn), -0.014 * math.Sin(turn), 0.14}, force: vec{0.2, 0.1, -gravity},
			lat: 522300000 + int32(9000*math.Sin(turn)), lon: 57100000 + int32(9000*math.Cos(turn)),
			alt: 80 + 3*math.Sin(turn/3), speed: 7, course: 45, climb: 0.2 * math.Cos(turn), volts: 24 - t/600, amps: 21, usedMah: t * 5.8,
		})...)
	}
	return data
}
