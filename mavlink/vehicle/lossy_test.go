package vehicle_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/codec"
	"holdfast/mavlink/vehicle"
)

func TestLossyLosesItsShare(t *testing.T) {
	c := codec.New()
	beat, err1 := c.Encode(1, 1, 0, &common.MessageHeartbeat{})
	logData, err2 := c.Encode(1, 1, 0, &common.MessageLogData{Count: 90})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	fate := func(seed uint64, kinds vehicle.LossKinds) (fates []bool, lost map[string]int) {
		l, err := vehicle.NewLossy(vehicle.Loss{Probability: 0.2, Seed: seed, Kinds: kinds})
		if err != nil {
			t.Fatal(err)
		}
		lost = map[string]int{}
		for i := range 20_000 {
			raw, name := beat, "beat"
			if i%2 == 1 {
				raw, name = logData, "log"
			}
			ok := l.Pass(0, vehicle.FromVehicle, raw)
			fates = append(fates, ok)
			if !ok {
				lost[name]++
			}
		}
		if int(l.Lost(vehicle.FromVehicle)) != lost["beat"]+lost["log"] || l.Lost(vehicle.ToVehicle) != 0 {
			t.Errorf("counts %d, %v", l.Lost(vehicle.FromVehicle), lost)
		}
		return fates, lost
	}
	all, n := fate(1, vehicle.LoseAll)
	if n["beat"] < 1850 || n["beat"] > 2150 || n["log"] < 1850 || n["log"] > 2150 {
		t.Errorf("lost %v of 10000 each", n)
	}
	if again, _ := fate(1, vehicle.LoseAll); !equal(all, again) {
		t.Error("the same seed gives another fate")
	}
	if other, _ := fate(2, vehicle.LoseAll); equal(all, other) {
		t.Error("another seed gives the same fate")
	}
	if _, n := fate(1, vehicle.LoseLogs); n["beat"] != 0 || n["log"] < 1850 {
		t.Errorf("of logs alone: %v", n)
	}
}

