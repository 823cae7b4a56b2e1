package paths

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// secondAt is a host's address in the second network.
func secondAt(id uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(id)}), 51820)
}

func inSecond(ids ...uint16) map[uint16]netip.AddrPort {
	all := map[uint16]netip.AddrPort{}
	for _, id := range ids {
		all[id] = secondAt(id)
	}
	return all
}

// peer is a host as the document has it.
func (w *world) peer(id uint16) Peer {
	p := Peer{ID: id, Endpoint: w.document(id), NoRelay: !w.relays[id]}
	if at, ok := w.seconds[id]; ok && !w.telling {
		p.Others = []netip.AddrPort{at}
	}
	return p
}

// local are the networks that a host's interfaces are in.
func (w *world) local(id uint16) []netip.Prefix {
	all := []netip.Prefix{netip.PrefixFrom(underlay(id).Addr(), 32)}
	if at, ok := w.seconds[id]; ok {
		all = append(all, netip.PrefixFrom(at.Addr(), 24))
	}
	return all
}

// acrossSecond carries what is for an address of the second network, in which nobody
// relays, and which leads nowhere from outside.
func (w *world) acrossSecond(from uint16, to netip.AddrPort, size int, arrive func(*simHost, netip.AddrPort)) bool {
	for id, at := range w.seconds {
		if at.Addr() != to.Addr() {
			continue
		}
		if source, ok := w.seconds[from]; ok && to == at {
			w.over(w.second, from, id, size, func() { arrive(w.host(id), source) })
		}
		return true
	}
	return false
}

func (w *world) secondIs(delay time.Duration, broken func(from, to uint16, size int) bool) {
	w.second = func(from, to uint16, size int) (time.Duration, bool) {
		return delay + w.delay(), broken(from, to, size)
	}
}

// want fails unless both ends reach each other at these endpoints.
func (w *world) want(a, b uint16, at func(uint16) netip.AddrPort) {
	w.t.Helper()
	for _, way := range [][2]uint16{{a, b}, {b, a}} {
		if got := w.host(way[0]).endpoints[way[1]]; got != at(way[1]) {
			w.t.Errorf("at %v: %d reaches %d at %v, wanted %v", w.now, way[0], way[1], got, at(way[1]))
		}
	}
}

// TestTheSecondEndpointIsTaken: where the first does not work from the start, as between
// hosts of one network behind a router that does not lead back inside.
func TestTheSecondEndpointIsTaken(t *testing.T) {
	w := newWorldOf(t, 2, 1, inSecond(1, 2))
	w.log = true
	w.cut(between(1, 2))
	w.run(10 * time.Second)
	w.check(100*time.Millisecond, nil)
	w.want(1, 2, secondAt)
}

// TestANetworkInCommonComesFirst: at like quality, without a gap and for good. Who is in
// neither network stays where it is.
func TestANetworkInCommonComesFirst(t *testing.T) {
	w := newWorldOf(t, 4, 1, inSecond(1, 2))
	w.log = true
	for w.now < 5*time.Minute {
		w.run(w.now + 50*time.Millisecond)
		if w.now > time.Second {
			w.check(150*time.Millisecond, nil)
		}
		if w.now == time.Minute {
			w.want(1, 2, secondAt)
		}
	}
	w.want(1, 2, secondAt)
	w.want(1, 3, func(id uint16) netip.AddrPort { return underlay(id) })
	w.want(3, 4, underlay)
	if w.switches > 2 {
		t.Errorf("%d switches", w.switches)
	}
	r := w.host(1).engine.Reports(w.now)[0]
	if !r.Local || r.Via != 0 || r.Endpoint != secondAt(2) {
		t.Errorf("found %+v, wanted it local", r)
	}
	if len(r.Ways) != 1 || r.Ways[0].Endpoint != underlay(2) || !r.Ways[0].Works || r.Ways[0].RTT == 0 || r.Ways[0].Local {
		t.Errorf("found the other ways %+v", r.Ways)
	}
}

