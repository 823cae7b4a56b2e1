package nameserver

import (
	"net/netip"
	"sync"
)

// quota bounds how many things are under way, in all and for each source. A
// source may begin one more only while more are left than it has under way. So n
// greedy ones get total/(n+1) each and leave as many: whoever comes then finds
// room (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).
type quota struct {
	total, perSource int

	mu   sync.Mutex
	all  int
	used map[netip.Addr]int
}

func newQuota(total, perSource int) *quota {
	return &quota{total: total, perSource: perSource, used: map[netip.Addr]int{}}
}

// acquire reports whether source may begin one more; release ends it.
func (q *quota) acquire(source netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if used := q.used[source]; used >= q.total-q.all || used >= q.perSource {
		return false
	}
	q.all++
	q.used[source]++
	return true
}

func (q *quota) release(source netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all--
	if q.used[source]--; q.used[source] == 0 {
		delete(q.used, source)
	}
}
