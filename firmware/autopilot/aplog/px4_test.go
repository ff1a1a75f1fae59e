package aplog_test

import (
	"slices"
	"testing"
	"time"

	"holdfast/firmware/autopilot/aplog"
)

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
