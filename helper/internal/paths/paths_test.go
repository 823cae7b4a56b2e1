package paths

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// cut loses what is broken from now on.
func (w *world) cut(broken func(from, to uint16, size int) bool) {
	w.link = func(from, to uint16, size int) (time.Duration, bool) { return w.delay(), broken(from, to, size) }
}

// cutAtTimes cuts the path between 1 and 2 for the first part of each period.
func (w *world) cutAtTimes(period, part time.Duration) {
	w.cut(func(from, to uint16, size int) bool { return between(1, 2)(from, to, size) && w.now%period < part })
}

func between(a, b uint16) func(from, to uint16, _ int) bool {
	return func(from, to uint16, _ int) bool { return from == a && to == b || from == b && to == a }
}

func none(_, _ uint16, _ int) bool { return false }

func TestCutAndBack(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.log = true
	w.run(20 * time.Second)
	if w.switches > 0 {
		t.Fatalf("%d switches in a healthy network", w.switches)
	}
	w.cut(between(1, 2))
	w.run(20*time.Second + 900*time.Millisecond)
	w.check(100*time.Millisecond, nil)
	w.run(60 * time.Second)
	w.check(100*time.Millisecond, nil)
	if w.switches > 4 {
		t.Errorf("%d switches for one cut", w.switches)
	}
	told := func() Report { return w.host(1).engine.Reports(w.now)[0] } // about 2
	if r := told(); r.Via == 0 || r.DirectHold == 0 || r.DirectWell > 0 {
		t.Errorf("while the path is cut: %+v", r)
	}
	w.cut(none)
	for w.now < 80*time.Second { // failback without a gap
		w.run(w.now + 50*time.Millisecond)
		w.check(150*time.Millisecond, nil)
		if r := told(); w.now == 65*time.Second && (r.DirectWell < 3*time.Second || r.DirectWell > r.DirectHold) {
			t.Errorf("5 s after the path was mended: %+v", r)
		}
	}
	if got := w.host(1).endpoints[2]; got != underlay(2) {
		t.Errorf("endpoint after the direct path came back: found %v, wanted %v", got, underlay(2))
	}
}

// TestBackWhereABusyHostMissesProbes: an end that is too busy to answer for more
// than half a second every 9 s is no reason to stay on the relay for good.
func TestBackWhereABusyHostMissesProbes(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.log = true
	w.run(20 * time.Second)
	w.cut(between(1, 2))
	w.run(40 * time.Second)
	w.cutAtTimes(9*time.Second, 600*time.Millisecond)
	for w.now < 2*time.Minute && w.host(1).endpoints[2] != underlay(2) {
		w.run(w.now + time.Second)
	}
	if w.now >= 2*time.Minute {
		t.Error("the direct path is not used again")
	}
}

func TestOneWay(t *testing.T) {
	w := newWorld(t, 4, 2)
	w.log = true
	w.run(10 * time.Second)
	w.cut(func(from, to uint16, _ int) bool { return from == 1 && to == 2 })
	for w.run(11 * time.Second); w.now < 40*time.Second; w.run(w.now + time.Second) {
		w.check(200*time.Millisecond, nil)
	}
}

// TestSmallerMTU: where what is longer than some size gets lost, whatever size that is, traffic goes
// another way within 3 s, and stays there.
func TestSmallerMTU(t *testing.T) {
	for seed := int64(0); seed < 20; seed++ {
		w := newWorld(t, 4, seed)
		w.run(10*time.Second + time.Duration(seed)*137*time.Millisecond)
		most := 1280 + int(seed)*11
		w.cut(func(from, to uint16, size int) bool { return size > most && between(1, 2)(from, to, size) })
		w.run(w.now + 3*time.Second)
		if w.host(1).endpoints[2] == underlay(2) || w.host(2).endpoints[1] == underlay(1) {
			t.Errorf("seed %d: what is longer than %d bytes gets lost, and 3 s later the path was kept", seed, most)
		}
		w.run(w.now + time.Minute)
		if w.switches > 4 {
			t.Errorf("seed %d: %d switches", seed, w.switches)
		}
		w.check(200*time.Millisecond, nil)
	}
}