// TestANetworkInCommonMayTakeALittleLonger: what a busy host or Wi-Fi adds to a round trip is
// no reason to go outside.
func TestANetworkInCommonMayTakeALittleLonger(t *testing.T) {
	w := newWorldOf(t, 3, 1, inSecond(1, 2))
	w.log = true
	w.secondIs(5*time.Millisecond, none)
	w.run(time.Minute)
	w.want(1, 2, secondAt)
	w.run(4 * time.Minute)
	w.want(1, 2, secondAt)
	if w.switches > 2 {
		t.Errorf("%d switches", w.switches)
	}
}

// TestASlowNetworkInCommonIsNotTaken: quality comes first.
func TestASlowNetworkInCommonIsNotTaken(t *testing.T) {
	w := newWorldOf(t, 3, 1, inSecond(1, 2))
	w.log = true
	w.secondIs(40*time.Millisecond, none)
	w.run(2 * time.Minute)
	w.want(1, 2, underlay)
	if w.switches > 0 {
		t.Errorf("%d switches", w.switches)
	}
	w.secondIs(0, none) // now it is as good
	w.run(4 * time.Minute)
	w.want(1, 2, secondAt)
}

// TestALossyNetworkInCommonIsLeft: for an endpoint that loses nothing rather than a relay.
func TestALossyNetworkInCommonIsLeft(t *testing.T) {
	w := newWorldOf(t, 4, 1, inSecond(1, 2))
	w.log = true
	w.run(time.Minute)
	w.want(1, 2, secondAt)
	w.secondIs(0, func(_, _ uint16, _ int) bool { return w.random.Intn(100) < 20 })
	w.run(3 * time.Minute)
	w.want(1, 2, underlay)
	w.check(150*time.Millisecond, nil)
}

// TestWhatBreaksMovesToAnotherEndpoint: either network may break, and come back; traffic
// goes on within the time in which a relay is found, and never over one.
func TestWhatBreaksMovesToAnotherEndpoint(t *testing.T) {
	for seed := int64(1); seed <= 5; seed++ {
		w := newWorldOf(t, 5, seed, inSecond(1, 2, 3))
		w.log = seed == 1
		w.run(time.Minute)
		w.want(1, 2, secondAt)
		longest := time.Duration(0)
		follow := func(until time.Duration) {
			for w.now < until {
				w.run(w.now + 10*time.Millisecond)
				for _, way := range [][2]uint16{{1, 2}, {2, 1}} {
					longest = max(longest, w.now-w.host(way[1]).lastData[way[0]])
					if via := w.host(way[0]).engine.peers[way[1]].via; via != 0 {
						t.Errorf("seed %d, at %v: %d reaches %d over %d", seed, w.now, way[0], way[1], via)
						return
					}
				}
			}
		}
		w.secondIs(0, between(1, 2))
		follow(62 * time.Second)
		w.want(1, 2, underlay)
		follow(80 * time.Second)
		w.secondIs(0, none)
		follow(3 * time.Minute)
		w.want(1, 2, secondAt)
		w.cut(between(1, 2)) // nobody needs it now
		follow(4 * time.Minute)
		w.want(1, 2, secondAt)
		t.Logf("seed %d: longest gap %v", seed, longest)
		if longest > 600*time.Millisecond {
			t.Errorf("seed %d: a gap of %v", seed, longest)
		}
	}
}

// TestBothNetworksBreak: then a relay has to do, and what comes back first is taken.
func TestBothNetworksBreak(t *testing.T) {
	w := newWorldOf(t, 5, 3, inSecond(1, 2))
	w.log = true
	w.run(time.Minute)
	w.cut(between(1, 2))
	w.secondIs(0, between(1, 2))
	w.run(time.Minute + 1200*time.Millisecond)
	w.check(150*time.Millisecond, nil)
	w.run(2 * time.Minute)
	w.check(150*time.Millisecond, nil)
	if via := w.host(1).engine.peers[2].via; via == 0 {
		t.Error("nobody relays")
	}
	w.cut(none)
	w.run(3 * time.Minute)
	w.want(1, 2, underlay)
	w.secondIs(0, none)
	w.run(6 * time.Minute)
	w.want(1, 2, secondAt)
	w.check(150*time.Millisecond, nil)
}

