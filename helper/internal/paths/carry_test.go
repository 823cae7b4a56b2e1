package paths

import (
	"net/netip"
	"testing"
	"time"
)

// hardNAT is hidden with a port anew for each flow, so that nothing leads directly from behind
// one to behind another.
func hardNAT(address string, hosts ...uint16) *router {
	r := hidden(address, hosts...)
	r.fresh = true
	return r
}

// hidden returns a router with hosts behind it to which nothing leads by itself.
func hidden(address string, hosts ...uint16) *router {
	return &router{address: netip.MustParseAddr(address), behind: hosts}
}

// TestCarried: an endpoint tells who carries to whom.
func TestCarried(t *testing.T) {
	seen := map[netip.AddrPort]bool{}
	for _, relay := range []uint16{1, 127, 255, 256, 511, 32767} {
		for _, target := range []uint16{1, 2, 19052, 32766, 32767} {
			at := Carried(relay, target)
			if at.Port() < 256 || at.Port() > 383 || !at.Addr().IsLoopback() || at.Addr() == netip.MustParseAddr("127.255.255.255") || at.Addr() == netip.MustParseAddr("127.0.0.0") || seen[at] {
				t.Errorf("%d carries to %d at %v", relay, target, at)
			}
			seen[at] = true
			if r, to := CarriedBy(at); r != relay || to != target {
				t.Errorf("found %d and %d at %v, wanted %d and %d", r, to, at, relay, target)
			}
		}
	}
	for _, at := range []string{"192.0.2.1:256", "127.0.0.1:256", "127.0.128.0:256", "127.0.0.1:51820", "127.200.0.1:300", "[::1]:300", "[::ffff:127.0.128.1]:256"} {
		if relay, target := CarriedBy(netip.MustParseAddrPort(at)); relay != 0 || target != 0 {
			t.Errorf("%s: found %d and %d", at, relay, target)
		}
	}
	if relay, _ := CarriedBy(netip.AddrPort{}); relay != 0 {
		t.Error("found a relay at no endpoint")
	}
}

// TestHostsWithoutEndpoints reach those that have one by themselves, and each other by the
// agents of these: from the start, when the one that carries goes, and when it comes back.
func TestHostsWithoutEndpoints(t *testing.T) {
	for seed := int64(1); seed <= 5; seed++ {
		w := newWorldBehind(t, 6, seed, hardNAT("203.0.113.7", 1, 2), hardNAT("203.0.113.8", 3), hardNAT("203.0.113.9", 4))
		w.log = seed == 1
		w.run(10 * time.Second)
		w.check(100*time.Millisecond, nil)
		w.run(time.Minute)
		w.check(100*time.Millisecond, nil)
		carrier := w.host(1).engine.peers[3].via
		if carrier != 5 && carrier != 6 {
			t.Fatalf("seed %d: 1 reaches 3 over %d", seed, carrier)
		}
		if r := w.host(1).engine.Reports(w.now)[1]; !r.Carried || r.Via != carrier {
			t.Errorf("seed %d: found %+v, wanted it carried", seed, r)
		}
		for _, id := range []uint16{1, 2, 3, 4} {
			for _, other := range []uint16{5, 6} {
				if p := w.host(id).engine.peers[other]; p.via != 0 {
					t.Errorf("seed %d: %d reaches %d over %d", seed, id, other, p.via)
				}
			}
		}
		w.host(carrier).off = true
		gone := func(from, to uint16) bool { return from == carrier || to == carrier }
		w.run(w.now + 2*time.Second)
		w.check(200*time.Millisecond, gone)
		w.run(w.now + time.Minute)
		w.host(carrier).off = false
		w.run(w.now + 40*time.Second)
		w.check(200*time.Millisecond, nil)
	}
}

// TestAgentsOfHostsWithoutEndpoints: an agent that begins anew has what is carried go on; one
// that carries and stays away is replaced by another.
func TestAgentsOfHostsWithoutEndpoints(t *testing.T) {
	w := newWorldBehind(t, 4, 1, hardNAT("203.0.113.7", 1), hardNAT("203.0.113.8", 2))
	w.log = true
	w.run(30 * time.Second)
	w.check(100*time.Millisecond, nil)
	w.restart(w.host(1), 300*time.Millisecond)
	w.run(w.now + 5*time.Second)
	w.check(200*time.Millisecond, nil)
	carrier := w.host(1).engine.peers[2].via
	if carrier == 0 {
		t.Fatal("nobody carries")
	}
	w.host(carrier).silent = true
	w.run(w.now + 5*time.Second)
	w.check(200*time.Millisecond, nil)
}

// TestWhatNoPortLeadsToIsCarried: hosts that do not relay by ports, as they share an address,
// carry.
func TestWhatNoPortLeadsToIsCarried(t *testing.T) {
	r := &router{address: netip.MustParseAddr("203.0.113.7"), forwards: map[uint16]uint16{51820: 3, 51821: 4}, hairpin: true}
	w := newWorldBehind(t, 4, 1, r)
	w.log = true
	w.run(20 * time.Second)
	w.cut(between(1, 2))
	w.run(22 * time.Second)
	w.check(200*time.Millisecond, nil)
	if p := w.host(1).engine.peers[2]; !p.carried() {
		t.Errorf("1 reaches 2 over %d at %v", p.via, p.kernel)
	}
	w.cut(none)
	w.run(2 * time.Minute)
	if p := w.host(1).engine.peers[2]; p.via != 0 {
		t.Errorf("1 reaches 2 over %d", p.via)
	}
	w.check(200*time.Millisecond, nil)
}

