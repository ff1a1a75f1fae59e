package media

import (
	"context"
	"sync"
	"time"
)

// bucket is a token bucket over the bytes of all cameras: so many a second, and those of one
// second, or a piece, at once. Safe for concurrent use.
type bucket struct {
	mu   sync.Mutex
	rate int64 // bytes a second; 0: no limit
	have int64
	at   time.Duration
	now  func() time.Duration
}

func newBucket(rate int64, now func() time.Duration) *bucket {
	b := &bucket{rate: rate, now: now, at: now()}
	b.have = b.most()
	return b
}

func (b *bucket) most() int64 { return max(b.rate, pieceSize) }

// take takes n bytes; where there are too few it takes none, and says how long it is until there
// are enough.
func (b *bucket) take(n int) (wait time.Duration) {
	if b.rate <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	passed := min(max(now-b.at, 0), time.Hour)
	// In parts of a second, so that nothing overflows and no part of a byte is lost for good.
	if gained := int64(passed.Seconds() * float64(b.rate)); gained > 0 {
		b.have, b.at = min(b.have+gained, b.most()), now
	}
	if missing := int64(n) - b.have; missing > 0 {
		return time.Duration(float64(missing)/float64(b.rate)*float64(time.Second)) + time.Millisecond
	}
	b.have -= int64(n)
	return 0
}

// takeWait takes n bytes when there are enough; false: ctx has ended.
func (b *bucket) takeWait(ctx context.Context, n int) bool {
	for {
		wait := b.take(n)
		if wait == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}
