package aplog_test

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/aplog"
	"holdfast/mavlink"
	"holdfast/storage/segment"
)

// wild is a link and a Store for replies that make no sense. Nothing is kept.
type wild struct {
	t     testing.TB
	now   time.Duration
	armed bool
	heard time.Duration
	full  bool
	put   int
	n     uint64
	ends  map[int]bool
}

func (w *wild) Send(_ uint8, m message.Message) bool {
	if pullRequest(m) && (w.armed || w.now-w.heard > 6*time.Second) {
		w.t.Errorf("%T while armed %v, %v after the newest heartbeat", m, w.armed, w.now-w.heard)
	}
	return !w.full
}

func (w *wild) Put(f segment.File, data []byte) (uint64, bool) {
	if w.full {
		return 0, false
	}
	if w.ends[f.ID] || len(data) > 32<<10 || f.Offset < 0 || len(f.Lost) > 300 {
		w.t.Errorf("file %d: behind its end: %v; %d bytes at %d, %d lost", f.ID, w.ends[f.ID], len(data), f.Offset, len(f.Lost))
	}
	w.ends[f.ID] = f.End
	w.put += len(data)
	w.n++
	return w.n - 1, true
}

func (w *wild) Confirm()                   {}
func (w *wild) Confirmed() (uint64, error) { return w.n, nil }

// feed is the bytes of a fuzz input, zeros behind its end.
type feed []byte

func (f *feed) byte() byte {
	if len(*f) == 0 {
		return 0
	}
	b := (*f)[0]
	*f = (*f)[1:]
	return b
}

func (f *feed) u16() uint16 { return binary.LittleEndian.Uint16([]byte{f.byte(), f.byte()}) }

// u32 favours small numbers, as replies have them, and reaches all.
func (f *feed) u32() uint32 {
	switch f.byte() % 4 {
	case 0:
		return uint32(f.byte())
	case 1:
		return uint32(f.u16())
	case 2:
		return uint32(f.u16()) << 4
	}
	return uint32(f.u16()) | uint32(f.u16())<<16
}

func (f *feed) fill(p []byte) {
	for i := range p {
		p[i] = f.byte()
	}
}

func (f *feed) message(kind byte) message.Message {
	switch kind {
	case 0:
		return &ap.MessageLogEntry{Id: uint16(f.u32()), NumLogs: uint16(f.u32()), LastLogNum: f.u16(), TimeUtc: f.u32(), Size: f.u32()}
	case 1:
		m := &ap.MessageLogData{Id: uint16(f.u32()), Ofs: f.u32(), Count: f.byte()}
		f.fill(m.Data[:4])
		return m
	case 2:
		m := &ap.MessageFileTransferProtocol{TargetSystem: 1, TargetComponent: 191}
		f.fill(m.Payload[:40])
		return m
	case 3:
		m := &ap.MessageRemoteLogDataBlock{TargetSystem: 1, TargetComponent: 155, Seqno: ap.MAV_REMOTE_LOG_DATA_BLOCK_COMMANDS(f.u32())}
		f.fill(m.Data[:6])
		return m
	case 4:
		m := &ap.MessageLoggingData{TargetSystem: 1, TargetComponent: 191, Sequence: uint16(f.u32()), Length: f.byte(), FirstMessageOffset: f.byte()}
		f.fill(m.Data[:20])
		return m
	case 5:
		m := &ap.MessageLoggingDataAcked{TargetSystem: 1, TargetComponent: 191, Sequence: uint16(f.u32()), Length: f.byte(), FirstMessageOffset: f.byte()}
		copy(m.Data[:], "ULog\x01\x12\x35")
		f.fill(m.Data[7:20])
		return m
	case 6:
		return &ap.MessageCommandAck{Command: common.MAV_CMD_LOGGING_START + common.MAV_CMD(f.byte()%2), Result: common.MAV_RESULT(f.byte() % 8)}
	case 7:
		return &ap.MessageSystemTime{TimeBootMs: f.u32()}
	case 8:
		return &ap.MessageStatustext{Text: "Arm: Logging: downloading logs"}
	}
	return &ap.MessageAutopilotVersion{Capabilities: ap.MAV_PROTOCOL_CAPABILITY(f.u16())}
}

