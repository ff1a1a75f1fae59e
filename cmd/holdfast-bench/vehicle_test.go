package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/cmd/internal/cli"
	"holdfast/mavlink"
	"holdfast/mavlink/codec"
	"holdfast/mavlink/serial"
	"holdfast/mavlink/tlog"
	"holdfast/mavlink/vehicle"
)

// board is an onboard computer on the line, in real time.
type board struct {
	t       *testing.T
	port    *serial.Port
	codec   *codec.Codec
	scanner *mavlink.Scanner
	began   time.Time
	seq     byte
	sent    [][]byte
	hear    func(message.Message)
}

func newBoard(t *testing.T, link string) *board {
	b := &board{t: t, port: opened(t, link), codec: codec.New(), began: time.Now(), hear: func(message.Message) {}}
	b.scanner = mavlink.NewScanner(b)
	return b
}

func (b *board) Frame(f *mavlink.Frame) {
	if m, err := b.codec.Decode(f); err == nil {
		b.hear(m)
	}
}

func (b *board) Noise(n *mavlink.Noise) { b.t.Errorf("%d bytes in no frame", len(n.Data)) }

func (b *board) say(m message.Message) {
	b.t.Helper()
	raw, err := b.codec.Encode(1, 191, b.seq, m)
	if err != nil {
		b.t.Fatal(err)
	}
	b.seq++
	if _, err := b.port.Write(raw); err != nil {
		b.t.Fatal(err)
	}
	b.sent = append(b.sent, raw)
}

// listen reads until done says so.
func (b *board) listen(done func() bool) {
	b.t.Helper()
	buf := make([]byte, 16<<10)
	for deadline := time.Now().Add(patience); !done(); {
		n, err := b.port.Read(buf, 20*time.Millisecond)
		if err != nil && !errors.Is(err, serial.ErrSilent) || time.Now().After(deadline) {
			b.t.Fatalf("not done: %v", err)
		}
		b.scanner.Write(time.Since(b.began), buf[:n])
	}
}

// report is what the command tells at its end.
type report struct {
	Frames  uint64
	Vehicle vehicleSummary
}

func parseReport(t *testing.T, text []byte) (r report) {
	t.Helper()
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return r
}

// pulled fetches one log over a line that loses a tenth of all frames.
func (b *board) pulled(id uint16, size uint32) []byte {
	data, have, left := make([]byte, size), make([]bool, size), int(size)
	news := time.Time{}
	b.hear = func(m message.Message) {
		d, ok := m.(*common.MessageLogData)
		if !ok || d.Id != id || int(d.Ofs)+int(d.Count) > len(data) {
			return
		}
		news = time.Now()
		for i := range int(d.Count) {
			if at := int(d.Ofs) + i; !have[at] {
				have[at], data[at], left = true, d.Data[i], left-1
			}
		}
	}
	b.listen(func() bool {
		if left > 0 && time.Since(news) > 200*time.Millisecond {
			from := uint32(bytes.IndexByte(boolBytes(have), 0))
			b.say(&common.MessageLogRequestData{TargetSystem: 1, TargetComponent: 1, Id: id, Ofs: from, Count: size - from})
			news = time.Now()
		}
		return left == 0
	})
	return data
}

func boolBytes(b []bool) []byte {
	out := make([]byte, len(b))
	for i := range b {
		if b[i] {
			out[i] = 1
		}
	}
	return out
}

// landed waits until the vehicle says that it was armed and is no more.
func (b *board) landed() {
	was, is := false, false
	b.hear = func(m message.Message) {
		if h, ok := m.(*common.MessageHeartbeat); ok && h.Autopilot != common.MAV_AUTOPILOT_INVALID {
			is = h.BaseMode&common.MAV_MODE_FLAG_SAFETY_ARMED != 0
			was = was || is
		}
	}
	b.listen(func() bool { return was && !is })
}

