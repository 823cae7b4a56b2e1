package paths

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// newTests are how many probes a way gets at the pace of idle peers, before it is
	// tested wayShare times less often.
	newTests = 8
	wayShare = 5
	// A way is good for traffic that another one carries when wellAnswers probes were
	// answered, one of full size among each fullTests.
	wellAnswers = 5
	fullTests   = 5
	// A way is quicker than another if its answers take a quarter less, and slack less.
	slack = 5 * time.Millisecond
)

// way is one of a peer's endpoints, where it has several. Direct probes test all but the
// one that traffic takes.
type way struct {
	to          netip.AddrPort
	announced   bool // by the peer itself; the document does not know it
	small, full *line
	tests       int           // small probes since it began, or traffic left it
	avoid       time.Duration // until then: traffic found no answer there
	unanswered  int           // small probes since answered, when the last answer came; 0: none ever
	answered    time.Duration
}

func newWay(to netip.AddrPort, now time.Duration) *way {
	return &way{to: to, small: &line{since: now, period: now}, full: &line{since: now, period: now}}
}

func (w *way) restart(now time.Duration) {
	w.tests, w.unanswered = 0, 0
	w.small.restart(now, 0)
	w.full.restart(now, 0)
}

// setWays takes over which endpoints the peer has, one of so many. One with a single endpoint
// has no ways: its traffic shows how that is.
func (e *Engine) setWays(p *peer, peers int) {
	old := p.ways
	p.ways = nil
	if len(p.Others) == 0 && len(p.announced) == 0 {
		return
	}
	if old == nil {
		p.nextWay = e.now + e.within(max(idleInterval, share(peers, idleProbesPerSecond)))
	}
	known := append(append([]netip.AddrPort{p.endpoint}, p.others...), p.Endpoint)
	for i, to := range append(known, p.announced...) {
		if !to.IsValid() || p.wayTo(to) != nil {
			continue // what a name stands for is among them
		}
		w := newWay(to, e.now)
		if i := slices.IndexFunc(old, func(w *way) bool { return w.to == to }); i >= 0 {
			w = old[i]
		}
		w.announced = i >= len(known)
		p.ways = append(p.ways, w)
	}
	for full, l := range []*line{p.directSmall, p.directFull} {
		if p.numbers[full] == nil {
			p.numbers[full] = &numbers{}
			if l != nil {
				p.numbers[full].last = l.last
			}
		}
	}
}

// wayTo returns the way to an endpoint; nil: it is none that the peer is known to have.
func (p *peer) wayTo(to netip.AddrPort) *way {
	for _, w := range p.ways {
		if w.to == to {
			return w
		}
	}
	return nil
}

// numbers are those of the direct probes of one size to a peer with several ways. They
// rise, whichever way a probe takes: the peer takes no number for new that is much lower
// than another (probe.Window).
type numbers struct {
	last uint32
	sent [ringSize]struct {
		line             *line
		number, sequence uint32
	}
}

func (n *numbers) give(l *line, sequence uint32) uint32 {
	n.last++
	slot := &n.sent[n.last%ringSize]
	slot.line, slot.number, slot.sequence = l, n.last, sequence
	return n.last
}

// find returns what a number stands for; nil: it is unknown or too old.
func (n *numbers) find(number uint32) (*line, uint32) {
	if slot := n.sent[number%ringSize]; number != 0 && slot.number == number {
		return slot.line, slot.sequence
	}
	return nil, 0
}

func (e *Engine) local(to netip.AddrPort) bool {
	return slices.ContainsFunc(e.config.Local, func(n netip.Prefix) bool { return n.Contains(to.Addr()) })
}

// near reports that an endpoint is the peer's own, as it or the document says, in one of these networks: what
// a router there gives it is not.
func (e *Engine) near(p *peer, to netip.AddrPort) bool {
	return e.local(to) && (to == p.endpoint || to == p.Endpoint || p.wayTo(to) != nil)
}

// idleWay reports that a way has to be tested by itself: traffic does not take it, and
// nothing else tests it.
func (p *peer) idleWay(w *way) bool {
	if p.via == 0 {
		return w.to != p.kernel
	}
	return w.to != p.direct
}