// drive does what the input says.
func (w *wild) drive(l *aplog.Logs, in *feed, flavour uint8) {
	for len(*in) > 0 {
		switch k := in.byte(); {
		case k < 160:
			l.Handle(in.message(k%10), &mavlink.Frame{System: 1, Component: mavlink.ComponentID(1 + 154*(k%10/3%2))})
		case k < 180:
			w.now += time.Duration(in.byte()) * 50 * time.Millisecond
		case k < 190:
			w.full = k%2 == 0
		case k < 200:
			w.armed = k%2 == 0
			l.SetArmed(w.armed)
		case k < 230:
			w.heard = w.now
			h := &ap.MessageHeartbeat{Autopilot: ap.MAV_AUTOPILOT(flavour)}
			if w.armed {
				h.BaseMode = ap.MAV_MODE_FLAG_SAFETY_ARMED
			}
			l.Handle(h, &mavlink.Frame{System: 1, Component: 1})
		case k == 230:
			l.Known(in.u16(), in.u32(), in.u32())
		default:
			w.now += time.Millisecond
		}
		if next := l.Step(w.now); next < w.now {
			w.t.Fatalf("Step(%v) wants to be called at %v", w.now, next)
		}
	}
}

// FuzzReplies: whatever comes, nothing panics, nothing is asked of an armed vehicle or of a silent
// one, no file goes on behind its end, and memory stays within its bounds.
func FuzzReplies(f *testing.F) {
	f.Add([]byte{190, 200, 191, 200, 180, 255, 200, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 2, 1, 1, 0, 1, 0, 0, 90}, false)
	f.Add([]byte{190, 200, 200, 161, 200, 200, 165, 100, 200, 3, 0, 0, 1, 2, 3, 4, 5, 6}, true)
	f.Add(append([]byte{200, 192, 200, 5, 0, 0, 249, 0}, make([]byte, 300)...), true)
	for _, px4 := range []bool{false, true} { // a whole list, then pieces of the log, by numbers that fit
		in := []byte{191, 200, 170, 255, 200, 170, 20, 200}
		in = append(in, 0, 0, 1, 0, 1, 1, 0, 1, 10, 3, 0, 0, 1, 0)
		for i := range byte(20) {
			in = append(in, 1, 0, 1, 2, 45*i/8, i, 90, 1, 2, 3, 4, 240, 161, 2, 200)
		}
		f.Add(in, px4)
	}
	f.Fuzz(func(t *testing.T, in []byte, px4 bool) {
		if len(in) > 1<<14 {
			return
		}
		flavour := uint8(aplog.ArduPilot)
		if px4 {
			flavour = aplog.PX4
		}
		w := &wild{t: t, now: time.Second, ends: map[int]bool{}}
		l := aplog.New(aplog.Config{Out: w, Store: w, Now: func() time.Duration { return w.now }, Mode: aplog.Both, Erase: true})
		l.SetAutopilot(1, flavour)
		rest := feed(in)
		w.drive(l, &rest, flavour)
		w.full = false
		if !l.Close() {
			t.Error("Close is not done with a Store that has room")
		}
	})
}

// TestFlood: a vehicle that sends as much as it can of whatever it likes fills no memory.
func TestFlood(t *testing.T) {
	for name, flavour := range flavours {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, flavour, 9, func(c *aplog.Config) { c.Mode, c.Store = aplog.Both, &wild{t: t, ends: map[int]bool{}} })
			r.v.logs = []vlog{{1, content(1, 3_000_000), ""}}
			r.v.streams(flightLog(flavour, 1, 500_000), 12_000)
			r.run(9*time.Second, nil)
			before := heap()
			for i := range uint32(2_000_000) {
				in := feed(binary.LittleEndian.AppendUint64(nil, uint64(r.rng.Uint64())))
				m := in.message(byte(i % 10))
				switch m := m.(type) {
				case *ap.MessageLogEntry:
					m.NumLogs = 65535
					m.Id = uint16(i)
				case *ap.MessageLogData:
					*m = ap.MessageLogData{Id: 0, Ofs: i * 2 % 500_000, Count: 1}
					if flavour == aplog.ArduPilot {
						m.Id = 1
					}
				case *ap.MessageStatustext, *ap.MessageSystemTime:
					continue
				}
				r.logs.Handle(m, &mavlink.Frame{System: 1, Component: mavlink.ComponentID(1 + 154*(i%2))})
				if i%1000 == 0 {
					r.now += time.Millisecond
					r.step()
				}
			}
			// Pulling, comparing, and what is held of ArduPilot's stream before a flight: 1 MiB, in
			// memory that grows by doubling.
			if grown := heap() - before; grown > 5<<20 {
				t.Errorf("%d bytes more", grown)
			}
			runtime.KeepAlive(r)
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
