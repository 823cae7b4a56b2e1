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
	if p.endpoint.Addr() == p.Endpoint.Addr() {
		return []netip.Addr{p.Endpoint.Addr()}
	}
	return []netip.Addr{p.endpoint.Addr(), p.Endpoint.Addr()}
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
func (p *peer) expected() bool { return p.kernel == p.endpoint || p.kernel == p.Endpoint }

// relayTo is where the peer takes packets for another one: beside where it is reached.
func (p *peer) relayTo(target uint16) netip.AddrPort {
	return relayEndpoint(Peer{ID: p.ID, Endpoint: p.kernel}, target)
}

// otherPlace is where the peer should be and is not sought now: what its name says comes
// first, but that may be true for others only, as the document is on the deployer. Of
// these two each gets some time. Zero: nowhere, or not yet.
func (e *Engine) otherPlace(p *peer) netip.AddrPort {
	switch {
	case p.expected() && e.now-p.placedAt < silentFor:
	case p.kernel != p.endpoint:
		return p.endpoint
	case p.endpoint != p.Endpoint:
		return p.Endpoint
	}
	return netip.AddrPort{}
}

// seekDirect looks for the direct path wherever the peer may be in turn, if it is lost:
// where its name and the document say, and where it was last seen. What a name says is
// tried at once.
func (e *Engine) seekDirect(p *peer) {
	places := []netip.AddrPort{p.endpoint}
	for _, place := range []netip.AddrPort{p.Endpoint, p.away} {
		if !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	if len(places) == 1 && p.direct == places[0] || e.directWorks(p) || !p.untried && e.now-p.soughtAt < seekInterval {
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
	p.directSmall.restart(e.now, 0)
	p.directFull.restart(e.now, 0)
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
