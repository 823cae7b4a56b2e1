package paths

import (
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"
)

// never is how long an outage takes that does not end.
const never = time.Hour

// summary says how long outages took.
func summary(took []time.Duration) string {
	if len(took) == 0 {
		return "none"
	}
	lost := 0
	for _, d := range took {
		if d == never {
			lost++
		}
	}
	most := "all"
	if lost > 0 {
		most = fmt.Sprintf("%d not", lost)
	}
	seconds := func(i int) float64 { return took[i].Seconds() }
	last := max(len(took)-1-lost, 0)
	return fmt.Sprintf("%d paths, %s; p50 %.2f p90 %.2f p99 %.2f longest %.2f s", len(took), most, seconds(len(took)/2), seconds(len(took)*9/10), seconds(len(took)*99/100), seconds(last))
}

// load says how many packets a second went to the hosts with an engine in their busiest one.
func (w *many) load() int {
	most := 0
	for _, h := range w.hosts[1 : w.real+1] {
		most = max(most, h.most)
	}
	return most
}

func (w *many) resetLoad() {
	w.asked, w.switches = 0, 0
	for _, h := range w.hosts[1:] {
		h.most, h.load, h.alike, h.weighed = 0, 0, 0, 0
	}
}

// warm is how long a network of so many runs before anything happens to it.
func warm(n int) time.Duration { return 3*time.Second + time.Duration(2*max(n, 375))*time.Second/375 }

// halfCut cuts half of all paths, by chance, but none of a busy pair in part.
func halfCut(seed int64) func(a, b uint16) bool {
	return func(a, b uint16) bool {
		p := pair(a, b)
		x := uint64(p[0])<<32 | uint64(p[1])<<8 | uint64(seed)
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		x ^= x >> 33
		x *= 0xc4ceb9fe1a85ec53
		x ^= x >> 33
		return x&1 == 1
	}
}

// outages lets the network run and returns, for each kind of paths and sorted, after how
// long each path works for good.
func (w *many) outages(d time.Duration, kinds ...[][2]uint16) [][]time.Duration {
	began := w.now
	took := make([][]time.Duration, len(kinds))
	for k := range kinds {
		took[k] = make([]time.Duration, len(kinds[k]))
		for i := range took[k] {
			took[k][i] = never
		}
	}
	w.run(d, func() {
		if w.now%(20*time.Millisecond) != 0 {
			return
		}
		for k, paths := range kinds {
			for i, p := range paths {
				if !w.works(p[0], p[1]) {
					took[k][i] = never
				} else if took[k][i] == never {
					took[k][i] = w.now - began
				}
			}
		}
	})
	for k := range took {
		slices.Sort(took[k])
	}
	return took
}

// cutHalf runs a network of which half of all paths are cut at once; 24 of them busy.
func cutHalf(t testing.TB, n, real int, seed int64, d time.Duration) (busy, idle []time.Duration, w *many) {
	w = newMany(t, n, real, seed)
	cut := halfCut(seed)
	var idles, busies [][2]uint16
	for a := uint16(1); int(a) <= real; a++ {
		for b := uint16(1); int(b) <= n; b++ {
			if b == a || int(b) <= real && b < a || !cut(a, b) {
				continue
			}
			if len(busies) < 24 && b >= a && len(idles)%((n-1)/2) < 3 {
				busies = append(busies, [2]uint16{a, b})
				w.busy[pair(a, b)] = true
			} else {
				idles = append(idles, [2]uint16{a, b})
			}
		}
	}
	w.run(warm(n), nil)
	w.cut = cut
	w.resetLoad()
	took := w.outages(d, busies, idles)
	return took[0], took[1], w
}

// cutBusy cuts 24 busy paths of one host where so many of all hosts are off, and have
// been for a while.
func cutBusy(t testing.TB, n int, off float64, seed int64, d time.Duration) ([]time.Duration, *many) {
	w := newMany(t, n, 1, seed)
	var paths [][2]uint16
	for id := uint16(2); len(paths) < 24; id++ {
		paths = append(paths, [2]uint16{1, id})
		w.busy[pair(1, id)] = true
	}
	w.run(warm(n), nil)
	for _, h := range w.hosts[26:] {
		h.off = w.random.Float64() < off
	}
	w.run(10*time.Second, nil)
	w.cut = func(a, b uint16) bool { return a == 1 && b <= 25 || b == 1 && a <= 25 }
	w.resetLoad()
	return w.outages(d, paths)[0], w
}

