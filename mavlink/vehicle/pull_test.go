package vehicle_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/vehicle"
)

const boardID = 191

// puller fetches logs by LOG_REQUEST_LIST and LOG_REQUEST_DATA, asks again for holes and
// takes nothing that cannot be right.
type puller struct {
	b      *board
	sizes  map[uint16]uint32
	count  int // of logs; -1 until known
	files  map[uint16]*bytesWithHoles
	id     uint16
	news   time.Duration // of the last progress
	asked  time.Duration
	badOne int // replies thrown away
}

func newPuller(b *board) *puller {
	p := &puller{b: b, sizes: map[uint16]uint32{}, count: -1, files: map[uint16]*bytesWithHoles{}}
	b.hear = p.hear
	return p
}

func (p *puller) hear(_ *mavlink.Frame, m message.Message) {
	switch m := m.(type) {
	case *common.MessageLogEntry:
		if int(m.Id) > int(m.LastLogNum) {
			p.badOne++
			return
		}
		p.count, p.news = int(m.NumLogs), p.b.at
		if m.NumLogs > 0 {
			p.sizes[m.Id] = m.Size
		}
	case *common.MessageLogData:
		f := p.files[m.Id]
		if f == nil || m.Id != p.id || m.Count > 90 || !f.put(uint64(m.Ofs), m.Data[:m.Count]) {
			p.badOne++
			return
		}
		p.news = p.b.at
	}
}

func (p *puller) listed() bool { return p.count >= 0 && len(p.sizes) == p.count }

func (p *puller) list() {
	if !p.listed() && p.b.at-max(p.asked, p.news) > 300*time.Millisecond {
		p.asked = p.b.at
		p.b.say(boardID, &common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, End: 0xFFFF})
	}
}

// fetch asks for the first hole of a log and tells when there is none.
func (p *puller) fetch(id uint16) bool {
	f := p.files[id]
	if f == nil {
		f = newHoles(int(p.sizes[id]))
		p.files[id], p.id = f, id
	}
	if f.left == 0 {
		return true
	}
	if p.b.at-max(p.asked, p.news) > 250*time.Millisecond {
		p.asked = p.b.at
		from, to := f.hole()
		p.b.say(boardID, &common.MessageLogRequestData{TargetSystem: 1, TargetComponent: 1, Id: id, Ofs: uint32(from), Count: uint32(to - from)})
	}
	return false
}

// all lists and fetches everything.
func (p *puller) all(until time.Duration) {
	p.b.t.Helper()
	p.b.tick = p.list
	p.b.run(until, p.listed)
	for _, id := range slices.Sorted(maps.Keys(p.sizes)) {
		p.b.tick = func() { p.fetch(id) }
		if p.fetch(id) {
			continue // an empty log
		}
		p.b.run(until, func() bool { return p.files[id].left == 0 })
	}
}

var losses = []float64{0, 0.01, 0.1}

// Each log, also the one just flown, comes over byte for byte, whatever the line loses and
// though it was cut in the middle.
func TestPullWithLoss(t *testing.T) {
	for _, stack := range stacks {
		for _, p := range losses {
			t.Run(fmt.Sprintf("%v/%v", stack, p), func(t *testing.T) {
				o := vehicle.Options{Stack: stack, Seed: 2, Duration: 13 * time.Second, After: 3 * time.Minute, LogSize: 30_000, EmptyLog: true, LogRate: 3000}
				b := newBoard(t, o, vehicle.Loss{Probability: p, Seed: 11, Cuts: []vehicle.Cut{{From: 14 * time.Second, Length: 4 * time.Second}}})
				b.run(12*time.Second, nil)
				if b.v.State().Armed {
					t.Fatal("still armed")
				}
				c := newPuller(b)
				c.all(3 * time.Minute)
				checkPulled(t, b, c, 4)
				n := b.v.Counts()
				if n.LogRequestsArmed != 0 || n.LogRequests < 4 || n.PulledBytes < 70_000 || n.ParamSets != nil {
					t.Errorf("%+v", n)
				}
				if b.line.Lost(vehicle.FromVehicle) == 0 {
					t.Error("nothing was lost")
				}
			})
		}
	}
}

func checkPulled(t *testing.T, b *board, c *puller, logs int) {
	t.Helper()
	all := b.v.Logs()
	if len(all) != logs || len(c.files) != logs {
		t.Fatalf("%d logs, %d pulled, want %d", len(all), len(c.files), logs)
	}
	for _, l := range all {
		sameBytes(t, l.Path, c.files[l.ID].data, l.Data)
	}
	if last := all[len(all)-1].Data; len(last) < 15_000 {
		t.Errorf("the flight left %d bytes", len(last))
	}
}

func TestPullMalformed(t *testing.T) {
	for _, stack := range stacks {
		o := vehicle.Options{Stack: stack, Duration: 13 * time.Second, After: time.Minute, LogSize: 20_000, LogRate: 1500, Malformed: true}
		b := newBoard(t, o, vehicle.Loss{})
		b.run(12*time.Second, nil)
		c := newPuller(b)
		c.all(time.Minute)
		if c.badOne < 100 {
			t.Errorf("%d bad replies", c.badOne)
		}
		for _, l := range b.v.Logs() {
			sameBytes(t, l.Path, c.files[l.ID].data, l.Data)
		}
	}
}

