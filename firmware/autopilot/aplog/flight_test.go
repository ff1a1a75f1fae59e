package aplog_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/firmware/autopilot/aplog"
)

// TestHoles: bytes that the autopilot never sends are recorded as lost, those and no others.
func TestHoles(t *testing.T) {
	for name, flavour := range flavours {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, flavour, 1, nil)
			r.v.logs = []vlog{{100, content(1, 200_000), ""}}
			r.v.bad = func(off int) bool { return off <= 90*500+89 && 90*500 <= off+89 }
			r.pulls(10*time.Minute, 1)
			got := r.store.of("pull")[0]
			lost := got.check(t, r.v.logs[0].data)
			if lost < 90 || lost > 180 {
				t.Errorf("%d bytes lost", lost)
			}
			if r.event("log_pulled_with_holes") != 1 || got.f.Why == "" {
				t.Errorf("events %q, why %q", r.events, got.f.Why)
			}
		})
	}
}

// TestRestUnreadable: an autopilot that sends nothing behind a place is not asked for ever.
func TestRestUnreadable(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 1, nil)
	r.v.logs = []vlog{{100, content(1, 5_000_000), ""}, {100, content(2, 1000), ""}}
	r.v.bad = func(off int) bool { return r.v.id == 1 && off >= 90_000 }
	r.pulls(20*time.Minute, 2)
	all := r.store.of("pull")
	if lost := all[1].check(t, r.v.logs[0].data); lost != 4_910_000 {
		t.Errorf("%d bytes lost", lost)
	}
	all[0].check(t, r.v.logs[1].data)
}

// TestArming: when the vehicle arms in the middle of a pull, requests stop at once, and the pull
// goes on where it was when it is disarmed again.
func TestArming(t *testing.T) {
	for name, flavour := range flavours {
		for _, ftp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ftp=%v", name, ftp), func(t *testing.T) {
				r := newRig(t, flavour, 1, nil)
				r.loss = 0.01
				r.v.logs = []vlog{{100, content(1, 800_000), logPath(flavour, 1)}}
				if ftp {
					r.v.onlyFTP()
				}
				if !r.run(time.Minute, func() bool { return r.store.bytes() > 100_000 }) {
					t.Fatal("no pull")
				}
				r.v.arm(true)
				r.run(500*time.Millisecond, func() bool { return r.armed })
				n := len(r.requests)
				r.run(30*time.Second, nil)
				if len(r.requests) != n {
					t.Errorf("%d requests while armed; sent %v", len(r.requests)-n, r.sent)
				}
				r.v.arm(false)
				r.pulls(2*time.Minute, 1)
				source := map[bool]string{false: "pull", true: "ftp"}[ftp]
				got := r.store.of(source)
				if len(got) != 1 || got[0].check(t, r.v.logs[0].data) > 0 {
					t.Fatalf("%d files; events %q", len(got), r.events)
				}
				if total := r.store.bytes(); total != 800_000 {
					t.Errorf("%d bytes were put for a log of 800000: it began anew", total)
				}
			})
		}
	}
}

func logPath(flavour uint8, n int) string {
	if flavour == aplog.PX4 {
		return fmt.Sprintf("/fs/microsd/log/2026-01-%02d/10_20_30.ulg", n)
	}
	return fmt.Sprintf("/APM/LOGS/%08d.BIN", n)
}

// onlyFTP serves FTP as the way that logs come: of a PX4 they come by LOG_REQUEST_DATA where it answers.
func (v *fakePilot) onlyFTP() {
	v.serveFTP()
	v.noLogs = v.flavour == aplog.PX4
}

func (v *fakePilot) serveFTP() { v.ftp = newFTPServer(v, func() []vlog { return v.logs }) }

func (s *store) bytes() int { return s.bytesHad }

// TestCut: the link is cut in the middle of a pull, for longer than any timeout, and again; the
// autopilot may also have been off meanwhile.
func TestCut(t *testing.T) {
	for name, flavour := range flavours {
		for _, ftp := range []bool{false, true} {
			for _, reboot := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/ftp=%v/reboot=%v", name, ftp, reboot), func(t *testing.T) {
					r := newRig(t, flavour, 1, nil)
					r.loss = 0.01
					r.v.logs = []vlog{{100, content(1, 800_000), logPath(flavour, 1)}}
					if ftp {
						r.v.onlyFTP()
					}
					for i := range 2 {
						if !r.run(time.Minute, func() bool { return r.store.bytes() > 100_000+200_000*i }) {
							t.Fatal("no pull")
						}
						r.cut = true
						r.run(40*time.Second, nil)
						if reboot {
							r.v.reboot()
						}
						r.cut = false
					}
					r.pulls(2*time.Minute, 1)
					for _, f := range r.store.files {
						if f.check(t, r.v.logs[0].data) > 0 {
							t.Error("bytes are lost")
						}
					}
					if total := r.store.bytes(); total != 800_000 {
						t.Errorf("%d bytes were put for a log of 800000", total)
					}
				})
			}
		}
	}
}

