package paths

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/network"
)

// TestNATs: two hosts without an endpoint behind NATs of each kind. Where both keep a port for
// all whom a host sends to, they are reached directly within seconds; where one chooses a port
// anew for each, the other would have to take what comes from any, and is carried. When a
// NAT forgets all flows, and when it then gives other ports, they talk on within a second.
func TestNATs(t *testing.T) {
	kinds := map[string]func(r *router){
		"keeps the port":           func(*router) {},
		"another, for all":         func(r *router) { r.shift = 700 },
		"a port anew for each":     func(r *router) { r.fresh = true },
		"the port, for whoever is": func(r *router) { r.open = true },
	}
	for one, make1 := range kinds {
		for two, make2 := range kinds {
			t.Run(one+", "+two, func(t *testing.T) {
				first, second := hidden("203.0.113.7", 1), hidden("203.0.113.8", 2)
				make1(first)
				make2(second)
				w := newWorldBehind(t, 4, 3, first, second)
				w.log = true
				direct := !(first.fresh && !second.open || second.fresh && !first.open)
				reached := func(when string) {
					t.Helper()
					w.check(200*time.Millisecond, nil)
					for _, pair := range [][2]uint16{{1, 2}, {2, 1}} {
						if p := w.host(pair[0]).engine.peers[pair[1]]; (p.via == 0) != direct {
							t.Errorf("%s: %d reaches %d over %d, at %v", when, pair[0], pair[1], p.via, p.kernel)
						}
					}
				}
				w.run(5 * time.Second)
				reached("after 5 s")
				w.run(time.Minute)
				reached("after a minute")
				first.reboot()
				w.run(w.now + 1200*time.Millisecond)
				w.check(200*time.Millisecond, nil)
				first.shift += 1000
				first.reboot()
				w.run(w.now + 1200*time.Millisecond)
				w.check(200*time.Millisecond, nil)
				w.run(w.now + 2*time.Minute)
				reached("after other ports")
				if w.switches > 40 {
					t.Errorf("%d switches", w.switches)
				}
			})
		}
	}
}

// TestSightings: what a member says is tried for a peer that has no endpoint and is not
// reached directly, and costs a few probes.
func TestSightings(t *testing.T) {
	at := netip.MustParseAddrPort("203.0.113.9:4000")
	for _, c := range []struct {
		what     string
		endpoint netip.AddrPort
		kernel   netip.AddrPort
		want     bool
	}{
		{"carried", netip.AddrPort{}, Carried(2, 1), true},
		{"reached", netip.AddrPort{}, netip.MustParseAddrPort("203.0.113.8:51820"), false},
		{"has an endpoint", underlay(1), underlay(1), false},
		{"has an endpoint and is carried", underlay(1), Carried(2, 1), false},
	} {
		c2 := newCrowd(2)
		c2.engine.SetPeers(c2.now, Config{Self: 9}, []Peer{{ID: 1, Endpoint: c.endpoint}, {ID: 2, Endpoint: underlay(2)}})
		c2.engine.Observe(c2.now, []Kernel{{Peer: 1, Endpoint: c.kernel}, {Peer: 2, Endpoint: underlay(2)}})
		tried := 0
		c2.lost = func(p Probe) bool {
			if p.Plane == Direct && p.To == at {
				tried++
				return true
			}
			return false
		}
		c2.engine.Sighted(c2.now, 2, 1, at)
		c2.engine.Sighted(c2.now, 2, 7, at)
		c2.run(time.Minute)
		if (tried > 0) != c.want || tried > 200 {
			t.Errorf("%s: tried %d times", c.what, tried)
		}
	}
}

// TestWhereAPeerIsSeenAtHome is nothing for others, unless its address there is one outside.
func TestWhereAPeerIsSeenAtHome(t *testing.T) {
	for at, c := range map[string]struct{ announced, told bool }{
		"198.51.100.7:51820": {true, true}, "192.168.1.7:51820": {true, false}, "100.64.0.7:51820": {true, false},
		"[fd00::7]:51820": {true, false}, "[2001:db8::7]:51820": {true, true}, "10.7.0.7:51820": {false, true}, // in a network that is routed
	} {
		place := netip.MustParseAddrPort(at)
		e := New(Config{Self: 9}, 1)
		e.SetPeers(0, Config{Self: 9}, []Peer{{ID: 1}, {ID: 2, Endpoint: underlay(2)}})
		if c.announced {
			e.Announced(0, 1, []netip.AddrPort{place})
		}
		e.Observe(0, []Kernel{{Peer: 1, Endpoint: place}, {Peer: 2, Endpoint: underlay(2)}})
		e.introduce(e.peers[1], e.peers[2])
		if told := len(e.Take().Sightings) == 1; told != c.told {
			t.Errorf("%s, announced %v: told %v", at, c.announced, told)
		}
		seen := netip.MustParseAddrPort("203.0.113.7:4000")
		e.Probed(time.Second, 1, seen)
		want := seen
		if !network.IsPrivate(place.Addr()) && place.Addr().Is4() { // the other one is reached over IPv4, maybe alone
			want = place
		}
		e.introduce(e.peers[1], e.peers[2])
		if told := e.Take().Sightings; len(told) != 1 || told[0].At != want {
			t.Errorf("%s, seen outside: told %v, wanted %v", at, told, want)
		}
	}
}

// TestSightingsAreFew: where many are carried, who carries is asked now and then.
func TestSightingsAreFew(t *testing.T) {
	var routers []*router
	for i := 1; i <= 6; i++ {
		routers = append(routers, hardNAT(fmt.Sprintf("203.0.113.%d", i), uint16(i)))
	}
	w := newWorldBehind(t, 8, 1, routers...)
	w.run(30 * time.Second)
	before := w.host(7).engine.Stats().QuestionsRefused + w.host(8).engine.Stats().QuestionsRefused
	w.sightings = 0
	w.run(90 * time.Second)
	if w.sightings < 50 || w.sightings > 30*4*4*2 || w.host(7).engine.Stats().QuestionsRefused+w.host(8).engine.Stats().QuestionsRefused != before {
		t.Errorf("%d sightings in a minute", w.sightings)
	}
	w.check(200*time.Millisecond, nil)
}

// TestFruitlessProbesAreFew: between hosts behind NATs that do not let them the direct path is
// tried now and then.
func TestFruitlessProbesAreFew(t *testing.T) {
	w := newWorldBehind(t, 4, 1, hardNAT("203.0.113.7", 1), hardNAT("203.0.113.8", 2))
	w.run(2 * time.Minute)
	p := w.host(1).engine.peers[2]
	before := p.directSmall.last
	w.run(4 * time.Minute)
	if n := p.directSmall.last - before; !p.carried() || n < 10 || n > 40 {
		t.Errorf("%d direct probes in two minutes, wanted one each five seconds", n)
	}
}
