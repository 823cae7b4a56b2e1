package paths

import (
	"testing"
	"time"
)

// TestStats: what a host counts is what it sent, what came back and what it did: a healthy
// network changes nothing, one cut is one failure and one search at an end of it.
func TestStats(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.run(20 * time.Second)
	s := w.host(1).engine.Stats()
	if s.Direct.Sent < 40 || s.Direct.RoundTrips.Count < s.Direct.Sent-6 || s.Direct.RoundTrips.Count > s.Direct.Sent {
		t.Errorf("found %+v, wanted that nearly all of some 60 probes were answered", s.Direct)
	}
	if s.Relayed.Sent != 0 || s.Direct.Taken+s.Relayed.Taken+s.Falls+s.Searches+s.SearchesFailed+s.QuestionsRefused+s.ChecksRefused != 0 {
		t.Errorf("found %+v in a healthy network", s)
	}
	all := uint64(0)
	for _, n := range s.Direct.RoundTrips.Buckets {
		all += n
	}
	mean := s.Direct.RoundTrips.Sum / time.Duration(s.Direct.RoundTrips.Count)
	if all != s.Direct.RoundTrips.Count || mean < time.Millisecond || mean > 200*time.Millisecond {
		t.Errorf("found %d in buckets of %d, a mean of %v", all, s.Direct.RoundTrips.Count, mean)
	}
	w.cut(between(1, 2))
	w.run(25 * time.Second)
	one, two := w.host(1).engine.Stats(), w.host(2).engine.Stats()
	if one.Falls+two.Falls == 0 || one.Falls+two.Falls > 2 || one.Searches+two.Searches == 0 || one.Relayed.Taken == 0 || two.Relayed.Taken == 0 {
		t.Errorf("found %+v and %+v, wanted that the cut was noticed, and both relay", one, two)
	}
	if one.Relayed.RoundTrips.Count < 3 || one.Relayed.RoundTrips.Count > one.Relayed.Sent {
		t.Errorf("found %+v, wanted answers by the relay", one.Relayed)
	}
}

// TestStatsOfRefusals: a host that asks for relays more than an agent does is refused, and
// that is counted.
func TestStatsOfRefusals(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.run(5 * time.Second)
	e := w.host(1).engine
	for i := uint32(0); i < 500; i++ {
		e.Asked(e.now, 2, i, 3)
	}
	if s := e.Stats(); s.QuestionsRefused < 400 || s.QuestionsRefused > 500-queriesPerSecond {
		t.Errorf("found %d of 500 questions refused, wanted most", s.QuestionsRefused)
	}
	before := e.Stats().ChecksRefused
	e.Asked(e.now+time.Minute, 2, 500, make([]uint16, MaxTargets+7)...)
	if got := e.Stats().ChecksRefused - before; got != 7 {
		t.Errorf("found %d targets beyond %d refused, wanted 7", got, MaxTargets)
	}
	e.Asked(e.now, 77, 1, 3) // of nobody
	if again := e.Stats(); again.QuestionsRefused > 500 {
		t.Errorf("found %d refused", again.QuestionsRefused)
	}
}

func TestRoundTripBounds(t *testing.T) {
	var r RoundTrips
	for _, d := range []time.Duration{0, 500 * time.Microsecond, 501 * time.Microsecond, 2 * time.Second, 3 * time.Second} {
		r.add(d)
	}
	if r.Count != 5 || r.Sum != 5*time.Second+1001*time.Microsecond || r.Buckets[0] != 2 || r.Buckets[1] != 1 || r.Buckets[len(r.Buckets)-1] != 1 {
		t.Errorf("found %+v", r)
	}
}
