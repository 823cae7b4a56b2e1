package paths

import (
	"fmt"
	"net/netip"
	"time"
)

// judge finds out how the path is that traffic takes now.
func (e *Engine) judge(p *peer) {
	late, first := p.small.late(e.now)
	e.count(p, p.phase == up && late > 0 || p.phase == down && e.now-p.downFrom < recentlyDown)
	if e.now >= p.nextLook && e.now-p.since < insistFor && p.chosen == p.kernel {
		e.out.Observe = true
		p.nextLook = e.now + 3*burstInterval
	}
	switch {
	case p.phase == up && p.seenAt > 0 && !p.kernel.IsValid() && p.small.lastAnswer == 0: // nobody knows where it is
		p.phase, p.since, p.downFrom, p.nextSearch = down, e.now, e.now, 0
	case p.phase == up:
		if late >= e.needed(p) && e.now-first >= p.downAfter(e.now) && e.now >= e.grace {
			e.fall(p, fmt.Sprintf("no answer for %v", (e.now-first).Round(time.Millisecond)))
		}
	case p.phase == down:
		if p.small.lastAnswer > p.since {
			p.phase, p.since, p.search, p.exhausted, p.unsettled = up, e.now, nil, 0, 0
			p.small.clear(e.now)
			if p.via == 0 {
				p.direct = p.kernel
			}
			e.event(p, "answers again")
		}
	case p.phase == settling:
		switch {
		case p.small.lastAnswer > 0: // restart set it to zero
			p.phase, p.search, p.exhausted, p.unsettled, p.back = up, nil, 0, 0, false
			if p.via != 0 && !p.carried() {
				p.portsFail = [2]portsFail{}
			}
		case e.now >= p.settleUntil:
			e.settleFailed(p)
		}
	}
}

// downAfter is how long nothing must have been answered. Where the peer's packets
// brought traffic back to a path that was left, the path is slow rather than
// dead, and gets more time.
func (p *peer) downAfter(now time.Duration) time.Duration {
	after := p.small.timeout()
	if after < downAfter {
		after = downAfter
	}
	if after > mostDownAfter {
		after = mostDownAfter
	}
	if p.bounces > 0 && now-p.bounced > time.Minute {
		p.bounces = 0
	}
	return after << p.bounces
}

// fall notes that nothing passes any more.
func (e *Engine) fall(p *peer, why string) {
	p.phase, p.since, p.downFrom, p.nextSearch = down, e.now, e.now, 0
	e.stats.Falls++
	if e.gossips() && !p.fallen {
		e.fallen, p.fallen = append(e.fallen, p), true
	}
	if p.rumored() { // so a relay will hardly help, and all others try it, too
		p.tries.exhaust(e.now)
		if !e.urgent(p) {
			p.nextSearch = e.now + e.spread(p)
		}
	}
	p.tellers = nil
	if p.via != 0 {
		p.shun(p.via, e.now+avoidFor)
	} else {
		p.flapped(e.now)
	}
	e.out.Observe = true // the peer may have moved already
	e.event(p, why)
}

// flapped lets the direct path wait longer if it did not hold for long.
func (p *peer) flapped(now time.Duration) {
	switch {
	case p.cameBack == 0 || now-p.cameBack > mostHold:
		p.hold = firstHold
	case now-p.cameBack < 6*p.hold:
		p.hold *= 2
		if p.hold > mostHold {
			p.hold = mostHold
		}
	}
}

func (p *peer) shun(relay uint16, until time.Duration) {
	if p.avoid == nil {
		p.avoid = map[uint16]time.Duration{}
	}
	p.avoid[relay] = until
}

func (e *Engine) settleFailed(p *peer) {
	if p.back {
		p.back = false
		p.flapped(e.now)
	}
	p.phase, p.since = down, e.now
	if p.unsettled++; p.unsettled > quickSettles { // it takes nobody's packets, as it seems
		p.nextSearch = e.now + backOff(time.Second, p.unsettled-quickSettles, 30*time.Second)
	}
	if w := p.wayTo(p.kernel); w != nil && p.via == 0 {
		w.avoid = e.now + avoidFor
	}
	if p.via != 0 {
		if relay := e.peers[p.via]; relay != nil && relay.carrier && !p.carried() { // its agent may do
			p.portsLedNowhere(e.now)
			if s := p.search; s != nil && e.now-s.lastAsked > answerLife {
				p.search = nil // so that all are asked anew
			}
		} else {
			p.shun(p.via, e.now+avoidFor)
			if p.carried() { // ports are not to blame
				p.portsFail = [2]portsFail{}
			}
		}
		e.event(p, "the relay brings no answer")
	} else {
		e.event(p, "no answer")
	}
}

