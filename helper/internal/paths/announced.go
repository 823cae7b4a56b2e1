package paths

import (
	"net/netip"
	"slices"
	"time"
)

// An announced way that has not answered newTests probes is left alone for a while: the address may well
// be that of another machine, in a network like the peer's. One that has answered before is given up
// after silentWay, and tried again sooner.
const (
	fruitlessWay = 5 * time.Minute
	silentWay    = time.Minute
	silentEvery  = 30 * time.Second
)

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

// isNobodys reports that an announced way has had its tests, and never answered.
func (w *way) isNobodys() bool { return w.announced && w.unanswered >= newTests && w.answered == 0 }

// fruitless reports that a way leads to somebody else, as it seems, and was tested lately.
func (w *way) fruitless(now time.Duration) bool {
	if !w.announced || w.unanswered < newTests {
		return false
	}
	if w.isNobodys() {
		return now-w.lastTest() < fruitlessWay
	}
	return now-w.answered > silentWay && now-w.lastTest() < silentEvery
}

// SetLocal takes over the networks of this host's own interfaces. A peer's endpoint in one
// of them comes before others. What was silent in those before may answer in these.
func (e *Engine) SetLocal(local []netip.Prefix) {
	e.config.Local = local
	for _, p := range e.order {
		for _, w := range p.ways {
			w.unanswered, w.answered = 0, 0
		}
	}
}

// Probed hands in that a genuine direct probe of a peer came from there. What comes from a private
// address says nothing of where the peer is for others.
func (e *Engine) Probed(now time.Duration, id uint16, from netip.AddrPort) {
	e.advance(now)
	if p := e.peers[id]; p != nil && (from == p.Endpoint || !private(from.Addr())) {
		p.outside, p.outsideAt = from, now
	}
}

// seenOutside is where the peer is seen while traffic with it takes a network in common; zero: it is not.
func (e *Engine) seenOutside(p *peer) netip.AddrPort {
	if p.outsideAt == 0 || e.now-p.outsideAt > 2*e.wayFresh(p) {
		return netip.AddrPort{}
	}
	return p.outside
}

// announcedWay reports that traffic with the peer takes a way of which the peer itself told.
func (p *peer) announcedWay(to netip.AddrPort) bool {
	w := p.wayTo(to)
	return w != nil && w.announced
}

var providers = netip.MustParsePrefix("100.64.0.0/10")

// private reports that an address leads somewhere in some networks alone (RFC 1918, 4193, 6598).
func private(a netip.Addr) bool { return a.IsPrivate() || providers.Contains(a) }
