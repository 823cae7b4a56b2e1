package paths

import (
	"net/netip"
	"time"
)

// historyPeriod and historyLength make five minutes.
const (
	historyPeriod = 10 * time.Second
	historyLength = 30
)

// history counts the probes of the traffic path, whichever that was.
type history struct {
	periods [historyLength]tally
	current int64 // number of the running period since the engine's moment
}

func (h *history) at(now time.Duration) *tally {
	period := int64(now / historyPeriod)
	if period-h.current >= historyLength {
		h.periods = [historyLength]tally{}
		h.current = period
	}
	for h.current < period {
		h.current++
		h.periods[h.current%historyLength] = tally{}
	}
	return &h.periods[period%historyLength]
}

func (h *history) send(now time.Duration)   { h.at(now).sent++ }
func (h *history) answer(now time.Duration) { h.at(now).answered++ }

// loss returns the share of probes without an echo over all periods but the
// running one, whose last probes are on their way.
func (h *history) loss(now time.Duration) float64 {
	running := h.at(now)
	var sum tally
	for i := range h.periods {
		if &h.periods[i] != running {
			sum.sent += h.periods[i].sent
			sum.answered += h.periods[i].answered
		}
	}
	if sum.sent == 0 || sum.answered >= sum.sent {
		return 0
	}
	return float64(sum.sent-sum.answered) / float64(sum.sent)
}

// The states of a Report.
const (
	StateUnknown = "unknown" // no answer yet
	StateUp      = "up"
	StateDown    = "down" // its agent does not answer on any path
)

// Report is how a peer is.
type Report struct {
	Peer  uint16
	State string
	Via   uint16 // relay; 0: direct
	// Carried: the relay's agent carries, in place of its relay ports.
	Carried  bool
	Endpoint netip.AddrPort
	// Local: direct, at an endpoint of the peer's in a network of one of this host's own interfaces.
	Local bool
	// Since is when State or Via changed last.
	Since time.Duration
	RTT   time.Duration
	// LossNow covers the last 10 to 20 s, LossMinutes five minutes; 0..1.
	LossNow, LossMinutes float64
	// Direct tells how the direct path is while traffic is relayed.
	DirectRTT  time.Duration
	DirectLoss float64
	// DirectWell is how long it has been well, and DirectHold how long it has to be
	// before it is taken again.
	DirectWell, DirectHold time.Duration
	// Ways are the peer's endpoints that traffic does not take, where it has several; of those that
	// it announced not those that seem to be another machine's.
	Ways      []WayReport
	Active    bool
	Problem   string // why a path that is up is poor
	LargeLost bool   // packets of full size get lost
}

// WayReport is how one of a peer's endpoints is, by its own tests.
type WayReport struct {
	Endpoint netip.AddrPort
	Works    bool
	Local    bool // see Report
	RTT      time.Duration
	Loss     float64 // over the last 10 to 20 s; 0..1
}

func (e *Engine) wayReports(p *peer) (all []WayReport) {
	for _, w := range p.ways {
		if p.via == 0 && w.to == p.kernel || w.isNobodys() {
			continue
		}
		r := WayReport{Endpoint: w.to, Works: e.works(p, w), Local: e.local(w.to)}
		if r.Works {
			r.RTT = w.small.srtt
			r.Loss, _ = w.small.loss(e.now)
		}
		all = append(all, r)
	}
	return all
}

// RTT returns how long the peer's answers take; 0: not known.
func (e *Engine) RTT(id uint16) time.Duration {
	if p := e.peers[id]; p != nil {
		return p.small.srtt
	}
	return 0
}

// Reports returns the state of all peers by their IDs.
func (e *Engine) Reports(now time.Duration) []Report {
	e.advance(now)
	all := make([]Report, 0, len(e.order))
	for _, p := range e.order {
		r := Report{Peer: p.ID, State: StateUp, Via: p.via, Carried: p.carried(), Endpoint: p.kernel, Local: p.via == 0 && e.near(p, p.kernel), Since: p.since, RTT: p.small.srtt,
			LossMinutes: p.history.loss(now), Active: now < p.activeUntil}
		if p.phase != down {
			r.Problem, r.LargeLost = e.poor(p), fullDown(p.full, e.now)
		}
		r.Ways = e.wayReports(p)
		r.LossNow, _ = p.small.loss(now)
		switch {
		case p.phase == down:
			r.State, r.LossNow = StateDown, 1
		case p.small.lastAnswer == 0:
			r.State = StateUnknown
		}
		if p.via != 0 && p.directSmall != nil {
			r.DirectRTT = p.directSmall.srtt
			r.DirectLoss, _ = p.directSmall.loss(now)
			r.DirectHold = p.holdFor()
			if p.directSmall.good > 0 {
				r.DirectWell = now - p.wellSince
			}
		}
		all = append(all, r)
	}
	return all
}