// TestRelayPortsComeFirst: an agent carries only where none leads to the target.
func TestRelayPortsComeFirst(t *testing.T) {
	for seed := int64(1); seed <= 5; seed++ {
		w := newWorldBehind(t, 6, seed, hidden("203.0.113.7", 6))
		w.run(20 * time.Second)
		w.cut(between(1, 2))
		w.run(22 * time.Second)
		w.check(200*time.Millisecond, nil)
		if p := w.host(1).engine.peers[2]; p.via == 0 || p.carried() {
			t.Errorf("seed %d: 1 reaches 2 over %d at %v", seed, p.via, p.kernel)
		}
	}
}

// TestWhoHasPortsIsAskedFirst: also where nearly all others could do no more than carry.
func TestWhoHasPortsIsAskedFirst(t *testing.T) {
	for seed := int64(1); seed <= 10; seed++ {
		r := &router{address: netip.MustParseAddr("203.0.113.7"), forwards: map[uint16]uint16{51820: 3, 51821: 4, 51822: 5, 51823: 6, 51824: 7}, hairpin: true}
		w := newWorldBehind(t, 8, seed, r)
		w.run(20 * time.Second)
		w.cut(between(1, 2))
		w.run(22 * time.Second)
		w.check(200*time.Millisecond, nil)
		if p := w.host(1).engine.peers[2]; p.via != 8 || p.carried() {
			t.Errorf("seed %d: 1 reaches 2 over %d at %v", seed, p.via, p.kernel)
		}
	}
}

// TestACarrierSaysGoodbye: what it carries is carried by another one before anything is missed.
func TestACarrierSaysGoodbye(t *testing.T) {
	w := newWorldBehind(t, 4, 1, hardNAT("203.0.113.7", 1), hardNAT("203.0.113.8", 2))
	w.log = true
	w.run(30 * time.Second)
	w.check(100*time.Millisecond, nil)
	carrier := w.host(1).engine.peers[2].via
	w.restart(w.host(carrier), 3*time.Second)
	for w.now < 33*time.Second {
		w.run(w.now + 10*time.Millisecond)
		w.check(250*time.Millisecond, nil)
	}
	if via := w.host(1).engine.peers[2].via; via == carrier || via == 0 {
		t.Errorf("1 reaches 2 over %d, which was over %d", via, carrier)
	}
}

// TestWhatNoAgentTakes is not promised: the target's agent has to give it to its WireGuard.
func TestWhatNoAgentTakes(t *testing.T) {
	c := newCrowd(2)
	c.engine.SetPeers(c.now, Config{Self: 9}, []Peer{{ID: 1, Endpoint: underlay(1)}, {ID: 2}})
	c.engine.Observe(c.now, []Kernel{{Peer: 1, Endpoint: underlay(1)}, {Peer: 2, Endpoint: underlay(7)}})
	c.run(5 * time.Second)
	for _, carrier := range []bool{false, true} {
		c.engine.IsCarrier(2, carrier)
		if v := c.engine.refusal(c.engine.peers[2]); v.Carries != carrier {
			t.Errorf("its agent carries %v: found %+v", carrier, v)
		}
	}
}

// TestAnEndpointThatIsGone: WireGuard's peer was made anew, and nobody but the engine knows where
// it is.
func TestAnEndpointThatIsGone(t *testing.T) {
	c := newCrowd(1)
	c.engine.SetPeers(c.now, Config{Self: 9}, []Peer{{ID: 1}})
	c.engine.Observe(c.now, []Kernel{{Peer: 1, Endpoint: underlay(7)}})
	c.engine.Take()
	c.engine.Observe(c.now, []Kernel{{Peer: 1}})
	if out := c.engine.Take(); len(out.Routes) != 1 || out.Routes[0] != (Route{1, underlay(7)}) {
		t.Errorf("found the routes %v", out.Routes)
	}
}

// TestWhoIsAskedWhenPortsFail: who has relay ports is asked first, as long as one is left who has.
func TestWhoIsAskedWhenPortsFail(t *testing.T) {
	c := newCrowd(3)
	c.engine.SetPeers(c.now, Config{Self: 9}, []Peer{{ID: 1, Endpoint: underlay(1)}, {ID: 2, Endpoint: underlay(2)}, {ID: 3, Endpoint: underlay(3), NoRelay: true}})
	c.engine.Observe(c.now, []Kernel{{Peer: 1, Endpoint: underlay(1)}, {Peer: 2, Endpoint: underlay(2)}, {Peer: 3, Endpoint: underlay(3)}})
	c.engine.IsCarrier(3, true)
	c.run(5 * time.Second)
	p := c.engine.peers[1]
	next := func() uint16 {
		p.search.wanted = perRound
		if relay := c.engine.candidate(p); relay != nil {
			return relay.ID
		}
		return 0
	}
	p.search = &search{asked: map[uint16]uint32{}}
	if got := next(); got != 2 {
		t.Errorf("found %d, wanted the one with relay ports first", got)
	}
	p.search = &search{asked: map[uint16]uint32{2: 1}}
	if got := next(); got != 3 {
		t.Errorf("after that one found %d, wanted the one that carries", got)
	}
	p.search = &search{asked: map[uint16]uint32{}}
	p.shun(2, c.now+time.Hour)
	if got := next(); got != 3 {
		t.Errorf("while that one is avoided found %d, wanted the one that carries", got)
	}
}