func equal(a, b []bool) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestLossyCut(t *testing.T) {
	l, err := vehicle.NewLossy(vehicle.Loss{Cuts: []vehicle.Cut{{From: 2 * time.Second, Length: time.Second}, {From: math.MaxInt64, Length: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Duration]bool{0: true, 2*time.Second - 1: true, 2 * time.Second: false, 3*time.Second - 1: false, 3 * time.Second: true} {
		for _, d := range []vehicle.Direction{vehicle.FromVehicle, vehicle.ToVehicle} {
			if l.Pass(at, d, nil) != want {
				t.Errorf("at %v, direction %v: not %v", at, d, want)
			}
		}
	}
}

func TestLossyRefusals(t *testing.T) {
	for _, l := range []vehicle.Loss{{Probability: -0.1}, {Probability: 1.1}, {Probability: math.NaN()}, {Cuts: []vehicle.Cut{{From: -1}}}, {Cuts: []vehicle.Cut{{Length: -1}}}} {
		if _, err := vehicle.NewLossy(l); !errors.Is(err, vehicle.ErrOption) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	for name, want := range map[string]error{"all": nil, "log": nil, "some": vehicle.ErrOption, "": vehicle.ErrOption} {
		if _, err := vehicle.ParseLossKinds(name); !errors.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// talk has a conversation in which everything is asked, and digests what the vehicle said.
func talk(t *testing.T, o vehicle.Options) (digest [32]byte, frames int) {
	t.Helper()
	o.Duration, o.After, o.FTP, o.LogSize = 13*time.Second, 25*time.Second, true, 10_000
	b := newBoard(t, o, vehicle.Loss{Probability: 0.05, Seed: 9})
	var all bytes.Buffer
	if o.Stack == vehicle.PX4 {
		newULogTaker(b)
		b.say(boardID, order(2510, 0))
	} else {
		newBlockTaker(b)
	}
	b.run(11*time.Second, nil)
	newPuller(b).all(35 * time.Second)
	for e, ok := b.v.Next(); ok; e, ok = b.v.Next() {
		all.Write(e.Raw)
		frames++
	}
	return sha256.Sum256(all.Bytes()), frames
}

// The same things heard at the same times give the same frames.
func TestSameTalkSameBytes(t *testing.T) {
	for _, stack := range stacks {
		a, n := talk(t, vehicle.Options{Stack: stack})
		if b, m := talk(t, vehicle.Options{Stack: stack}); a != b || n != m || n < 1000 {
			t.Errorf("%v: %d frames and %d, the same: %v", stack, n, m, a == b)
		}
	}
}

// With nobody speaking and nothing switched on, the frames are those of the first release.
func TestSilentFramesStay(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("floating point differs between architectures")
	}
	for _, tt := range []struct {
		o    vehicle.Options
		want string
	}{
		{vehicle.Options{Seed: 5, Duration: 14 * time.Second, Camera: true}, "c9d58cec60d263b5a969a6ac312f0ac427c0cf9c962a89d17d22d072658cacb6"},
		{vehicle.Options{Seed: 5, Duration: 40 * time.Second, Stack: vehicle.PX4}, "f77f4c8888a64c6419657d3afd12a8f20f6ad036bea97c2814513758efa1f5cd"},
	} {
		if d := digest(t, tt.o, 0); hex.EncodeToString(d[:]) != tt.want {
			t.Errorf("%+v: %x", tt.o, d)
		}
	}
}

// everyRequest is one of each message the vehicle acts on.
func everyRequest() []message.Message {
	ftp := func(op byte, name string) message.Message {
		m := &common.MessageFileTransferProtocol{TargetSystem: 1, TargetComponent: 1}
		m.Payload[0], m.Payload[3], m.Payload[4] = op*3, op, byte(len(name))
		copy(m.Payload[12:], name)
		return m
	}
	return []message.Message{
		&common.MessageHeartbeat{Type: 18, SystemStatus: 4, CustomMode: 1}, &common.MessageTimesync{Ts1: 5},
		order(512, 148), order(511, 30, 5000), order(510, 30), order(2510), order(2511),
		&common.MessageCommandAck{Command: 3001, TargetSystem: 1}, &common.MessageRequestDataStream{TargetSystem: 1, ReqMessageRate: 2, StartStop: 1},
		&common.MessageParamRequestList{TargetSystem: 1}, &common.MessageParamRequestRead{TargetSystem: 1, ParamIndex: 2},
		&common.MessageParamSet{TargetSystem: 1, ParamId: "MAV_TYPE", ParamValue: 2},
		&common.MessageMissionRequestList{TargetSystem: 1}, &common.MessageMissionRequestInt{TargetSystem: 1, Seq: 3}, &common.MessageMissionRequest{Seq: 1},
		&ardupilotmega.MessageRemoteLogBlockStatus{TargetSystem: 1, Seqno: 2147483646, Status: 1},
		&ardupilotmega.MessageRemoteLogBlockStatus{TargetSystem: 1, Seqno: 0, Status: 1}, &common.MessageLoggingAck{TargetSystem: 1},
		&common.MessageLogRequestList{TargetSystem: 1, End: 0xFFFF}, &common.MessageLogRequestData{TargetSystem: 1, Id: 1, Count: 3000},
		&common.MessageLogRequestEnd{TargetSystem: 1}, ftp(3, "/APM/LOGS"), ftp(4, "/APM/LOGS/00000001.BIN"), ftp(15, ""), ftp(5, "x"),
		ftp(14, "/APM/LOGS/00000002.BIN"), ftp(8, "/APM/LOGS/00000001.BIN"), ftp(1, ""), &common.MessageLogErase{TargetSystem: 1},
	}
}

// framed is a frame of any id and payload, its checksum right where the id is known.
func framed(id uint32, payload []byte) []byte {
	payload = payload[:min(len(payload), 255)]
	b := append([]byte{0xFD, byte(len(payload)), 0, 0, 0, 1, 191, byte(id), byte(id >> 8), byte(id >> 16)}, payload...)
	extra, _ := mavlink.CRCExtra(id & 0xFFFFFF)
	return binary.LittleEndian.AppendUint16(b, mavlink.Checksum(append(bytes.Clone(b[1:]), extra)))
}

func checkFrame(t *testing.T, raw []byte) {
	t.Helper()
	if f, ok := mavlink.ParseFrame(raw); !ok || !f.ChecksumOK() || len(f.Raw) != len(raw) {
		t.Fatalf("bad frame %x", raw)
	}
}

// FuzzHear holds for whatever is sent to the vehicle: it goes on and sends good frames.
func FuzzHear(f *testing.F) {
	c := codec.New()
	for _, m := range everyRequest() {
		raw, err := c.Encode(1, 191, 0, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.GetID(), raw[10:len(raw)-2], uint8(0))
		f.Add(m.GetID(), raw[10:len(raw)-2], uint8(3))
	}
	f.Fuzz(func(t *testing.T, id uint32, payload []byte, kind uint8) {
		o := vehicle.Options{
			Stack: stacks[kind&1], Seed: 1, Duration: 700 * time.Millisecond, FTP: true, LogSize: 3000,
			Malformed: kind&2 != 0, ArmAuth: kind&5 == 5, AuxAuth: kind&5 == 4,
		}
		v, err := vehicle.New(o)
		if err != nil {
			t.Fatal(err)
		}
		at := 100 * time.Millisecond
		for _, m := range everyRequest() {
			raw, _ := c.Encode(1, 191, 0, m)
			v.Hear(at, raw)
			at += 5 * time.Millisecond
		}
		v.Hear(at, framed(id, payload))
		v.Hear(at, payload)
		for e, ok := v.Next(); ok; e, ok = v.Next() {
			checkFrame(t, e.Raw)
		}
		if err := v.Err(); err != nil {
			t.Fatal(err)
		}
	})
}
