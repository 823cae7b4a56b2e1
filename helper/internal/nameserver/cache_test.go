package nameserver

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestCache(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	key := func(i int) question { return question{name: fmt.Sprintf("%04d.example.", i), qtype: dns.TypeA} }
	put := func(c *cache, i, bytes int, ttl time.Duration) {
		c.put(key(i), reply{wire: make([]byte, bytes), at: begin}, ttl)
	}
	has := func(c *cache, i int, after time.Duration) bool {
		_, ok := c.get(key(i), begin.Add(after))
		return ok
	}
	t.Run("lives as long as its TTL", func(t *testing.T) {
		c := newCache(10, 1<<20)
		put(c, 1, 100, 10*time.Second)
		if !has(c, 1, 9999*time.Millisecond) || has(c, 1, 10*time.Second) {
			t.Error("it does not")
		}
		if n, bytes := c.size(); n != 0 || bytes != 0 {
			t.Errorf("found %d entries of %d bytes afterwards", n, bytes)
		}
	})
	t.Run("TTL 0 is not kept", func(t *testing.T) {
		c := newCache(10, 1<<20)
		put(c, 1, 100, 0)
		if n, _ := c.size(); n != 0 {
			t.Error("it is")
		}
	})
	t.Run("the least recently used one leaves", func(t *testing.T) {
		c := newCache(3, 1<<20)
		for i := 1; i <= 3; i++ {
			put(c, i, 100, time.Minute)
		}
		has(c, 1, 0)
		put(c, 4, 100, time.Minute)
		if !has(c, 1, 0) || has(c, 2, 0) || !has(c, 3, 0) || !has(c, 4, 0) {
			t.Error("another one left")
		}
	})
	t.Run("too large", func(t *testing.T) {
		c := newCache(10, 8000)
		put(c, 1, 1000, time.Minute)
		if n, _ := c.size(); n != 0 {
			t.Error("an answer of more than an eighth was kept")
		}
	})
	t.Run("DO and CD are different questions", func(t *testing.T) {
		c := newCache(10, 1<<20)
		put(c, 1, 100, time.Minute)
		for _, q := range []question{{key(1).name, dns.TypeA, true, false}, {key(1).name, dns.TypeA, false, true}, {key(1).name, dns.TypeAAAA, false, false}} {
			if _, ok := c.get(q, begin); ok {
				t.Errorf("%v was answered", q)
			}
		}
	})
}

// TestCacheBounds puts and gets at random: the bounds hold at each step, and
// the sum of the bytes stays the sum.
func TestCacheBounds(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	c, now := newCache(50, 40_000), time.Unix(1_700_000_000, 0)
	for i := 0; i < 50_000; i++ {
		q := question{name: fmt.Sprint(random.Intn(200), "."), qtype: dns.TypeA}
		if random.Intn(2) == 0 {
			c.get(q, now)
		} else {
			most := []int{6000, 50}[i/10_000%2] // so that now this bound holds, now that
			c.put(q, reply{wire: make([]byte, random.Intn(most)), at: now}, time.Duration(random.Intn(100))*time.Second)
		}
		now = now.Add(time.Second)
		sum := 0
		for e := c.recent.Front(); e != nil; e = e.Next() {
			sum += e.Value.(*entry).bytes
		}
		if n, bytes := c.size(); n > 50 || bytes > 40_000 || bytes != sum || n != len(c.entries) {
			t.Fatalf("step %d: found %d entries, %d in the map, of %d bytes, %d counted", i, n, len(c.entries), bytes, sum)
		}
	}
}