// troubled reports that another way may be needed now.
func (e *Engine) troubled(p *peer, late int) bool {
	switch p.phase {
	case down:
		return e.now-p.downFrom < 5*time.Second && !e.canWait(p)
	case settling:
		return p.downFrom > 0 && e.now-p.since >= p.burst() && late > 0
	}
	return late >= e.searchesAt(p)
}

// wayEvery is the time between two tests of ways to a peer, whichever.
func (e *Engine) wayEvery(p *peer) time.Duration {
	every := max(idleInterval, share(len(e.peers), idleProbesPerSecond))
	if slices.ContainsFunc(p.ways, func(w *way) bool { return w.tests < newTests && p.idleWay(w) && !w.fruitless(e.now) }) || p.phase == down || p.via != 0 || p.better != nil {
		return every
	}
	return wayShare * every
}

// wayFresh is how long ago the last answer on a way that works can have been.
func (e *Engine) wayFresh(p *peer) time.Duration {
	every := wayShare * max(idleInterval, share(len(e.peers), idleProbesPerSecond))
	return time.Duration(2*len(p.ways))*every + time.Second
}

// sendWays tests the ways to a peer in turn, each time the one that was tested longest ago.
func (e *Engine) sendWays(p *peer, late int) {
	troubled, every := e.troubled(p, late), e.wayEvery(p)
	if troubled {
		every = e.checkInterval(p)
		p.nextWay = min(p.nextWay, p.lastWay+every)
	}
	if e.now < p.nextWay {
		return
	}
	w := e.nextWay(p)
	reserve := float64(probesPerSecond) / 6 // traffic comes first
	if troubled {
		reserve = probesPerSecond / 20
	}
	if w == nil || troubled && !e.mayTry(p) || !e.probes.take(e.now, reserve) {
		p.nextWay = e.now + max(burstInterval, every/4)
		return
	}
	e.emitDirect(p, w.to, false, w.small)
	if !troubled { // else the peer itself may be the reason
		w.unanswered++
	}
	if w.tests++; !troubled && w.tests%fullTests == 2 && e.probes.take(e.now, reserve) {
		e.emitDirect(p, w.to, true, w.full)
	}
	p.lastWay, p.nextWay = e.now, e.now+e.jitter(every)
}

func (e *Engine) nextWay(p *peer) (next *way) {
	for _, w := range p.ways {
		if p.idleWay(w) && !w.fruitless(e.now) && (next == nil || w.lastTest() < next.lastTest()) {
			next = w
		}
	}
	return next
}

// lastTest is when the last probe was sent; 0: none was.
func (w *way) lastTest() time.Duration {
	if w.small.last == 0 {
		return 0
	}
	return w.small.ring[w.small.last%ringSize].at
}

// works reports that a way works as far as its last tests say.
func (e *Engine) works(p *peer, w *way) bool {
	w.small.settle(e.now)
	return e.now >= w.avoid && w.small.alive(e.now, e.wayFresh(p))
}

// worksNow returns the best way that answers now that the path of traffic does not; nil:
// none does. It answered what was sent when that path was down already.
func (e *Engine) worksNow(p *peer) (best *way) {
	for _, w := range p.ways {
		if !p.idleWay(w) || e.now < w.avoid || w.small.lastAnswer <= p.downFrom-downAfter/2 || !w.small.alive(e.now, time.Second) {
			continue
		}
		if best == nil || e.local(w.to) && !e.local(best.to) || e.local(w.to) == e.local(best.to) && w.small.srtt < best.small.srtt {
			best = w
		}
	}
	return best
}

// well reports that a way could carry the traffic that another one carries. What is late
// counts as little as on the direct path of what is relayed (watchDirect): a host that is
// busy now and then is so on every way.
func (e *Engine) well(p *peer, w *way) bool {
	lost := w.small.lost(e.now)
	share, _ := w.small.loss(e.now)
	misses, _ := w.small.misses(e.now)
	missesFull, _ := w.full.misses(e.now)
	return p.idleWay(w) && e.now >= w.avoid && w.small.answers >= wellAnswers && e.now-w.small.lastAnswer <= e.wayFresh(p) &&
		misses <= wellMisses && (lost <= 1 || share <= wellShare) && w.full.answers > 0 && missesFull <= 1
}

