package healing

import (
	"net/netip"
	"time"

	"mobula/helper/internal/endpoints"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/report"
)

// State is what the agent tells whoever connects to its socket.
type State struct {
	Generation string      `json:"generation"`
	Peers      []PeerState `json:"peers"`
	// Unverified counts the direct messages from where no peer is known to be that
	// were too many to be verified.
	Unverified uint64 `json:"unverified_messages,omitempty"`
}

// PeerState is how the way to a peer is.
type PeerState struct {
	HostID uint16 `json:"host_id"`
	// State is "up", "down" or "unknown".
	State string `json:"state"`
	// Via is the host ID of the relay; 0: direct.
	Via uint16 `json:"via"`
	// Carried: the relay's agent carries, inside WireGuard, as no relay port leads there.
	Carried bool `json:"carried,omitempty"`
	// Punched: direct, though neither end has an endpoint that others could send to first, and not
	// in a network of one of the host's own interfaces.
	Punched bool `json:"punched,omitempty"`
	// Local: direct, at an address in a network of one of the host's own interfaces.
	Local bool      `json:"local,omitempty"`
	Since time.Time `json:"since"`
	// RTT in milliseconds; 0: not known.
	RTT float64 `json:"rtt_ms"`
	// Loss is the share of lost probes over the last 10 to 20 s, LossMinutes
	// over five minutes, both ways together, 0..1.
	Loss        float64 `json:"loss"`
	LossMinutes float64 `json:"loss_minutes"`
	// DirectRTT and DirectLoss are of the direct path while traffic is relayed.
	// DirectWell is for how many seconds it has been well; after DirectHold seconds
	// it is taken again.
	DirectRTT  float64        `json:"direct_rtt_ms,omitempty"`
	DirectLoss float64        `json:"direct_loss,omitempty"`
	DirectWell float64        `json:"direct_well_s,omitempty"`
	DirectHold float64        `json:"direct_hold_s,omitempty"`
	Problem    string         `json:"problem,omitempty"`
	Endpoint   netip.AddrPort `json:"endpoint"`
	// OtherEndpoints are those of the peer's endpoints that traffic does not take.
	OtherEndpoints []EndpointState `json:"other_endpoints,omitempty"`
	// Name is the name that the peer's endpoint has in the document, if it is one.
	Name *NameState `json:"endpoint_name,omitempty"`
	// Generation tells whether the peer runs the same one: one of the constants.
	Generation string `json:"generation"`
	// Unanswered counts the peer's probes that were too many to be answered, Unverified
	// the direct messages from its address that were too many to be verified.
	Unanswered uint64 `json:"unanswered_probes,omitempty"`
	Unverified uint64 `json:"unverified_messages,omitempty"`
	// LastHeard is when the peer's agent last said anything.
	LastHeard *time.Time `json:"last_heard"`
}

// Kind is by what way traffic goes to the peer.
func (p *PeerState) Kind() report.Kind {
	return report.Facts{State: p.State, Via: p.Via, Carried: p.Carried, Local: p.Local, IPv6: p.Endpoint.Addr().Is6(), Unreached: p.Punched}.Kind()
}

// EndpointState is how an endpoint is by its own tests.
type EndpointState struct {
	Endpoint netip.AddrPort `json:"endpoint"`
	Works    bool           `json:"works"`
	Local    bool           `json:"local,omitempty"`
	// RTT in milliseconds and Loss, 0..1, are 0 where it does not work.
	RTT  float64 `json:"rtt_ms,omitempty"`
	Loss float64 `json:"loss,omitempty"`
}

// NameState is what is known about the name of an endpoint.
type NameState struct {
	Name string `json:"name"`
	// Endpoint is what it stands for, as far as is known, and Changed since when that is
	// not what the document says; nil: it is.
	Endpoint netip.AddrPort `json:"endpoint"`
	Changed  *time.Time     `json:"changed,omitempty"`
	// Problem is why it could not be looked up last time, since Since.
	Problem string     `json:"problem,omitempty"`
	Since   *time.Time `json:"problem_since,omitempty"`
}

// What a PeerState says of a peer's generation.
const (
	generationSame      = "same"
	generationDifferent = "different"
	generationUnknown   = "unknown"
)

// state describes all peers.
func (h *Healer) state() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	began := time.Now().Add(-now)
	s := State{Generation: h.generation, Peers: []PeerState{}, Unverified: h.refused.StrangerMACs}
	for _, r := range h.engine.Reports(now) {
		other := h.peers[r.Peer]
		p := PeerState{HostID: r.Peer, State: r.State, Via: r.Via, Carried: r.Carried, Punched: h.kindOf(r, other) == report.Punched, Local: r.Local, Since: began.Add(r.Since), RTT: milliseconds(r.RTT),
			Loss: r.LossNow, LossMinutes: r.LossMinutes, DirectRTT: milliseconds(r.DirectRTT), DirectLoss: r.DirectLoss,
			DirectWell: r.DirectWell.Seconds(), DirectHold: r.DirectHold.Seconds(),
			Problem: r.Problem, Endpoint: r.Endpoint, Generation: h.sameGeneration(other),
			Unanswered: other.unanswered, Unverified: other.unverified}
		if !other.heard.IsZero() {
			heard := other.heard
			p.LastHeard = &heard
		}
		for _, w := range r.Ways {
			p.OtherEndpoints = append(p.OtherEndpoints, EndpointState{w.Endpoint, w.Works, w.Local, milliseconds(w.RTT), w.Loss})
		}
		p.Name = h.nameState(r.Peer, began)
		if r.State == paths.StateUnknown {
			p.RTT = 0
		}
		s.Peers = append(s.Peers, p)
	}
	return s
}

// nameState describes the name of a peer's endpoint; nil: it has none.
func (h *Healer) nameState(id uint16, began time.Time) *NameState {
	r, named := h.names.Report(endpoints.Of{ID: id})
	if !named {
		return nil
	}
	s := &NameState{Name: r.Name, Endpoint: r.Endpoint, Problem: r.Problem}
	if r.Changed != 0 {
		changed := began.Add(r.Changed)
		s.Changed = &changed
	}
	if r.Problem != "" {
		since := began.Add(r.Since)
		s.Since = &since
	}
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }
