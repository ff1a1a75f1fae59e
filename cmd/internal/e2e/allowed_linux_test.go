package e2e_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
)

// everyMessage fills each message of all dialects with random numbers. Half of those that have a
// target are for the autopilot of system 1.
func everyMessage(r *rand.Rand) (messages []message.Message) {
	for _, id := range slices.Sorted(mapKeys(coders())) {
		payload := make([]byte, 255)
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		m, err := coders()[id].Read(&message.MessageRaw{ID: id, Payload: payload}, true)
		if err != nil {
			continue
		}
		if r.IntN(2) == 0 {
			aim(m, 1, 1)
		}
		messages = append(messages, m)
	}
	return messages
}

func mapKeys[V any](m map[uint32]V) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// aim sets whom a message is for, where it has such a field.
func aim(m message.Message, sys, comp uint8) {
	v := reflect.ValueOf(m).Elem()
	for name, n := range map[string]uint8{"TargetSystem": sys, "TargetComponent": comp, "Target": sys} {
		if f := v.FieldByName(name); f.IsValid() && f.Kind() == reflect.Uint8 {
			f.SetUint(uint64(n))
		}
	}
}

// everyCommand is each command that has a name, to each component that a board has, in both forms.
func everyCommand(r *rand.Rand) (messages []message.Message) {
	for n := range 43100 {
		c := common.MAV_CMD(n)
		if !strings.HasPrefix(c.String(), "MAV_CMD") {
			continue
		}
		for _, comp := range []uint8{0, 100, 101, 191} {
			p := float32(r.IntN(4))
			messages = append(messages, &common.MessageCommandLong{TargetSystem: 1, TargetComponent: comp, Command: c, Param1: p, Param2: r.Float32(), Param3: p},
				&common.MessageCommandInt{TargetSystem: 1, TargetComponent: comp, Command: c, Param1: p, Param3: p})
		}
	}
	return messages
}

// manySenders are the vehicle, a ground station, a camera, another vehicle.
var manySenders = [][2]byte{{1, 1}, {1, 190}, {255, 190}, {1, 100}, {9, 1}}

// sayEverything sends every message and every command from every sender, but no heartbeat that
// would change the state.
func (c *controller) sayEverything(r *rand.Rand) {
	for _, from := range manySenders {
		messages := everyMessage(r)
		if from[1] == 190 {
			messages = append(messages, everyCommand(r)...)
		}
		for i, m := range messages {
			if m.GetID() != msgHeartbeat {
				c.say(from[0], from[1], m)
			}
			if i%8 == 0 { // so that what the board holds is not all lost at once
				<-time.After(time.Millisecond)
			}
		}
	}
}

// writeEverything writes every message into a share, as programs that say that they are this and
// that, and returns the frames.
func (p program) writeEverything(t testing.TB, r *rand.Rand, sys byte) (frames [][]byte) {
	t.Helper()
	for _, from := range [][2]byte{{sys, 50}, {1, 1}, {1, 191}} {
		for i, m := range everyMessage(r) {
			f := encode(byte(i), from[0], from[1], m)
			if _, err := p.Write(f); err != nil {
				t.Fatal(err)
			}
			frames = append(frames, f)
			<-time.After(2 * time.Millisecond)
		}
	}
	return frames
}