// dieOrSlow has host 7 off, or answer later by so much, and returns how many packets all
// hosts together send to it in the busiest second, and in the last of 20.
func dieOrSlow(t testing.TB, n, real int, seed int64, later time.Duration) (most, last int, w *many) {
	w = newMany(t, n, real, seed)
	w.run(warm(n), nil)
	w.resetLoad()
	if later > 0 {
		w.slow = map[uint16]time.Duration{7: later}
	} else {
		w.hosts[7].off, w.hosts[7].died = true, w.now
	}
	w.run(19*time.Second, nil)
	most = w.hosts[7].most
	w.resetLoad()
	w.run(time.Second, nil)
	return most, w.hosts[7].most, w
}

const mostPackets = 3000 // a second to one host, from all others together

// TestManyPathsCutAtOnce: half of them, so that half of the relays do not reach the one
// end, and half not the other.
func TestManyPathsCutAtOnce(t *testing.T) {
	for seed := int64(1); seed <= 3; seed++ {
		busy, idle, w := cutHalf(t, 100, 100, seed, 10*time.Second)
		t.Logf("seed %d: busy: %s; idle: %s; %d packets/s", seed, summary(busy), summary(idle), w.load())
		if longest(busy) > time.Second || longest(idle) > 4*time.Second {
			t.Errorf("seed %d: busy: %s; idle: %s; wanted 1 s and 4 s at most", seed, summary(busy), summary(idle))
		}
		if w.load() > mostPackets {
			t.Errorf("seed %d: %d packets/s to one host, wanted %d at most", seed, w.load(), mostPackets)
		}
		before := w.switches
		w.run(5*time.Second, nil)
		if late := w.switches - before; late > 0 {
			t.Errorf("seed %d: %d switches after all was settled", seed, late)
		}
	}
}

func longest(took []time.Duration) time.Duration { return took[len(took)-1] }

// TestBusyPathsWhereManyAreOff: that some of 3,000 hosts are off, and looked for, does
// not keep those waiting whose traffic stands still.
func TestBusyPathsWhereManyAreOff(t *testing.T) {
	for _, off := range []float64{0, 0.05, 0.2} {
		for seed := int64(1); seed <= 2; seed++ {
			took, _ := cutBusy(t, 3000, off, seed, 5*time.Second)
			t.Logf("%.0f %% off, seed %d: %s", 100*off, seed, summary(took))
			if longest(took) > time.Second {
				t.Errorf("%.0f %% off, seed %d: %s, wanted all within 1 s", 100*off, seed, summary(took))
			}
		}
	}
}

// TestNobodyIsAskedByAllTooMuch: not who is dead, and not who is slow.
func TestNobodyIsAskedByAllTooMuch(t *testing.T) {
	for _, later := range []time.Duration{0, 300 * time.Millisecond, time.Second} {
		most, last, w := dieOrSlow(t, 120, 120, 1, later)
		t.Logf("%v later: %d packets/s, %d in the end, %d switches", later, most, last, w.switches)
		if most > mostPackets || last > mostPackets/2 || later == 0 && (most > mostPackets*2/3 || last > mostPackets/4) {
			t.Errorf("%v later: %d packets/s, %d in the end", later, most, last)
		}
		if later == 0 && w.switches > 0 {
			t.Errorf("%d switches for a host that is off", w.switches)
		}
	}
}

