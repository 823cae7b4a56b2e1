package paths

import (
	"net/netip"
	"slices"
	"time"

	"mobula/helper/internal/network"
)

// An announced way that has not answered newTests probes is left alone for a while: the address may well
// be that of another machine, in a network like the peer's. One that has answered before is given up
// after silentWay, and tried again sooner.
const (
	fruitlessWay = 5 * time.Minute
	silentWay    = time.Minute
	silentEvery  = 30 * time.Second
	// What is in no network of this host is tried again with farTests whenever both ends are told where
	// the other is, but once in farAgain at most.
	farTests = 3
	farAgain = 30 * time.Second
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

// SetLocal takes over the networks of this host's own interfaces, and from where it sends to hosts
// that are in none of them, over IPv6. A peer's endpoint in one of them comes before others. What was
// silent in another network, or from elsewhere, may answer in these.
func (e *Engine) SetLocal(local []netip.Prefix, from6 netip.Addr) {
	before, from := e.config.Local, e.config.From6
	e.config.Local, e.config.From6 = local, from6
	for _, p := range e.order {
		for _, w := range p.ways {
			was, is := networkOf(before, w.to), networkOf(local, w.to)
			if was != is || !is.IsValid() && w.announced && from != from6 {
				w.unanswered, w.answered = 0, 0
			}
		}
	}
}

// tryFar has the ways to a peer that are in no network of this host tried again, once in farAgain:
// the peer does so now as well, and each opens its own firewall for the other.
func (e *Engine) tryFar(p *peer) {
	for _, w := range p.ways {
		if w.fruitless(e.now) && !e.local(w.to) && e.now-w.lastTest() > farAgain {
			w.unanswered = newTests - farTests
		}
	}
}

// networkOf returns the first of the networks that an endpoint is in, with this host's own address
// there; zero: it is in none.
func networkOf(local []netip.Prefix, to netip.AddrPort) netip.Prefix {
	if i := slices.IndexFunc(local, func(n netip.Prefix) bool { return n.Contains(to.Addr()) }); i >= 0 {
		return local[i]
	}
	return netip.Prefix{}
}

// sight is where a peer's direct probes came from last, and when; zero: none came.
type sight struct {
	from netip.AddrPort
	at   time.Duration
}

// Probed hands in that a genuine direct probe of a peer came from there. What comes from a private
// address says nothing of where the peer is for others.
func (e *Engine) Probed(now time.Duration, id uint16, from netip.AddrPort) {
	e.advance(now)
	p := e.peers[id]
	if p == nil {
		return
	}
	if w := p.wayTo(from); w != nil {
		w.unanswered = 0
	}
	if from == p.Endpoint || !network.IsPrivate(from.Addr()) {
		p.outside[family(from.Addr())] = sight{from, now}
	}
}

func family(a netip.Addr) int {
	if a.Is6() {
		return 1
	}
	return 0
}

// seenOutside is where the peer is seen over a family while traffic with it takes a network in common; zero: it
// is not.
func (e *Engine) seenOutside(p *peer, family int) netip.AddrPort {
	if s := p.outside[family]; s.from.IsValid() && e.now-s.at <= 2*e.wayFresh(p) {
		return s.from
	}
	return netip.AddrPort{}
}

// passesNear reports that this host's relay ports, which know the document's endpoint, take what comes
// from a peer with which traffic takes a network in common.
func (e *Engine) passesNear(p *peer) bool {
	seen := e.seenOutside(p, family(p.Endpoint.Addr()))
	return seen == p.Endpoint || !e.config.Exact && seen.Addr() == p.Endpoint.Addr()
}

// placeOf is where others are told that a peer is: not where it is in a private network, if it is seen
// elsewhere.
func (e *Engine) placeOf(p *peer) netip.AddrPort {
	if !network.IsPrivate(p.kernel.Addr()) {
		return p.kernel
	}
	for family := range p.outside {
		if at := e.seenOutside(p, family); at.IsValid() {
			return at
		}
	}
	if p.announcedWay(p.kernel) { // which leads nowhere from elsewhere
		return netip.AddrPort{}
	}
	return p.kernel
}

// announcedWay reports that traffic with the peer takes a way of which the peer itself told.
func (p *peer) announcedWay(to netip.AddrPort) bool {
	w := p.wayTo(to)
	return w != nil && w.announced
}