// TestFullSizeIsTestedOften: the more peers have traffic, the less often, but within a budget.
func TestFullSizeIsTestedOften(t *testing.T) {
	e := New(Config{}, 1)
	p := &peer{activeUntil: time.Second}
	for _, c := range []struct {
		active int
		every  time.Duration
	}{{1, time.Second}, {30, time.Second}, {100, time.Second}, {140, 1400 * time.Millisecond}, {3000, 10 * time.Second}} {
		e.active = c.active
		if got := e.fullEvery(p, max(activeInterval, min(sharePerActive(c.active), idleInterval))); got != c.every {
			t.Errorf("%d peers with traffic: found %v between probes of full size, wanted %v", c.active, got, c.every)
		}
	}
}

func TestLossDoesNotFlap(t *testing.T) {
	for seed := int64(0); seed < 10; seed++ {
		w := newWorld(t, 4, seed)
		w.run(10 * time.Second)
		w.cut(func(from, to uint16, size int) bool { return between(1, 2)(from, to, size) && w.random.Float64() < 0.2 })
		w.run(10 * time.Minute)
		if w.switches > 4 {
			t.Errorf("seed %d: %d switches on 20 %% loss", seed, w.switches)
		}
	}
}

func TestLossEverywhereDoesNotFlap(t *testing.T) {
	w := newWorld(t, 4, 4)
	w.cut(func(_, _ uint16, _ int) bool { return w.random.Float64() < 0.2 })
	w.run(20 * time.Minute)
	if w.switches > 0 {
		t.Errorf("%d switches with 20 %% loss on all paths", w.switches)
	}
}

func TestComingAndGoingDoesNotFlap(t *testing.T) {
	w := newWorld(t, 4, 5)
	w.log = true
	w.run(10 * time.Second)
	w.cutAtTimes(2*time.Second, time.Second)
	w.run(10 * time.Minute)
	if w.switches > 6 {
		t.Errorf("%d switches on a path that comes and goes", w.switches)
	}
}

func TestSlowFlapping(t *testing.T) {
	w := newWorld(t, 4, 6)
	w.log = true
	w.run(10 * time.Second)
	w.cutAtTimes(50*time.Second, 25*time.Second)
	w.run(30 * time.Minute)
	if w.switches > 30 { // 36 periods; the hold doubles
		t.Errorf("%d switches on a path that comes and goes", w.switches)
	}
}

func TestRelayDies(t *testing.T) {
	w := newWorld(t, 5, 7)
	w.log = true
	w.run(10 * time.Second)
	w.cut(between(1, 2))
	w.run(20 * time.Second)
	via := w.host(1).engine.peers[2].via
	if via == 0 {
		t.Fatal("not relayed")
	}
	w.host(via).off = true
	w.run(21 * time.Second)
	w.check(100*time.Millisecond, nil)
	w.run(40 * time.Second)
	w.check(100*time.Millisecond, nil)
}

// TestDelay: a path that is slow is left for a relay or kept, but not left again and
// again, however many packets are on their way when the engines choose.
func TestDelay(t *testing.T) {
	for _, every := range []time.Duration{50 * time.Millisecond, 10 * time.Millisecond, 2 * time.Millisecond} {
		for _, delay := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second} {
			t.Run(fmt.Sprintf("%v with packets every %v", delay, every), func(t *testing.T) {
				w := newWorld(t, 4, 8)
				w.dataEvery = every
				w.run(10 * time.Second)
				w.link = func(from, to uint16, size int) (time.Duration, bool) {
					if between(1, 2)(from, to, size) {
						return delay, false
					}
					return w.delay(), false
				}
				w.run(time.Minute)
				settled := w.switches // packets on their way for so long disturb the first choice
				w.run(5 * time.Minute)
				most := 20
				if delay > 500*time.Millisecond {
					most = 60
				}
				if settled > most || w.switches > settled {
					t.Errorf("%d switches on a slow path, %d of them late", w.switches, w.switches-settled)
				}
				w.check(delay+200*time.Millisecond, nil)
			})
		}
	}
}

