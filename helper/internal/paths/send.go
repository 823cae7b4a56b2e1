package paths

import (
	"net/netip"
	"time"
)

// interval is the time between two probes to a peer that is well. It grows with
// the number of peers, so that all of them together stay within their budget.
func (e *Engine) interval(p *peer, now time.Duration) time.Duration {
	idle := max(idleInterval, share(len(e.peers), idleProbesPerSecond))
	if now < p.activeUntil {
		return min(max(activeInterval, sharePerActive(e.active), share(p.busy, busyPerSecond)), idle)
	}
	return idle
}

func share(peers, perSecond int) time.Duration {
	return time.Duration(peers) * time.Second / time.Duration(perSecond)
}

func sharePerActive(active int) time.Duration { return share(active, activeProbesPerSecond) }

// fresh is how long ago the last answer of a peer that is well can have been.
func (e *Engine) fresh(p *peer) time.Duration {
	return 2*e.interval(p, e.now) + p.small.timeout() + time.Second
}

// send sends the probes that are due.
func (e *Engine) send(p *peer) {
	every := e.interval(p, e.now)
	late, _ := p.small.late(e.now)
	e.sendSmall(p, every, late)
	if late == 0 && p.phase == up {
		e.sendFull(p, every)
	} else if p.full != nil {
		p.full.forgive() // it says nothing about the size
		p.nextFull = e.now + every
	} else {
		p.nextFull = e.now + every
	}
	if e.watchesDirect(p) {
		e.sendDirect(p, every)
	}
	if p.ways != nil {
		e.sendWays(p, late)
	}
}

// pace is the distance of probes to a peer that is well every so often, as it is now.
func (e *Engine) pace(p *peer, every time.Duration, late int) time.Duration {
	switch {
	case p.phase == settling: // the longer it takes, the longer an answer may be on its way: see ringSize
		least := p.burst()
		if !e.urgent(p) {
			least = max(least, downAfter/time.Duration(e.needed(p)))
		}
		return min(max(least, (e.now-p.since)/16), activeInterval)
	case p.phase == up && late > 0 && late < 2*downMisses:
		return max(p.burst(), downAfter/time.Duration(e.needed(p)))
	case p.phase == up && late > 0 && every > activeInterval:
		return activeInterval
	case p.phase == down && e.now-p.downFrom < 5*time.Second && !e.canWait(p):
		return activeInterval
	}
	return every
}

func (e *Engine) sendSmall(p *peer, every time.Duration, late int) {
	every = e.pace(p, every, late)
	if due := p.lastSmall() + every; due < p.nextProbe && !p.held {
		p.nextProbe = due
	}
	if e.now < p.nextProbe {
		return
	}
	// Peers with traffic come first when the budget is used up.
	spare, later := 0.0, burstInterval
	if e.now >= p.activeUntil {
		spare, later = probesPerSecond/10, burstInterval+share(len(e.peers), 5*idleProbesPerSecond)
		switch {
		case p.phase == settling:
			spare, later = probesPerSecond/40, burstInterval
		case p.phase == up && late > 0:
			spare, later = probesPerSecond/20, burstInterval
		}
	}
	if !e.probes.has(e.now, spare) {
		p.nextProbe, p.held = e.now+later, true
		p.settleUntil += later // nobody fails who was not tried
		e.stats.ProbesHeld++
		return
	}
	if !e.urgent(p) && (late > 0 && p.phase == up || p.phase != up) && !e.mayTry(p) {
		e.stats.ProbesHeld++
		p.nextProbe, p.held = e.now+max(burstInterval, e.perTry(p)/4), true
		return
	}
	p.held = false
	cost := 1.0
	if late > 1 || p.phase == down {
		cost = 0.5 // no echo is to be expected, which is half of what a probe costs
	}
	e.probes.bucket.Spend(cost)
	p.history.send(e.now)
	e.kind(p).Sent++
	e.emit(p, false, p.small)
	p.nextProbe = e.now + e.jitter(every)
	if e.crowded(p) { // those who began at once do not stay in step
		p.nextProbe += e.within(every/2) - every/4
	}
}