// preferred returns the way that is better than the one that traffic takes, and has been
// for as long as the direct path has to be well before it is taken again; nil: none is.
// Both ends may prefer the same, so that one of them waits for the other.
func (e *Engine) preferred(p *peer) *way {
	best := e.better(p)
	if best != p.better {
		p.better, p.betterSince = best, e.now
	}
	hold := p.hold
	if e.config.Self > p.ID {
		hold *= 2
	}
	if best == nil || e.now-p.betterSince < hold || !e.works(p, best) {
		return nil
	}
	return best
}

// better returns the best way that is better than the one that traffic takes: a quicker
// one, or a local one that is of like quality, instead of one that is not.
func (e *Engine) better(p *peer) (best *way) {
	taken, local := e.counts(p, p.kernel, p.small), e.near(p, p.kernel)
	for _, w := range p.ways {
		near, took := e.near(p, w.to), e.counts(p, w.to, w.small)
		if quicker(took, taken) || near && !local && !quicker(taken, took) {
			if e.well(p, w) {
				best, taken, local = w, took, near
			}
		}
	}
	return best
}

// counts is what the round trip of a way counts as: a local one as half of the shortest, so that
// it is taken and kept where its host or its air has more to do now and then; but not where
// that is all the time.
func (e *Engine) counts(p *peer, to netip.AddrPort, l *line) time.Duration {
	if e.near(p, to) {
		return max(l.quickest()/2, l.srtt/4)
	}
	return l.srtt
}

func quicker(a, b time.Duration) bool { return a < b-b/4 && a < b-slack }

// takeWay has traffic take another way.
func (e *Engine) takeWay(p *peer, w *way, why string) {
	p.direct, p.cameBack = w.to, e.now
	e.route(p, w.to, 0, w.small.srtt)
	e.event(p, why+", at "+w.to.String())
}

// clean returns a way that is well, instead of one that loses packets; nil: there is none.
func (e *Engine) clean(p *peer) *way {
	for _, w := range p.ways {
		if share, _ := w.small.loss(e.now); share <= cleanShare && w.small.good >= wellAnswers && e.well(p, w) && e.works(p, w) {
			return w
		}
	}
	return nil
}

// seekWay looks for the direct path, which does not work, where another endpoint does. One
// that has just begun to answer gets the time to go on.
func (e *Engine) seekWay(p *peer) bool {
	if p.tried == p.direct && p.directSmall.alive(e.now, e.fresh(p)) {
		return true
	}
	for _, w := range p.ways {
		if p.idleWay(w) && e.works(p, w) && w.small.good >= 2 {
			p.direct, p.soughtAt = w.to, e.now
			p.wellSince, p.nextDirect = e.now, e.now
			return true
		}
	}
	return false
}

// relayPlace is where the peer can be used as a relay: hosts relay at their first endpoint
// alone, which need not be where traffic goes. Zero: nowhere, as far as is known.
func (e *Engine) relayPlace(p *peer) netip.AddrPort {
	switch {
	case p.kernel == p.endpoint || p.kernel == p.Endpoint:
		return p.kernel
	case e.worksAtFirst(p):
		return p.endpoint
	}
	return netip.AddrPort{}
}

// worksAtFirst reports that the way to the peer's first endpoint works by its own tests.
func (e *Engine) worksAtFirst(p *peer) bool {
	w := p.wayTo(p.endpoint)
	return w != nil && e.works(p, w)
}

// documented reports that an endpoint is one of the peer's, or at the address of one.
func (p *peer) documented(at netip.AddrPort, exact bool) bool {
	for _, to := range append([]netip.AddrPort{p.Endpoint}, p.Others...) {
		if to == at || !exact && to.Addr() == at.Addr() {
			return true
		}
	}
	return false
}
