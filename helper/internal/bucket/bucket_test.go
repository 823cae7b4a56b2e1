package bucket

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	var b Bucket
	now := time.Unix(1000, 0)
	taken := func() (n int) {
		for b.Take(now, 2, 5) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		later time.Duration
		want  int
	}{{0, 5}, {0, 0}, {499 * time.Millisecond, 0}, {time.Millisecond, 1}, {time.Second, 2}, {time.Hour, 5}} {
		now = now.Add(c.later)
		if got := taken(); got != c.want {
			t.Errorf("%v later: %d times, wanted %d", c.later, got, c.want)
		}
	}
}