// Heard hands in that a peer's request has come. The next own one waits for the middle
// between two of the peer's, so that the path is tried twice as often. A peer that was down
// is tried at once, but not for each request of one that answers nothing.
func (e *Engine) Heard(now time.Duration, from uint16) {
	e.advance(now)
	p := e.peers[from]
	if p == nil {
		return
	}
	e.alive(p)
	if !p.kernel.IsValid() && now >= p.nextLook { // WireGuard knows where it is
		e.out.Observe, p.nextLook = true, now+directInterval
	}
	if p.phase == down && !e.urgent(p) && now-p.lastSmall() >= activeInterval { // it may be back
		p.tries, p.nextProbe, p.held = limit{}, now, false
		e.touch(p)
	}
	if p.phase != up || p.held || now < p.activeUntil || p.small.last == 0 || p.small.last > p.small.reached {
		return
	}
	every := e.interval(p, now)
	last := p.lastSmall()
	p.nextProbe = max(min(now+every/2, last+every*5/4), last+every*3/4)
	e.sooner(p, p.nextProbe)
}

// burst is the distance of probes while it is not clear whether the path works.
// Where answers take long, more of them would only add to what makes them slow.
func (p *peer) burst() time.Duration {
	d := p.small.srtt / 4
	if d < burstInterval {
		return burstInterval
	}
	if d > activeInterval {
		return activeInterval
	}
	return d
}

// lastSmall returns when the last probe was sent.
func (p *peer) lastSmall() time.Duration {
	if p.small.last == 0 {
		return p.nextProbe // nothing to hurry
	}
	return p.small.ring[p.small.last%ringSize].at
}

func (e *Engine) sendFull(p *peer, every time.Duration) {
	if p.full == nil {
		if e.now < p.nextFull {
			return
		}
		p.full = &line{since: e.now, period: e.now}
	}
	next := e.fullEvery(p, every)
	if misses, _ := p.full.misses(e.now); misses > 0 && !fullDown(p.full, e.now) {
		next = fullDownAfter / downMisses
		if due := p.full.ring[p.full.last%ringSize].at + next; due < p.nextFull {
			p.nextFull = due
		}
	}
	if e.now < p.nextFull {
		return
	}
	if !e.probes.take(e.now, probesPerSecond/10) {
		p.nextFull = e.now + burstInterval
		return
	}
	e.emit(p, true, p.full)
	p.nextFull = e.now + e.jitter(next)
}

// fullEvery is the distance of probes of full size to a peer that is well. Where there is traffic it
// waits for them: with up to 140 such peers nothing longer than a smaller MTU is lost for over 3 s.
func (e *Engine) fullEvery(p *peer, every time.Duration) time.Duration {
	if e.now < p.activeUntil {
		return min(10*every, max(fullInterval, share(e.active, fullProbesPerSecond)))
	}
	return 10 * every
}

// fullDown reports that packets of full size get lost.
func fullDown(l *line, now time.Duration) bool {
	if l == nil {
		return false
	}
	misses, first := l.misses(now)
	return misses >= downMisses && now-first >= fullDownAfter
}

// watchesDirect reports whether the direct path has to be tested by itself.
func (e *Engine) watchesDirect(p *peer) bool {
	return p.via != 0 && p.direct.IsValid() || len(p.askers) > 0 || e.strays(p)
}

// directTo is where direct probes go: for others, who asked, to the document's address,
// as only there the peer is of use to them.
func (e *Engine) directTo(p *peer) netip.AddrPort {
	if p.via == 0 && p.elsewhere() && len(p.askers) > 0 {
		return p.Endpoint
	}
	return p.direct
}

