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
