package paths

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// victim is the host that dies, becomes slow or is slandered.
const victim = 7

// deaths has the victim be off, and returns after how long each host with an engine knows
// it, sorted, and how many packets all send to it in the busiest second.
func (w *many) deaths(d time.Duration) (took []time.Duration, most int) {
	w.resetLoad()
	w.hosts[victim].off, w.hosts[victim].died = true, w.now
	began := w.now
	took = make([]time.Duration, w.real+1)
	for i := range took {
		took[i] = never
	}
	w.run(d, func() {
		if w.now%(10*time.Millisecond) != 0 {
			return
		}
		for id, h := range w.hosts[:w.real+1] {
			if h != nil && id != victim && took[id] == never && h.engine.peers[victim].phase == down {
				took[id] = w.now - began
			}
		}
	})
	took = slices.Delete(took, victim, victim+1)[1:]
	slices.Sort(took)
	return took, w.hosts[victim].weighed
}

// busyWith has all hosts have traffic with the victim.
func (w *many) busyWith(id uint16) {
	for other := uint16(1); int(other) < len(w.hosts); other++ {
		if other != id {
			w.busy[pair(id, other)] = true
		}
	}
}

// BenchmarkDeath says how long it takes until all know that one died, and how many packets
// all send to it before, meanwhile, and to one that answers later instead. Where fewer hosts
// have an engine than there are, each stands for several.
func BenchmarkDeath(b *testing.B) {
	for _, c := range []struct{ hosts, engines int }{{100, 100}, {300, 300}, {1000, 80}, {3000, 80}} {
		for _, busy := range []bool{false, true} {
			name := fmt.Sprintf("of %d hosts, %d engines", c.hosts, c.engines)
			if busy {
				name += ", all have traffic with it"
			}
			b.Run("one dies "+name, func(b *testing.B) {
				w := newVictim(b, c.hosts, c.engines, busy)
				b.ReportMetric(float64(w.hosts[victim].weighed), "packets/s-alive")
				took, most := w.deaths(11 * time.Second)
				b.ReportMetric(took[len(took)/2].Seconds(), "known-p50-s")
				b.ReportMetric(took[len(took)*99/100].Seconds(), "known-p99-s")
				b.ReportMetric(float64(most), "packets/s-dying")
			})
			for _, later := range []time.Duration{300 * time.Millisecond, time.Second} {
				b.Run(fmt.Sprintf("one answers %v later %s", later, name), func(b *testing.B) {
					w := newVictim(b, c.hosts, c.engines, busy)
					w.resetLoad()
					w.slow = map[uint16]time.Duration{victim: later}
					w.run(8*time.Second, nil)
					b.ReportMetric(float64(w.hosts[victim].weighed), "packets/s-first")
					w.run(8*time.Second, nil)
					w.resetLoad()
					w.run(4*time.Second, nil)
					b.ReportMetric(float64(w.hosts[victim].weighed), "packets/s-in-the-end")
					b.ReportMetric(float64(w.switches), "switches-in-the-end")
				})
			}
		}
	}
}

// newVictim is newMany that has run, the last 3 s with loads counted.
func newVictim(t testing.TB, n, real int, busy bool) *many {
	w := newMany(t, n, real, 1)
	if busy {
		w.busyWith(victim)
	}
	w.run(warm(n), nil)
	w.resetLoad()
	w.run(3*time.Second, nil)
	return w
}

// TestEverybodyKnowsWhoDied: among 3,000 hosts, which probe each other each 8 s, all know
// soon that one is dead, and do not ask it too much for that.
func TestEverybodyKnowsWhoDied(t *testing.T) {
	for seed := int64(1); seed <= 2; seed++ {
		w := newMany(t, 3000, 60, seed)
		w.run(warm(3000), nil)
		took, most := w.deaths(5 * time.Second)
		t.Logf("%s; %d packets/s to it", summary(took), most)
		if longest(took) > 3200*time.Millisecond || took[len(took)*95/100] > 3*time.Second {
			t.Errorf("%s, wanted all soon", summary(took))
		}
		if most > mostPackets {
			t.Errorf("%d packets/s to it, wanted %d at most", most, mostPackets)
		}
	}
}

