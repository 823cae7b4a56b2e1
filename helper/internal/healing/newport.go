package healing

import (
	"time"

	"mobula/helper/internal/sourceport"
	"mobula/helper/internal/wireguard"
)

const (
	// portAfter is how long a host without an endpoint may hear nothing from outside its own
	// networks until its packets leave with another port, and mostPortAfter how long at most
	// after that did not help.
	portAfter     = 20 * time.Second
	mostPortAfter = 10 * time.Minute
)

// deafness is since when nothing came from outside. A NAT whose own address has become another may
// still send by the old one what belongs to flows that it knows, and what keeps these alive are the
// very packets that ask whether anybody hears. New flows it treats rightly.
type deafness struct {
	received int64 // bytes
	since    time.Time
	wait     time.Duration
}

// due notes what was received, ever, and reports that it is time for another port.
func (d *deafness) due(now time.Time, received int64) bool {
	if received != d.received || d.wait == 0 {
		*d = deafness{received: received, since: now, wait: portAfter}
		return false
	}
	if now.Sub(d.since) < d.wait {
		return false
	}
	d.since, d.wait = now, min(2*d.wait, mostPortAfter)
	return true
}

// looksDeaf reports that nothing comes from outside, as WireGuard has it. The caller holds
// the lock.
func (h *Healer) looksDeaf(now time.Time, byHost map[uint16][]wireguard.PeerState) bool {
	if h.underlay == nil || !h.self.IsUnreached() {
		return false
	}
	received, outside := int64(0), false
	for _, peers := range byHost {
		for _, s := range peers {
			if !h.isNear(s.Endpoint.Addr()) { // what is carried comes from outside, too, or from who hears it
				received, outside = received+s.ReceiveBytes, true
			}
		}
	}
	return outside && h.deafness.due(now, received)
}

// takeAnotherPort has WireGuard's packets, and those beside it, leave with another port.
func (h *Healer) takeAnotherPort(own uint16) {
	h.keepPort()
	r, err := sourceport.Begin(*h.underlay, own)
	if err != nil {
		h.Log.Warn("nothing comes from outside, and packets cannot leave with another port", "error", err)
		return
	}
	h.rewriting = r
	h.Log.Info("nothing comes from outside: packets leave with another port", "port", r.Port)
}

// keepPort has them leave with WireGuard's own.
func (h *Healer) keepPort() {
	if err := h.rewriting.Close(); err != nil {
		h.Log.Warn("packets leave with another port still", "error", err)
	}
	h.rewriting = nil
}
