package paths

import (
	"net/netip"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/probe"
)

// carryCost is how much longer than by its relay ports the way over a relay's agent counts
// as: there each packet is encrypted twice, and passes three programs.
const carryCost = 5 * time.Second

// Carried is where the WireGuard that listens on a port sends what a relay's agent carries to
// a target: this host's own agent takes it there, on the loopback interface. The endpoint tells
// both, and no other port of the host is WireGuard's.
func Carried(own, relay, target uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(relay >> 8), byte(relay), 1}), carryPort(own, target))
}

func carryPort(own, target uint16) uint16 {
	return network.RelayPort(network.Host{Endpoint: netip.AddrPortFrom(netip.Addr{}, own)}, target)
}

// CarriedBy returns the relay and the target that Carried was called with; 0: it is no such
// endpoint.
func CarriedBy(own uint16, at netip.AddrPort) (relay, target uint16) {
	if !at.Addr().Is4() || at.Addr().As4()[0] != 127 {
		return 0, 0
	}
	b, base := at.Addr().As4(), carryPort(0, 0)
	if relay, target = uint16(b[1])<<8|uint16(b[2]), at.Port()-base; target == 0 {
		target = own - base
	}
	if relay == 0 || at != Carried(own, relay, target) {
		return 0, 0
	}
	return relay, target
}

// carried reports that the peer's packets are carried by another host's agent.
func (p *peer) carried() bool { return p.via != 0 && p.kernel.Addr().IsLoopback() }

// Carries reports whether this host's agent carries to a host: what is carried itself is
// not, as it could go in circles.
func (e *Engine) Carries(target uint16) bool {
	p := e.peers[target]
	return p != nil && p.kernel.IsValid() && !p.kernel.Addr().IsLoopback()
}

// refusal answers that this host's relay ports do not lead to a target. Its agent may carry
// what is for it.
func (e *Engine) refusal(p *peer) probe.Verdict {
	if p == nil || p.phase != up || !e.Carries(p.ID) || !p.small.alive(e.now, e.fresh(p)) {
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