// TestACrowdDoesNotAskTooMuch: 300 hosts have traffic with one, and would ask it for 2,500
// answers a second together, and for 6,700 when it dies. They know all the same soon, and
// a path of theirs that breaks is healed within a second.
func TestACrowdDoesNotAskTooMuch(t *testing.T) {
	w := newMany(t, 300, 100, 1)
	w.busyWith(victim)
	w.run(warm(300)+3*time.Second, nil)
	w.resetLoad()
	w.run(2*time.Second, nil)
	alive := w.hosts[victim].weighed
	w.resetLoad()
	var broken [][2]uint16
	for id := uint16(20); id < 40; id++ {
		broken = append(broken, [2]uint16{victim, id})
	}
	w.cut = func(a, b uint16) bool { p := pair(a, b); return p[0] == victim && p[1] >= 20 && p[1] < 40 }
	healed := w.outages(3*time.Second, broken)[0]
	if cut := w.hosts[victim].weighed; alive > mostPackets*2/3 || cut > mostPackets || longest(healed) > time.Second {
		t.Errorf("%d packets/s, then %d; cut paths: %s", alive, cut, summary(healed))
	}
	took, most := w.deaths(5 * time.Second)
	t.Logf("%d packets/s; cut: %s; dies: %s; %d packets/s", alive, summary(healed), summary(took), most)
	if most > mostPackets || longest(took) > time.Second {
		t.Errorf("%s; %d packets/s", summary(took), most)
	}
}

// TestLiarsCostLittle: one of 3,000 peers says all the time that each other is dead, and
// then many of them do. Nobody is taken for dead, and probes stay as few as each bound says.
func TestLiarsCostLittle(t *testing.T) {
	for _, liars := range []uint16{1, 20} {
		w := newCrowd(3000)
		w.run(20 * time.Second)
		tried := map[uint16]int{}
		w.lost = func(p Probe) bool { tried[p.Peer]++; return false }
		w.sent, w.most = 0, 0
		for step := uint16(0); step < 20_000; step++ { // 10 s
			for liar := uint16(1); liar <= liars; liar++ {
				w.engine.Told(w.now, liar, probe.Aside{Dead: 100 + step%2900})
				w.engine.Told(w.now, liar, probe.Aside{Dead: victim})
			}
			if step%2000 == 1999 {
				w.run(time.Second)
			}
		}
		s := w.engine.Stats()
		t.Logf("%d liars: %d probes/s, %d of the victim, %d refused", liars, w.sent/10, tried[victim], s.RumorsRefused)
		if s.Falls > 0 || w.sets > 0 {
			t.Errorf("%d liars: %d paths fell, %d were left", liars, s.Falls, w.sets)
		}
		if tried[victim] > 4 {
			t.Errorf("%d liars had the victim probed %d times in 10 s, wanted one each 5 s beside the usual", liars, tried[victim])
		}
		if usual := idleProbesPerSecond + idleProbesPerSecond/5; w.sent/10 > usual+rumorsPerSecond {
			t.Errorf("%d liars: %d probes/s", liars, w.sent/10)
		}
		if s.RumorsRefused < 10_000 {
			t.Errorf("%d refused", s.RumorsRefused)
		}
	}
}

// TestOneLiarNeedsTheSameProof: what one host says does not make a probe that got lost by
// chance a proof, nor do many when the peer was heard since, or loses packets.
func TestOneLiarNeedsTheSameProof(t *testing.T) {
	for _, c := range []struct {
		name    string
		tellers uint16
		stray   float64
		heard   bool
		misses  int
	}{
		{"one", 1, 0, false, fewMisses}, {"one less than many", manyTellers - 1, 0, false, fewMisses}, {"many", manyTellers, 0, false, toldMisses},
		{"many, heard since", manyTellers, 0, true, fewMisses}, {"many, of one that loses packets", manyTellers, 0.02, false, downMisses},
	} {
		w := newCrowd(3000)
		w.run(20 * time.Second)
		p := w.engine.peers[victim]
		for w.now-p.small.lastAnswer < downAfter {
			w.run(time.Second)
		}
		p.stray = c.stray
		for teller := uint16(100); teller < 100+c.tellers; teller++ {
			for again := 0; again < 3; again++ { // who says it often is one all the same
				w.engine.Told(w.now, teller, probe.Aside{Dead: victim})
			}
		}
		if c.heard {
			w.engine.Heard(w.now, victim)
		}
		if got := w.engine.needed(p); got != c.misses {
			t.Errorf("%s: %d lost probes are enough, wanted %d", c.name, got, c.misses)
		}
	}
}

