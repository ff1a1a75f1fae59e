package aplog_test

import (
	"fmt"
	"testing"
	"time"

	"holdfast/firmware/autopilot/aplog"
)

var flavours = map[string]uint8{"ardupilot": aplog.ArduPilot, "px4": aplog.PX4}

// TestPullLossy: with 0, 1 and 10 % of messages lost both ways, repeated and reordered, every log
// comes byte for byte.
func TestPullLossy(t *testing.T) {
	for name, flavour := range flavours {
		for _, loss := range []float64{0, 0.01, 0.1} {
			t.Run(fmt.Sprintf("%s/%v", name, loss), func(t *testing.T) {
				r := newRig(t, flavour, 1, nil)
				r.loss, r.dup, r.jitter = loss, loss/2, time.Duration(float64(200*time.Millisecond)*loss)
				r.v.logs = []vlog{{100, content(1, 70_000), ""}, {200, nil, ""}, {300, content(2, 300_001), ""}}
				r.pulls(5*time.Minute, 2)
				got := r.store.of("pull")
				if len(got) != 2 {
					t.Fatalf("%d files", len(got))
				}
				// The newest first.
				if n := got[0].check(t, r.v.logs[2].data) + got[1].check(t, r.v.logs[0].data); n > 0 {
					t.Errorf("%d bytes lost", n)
				}
				if got[0].f.UTCUsec != 300e6 || got[0].f.Size != 300_001 {
					t.Errorf("file says %+v", got[0].f)
				}
				t.Logf("%v, %d steps, sent %v", r.now, r.steps, r.sent)
			})
		}
	}
}

// TestPullFastLossy: on a fast line that loses a tenth, holes that lie apart are asked for at once: the
// turns of a request for each would cost more than the bytes between.
func TestPullFastLossy(t *testing.T) {
	r := newRig(t, aplog.PX4, 1, nil)
	r.loss, r.baud, r.delay = 0.1, 600_000, 40*time.Millisecond
	r.v.logs = []vlog{{100, content(1, 3_000_000), ""}}
	r.pulls(5*time.Minute, 1)
	if r.store.of("pull")[0].check(t, r.v.logs[0].data) > 0 || r.now > 100*time.Second {
		t.Errorf("it took %v, sent %v", r.now, r.sent)
	}
}