func TestStallIsNoOutage(t *testing.T) {
	w := newWorld(t, 4, 9)
	w.log = true
	w.run(10 * time.Second)
	for i := 0; i < 40; i++ {
		w.host(uint16(i%4 + 1)).stalled = w.now + time.Duration(100+w.random.Intn(200))*time.Millisecond
		w.run(w.now + time.Second)
	}
	if w.switches > 0 {
		t.Errorf("%d switches because of agents that did not run", w.switches)
	}
}

func TestPeerOffAndOn(t *testing.T) {
	w := newWorld(t, 4, 10)
	w.log = true
	w.run(10 * time.Second)
	w.host(2).off = true
	w.run(60 * time.Second)
	w.host(2).off = false
	w.run(63 * time.Second)
	w.check(200*time.Millisecond, nil)
	if w.switches > 0 {
		t.Errorf("%d switches for a host that was off", w.switches)
	}
}

// TestPeerMoves: a host gets another underlay address, and its old one back.
// Everybody follows it by what it sends, and by no relay.
func TestPeerMoves(t *testing.T) {
	w := newWorld(t, 4, 11)
	w.log = true
	w.run(20 * time.Second)
	elsewhere := netip.MustParseAddrPort("203.0.113.2:51820")
	for _, to := range []netip.AddrPort{elsewhere, underlay(2)} {
		w.moved[2] = to
		w.run(w.now + 300*time.Millisecond)
		for end := w.now + time.Minute; w.now < end; w.run(w.now + 100*time.Millisecond) {
			w.check(200*time.Millisecond, nil)
		}
		for _, id := range []uint16{1, 3, 4} {
			if r := w.host(id).engine.Reports(w.now)[min(int(id)-1, 1)]; r.Peer != 2 || r.State != StateUp || r.Via != 0 || r.Endpoint != to {
				t.Errorf("%d about 2, which is at %v: %+v", id, to, r)
			}
		}
	}
	if w.switches > 0 {
		t.Errorf("%d switches", w.switches)
	}
}

// TestRestart: the agents begin anew one after another, as after a deploy, and
// come back after very different times. Nobody leaves a path because of that.
func TestRestart(t *testing.T) {
	seeds := int64(20)
	if raceDetector {
		seeds = 4
	}
	for seed := int64(0); seed < seeds; seed++ {
		w := newWorld(t, 5, seed)
		w.dataEvery = 20 * time.Millisecond
		w.run(20 * time.Second)
		for i := 0; i < 20; i++ {
			w.restart(w.host(uint16(i%5+1)), 300*time.Millisecond+time.Duration(w.random.Int63n(int64(3*time.Second))))
			for end := w.now + 3*time.Second; w.now < end; w.run(w.now + 50*time.Millisecond) {
				w.check(100*time.Millisecond, nil)
			}
		}
		if w.switches > 0 {
			t.Errorf("seed %d: %d switches because of agents that began anew", seed, w.switches)
		}
		for _, h := range w.hosts {
			for _, r := range h.engine.Reports(w.now) {
				if r.Via != 0 || r.Problem != "" || r.State == StateDown {
					t.Errorf("seed %d: %d about %d: %+v", seed, h.id, r.Peer, r)
				}
			}
		}
	}
}

// TestCutDuringRestart: a goodbye excuses the agent, for some seconds, and no path.
func TestCutDuringRestart(t *testing.T) {
	for _, back := range []time.Duration{time.Second, time.Hour} {
		w := newWorld(t, 5, 12)
		w.run(20 * time.Second)
		w.restart(w.host(2), back)
		w.run(20*time.Second + 300*time.Millisecond)
		w.cut(between(1, 2))
		w.run(28 * time.Second)
		switch told := w.host(1).engine.Reports(w.now)[0]; {
		case back == time.Hour:
			if told.State != StateDown {
				t.Errorf("an agent that said goodbye 8 s ago and is gone: %+v", told)
			}
		case told.Via == 0:
			t.Errorf("the path was cut while the agent began anew: %+v", told)
		default:
			w.check(100*time.Millisecond, nil)
		}
	}
}
