package mesh

import (
	"sync"
	"time"

	"mobula/helper/internal/bucket"
)

const (
	// askerBurst answers are for one round of one host, with some to spare; after that it
	// has askerPerSecond. answersPerSecond bounds what all of them have.
	askerBurst       = 2 * maxPages
	askerPerSecond   = 4
	answersPerSecond = 400
	// maxAskers bounds what is remembered of them, far beyond who asks at a time.
	maxAskers = 1024
)

// budget bounds the answers to each host, and to all. The zero budget is full.
type budget struct {
	mu    sync.Mutex
	all   bucket.Bucket
	hosts map[uint16]*bucket.Bucket
	// refused counts what was too much.
	refused uint64
}

func (b *budget) may(id uint16, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.hosts[id]
	if one == nil {
		if b.hosts == nil || len(b.hosts) >= maxAskers {
			b.hosts = map[uint16]*bucket.Bucket{} // the bound of all holds meanwhile
		}
		one = &bucket.Bucket{}
		b.hosts[id] = one
	}
	may := one.Take(now, askerPerSecond, askerBurst) && b.all.Take(now, answersPerSecond, answersPerSecond)
	if !may {
		b.refused++
	}
	return may
}
