package paths

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// newWorldTelling is newWorldOf where no document knows the second network: who is in it says so.
func newWorldTelling(t testing.TB, n int, seed int64, seconds map[uint16]netip.AddrPort, routers ...*router) *world {
	w := newWorldBehind(t, n, seed, routers...)
	w.seconds, w.telling = seconds, true
	for _, h := range w.hosts {
		h.engine.SetLocal(w.local(h.id), netip.Addr{})
		w.tell(h)
	}
	return w
}

// tell has a host say where it is to those who are in that network, too.
func (w *world) tell(h *simHost) {
	var own []netip.AddrPort
	if at, ok := w.seconds[h.id]; ok {
		own = append(own, at)
	}
	for _, p := range w.hosts {
		if _, ok := w.seconds[p.id]; ok && p != h {
			w.inside(h, p.id, 100, func(to *simHost) {
				w.hand(to, func() { to.engine.Announced(w.now, h.id, own) })
			})
		}
	}
	w.at(w.now+5*time.Second, func() { w.tell(h) })
}

// TestNeighborsBehindOneRouter reach each other inside, whether anything is forwarded to them or
// not, though the router does not lead there from inside; and as others do when that breaks. What
// it forwards to one host may be the port with which another's packets leave, and then relays'
// ports lead to neither.
func TestNeighborsBehindOneRouter(t *testing.T) {
	for what, r := range map[string]*router{
		"no endpoints":    hidden("203.0.113.7", 1, 2),
		"a port anew":     hardNAT("203.0.113.7", 1, 2),
		"forwarded ports": {address: netip.MustParseAddr("203.0.113.7"), forwards: map[uint16]uint16{51820: 1, 51821: 2}},
	} {
		for seed := int64(1); seed <= 12; seed++ {
			t.Run(fmt.Sprint(what, " ", seed), func(t *testing.T) { neighbors(t, seed, r) })
		}
	}
}

func neighbors(t *testing.T, seed int64, r *router) {
	w := newWorldTelling(t, 4, seed, inSecond(1, 2), r)
	w.log = true
	w.run(5 * time.Second)
	for ; w.now < 2*time.Minute; w.run(w.now + 100*time.Millisecond) {
		w.check(200*time.Millisecond, nil)
	}
	w.want(1, 2, secondAt)
	if r := w.host(1).engine.Reports(w.now)[0]; !r.Local || r.Via != 0 {
		t.Errorf("found %+v, wanted it local", r)
	}
	if w.switches > 40 {
		t.Errorf("%d switches", w.switches)
	}
	w.secondIs(0, between(1, 2))
	w.run(w.now + 2*time.Second)
	w.check(200*time.Millisecond, nil)
	w.secondIs(0, none)
	for until := w.now + 2*time.Minute; w.now < until; w.run(w.now + 100*time.Millisecond) {
		w.check(700*time.Millisecond, nil)
	}
	w.want(1, 2, secondAt)
}

// TestAnAnnouncedNetwork comes first at like quality, as one that the document knows; who leaves it
// is reached outside at once, and nobody sends there any more.
func TestAnAnnouncedNetwork(t *testing.T) {
	w := newWorldTelling(t, 4, 1, inSecond(1, 2))
	w.log = true
	w.run(time.Second)
	for ; w.now < time.Minute; w.run(w.now + 50*time.Millisecond) {
		w.check(150*time.Millisecond, nil)
	}
	w.want(1, 2, secondAt)
	w.want(1, 3, func(id uint16) netip.AddrPort { return underlay(id) })
	for _, p := range []uint16{1, 2} { // they relay and are relayed for as before
		if place := w.host(3).engine.relayPlace(w.host(3).engine.peers[p]); place != underlay(p) {
			t.Errorf("%d can be used as a relay at %v", p, place)
		}
	}
	w.cut(between(1, 3))
	w.run(w.now + 1500*time.Millisecond)
	w.check(150*time.Millisecond, nil)
	w.cut(none)
	w.run(w.now + time.Minute)
	w.second = func(_, _ uint16, _ int) (time.Duration, bool) { return 0, true }
	w.run(w.now + 1500*time.Millisecond)
	w.check(150*time.Millisecond, nil)
	delete(w.seconds, 1)
	for _, id := range []uint16{1, 2} {
		w.host(id).engine.SetLocal(w.local(id), netip.Addr{})
		w.hand(w.host(id), func() { w.host(id).engine.Announced(w.now, 3-id, nil) })
		if p := w.host(id).engine.peers[3-id]; p.ways != nil {
			t.Errorf("%d still tests %d ways", id, len(p.ways))
		}
	}
	w.run(w.now + time.Minute)
	w.check(150*time.Millisecond, nil)
	w.want(1, 2, underlay)
}

