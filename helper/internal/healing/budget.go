package healing

import (
	"hash/maphash"
	"net/netip"
	"slices"
)

const (
	// echoesPerSecond bounds what all peers together are answered beyond their own
	// echoes, and peerEchoesPerSecond what one peer may have of it: enough for the
	// probes of a path that has just broken, on both planes.
	echoesPerSecond     = 800
	peerEchoesPerSecond = 120
	// A peer's own echoes nobody else uses up: those of a path that carries traffic,
	// and of one burst of probes when it falls silent.
	ownEchoesPerSecond = 10
	ownEchoes          = 32
	// Direct messages whose MAC is computed: of a peer at the address where it is
	// known to be, and of one source elsewhere. What comes from elsewhere is sorted
	// into sources by its address.
	peerMACsPerSecond   = 1000
	sourceMACsPerSecond = 50
	sources             = 256
)

// mayEcho bounds the answers, of all peers and of each, and counts what it refuses.
func (h *Healer) mayEcho(r *remote) bool {
	now := h.clock()
	may := r.ownEchoes.Take(now, ownEchoesPerSecond, ownEchoes) ||
		r.echoes.Take(now, peerEchoesPerSecond, peerEchoesPerSecond/2) && h.echoes.Take(now, echoesPerSecond, echoesPerSecond/2)
	if !may {
		r.unanswered++
		h.refused.Echoes++
	}
	return may
}

// mayVerify bounds what strangers can make this host compute, and what they can
// take away from peers by it. It counts what it refuses.
func (h *Healer) mayVerify(r *remote, from netip.AddrPort) bool {
	now := h.clock()
	if from == r.at || from == r.endpoint || from == r.host.Endpoint || slices.Contains(r.others, from) || slices.Contains(r.announced.proven, from) {
		may := r.macs.Take(now, peerMACsPerSecond, peerMACsPerSecond/2)
		if !may {
			r.unverified++
			h.refused.PeerMACs++
		}
		return may
	}
	may := h.macs[h.source(from.Addr())].Take(now, sourceMACsPerSecond, sourceMACsPerSecond)
	if !may {
		h.refused.StrangerMACs++
	}
	return may
}

// source sorts addresses in a way that nobody outside can foresee.
func (h *Healer) source(a netip.Addr) uint64 {
	address := a.As16()
	return maphash.Bytes(h.seed, address[:]) % sources
}
