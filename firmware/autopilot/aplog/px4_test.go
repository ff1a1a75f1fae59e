package aplog_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/firmware/autopilot/aplog"
)

// TestPX4ByLogData: of a PX4 that has both, a log comes by LOG_REQUEST_DATA, which is six times as fast;
// FTP gives its name and its checksum.
func TestPX4ByLogData(t *testing.T) {
	r := newRig(t, aplog.PX4, 2, nil)
	r.v.logs = []vlog{{100, content(1, 300_000), logPath(aplog.PX4, 1)}}
	r.v.serveFTP()
	r.pulls(time.Minute, 1)
	got := r.store.of("pull")
	if len(got) != 1 || got[0].check(t, r.v.logs[0].data) > 0 || got[0].f.Name != "10_20_30.ulg" {
		t.Fatalf("%d files; events %q", len(got), r.events)
	}
	if !strings.Contains(r.events[0], "checksum=right") || r.sent["FileTransferProtocol"] > 20 {
		t.Errorf("events %q, sent %v", r.events, r.sent)
	}
}

// TestPX4NoLogData: where PX4 lists its logs and does not send them, they come by FTP, also the rest
// of one that began to come.
func TestPX4NoLogData(t *testing.T) {
	for name, from := range map[string]int{"nothing": 0, "half": 150_000} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, aplog.PX4, 2, nil)
			r.v.logs = []vlog{{100, content(1, 300_000), logPath(aplog.PX4, 1)}}
			r.v.serveFTP()
			r.v.noData = from == 0
			r.v.bad = func(off int) bool { return off >= from }
			r.pulls(5*time.Minute, 1)
			if len(r.store.files) != 1 || r.event("log_pulled") != 1 || r.event("log_data_failed") != 1 {
				t.Fatalf("events %q", r.events)
			}
			for _, f := range r.store.files {
				if f.check(t, r.v.logs[0].data) > 0 || (f.f.Source == "ftp") != (from == 0) {
					t.Errorf("source %s, events %q", f.f.Source, r.events)
				}
			}
		})
	}
}

// TestPX4WrongChecksum: a log whose checksum differs comes again, by FTP; where that differs too it is
// told, and nothing is erased.
func TestPX4WrongChecksum(t *testing.T) {
	r := newRig(t, aplog.PX4, 2, func(c *aplog.Config) { c.Erase = true })
	r.v.logs = []vlog{{100, content(1, 30_000), logPath(aplog.PX4, 1)}}
	r.v.serveFTP()
	r.v.ftp.wrong = true
	r.pulls(5*time.Minute, 2)
	first, again := r.store.of("pull"), r.store.of("ftp")
	if len(first) != 1 || len(again) != 1 || !strings.Contains(first[0].f.Why+again[0].f.Why, "checksum") || r.sent["LogErase"] > 0 {
		t.Errorf("events %q, sent %v", r.events, r.sent)
	}
}

// px4Flights is a rig whose flights are named, with a log each.
func px4Flights(t *testing.T, ftp bool, change func(c *aplog.Config)) (r *rig, ended *string) {
	ended = new(string)
	r = newRig(t, aplog.PX4, 2, func(c *aplog.Config) {
		c.Flight = func() string { return *ended }
		if change != nil {
			change(c)
		}
	})
	if ftp {
		r.v.serveFTP()
	}
	return r, ended
}

// flight arms for 5 s; log is what its log is called, n its bytes. The new one has the number 0: PX4
// counts as they lie in the folder.
func (r *rig) flight(ended *string, name string, n int, utc uint32) {
	r.v.arm(true)
	r.run(2*time.Second, nil)
	path := logPath(aplog.PX4, int(utc))
	r.v.logs = slices.Insert(r.v.logs, 0, vlog{utc, content(uint64(utc), n), path})
	r.run(3*time.Second, nil)
	*ended = name
	r.v.arm(false)
	r.run(2*time.Second, nil)
}

