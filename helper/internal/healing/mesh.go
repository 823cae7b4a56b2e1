package healing

import (
	"net/netip"
	"time"

	"mobula/helper/internal/mesh"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/report"
	"mobula/helper/internal/spec"
)

// meshService answers on a socket inside WireGuard. A firewall rule has members' gateways
// alone reach it; that it is an agent that speaks the port tells as well.
func (h *Healer) meshService(questions mesh.Socket) *mesh.Service {
	return &mesh.Service{Socket: questions, Log: h.Log, View: h.view,
		Address: func(id uint16) netip.AddrPort {
			h.mu.Lock()
			defer h.mu.Unlock()
			return netip.AddrPortFrom(h.ranges.IntrawireAddress(id), spec.MeshUDPPort)
		},
		ID: func(from netip.AddrPort) uint16 {
			h.mu.Lock()
			defer h.mu.Unlock()
			if id := h.ranges.HostID(from.Addr()); from.Port() == spec.MeshUDPPort && h.peers[id] != nil {
				return id
			}
			return 0
		}}
}

// view is what this host knows of itself, its ways and the other hosts.
func (h *Healer) view() mesh.View {
	var version string
	var problems []string
	if h.About != nil {
		version, problems = h.About()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if h.unable {
		problems = append(problems, "it relays for nobody; on it, mobula status says why")
	}
	v := mesh.View{Self: report.Host{HostID: h.self.ID, Name: h.self.Hostname, Generation: h.generation, Version: version,
		SinceSeconds: mesh.Seconds(time.Since(h.followed)), Problems: problems},
		Names: h.insiders.names, Clients: h.insiders.list()}
	for _, r := range h.engine.Reports(now) {
		other := h.peers[r.Peer]
		w := wayOf(r, now, other.shaken, h.kindOf(r, other))
		v.Ways = append(v.Ways, w)
		v.Targets = append(v.Targets, mesh.Target{ID: r.Peer, Name: other.host.Hostname, Way: w,
			SameGeneration:  other.generation == h.number,
			OtherGeneration: other.generation != h.number && other.generation != probe.Generation{}})
	}
	return v
}

// kindOf is by what way traffic goes to a peer. The caller holds the lock.
func (h *Healer) kindOf(r paths.Report, other *remote) report.Kind {
	return report.Facts{State: r.State, Via: r.Via, Carried: r.Carried, Local: r.Local, IPv6: r.Endpoint.Addr().Is6(),
		Unreached: h.self.IsUnreached() && other.host.IsUnreached()}.Kind()
}

func wayOf(r paths.Report, now time.Duration, shaken time.Time, kind report.Kind) report.Way {
	w := report.Way{To: r.Peer, State: r.State, Via: r.Via, Kind: kind, SinceSeconds: mesh.Seconds(now - r.Since), RTT: milliseconds(r.RTT),
		Loss: r.LossNow, LossMinutes: r.LossMinutes, LargeLost: r.LargeLost, HandshakeSeconds: -1}
	if r.State == paths.StateUnknown {
		w.RTT = 0
	}
	if !shaken.IsZero() {
		w.HandshakeSeconds = int32(min(mesh.Seconds(time.Since(shaken)), 1<<30))
	}
	return w
}
