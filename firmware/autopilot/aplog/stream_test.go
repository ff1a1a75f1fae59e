package aplog_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/aplog"
)

// fly arms, flies for a while and disarms; the log appears on the card, too.
func (r *rig) fly(d time.Duration) {
	r.v.arm(true)
	r.run(d, nil)
	r.v.arm(false)
}

func (s *streamSource) whole() []byte {
	switch {
	case s.done != nil:
		return s.done
	case s.v.flavour == aplog.ArduPilot:
		return s.log[:s.seq*200]
	}
	return s.log[:s.from]
}

// TestStreamLossy: ArduPilot's stream comes whole whatever the link loses; of PX4's what is lost
// is told, and what comes is a log that can be read.
func TestStreamLossy(t *testing.T) {
	for name, flavour := range flavours {
		for _, loss := range []float64{0, 0.01, 0.1} {
			t.Run(fmt.Sprintf("%s/%v", name, loss), func(t *testing.T) {
				r := newRig(t, flavour, 3, func(c *aplog.Config) { c.Mode = aplog.Stream })
				r.loss, r.dup, r.jitter = loss, loss/2, time.Duration(float64(100*time.Millisecond)*loss)
				s := r.v.streams(flightLog(flavour, 1, 400_000), 12_000)
				r.run(3*time.Second, nil)
				r.fly(40 * time.Second)
				r.run(30*time.Second, nil)
				if r.event("log_stream_ended") != 1 {
					t.Fatalf("events: %q", r.events)
				}
				got := r.store.of("stream")
				if len(got) != 1 {
					t.Fatalf("%d files", len(got))
				}
				if flavour == aplog.ArduPilot || loss == 0 {
					if n := got[0].check(t, s.whole()); n > 0 || len(s.whole()) < 200_000 {
						t.Errorf("%d of %d bytes lost", n, len(s.whole()))
					}
					return
				}
				readULog(t, got[0], s.whole())
			})
		}
	}
}

// readULog fails the test unless the file is a ULog whose messages are all of want, in order, and
// what is missing is counted, but for the end of the stream: nothing comes behind it that would
// show that it is missing.
func readULog(t *testing.T, f *file, want []byte) {
	t.Helper()
	b := f.data
	all := ulogMessages(want)
	at, n := 0, 0
	for _, m := range ulogMessages(b) {
		for at < len(all) && !bytes.Equal(all[at], m) {
			at++
		}
		if at == len(all) {
			t.Fatalf("message %d of the file is not one of the log's, or not in order", n)
		}
		n++
	}
	if gone := int64(len(want) - len(b)); gone > 4*249 && f.torn < gone-4*249 || f.torn > 2*gone+1000 {
		t.Errorf("%d bytes are missing, LostBytes are %d", gone, f.torn)
	}
	t.Logf("%d of %d messages, %d of %d bytes, lost %d", n, len(all), len(b), len(want), f.torn)
	if n < len(all)/2 {
		t.Errorf("%d messages of %d", n, len(all))
	}
}

func ulogMessages(b []byte) (out [][]byte) {
	for pos := 16; pos+3 <= len(b); {
		n := 3 + int(binary.LittleEndian.Uint16(b[pos:]))
		if pos+n > len(b) {
			break
		}
		out = append(out, b[pos:pos+n])
		pos += n
	}
	return out
}

// TestCrosscheck: a log that was streamed and pulled is compared; here both are the same, or the
// pulled one is longer and has a message that differs.
func TestCrosscheck(t *testing.T) {
	for name, flavour := range flavours {
		for _, change := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, change), func(t *testing.T) {
				flight := "F00000005" // an earlier one
				r := newRig(t, flavour, 4, func(c *aplog.Config) {
					c.Mode = aplog.Both
					c.Flight = func() string { return flight }
				})
				s := r.v.streams(flightLog(flavour, 1, 500_000), 12_000)
				r.v.logs = []vlog{{50, flightLog(flavour, 9, 5000), ""}}
				r.pulls(time.Minute, 1)
				r.v.arm(true)
				r.run(30*time.Second, nil)
				r.v.arm(false)
				r.run(2*time.Second, nil)
				flight = "F00000007"
				card := bytes.Clone(s.whole())
				if change {
					card[len(card)-9000]++
					card = append(card, flightLog(flavour, 1, len(card)+200)[len(card):]...)
				}
				r.v.logs = append(r.v.logs, vlog{900, card, ""})
				r.pulls(2*time.Minute, 2)
				reports := r.store.of("autopilot")
				if len(reports) != 1 {
					t.Fatalf("%d reports; events %q", len(reports), r.events)
				}
				r.checkReport(reports[0], change, len(card))
			})
		}
	}
}