// decide chooses another path if this one does not do.
func (e *Engine) decide(p *peer) {
	e.serveAskers(p)
	e.watchDirect(p)
	e.seekSighting(p)
	late, _ := p.small.late(e.now)
	switch better := e.betterWay(p, late); {
	case p.phase == down:
		e.escape(p)
	case p.phase == settling:
	case p.via != 0 && e.directHolds(p):
		p.cameBack, p.back = e.now, true
		e.event(p, "the direct path is well again")
		e.route(p, p.direct, 0, p.directSmall.srtt)
	case better != nil:
		e.takeWay(p, better, "there is a better way")
	case late >= e.searchesAt(p) && (len(p.tellers) == 0 || e.urgent(p)):
		e.ask(p) // in case it gets worse
	case e.poor(p) != "":
		e.improve(p)
	case p.search != nil && e.now-p.search.begun > answerLife:
		p.search = nil
	}
}

// betterWay returns another endpoint than the one that works, if that is better; nil: none.
func (e *Engine) betterWay(p *peer, late int) *way {
	if p.ways == nil || p.phase != up || p.via != 0 || late > 0 {
		return nil
	}
	return e.preferred(p)
}

// escape leaves a path that is down.
func (e *Engine) escape(p *peer) {
	if w := e.worksNow(p); w != nil {
		e.takeWay(p, w, "it answers elsewhere")
		return
	}
	if (p.via != 0 || e.strays(p)) && e.directWorks(p) {
		what := "the direct path is back"
		if p.via == 0 {
			what = "it answers elsewhere, at " + p.direct.String()
		}
		e.event(p, what)
		p.cameBack = e.now
		e.route(p, p.direct, 0, p.directSmall.srtt)
		return
	}
	if e.tryResolved(p) {
		return
	}
	if e.now < p.nextSearch {
		return
	}
	if best, ok := e.best(p, false); ok {
		e.out.Observe = true
		e.route(p, best.at, best.relay.ID, best.rtt)
		e.event(p, "relayed from now on")
		return
	}
	if e.ask(p) {
		return
	}
	// All have been asked. What may still work is where it should be.
	p.exhausted++
	e.stats.SearchesFailed++
	wait := backOff(500*time.Millisecond, p.exhausted, 30*time.Second)
	if len(p.search.asked) == 0 { // there was nobody to ask, which changes soon if others fell with this one
		wait = min(max((e.now-p.downFrom)/4, shortestWait), time.Second)
		p.exhausted = min(p.exhausted, 3)
	}
	p.search, p.nextSearch = nil, e.now+wait
	if to := e.otherPlace(p); p.exhausted >= 3 && e.silent(p) && p.kernel.IsValid() && to.IsValid() {
		e.place(p, to)
		p.exhausted = 3
	}
}

func backOff(first time.Duration, times int, most time.Duration) time.Duration {
	for ; times > 0 && first < most; times-- {
		first *= 2
	}
	if first > most {
		return most
	}
	return first
}

// directWorks is for emergencies: the direct path answers just now.
func (e *Engine) directWorks(p *peer) bool {
	l := p.directSmall
	if l == nil {
		return false
	}
	l.settle(e.now)
	return l.good >= 4 && l.alive(e.now, time.Second)
}

// watchDirect notes since when the direct path is well: few probes lost, never
// for a second, none of full size missing. Stricter would keep traffic on a relay
// for good where one end is busy now and then, which no relay helps against.
func (e *Engine) watchDirect(p *peer) {
	l := p.directSmall
	if p.via == 0 && !e.strays(p) || l == nil {
		return
	}
	e.seekDirect(p)
	lost := l.lost(e.now)
	share, _ := l.loss(e.now)
	misses, _ := l.misses(e.now)
	missesFull, _ := p.directFull.misses(e.now)
	if misses > wellMisses || missesFull > 1 || lost > 2 && share > wellShare {
		p.wellSince = e.now
		l.recent, l.period = [2]tally{}, e.now // what was, has been judged
	}
}

