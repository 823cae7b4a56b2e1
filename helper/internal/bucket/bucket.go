// Package bucket is the token bucket by which what others cause, and what is sent on one's own,
// is bounded.
package bucket

import "time"

// Bucket is a token bucket. The zero Bucket is full. It is not for several goroutines.
type Bucket struct {
	tokens float64
	at     time.Time
	begun  bool
}

// Take reports whether something may happen once more that may happen perSecond times a
// second, and most times at once.
func (b *Bucket) Take(now time.Time, perSecond, most float64) bool {
	return b.TakeSparing(now, perSecond, most, 0)
}

// TakeSparing is Take for what has to leave at least spare of most to what matters more.
func (b *Bucket) TakeSparing(now time.Time, perSecond, most, spare float64) bool {
	if !b.Has(now, perSecond, most, spare) {
		return false
	}
	b.Spend(1)
	return true
}

// Spend takes n without asking.
func (b *Bucket) Spend(n float64) { b.tokens -= n }

// Has reports whether TakeSparing would.
func (b *Bucket) Has(now time.Time, perSecond, most, spare float64) bool {
	if !b.begun {
		b.begun, b.tokens, b.at = true, most, now
	}
	b.tokens = min(most, b.tokens+perSecond*now.Sub(b.at).Seconds())
	b.at = now
	return b.tokens >= 1+spare
}

// Empty has everything be used up.
func (b *Bucket) Empty(now time.Time) { *b = Bucket{at: now, begun: true} }