// TestFTP: with losses, a log comes by FTP and its checksum is compared.
func TestFTP(t *testing.T) {
	for name, flavour := range flavours {
		for _, loss := range []float64{0, 0.01, 0.1} {
			t.Run(fmt.Sprintf("%s/%v", name, loss), func(t *testing.T) {
				r := newRig(t, flavour, 2, nil)
				r.loss, r.dup, r.jitter = loss, loss/2, time.Duration(float64(100*time.Millisecond)*loss)
				for i := range 5 {
					r.v.logs = append(r.v.logs, vlog{uint32(100 + i), content(uint64(i), 100_000*i+i), logPath(flavour, i+1)})
				}
				r.v.onlyFTP()
				r.pulls(10*time.Minute, 4)
				got := r.store.of("ftp")
				if len(got) != 4 {
					t.Fatalf("%d files by FTP; events %q", len(got), r.events)
				}
				for i, f := range got {
					f.check(t, r.v.logs[4-i].data)
					if want := filepath.Base(logPath(flavour, 5-i)); f.f.Name != want {
						t.Errorf("called %q, want %q", f.f.Name, want)
					}
				}
				if r.sent["LogRequestData"] > 0 || strings.Count(strings.Join(r.events, "\n"), "checksum=right") != 4 {
					t.Errorf("sent %v, events %q", r.sent, r.events)
				}
				t.Logf("%v, sent %v", r.now, r.sent)
			})
		}
	}
}

// TestFTPAlone: an autopilot that knows no LOG_REQUEST is read by FTP.
func TestFTPAlone(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 2, nil)
	r.v.logs = []vlog{{0, content(1, 30_000), logPath(3, 8)}, {0, content(2, 40_000), logPath(3, 9)}}
	r.v.serveFTP()
	r.v.noLogs = true
	r.pulls(5*time.Minute, 2)
	got := r.store.of("ftp")
	if len(got) != 2 || got[0].check(t, r.v.logs[1].data)+got[1].check(t, r.v.logs[0].data) > 0 || got[0].f.Log != 9 {
		t.Errorf("%d files; events %q", len(got), r.events)
	}
}

// TestFTPRefused: FTP that lists and does not open gives way to LOG_REQUEST_DATA.
func TestFTPRefused(t *testing.T) {
	r := newRig(t, aplog.PX4, 2, nil)
	r.v.logs = []vlog{{100, content(1, 30_000), logPath(12, 1)}}
	r.v.serveFTP()
	r.v.ftp.open = &vlog{} // somebody else has the one session, for ever
	r.pulls(5*time.Minute, 1)
	if got := r.store.of("pull"); len(got) != 1 || got[0].check(t, r.v.logs[0].data) > 0 {
		t.Errorf("%d files; events %q", len(got), r.events)
	}
}

// TestWrongChecksum: a log whose checksum differs is pulled a second time in another way, told, and
// never erased.
func TestWrongChecksum(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 2, func(c *aplog.Config) { c.Erase = true })
	r.v.logs = []vlog{{100, content(1, 30_000), logPath(3, 1)}}
	r.v.serveFTP()
	r.v.ftp.wrong = true
	r.pulls(5*time.Minute, 2)
	got := r.store.of("ftp")
	if len(got) != 1 || !strings.Contains(got[0].f.Why, "checksum") || len(r.store.of("pull")) != 1 {
		t.Errorf("events %q", r.events)
	}
}

// TestArmingAtChecksum: arming while the autopilot computes a checksum; afterwards it is asked again.
func TestArmingAtChecksum(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 2, nil)
	r.v.logs = []vlog{{100, content(1, 50_000), logPath(3, 1)}}
	r.v.serveFTP()
	r.v.ftp.mute = true
	r.run(12*time.Second, nil)
	r.fly(5 * time.Second)
	r.v.ftp.mute = false
	r.pulls(time.Minute, 1)
	if got := r.store.of("ftp"); len(got) != 1 || !strings.Contains(r.events[len(r.events)-1], "checksum=right") || r.store.bytes() != 50_000 {
		t.Errorf("events %q", r.events)
	}
}