// ArduPilot answers nothing while armed and says why; PX4 answers. Both count.
func TestPullWhileArmed(t *testing.T) {
	for _, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 20 * time.Second}, vehicle.Loss{})
		entries, texts := collect[*common.MessageLogEntry](b), collect[*common.MessageStatustext](b)
		b.run(8*time.Second, nil)
		if !b.v.State().Armed {
			t.Fatal("not armed")
		}
		b.say(boardID, &common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, End: 0xFFFF})
		b.say(boardID, &common.MessageLogRequestEnd{TargetSystem: 1, TargetComponent: 1})
		b.say(boardID, &common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, End: 0xFFFF})
		b.run(9*time.Second, nil)
		b.say(boardID, &common.MessageLogErase{TargetSystem: 1, TargetComponent: 1})
		b.run(10*time.Second, nil)
		said := 0
		for _, s := range *texts {
			if s.Text == "Disarm for log download" {
				said++
			}
		}
		n := b.v.Counts()
		if n.LogRequests != 3 || n.LogRequestsArmed != 3 {
			t.Errorf("%v: %+v", stack, n)
		}
		if copter := stack == vehicle.ArduPilot; copter != (len(*entries) == 0) || copter != (said == 1) || copter != (n.LogErases == 0) {
			t.Errorf("%v: %d entries, said %d times, %d erased", stack, len(*entries), said, n.LogErases)
		}
	}
}

// What is asked for that is not there, or before its time, is answered as the stacks do.
func TestPullOddRequests(t *testing.T) {
	data := func(id uint16, ofs, count uint32) message.Message {
		return &common.MessageLogRequestData{TargetSystem: 1, TargetComponent: 1, Id: id, Ofs: ofs, Count: count}
	}
	list := &common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, Start: 2, End: 2}
	for _, tt := range []struct {
		name        string
		ask         []message.Message
		copter, px4 int // LOG_DATA
	}{
		{"before a list", []message.Message{data(1, 0, 200)}, 3, 0},
		{"after a list", []message.Message{list, data(1, 0, 180)}, 2, 2},
		{"no such log", []message.Message{list, data(77, 0, 200), data(0xFFFF, 0, 200)}, 0, 0},
		{"behind the end", []message.Message{list, data(1, 1<<20, 200)}, 1, 0},
		{"across the end", []message.Message{list, data(1, 262_050, 0xFFFFFFFF)}, 2, 2},
		{"nothing", []message.Message{list, data(1, 0, 0)}, 1, 1},
		{"for somebody else", []message.Message{&common.MessageLogRequestData{TargetSystem: 2, TargetComponent: 1, Id: 1, Count: 90}}, 0, 0},
	} {
		for i, stack := range stacks {
			b := newBoard(t, vehicle.Options{Stack: stack, Duration: 9 * time.Second}, vehicle.Loss{})
			got := collect[*common.MessageLogData](b)
			for k, m := range tt.ask {
				b.run(time.Second+time.Duration(k)*100*time.Millisecond, nil)
				b.say(boardID, m)
			}
			b.run(3*time.Second, nil)
			if want := []int{tt.copter, tt.px4}[i]; len(*got) != want {
				t.Errorf("%s, %v: %d chunks, want %d", tt.name, stack, len(*got), want)
			}
		}
	}
}

func TestEraseAndList(t *testing.T) {
	for i, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 9 * time.Second, EmptyLog: true}, vehicle.Loss{})
		entries := collect[*common.MessageLogEntry](b)
		ask := func() {
			b.say(boardID, &common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, End: 0xFFFF})
			b.run(b.at+500*time.Millisecond, nil)
		}
		ask()
		if len(*entries) != 3 || (*entries)[1].Size != 0 || (*entries)[2].Size < 256<<10 || (*entries)[0].Id != uint16(1-i) || (*entries)[2].TimeUtc == 0 {
			t.Errorf("%v: %+v", stack, *entries)
		}
		b.say(boardID, &common.MessageLogErase{TargetSystem: 1, TargetComponent: 1})
		*entries = nil
		ask()
		// ArduPilot says that there is none, PX4 nothing.
		if len(b.v.Logs()) != 0 || len(*entries) != 1-i || i == 0 && (*entries)[0].NumLogs != 0 {
			t.Errorf("%v: %d logs, %+v", stack, len(b.v.Logs()), *entries)
		}
	}
}

func TestLogFileIsServed(t *testing.T) {
	file := bytes.Repeat([]byte("what somebody else recorded. "), 900)
	for _, stack := range stacks {
		o := vehicle.Options{Stack: stack, Duration: 13 * time.Second, After: time.Minute, OldLogs: -1, LogFile: file}
		b := newBoard(t, o, vehicle.Loss{})
		b.run(12*time.Second, nil)
		c := newPuller(b)
		c.all(time.Minute)
		if len(c.files) != 1 {
			t.Fatalf("%d logs", len(c.files))
		}
		for _, f := range c.files {
			sameBytes(t, stack.String(), f.data, file)
		}
	}
}
