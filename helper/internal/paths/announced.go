package paths

import (
	"net/netip"
	"slices"
	"time"
)

// fruitlessWay is how long an announced way that has never answered is left alone, after its
// first tests: the address may well be that of another machine, in a network like the peer's.
const fruitlessWay = 5 * time.Minute

// Announced hands in at which addresses of its own a peer says that it may be reached, besides
// its endpoints. They are ways like those of the document, but for a peer that is sought: the
// document knows better where it was last.
func (e *Engine) Announced(now time.Duration, id uint16, at []netip.AddrPort) {
	e.advance(now)
	p := e.peers[id]
	if p == nil || slices.Equal(p.announced, at) {
		return
	}
	p.announced = slices.Clone(at)
	e.setWays(p, len(e.peers))
	e.touch(p)
}

// announcedWays is how many of the peer's ways, the last ones, only the peer itself knows of.
func (p *peer) announcedWays() (n int) {
	for _, w := range p.ways {
		if w.announced {
			n++
		}
	}
	return n
}

// fruitless reports that a way leads to somebody else, as it seems, and was tested lately.
func (w *way) fruitless(now time.Duration) bool {
	return w.announced && w.tests >= newTests && w.small.srtt == 0 && now-w.lastTest() < fruitlessWay
}
