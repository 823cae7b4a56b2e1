package paths

import (
	"testing"
	"time"
)

// TestFirstAnswers: what is sent before WireGuard has a session is lost, or waits for it. It says
// nothing of the way, neither how much gets lost there nor how long it takes.
func TestFirstAnswers(t *testing.T) {
	l, now := &line{}, time.Second
	for ; now < 9*time.Second; now += 100 * time.Millisecond {
		l.send(now) // and lost
	}
	waited := l.send(now)
	now += 800 * time.Millisecond
	for s := waited; s <= l.last; s++ {
		l.answer(now, s)
	}
	if share, _ := l.loss(now); share > 0 {
		t.Errorf("found a loss of %v, wanted none", share)
	}
	for i := 0; i < 3; i++ {
		s := l.send(now)
		now += 10 * time.Millisecond
		l.answer(now, s)
	}
	if l.srtt != 10*time.Millisecond {
		t.Errorf("found a round trip of %v, wanted 10 ms", l.srtt)
	}
	lost := uint32(20)
	for i := uint32(0); i < 100; i++ {
		s := l.send(now)
		if now += 10 * time.Millisecond; i >= lost {
			l.answer(now, s)
		}
	}
	if share, of := l.loss(now + time.Second); of != 104 || share*float64(of) != float64(lost) {
		t.Errorf("found a loss of %v of %d, wanted %d of 104", share, of, lost)
	}
}
