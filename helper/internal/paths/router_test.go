package paths

import (
	"net/netip"
	"testing"
	"time"
)

// TestBehindOneRouter: three hosts behind one address that all listen on the same port,
// or each on the one that the router forwards to it. All reach each other, over relays
// where they have to, also when the router has forgotten its flows.
func TestBehindOneRouter(t *testing.T) {
	for _, hairpin := range []bool{true, false} {
		r := &router{address: netip.MustParseAddr("203.0.113.7"), forwards: map[uint16]uint16{51821: 1, 51820: 2, 443: 3}, hairpin: hairpin, sameInside: !hairpin}
		w := newWorldBehind(t, 7, 13, r)
		w.log = true
		neighbors := func(from, to uint16) bool { return from <= 3 && to <= 3 && !hairpin && w.now < 30*time.Second }
		w.run(20 * time.Second)
		w.check(100*time.Millisecond, neighbors)
		w.run(30 * time.Second)
		w.check(200*time.Millisecond, nil)
		for _, id := range []uint16{1, 2, 3} {
			for _, other := range w.hosts {
				if p := other.engine.peers[id]; p != nil && other.id > 3 && (p.via != 0 || p.phase != up) {
					t.Errorf("%d reaches %d over %d, phase %d", other.id, id, p.via, p.phase)
				}
				if via := other.engine.peers[id]; via != nil && via.via != 0 && via.via <= 3 {
					t.Errorf("%d is relayed by %d, which cannot", id, via.via)
				}
			}
		}

		w.cut(func(from, to uint16, size int) bool {
			return between(1, 4)(from, to, size) || between(2, 4)(from, to, size)
		})
		w.run(33 * time.Second)
		w.check(200*time.Millisecond, nil)
		w.run(90 * time.Second)
		w.check(200*time.Millisecond, nil)
		w.cut(none)
		w.run(4 * time.Minute)
		w.check(200*time.Millisecond, nil)
		for _, id := range []uint16{1, 2} {
			if p := w.host(4).engine.peers[id]; p.via != 0 {
				t.Errorf("the path between 4 and %d is well again and not used: over %d, direct %v", id, p.via, p.direct)
			}
		}
		r.reboot()
		w.run(w.now + 2*time.Second)
		w.check(200*time.Millisecond, nil)
	}
}