// TestStoreFull: a Store without room for a while delays the pull and loses nothing.
func TestStoreFull(t *testing.T) {
	for _, ftp := range []bool{false, true} {
		r := newRig(t, aplog.ArduPilot, 2, nil)
		r.v.logs = []vlog{{100, content(1, 1_500_000), logPath(3, 1)}}
		if ftp {
			r.v.serveFTP()
		}
		r.store.full = func() bool { return r.now%(20*time.Second) > 5*time.Second }
		r.pulls(10*time.Minute, 1)
		for _, f := range r.store.files {
			if f.check(t, r.v.logs[0].data) > 0 {
				t.Error("bytes are lost")
			}
		}
	}
}

// TestKnown: a log is pulled once, and not at all if an earlier run of the program has it.
func TestKnown(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 2, nil)
	r.v.logs = []vlog{{100, content(1, 3000), ""}, {200, content(2, 3000), ""}}
	r.logs.Known(1, 100, 3000)
	r.pulls(time.Minute, 1)
	for range 2 {
		r.fly(5 * time.Second)
		r.run(20*time.Second, nil)
	}
	if got := r.store.of("pull"); len(got) != 1 || got[0].f.Log != 2 {
		t.Errorf("%d files; events %q", len(got), r.events)
	}
}

// TestOf: the logs of two flights are named after them, the older ones after none.
func TestOf(t *testing.T) {
	flight := ""
	r := newRig(t, aplog.ArduPilot, 2, func(c *aplog.Config) { c.Flight = func() string { return flight } })
	r.v.logs = []vlog{{100, content(1, 3000), ""}, {200, content(2, 4000), ""}}
	r.pulls(time.Minute, 2)
	r.fly(5 * time.Second)
	r.run(2*time.Second, nil)
	flight = "F00000002"
	r.fly(5 * time.Second)
	r.run(2*time.Second, nil)
	flight = "F00000003"
	r.v.logs = append(r.v.logs, vlog{300, content(3, 5000), ""}, vlog{400, content(4, 6000), ""})
	r.pulls(time.Minute, 4)
	var of []string
	for _, f := range r.store.of("pull") {
		of = append(of, f.f.Of)
	}
	if want := []string{"", "", "F00000003", "F00000002"}; fmt.Sprint(of) != fmt.Sprint(want) {
		t.Errorf("of %q, want %q", of, want)
	}
}

// TestGrown: a log that is longer at the end of its pull than in the list is pulled to its end.
func TestGrown(t *testing.T) {
	for _, ftp := range []bool{false, true} {
		for name, flavour := range flavours {
			r := newRig(t, flavour, 2, nil)
			full := content(1, 300_000)
			r.v.logs = []vlog{{100, full[:200_000], logPath(flavour, 1)}}
			if ftp {
				r.v.serveFTP()
			}
			r.run(time.Minute, func() bool { return r.store.bytes() > 50_000 })
			r.v.logs[0].data = full
			r.pulls(time.Minute, 1)
			if len(r.store.files) != 1 || r.store.bytes() != 300_000 {
				t.Errorf("%s, ftp=%v: %d files, %d bytes; %q", name, ftp, len(r.store.files), r.store.bytes(), r.events)
			}
		}
	}
}

// TestErase: logs are erased only when all of them came whole and the sealed copy was verified.
func TestErase(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *rig)
		erased bool
	}{
		"all well":            {func(r *rig) {}, true},
		"ftp":                 {func(r *rig) { r.v.serveFTP() }, true},
		"no checksum":         {func(r *rig) { r.v.serveFTP(); r.v.ftp.noCRC = true }, true},
		"wrong checksum":      {func(r *rig) { r.v.serveFTP(); r.v.ftp.wrong = true }, true}, // pulled again without FTP
		"hole":                {func(r *rig) { r.v.bad = func(off int) bool { return off == 900 } }, false},
		"not confirmed":       {func(r *rig) { r.store.never = true }, false},
		"not equal":           {func(r *rig) { r.store.err = errors.New("block 7 differs") }, false},
		"known from before":   {func(r *rig) { r.logs.Known(1, 100, 50_000) }, false},
		"an empty log":        {func(r *rig) { r.v.logs = append(r.v.logs, vlog{300, nil, ""}) }, false},
		"does not erase them": {func(r *rig) { r.v.keep = true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, aplog.ArduPilot, 2, func(c *aplog.Config) { c.Erase = true })
			r.v.logs = []vlog{{100, content(1, 50_000), logPath(3, 1)}, {200, content(2, 60_000), logPath(3, 2)}}
			c.change(r)
			r.run(25*time.Minute, func() bool { return r.event("logs_erased")+r.event("logs_not_erased") > 0 && r.idle() })
			gone, sent := len(r.v.logs) == 0, r.sent["LogErase"]
			if gone != c.erased || r.event("logs_erased") == 1 != c.erased || (sent > 0) != (c.erased || r.v.keep) {
				t.Errorf("gone %v, LOG_ERASE sent %d times, events %q", gone, sent, r.events)
			}
			if c.erased && r.store.confirms == 0 {
				t.Error("nobody asked for the sealed copy to be verified")
			}
		})
	}
}

