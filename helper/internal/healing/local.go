package healing

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// networksInterval is how often the healer looks which networks the host is in: peers that
// are there, too, are better reached there, but until it has looked nothing breaks.
const networksInterval = 15 * time.Second

// interfaceNetworks returns the networks of the interfaces in a network namespace
// ("": the host's own) that have others in them.
func interfaceNetworks(namespace string) (all []netip.Prefix, err error) {
	var found []net.Addr
	err = netns.Do(namespace, func() error {
		links, err := net.Interfaces()
		for _, link := range links {
			if link.Name == spec.AccessLink || link.Name == spec.DirectHost {
				continue // what is reached there is reached over the network itself
			}
			if of, gone := link.Addrs(); gone == nil {
				found = append(found, of...)
			}
		}
		return err
	})
	for _, a := range found {
		if n, err := netip.ParsePrefix(a.String()); err == nil && n.Addr().IsGlobalUnicast() && n.Bits() < n.Addr().BitLen() {
			all = append(all, n.Masked())
		}
	}
	return all, err
}

// lookAtNetworks tells the engine which networks the host is in, from time to time. Those
// that Mobula itself is, nobody's endpoint can be in.
func (h *Healer) lookAtNetworks() {
	h.mu.Lock()
	due := h.networks != nil && time.Since(h.lookedAt) >= networksInterval
	h.mu.Unlock()
	if !due {
		return
	}
	networks, err := h.networks()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lookedAt = time.Now(); err != nil {
		h.Log.Warn("looking which networks the host is in", "error", err)
		return
	}
	if !slices.Equal(networks, h.local) {
		h.local = networks
		h.engine.SetLocal(networks)
	}
}
