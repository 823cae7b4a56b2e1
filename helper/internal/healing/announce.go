package healing

import (
	"net/netip"
	"slices"
	"time"

	"mobula/helper/internal/probe"
)

// A peer is told again which addresses this host has after firstTelling, as a message may be
// lost, and twice as long each time, up to mostTelling.
const (
	firstTelling = 5 * time.Second
	mostTelling  = 5 * time.Minute
)

// telling is when a peer is told something again and again. The zero telling has not told it.
type telling struct {
	session uint64 // of the peer's agent
	next    time.Time
	every   time.Duration
}

// again has the peer told at once, if it was told before.
func (t telling) again() telling {
	return telling{session: t.session, every: min(t.every, firstTelling/2)}
}

// tellAddresses tells a peer, whose agent has just asked something, which addresses this host
// has, besides its endpoints. An agent that has begun anew knows nothing any more.
func (h *Healer) tellAddresses(id uint16, r *remote, session uint64) {
	t := &r.telling
	if session != t.session {
		*t = telling{session: session}
	}
	now := h.clock()
	own := h.ownAddresses()
	if now.Before(t.next) || len(own) == 0 && t.every == 0 {
		return
	}
	t.every = min(max(2*t.every, firstTelling), mostTelling)
	t.next = now.Add(t.every)
	h.send(id, r, probe.Traffic{Session: h.session, Generation: h.number}, func(m probe.Traffic) []byte { return m.AppendAddresses(nil, own) })
}

// ownAddresses are those of the host's interfaces at which no endpoint is.
func (h *Healer) ownAddresses() (all []netip.Addr) {
	for _, n := range h.local {
		if h.mayBeEndpoint(n.Addr(), h.self.Endpoints()) && len(all) < probe.MaxAddresses {
			all = append(all, n.Addr())
		}
	}
	return all
}

// mayBeEndpoint reports that somebody with these endpoints may have another one there.
func (h *Healer) mayBeEndpoint(a netip.Addr, endpoints []netip.AddrPort) bool {
	known := slices.ContainsFunc(endpoints, func(e netip.AddrPort) bool { return e.Addr() == a })
	return !known && h.ranges.CheckEndpoint(a) == "" && h.beside(a) != nil
}

// tryAnnounced has a peer tried at those of its addresses that are in a network in which this
// host is, too; what it says of others would only make this host send to whomever it likes. Those
// of IPv6 are left out where the MTUs have no room for it, so that packets would be fragmented,
// and there is one of IPv4.
func (h *Healer) tryAnnounced(id uint16, r *remote) {
	r.near = nil
	for _, a := range r.announced {
		if port := r.host.ListenPort(); port != 0 && h.isNear(a) && h.mayBeEndpoint(a, r.host.Endpoints()) {
			r.near = append(r.near, netip.AddrPortFrom(a, port))
		}
	}
	six := func(at netip.AddrPort) bool { return at.Addr().Is6() }
	if four := slices.DeleteFunc(slices.Clone(r.near), six); len(four) > 0 && !h.change.Document.HasIPv6() {
		r.near = four
	}
	h.engine.Announced(h.now(), id, r.near)
}

// isNear reports that an address is one of another machine in a network in which this host is.
func (h *Healer) isNear(a netip.Addr) bool {
	own := slices.ContainsFunc(h.local, func(n netip.Prefix) bool { return n.Addr() == a })
	return !own && slices.ContainsFunc(h.local, func(n netip.Prefix) bool { return n.Contains(a) })
}
