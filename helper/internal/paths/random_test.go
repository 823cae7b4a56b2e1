package paths

import (
	"math/rand"
	"testing"
	"time"
)

// faults are what may be wrong with a network at a time.
type faults struct {
	cut  map[[2]uint16]bool // one direction
	loss map[[2]uint16]float64
	mtu  map[[2]uint16]bool
}

func randomFaults(r *rand.Rand, n int) faults {
	f := faults{map[[2]uint16]bool{}, map[[2]uint16]float64{}, map[[2]uint16]bool{}}
	share := r.Float64() * 0.35
	for a := uint16(1); int(a) <= n; a++ {
		for b := a + 1; int(b) <= n; b++ {
			if r.Float64() > share {
				continue
			}
			there, back := [2]uint16{a, b}, [2]uint16{b, a}
			switch r.Intn(5) {
			case 0, 1:
				f.cut[there], f.cut[back] = true, true
			case 2:
				f.cut[there] = true
			case 3:
				f.loss[there], f.loss[back] = 0.1, 0.1
			case 4:
				f.mtu[there] = true
			}
		}
	}
	return f
}

// clean reports whether the path between two hosts loses nothing.
func (f faults) clean(a, b uint16) bool {
	for _, d := range [][2]uint16{{a, b}, {b, a}} {
		if f.cut[d] || f.loss[d] > 0 || f.mtu[d] {
			return false
		}
	}
	return true
}

// connected reports whether two hosts can talk, directly or over one relay.
func (w *world) connected(f faults, a, b uint16) bool {
	if !f.cut[[2]uint16{a, b}] && !f.cut[[2]uint16{b, a}] {
		return true
	}
	for _, c := range w.hosts {
		if !c.off && c.id != a && c.id != b && f.clean(a, c.id) && f.clean(c.id, b) {
			return true
		}
	}
	return false
}

// TestRandomFaults breaks a network again and again. Some seconds after each
// change all hosts between which there is a way must hear each other, and then
// nothing may move any more.
func TestRandomFaults(t *testing.T) {
	seeds, rounds := int64(12), 4
	if testing.Short() || raceDetector {
		seeds, rounds = 3, 3
	}
	for seed := int64(0); seed < seeds; seed++ {
		n := 4 + int(seed)%9
		w := newWorld(t, n, seed)
		w.run(5 * time.Second)
		for round := 0; round < rounds && !t.Failed(); round++ {
			f := randomFaults(w.random, n)
			for _, h := range w.hosts {
				h.off = w.random.Intn(12) == 0
				if w.random.Intn(6) == 0 {
					w.restart(h, time.Duration(w.random.Int63n(int64(3*time.Second))))
				}
			}
			w.link = func(from, to uint16, size int) (time.Duration, bool) {
				way := [2]uint16{from, to}
				return w.delay(), f.cut[way] || f.mtu[way] && size > 1300 || w.random.Float64() < f.loss[way]
			}
			start := w.now
			w.run(start + 15*time.Second)
			// Probes that are lost by chance are allowed, so look a little longer.
			w.check(time.Second, func(from, to uint16) bool { return !w.connected(f, from, to) })
			w.run(start + 100*time.Second)
			before := w.switches
			w.run(start + 160*time.Second)
			if late := w.switches - before; late > 2*n {
				t.Errorf("seed %d, round %d: %d switches long after the last fault", seed, round, late)
			}
			w.check(time.Second, func(from, to uint16) bool { return !w.connected(f, from, to) })
			if t.Failed() {
				t.Logf("seed %d, round %d, %d hosts, cut %v, loss %v, mtu %v", seed, round, n, f.cut, f.loss, f.mtu)
			}
		}
		if t.Failed() {
			return
		}
	}
}