// whose says of which flight each log is that came whole, by its time.
func (r *rig) whose() map[int64]string {
	of := map[int64]string{}
	for _, f := range r.store.files {
		if f.ended && f.f.Kind == "log" {
			of[f.f.UTCUsec/1e6] = f.f.Of
		}
	}
	return of
}

// TestPX4ArmsInPull: logs that are being pulled, or were about to be, when the vehicle arms again stay
// with their flight, and come byte for byte, although the next log takes the number of the one that
// was read. Each comes once.
func TestPX4ArmsInPull(t *testing.T) {
	for _, ftp := range []bool{false, true} {
		r, ended := px4Flights(t, ftp, nil)
		r.run(30*time.Second, nil)
		r.flight(ended, "F00000002", 400_000, 10)
		r.run(10*time.Millisecond, nil)
		r.flight(ended, "F00000004", 500_000, 20) // before anything was asked: two logs at the next list
		had := r.store.bytes()
		if !r.run(time.Minute, func() bool { return r.store.bytes() > had+100_000 }) {
			t.Fatal("no pull")
		}
		r.flight(ended, "F00000006", 600_000, 30)
		r.pulls(5*time.Minute, 3)
		r.fly(5 * time.Second)
		r.run(30*time.Second, nil)
		if of := r.whose(); of[10] != "F00000002" || of[20] != "F00000004" || of[30] != "F00000006" || len(r.store.files) != 3 {
			t.Errorf("ftp=%v: %v, %d files, events %q", ftp, of, len(r.store.files), r.events)
		}
		for _, f := range r.store.files {
			for _, log := range r.v.logs {
				if int64(log.utc) == f.f.UTCUsec/1e6 {
					f.check(t, log.data)
				}
			}
		}
	}
}

// TestPX4GrowsInPull: a log that had begun when it was listed, and whose flight ends later, is that
// flight's; one that grows without a flight stays whose it was.
func TestPX4GrowsInPull(t *testing.T) {
	for _, ftp := range []bool{false, true} {
		r, ended := px4Flights(t, ftp, nil)
		full := content(7, 900_000)
		r.v.logs = []vlog{{50, full[:500_000], logPath(aplog.PX4, 1)}}
		if !r.run(time.Minute, func() bool { return r.store.bytes() > 100_000 }) {
			t.Fatal("no pull")
		}
		r.v.arm(true)
		r.run(5*time.Second, nil)
		r.v.logs[0].data, r.v.logs[0].utc = full[:800_000], 60
		*ended = "F00000002"
		r.v.arm(false)
		if !r.run(time.Minute, func() bool { return r.store.bytes() > 600_000 }) {
			t.Fatal("no pull")
		}
		r.v.logs[0].data, r.v.logs[0].utc = full, 70
		r.pulls(time.Minute, 1)
		r.fly(5 * time.Second)
		r.run(30*time.Second, nil)
		if len(r.store.files) != 1 || r.store.bytes() != 900_000 {
			t.Errorf("ftp=%v: %d files, %d bytes; events %q", ftp, len(r.store.files), r.store.bytes(), r.events)
		}
		for _, f := range r.store.files {
			f.check(t, full)
			if f.f.Of != "F00000002" {
				t.Errorf("of %q", f.f.Of)
			}
		}
	}
}

// TestPX4EraseMoved: the numbers of PX4's logs move as new ones come; that all of them are safe is
// known all the same, and none is pulled twice.
func TestPX4EraseMoved(t *testing.T) {
	r, ended := px4Flights(t, true, func(c *aplog.Config) { c.Erase = true })
	r.v.keep = true
	r.flight(ended, "F00000002", 40_000, 10)
	r.pulls(2*time.Minute, 1)
	r.v.keep = false
	r.flight(ended, "F00000004", 50_000, 20)
	r.run(3*time.Minute, func() bool { return r.event("logs_erased") > 0 })
	if len(r.store.files) != 2 || r.event("logs_erased") != 1 || len(r.v.logs) > 0 {
		t.Errorf("%d files, events %q", len(r.store.files), r.events)
	}
}
