package paths

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// sightingEvery is how long after the last question another host is asked again where the
	// peer is seen, whose NAT may have given it another port; twice as long each time that it
	// changed nothing, up to mostSightingEvery.
	sightingEvery     = 15 * time.Second
	mostSightingEvery = 5 * time.Minute
	// punchedHold is how long the direct path between two NATs has to be good the first time.
	punchedHold = time.Second
	// After fruitlessAfter without an answer the direct path is tried each fruitlessInterval: a
	// NAT keeps a flow for longer (RFC 4787 section 4.3).
	fruitlessAfter    = 20 * time.Second
	fruitlessInterval = 5 * time.Second
)

// Sighting tells a host where the sender sees another one, which has no endpoint.
type Sighting struct {
	To, Of uint16
	At     netip.AddrPort
}

// hidden reports that nobody could send to the peer first.
func (p *peer) hidden() bool { return !p.Endpoint.IsValid() && len(p.Others) == 0 }

// introduce tells two hosts, between which this one carries, where it sees the other, if that
// has no endpoint. Both try the direct path then, at about the same moment, by which each opens
// the NAT in front of it for what the other sends (RFC 5128 section 3.3).
func (e *Engine) introduce(a, b *peer) {
	for _, pair := range [][2]*peer{{a, b}, {b, a}} {
		to, of := pair[0], pair[1]
		at := e.placeOf(of)
		if speaks := family(to.kernel.Addr()); at.IsValid() && family(at.Addr()) != speaks { // maybe that one alone
			if seen := e.seenOutside(of, speaks); seen.IsValid() {
				at = seen
			}
		}
		if of.hidden() && of.via == 0 && of.phase == up && at.IsValid() && e.tellings.take(e.now, 0) {
			e.out.Sightings = append(e.out.Sightings, Sighting{To: to.ID, Of: of.ID, At: at})
		}
	}
}

// Sighted hands in where another host sees a peer. It is tried once a second at most, if the peer
// has no endpoint and is not reached directly; while it is reached, what others say than who carries
// or was asked counts less often.
func (e *Engine) Sighted(now time.Duration, from, of uint16, at netip.AddrPort) {
	e.advance(now)
	p := e.peers[of]
	if p == nil || !p.hidden() || p.phase == up && p.via == 0 || e.directWorks(p) {
		return
	}
	if e.tryFar(p); p.direct == at {
		return
	}
	since := now - p.sightedAt
	if p.sightedAt > 0 && since < time.Second && (from != p.via || since < directInterval) {
		return
	}
	asked := p.phase != up || from == p.via || from == p.sightingOf || since > fruitlessInterval
	if p.search != nil {
		_, searched := p.search.asked[from]
		asked = asked || searched
	}
	if again := slices.Contains(p.sighted[:], at) && since < mostSightingEvery; !asked || again { // two see two ports, by turns
		return
	}
	p.sighted = [2]netip.AddrPort{at, p.sighted[0]}
	p.direct, p.away, p.sightedAt, p.sightingEvery = at, at, now, sightingEvery
	p.wellSince, p.nextDirect = now, now
	e.touch(p)
}

// seekSighting asks where a peer without an endpoint is now: who carries for it, and another one
// in turn, for who is in one network with the peer sees it where others do not.
func (e *Engine) seekSighting(p *peer) {
	if !p.carried() || p.phase != up || !p.hidden() || e.now < p.nextSighting || e.directWorks(p) || !e.queries.take(e.now, queriesPerSecond/2) {
		return
	}
	asked := p.via
	if all := e.helping(); p.sightingOf == p.via && len(all) > 0 {
		if c := all[e.random.Intn(len(all))]; c != p {
			asked = c.ID
		}
	}
	p.sightingOf = asked
	p.sightingEvery = min(max(p.sightingEvery, sightingEvery/2)*2, mostSightingEvery)
	p.nextSighting = e.now + e.jitter(p.sightingEvery)
	e.query++
	e.out.Queries = append(e.out.Queries, Query{Relay: asked, Targets: []uint16{p.ID}, Sequence: e.query})
}

// fruitless reports that the peer, which has no endpoint, has not answered anywhere for a while.
func (p *peer) fruitless(now time.Duration) bool {
	return p.hidden() && p.via != 0 && p.directSmall.answers == 0 && now-max(p.sightedAt, p.directSmall.since) > fruitlessAfter
}

// holdFor is how long the direct path has to be good before it is taken again.
func (p *peer) holdFor() time.Duration {
	if p.carried() && p.hidden() && p.cameBack == 0 {
		return punchedHold
	}
	return p.hold
}