// sendDirect tests the direct path while traffic is relayed, because another host asked,
// or where a peer that does not answer may be as well.
func (e *Engine) sendDirect(p *peer, every time.Duration) {
	if p.directSmall == nil {
		p.directSmall = &line{since: e.now, period: e.now}
		p.directFull = &line{since: e.now, period: e.now}
	}
	if to := e.directTo(p); to != p.tried {
		p.tried = to
		p.directSmall.restart(e.now, 0)
		p.directFull.restart(e.now, 0)
	}
	if every < directInterval {
		every = directInterval
	}
	if p.fruitless(e.now) {
		every = max(every, fruitlessInterval)
	}
	next, spare := every, float64(probesPerSecond)/10
	if len(p.askers) > 0 || p.phase == down && p.via != 0 && e.now-p.downFrom < time.Second || e.strays(p) {
		next, spare = burstInterval, 0
		if p.via == 0 || !e.urgent(p) { // for others, or elsewhere, or there is less hurry
			next, spare = e.checkInterval(p), probesPerSecond/20
		}
		if due := p.directSmall.ring[p.directSmall.last%ringSize].at + next; due < p.nextDirect {
			p.nextDirect = due
		}
	}
	if e.now >= p.nextDirect && (p.via != 0 || e.mayTry(p)) && e.probes.take(e.now, spare) {
		e.emitDirect(p, p.tried, false, p.directSmall)
		p.nextDirect = e.now + e.jitter(next)
	}
	if e.now >= p.nextDirectFull && p.via != 0 && e.probes.take(e.now, probesPerSecond/10) {
		e.emitDirect(p, p.tried, true, p.directFull)
		p.nextDirectFull = e.now + e.jitter(5*every)
	}
	for _, t := range []*time.Duration{&p.nextDirect, &p.nextDirectFull} {
		if *t <= e.now {
			*t = e.now + burstInterval // the budget was used up
		}
	}
}

func (e *Engine) emit(p *peer, full bool, l *line) {
	e.out.Probes = append(e.out.Probes, Probe{Peer: p.ID, Plane: Traffic, Full: full, Sequence: l.send(e.now)})
}

func (e *Engine) emitDirect(p *peer, to netip.AddrPort, full bool, l *line) {
	number := l.send(e.now)
	if n := p.numbers[index(full)]; n != nil {
		number = n.give(l, number)
	}
	e.out.Probes = append(e.out.Probes, Probe{Peer: p.ID, Plane: Direct, Full: full, Sequence: number, To: to})
}

func index(full bool) int {
	if full {
		return 1
	}
	return 0
}

// Echo hands in the answer to a probe. Unknown ones are ignored.
func (e *Engine) Echo(now time.Duration, from uint16, plane Plane, full bool, sequence uint32) {
	e.advance(now)
	p := e.peers[from]
	if p == nil {
		return
	}
	l := p.small
	switch n := p.numbers[index(full)]; {
	case plane == Traffic && full:
		l = p.full
	case plane == Direct && n != nil:
		l, sequence = n.find(sequence)
	case plane == Direct && full:
		l = p.directFull
	case plane == Direct:
		l = p.directSmall
	}
	if l == nil {
		return
	}
	before, usual := l.reached, l.timeout()
	rtt, ok := l.answer(now, sequence)
	if !ok {
		return
	}
	p.denied = 0
	for _, w := range p.ways {
		if w.small == l {
			w.unanswered, w.answered = 0, now
		}
	}
	if rtt <= usual { // who answers late is asked no more often than who does not
		p.tries = limit{}
	}
	e.alive(p)
	if now < p.leaveUntil && now-rtt > p.leaveUntil-leaveFor { // asked after the goodbye, so it is back
		p.leaveUntil = 0
		p.forgive()
	}
	if plane == Traffic && !full {
		p.history.answer(now)
		e.kind(p).RoundTrips.add(rtt)
		if p.phase == up && sequence > before {
			e.strayed(p, sequence-before-1)
		}
		if p.phase != up {
			e.touch(p)
		}
	}
	if plane == Direct && !full && len(p.askers) > 0 && l == p.directSmall {
		e.vouch(p)
		e.touch(p)
	}
	if plane == Direct && p.ways != nil && p.phase == down {
		e.touch(p) // another way may be taken
	}
}