// TestAnAnnouncedAddressOfSomebodyElse: many homes have the same network. Who has the peer's address
// in this one gets a few packets each five minutes, and nothing else changes.
func TestAnAnnouncedAddressOfSomebodyElse(t *testing.T) {
	c := newCrowd(2)
	c.engine.SetPeers(c.now, Config{Self: 9, Local: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}}, []Peer{{ID: 1, Endpoint: underlay(1)}, {ID: 2, Endpoint: underlay(2)}})
	c.engine.Observe(c.now, []Kernel{{Peer: 1, Endpoint: underlay(1)}, {Peer: 2, Endpoint: underlay(2)}})
	tried := 0
	c.lost = func(p Probe) bool {
		if p.Plane == Direct && p.To == secondAt(1) {
			tried++
			return true
		}
		return false
	}
	for until := c.now + 10*time.Minute; c.now < until; {
		c.engine.Announced(c.now, 1, []netip.AddrPort{secondAt(1)})
		c.engine.Announced(c.now, 7, []netip.AddrPort{secondAt(1)}) // whom nobody knows
		c.run(10 * time.Second)
	}
	if ways := c.engine.Reports(c.now)[0].Ways; len(ways) > 1 || len(ways) == 1 && ways[0].Local {
		t.Errorf("found the ways %+v", ways)
	}
	if tried < newTests || tried > newTests+6 || c.engine.peers[1].kernel != underlay(1) {
		t.Errorf("tried %d times, and reached at %v", tried, c.engine.peers[1].kernel)
	}
}

// TestAnAnnouncedAddressThatAnsweredOnce may have become another machine's, and costs as little then.
// In another network it is tried anew.
func TestAnAnnouncedAddressThatAnsweredOnce(t *testing.T) {
	c := newCrowd(1)
	local := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}
	c.engine.SetPeers(c.now, Config{Self: 9, Local: local}, []Peer{{ID: 1, Endpoint: underlay(1)}})
	c.engine.Observe(c.now, []Kernel{{Peer: 1, Endpoint: underlay(1)}})
	c.engine.Announced(c.now, 1, []netip.AddrPort{secondAt(1)})
	tried, off := 0, false
	c.lost = func(p Probe) bool {
		if p.Plane == Direct && p.To == secondAt(1) {
			tried++
		}
		return off
	}
	count := func(d time.Duration) int {
		tried = 0
		c.run(d)
		return tried
	}
	if n := count(time.Minute); n < 12 || c.engine.peers[1].ways[1].answered == 0 {
		t.Fatalf("tried %d times in a minute in which it answered", n)
	}
	off = true
	count(2 * time.Minute)
	if n := count(10 * time.Minute); n < 10 || n > 30 {
		t.Errorf("tried %d times in ten minutes, wanted one each half a minute", n)
	}
	c.engine.SetLocal([]netip.Prefix{netip.MustParsePrefix("10.9.0.5/24")}, netip.Addr{})
	if n := count(time.Minute); n < newTests || n > newTests+4 {
		t.Errorf("tried %d times in another network", n)
	}
}

