package e2e_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink/codec"
)

// Against the real autopilots, where somebody has built their simulations (docs/bench-sitl.md).
// HOLDFAST_ARDUPILOT and HOLDFAST_PX4 name programs that run one in the foreground until SIGTERM, all
// of it below the folder that RUNDIR names.

// sitl is a simulated autopilot as these tests start it.
type sitl struct {
	env    string // names the program
	args   []string
	device string // of Holdfast's link
	logs   string // pattern of its logs, below RUNDIR
	ground func() (net.Conn, error)
}

var sitls = map[string]sitl{
	// SERIAL0 on TCP 5760, SERIAL1 on 5762.
	"ardupilot": {"HOLDFAST_ARDUPILOT", []string{"5760"}, "tcp:127.0.0.1:5760", "logs/*.BIN",
		func() (net.Conn, error) { return net.Dial("tcp", "127.0.0.1:5762") }},
	// Its onboard link sends from 14580 to 14540, the one to the ground listens on 18570.
	"px4": {"HOLDFAST_PX4", []string{"0"}, "udp:127.0.0.1:14540", "log/*/*.ulg",
		func() (net.Conn, error) {
			return net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 14550}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 18570})
		}},
}

// TestSITL: a flight of the real autopilot is recorded, with who it is, its parameters and mission, and
// its log comes into the flight's folder byte for byte.
func TestSITL(t *testing.T) {
	for name, s := range sitls {
		t.Run(name, func(t *testing.T) {
			program := os.Getenv(s.env)
			if program == "" {
				t.Skipf("%s names no program that runs the simulated autopilot", s.env)
			}
			s.test(t, program)
		})
	}
}

func (s sitl) test(t *testing.T, program string) {
	folder := t.TempDir()
	cmd := exec.Command(program, s.args...)
	cmd.Env = append(os.Environ(), "RUNDIR="+folder)
	vehicle := startCommand(t, cmd)
	b := newBoard(t)
	b.configure(s.device)
	d := b.run()
	waitFor(t, patience, "a record of the vehicle", func() bool { n, _ := b.health()["frames"].(float64); return n > 100 })
	g := s.pilot(t)
	g.say(&ap.MessageParamSet{TargetSystem: 1, TargetComponent: 1, ParamId: "LOG_FILE_DSRMROT", ParamValue: 1, ParamType: common.MAV_PARAM_TYPE_REAL32})
	armed := func(want bool) func() bool {
		next := time.Now()
		return func() bool {
			if now := time.Now(); now.After(next) {
				g.arm(want)
				next = now.Add(time.Second)
			}
			is, _ := b.health()["armed"].(bool)
			return is == want
		}
	}
	waitFor(t, 3*patience, "arming", armed(true))
	time.Sleep(10 * time.Second) // the flight
	waitFor(t, patience, "disarming", armed(false))
	s.settle(t, b, folder)
	d.stop()
	vehicle.end(syscall.SIGTERM)
	s.check(t, b.open(0), folder)
}

// settle waits until no more of the autopilot's files comes.
func (s sitl) settle(t *testing.T, b *board, folder string) {
	var size int64
	since := time.Now()
	waitFor(t, 10*patience, "the end of the pull", func() bool {
		now := int64(0)
		for _, pattern := range []string{filepath.Join(b.vault(), "*", "*", "A*"), filepath.Join(folder, s.logs)} {
			files, _ := filepath.Glob(pattern)
			for _, f := range files {
				if fi, err := os.Stat(f); err == nil {
					now += fi.Size()
				}
			}
		}
		if now != size {
			size, since = now, time.Now()
		}
		return time.Since(since) > patience
	})
}

func (s sitl) check(t *testing.T, records []*opened, folder string) {
	t.Helper()
	i := slices.IndexFunc(records, func(r *opened) bool { return r.Kind == "flight" })
	if i < 0 {
		t.Fatal("no flight")
	}
	kinds := map[string]bool{}
	for _, f := range records[i].Files {
		kinds[f.Kind] = kinds[f.Kind] || f.Complete
	}
	for _, kind := range []string{"autopilot", "params", "mission"} {
		if !kinds[kind] {
			t.Errorf("the flight has no whole file of kind %s", kind)
		}
	}
	names, err := filepath.Glob(filepath.Join(folder, s.logs))
	if err != nil || len(names) == 0 {
		t.Fatalf("the autopilot has no logs: %v", err)
	}
	slices.Sort(names)
	want := readFile(t, names[len(names)-1])
	var logs []openedFile
	for _, source := range []string{"ftp", "pull"} {
		logs = append(logs, logFiles(t, records, source)...)
	}
	if !slices.ContainsFunc(logs, func(f openedFile) bool { return f.Complete && bytes.Equal(f.data, want) }) {
		t.Errorf("%s, %d bytes, is not among %s", filepath.Base(names[len(names)-1]), len(want), describeLogs(logs))
	}
}

// ground is a ground station that arms and disarms.
type ground struct {
	t     *testing.T
	conn  net.Conn
	codec *codec.Codec
	seq   uint8
}

func (s sitl) pilot(t *testing.T) *ground {
	t.Helper()
	var g ground
	waitFor(t, patience, "the autopilot's other link", func() (ok bool) {
		conn, err := s.ground()
		g = ground{t: t, conn: conn, codec: codec.New()}
		return err == nil
	})
	t.Cleanup(func() { g.conn.Close() })
	go func() { // what it says is not needed here, but has to be read
		p := make([]byte, 4096)
		for {
			if _, err := g.conn.Read(p); err != nil && !ignorable(err) {
				return
			}
		}
	}()
	return &g
}

// ignorable: a datagram before the other end was there.
func ignorable(err error) bool {
	e, ok := err.(*net.OpError)
	return ok && e.Err != net.ErrClosed && e.Net == "udp" && e.Temporary()
}

func (g *ground) say(m message.Message) {
	raw, err := g.codec.Encode(255, 190, g.seq, m)
	if err != nil {
		g.t.Fatal(err)
	}
	g.seq++
	if _, err := g.conn.Write(raw); err != nil {
		g.t.Log("ground:", err)
	}
}

// force makes ArduPilot arm without its checks. PX4 checks whatever comes from outside.
const force = 21196

func (g *ground) arm(on bool) {
	g.say(&ap.MessageHeartbeat{Type: common.MAV_TYPE_GCS, Autopilot: common.MAV_AUTOPILOT_INVALID, MavlinkVersion: 3})
	m := &ap.MessageCommandLong{TargetSystem: 1, TargetComponent: 1, Command: common.MAV_CMD_COMPONENT_ARM_DISARM, Param2: force}
	if on {
		m.Param1 = 1
	}
	g.say(m)
}
