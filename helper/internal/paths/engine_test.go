package paths

import (
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// viaOf returns the relay to a peer; 0: none.
func (c *crowd) viaOf(peer uint16) uint16 { return c.engine.peers[peer].via }

// TestARelayThatFailsIsAvoided: host 2 is the nearest and says that it reaches
// host 1, but brings no answer; host 3 does.
func TestARelayThatFailsIsAvoided(t *testing.T) {
	const avoided = 10 * time.Second
	works := uint16(3)
	c := relayedBy(&works)
	c.verdict = func(relay, _ uint16) probe.Verdict {
		rtt := map[uint16]uint32{2: 1000, 3: 50_000}[relay]
		return probe.Verdict{Reachable: rtt > 0, FullSize: true, RTTMicroseconds: rtt}
	}
	var failed time.Duration
	for c.viaOf(1) != works || c.engine.peers[1].phase != up {
		if c.now > 40*time.Second {
			t.Fatalf("host 3 does not relay after 20 s; the routes were %v", c.routes)
		}
		c.step()
		if failed == 0 && len(c.routes) == 2 {
			failed = c.now
		}
	}
	first, second := relayEndpoint(Peer{ID: 2, Endpoint: underlay(2)}, 1), relayEndpoint(Peer{ID: 3, Endpoint: underlay(3)}, 1)
	if len(c.routes) != 2 || c.routes[0].Endpoint != first || c.routes[1].Endpoint != second {
		t.Fatalf("found the routes %v, wanted %v and then %v", c.routes, first, second)
	}

	// Now host 2 is the only one that works. It gets its chance when its time is over,
	// and host 3, which worked for a while, falls from favor.
	works = 2
	c.verdict = func(relay, _ uint16) probe.Verdict {
		return probe.Verdict{Reachable: relay == 2, FullSize: true, RTTMicroseconds: 1000}
	}
	c.queries = nil
	fell := c.now + time.Hour
	for c.viaOf(1) != works {
		if c.engine.peers[1].phase == down {
			fell = min(fell, c.now)
		}
		for _, q := range c.queries {
			if q.Relay == 2 && c.now < failed+avoided || q.Relay == 3 && c.now > fell && c.now < fell+avoided {
				t.Fatalf("host %d is asked again %v after the first failed and %v after the second, wanted %v", q.Relay, c.now-failed, c.now-fell, avoided)
			}
		}
		c.queries = nil
		if c.now > failed+avoided+35*time.Second {
			t.Fatalf("not used again %v after it failed", c.now-failed)
		}
		c.step()
	}
}

// TestAFailedRelayIsSoonAskedAgain: as soon as its time is over it is as good as any.
// Host 3, which relays meanwhile, fails just then.
func TestAFailedRelayIsSoonAskedAgain(t *testing.T) {
	const avoided = 10 * time.Second
	works := uint16(3)
	c := relayedBy(&works)
	c.verdict = func(relay, _ uint16) probe.Verdict {
		return probe.Verdict{Reachable: relay == 2 || relay == 3, FullSize: true, RTTMicroseconds: 1000 * uint32(relay*relay)}
	}
	for len(c.routes) < 2 {
		if c.now > 40*time.Second {
			t.Fatalf("host 2 does not fail; the routes were %v", c.routes)
		}
		c.step()
	}
	over := c.now + avoided
	for c.viaOf(1) != 2 && c.now < over+20*time.Second {
		if c.now > over-200*time.Millisecond {
			works = 2
		}
		c.step()
	}
	if late := c.now - over; c.viaOf(1) != 2 || late > 700*time.Millisecond {
		t.Errorf("host 2 relays again %v after it may, wanted as soon as host 3 is known to fail; the routes were %v", late, c.routes)
	}
}

// TestProbesDuringAGoodbyeAreNotMissed: an answer ends what a goodbye excuses, but
// the probes until then were for an agent that was not there.
func TestProbesDuringAGoodbyeAreNotMissed(t *testing.T) {
	c := newCrowd(3)
	c.active = 3
	c.run(20 * time.Second)
	p := c.engine.peers[1]
	ask := func() (small uint32) { // both sizes at once
		p.nextProbe, p.nextFull = c.now, c.now
		c.engine.touch(p)
		c.engine.Tick(c.now)
		if out := c.engine.Take(); len(out.Probes) < 2 {
			t.Fatalf("found the probes %+v, wanted one of each size", out.Probes)
		}
		return p.small.last
	}
	before := ask()
	c.now += time.Millisecond
	c.engine.Goodbye(c.now, 1)
	c.engine.Echo(c.now+time.Millisecond, 1, Traffic, false, before)
	if p.leaveUntil == 0 {
		t.Error("what was asked before the goodbye ended what it excuses")
	}
	c.now += 10 * time.Millisecond
	during := ask()
	c.now += 5 * time.Millisecond
	c.engine.Echo(c.now, 1, Traffic, false, during) // it is back, but has not heard the other
	if p.leaveUntil != 0 {
		t.Error("the agent is back, and its silence would still be excused")
	}
	c.now += time.Second
	if n, _ := p.full.misses(c.now); n > 0 {
		t.Errorf("%d are missed that the agent could not hear", n)
	}
	if share, _ := p.full.loss(c.now); share > 0 {
		t.Errorf("%.0f %% are lost that the agent could not hear", 100*share)
	}
}

// relayedBy returns a crowd in which host 1 is reached over that relay alone, from now on.
func relayedBy(relay *uint16) *crowd {
	c := newCrowd(4)
	c.active = 4
	c.run(20 * time.Second)
	c.dead = func(peer uint16) bool { return peer == 1 && c.viaOf(1) != *relay }
	return c
}

// step lets the crowd live for a moment.
func (c *crowd) step() {
	const moment = 10 * time.Millisecond
	c.now += moment
	for len(c.events) > 0 && c.events[0].at <= c.now {
		c.next()
	}
	if c.now%time.Second == 0 {
		c.observe(c.now)
	}
	if c.engine.Next() <= c.now {
		c.engine.Tick(c.now)
	}
	c.carryOut()
}

// TestQueriesAreBounded: when many peers fall at once, and when others ask.
func TestQueriesAreBounded(t *testing.T) {
	c := newCrowd(300)
	c.run(20 * time.Second)
	c.dead = func(peer uint16) bool { return peer > 100 }
	c.other, c.mostOther = 0, 0
	const seconds = 10
	c.run(seconds * time.Second)
	if c.mostOther > 90 || c.other < 30*seconds/2 || c.other > 60+30*seconds {
		t.Errorf("found %d queries in %d s, %d in the busiest one, wanted 30 a second and 60 at once", c.other, seconds, c.mostOther)
	}

	e := newCrowd(300).engine
	for i := uint32(1); i <= 1000; i++ {
		e.Asked(time.Second, 1, i, 999) // nobody's ID: answered at once
	}
	if n := len(e.Take().Replies); n != 60 {
		t.Errorf("found %d replies to 1000 questions of one host at once, wanted 60", n)
	}
	e.Asked(time.Second, 2, 1, 999)
	if n := len(e.Take().Replies); n != 1 {
		t.Error("after one that asks too often another one is not answered")
	}
	for i := uint32(0); i < 1000; i++ {
		e.Asked(time.Second, uint16(2+i%250), 2+i, 999)
	}
	if n := len(e.Take().Replies); n != 240-61 {
		t.Errorf("found %d replies to many hosts, wanted %d", n, 240-61)
	}
	e = newCrowd(300).engine
	for i := uint32(1); i <= 200; i++ {
		e.Asked(time.Duration(i)*time.Second/10, 1, i, 2)
	}
	if n := len(e.peers[2].askers); n != 1 || e.peers[2].askers[0].sequence != 200 {
		t.Errorf("one host that asked again and again waits %d times, wanted once for its last question", n)
	}
	for i := uint16(3); i <= 200; i++ {
		e.Asked(20*time.Second, i, 1, 2)
	}
	if n := len(e.peers[2].askers); n != 64 {
		t.Errorf("%d who asked wait, wanted 64", n)
	}
}

// unanswered returns a crowd with as many probes to host 1 on their way as make a
// path that is down, all but the last of them late.
func unanswered(t *testing.T) *crowd {
	c := newCrowd(3)
	c.active = 3
	c.run(20 * time.Second)
	for i := 0; i < 300; i++ { // whole ticks, so that nothing is due
		c.dead = func(peer uint16) bool { return peer == 1 }
		l := c.engine.peers[1].small
		if late, _ := l.late(c.now); late == downMisses-1 && l.last-l.reached >= downMisses {
			return c
		}
		c.step()
	}
	t.Fatal("the probes are answered")
	return nil
}

// TestGraceAfterAStall: an agent that did not run for a moment does not know yet
// what came meanwhile.
func TestGraceAfterAStall(t *testing.T) {
	c := unanswered(t)
	p := c.engine.peers[1]
	first, last := p.small.reached+1, p.small.last
	c.now += 150 * time.Millisecond
	c.engine.Tick(c.now)
	if late, since := p.small.late(c.now); late < downMisses || c.now-since < p.downAfter(c.now) {
		t.Fatalf("only %d are late since %v: this tests nothing", late, c.now-since)
	}
	if p.phase != up {
		t.Fatal("the path was given up before the answers were read")
	}
	if c.engine.Tick(c.now + 45*time.Millisecond); p.phase != up {
		t.Fatal("the path was given up 45 ms after the stall, wanted 50 ms for the answers")
	}
	for s := first; s <= last; s++ {
		c.engine.Echo(c.now, 1, Traffic, false, s)
	}
	c.engine.Tick(c.now + 100*time.Millisecond)
	if p.phase != up {
		t.Error("the path was given up although all was answered")
	}

	c = unanswered(t) // and if nothing came, the grace ends
	p = c.engine.peers[1]
	c.now += 150 * time.Millisecond
	for i := 0; i < 15; i++ {
		c.step()
	}
	if p.phase == up {
		t.Error("150 ms after the stall the path is still believed in")
	}
}

// TestAfterALongStallNothingIsMissed: what was asked before may have been answered
// to a buffer that was too small.
func TestAfterALongStallNothingIsMissed(t *testing.T) {
	c := unanswered(t)
	p := c.engine.peers[1]
	c.now += 700 * time.Millisecond
	for i := 0; i < 50; i++ {
		if i == 15 { // longer than the grace, shorter than what makes a path down
			c.dead = func(uint16) bool { return false }
		}
		c.step()
		if p.phase != up {
			t.Fatalf("given up %v after the stall, for what was asked before", time.Duration(i+1)*10*time.Millisecond)
		}
	}
	if n, _ := p.small.misses(c.now); n > 0 {
		t.Errorf("%d are still missed", n)
	}
}

// TestTheDocumentsEndpointIsTriedAgain: a peer had moved, and comes back silent
// where the document says.
func TestTheDocumentsEndpointIsTriedAgain(t *testing.T) {
	elsewhere := netip.MustParseAddrPort("203.0.113.2:51820")
	for _, agentOnly := range []bool{false, true} {
		c := newCrowd(3)
		moved, grown := true, int64(0)
		c.kernel = func(k *Kernel) {
			if k.Peer == 1 && moved {
				k.Endpoint = elsewhere
			}
			if k.Peer == 1 && (moved || agentOnly) { // data comes
				grown += 10_000
			}
			k.ReceiveBytes = grown
		}
		c.run(20 * time.Second)
		moved = false
		if got := c.engine.peers[1].kernel; got != elsewhere {
			t.Fatalf("the path leads to %v, wanted %v", got, elsewhere)
		}
		c.dead = func(peer uint16) bool { return peer == 1 && (agentOnly || c.engine.peers[1].kernel != underlay(1)) }
		c.run(20 * time.Second)
		if c.sets > 0 {
			t.Errorf("after 20 s: found the routes %v, wanted none yet", c.routes)
		}
		c.run(100 * time.Second)
		p := c.engine.peers[1]
		switch {
		case agentOnly && c.sets > 0:
			t.Errorf("only the agent is silent: found the routes %v, wanted none", c.routes)
		case !agentOnly && (len(c.routes) != 1 || c.routes[0] != Route{1, underlay(1)} || p.phase != up):
			t.Errorf("found the routes %v, wanted one to %v, which answers", c.routes, underlay(1))
		}
	}
}

// silentElsewhere returns a crowd of which host 1 moved, falls silent at 20 s for good,
// and is well again if it answers where the document says, if ever.
func silentElsewhere(n int) *crowd {
	c := newCrowd(n)
	elsewhere, silent := netip.MustParseAddrPort("203.0.113.2:51820"), false
	c.kernel = func(k *Kernel) {
		if k.Peer == 1 && len(c.routes) == 0 {
			k.Endpoint = elsewhere
		}
		if k.ReceiveBytes = 100 * int64(c.now/time.Second); k.Peer == 1 && silent {
			k.ReceiveBytes = 100 * 20
		}
	}
	c.run(20 * time.Second)
	silent = true
	c.dead = func(peer uint16) bool { return peer == 1 }
	return c
}

// TestTheDocumentsEndpointIsTriedAfterAllRelays: three searches come first, however long
// they take, or the 30 s that tell a silent host from one whose agent is dead. Then
// relays are asked more often again, for the host may be back.
func TestTheDocumentsEndpointIsTriedAfterAllRelays(t *testing.T) {
	for _, c := range []struct {
		name     string
		hosts    int
		searches int // 0: any number
	}{{"nobody to ask", 1, 0}, {"few to ask", 3, 0}, {"many to ask", 70, 3}} {
		t.Run(c.name, func(t *testing.T) {
			w := silentElsewhere(c.hosts)
			began := w.now
			w.queries = nil
			for len(w.routes) == 0 {
				if w.now > began+3*time.Minute {
					t.Fatal("the document's endpoint is not tried in 3 min")
				}
				w.step()
			}
			if w.routes[0] != (Route{1, underlay(1)}) || w.now-began < 30*time.Second {
				t.Errorf("found the routes %v after %v, wanted one to %v after 30 s or more", w.routes, w.now-began, underlay(1))
			}
			asked := map[uint16]int{}
			for _, q := range w.queries {
				asked[q.Relay]++
			}
			for id := uint16(2); int(id) <= c.hosts && c.searches > 0; id++ {
				if asked[id] != c.searches {
					t.Errorf("host %d was asked %d times before, wanted %d", id, asked[id], c.searches)
				}
			}
		})
	}

	w := silentElsewhere(3)
	for len(w.routes) == 0 {
		w.step()
	}
	w.queries = nil
	var searches []time.Duration
	for end := w.now + 2*time.Minute; w.now < end && len(searches) < 2; w.step() {
		if len(w.queries) > 0 && (searches == nil || w.now-searches[0] > time.Second) {
			searches = append(searches, w.now)
		}
		w.queries = nil
	}
	// A search takes some 0.5 s.
	if len(searches) < 2 || searches[1]-searches[0] < 8*time.Second || searches[1]-searches[0] > 9*time.Second {
		t.Errorf("after the document's endpoint was tried, searches begin at %v, wanted 8 s between them", searches)
	}
}
