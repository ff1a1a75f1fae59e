package aplog_test

import (
	"testing"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/aplog"
	"holdfast/mavlink"
)

// BenchmarkPull and the others tell what a byte of a log costs in the state machine, from the
// decoded message to Store.Put: the vehicle answers at once.
func BenchmarkPull(b *testing.B) {
	const size = 1 << 30
	w := &wild{t: b, now: time.Second, ends: map[int]bool{}}
	out := &asked{wild: w}
	l := aplog.New(aplog.Config{Out: out, Store: w, Now: func() time.Duration { return w.now }, Mode: aplog.Pull})
	frame := &mavlink.Frame{System: 1, Component: 1}
	heart := &ap.MessageHeartbeat{Autopilot: aplog.ArduPilot}
	beat := func() { w.heard = w.now; l.Handle(heart, frame) }
	l.SetAutopilot(1, aplog.ArduPilot)
	l.SetArmed(false)
	beat()
	l.Handle(&ap.MessageAutopilotVersion{}, frame)
	for ; out.data == nil; w.now += 100 * time.Millisecond {
		beat()
		l.Step(w.now)
		if out.list {
			l.Handle(&ap.MessageLogEntry{Id: 1, NumLogs: 1, LastLogNum: 1, Size: size}, frame)
		}
	}
	piece := &ap.MessageLogData{Id: 1, Count: 90}
	left := uint32(0)
	b.SetBytes(90)
	b.ReportAllocs()
	for b.Loop() {
		if left == 0 {
			if out.data == nil {
				b.Fatal("nothing was asked")
			}
			piece.Ofs, left, out.data = out.data.Ofs%(size-1<<20), out.data.Count, nil
			w.now += time.Millisecond
			beat()
		}
		l.Handle(piece, frame)
		piece.Ofs += 90
		if left -= min(left, 90); left == 0 {
			l.Step(w.now)
		}
	}
}

// asked remembers what was asked for.
type asked struct {
	*wild
	list bool
	data *ap.MessageLogRequestData
}

func (a *asked) Send(comp uint8, m message.Message) bool {
	switch m := m.(type) {
	case *ap.MessageLogRequestList:
		a.list = true
	case *ap.MessageLogRequestData:
		a.data = m
	}
	return a.wild.Send(comp, m)
}

func BenchmarkBlocks(b *testing.B) { benchStream(b, aplog.ArduPilot, aplog.Stream) }

// BenchmarkBlocksBoth also keeps what comparing with the pulled log needs.
func BenchmarkBlocksBoth(b *testing.B) { benchStream(b, aplog.ArduPilot, aplog.Both) }

func BenchmarkULog(b *testing.B)     { benchStream(b, aplog.PX4, aplog.Stream) }
func BenchmarkULogBoth(b *testing.B) { benchStream(b, aplog.PX4, aplog.Both) }

func benchStream(b *testing.B, flavour uint8, mode aplog.Mode) {
	w := &wild{t: b, now: time.Second, ends: map[int]bool{}, armed: true}
	l := aplog.New(aplog.Config{Out: w, Store: w, Now: func() time.Duration { return w.now }, Mode: mode})
	frame := &mavlink.Frame{System: 1, Component: 1}
	heart := &ap.MessageHeartbeat{Autopilot: ap.MAV_AUTOPILOT(flavour), BaseMode: ap.MAV_MODE_FLAG_SAFETY_ARMED}
	l.SetAutopilot(1, flavour)
	l.SetArmed(true)
	l.Handle(heart, frame)
	l.Step(w.now)
	log := flightLog(flavour, 1, 2_000_000)
	block := &ap.MessageRemoteLogDataBlock{TargetSystem: 1, TargetComponent: 155}
	data := &ap.MessageLoggingData{TargetSystem: 1, TargetComponent: 191, Length: 249}
	at, n, seq := 0, 200, 0
	if flavour == aplog.PX4 {
		n = 249
	}
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		if at+n > len(log) {
			at = 16 // the ULog's message does not begin here; the cost is the same
		}
		if flavour == aplog.PX4 {
			data.Sequence = uint16(seq)
			copy(data.Data[:], log[at:])
			l.Handle(data, frame)
		} else {
			block.Seqno = ap.MAV_REMOTE_LOG_DATA_BLOCK_COMMANDS(seq)
			copy(block.Data[:], log[at:])
			l.Handle(block, frame)
		}
		at += n
		if seq++; seq%16 == 0 {
			w.now += 20 * time.Millisecond
			l.Handle(heart, frame)
			l.Step(w.now)
		}
	}
	if w.put < (b.N-200)*n {
		b.Errorf("%d of %d bytes were put", w.put, b.N*n)
	}
}