// TestNothingElseLeaves: whatever comes in, from the vehicle's side or by shares, nothing that is not
// on the list reaches the line. Of a share in read mode nothing does; of one in write mode exactly
// what its own list admits. All of it is in the record, with who it was from.
func TestNothingElseLeaves(t *testing.T) {
	t.Parallel()
	b := newBoard(t, "[policy]", "arming_veto = true", `autopilot_log = "both"`,
		"[[camera]]", `name = "cam"`, `command = ["sleep", "1000"]`, `format = "mjpeg"`, `start = "command"`,
		"[[share]]", `path = "rd"`, "[[share]]", `path = "wr"`, `mode = "write"`)
	c := b.controller()
	daemon := b.run()
	rd, wr := b.openShare("rd"), b.openShare("wr")
	waitFor(t, patience, "a heartbeat of the board", func() bool { return len(c.messages()) > 0 })
	var inRead, inWrite [][]byte
	r := rand.New(rand.NewPCG(11, 5))
	for _, armed := range []bool{false, true, false} {
		c.arm(armed)
		<-time.After(time.Second)
		c.sayEverything(r)
		if armed || inRead == nil {
			inRead = append(inRead, rd.writeEverything(t, r, 76)...)
			inWrite = append(inWrite, wr.writeEverything(t, r, 77)...)
		}
	}
	<-time.After(2 * time.Second) // the rest of what is answered, and the second of the refusals
	for _, p := range []program{rd, wr} {
		if _, err := p.Write(encode(0, 77, 50, &common.MessageTunnel{TargetSystem: 1, TargetComponent: 1, PayloadLength: 1})); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(time.Second)
	daemon.stop()
	c.stop()
	if code, _, _ := b.list(); code != 0 {
		t.Errorf("the vault after all that: code %d", code)
	}
	s := &sortie{board: b, records: b.open(0)}
	c.wantLeft(inRead, inWrite)
	s.wantRefusals("share:"+rd.path, inRead, func([]byte) bool { return false })
	list := shareList()
	s.wantRefusals("share:"+wr.path, inWrite, func(f []byte) bool { return list.CheckShare(f) == nil })
}

func shareList() *allow.List {
	list := allow.New(allow.Options{})
	list.SetSystem(1)
	return list
}

// wantLeft wants on the line what Holdfast may say, and what the share in write mode admits, in its
// order, and nothing else.
func (c *controller) wantLeft(inRead, inWrite [][]byte) {
	c.t.Helper()
	refused, passing := map[string]bool{}, map[string]bool{}
	for _, f := range inRead {
		refused[string(f)] = true
	}
	var want, got [][]byte
	list := shareList()
	for _, f := range inWrite {
		if list.CheckShare(f) == nil {
			want, passing[string(f)] = append(want, f), true
		} else {
			refused[string(f)] = true
		}
	}
	others, why := c.outside(allow.Options{Veto: true, Camera: true})
	for i, f := range others {
		if passing[string(f)] {
			got = append(got, f)
			continue
		}
		c.t.Errorf("went out: %v: %x", why[i], f)
	}
	frames, _ := c.frames()
	for _, f := range frames {
		if refused[string(f)] {
			c.t.Errorf("went out, and was refused: %x", f)
		}
	}
	if len(want) < 20 || !slices.EqualFunc(got, want, bytes.Equal) {
		c.t.Errorf("%d frames of the share in write mode went out, its list admits %d", len(got), len(want))
	}
	if acks := len(c.acks(common.MAV_CMD_REQUEST_CAMERA_INFORMATION)); acks == 0 {
		c.t.Error("no camera command was answered: the test says nothing")
	}
}

// wantRefusals wants each frame of an origin in sent.jsonl, with its outcome, or counted where there
// were too many in a second.
func (s *sortie) wantRefusals(origin string, frames [][]byte, admitted func([]byte) bool) {
	s.t.Helper()
	sent, refused, more := 0, 0, 0
	for _, l := range s.sentLines() {
		switch {
		case l.Origin != origin:
		case l.Outcome == "sent":
			sent++
		case l.Outcome == "refused":
			refused++
		default:
			s.t.Errorf("%+v", l)
		}
	}
	for _, r := range s.records {
		for _, e := range r.events {
			if n, ok := strings.CutPrefix(e.Detail, origin+": "); ok && e.Event == "sent_refused_more" {
				k, _ := strconv.Atoi(n)
				more += k
			}
		}
	}
	want := 0
	for _, f := range frames {
		if admitted(f) {
			want++
		}
	}
	refusedWant := len(frames) - want + 1 // and the last one, of TestNothingElseLeaves
	if sent != want || refused+more != refusedWant || refused == 0 {
		s.t.Errorf("%s: %d sent, %d refused and %d more; want %d and %d", origin, sent, refused, more, want, refusedWant)
	}
}
