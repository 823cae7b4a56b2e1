package nameserver

import (
	"container/list"
	"sync"
	"time"
)

// entryOverheadBytes is what an entry costs besides its message and its name:
// map, list and slice headers, rounded up.
const entryOverheadBytes = 320

// cache keeps answers by question, the least recently used one leaves first.
// It is bounded by entries and by bytes.
type cache struct {
	maxEntries, maxBytes int

	mu      sync.Mutex
	entries map[question]*list.Element
	recent  *list.List // of *entry, most recently used first
	bytes   int
}

type entry struct {
	question question
	reply    reply
	expires  time.Time
	bytes    int
}

func newCache(maxEntries, maxBytes int) *cache {
	return &cache{
		maxEntries: maxEntries, maxBytes: maxBytes,
		entries: map[question]*list.Element{}, recent: list.New(),
	}
}

// get returns the answer to a question that is still good at now.
func (c *cache) get(q question, now time.Time) (reply, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[q]
	if !ok {
		return reply{}, false
	}
	e := element.Value.(*entry)
	if !now.Before(e.expires) {
		c.remove(element)
		return reply{}, false
	}
	c.recent.MoveToFront(element)
	return e.reply, true
}

// put keeps an answer until r.at + ttl. An answer that takes more than an
// eighth of the cache is not kept.
func (c *cache) put(q question, r reply, ttl time.Duration) {
	e := &entry{q, r, r.at.Add(ttl), len(r.wire) + len(q.name) + entryOverheadBytes}
	if ttl <= 0 || e.bytes > c.maxBytes/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.entries[q]; ok {
		c.remove(old)
	}
	for c.recent.Len() > 0 && (c.recent.Len() >= c.maxEntries || c.bytes+e.bytes > c.maxBytes) {
		c.remove(c.recent.Back())
	}
	c.entries[q] = c.recent.PushFront(e)
	c.bytes += e.bytes
}

func (c *cache) remove(element *list.Element) {
	e := c.recent.Remove(element).(*entry)
	delete(c.entries, e.question)
	c.bytes -= e.bytes
}

// size returns the number of entries and what they cost in bytes.
func (c *cache) size() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len(), c.bytes
}
