package paths

import (
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

var away = netip.MustParseAddrPort("203.0.113.2:40000")

// fallen returns a crowd in which host 1 was seen at away, fell silent there at 20 s and
// is reached over host 2. Direct probes are answered at one place only.
func fallen(t *testing.T, answering *netip.AddrPort) *crowd {
	t.Helper()
	c := newCrowd(3)
	c.active = 3
	c.kernel = func(k *Kernel) {
		if k.Peer == 1 && len(c.routes) == 0 {
			k.Endpoint = away
		}
	}
	c.verdict = func(relay, _ uint16) probe.Verdict {
		return probe.Verdict{Reachable: relay == 2, FullSize: true, RTTMicroseconds: 1000}
	}
	c.run(20 * time.Second)
	c.lost = func(p Probe) bool {
		if p.Plane == Direct {
			return p.To != *answering
		}
		return p.Peer == 1 && c.engine.peers[1].via != 2 && c.engine.peers[1].kernel != *answering
	}
	c.run(2 * time.Second)
	if c.viaOf(1) != 2 {
		t.Fatalf("host 1 is not relayed; the routes are %v", c.routes)
	}
	return c
}

// TestTheDirectPathIsSoughtWhereItMayBe: at the document's endpoint, and where the peer
// was seen last, which may be a port that a router has forgotten since.
func TestTheDirectPathIsSoughtWhereItMayBe(t *testing.T) {
	for _, place := range []netip.AddrPort{underlay(1), away} {
		var answering netip.AddrPort
		c := fallen(t, &answering)
		c.run(30 * time.Second)
		answering = place
		c.run(30 * time.Second)
		if p := c.engine.peers[1]; p.via != 0 || p.kernel != place || p.phase != up {
			t.Errorf("the direct path leads to %v again, found %v over %d", place, p.kernel, p.via)
		}
	}
}

// TestTheEndpointOfANameIsSought: where the name leads now is tried at once where the
// peer is relayed, and that is the place then.
func TestTheEndpointOfANameIsSought(t *testing.T) {
	var answering netip.AddrPort
	c := fallen(t, &answering)
	now := netip.MustParseAddrPort("198.51.100.7:51820")
	answering = now
	c.engine.Resolved(c.now, 1, now)
	c.run(11500 * time.Millisecond)
	if p := c.engine.peers[1]; p.via != 0 || p.kernel != now || p.phase != up {
		t.Errorf("found the path to %v over %d, wanted %v", p.kernel, p.via, now)
	}
	if len(c.routes) != 2 {
		t.Errorf("found the routes %v, wanted one to the relay and one back", c.routes)
	}
}

// TestAPeerThatStraysIsFollowed: one that answers no more where it was heard last, and that
// nobody relays to, is found within seconds where the document says, or its name by then.
// If it comes back where it was, that is the place.
func TestAPeerThatStraysIsFollowed(t *testing.T) {
	now := netip.MustParseAddrPort("198.51.100.7:51820")
	for _, place := range []netip.AddrPort{underlay(1), now, away} {
		c := newCrowd(1)
		c.active = 1
		c.kernel = func(k *Kernel) {
			if len(c.routes) == 0 {
				k.Endpoint = away
			}
		}
		c.run(20 * time.Second)
		lost := true
		c.lost = func(p Probe) bool {
			if p.Plane == Direct {
				return lost || p.To != place
			}
			return lost || c.engine.peers[1].kernel != place
		}
		c.run(3 * time.Second)
		if place == now {
			c.engine.Resolved(c.now, 1, now)
		}
		lost = false
		c.run(6 * time.Second)
		if p := c.engine.peers[1]; p.kernel != place || p.direct != place || p.phase != up {
			t.Errorf("found the peer sought at %v and %v, phase %v, wanted %v", p.kernel, p.direct, p.phase, place)
		}
		if want := 1; place == away && len(c.routes) > 0 || place != away && len(c.routes) != want {
			t.Errorf("%v: found the routes %v", place, c.routes)
		}
	}
}

// TestRoamingCountsMoreThanNames: as long as packets come from a peer its name
// changes nothing; if none come for 30 s, or none ever came, it does.
func TestRoamingCountsMoreThanNames(t *testing.T) {
	now := netip.MustParseAddrPort("198.51.100.7:51820")
	c := newCrowd(1)
	c.active = 1
	c.run(20 * time.Second)
	c.engine.Resolved(c.now, 1, now)
	c.run(time.Minute)
	if len(c.routes) > 0 {
		t.Errorf("a peer that answers: found the routes %v, wanted none", c.routes)
	}

	c.dead = func(uint16) bool { return true } // its agent alone: its bytes still come
	c.run(2 * time.Minute)
	if len(c.routes) > 0 {
		t.Errorf("only the agent is silent: found the routes %v, wanted none", c.routes)
	}

	c.active = 0
	fell := c.now
	for len(c.routes) == 0 && c.now < fell+2*time.Minute {
		c.step()
	}
	if silent := c.now - fell; len(c.routes) == 0 || c.routes[0] != (Route{1, now}) || silent < 29*time.Second || silent > 33*time.Second {
		t.Errorf("found the routes %v after %v, wanted one to %v after 30 s", c.routes, silent, now)
	}

	c = newCrowd(1)
	c.dead = func(uint16) bool { return true }
	c.kernel = func(k *Kernel) { k.HandshakeAge = -1 }
	c.run(8 * time.Second)
	c.engine.Resolved(c.now, 1, now)
	c.run(time.Second)
	if len(c.routes) != 1 || c.routes[0] != (Route{1, now}) {
		t.Errorf("a peer that was never heard: found the routes %v, wanted one to %v at once", c.routes, now)
	}
	c.run(time.Minute)
	if len(c.routes) < 2 || len(c.routes) > 3 || c.routes[1] != (Route{1, underlay(1)}) {
		t.Errorf("it does not answer there either: found the routes %v, wanted the document's, each 30 s", c.routes)
	}
}

// TestANameOutlastsDocuments: another document with the same endpoint says nothing new;
// one with another endpoint does.
func TestANameOutlastsDocuments(t *testing.T) {
	now := netip.MustParseAddrPort("198.51.100.7:51820")
	c := newCrowd(2)
	c.engine.Resolved(0, 1, now)
	peers := []Peer{{ID: 1, Endpoint: underlay(1)}, {ID: 2, Endpoint: underlay(2)}}
	c.engine.SetPeers(0, c.engine.config, peers)
	if got := c.engine.peers[1].endpoint; got != now {
		t.Errorf("after another document: found %v, wanted %v", got, now)
	}
	if len(c.engine.byAddr) != 3 || c.engine.byAddr[now.Addr()] == nil {
		t.Errorf("known by their addresses are %v", c.engine.byAddr)
	}
	peers[0].Endpoint = underlay(9)
	c.engine.SetPeers(0, c.engine.config, peers)
	if got := c.engine.peers[1].endpoint; got != underlay(9) {
		t.Errorf("after one with another endpoint: found %v, wanted %v", got, underlay(9))
	}
}

// TestARelayTakesThePeerForItsNeighbor: a router chose the port that the document has
// for another host behind it, so the relay leads on from that one's port.
func TestARelayTakesThePeerForItsNeighbor(t *testing.T) {
	router := netip.MustParseAddr("203.0.113.7")
	peers := []Peer{{ID: 1, Endpoint: netip.AddrPortFrom(router, 51821), NoRelay: true}, {ID: 2, Endpoint: netip.AddrPortFrom(router, 51820), NoRelay: true},
		{ID: 3, Endpoint: underlay(3)}, {ID: 4, Endpoint: netip.MustParseAddrPort("203.0.113.8:51821"), NoRelay: true}}
	for to, want := range map[netip.AddrPort]uint16{
		peers[0].Endpoint: 0, peers[1].Endpoint: 0, netip.AddrPortFrom(router, 1234): 0, // itself, by whichever port
		relayEndpoint(peers[2], 1): 3, relayEndpoint(peers[2], 2): 3, relayEndpoint(peers[2], 4): 0,
		relayEndpoint(peers[1], 1): 0, relayEndpoint(peers[3], 1): 0, // who cannot relay
	} {
		e := New(Config{Self: 9}, 1)
		e.SetPeers(0, Config{Self: 9}, peers)
		e.Observe(time.Second, []Kernel{{Peer: 1, Endpoint: to}})
		if got := e.peers[1].via; got != want {
			t.Errorf("%v: found relay %d, wanted %d", to, got, want)
		}
	}
}

// TestWhoCannotRelayIsNotAsked: it would cost time, and its ports are somebody else's.
func TestWhoCannotRelayIsNotAsked(t *testing.T) {
	c := newCrowd(6)
	for _, id := range []uint16{2, 4} {
		c.engine.peers[id].NoRelay = true
	}
	c.active = 6
	c.run(20 * time.Second)
	c.dead = func(peer uint16) bool { return peer == 1 }
	c.run(10 * time.Second)
	if len(c.queries) == 0 {
		t.Fatal("nobody was asked")
	}
	for _, q := range c.queries {
		if q.Relay == 2 || q.Relay == 4 {
			t.Fatalf("host %d was asked to relay", q.Relay)
		}
	}
}

// TestNoRelayToWhereThePeerWas: a relay's table has the document's address. Whoever sends
// from another one may be reached there or not.
func TestNoRelayToWhereThePeerWas(t *testing.T) {
	for _, c := range []struct {
		at      netip.AddrPort
		reached bool // at the document's address
	}{{underlay(1), true}, {netip.AddrPortFrom(underlay(1).Addr(), 40000), true}, {away, false}, {away, true}} {
		w := newCrowd(2)
		w.active = 2
		w.kernel = func(k *Kernel) {
			if k.Peer == 1 {
				k.Endpoint = c.at
			}
		}
		w.lost = func(p Probe) bool {
			return p.Plane == Direct && (p.To.Addr() == underlay(1).Addr() && !c.reached || p.To.Addr() == away.Addr() && c.at != away)
		}
		w.run(20 * time.Second)
		w.engine.Asked(w.now, 2, 7, 1)
		var replies []Reply
		for end := w.now + time.Second; len(replies) == 0 && w.now < end; {
			w.engine.Tick(w.now)
			replies = append(replies, w.engine.out.Replies...)
			w.carryOut()
			for w.now += 10 * time.Millisecond; len(w.events) > 0 && w.events[0].at <= w.now; {
				w.next()
			}
			replies = append(replies, w.engine.out.Replies...)
		}
		if len(replies) != 1 || replies[0].Verdict.Reachable != c.reached {
			t.Errorf("host 1 is at %v: found the replies %+v, wanted reachable %v", c.at, replies, c.reached)
		}
	}
}

// TestANameThatIsTrueElsewhere: what DNS says here of a host is wrong, as where names
// have other addresses inside a site. The host goes on as before, and comes back where
// the document says.
func TestANameThatIsTrueElsewhere(t *testing.T) {
	wrong := netip.MustParseAddrPort("198.51.100.7:51820")
	c := newCrowd(3)
	c.active = 3
	c.verdict = func(relay, _ uint16) probe.Verdict {
		return probe.Verdict{Reachable: relay == 2, FullSize: true, RTTMicroseconds: 1000}
	}
	c.run(20 * time.Second)
	c.engine.Resolved(c.now, 2, wrong)
	c.lost = func(p Probe) bool { return p.Peer == 1 && c.viaOf(1) != 2 }
	c.run(5 * time.Second)
	if want := (Route{1, relayEndpoint(Peer{ID: 2, Endpoint: underlay(2)}, 1)}); len(c.routes) != 1 || c.routes[0] != want {
		t.Errorf("it relays: found the routes %v, wanted %v", c.routes, want)
	}
	if via := c.engine.classify(c.engine.peers[1], c.routes[0].Endpoint); via != 2 {
		t.Errorf("its relay port is known as that of %d", via)
	}

	c = newCrowd(1)
	c.engine.Resolved(0, 1, wrong)
	c.run(20 * time.Second)
	c.dead = func(uint16) bool { return true }
	c.run(3 * time.Minute)
	c.dead = func(uint16) bool { return c.engine.peers[1].kernel != underlay(1) }
	c.run(75 * time.Second)
	if p := c.engine.peers[1]; p.kernel != underlay(1) || p.phase != up {
		t.Errorf("it is back where the document says, found the path to %v, phase %d", p.kernel, p.phase)
	}
	if len(c.routes) == 0 || len(c.routes) > 10 {
		t.Errorf("found %d routes in 4 min, wanted one each half a minute", len(c.routes))
	}
}