// TestEraseOff: without the policy nothing is erased.
func TestEraseOff(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 2, nil)
	r.v.logs = []vlog{{100, content(1, 50_000), ""}}
	r.pulls(time.Minute, 1)
	r.run(time.Minute, nil)
	if r.sent["LogErase"] > 0 || r.store.confirms > 0 {
		t.Errorf("sent %v", r.sent)
	}
}

// TestEraseArmed: a vehicle that arms while the medium is read back keeps its logs.
func TestEraseArmed(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 2, func(c *aplog.Config) { c.Erase = true })
	r.v.logs = []vlog{{100, content(1, 50_000), ""}}
	r.store.never = true
	r.run(5*time.Minute, func() bool { return r.store.confirms > 0 })
	r.v.arm(true)
	r.run(2*time.Second, nil)
	r.store.confirmed = r.store.number
	r.run(2*time.Minute, nil)
	if r.sent["LogErase"] > 0 || len(r.v.logs) != 1 {
		t.Error("erased while armed")
	}
}

// TestMalformed: replies that are wrong beside the right ones do no harm.
func TestMalformed(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 2, nil)
	r.v.logs = []vlog{{100, content(1, 200_000), ""}}
	r.v.spoil = true
	r.pulls(5*time.Minute, 1)
	if got := r.store.of("pull"); len(got) != 1 || got[0].check(t, r.v.logs[0].data) > 0 {
		t.Errorf("events %q", r.events)
	}
}

// TestYield: a pilot who is refused arming because a log is being read is let go first.
func TestYield(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 2, nil)
	r.v.logs = []vlog{{100, content(1, 2_000_000), ""}}
	r.run(22*time.Second, nil)
	r.v.text("Arm: Logging: downloading logs")
	r.run(500*time.Millisecond, nil)
	n := len(r.requests)
	r.run(20*time.Second, nil)
	if len(r.requests) != n || r.sent["LogRequestEnd"] == 0 {
		t.Errorf("%d requests behind the refusal", len(r.requests)-n)
	}
	r.pulls(2*time.Minute, 1)
	if r.store.bytes() != 2_000_000 {
		t.Errorf("%d bytes", r.store.bytes())
	}
}

// TestRate: a pull asks for no more than its rate.
func TestRate(t *testing.T) {
	for _, ftp := range []bool{false, true} {
		r := newRig(t, aplog.ArduPilot, 2, func(c *aplog.Config) { c.Rate = 5000 })
		r.v.logs = []vlog{{100, content(1, 100_000), logPath(3, 1)}}
		if ftp {
			r.v.serveFTP()
		}
		r.pulls(2*time.Minute, 1)
		if took := r.now - 6*time.Second; took < 18*time.Second || took > 40*time.Second {
			t.Errorf("ftp=%v: 100000 bytes at 5000 a second took %v", ftp, took)
		}
	}
}

// TestRealLogs: logs of real flights come byte for byte, by each way, with a tenth of all lost.
func TestRealLogs(t *testing.T) {
	dir := os.Getenv("HOLDFAST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "..", "shared", "data")
	}
	for name, flavour := range map[string]uint8{"pymavlink-test.BIN": aplog.ArduPilot, "pyulog-small.ulg": aplog.PX4} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Skip("recordings of real flights are not there: ", err)
		}
		for _, ftp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ftp=%v", name, ftp), func(t *testing.T) {
				r := newRig(t, flavour, 2, nil)
				r.loss = 0.1
				r.v.logs = []vlog{{100, data, logPath(flavour, 1)}}
				if ftp {
					r.v.serveFTP()
				}
				r.pulls(5*time.Minute, 1)
				for _, f := range r.store.files {
					if f.check(t, data) > 0 {
						t.Error("bytes are lost")
					}
				}
			})
		}
	}
}
