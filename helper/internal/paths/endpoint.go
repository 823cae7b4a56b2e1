package paths

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// silentFor is how long no byte must have come from a peer that counts as silent:
	// one whose agent alone is dead sends a keepalive every 25 s.
	silentFor = 30 * time.Second
	// seekInterval is how long the direct path is looked for at one of the two places
	// where the peer may be, while it is reached over a relay.
	seekInterval = 5 * time.Second
)

// Resolved hands in where a peer's name says that it is now. As long as packets come
// from the peer, where they come from counts.
func (e *Engine) Resolved(now time.Duration, id uint16, endpoint netip.AddrPort) {
	e.advance(now)
	p := e.peers[id]
	if p == nil || p.endpoint == endpoint {
		return
	}
	e.forget(p)
	p.endpoint, p.untried = endpoint, true
	e.setWays(p, len(e.peers))
	e.index(p)
	e.touch(p)
}

// OtherResolved is Resolved for one of the peer's other endpoints, which it may be at as
// well as at the first: the first of them has the number 0.
func (e *Engine) OtherResolved(now time.Duration, id uint16, number int, endpoint netip.AddrPort) {
	e.advance(now)
	p := e.peers[id]
	if p == nil || number >= len(p.others) || p.others[number] == endpoint {
		return
	}
	e.forget(p)
	p.others[number] = endpoint
	e.setWays(p, len(e.peers))
	e.index(p)
	e.touch(p)
}

// index lets the peer be known by its addresses: that of its name and the document's.
func (e *Engine) index(p *peer) {
	for _, a := range p.addresses() {
		e.byAddr[a] = append(e.byAddr[a], p)
	}
}

func (e *Engine) forget(p *peer) {
	for _, a := range p.addresses() {
		if e.byAddr[a] = slices.DeleteFunc(e.byAddr[a], func(other *peer) bool { return other == p }); len(e.byAddr[a]) == 0 {
			delete(e.byAddr, a)
		}
	}
}

func (p *peer) addresses() []netip.Addr {
	var all []netip.Addr
	for _, other := range append(append([]netip.AddrPort{p.endpoint, p.Endpoint}, p.Others...), p.others...) {
		if other.IsValid() && !slices.Contains(all, other.Addr()) {
			all = append(all, other.Addr())
		}
	}
	return all
}

// LostDirectly reports that packets do not pass directly between this host and a peer,
// as far as is known.
func (e *Engine) LostDirectly(now time.Duration, id uint16) bool {
	e.advance(now)
	p := e.peers[id]
	return p != nil && (p.phase == down || p.via != 0 && !e.directWorks(p))
}

// silent reports that nothing comes from the peer. It has not been heard yet, or not
// for so long that not only its agent is dead.
func (e *Engine) silent(p *peer) bool {
	never := p.seenAt > 0 && p.seen.HandshakeAge < 0
	return never || e.now-p.grewAt > silentFor
}

// classify tells which relay an endpoint stands for; 0: the peer itself. A relay may
// take the peer for another one behind the same address, whose port the router chose.
func (e *Engine) classify(p *peer, to netip.AddrPort) uint16 {
	if relay, target := CarriedBy(to); target == p.ID && e.peers[relay] != nil {
		return relay
	}
	for _, relay := range e.byAddr[to.Addr()] {
		if relay == p || relay.NoRelay {
			continue
		}
		at := Peer{ID: relay.ID, Endpoint: netip.AddrPortFrom(to.Addr(), relay.Endpoint.Port())}
		for _, behind := range e.byAddr[p.Endpoint.Addr()] { // as the relay's table has them
			if relayEndpoint(at, behind.ID) == to {
				return relay.ID
			}
		}
	}
	return 0
}

// expected reports that the peer's packets come from where it should be.
func (p *peer) expected() bool {
	return p.kernel == p.endpoint || p.kernel == p.Endpoint || p.wayTo(p.kernel) != nil
}

// relayTo is where the peer takes packets for another one.
func (e *Engine) relayTo(p *peer, target uint16) netip.AddrPort {
	return relayEndpoint(Peer{ID: p.ID, Endpoint: e.relayPlace(p)}, target)
}

// otherPlace is where the peer should be and is not sought now: what its name says comes
// first, but that may be true for others only, as the document is on the deployer. Of
// these two each gets some time. Zero: nowhere, or not yet.
func (e *Engine) otherPlace(p *peer) netip.AddrPort {
	switch {
	case p.expected() && e.now-p.placedAt < silentFor:
	case len(p.Others) > 0: // each in turn
		known := p.ways[:len(p.ways)-p.announcedWays()]
		at := slices.IndexFunc(known, func(w *way) bool { return w.to == p.kernel })
		return known[(at+1)%len(known)].to
	case p.kernel != p.endpoint:
		return p.endpoint
	case p.endpoint != p.Endpoint:
		return p.Endpoint
	}
	return netip.AddrPort{}
}

// places is where the peer may be: where its name and the document say, and where it was
// last seen. Where nothing is relayed, traffic itself shows whether the peer is where the
// kernel sends to.
func (p *peer) places() (places []netip.AddrPort) {
	for _, place := range []netip.AddrPort{p.endpoint, p.Endpoint, p.away} {
		if place.IsValid() && !slices.Contains(places, place) && (p.via != 0 || place != p.kernel) {
			places = append(places, place)
		}
	}
	return places
}

// strays reports that a peer, which was heard lately, does not answer where the kernel
// sends to, and may be elsewhere.
func (e *Engine) strays(p *peer) bool {
	return p.phase == down && p.via == 0 && p.kernel.IsValid() && !e.silent(p) && len(p.places()) > 0
}

// seekDirect looks for the direct path wherever the peer may be in turn, if it is lost.
// What a name says is tried at once.
func (e *Engine) seekDirect(p *peer) {
	if p.via != 0 && p.ways != nil && !e.directWorks(p) && e.now-p.soughtAt >= seekInterval && e.seekWay(p) {
		return
	}
	places := p.places()
	if len(places) == 0 || len(places) == 1 && p.direct == places[0] || e.directWorks(p) || !p.untried && e.now-p.soughtAt < seekInterval {
		return
	}
	next := 0
	if !p.untried {
		next = (slices.Index(places, p.direct) + 1) % len(places)
	}
	p.soughtAt, p.untried = e.now, false
	if places[next] == p.direct {
		return
	}
	p.direct = places[next]
	p.wellSince, p.nextDirect = e.now, e.now
}

// tryResolved sends to where the peer's name says, once, if nothing comes from the peer.
func (e *Engine) tryResolved(p *peer) bool {
	if !p.untried || !e.silent(p) {
		return false
	}
	if p.untried = false; p.kernel == p.endpoint {
		return false
	}
	e.place(p, p.endpoint)
	e.event(p, "its name stands for another address, "+p.endpoint.String())
	return true
}

// place seeks a silent peer where it should be.
func (e *Engine) place(p *peer, to netip.AddrPort) {
	p.direct, p.placedAt = to, e.now
	e.route(p, to, 0, 0)
}

// elsewhere reports that the peer was not seen where a relay would send what is for it:
// there the document's address counts. It may be reached there all the same.
func (p *peer) elsewhere() bool { return p.direct.Addr() != p.Endpoint.Addr() }