// checkReport fails the test unless a report says that the copies differ, or do not.
func (r *rig) checkReport(f *file, change bool, size int) {
	r.t.Helper()
	var got struct {
		Flight string
		Equal  bool
		How    string
		Types  []struct{ Name string }
		Differ []struct{ From, To int64 }
		Only   []struct{ From, To int64 } `json:"only_pull"`
	}
	if err := json.Unmarshal(f.data, &got); err != nil {
		r.t.Fatal(err)
	}
	switch {
	case got.Flight != "F00000007" || got.Equal == change:
		r.t.Errorf("report %s", f.data)
	case !change && got.How != "bytes":
		r.t.Errorf("compared by %s", got.How)
	case change && (len(got.Types) == 0 || len(got.Differ) == 0 || len(got.Only) != 1 || got.Only[0].To != int64(size)):
		r.t.Errorf("types %v, ranges %v, only in the pull %v", got.Types, got.Differ, got.Only)
	}
	if x := f.f; x.Kind != "report" || x.Format != "json" || !x.End || x.Of != "F00000007" {
		r.t.Errorf("file %+v", x)
	}
}

// ackWatch fails the test when a block is acknowledged that the Store does not have.
func (r *rig) ackWatch(comp uint8, m message.Message) {
	switch m := m.(type) {
	case *ap.MessageRemoteLogBlockStatus:
		if m.Seqno >= 2147483645 || m.Status != ap.MAV_REMOTE_LOG_DATA_BLOCK_ACK {
			return
		}
		all := r.store.of("stream")
		if len(all) == 0 {
			return // the beginning of a log is held in memory until there is a flight
		}
		if !all[len(all)-1].holds(int(m.Seqno)*200, 200) {
			r.t.Errorf("%v: block %d is acknowledged and not in the Store", r.now, m.Seqno)
		}
	case *ap.MessageLoggingAck:
		s := r.v.stream
		if s == nil || s.wait == nil || s.wait.Sequence != m.Sequence {
			return
		}
		if all := r.store.of("stream"); len(all) == 0 || !all[len(all)-1].holds(s.from-int(s.wait.Length), int(s.wait.Length)) {
			r.t.Errorf("%v: message %d is acknowledged and not in the Store", r.now, m.Sequence)
		}
	}
}

func (f *file) holds(at, n int) bool {
	for i := at; i < at+n; i++ {
		if i >= len(f.have) || !f.have[i] {
			return false
		}
	}
	return true
}

// TestStreamStoreFull: while the Store has no room nothing is acknowledged, and what was is there.
func TestStreamStoreFull(t *testing.T) {
	for name, flavour := range flavours {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, flavour, 3, func(c *aplog.Config) { c.Mode = aplog.Stream })
			r.loss = 0.02
			s := r.v.streams(flightLog(flavour, 1, 900_000), 12_000)
			s.acked = 150_000 // so that PX4 waits for an acknowledgement while there is no room
			r.store.full = func() bool { return r.now%(4*time.Second) > 2500*time.Millisecond }
			r.run(3*time.Second, nil)
			r.fly(40 * time.Second)
			r.run(30*time.Second, nil)
			got := r.store.of("stream")
			if len(got) != 1 || !got[0].ended {
				t.Fatalf("%d files; events %q", len(got), r.events)
			}
			if flavour == aplog.ArduPilot {
				got[0].check(t, s.whole())
			} else {
				readULog(t, got[0], s.whole())
			}
		})
	}
}

