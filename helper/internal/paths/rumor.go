package paths

import (
	"math"
	"slices"
	"time"

	"mobula/helper/internal/probe"
)

// Hosts tell each other which host they have just found dead, in messages that they send
// anyway. Who is told believes nothing and tries that host soon by itself. What many say
// makes one lost probe enough where three are needed otherwise.
const (
	// A fallen peer is told of from tellAfter on, as a relay may be found until then, and
	// until tellFor.
	tellAfter = 60 * time.Millisecond
	tellFor   = 3 * time.Second
	// manyTellers are enough for one lost probe to be, and toldMisses is this one.
	manyTellers = 8
	toldMisses  = 1
	// toldPerSecond is how many probes all hosts together send to one because they were told.
	toldPerSecond = 1700
	// tellsPerSecond is how often one host can have this one try another, and
	// rumorsPerSecond how often all can.
	tellsPerSecond  = 4
	rumorsPerSecond = 100
	// busyPerSecond is how many probes all hosts together send to one that has traffic with
	// all of them.
	busyPerSecond = 1000
)

// gossips reports that hosts are so many that probes alone would take long to find a death.
func (e *Engine) gossips() bool { return len(e.peers) > idleProbesPerSecond }

// Aside returns what the next message to whomever says besides.
func (e *Engine) Aside() probe.Aside {
	a := probe.Aside{Busy: uint16(min(e.active, math.MaxUint16))}
	if 4*e.troubles > len(e.peers) { // it is rather this host that is cut off
		return a
	}
	for turn := len(e.fallen); turn > 0; turn-- {
		p := e.fallen[0]
		e.fallen = e.fallen[1:]
		if p.phase != down || e.now-p.downFrom > tellFor {
			p.fallen = false
			continue
		}
		e.fallen = append(e.fallen, p) // each in turn
		if e.now-p.downFrom >= tellAfter {
			a.Dead = p.ID
			break
		}
	}
	return a
}

// Told hands in what another host's message said besides.
func (e *Engine) Told(now time.Duration, from uint16, a probe.Aside) {
	e.advance(now)
	teller, p := e.peers[from], e.peers[a.Dead]
	if teller == nil {
		return
	}
	teller.busy = int(a.Busy)
	if p == nil || p == teller || !e.heeds(p) || slices.Contains(p.tellers, from) {
		return
	}
	if !teller.tells.take(now, 0) || len(p.tellers) == 0 && !e.rumors.take(now, 0) {
		e.stats.RumorsRefused++
		return
	}
	p.tellers = append(p.tellers, from)
	if len(p.tellers) > 1 || e.urgent(p) || p.small.last > p.small.reached {
		return // it is tried soon already
	}
	soon := now + e.within(e.spread(p))
	if e.crowded(p) {
		soon = min(soon, p.nextProbe)
	}
	p.nextProbe, p.held = soon, true
	e.sooner(p, soon)
}

// heeds reports whether it matters what others say of the peer: not if it was heard since,
// or just after others were wrong, so that nobody has it probed without end.
func (e *Engine) heeds(p *peer) bool {
	return e.gossips() && p.phase == up && len(p.tellers) < manyTellers && e.now >= p.leaveUntil && e.now >= p.calmUntil &&
		p.stray <= strayShare && e.stray <= strayShare && p.small.lastAnswer > 0 && e.now-p.small.lastAnswer >= downAfter
}

// alive notes that a peer was heard, whatever others say.
func (e *Engine) alive(p *peer) {
	if len(p.tellers) > 0 {
		p.tellers, p.calmUntil = nil, e.now+e.perSilent()
	}
}

// rumored reports that many say that the peer is dead.
func (p *peer) rumored() bool { return len(p.tellers) >= manyTellers }

// spread is the time over which all hosts together try one of which they were told. Those
// that have traffic with it do not wait for that, and try it by themselves, too.
func (e *Engine) spread(p *peer) time.Duration {
	if e.crowded(p) {
		return share(p.busy, busyPerSecond)
	}
	return share(len(e.peers), toldPerSecond)
}

// crowded reports that so many have traffic with the peer that this one host must not
// probe it as often as it would.
func (e *Engine) crowded(p *peer) bool {
	return e.now < p.activeUntil && p.busy > busyPerSecond/downMisses
}

// urgent reports that the peer carries traffic of this host, and of few others.
func (e *Engine) urgent(p *peer) bool { return e.now < p.activeUntil && !e.crowded(p) }
