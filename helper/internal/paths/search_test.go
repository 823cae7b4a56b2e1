package paths

import (
	"net/netip"
	"testing"
	"time"
)

// TestWhoSendsFromElsewhereIsNotRelayed: the relay knows members by the document's
// addresses, and where its NIC stays by their ports, too.
func TestWhoSendsFromElsewhereIsNotRelayed(t *testing.T) {
	for _, c := range []struct {
		at    netip.AddrPort
		exact bool
		want  bool
	}{
		{underlay(2), false, true}, {underlay(2), true, true}, {away, false, false}, {away, true, false},
		{netip.AddrPortFrom(underlay(2).Addr(), 40000), false, true}, {netip.AddrPortFrom(underlay(2).Addr(), 40000), true, false},
	} {
		w := newCrowd(2)
		w.active = 2
		w.engine.config.Exact = c.exact
		w.kernel = func(k *Kernel) {
			if k.Peer == 2 {
				k.Endpoint = c.at
			}
		}
		w.run(20 * time.Second)
		w.engine.Asked(w.now, 2, 7, 1)
		for i := 0; i < 100 && len(w.replies) == 0; i++ {
			w.step()
		}
		if len(w.replies) != 1 || w.replies[0].Verdict.Reachable != c.want {
			t.Errorf("who asks is at %v, exact %v: found the replies %+v, wanted reachable %v", c.at, c.exact, w.replies, c.want)
		}
	}
}