// TestRelayingForWhoIsNear: this host's relay ports take what comes from the document's endpoint. Who is
// in its network may send from elsewhere outside.
func TestRelayingForWhoIsNear(t *testing.T) {
	for _, exact := range []bool{true, false} {
		e := New(Config{Self: 9}, 1)
		e.SetPeers(0, Config{Self: 9, Exact: exact}, []Peer{{ID: 1, Endpoint: underlay(1)}})
		e.Announced(0, 1, []netip.AddrPort{secondAt(1)})
		e.Observe(0, []Kernel{{Peer: 1, Endpoint: secondAt(1)}})
		p := e.peers[1]
		want := func(when string, want bool) {
			t.Helper()
			if w := p.wayTo(p.endpoint); w != nil { // which works
				w.small.answer(e.now, w.small.send(e.now))
			}
			if got := e.passesOn(p); got != want {
				t.Errorf("%s: relays %v, exact %v", when, got, exact)
			}
		}
		want("it is seen nowhere else", false)
		e.Probed(time.Second, 1, secondAt(1))
		want("it probes in the network", false)
		e.Probed(time.Second, 1, underlay(1))
		want("it probes from where the document has it", true)
		e.Probed(2*time.Second, 1, netip.AddrPortFrom(underlay(1).Addr(), 4000))
		want("it probes from another port there", !exact)
		e.Probed(3*time.Second, 1, netip.MustParseAddrPort("[2001:db8::1]:51820"))
		want("and over IPv6", !exact)
		e.Probed(3*time.Second, 1, underlay(1))
		e.Resolved(3*time.Second, 1, underlay(7))
		want("its name stands for another address", true)
		e.Probed(4*time.Second, 1, underlay(7))
		want("it probes from that one", false)
		e.Probed(5*time.Second, 1, underlay(1))
		e.advance(10 * time.Minute)
		want("long ago", false)
	}
}

// TestNeighborsOfWhoCarriesArePunched: where one of two hosts without an endpoint is in a network with
// who carries, that one tells where it sees it outside.
func TestNeighborsOfWhoCarriesArePunched(t *testing.T) {
	w := newWorldTelling(t, 3, 1, inSecond(1, 3), hidden("203.0.113.7", 1), hidden("203.0.113.8", 2))
	w.log = true
	w.run(2 * time.Minute)
	w.check(200*time.Millisecond, nil)
	w.want(1, 3, secondAt)
	for _, pair := range [][2]uint16{{1, 2}, {2, 1}} {
		if p := w.host(pair[0]).engine.peers[pair[1]]; p.via != 0 {
			t.Errorf("%d reaches %d over %d", pair[0], pair[1], p.via)
		}
	}
	w.routers[1].reboot()
	w.routers[2].reboot()
	w.run(w.now + 2*time.Minute)
	w.check(200*time.Millisecond, nil)
	for _, pair := range [][2]uint16{{1, 2}, {2, 1}} {
		if p := w.host(pair[0]).engine.peers[pair[1]]; p.via != 0 {
			t.Errorf("%d reaches %d over %d again", pair[0], pair[1], p.via)
		}
	}
}

// TestWhoIsSoughtIsNotSoughtAtHome: of a silent peer the document knows better where it is.
func TestWhoIsSoughtIsNotSoughtAtHome(t *testing.T) {
	w := newWorldTelling(t, 3, 1, inSecond(1, 2))
	w.run(time.Minute)
	w.want(1, 2, secondAt)
	w.host(2).off = true
	w.run(w.now + 10*time.Minute)
	if at := w.host(1).endpoints[2]; at != underlay(2) {
		t.Errorf("it is sought at %v", at)
	}
}

// TestARouterInTheSameNetworkIsNotThePeer: a NAT's address that happens to be in a network of this host's
// is no reason to stay there, nor is it told as local.
func TestARouterInTheSameNetworkIsNotThePeer(t *testing.T) {
	w := newWorldTelling(t, 3, 1, inSecond(1, 2), hidden("192.0.0.77", 1))
	w.log = true
	outside := netip.MustParsePrefix("192.0.0.0/24")
	for _, id := range []uint16{1, 2} {
		w.host(id).engine.SetLocal(append(w.local(id), outside), netip.Addr{})
	}
	w.second = func(_, _ uint16, _ int) (time.Duration, bool) { return 0, true }
	w.run(5 * time.Second)
	if r := w.host(2).engine.Reports(w.now)[0]; r.Local || r.Via != 0 || r.Endpoint.Addr() != netip.MustParseAddr("192.0.0.77") {
		t.Errorf("found %+v, wanted it at the router, and not local", r)
	}
	w.secondIs(0, none)
	w.run(2 * time.Minute)
	w.want(1, 2, secondAt)
	if r := w.host(2).engine.Reports(w.now)[0]; !r.Local {
		t.Errorf("found %+v, wanted it local", r)
	}
}
