// Package bucket is the token bucket by which what others cause is bounded.
package bucket

import "time"

// Bucket is a token bucket. The zero Bucket is full. It is not for several goroutines.
type Bucket struct {
	used float64
	at   time.Time
}

// Take reports whether something may happen once more that may happen perSecond times a
// second, and most times at once.
func (b *Bucket) Take(now time.Time, perSecond, most float64) bool {
	b.used = max(0, b.used-perSecond*now.Sub(b.at).Seconds())
	b.at = now
	if b.used+1 > most {
		return false
	}
	b.used++
	return true
}
