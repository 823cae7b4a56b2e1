package healing

import (
	"net/netip"
	"slices"
	"time"

	"mobula/helper/internal/bucket"
	"mobula/helper/internal/network"
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
// has, besides its endpoints. An agent that has begun anew knows nothing any more; that there are
// none any more is told three times.
func (h *Healer) tellAddresses(id uint16, r *remote, session uint64) {
	t := &r.telling
	if session != t.session {
		*t = telling{session: session}
	}
	now := h.clock()
	if now.Before(t.next) || len(h.tells) == 0 && t.every == 0 {
		return
	}
	t.every = min(max(2*t.every, firstTelling), mostTelling)
	if t.next = now.Add(t.every); len(h.tells) == 0 && t.every > 2*firstTelling {
		t.every = 0
	}
	h.send(id, r, probe.Traffic{Session: h.session, Generation: h.number}, func(m probe.Traffic) []byte { return m.AppendAddresses(nil, h.tells) })
}

// announceAnew has all peers told which addresses this host has, and tried at theirs: its
// networks or the document are others.
func (h *Healer) announceAnew() {
	h.tells = h.ownAddresses()
	for id, r := range h.peers {
		r.telling = r.telling.again()
		h.tryAnnounced(id, r)
	}
}

// speaks reports that this host can send to an address: one over IPv6 only if there is a way to others,
// and a private one only if it is in private networks itself. From elsewhere that leads nowhere, and
// providers take packets to many of them for a scan.
func (h *Healer) speaks(a netip.Addr) bool {
	private := func(n netip.Prefix) bool { return network.IsPrivate(n.Addr()) }
	if network.IsPrivate(a) && len(h.local) > 0 && !slices.ContainsFunc(h.local, private) {
		return false
	}
	return h.beside(a) != nil && (a.Is4() || h.outside6 == nil || h.from6.IsValid() || h.isNear(a))
}

// ownAddresses are those of the host's interfaces at which no endpoint is, first the one from which it
// sends to all others over IPv6, if that may help.
func (h *Healer) ownAddresses() (all []netip.Addr) {
	var own []netip.Addr
	if h.triesOutside() {
		own = append(own, h.from6)
	}
	for _, n := range h.local {
		own = append(own, n.Addr())
	}
	for _, a := range own {
		if h.mayBeEndpoint(a, h.self.Endpoints()) && !slices.Contains(all, a) && len(all) < probe.MaxAddresses {
			all = append(all, a)
		}
	}
	return all
}

// triesOutside reports that this host and others without an endpoint try each other over IPv6, wherever
// they are: there firewalls are in between, which let in what answers, and hardly any NAT.
func (h *Healer) triesOutside() bool { return h.self.IsUnreached() && h.hasIPv6 && h.from6.IsValid() }

// mayBeEndpoint reports that somebody with these endpoints may have another one there.
func (h *Healer) mayBeEndpoint(a netip.Addr, endpoints []netip.AddrPort) bool {
	known := slices.ContainsFunc(endpoints, func(e netip.AddrPort) bool { return e.Addr() == a })
	return !known && h.ranges.CheckEndpoint(a) == "" && h.beside(a) != nil
}

// announced is what a peer says of its own addresses.
type announced struct {
	session uint64 // of its agent
	all     []netip.Addr
	tried   []netip.AddrPort // where it is tried
	proven  []netip.AddrPort // where messages came from that were the peer's
	taken   bucket.Bucket
}

// A peer may say otherwise announcedPerSecond times a second, and announcedAtOnce at once.
const (
	announcedPerSecond = 0.5
	announcedAtOnce    = 4
)

// prove notes that the peer is at one of the addresses of which it told.
func (r *remote) prove(at netip.AddrPort) {
	if a := &r.announced; slices.Contains(a.tried, at) && !slices.Contains(a.proven, at) {
		a.proven = append(a.proven, at)
	}
}

// takeAnnounced takes what a peer's agent says.
func (h *Healer) takeAnnounced(id uint16, r *remote, session uint64, all []netip.Addr) {
	a := &r.announced
	h.forgetAnnounced(id, r, session)
	if a.session = session; slices.Equal(a.all, all) {
		return
	}
	if !a.taken.Take(h.clock(), announcedPerSecond, announcedAtOnce) {
		h.refused.Announcements++
		return
	}
	a.all = all
	h.tryAnnounced(id, r)
}

// forgetAnnounced forgets what an agent said that has ended, as the one that runs now shows: an older
// one says nothing.
func (h *Healer) forgetAnnounced(id uint16, r *remote, session uint64) {
	if a := &r.announced; a.all != nil && a.session != session {
		a.all = nil
		h.tryAnnounced(id, r)
	}
}

// tryAnnounced has a peer tried at those of its addresses that are in a network in which this
// host is, too; what it says of others would only make this host send to whomever it likes. Only
// where neither has an endpoint, the first address from which it sends to all others is tried as well,
// as is where others see it. Those of IPv6 are left out where the MTUs have no room for it, so that
// packets would be fragmented, and there is one of IPv4.
func (h *Healer) tryAnnounced(id uint16, r *remote) {
	var near, far []netip.AddrPort
	for _, a := range r.announced.all {
		at := netip.AddrPortFrom(a, r.host.ListenPort())
		switch {
		case at.Port() == 0 || !h.mayBeEndpoint(a, r.host.Endpoints()):
		case h.isNear(a):
			near = append(near, at)
		case len(far) == 0 && network.IsGlobal6(a) && a != h.from6 && r.host.IsUnreached() && h.triesOutside():
			far = append(far, at)
		}
	}
	six := func(at netip.AddrPort) bool { return at.Addr().Is6() }
	if four := slices.DeleteFunc(slices.Clone(near), six); len(four) > 0 && !h.hasIPv6 {
		near = four
	}
	r.announced.tried, r.announced.proven = append(near, far...), nil
	h.engine.Announced(h.now(), id, r.announced.tried)
}

// isNear reports that an address is one of another machine in a network in which this host is.
func (h *Healer) isNear(a netip.Addr) bool {
	own := slices.ContainsFunc(h.local, func(n netip.Prefix) bool { return n.Addr() == a })
	return !own && slices.ContainsFunc(h.local, func(n netip.Prefix) bool { return n.Contains(a) && !isEdge(n, a) })
}

// isEdge reports that an address stands for an IPv4 network, or for all in it (RFC 922, RFC 3021).
func isEdge(n netip.Prefix, a netip.Addr) bool {
	first := n.Masked().Addr()
	return a.Is4() && n.Bits() < 31 && (a == first || !n.Contains(a.Next()))
}
