package flight

import "holdfast/storage/segment"

// DurableReport is how long frames took from their arrival on the board until they were on the
// medium, by the recorder's own clock: what a loss of power could have cost.
type DurableReport struct {
	Frames   int64 `json:"frames"` // of which it is known
	P50Usec  int64 `json:"p50_usec"`
	P99Usec  int64 `json:"p99_usec"`
	P999Usec int64 `json:"p999_usec"`
	MaxUsec  int64 `json:"max_usec"`
}

const (
	// durableStep is the resolution of the percentiles, durableSteps where they end (20 s).
	durableStep  = 100
	durableSteps = 200_000
	// durableWait bounds how many frames may wait for a sync here.
	durableWait = 1 << 20
)

// durable counts how long entries waited. A block says when the last sync before it ended: then all
// entries before it were durable.
type durable struct {
	waiting []int64 // arrivals, since boot
	steps   map[int64]int64
	report  DurableReport
}

func (d *durable) entry(boot int64) {
	if len(d.waiting) < durableWait {
		d.waiting = append(d.waiting, boot)
	}
}

func (d *durable) sync(s *segment.Sync) {
	if s == nil || s.LastUsec == 0 {
		return
	}
	if d.steps == nil {
		d.steps = map[int64]int64{}
	}
	for _, boot := range d.waiting {
		if took := s.LastUsec - boot; took >= 0 {
			d.steps[min(took/durableStep, durableSteps)]++
			d.report.Frames++
			d.report.MaxUsec = max(d.report.MaxUsec, took)
		}
	}
	d.waiting = d.waiting[:0]
}

// result returns the percentiles; nil where nothing is known.
func (d *durable) result() *DurableReport {
	r := d.report
	if r.Frames == 0 {
		return nil
	}
	r.P50Usec, r.P99Usec, r.P999Usec = d.percentile(500), d.percentile(990), d.percentile(999)
	return &r
}

// percentile returns the time within which so many in a thousand were durable.
func (d *durable) percentile(permille int64) int64 {
	var seen int64
	for step := int64(0); step <= durableSteps; step++ {
		if seen += d.steps[step]; seen*1000 >= d.report.Frames*permille {
			return min((step+1)*durableStep, d.report.MaxUsec)
		}
	}
	return d.report.MaxUsec
}
