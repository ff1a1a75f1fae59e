package aplog

import "time"

// timing is how long a request may stay without an answer. It adapts to the link as TCP's
// retransmission timer does (RFC 6298), from the time to the first answer of a request.
type timing struct {
	smooth, vary time.Duration
	shift        uint // of the back-off
}

func (t *timing) answered(after time.Duration) {
	t.shift = 0
	if t.smooth == 0 {
		t.smooth, t.vary = after, after/2
		return
	}
	t.vary += ((t.smooth - after).Abs() - t.vary) / 4
	t.smooth += (after - t.smooth) / 8
}

func (t *timing) expired() { t.shift = min(t.shift+1, 6) }

func (t *timing) timeout() time.Duration {
	d := time.Second // nothing measured yet
	if t.smooth > 0 {
		d = max(t.smooth+4*t.vary, minTimeout)
	}
	return min(d<<t.shift, maxTimeout)
}
