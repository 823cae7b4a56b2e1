package paths

import (
	"net/netip"
	"time"
)

const (
	// sightingEvery is how long after the last question who carries is asked again where the
	// peer is seen, whose NAT may have given it another port.
	sightingEvery = 15 * time.Second
	// punchedHold is how long the direct path between two NATs has to be good the first time.
	punchedHold = time.Second
)

// Sighting tells a host where the sender sees another one, which has no endpoint.
type Sighting struct {
	To, Of uint16
	At     netip.AddrPort
}

// introduce tells two hosts, between which this one carries, where it sees the other, if that
// has no endpoint. Both try the direct path then, at about the same moment, by which each opens
// the NAT in front of it for what the other sends (RFC 5128 section 3.3).
func (e *Engine) introduce(a, b *peer) {
	for _, pair := range [][2]*peer{{a, b}, {b, a}} {
		if to, of := pair[0], pair[1]; !of.Endpoint.IsValid() && of.via == 0 && of.phase == up && of.kernel.IsValid() {
			e.out.Sightings = append(e.out.Sightings, Sighting{To: to.ID, Of: of.ID, At: of.kernel})
		}
	}
}

// Sighted hands in where another host sees a peer. It is tried if the peer has no endpoint and is
// not reached directly; what a host says that lies costs these probes.
func (e *Engine) Sighted(now time.Duration, of uint16, at netip.AddrPort) {
	e.advance(now)
	p := e.peers[of]
	if p == nil || p.Endpoint.IsValid() || p.phase == up && p.via == 0 || p.direct == at || e.directWorks(p) {
		return
	}
	p.direct, p.away = at, at
	p.wellSince, p.nextDirect = now, now
	e.touch(p)
}

// seekSighting asks who carries for a peer without an endpoint where it is now.
func (e *Engine) seekSighting(p *peer) {
	if !p.carried() || p.phase != up || p.Endpoint.IsValid() || e.now < p.nextSighting || e.directWorks(p) || !e.queries.take(e.now, queriesPerSecond/2) {
		return
	}
	p.nextSighting = e.now + e.jitter(sightingEvery)
	e.query++
	e.out.Queries = append(e.out.Queries, Query{Relay: p.via, Targets: []uint16{p.ID}, Sequence: e.query})
}

// holdFor is how long the direct path has to be good before it is taken again.
func (p *peer) holdFor() time.Duration {
	if p.carried() && !p.Endpoint.IsValid() && p.cameBack == 0 {
		return punchedHold
	}
	return p.hold
}
