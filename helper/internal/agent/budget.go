package agent

import (
	"hash/maphash"
	"net/netip"
	"time"
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

// bucket is a token bucket. The zero bucket is full.
type bucket struct {
	used float64
	at   time.Time
}

// take reports whether something may happen once more that may happen perSecond
// times a second, and most times at once.
func (b *bucket) take(now time.Time, perSecond, most float64) bool {
	if b.used -= perSecond * now.Sub(b.at).Seconds(); b.used < 0 {
		b.used = 0
	}
	b.at = now
	if b.used+1 > most {
		return false
	}
	b.used++
	return true
}

// mayEcho bounds the answers, of all peers and of each, and counts what it refuses.
func (h *healer) mayEcho(r *remote) bool {
	now := h.clock()
	may := r.ownEchoes.take(now, ownEchoesPerSecond, ownEchoes) ||
		r.echoes.take(now, peerEchoesPerSecond, peerEchoesPerSecond/2) && h.echoes.take(now, echoesPerSecond, echoesPerSecond/2)
	if !may {
		r.unanswered++
	}
	return may
}

// mayVerify bounds what strangers can make this host compute, and what they can
// take away from peers by it. It counts what it refuses.
func (h *healer) mayVerify(r *remote, from netip.AddrPort) bool {
	now := h.clock()
	if from == r.at || from == r.endpoint || from == r.host.Endpoint {
		may := r.macs.take(now, peerMACsPerSecond, peerMACsPerSecond/2)
		if !may {
			r.unverified++
		}
		return may
	}
	may := h.macs[h.source(from.Addr())].take(now, sourceMACsPerSecond, sourceMACsPerSecond)
	if !may {
		h.unverified++
	}
	return may
}

// source sorts addresses in a way that nobody outside can foresee.
func (h *healer) source(a netip.Addr) uint64 {
	address := a.As16()
	return maphash.Bytes(h.seed, address[:]) % sources
}
