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

// What matters less leaves some to what matters more.
func TestSparing(t *testing.T) {
	var b Bucket
	now := time.Unix(1000, 0)
	for n := range 3 {
		if !b.TakeSparing(now, 1, 5, 2) {
			t.Errorf("%d of 5 are taken, wanted another one while 2 are to be left", n)
		}
	}
	if b.TakeSparing(now, 1, 5, 2) || !b.Has(now, 1, 5, 0) {
		t.Error("wanted the last two for who spares none")
	}
	b.Spend(1.5)
	if b.Take(now, 1, 5) || !b.Take(now.Add(time.Second/2), 1, 5) {
		t.Error("a half is left of 5, wanted none to be taken before half a second")
	}
	if b.Empty(now); b.Has(now, 1, 5, 0) {
		t.Error("found some left, wanted none")
	}
	// Fewer at once from now on: what was left beyond them is gone.
	if later := now.Add(time.Minute); !b.Take(later, 1, 5) || !b.Take(later, 1, 2) || !b.Take(later, 1, 2) || b.Take(later, 1, 5) {
		t.Error("wanted no more at once than may be at once")
	}
}