// TestEndsThatPreferDifferentWays do not flap: each of them moves ever less often when the
// other one moves back.
func TestEndsThatPreferDifferentWays(t *testing.T) {
	w := newWorldOf(t, 2, 1, inSecond(1, 2))
	w.log = true
	w.host(2).engine.SetLocal([]netip.Prefix{netip.PrefixFrom(underlay(1).Addr(), 24)}, netip.Addr{})
	for w.now < time.Hour {
		w.run(w.now + 100*time.Millisecond)
		if w.now > time.Second {
			w.check(150*time.Millisecond, nil)
		}
	}
	if w.switches < 2 || w.switches > 30 {
		t.Errorf("%d switches in an hour", w.switches)
	}
}

// TestTheNameOfAnotherEndpoint: it is tested, and taken, where the name leads now.
func TestTheNameOfAnotherEndpoint(t *testing.T) {
	w := newWorldOf(t, 2, 1, inSecond(1, 2))
	w.run(10 * time.Second)
	moved := netip.MustParseAddrPort("10.9.0.77:51820")
	w.seconds[2] = moved
	w.host(1).engine.OtherResolved(w.now, 2, 0, moved)
	w.run(time.Minute)
	if got := w.host(1).endpoints[2]; got != moved {
		t.Errorf("found %v, wanted %v", got, moved)
	}
	w.host(1).engine.OtherResolved(w.now, 2, 1, moved) // which there is not
	w.host(1).engine.OtherResolved(w.now, 9, 0, moved)
}

// TestAnotherDocumentChangesTheWays: what stays is not interrupted, and what is no longer in
// the document is no way any more.
func TestAnotherDocumentChangesTheWays(t *testing.T) {
	c := newCrowd(1)
	with := func(others ...netip.AddrPort) {
		c.engine.SetPeers(c.now, Config{Self: 9}, []Peer{{ID: 1, Endpoint: underlay(1), Others: others}})
	}
	tried := map[netip.AddrPort]int{}
	c.lost = func(p Probe) bool {
		if p.Plane == Direct {
			tried[p.To]++
		}
		return false
	}
	for _, others := range [][]netip.AddrPort{{secondAt(1), secondAt(2)}, {secondAt(2), secondAt(3)}, nil} {
		with(others...)
		c.run(time.Second)
		clear(tried)
		c.run(time.Minute)
		for _, at := range []netip.AddrPort{secondAt(1), secondAt(2), secondAt(3)} {
			if want := slices.Contains(others, at); (tried[at] > 0) != want {
				t.Errorf("with %v: %v was tried %d times", others, at, tried[at])
			}
		}
	}
	if len(c.routes) > 0 {
		t.Errorf("found the routes %v", c.routes)
	}
}

// TestBothNetworksComeBack: where hosts are so many that direct probes are few, the ways
// that work again do not take turns for ever.
func TestBothNetworksComeBack(t *testing.T) {
	const many = 1200
	c := newCrowd(many)
	var peers []Peer
	config := Config{Self: many + 1, Relays: map[uint16]bool{}}
	for id := uint16(1); id <= many; id++ {
		peers = append(peers, Peer{ID: id, Endpoint: underlay(id)})
	}
	peers[0].Others = []netip.AddrPort{secondAt(1), secondAt(2)}
	c.engine.SetPeers(c.now, config, peers)
	c.verdict = func(_, _ uint16) probe.Verdict {
		return probe.Verdict{Reachable: true, FullSize: true, RTTMicroseconds: 1000}
	}
	broken := false
	c.lost = func(p Probe) bool {
		return broken && p.Peer == 1 && (p.Plane == Direct || c.engine.peers[1].via == 0)
	}
	c.run(30 * time.Second)
	broken = true
	c.run(2 * time.Minute)
	if c.viaOf(1) == 0 {
		t.Fatal("nobody relays")
	}
	broken = false
	c.run(3 * time.Minute)
	if c.viaOf(1) != 0 {
		t.Errorf("found it relayed by %d, the direct path sought at %v", c.viaOf(1), c.engine.peers[1].direct)
	}
}