// list asks for the logs until it has them all.
func (b *board) list() map[uint16]uint32 {
	sizes, count, asked := map[uint16]uint32{}, -1, time.Time{}
	b.hear = func(m message.Message) {
		if e, ok := m.(*common.MessageLogEntry); ok {
			sizes[e.Id], count = e.Size, int(e.NumLogs)
		}
	}
	b.listen(func() bool {
		if time.Since(asked) > 300*time.Millisecond {
			b.say(&common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, End: 0xFFFF})
			asked = time.Now()
		}
		return len(sizes) == count
	})
	return sizes
}

// The logs of both autopilots come over a real line that loses frames byte for byte, and
// everything that was said to the vehicle is kept and counted.
func TestVehicleAnswers(t *testing.T) {
	for _, stack := range []string{"ardupilot", "px4"} {
		t.Run(stack, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			link, kept, heard := filepath.Join(dir, "fc"), filepath.Join(dir, "logs"), filepath.Join(dir, "heard.tlog")
			c, stdout, stderr := child(t, "vehicle", "--pty", link, "--stack", stack, "--duration", "3s", "--after", "60s", "--json",
				"--old-logs", "1", "--log-size", "9000", "--loss", "0.1", "--loss-seed", "7", "--keep-logs", kept, "--sent-to-vehicle", heard,
				"--start", "2026-05-01T09:00:00Z")
			b := newBoard(t, link)
			b.landed()
			for i := range 60 { // enough for the line to lose some
				b.say(&common.MessageTimesync{Ts1: int64(i + 1)})
			}
			got := map[string]bool{}
			for id, size := range b.list() {
				got[string(b.pulled(id, size))] = true
			}
			if err := c.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if n := code(t, c); n != cli.Interrupted || stderr.Len() > 0 {
				t.Fatalf("code %d, %q", n, stderr)
			}
			checkKept(t, kept, got)
			checkHeard(t, heard, b.sent)
			r := parseReport(t, stdout.Bytes()).Vehicle
			if r.LogRequestsArmed != 0 || r.LogRequests == 0 || r.PulledBytes < 9000 || r.LostFromVehicle == 0 || r.LostToVehicle == 0 || len(r.Logs) != 2 || r.NoiseBytes != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// checkKept holds the logs that were pulled against those the autopilot had.
func checkKept(t *testing.T, dir string, pulled map[string]bool) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != len(pulled) || len(files) != 2 {
		t.Fatalf("%d files, %d pulled, %v", len(files), len(pulled), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil || !pulled[string(data)] || len(data) < 5000 {
			t.Errorf("%s, %d bytes, was not pulled: %v", f.Name(), len(data), err)
		}
	}
}

// checkHeard reads the .tlog of what the vehicle was sent: all of it, lost on the line or not.
func checkHeard(t *testing.T, name string, sent [][]byte) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := tlog.NewReader(file)
	for i := 0; ; i++ {
		item, err := r.Next()
		if err == io.EOF {
			if i != len(sent) {
				t.Errorf("%d frames in the tlog, %d were sent", i, len(sent))
			}
			return
		}
		if err != nil || !item.Entry || i >= len(sent) || !bytes.Equal(item.Raw, sent[i]) {
			t.Fatalf("entry %d: %+v, %v", i, item, err)
		}
		if at := time.UnixMicro(int64(item.TimeUsec)).UTC(); at.Format("2006-01-02T15") != "2026-05-01T09" {
			t.Errorf("entry %d is of %v", i, at)
		}
	}
}

// What is asked while armed is counted as that, and without --json told on stderr.
func TestVehicleCountsRequestsWhileArmed(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "fc")
	c, stdout, stderr := child(t, "vehicle", "--pty", link, "--duration", "3s", "--gcs", "200ms,REQUEST_MESSAGE,102,259", "--trigger", "300ms")
	b := newBoard(t, link)
	armed, orders, triggers := false, 0, 0
	b.hear = func(m message.Message) {
		switch m := m.(type) {
		case *common.MessageHeartbeat:
			armed = m.BaseMode&common.MAV_MODE_FLAG_SAFETY_ARMED != 0
		case *common.MessageCommandLong:
			if m.Command == common.MAV_CMD_REQUEST_MESSAGE && m.TargetComponent == 102 && m.Param1 == 259 {
				orders++
			}
		case *common.MessageCameraTrigger:
			triggers++
		}
	}
	b.listen(func() bool { return armed })
	b.say(&common.MessageLogRequestList{TargetSystem: 1, TargetComponent: 1, End: 0xFFFF})
	if _, err := b.port.Write([]byte("noise")); err != nil {
		t.Fatal(err)
	}
	readAll(t, b.port)
	if n := code(t, c); n != cli.OK || !strings.HasPrefix(stdout.String(), "sent ") || strings.Count(stderr.String(), "\n") != 1 {
		t.Fatalf("code %d, %q, %q", n, stdout, stderr)
	}
	var r vehicleSummary
	if err := json.Unmarshal(stderr.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.LogRequestsArmed != 1 || r.Heard != 1 || r.HeardBy["191/LOG_REQUEST_LIST"] != 1 || r.NoiseBytes != 5 || orders != 1 || triggers != 1 {
		t.Errorf("%d orders, %d triggers, %+v", orders, triggers, r)
	}
}

// A board that floods the line holds up neither itself nor the flight.
func TestVehicleFlooded(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "fc")
	c, stdout, _ := child(t, "vehicle", "--pty", link, "--duration", "1500ms", "--json")
	p := opened(t, link)
	flood := make(chan int)
	go func() {
		junk, n := bytes.Repeat([]byte{0xFD, 0x20}, 1000), 0
		for {
			k, err := p.Write(junk)
			n += k
			if err != nil {
				flood <- n
				return
			}
		}
	}()
	readAll(t, p)
	if n := code(t, c); n != cli.OK {
		t.Fatalf("code %d", n)
	}
	wrote, r := <-flood, parseReport(t, stdout.Bytes())
	if wrote < 100_000 || r.Vehicle.NoiseBytes == 0 || r.Frames < 900 {
		t.Errorf("wrote %d bytes, %d frames came, %d bytes of noise heard", wrote, r.Frames, r.Vehicle.NoiseBytes)
	}
}

func TestVehicleFlags(t *testing.T) {
	f := &vehicleFlags{stack: "px4", kinds: "log", cuts: []string{"40s,5s", "1m,0s"}, jumps: []string{"20s,-1h"}, orders: []string{
		"12s,IMAGE_START_CAPTURE,100,0,2,5", "1s,mav_cmd_storage_format,101,1,1", "2s,512,103,262", "3s,2001",
	}, triggers: []time.Duration{time.Second}}
	o, err := f.options()
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Jumps) != 1 || o.Jumps[0] != (vehicle.Jump{At: 20 * time.Second, By: -time.Hour}) || len(o.Script) != 5 {
		t.Fatalf("%+v", o)
	}
	for i, want := range []struct {
		at     time.Duration
		cmd    uint64
		comp   uint8
		p1, p3 float32
	}{{12 * time.Second, 2000, 100, 0, 5}, {time.Second, 526, 101, 1, 0}, {2 * time.Second, 512, 103, 262, 0}, {3 * time.Second, 2001, 100, 0, 0}} {
		m := o.Script[i].Msg.(*common.MessageCommandLong)
		if o.Script[i].At != want.at || uint64(m.Command) != want.cmd || m.TargetComponent != want.comp || m.Param1 != want.p1 || m.Param3 != want.p3 {
			t.Errorf("%d: %+v %+v", i, o.Script[i], m)
		}
	}
	line, err := f.loss()
	if err != nil || line.Pass(42*time.Second, vehicle.ToVehicle, nil) || !line.Pass(45*time.Second, vehicle.ToVehicle, nil) {
		t.Errorf("the cut: %v", err)
	}
}
