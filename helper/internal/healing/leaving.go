package healing

import (
	"net/netip"
	"time"

	"mobula/helper/internal/firstpacket"
	"mobula/helper/internal/spec"
)

// leavesAgain is after how long packets for a peer count as the first again. The engine
// watches a peer closely for half of that, and longer where its traffic is heavy.
const leavesAgain = 4 * time.Second

// watchLeaving has the engine try a path as soon as a packet leaves for a peer. Where the
// kernel cannot tell, a path that broke while it was idle is found by the next probe.
func (h *Healer) watchLeaving() {
	var err error
	h.leaving, err = firstpacket.Watch(firstpacket.Config{
		Namespace: spec.Namespace, Device: spec.WireLink, OwnPorts: []uint16{spec.ProbeUDPPort, spec.MeshUDPPort, spec.CarryUDPPort}, Again: leavesAgain,
	}, h.leaves)
	if err != nil {
		h.Log.Warn("paths that break while they are idle are found by the next probe only", "error", err)
	}
}

// leaves takes note of a packet to an address inside.
func (h *Healer) leaves(to netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	h.engine.Begins(now, h.ranges.HostID(to))
	h.wakeIfDue(now)
}
