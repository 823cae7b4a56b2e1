package healing

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// networksInterval is how often the healer looks which networks the host is in: peers that
// are there, too, are better reached there, but until it has looked nothing breaks.
const networksInterval = 15 * time.Second

// interfaceAddresses returns the addresses of the interfaces in a network namespace ("": the
// host's own) that have others in their network: first of those that are devices, which hosts
// with many bridges have, too. What a program carries in tunnels is no network in this sense.
func interfaceAddresses(namespace string) (all []netip.Prefix, err error) {
	var devices, others []net.Addr
	err = netns.Do(namespace, func() error {
		links, err := net.Interfaces()
		for _, link := range links {
			if link.Name == spec.AccessLink || link.Name == spec.DirectHost {
				continue // what is reached there is reached over the network itself
			}
			if has := ofLink(link.Name); link.Flags&net.FlagPointToPoint != 0 || has("tun_flags") {
				continue
			} else if found, gone := link.Addrs(); gone == nil && has("device") {
				devices = append(devices, found...)
			} else if gone == nil {
				others = append(others, found...)
			}
		}
		return err
	})
	for _, a := range append(devices, others...) {
		if n, err := netip.ParsePrefix(a.String()); err == nil && n.Addr().IsGlobalUnicast() && n.Bits() < n.Addr().BitLen() {
			all = append(all, n)
		}
	}
	return all, err
}

// ofLink tells whether the kernel has a file of that name about a link, as far as this process
// sees links: those of its own namespace (Documentation/ABI/testing/sysfs-class-net).
func ofLink(link string) func(name string) bool {
	return func(name string) bool {
		_, err := os.Stat("/sys/class/net/" + link + "/" + name)
		return err == nil
	}
}

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
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lookedAt = time.Now(); err != nil {
		h.Log.Warn("looking which networks the host is in", "error", err)
		return
	}
	if slices.Equal(local, h.local) {
		return
	}
	h.local = local
	h.engine.SetLocal(local)
	for id, r := range h.peers {
		r.telling = r.telling.again()
		h.tryAnnounced(id, r)
	}
	wake(h.poke)
}