// TestEveryPairHasAWay: some hosts are off, and most paths of some are cut. Soon all
// that have a relay talk, and then nothing moves any more.
func TestEveryPairHasAWay(t *testing.T) {
	for seed := int64(1); seed <= 4; seed++ {
		const n = 60
		w := newMany(t, n, n, seed)
		w.run(warm(n), nil)
		for _, h := range w.hosts[1:] {
			h.off = w.random.Intn(10) == 0
		}
		share := map[uint16]float64{}
		for id := uint16(1); id <= n; id++ {
			share[id] = []float64{0, 0.1, 0.5, 0.9}[w.random.Intn(4)]
		}
		broken := map[[2]uint16]bool{}
		for a := uint16(1); a <= n; a++ {
			for b := a + 1; b <= n; b++ {
				broken[pair(a, b)] = w.random.Float64() < max(share[a], share[b])
			}
		}
		w.cut = func(a, b uint16) bool { return broken[pair(a, b)] }
		w.resetLoad()
		w.run(20*time.Second, nil)
		before := w.switches
		w.run(10*time.Second, nil)
		if late := w.switches - before; late > n/10 {
			t.Errorf("seed %d: %d switches long after the fault", seed, late)
		}
		for a := uint16(1); a <= n; a++ {
			for b := a + 1; b <= n; b++ {
				if w.reachable(a, b) && !w.works(a, b) {
					t.Errorf("seed %d: %d and %d do not talk, by %d and %d", seed, a, b, w.hosts[a].way[b], w.hosts[b].way[a])
				}
			}
		}
		if w.load() > mostPackets {
			t.Errorf("seed %d: %d packets/s to one host", seed, w.load())
		}
	}
}

// reachable reports whether two hosts can talk, directly or over one relay.
func (w *many) reachable(a, b uint16) bool {
	for via := range w.hosts {
		if v := uint16(via); v != a && v != b && w.passes(a, b, v) {
			return true
		}
	}
	return false
}

// BenchmarkHealing says how long outages take. Where fewer hosts have an engine than
// there are, these look for relays alone, without the other ends of their paths.
func BenchmarkHealing(b *testing.B) {
	for _, c := range []struct {
		hosts, engines int
		run            time.Duration
	}{{300, 300, 12 * time.Second}, {1000, 1000, 12 * time.Second}, {3000, 4, 30 * time.Second}} {
		b.Run(fmt.Sprintf("half of the paths of %d hosts, %d engines", c.hosts, c.engines), func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				busy, idle, w := cutHalf(b, c.hosts, c.engines, int64(i+1), c.run)
				b.ReportMetric(longest(busy).Seconds(), "busy-longest-s")
				b.ReportMetric(idle[len(idle)/2].Seconds(), "idle-p50-s")
				b.ReportMetric(idle[len(idle)*9/10].Seconds(), "idle-p90-s")
				done := sort.Search(len(idle), func(i int) bool { return idle[i] == never })
				b.ReportMetric(idle[max(done, 1)-1].Seconds(), "idle-longest-s")
				b.ReportMetric(100*float64(len(idle)-done)/float64(len(idle)), "%idle-not-done")
				if c.hosts == c.engines {
					b.ReportMetric(float64(w.load()), "packets/s-busiest")
				}
			}
		})
	}
	for _, c := range []struct{ hosts, engines int }{{300, 300}, {3000, 60}} {
		b.Run(fmt.Sprintf("one of %d hosts dies, %d engines", c.hosts, c.engines), func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				most, last, _ := dieOrSlow(b, c.hosts, c.engines, int64(i+1), 0)
				scale := float64(c.hosts) / float64(c.engines)
				b.ReportMetric(float64(most)*scale, "packets/s-to-it")
				b.ReportMetric(float64(last)*scale, "packets/s-in-the-end")
			}
		})
	}
}

// TestTrafficBeginsOnABrokenPath: of a host with 3,000 idle paths, 24 are cut, each a
// moment before traffic begins on it, so that hardly a probe has found out yet.
func TestTrafficBeginsOnABrokenPath(t *testing.T) {
	const n, broken, first = 3000, 24, 2
	for seed := int64(1); seed <= 3; seed++ {
		w := newMany(t, n, 1, seed)
		w.run(warm(n), nil)
		var isCut [n + 1]bool
		w.cut = func(a, b uint16) bool { return isCut[a] && b == 1 || isCut[b] && a == 1 }
		w.resetLoad()
		var took []time.Duration
		for id := uint16(first); id < first+broken; id++ {
			isCut[id] = true
			w.run(time.Duration(w.random.Int63n(int64(50*time.Millisecond)))+time.Millisecond, nil)
			w.busy[pair(1, id)] = true
			w.begins(1, id)
			took = append(took, w.outages(2*time.Second, [][2]uint16{{1, id}})[0]...)
			w.busy[pair(1, id)] = false
		}
		slices.Sort(took)
		t.Logf("%s; at most %d packets/s", summary(took), w.load())
		if last := took[len(took)-1]; last > time.Second {
			t.Errorf("the last path works again after %v, wanted a second at most", last)
		}
	}
}
