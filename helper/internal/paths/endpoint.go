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

// index lets the peer be known by its address.
func (e *Engine) index(p *peer) {
	e.byAddr[p.endpoint.Addr()] = append(e.byAddr[p.endpoint.Addr()], p)
}

func (e *Engine) forget(p *peer) {
	at := p.endpoint.Addr()
	if e.byAddr[at] = slices.DeleteFunc(e.byAddr[at], func(other *peer) bool { return other == p }); len(e.byAddr[at]) == 0 {
		delete(e.byAddr, at)
	}
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
		for _, behind := range e.byAddr[p.endpoint.Addr()] {
			if relayEndpoint(relay.at(), behind.ID) == to {
				return relay.ID
			}
		}
	}
	return 0
}

// at is the peer where its name says that it is.
func (p *peer) at() Peer { return Peer{ID: p.ID, Endpoint: p.endpoint} }

// seekDirect looks for the direct path where the peer's name or the document says, if
// it is lost where the peer was last seen, and back. What a name says is tried at once.
func (e *Engine) seekDirect(p *peer) {
	if p.direct == p.endpoint && p.away == p.endpoint || e.directWorks(p) {
		return
	}
	if !p.untried && e.now-p.soughtAt < seekInterval {
		return
	}
	to := p.endpoint
	if p.direct == to && p.away.IsValid() {
		to = p.away
	}
	p.soughtAt, p.untried = e.now, false
	if to == p.direct {
		return
	}
	p.direct = to
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
	p.direct = p.endpoint
	e.route(p, p.direct, 0, 0)
	e.event(p, "its name stands for another address, "+p.endpoint.String())
	return true
}

// elsewhere reports that the peer is not where a relay would send what is for it: there
// the document's address counts.
func (p *peer) elsewhere() bool { return p.direct.Addr() != p.Endpoint.Addr() }
