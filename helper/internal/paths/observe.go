package paths

import (
	"net/netip"
	"time"
)

// For insistFor after it chose an endpoint the engine insists on it, maxSets
// times at most, when packets that were on their way have set it back.
const (
	insistFor = time.Second
	maxSets   = 6
	// If the old path comes back within bounceFor in spite of that, it is not
	// dead. See downAfter.
	bounceFor   = 5 * time.Second
	mostBounces = 3
)

// Observe hands in what the kernel says of the peers.
func (e *Engine) Observe(now time.Duration, peers []Kernel) {
	e.advance(now)
	for _, k := range peers {
		if p := e.peers[k.Peer]; p != nil {
			e.traffic(p, k)
			switch {
			case !k.Endpoint.IsValid() && p.kernel.IsValid(): // it was made anew
				e.out.Routes = append(e.out.Routes, Route{p.ID, p.kernel})
			case !k.Endpoint.IsValid() || k.Endpoint == p.kernel:
			case e.foreign(p, k.Endpoint):
				e.turnBack(p, k.Endpoint)
			default:
				e.roamed(p, k.Endpoint)
			}
		}
	}
	e.active = 0
	for _, p := range e.order {
		if now < p.activeUntil {
			e.active++
		}
	}
}

// traffic notices which peers exchange more than the agents do.
func (e *Engine) traffic(p *peer, k Kernel) {
	before, at := p.seen, p.seenAt
	if k.ReceiveBytes > before.ReceiveBytes {
		p.grewAt = e.now
	}
	first := at == 0
	if first && k.HandshakeAge < 0 { // there is nothing yet that could be left in haste
		p.leaveUntil = 0
	}
	if !first && e.now-at < 200*time.Millisecond {
		p.seen.HandshakeAge = k.HandshakeAge // too short to tell a rate
		if k.HandshakeAge >= 0 {
			p.seen.HandshakeAge = max(k.HandshakeAge-(e.now-at), 0)
		}
		return
	}
	p.seen, p.seenAt = k, e.now
	if first {
		return
	}
	bytes := k.ReceiveBytes - before.ReceiveBytes + k.TransmitBytes - before.TransmitBytes - (k.OwnBytes - before.OwnBytes)
	// A handshake alone is no traffic.
	if float64(bytes) < activeBytes*max((e.now-at).Seconds(), 1) {
		return
	}
	if e.now >= p.activeUntil { // it was idle
		p.activeUntil = e.now + activeFor
		if soon := e.now + e.jitter(activeInterval); soon < p.nextProbe {
			p.nextProbe = soon
			e.touch(p)
		}
	}
	p.activeUntil = e.now + activeFor
}

// roamed follows an endpoint that WireGuard learned from the peer's packets: the
// peer chose another way, or moved. If a packet that was on its way has just
// set back what the engine chose, the engine chooses again.
func (e *Engine) roamed(p *peer, to netip.AddrPort) {
	via := e.classify(p, to)
	if !p.kernel.IsValid() { // the first look
		p.kernel, p.via = to, via
		if via == 0 {
			p.direct, p.away = to, to
		} else {
			if p.watchAside(e.now); !p.direct.IsValid() && len(p.ways) > 0 {
				p.direct = p.ways[0].to
			}
			e.touch(p)
		}
		if p.carried() { // by the agent that was here before, whose sockets are gone
			e.out.Routes = append(e.out.Routes, Route{p.ID, to})
		}
		return
	}
	if e.now-p.since < insistFor && p.sets < maxSets && p.chosen == p.kernel && to == p.left {
		p.sets++
		e.out.Routes = append(e.out.Routes, Route{p.ID, p.kernel})
		p.nextProbe = e.now
		e.touch(p)
		return
	}
	if e.now-p.since < bounceFor && p.chosen == p.kernel && to == p.left {
		p.bounced = e.now
		if p.bounces < mostBounces {
			p.bounces++
		}
	}
	if p.ways != nil && p.chosen == p.kernel && to == p.left && via == 0 && p.via == 0 {
		p.flapped(e.now) // the peer prefers the other way
	}
	if via == 0 {
		p.direct, p.away = to, to
	}
	e.moved(p, to, via, 0)
	switch {
	case via != 0:
		e.event(p, "the peer has its packets relayed")
	case p.expected():
		e.event(p, "the peer sends directly")
	default:
		e.event(p, "the peer sends from another address, "+to.String())
	}
	e.touch(p)
}

// firstFor is how long a peer counts as active after the first packet for it, with
// more or without: long enough to find another path, and short, as packets that come
// one by one would otherwise have many peers watched closely.
const firstFor = 2 * time.Second

// Begins hands in that a packet has left for a peer after none did for a while: the path
// is tried at once, as it may have broken since the last probe.
func (e *Engine) Begins(now time.Duration, to uint16) {
	e.advance(now)
	p := e.peers[to]
	if p == nil || now < p.activeUntil {
		return
	}
	p.activeUntil = now + firstFor
	if p.phase == up && p.small.last == p.small.reached { // else it is being tried
		p.nextProbe, p.held = now, false
		e.touch(p)
	}
}