// TestStreamCut: after a short cut of the link ArduPilot's stream goes on whole; after a long one,
// or a start of the autopilot in the air, a new log begins and both can be read.
func TestStreamCut(t *testing.T) {
	for name, flavour := range flavours {
		for _, cut := range []time.Duration{4 * time.Second, 30 * time.Second, 0} {
			t.Run(fmt.Sprintf("%s/%v", name, cut), func(t *testing.T) {
				r := newRig(t, flavour, 3, func(c *aplog.Config) { c.Mode = aplog.Stream })
				s := r.v.streams(flightLog(flavour, 1, 900_000), 12_000)
				r.run(3*time.Second, nil)
				r.v.arm(true)
				r.run(20*time.Second, nil)
				if r.cut = true; cut == 0 {
					r.v.reboot()
					r.v.arm(true)
				}
				r.run(max(cut, time.Second), nil)
				r.cut = false
				r.run(30*time.Second, nil)
				r.v.arm(false)
				r.run(30*time.Second, nil)
				got := r.store.of("stream")
				want := 1
				if cut != 4*time.Second {
					want = 2
				}
				if flavour == aplog.PX4 && cut == 30*time.Second {
					want = len(got) // PX4 streams on, or begins anew
				}
				if len(got) != want || len(got) == 0 {
					t.Fatalf("%d files, want %d; events %q", len(got), want, r.events)
				}
				for _, f := range got {
					if !f.ended || len(f.data) < 50_000 {
						t.Errorf("file of %d bytes, ended %v", len(f.data), f.ended)
					}
				}
				last := got[len(got)-1]
				if flavour == aplog.ArduPilot {
					if n := last.check(t, s.whole()); n > 0 {
						t.Errorf("%d bytes lost", n)
					}
				} else {
					readULog(t, last, s.whole())
				}
			})
		}
	}
}

// TestStreamLost: blocks that ArduPilot never sends again are lost, they and no others.
func TestStreamLost(t *testing.T) {
	r := newRig(t, aplog.ArduPilot, 3, func(c *aplog.Config) { c.Mode = aplog.Stream })
	s := r.v.streams(flightLog(aplog.ArduPilot, 1, 900_000), 12_000)
	s.never = map[uint32]bool{77: true, 78: true, 300: true}
	r.run(3*time.Second, nil)
	r.fly(20 * time.Second)
	r.run(40*time.Second, nil)
	got := r.store.of("stream")
	if len(got) != 1 {
		t.Fatalf("%d files", len(got))
	}
	if n := got[0].check(t, s.whole()); n != 600 {
		t.Errorf("%d bytes lost, want 600", n)
	}
}

// TestStreamUnderWay: a stream that another run of the program began is begun anew, so that the
// file has the headers that make it readable.
func TestStreamUnderWay(t *testing.T) {
	for name, flavour := range flavours {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, flavour, 3, func(c *aplog.Config) { c.Mode = aplog.Stream })
			s := r.v.streams(flightLog(flavour, 1, 900_000), 12_000)
			r.v.arm(true)
			s.begin()
			s.seq, s.from, s.count, s.made = 100, 20_000, 100, 20_000
			r.run(30*time.Second, nil)
			r.v.arm(false)
			r.run(30*time.Second, nil)
			got := r.store.of("stream")
			if len(got) != 1 || !bytes.Equal(got[0].data, s.whole()[:len(got[0].data)]) || len(got[0].data) < 100_000 {
				t.Errorf("%d files; events %q", len(got), r.events)
			}
		})
	}
}

// TestStreamRefused: PX4 that denies the stream is asked once a flight.
func TestStreamRefused(t *testing.T) {
	r := newRig(t, aplog.PX4, 3, func(c *aplog.Config) { c.Mode = aplog.Stream })
	r.v.streams(ulog(1, 100_000), 12_000).deny = common.MAV_RESULT_DENIED
	r.run(3*time.Second, nil)
	r.fly(20 * time.Second)
	r.run(30*time.Second, nil)
	if r.v.stream.denials != 1 || r.event("log_stream_refused") != 1 {
		t.Errorf("%d denials, events %q", r.v.stream.denials, r.events)
	}
}
