package paths

import (
	"net/netip"
	"time"

	"mobula/helper/internal/probe"
)

// carryCost is how much longer than by its relay ports the way over a relay's agent counts
// as: there each packet is encrypted twice, and passes three programs.
const carryCost = 5 * time.Second

// firstCarryPort is the first of 128 ports at which agents give WireGuard what they carry. They
// are no ephemeral ones, no bindresvport(3) takes them, and only root can have them.
const firstCarryPort = 256

// Carried is where WireGuard sends what a relay's agent carries to a target: this host's own
// agent takes it there, on the loopback interface. The endpoint tells both, 15 bits each.
func Carried(relay, target uint16) netip.AddrPort {
	v := uint32(relay)<<15 | uint32(target)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(v >> 16 & 127), byte(v >> 8), byte(v)}), firstCarryPort+uint16(v>>23))
}

// CarriedBy returns the relay and the target that Carried was called with; 0: it is no such
// endpoint.
func CarriedBy(at netip.AddrPort) (relay, target uint16) {
	if !at.Addr().Is4() || at.Addr().As4()[0] != 127 {
		return 0, 0
	}
	b := at.Addr().As4()
	v := uint32(at.Port()-firstCarryPort)<<23 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	if relay, target = uint16(v>>15), uint16(v&(1<<15-1)); relay == 0 || target == 0 || at != Carried(relay, target) {
		return 0, 0
	}
	return relay, target
}

// carried reports that the peer's packets are carried by another host's agent.
func (p *peer) carried() bool { return p.via != 0 && p.kernel.Addr().IsLoopback() }

// foreign reports that an endpoint is one at which agents carry, and not for this peer. Nothing
// but an agent that does not do as it should makes WireGuard take it: what goes there would come
// back to be carried again, for ever.
func (e *Engine) foreign(p *peer, at netip.AddrPort) bool {
	relay, target := CarriedBy(at)
	return at.Addr().IsLoopback() && (target != p.ID || e.peers[relay] == nil)
}

// turnBack has WireGuard send to a peer as before, and nothing be taken from where that came.
func (e *Engine) turnBack(p *peer, from netip.AddrPort) {
	to := p.kernel
	if !to.IsValid() {
		to = p.endpoint
	}
	e.out.Distrusted = append(e.out.Distrusted, from)
	if to.IsValid() {
		e.out.Routes = append(e.out.Routes, Route{p.ID, to})
		e.event(p, "its packets came as if they were another host's")
	}
}

// Carries reports whether this host's agent carries to a host: what is carried itself is
// not, as it could go in circles.
func (e *Engine) Carries(target uint16) bool {
	p := e.peers[target]
	return p != nil && p.kernel.IsValid() && !p.kernel.Addr().IsLoopback()
}

// refusal answers that this host's relay ports do not lead to a target. Its agent may carry
// what is for it.
func (e *Engine) refusal(p *peer) probe.Verdict {
	if p == nil || !p.carrier || p.phase != up || !e.Carries(p.ID) || !p.small.alive(e.now, e.fresh(p)) {
		return probe.Verdict{}
	}
	v := e.verdict(p, p.small)
	v.Reachable, v.Carries, v.FullSize = false, true, !fullDown(p.full, e.now)
	return v
}

// IsCarrier notes whether a peer's agent carries.
func (e *Engine) IsCarrier(id uint16, carrier bool) {
	if p := e.peers[id]; p != nil {
		p.carrier = carrier
	}
}

// NotSet hands in that a route could not be set: the peer is where it was, and looked for a
// little later.
func (e *Engine) NotSet(now time.Duration, id uint16) {
	e.advance(now)
	p := e.peers[id]
	if p == nil || p.chosen != p.kernel {
		return
	}
	if p.via != 0 {
		p.shun(p.via, now+avoidFor)
	}
	p.kernel, p.search = p.left, nil
	p.via = e.classify(p, p.kernel)
	p.phase, p.since, p.nextSearch = down, now, now+avoidFor/2
}

// carrierLeaves has what a host carries, whose agent ends, look for another one at once.
func (e *Engine) carrierLeaves(relay uint16) {
	for _, p := range e.order {
		if p.carried() && p.via == relay && p.phase != down {
			p.phase, p.since, p.downFrom, p.nextSearch = down, e.now, e.now, 0
			p.shun(relay, e.now+leaveFor)
			p.small.restart(e.now, 0) // what is answered yet was asked before
			e.touch(p)
		}
	}
}
