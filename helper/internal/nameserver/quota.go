package nameserver

import (
	"net/netip"
	"sync"
)

// quota bounds how many things are under way, in all and for each source. A
// source may begin one more only while more are left than it has under way. So n
// greedy ones get total/(n+1) each and leave as many: whoever comes then finds
// room (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998). Who invents
// sources is not bounded by that, so a quarter is for the favored alone, whose
// addresses nobody else can take.
type quota struct {
	total, perSource int
	favored          []netip.Prefix // none: all are alike

	mu   sync.Mutex
	all  int
	used map[netip.Addr]int
}

func newQuota(total, perSource int, favored []netip.Prefix) *quota {
	return &quota{total: total, perSource: perSource, favored: favored, used: map[netip.Addr]int{}}
}

// room is how much a source would find if it had nothing under way.
func (q *quota) room(source netip.Addr) int {
	left := q.total - q.all
	if len(q.favored) == 0 {
		return left
	}
	for _, p := range q.favored {
		if p.Contains(source) {
			return left
		}
	}
	return left - q.total/4
}

// acquire reports whether source may begin one more; release ends it.
func (q *quota) acquire(source netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if used := q.used[source]; used >= q.room(source) || used >= q.perSource {
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
