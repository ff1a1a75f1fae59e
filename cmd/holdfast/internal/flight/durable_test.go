package flight

import (
	"testing"

	"holdfast/storage/segment"
)

// TestDurable: percentiles of the time from arrival to the sync that a later block tells of; what no
// block tells of is left out.
func TestDurable(t *testing.T) {
	var d durable
	if d.result() != nil {
		t.Error("something is known of nothing")
	}
	for i := range int64(1000) { // one frame a millisecond, synced each 100 ms
		d.entry(i * 1000)
		if i%100 == 99 {
			d.sync(nil)
			d.sync(&segment.Sync{Count: 1}) // of another stream
			d.sync(&segment.Sync{LastUsec: i*1000 + 5_000})
		}
	}
	d.entry(2_000_000) // never synced
	r := d.result()
	if r.Frames != 1000 || r.MaxUsec != 104_000 || r.P50Usec < 54_000 || r.P50Usec > 55_100 || r.P99Usec < 102_000 || r.P99Usec > 104_000 || r.P999Usec > r.MaxUsec {
		t.Errorf("%+v", *r)
	}
	d = durable{}
	d.entry(0)
	d.sync(&segment.Sync{LastUsec: 60_000_000})
	if r := d.result(); r.MaxUsec != 60_000_000 || r.P50Usec != 60_000_000 && r.P50Usec > durableStep*(durableSteps+1) {
		t.Errorf("a long stall: %+v", *r)
	}
}
