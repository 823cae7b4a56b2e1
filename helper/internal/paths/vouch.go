package paths

import (
	"slices"
	"time"

	"mobula/helper/internal/probe"
)

const (
	// askTime is how long a relay may take to find out.
	askTime = 350 * time.Millisecond
	// mostAskers bounds who waits for an answer about one peer.
	mostAskers = 64
	// manyPeers are too many to try a dead one for each.
	manyPeers = 50
)

// asker is a host that waits for an answer about a peer.
type asker struct {
	id       uint16
	sequence uint32
	until    time.Duration
}

// Asked hands in another host's question to which targets this one can relay. One that
// asks more than an agent does leaves the others their answers.
func (e *Engine) Asked(now time.Duration, from uint16, sequence uint32, targets ...uint16) {
	e.advance(now)
	asking := e.peers[from]
	if asking == nil {
		return
	}
	if !asking.questions.take(now, 0) || !e.replies.take(now, 0) {
		e.stats.QuestionsRefused++
		return
	}
	if beyond := len(targets) - MaxTargets; beyond > 0 {
		e.stats.ChecksRefused += uint64(beyond)
		targets = targets[:MaxTargets]
	}
	for _, target := range targets {
		if target != from {
			e.askedFor(asking, target, sequence)
		}
	}
}

// passesOn reports whether this host's relay ports take what another one sends: they know
// it by the document's endpoints, and send to the first one. They are IPv4's: where it sends
// from over IPv6 says nothing.
func (e *Engine) passesOn(asking *peer) bool {
	if !asking.Endpoint.IsValid() {
		return false
	}
	if asking.ways != nil && asking.elsewhere() {
		known := asking.direct.Addr().Is6() || asking.documented(asking.direct, e.config.Exact)
		if asking.announcedWay(asking.direct) { // it sends to relay ports from elsewhere
			known = e.passesNear(asking)
		}
		return known && e.worksAtFirst(asking)
	}
	return !asking.elsewhere() && (!e.config.Exact || asking.documented(asking.direct, true))
}

// askedFor answers for one target, or finds out.
func (e *Engine) askedFor(asking *peer, target uint16, sequence uint32) {
	p := e.peers[target]
	a := asker{asking.ID, sequence, e.now + askTime}
	if p == nil || !p.Endpoint.IsValid() || !e.config.Relays[target] || !e.passesOn(asking) || e.cutOff(p) {
		v := e.refusal(p)
		if e.reply(a, target, v); v.Carries {
			e.introduce(asking, p)
		}
		return
	}
	if l := e.vouched(p); l != nil {
		e.reply(a, target, e.verdict(p, l))
		return
	}
	if i := slices.IndexFunc(p.askers, func(other asker) bool { return other.id == a.id }); i >= 0 {
		p.askers[i] = a // its agent waits for no earlier answer any more
		return
	}
	if late, _ := p.small.late(e.now); e.gossips() && (late > 0 || p.rumored()) { // so it is being tried, or soon
		e.reply(a, target, e.refusal(p))
		return
	}
	if len(p.askers) >= mostAskers || len(p.askers) == 0 && !e.checks.take(e.now, 0) {
		e.stats.ChecksRefused++
		return
	}
	if !e.watchesDirect(p) {
		p.nextDirect = e.now
		if p.directSmall != nil {
			p.directSmall.restart(e.now, 0)
		}
	}
	p.askers = append(p.askers, a)
	e.touch(p)
}

// cutOff reports that the direct path is known not to work. Among many hosts one that is
// down for this one, which goes on trying, is not tried for others, too.
func (e *Engine) cutOff(p *peer) bool {
	if p.via != 0 {
		return p.elsewhere() || p.directSmall == nil || !p.directSmall.alive(e.now, e.fresh(p))
	}
	return e.now < p.denied || p.phase == down && len(e.peers) >= manyPeers
}

// checkInterval is the distance of direct probes because others asked.
func (e *Engine) checkInterval(p *peer) time.Duration {
	return max(burstInterval, askTime/time.Duration(e.needed(p)), min(e.perSilent(), askTime))
}

// vouched returns the line that proves that the direct path works just now.
func (e *Engine) vouched(p *peer) *line {
	if p.via == 0 && p.phase == up && !p.elsewhere() && p.small.alive(e.now, answerAge) {
		return p.small
	}
	if p.directSmall != nil && p.tried.Addr() == p.Endpoint.Addr() && p.directSmall.alive(e.now, answerAge) {
		return p.directSmall
	}
	return nil
}

func (e *Engine) verdict(p *peer, l *line) probe.Verdict {
	share, of := l.loss(e.now)
	if of < 10 {
		share = 0
	}
	full := p.full
	if p.via != 0 {
		full = p.directFull
	}
	return probe.Verdict{Reachable: true, Carries: p.carrier && p.phase == up && e.Carries(p.ID), FullSize: !fullDown(full, e.now),
		RTTMicroseconds: uint32(l.srtt / time.Microsecond), LossPermille: uint16(share * 1000)}
}

// vouch answers all who wait.
func (e *Engine) vouch(p *peer) {
	for _, a := range p.askers {
		e.reply(a, p.ID, e.verdict(p, p.directSmall))
	}
	p.askers = nil
}

// serveAskers tells those who waited long enough that there is no way.
func (e *Engine) serveAskers(p *peer) {
	kept := p.askers[:0]
	for _, a := range p.askers {
		if e.now < a.until {
			kept = append(kept, a)
		} else {
			e.reply(a, p.ID, e.refusal(p))
			if len(e.peers) >= manyPeers {
				p.denied = e.now + e.perSilent()
			}
		}
	}
	p.askers = kept
}

func (e *Engine) reply(a asker, target uint16, v probe.Verdict) {
	e.out.Replies = append(e.out.Replies, Reply{To: a.id, Target: target, Sequence: a.sequence, Verdict: v})
}
