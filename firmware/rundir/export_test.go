package rundir

import "holdfast/firmware/evidence"

// FeedForTest feeds p in pieces of at most cut bytes.
func FeedForTest(p []byte, cut int) (took, bad int) {
	l := &lines{take: func(*evidence.Attempt) { took++ }, bad: func(n int) { bad += n }}
	cut = max(cut, 1)
	for len(p) > 0 {
		n := min(cut, len(p))
		l.feed(p[:n])
		p = p[n:]
	}
	l.end()
	return took, bad
}
