package healing

import (
	"mobula/helper/internal/metrics"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
)

// metrics says what the healer knows.
func (h *Healer) metrics() *metrics.Network {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := &metrics.Network{HostID: h.self.ID, Hostname: h.self.Hostname, Generation: h.generation, Since: h.followed, Relays: len(h.relays()) > 0,
		PerPeer: h.self.MetricsPerPeer, Paths: h.engine.Stats(), Refused: h.refused}
	if h.mesh != nil {
		n.Refused.Questions = h.mesh.Refused()
	}
	if h.leaving != nil {
		n.Refused.FirstPackets = h.leaving.Lost()
	}
	n.Carried, n.Refused.Carried = h.carrier.metrics()
	for _, r := range h.engine.Reports(h.now()) {
		other := h.peers[r.Peer]
		p := metrics.Peer{ID: r.Peer, Hostname: other.host.Hostname, State: r.State, Relayed: r.Via != 0, Carried: r.Carried, Poor: r.State == paths.StateUp && r.Problem != "",
			Endpoint: r.Endpoint, Loss: r.LossMinutes, Handshake: other.shaken, Generation: h.sameGeneration(other)}
		if r.State == paths.StateUp {
			p.RTT = r.RTT
		}
		n.Peers = append(n.Peers, p)
	}
	return n
}

// sameGeneration tells whether a peer runs the same one. The caller holds the lock.
func (h *Healer) sameGeneration(other *remote) string {
	switch other.generation {
	case probe.Generation{}:
		return generationUnknown
	case h.number:
		return generationSame
	default:
		return generationDifferent
	}
}

// Metrics says what is known, and whether the NIC stays with the host; nil: there is no healer.
func (t *Teller) Metrics() (n *metrics.Network, sharedUplink bool) {
	h := t.healer()
	if h == nil {
		return nil, false
	}
	n = h.metrics()
	h.mu.Lock()
	defer h.mu.Unlock()
	return n, h.self.SharedUplink
}
