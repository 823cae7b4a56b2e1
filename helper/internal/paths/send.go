package paths

import "time"

// interval is the time between two probes to a peer that is well. It grows with
// the number of peers, so that all of them together stay within their budget.
func (e *Engine) interval(p *peer, now time.Duration) time.Duration {
	least, share := idleInterval, share(len(e.peers), idleProbesPerSecond)
	if now < p.activeUntil {
		least, share = activeInterval, sharePerActive(e.active)
	}
	if share > least {
		return share
	}
	return least
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
}

func (e *Engine) sendSmall(p *peer, every time.Duration, late int) {
	switch {
	case p.phase == settling: // the longer it takes, the longer an answer may be on its way: see ringSize
		every = min(max(p.burst(), (e.now-p.since)/16), activeInterval)
	case p.phase == up && late > 0 && late < 2*downMisses:
		every = p.burst()
	case p.phase == up && late > 0 && every > activeInterval:
		every = activeInterval
	case p.phase == down && e.now-p.downFrom < 5*time.Second:
		every = activeInterval
	}
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
	}
	if !e.probes.take(e.now, spare) {
		p.nextProbe, p.held = e.now+later, true
		return
	}
	p.held = false
	p.history.send(e.now)
	e.emit(p, Traffic, false, p.small)
	p.nextProbe = e.now + e.jitter(every)
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
	next := 10 * every
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
	e.emit(p, Traffic, true, p.full)
	p.nextFull = e.now + e.jitter(next)
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
func (e *Engine) watchesDirect(p *peer) bool { return p.via != 0 || len(p.askers) > 0 }

// sendDirect tests the direct path while traffic is relayed, or because another
// host asked.
func (e *Engine) sendDirect(p *peer, every time.Duration) {
	if p.directSmall == nil {
		p.directSmall = &line{since: e.now, period: e.now}
		p.directFull = &line{since: e.now, period: e.now}
	}
	if every < directInterval {
		every = directInterval
	}
	next := every
	if len(p.askers) > 0 || p.phase == down && p.via != 0 && e.now-p.downFrom < time.Second {
		next = burstInterval
		if due := p.directSmall.ring[p.directSmall.last%ringSize].at + next; due < p.nextDirect {
			p.nextDirect = due
		}
	}
	if e.now >= p.nextDirect && e.probes.take(e.now, 0) {
		e.emit(p, Direct, false, p.directSmall)
		p.nextDirect = e.now + e.jitter(next)
	}
	if e.now >= p.nextDirectFull && p.via != 0 && e.probes.take(e.now, probesPerSecond/10) {
		e.emit(p, Direct, true, p.directFull)
		p.nextDirectFull = e.now + e.jitter(5*every)
	}
	for _, t := range []*time.Duration{&p.nextDirect, &p.nextDirectFull} {
		if *t <= e.now {
			*t = e.now + burstInterval // the budget was used up
		}
	}
}

func (e *Engine) emit(p *peer, plane Plane, full bool, l *line) {
	pr := Probe{Peer: p.ID, Plane: plane, Full: full, Sequence: l.send(e.now)}
	if plane == Direct {
		pr.To = p.direct
		if p.via == 0 && p.elsewhere() { // asked for others, to whom that is of no use
			pr.To = p.Endpoint
		}
	}
	e.out.Probes = append(e.out.Probes, pr)
}

// Echo hands in the answer to a probe. Unknown ones are ignored.
func (e *Engine) Echo(now time.Duration, from uint16, plane Plane, full bool, sequence uint32) {
	e.advance(now)
	p := e.peers[from]
	if p == nil {
		return
	}
	l := p.small
	switch {
	case plane == Traffic && full:
		l = p.full
	case plane == Direct && full:
		l = p.directFull
	case plane == Direct:
		l = p.directSmall
	}
	if l == nil {
		return
	}
	rtt, ok := l.answer(now, sequence)
	if !ok {
		return
	}
	if now < p.leaveUntil && now-rtt > p.leaveUntil-leaveFor { // asked after the goodbye, so it is back
		p.leaveUntil = 0
		p.forgive()
	}
	if plane == Traffic && !full {
		p.history.answer(now)
		if p.phase != up {
			e.touch(p)
		}
	}
	if plane == Direct && !full && len(p.askers) > 0 {
		e.vouch(p)
		e.touch(p)
	}
}