// directHolds reports that the direct path was well for long enough and is no
// detour compared with the relay.
func (e *Engine) directHolds(p *peer) bool {
	l := p.directSmall
	if l == nil || p.directFull == nil || e.now-p.wellSince < p.holdFor() {
		return false
	}
	l.settle(e.now)
	p.directFull.settle(e.now)
	every := e.interval(p, e.now)
	return l.good >= 5 && p.directFull.good >= 1 && l.alive(e.now, every+time.Second) && l.srtt <= 2*p.small.srtt+50*time.Millisecond
}

// poor says why a path that is up is not good enough; "" if it is.
func (e *Engine) poor(p *peer) string {
	if fullDown(p.full, e.now) {
		return "packets of full size get lost"
	}
	if share, of := p.small.loss(e.now); of >= lossySamples && share > lossyShare && e.now-p.small.since > lossPeriod {
		return fmt.Sprintf("%.0f %% of the probes get lost", 100*share)
	}
	return ""
}

// improve looks for a path that is better than one that is up but poor, and
// moves once: after that it has to last.
func (e *Engine) improve(p *peer) {
	if e.now < p.nextMove {
		return
	}
	if p.moves > 0 && e.now-p.nextMove > mostHold {
		p.moves = 0
	}
	why := e.poor(p)
	if w := e.clean(p); w != nil && p.via == 0 {
		p.moves++
		p.nextMove = e.now + backOff(30*time.Second, p.moves, mostHold)
		p.flapped(e.now)
		e.takeWay(p, w, why+"; another way is better")
		return
	}
	best, ok := e.best(p, true)
	if !ok && e.ask(p) {
		return
	}
	p.moves++
	p.nextMove = e.now + backOff(30*time.Second, p.moves, mostHold)
	if !ok {
		p.search = nil
		e.stats.SearchesFailed++
		e.event(p, why+", and no relay is better")
		return
	}
	if p.via != 0 {
		p.shun(p.via, e.now+mostHold)
	} else {
		p.flapped(e.now)
	}
	e.route(p, best.at, best.relay.ID, best.rtt)
	e.event(p, why+"; relayed from now on")
}

// watchAside has the direct path judged anew, beside what is relayed.
func (p *peer) watchAside(now time.Duration) {
	if p.directSmall == nil {
		p.directSmall, p.directFull = &line{}, &line{}
	}
	p.directSmall.restart(now, 0)
	p.directFull.restart(now, 0)
	p.wellSince = now
	for _, w := range p.ways { // the other end does so, too, by now
		w.unanswered = 0
	}
}

// canWait reports that there is much to do for others, and no traffic with the peer.
func (e *Engine) canWait(p *peer) bool {
	return e.troubles >= manyTroubles && e.now >= p.activeUntil
}

// route has the kernel send to another endpoint, and waits for the first echo.
func (e *Engine) route(p *peer, to netip.AddrPort, via uint16, rtt time.Duration) {
	e.out.Routes = append(e.out.Routes, Route{p.ID, to})
	p.chosen, p.left = to, p.kernel
	e.moved(p, to, via, rtt)
}

// moved notes that traffic takes another way from now on.
func (e *Engine) moved(p *peer, to netip.AddrPort, via uint16, rtt time.Duration) {
	wasDirect := p.via == 0
	if w := p.wayTo(p.kernel); w != nil {
		w.restart(e.now)
	}
	p.better = nil
	p.sightingEvery, p.nextSighting = 0, e.now+time.Second
	p.kernel, p.via, p.phase, p.since = to, via, settling, e.now
	e.kind(p).Taken++
	p.sets, p.nextProbe, p.nextLook = 1, e.now, e.now+2*burstInterval
	settle := settleTime
	if via == 0 { // one that came back in spite of the engine is slow rather than dead
		settle <<= p.bounces
	}
	p.settleUntil = e.now + settle + 2*rtt
	if age := p.seen.HandshakeAge + e.now - p.seenAt; p.seen.HandshakeAge < 0 || age > sessionAge {
		p.settleUntil += rekeyTime
	}
	p.tries = limit{} // it is another path that is tried
	p.small.restart(e.now, rtt)
	if p.full != nil {
		p.full.restart(e.now, 0)
		p.nextFull = e.now + activeInterval
		if e.canWait(p) {
			p.nextFull = e.now + e.interval(p, e.now)
		}
	}
	if via != 0 && wasDirect {
		p.watchAside(e.now)
		p.nextDirect, p.nextDirectFull = e.now, e.now
		if e.canWait(p) {
			every := e.interval(p, e.now)
			p.nextDirect, p.nextDirectFull = e.now+every, e.now+5*every
		}
	}
}