// TestWhoIsTold: of a peer that has just fallen, unless a relay was found or all fell at
// once, and not for long.
func TestWhoIsTold(t *testing.T) {
	w := newCrowd(500)
	w.run(5 * time.Second)
	told := func() (dead map[uint16]bool) {
		dead = map[uint16]bool{}
		for i := 0; i < 100; i++ {
			dead[w.engine.Aside().Dead] = true
		}
		return dead
	}
	if got := told(); len(got) != 1 || !got[0] {
		t.Errorf("told of %v in a healthy network", got)
	}
	w.dead = func(id uint16) bool { return id == 3 || id == 4 }
	w.run(3 * time.Second)
	if got := told(); len(got) != 2 || !got[3] || !got[4] {
		t.Errorf("told of %v, wanted 3 and 4", got)
	}
	w.run(tellFor + 2*time.Second)
	if got := told(); len(got) != 1 || !got[0] {
		t.Errorf("told of %v long after", got)
	}
	w.dead = func(id uint16) bool { return true }
	w.run(3 * time.Second)
	if got := told(); len(got) != 1 || !got[0] {
		t.Errorf("told of %v when this host was cut off", got)
	}
}

// TestBackIsKnownAtOnce: a peer that was dead, and is tried seldom, is tried as soon as it
// is heard.
func TestBackIsKnownAtOnce(t *testing.T) {
	w := newCrowd(3000)
	w.run(20 * time.Second)
	w.dead = func(id uint16) bool { return id == victim }
	w.run(30 * time.Second)
	p := w.engine.peers[victim]
	if p.phase != down {
		t.Fatal("it is not down")
	}
	w.dead = func(uint16) bool { return false }
	w.engine.Heard(w.now, victim)
	w.run(time.Second)
	if p.phase != up || w.now-p.since < 900*time.Millisecond {
		t.Errorf("phase %d since %v, wanted that it was up at once", p.phase, w.now-p.since)
	}
}

// TestComingAndGoing: a host whose own link comes and goes, so that all others seem to die
// and come back, and which tells of none of them, remembers each of them once.
func TestComingAndGoing(t *testing.T) {
	w := newCrowd(400)
	w.run(5 * time.Second)
	off := false
	w.dead = func(uint16) bool { return off }
	for i := 0; i < 6; i++ {
		off = !off
		w.run(4 * time.Second)
	}
	if falls, kept := w.engine.Stats().Falls, len(w.engine.fallen); falls < 1000 || kept > 400 {
		t.Errorf("after %d falls found %d of 400 peers to tell of", falls, kept)
	}
}

// TestWhoAsksAndDoesNotAnswer: a peer that asks a thousand times a second and answers
// nothing is not tried for each time.
func TestWhoAsksAndDoesNotAnswer(t *testing.T) {
	w := newCrowd(500)
	w.run(5 * time.Second)
	w.dead = func(id uint16) bool { return id == victim }
	w.run(20 * time.Second)
	if w.engine.peers[victim].phase != down {
		t.Fatal("it is not down")
	}
	for i := time.Duration(0); i < 4000; i++ {
		w.at(w.now+i*time.Millisecond, func() { w.engine.Heard(w.now, victim) })
	}
	before := w.vain
	w.run(4 * time.Second)
	if tried := w.vain - before; tried == 0 || tried > int(5*time.Second/activeInterval) {
		t.Errorf("found %d probes in 4 s, wanted one in %v at most", tried, activeInterval)
	}
}