// TestWhoSendsOverIPv6IsRelayed: relay ports are IPv4's, at which an asker may be as well as
// where its traffic goes, from whichever of its addresses.
func TestWhoSendsOverIPv6IsRelayed(t *testing.T) {
	for at, works := range map[string]bool{"[2001:db8::2]:51820": true, "[2001:db8::99]:51820": true, "[2001:db8::3]:51820": false} {
		w := newCrowd(2)
		w.active = 2
		config := w.engine.config
		config.Exact = true
		w.engine.SetPeers(w.now, config, []Peer{{ID: 1, Endpoint: underlay(1)}, {ID: 2, Endpoint: underlay(2), Others: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::2]:51820")}}})
		w.lost = func(p Probe) bool { return !works && p.Plane == Direct && p.To.Addr().Is4() }
		w.kernel = func(k *Kernel) {
			if k.Peer == 2 {
				k.Endpoint = netip.MustParseAddrPort(at)
			}
		}
		w.run(20 * time.Second)
		w.engine.Asked(w.now, 2, 7, 1)
		for i := 0; i < 100 && len(w.replies) == 0; i++ {
			w.step()
		}
		if len(w.replies) != 1 || w.replies[0].Verdict.Reachable != works {
			t.Errorf("who asks is at %v, and its IPv4 works: %v: found the replies %+v", at, works, w.replies)
		}
	}
}

// TestBusyPeersAreNotProbedLess: however many have traffic.
func TestBusyPeersAreNotProbedLess(t *testing.T) {
	c := newCrowd(3000)
	c.active = 1500
	c.run(20 * time.Second)
	busy, idle := c.engine.interval(c.engine.peers[1], c.now), c.engine.interval(c.engine.peers[3000], c.now)
	if c.engine.active != 1500 || busy > idle {
		t.Errorf("%d have traffic and are probed every %v, the others every %v", c.engine.active, busy, idle)
	}
	c.active = 3000
	c.run(20 * time.Second)
	if busy := c.engine.interval(c.engine.peers[1], c.now); busy > idle {
		t.Errorf("where all have traffic they are probed every %v, without every %v", busy, idle)
	}
}

// TestAStartIsSpread: hosts that start together do not probe each other all at once.
func TestAStartIsSpread(t *testing.T) {
	c := newCrowd(300)
	most := 0
	for i := 0; i < 30; i++ {
		before := c.sent
		for j := 0; j < 10; j++ {
			c.step()
		}
		most = max(most, c.sent-before)
	}
	if mean := 300 / 10; most > 2*mean {
		t.Errorf("%d probes in 0.1 s after the start, wanted about %d", most, mean)
	}
}

// TestARoundCountsIfSomebodyWasAsked: a search does not end, nor slow down, because there
// was no leave to ask.
func TestARoundCountsIfSomebodyWasAsked(t *testing.T) {
	c := newCrowd(300)
	c.run(20 * time.Second)
	e := c.engine
	p := e.peers[1]
	p.activeUntil = time.Hour
	for e.queries.take(e.now, 0) {
	}
	for i := 0; i < 20; i++ {
		if !e.ask(p) {
			t.Fatal("the search ended, and nobody was asked")
		}
		e.sendQuestions()
	}
	if s := p.search; s.rounds > 0 || len(s.asked) > 0 || e.nextRound(p) > e.now {
		t.Errorf("%d rounds, the next at %v, and nobody was asked", s.rounds, e.nextRound(p))
	}
	if n := len(e.Take().Queries); n > 0 {
		t.Fatalf("%d questions beyond the budget", n)
	}
	e.now += time.Second
	e.sendQuestions()
	if p.search.rounds != 1 || len(p.search.asked) != perRound {
		t.Errorf("a second later %d were asked in %d rounds, wanted %d in one", len(p.search.asked), p.search.rounds, perRound)
	}
}

// TestOneQuestionForMany: who has traffic comes first, and agents of the version before
// are asked for one.
func TestOneQuestionForMany(t *testing.T) {
	for _, lists := range []bool{true, false} {
		c := newCrowd(300)
		c.active = 1
		c.run(20 * time.Second)
		e := c.engine
		for _, p := range e.order {
			e.ReadsLists(p.ID, lists)
		}
		for id := uint16(100); id > 0; id-- {
			e.ask(e.peers[id])
		}
		e.sendQuestions()
		all, asked := e.Take().Queries, map[uint16]int{}
		for _, q := range all {
			if len(q.Targets) > MaxTargets || !lists && len(q.Targets) != 1 {
				t.Errorf("lists %v: %d targets in one question", lists, len(q.Targets))
			}
			for _, target := range q.Targets {
				if target == q.Relay {
					t.Errorf("%d is asked for itself", target)
				}
				asked[target]++
			}
		}
		switch {
		case all[0].Targets[0] != 1:
			t.Errorf("the first is asked for %v, wanted 1, which has traffic", all[0].Targets)
		case lists && len(asked) != 100:
			t.Errorf("%d of 100 were asked for at once, in %d questions", len(asked), len(all))
		}
	}
}

// TestNobodyIsLedInCirclesForEver: all relays reach a host that answers nothing by any of them,
// as one that has not been deployed anew and does not know this host's key.
func TestNobodyIsLedInCirclesForEver(t *testing.T) {
	w := newWorld(t, 12, 1)
	w.run(20 * time.Second)
	p := w.host(1).engine.peers[2]
	w.deaf = [2]uint16{1, 2}
	w.run(w.now + 30*time.Second)
	before := w.moves
	w.run(w.now + 5*time.Minute)
	if p.phase == up {
		t.Fatal("they talk: this tests nothing")
	}
	if n := w.moves - before; n < 5 || n > 80 {
		t.Errorf("%d ways were tried in five minutes", n)
	}
	w.deaf = [2]uint16{}
	w.run(w.now + 31*time.Second)
	if p.phase != up {
		t.Error("they do not talk, though they could")
	}
}

// TestWhoseFaultItIs: a relay's ports that led nowhere are avoided for a while, those of all after two
// relays; not where the relay's agent led nowhere either.
func TestWhoseFaultItIs(t *testing.T) {
	e := New(Config{Self: 9}, 1)
	e.SetPeers(0, Config{Self: 9}, []Peer{{ID: 1, Endpoint: underlay(1)}, {ID: 2, Endpoint: underlay(2)}, {ID: 3, Endpoint: underlay(3)}})
	for _, id := range []uint16{2, 3} {
		e.IsCarrier(id, true)
		e.peers[id].kernel = underlay(id)
	}
	p := e.peers[1]
	fails := func(at Route) {
		p.via, p.kernel, p.phase = e.classify(p, at.Endpoint), at.Endpoint, settling
		e.settleFailed(p)
	}
	want := func(when string, two, three, all bool) {
		t.Helper()
		if a, b, c := e.portsDo(p, e.peers[2]), e.portsDo(p, e.peers[3]), !p.portsDoNot(e.now); a != two || b != three || c != all {
			t.Errorf("%s: ports of 2 %v, of 3 %v, of all %v", when, a, b, c)
		}
	}
	ports := func(relay uint16) Route { return Route{1, relayEndpoint(e.peers[relay].Peer, 1)} }
	e.advance(time.Minute)
	want("at first", true, true, true)
	fails(ports(2))
	want("ports of 2", false, true, true)
	e.advance(e.now + avoidFor)
	fails(ports(2))
	want("of 2 again", false, true, true)
	fails(ports(3))
	want("of both", false, false, false)
	e.advance(e.now + avoidFor)
	want("later", true, true, false)
	fails(Route{1, Carried(2, 1)})
	want("carried as well", true, true, true)
}
