package healing

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// networksInterval is how often the healer looks which networks the host is in: peers that
// are there, too, are better reached there, but until it has looked nothing breaks.
const networksInterval = 15 * time.Second

// lookAtNetworks tells the engine which networks the host is in, from time to time, and has the
// peers told where it is there. In those that Mobula itself is, nobody's endpoint can be.
func (h *Healer) lookAtNetworks() {
	h.mu.Lock()
	due := h.networks != nil && time.Since(h.lookedAt) >= networksInterval
	h.mu.Unlock()
	if !due {
		return
	}
	local, err := h.networks()
	var from6 netip.Addr
	if h.below6 != nil && h.outside6 != nil {
		var err6 error
		from6, err6 = h.outside6()
		err = errors.Join(err, err6)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lookedAt = time.Now(); err != nil {
		h.Log.Warn("looking which networks the host is in", "error", err)
		return
	}
	if slices.Equal(local, h.local) && from6 == h.from6 {
		return
	}
	h.local, h.from6 = local, from6
	h.engine.SetLocal(local, from6)
	h.announceAnew()
	wake(h.poke)
}