// TestNumbersOutliveAnEndpoint: the peer, which has moved, has seen those from before.
func TestNumbersOutliveAnEndpoint(t *testing.T) {
	c := newCrowd(1)
	last := uint32(0)
	c.lost = func(p Probe) bool {
		if p.Plane == Direct && !p.Full {
			if p.Sequence <= last {
				t.Errorf("number %d after %d", p.Sequence, last)
			}
			last = p.Sequence
		}
		return false
	}
	for _, at := range []netip.AddrPort{underlay(1), secondAt(9)} {
		c.engine.SetPeers(c.now, Config{Self: 9}, []Peer{{ID: 1, Endpoint: at, Others: []netip.AddrPort{secondAt(1)}}})
		before := last
		c.run(time.Minute)
		if last-before < 10 {
			t.Errorf("found %d direct probes", last-before)
		}
	}
}

// TestManyWaysAreTestedAtABoundedRate: eight endpoints of which seven lead nowhere cost
// few probes while the one in use works.
func TestManyWaysAreTestedAtABoundedRate(t *testing.T) {
	c := newCrowd(1)
	p := Peer{ID: 1, Endpoint: underlay(1)}
	for i := byte(1); i <= 7; i++ {
		p.Others = append(p.Others, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, i, 1}), 51820))
	}
	c.engine.SetPeers(c.now, Config{Self: 9}, []Peer{p})
	direct := 0
	c.lost = func(p Probe) bool {
		if p.Plane == Direct {
			direct++
		}
		return p.Plane == Direct
	}
	c.run(10 * time.Minute)
	if direct < 100 || direct > 250 {
		t.Errorf("%d direct probes in ten minutes, wanted one each 5 s and some more at first", direct)
	}
	if len(c.routes) > 0 {
		t.Errorf("found the routes %v, wanted none", c.routes)
	}
}

// TestNumbersOfDirectProbesRise: whichever way they take, for the peer takes no number
// twice, and none that is much lower than another.
func TestNumbersOfDirectProbesRise(t *testing.T) {
	c := newCrowd(1)
	p := Peer{ID: 1, Endpoint: underlay(1), Others: []netip.AddrPort{secondAt(1), secondAt(2)}}
	c.engine.SetPeers(c.now, Config{Self: 9}, []Peer{p})
	var last [2]uint32
	c.lost = func(p Probe) bool {
		if p.Plane == Direct {
			if p.Sequence != last[index(p.Full)]+1 {
				t.Errorf("number %d after %d, full size %v", p.Sequence, last[index(p.Full)], p.Full)
			}
			last[index(p.Full)] = p.Sequence
		}
		return c.now > 30*time.Second
	}
	c.run(50 * time.Second)
	if last[0] < 20 || last[1] < 2 {
		t.Errorf("found %v probes", last)
	}
}

// TestANetworkInCommonOfBusyHosts: an agent that does not get to run for a moment, each second
// or two, answers late over whichever network. The one in common is taken all the same.
func TestANetworkInCommonOfBusyHosts(t *testing.T) {
	for seed := int64(1); seed <= 10; seed++ {
		w := newWorldOf(t, 3, seed, inSecond(1, 2))
		w.log = seed == 1
		w.secondIs(3*time.Millisecond, none)
		for _, h := range w.hosts {
			w.busy(h)
		}
		w.run(90 * time.Second)
		w.want(1, 2, secondAt)
		w.run(5 * time.Minute)
		w.want(1, 2, secondAt)
		if w.moves > 2 { // each of the two hosts takes it once
			t.Errorf("seed %d: %d moves", seed, w.moves)
		}
	}
}

// busy lets a host's agent not run for 100 to 300 ms, again and again within two seconds.
func (w *world) busy(h *simHost) {
	w.at(w.now+time.Duration(w.random.Int63n(int64(2*time.Second))), func() {
		h.stalled = w.now + 100*time.Millisecond + time.Duration(w.random.Int63n(int64(200*time.Millisecond)))
		w.busy(h)
	})
}
