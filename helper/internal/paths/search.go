package paths

import (
	"net/netip"
	"slices"
	"sort"
	"time"

	"mobula/helper/internal/probe"
)

const (
	// perRound is how many relays are asked at once.
	perRound = 4
	// A round lasts roundTime, those after quickRelays were asked lateRoundTime. Among
	// many hosts one without traffic that fell alone may be dead: there is less hurry
	// after fewQuickRelays.
	roundTime      = 150 * time.Millisecond
	calmRoundTime  = 500 * time.Millisecond
	lateRoundTime  = 2 * time.Second
	quickRelays    = 5*perRound + 1
	fewQuickRelays = 2
	// choiceTime is how long the engine waits for a better answer than the first.
	choiceTime = 40 * time.Millisecond
	// answerLife is how long an answer counts.
	answerLife = 2 * time.Second
	// shortestWait is how soon a search begins again that found nobody to ask.
	shortestWait = 50 * time.Millisecond
	// yieldTime is how long one end of a path leaves the search to the other.
	yieldTime = time.Second
	// MaxTargets is how many targets a question has at most.
	MaxTargets = 32
	// latelyAnswered is how many relays are remembered that have just answered.
	latelyAnswered = 32
)

// search is one attempt to find a relay for a peer.
type search struct {
	begun, lastAsked time.Duration
	rounds           int
	wanted           int               // relays to be asked yet in this round
	asked            map[uint16]uint32 // relay → sequence number
	open             int               // without an answer yet
	first            time.Duration     // the first good answer
	port             bool              // there is one of a relay port
	portsLeft        bool              // see there, as of portsAt, when portsOf had been asked
	portsAt          time.Duration
	portsOf          int
	answers          map[uint16]answer
}

type answer struct {
	at      time.Duration
	verdict probe.Verdict
}

// ask goes on with the search and returns false when everybody was asked and
// had time to answer.
func (e *Engine) ask(p *peer) bool {
	if p.search == nil {
		e.stats.Searches++
		p.search = &search{begun: e.now, asked: map[uint16]uint32{}, answers: map[uint16]answer{}}
	}
	s := p.search
	if s.wanted > 0 || e.now < e.nextRound(p) || e.yields(p) {
		return true
	}
	if e.candidate(p) == nil {
		return len(s.asked) > 0 && e.now-s.lastAsked < askTime+100*time.Millisecond
	}
	s.wanted = perRound
	switch { // so many others may ask the same
	case e.now >= p.activeUntil:
		s.wanted = min(max(silentPerSecond/len(e.peers), 1), max(perRound*manyTroubles/(2*max(e.troubles, 1)), 1), perRound)
	case e.crowded(p):
		s.wanted = min(max(busyPerSecond/p.busy, 1), perRound)
	}
	if !p.seeking {
		p.seeking = true
		e.seeking = append(e.seeking, p)
	}
	return true
}

// yields reports that the other end of the path may look for a relay first: when there
// is much to do, one end will do.
func (e *Engine) yields(p *peer) bool {
	return e.canWait(p) && e.config.Self > p.ID && p.search.rounds == 0 && e.now-p.search.begun < yieldTime
}

// sendQuestions asks for peers that wait for it, as many as may be: those with traffic
// first, and those that were asked for least. Who has to be asked for one, is asked for
// others, too.
func (e *Engine) sendQuestions() {
	if len(e.seeking) == 0 || !e.queries.has(e.now, 0) {
		return
	}
	e.stopSeeking()
	sort.SliceStable(e.seeking, func(i, j int) bool {
		a, b := e.seeking[i], e.seeking[j]
		if busy := e.now < a.activeUntil; busy != (e.now < b.activeUntil) {
			return busy
		}
		return a.search.rounds < b.search.rounds
	})
	for i, p := range e.seeking {
		for p.search.wanted > 0 {
			relay := e.relayFor(p, e.seeking[i:])
			if relay == nil {
				p.search.wanted = 0
				break
			}
			if !e.queries.take(e.now, 0) {
				e.stopSeeking()
				return
			}
			e.question(relay, e.seeking[i:])
		}
	}
	e.stopSeeking()
}

// stopSeeking drops those that do not wait any more.
func (e *Engine) stopSeeking() {
	e.seeking = slices.DeleteFunc(e.seeking, func(p *peer) bool {
		p.seeking = p.search != nil && p.search.wanted > 0
		return !p.seeking
	})
}

// question asks a relay for the first peer, and for others that wait.
func (e *Engine) question(relay *peer, waiting []*peer) {
	e.query++
	most := 1
	if relay.lists {
		most = MaxTargets
	}
	var targets []uint16
	for _, p := range waiting {
		if len(targets) == most {
			break
		}
		s := p.search
		if s.wanted == 0 || !e.mayAsk(p, relay) {
			continue
		}
		targets = append(targets, p.ID)
		s.asked[relay.ID], s.lastAsked = e.query, e.now
		s.open++
		if s.wanted--; s.wanted == 0 {
			s.rounds++
		}
	}
	e.out.Queries = append(e.out.Queries, Query{Relay: relay.ID, Targets: targets, Sequence: e.query})
}

// nextRound is when the search goes on.
func (e *Engine) nextRound(p *peer) time.Duration {
	alone := (e.now >= p.activeUntil || e.crowded(p) && p.busy > busyPerSecond/perRound) && len(e.peers) >= manyPeers && e.troubles < manyTroubles
	switch s := p.search; {
	case s.rounds == 0:
		return 0
	case len(s.asked) >= quickRelays:
		return s.lastAsked + lateRoundTime
	case alone && len(s.asked) >= fewQuickRelays:
		return s.lastAsked + calmRoundTime
	default:
		return s.lastAsked + roundTime
	}
}

// mayAsk reports whether a relay was not asked for the peer yet, and is not known to fail.
func (e *Engine) mayAsk(p, relay *peer) bool {
	_, asked := p.search.asked[relay.ID]
	// Who has relay ports is asked first, where ports may lead to the peer.
	early := p.Endpoint.IsValid() && len(p.search.asked) < perRound && !e.portsDo(p, relay) && e.portsLeft(p)
	return !asked && !early && relay != p && e.now >= p.avoid[relay.ID]
}

// portsLeft reports that somebody has relay ports and can be asked for the peer yet.
func (e *Engine) portsLeft(p *peer) bool {
	s := p.search
	if s.portsAt != e.now || s.portsOf != len(s.asked) {
		s.portsAt, s.portsOf = e.now, len(s.asked)
		s.portsLeft = slices.ContainsFunc(e.helping(), func(c *peer) bool {
			_, asked := s.asked[c.ID]
			return c != p && !asked && e.now >= p.avoid[c.ID] && e.portsDo(p, c)
		})
	}
	return s.portsLeft
}

// relayFor returns whom to ask for the first of those who wait; nil: there is nobody.
// Who has just answered is best, unless that leaves the others waiting.
func (e *Engine) relayFor(p *peer, waiting []*peer) *peer {
	var best *peer
	most := 0
	for _, c := range e.answered {
		if !e.mayAsk(p, c) || !e.couldHelp(c) {
			continue
		}
		if n := e.wouldAsk(c, waiting); n > most {
			best, most = c, n
		}
		if most == min(len(waiting), MaxTargets) {
			break
		}
	}
	if 2*most >= min(len(waiting), MaxTargets) {
		return best
	}
	if other := e.candidate(p); other != nil && (best == nil || e.wouldAsk(other, waiting) > 2*most) {
		return other
	}
	return best
}

// wouldAsk counts for how many of those who wait one question to the relay could ask.
func (e *Engine) wouldAsk(relay *peer, waiting []*peer) (n int) {
	for _, p := range waiting {
		if n == MaxTargets || n == 1 && !relay.lists {
			break
		}
		if p.search.wanted > 0 && e.mayAsk(p, relay) {
			n++
		}
	}
	return n
}

// candidate returns a host that this one reaches well and directly; nil: there is no
// other one. In turn one of the nearest and one by chance, so that not everybody asks
// the same.
func (e *Engine) candidate(p *peer) *peer {
	all := e.helping()
	if p.search.wanted <= perRound/2 && len(all) > 0 {
		for tries := 0; tries < 8; tries++ {
			if c := all[e.random.Intn(len(all))]; e.mayAsk(p, c) {
				return c
			}
		}
	}
	var nearest *peer
	for _, c := range all {
		if e.mayAsk(p, c) && (nearest == nil || c.small.srtt < nearest.small.srtt) {
			nearest = c
		}
	}
	return nearest
}

// helping returns the peers that could relay, as of a moment ago: when thousands
// look for a way at once, looking for each anew would be too much.
func (e *Engine) helping() []*peer {
	if e.helpers == nil || e.now-e.helpersAt > activeInterval {
		e.helpers, e.helpersAt = make([]*peer, 0, len(e.order)), e.now
		for _, c := range e.order {
			if e.couldHelp(c) {
				e.helpers = append(e.helpers, c)
			}
		}
	}
	return e.helpers
}

// couldHelp reports that a host is reached well and directly, and relays in either way.
func (e *Engine) couldHelp(c *peer) bool {
	misses, _ := c.small.misses(e.now)
	return c.phase == up && c.via == 0 && (c.carrier || e.hasPorts(c)) && misses < 3 && c.small.lastAnswer > 0 && e.now-c.small.lastAnswer < e.fresh(c)
}

// hasPorts reports that a host has relay ports that this one can send to.
func (e *Engine) hasPorts(c *peer) bool { return !c.NoRelay && e.relayPlace(c).IsValid() }

// portsFail says when a peer did not answer by a relay's ports.
type portsFail struct {
	relay uint16
	at    time.Duration
}

// portsLedNowhere notes that the peer did not answer by the ports of who relays.
func (p *peer) portsLedNowhere(now time.Duration) {
	if p.portsFail[0].relay != p.via {
		p.portsFail[1] = p.portsFail[0]
	}
	p.portsFail[0] = portsFail{p.via, now}
}

// portsDo reports that a relay has ports, and they may lead to the peer.
func (e *Engine) portsDo(p, relay *peer) bool {
	for _, f := range p.portsFail {
		if f.relay == relay.ID && e.now < f.at+avoidFor {
			return false
		}
	}
	return e.hasPorts(relay)
}

// portsDoNot reports that two relays' ports have failed, so that those of others will, too:
// a NAT in front of either end has it come from elsewhere than where they know it.
func (p *peer) portsDoNot(now time.Duration) bool {
	return p.portsFail[1].relay != 0 && now < p.portsFail[1].at+mostHold
}

// relayed is a way over a relay.
type relayed struct {
	relay *peer
	at    netip.AddrPort // where WireGuard sends to
	rtt   time.Duration
}

// best returns the shortest way over a relay, once there was time to compare. Only a good
// one will do if clean.
func (e *Engine) best(p *peer, clean bool) (best relayed, ok bool) {
	s := p.search
	wait := choiceTime
	if s != nil && !s.port && p.Endpoint.IsValid() { // which take longer to find out
		wait = askTime
	}
	if s == nil || s.first == 0 || s.open > 0 && e.now-s.first < wait {
		return best, false
	}
	var least time.Duration
	for id, a := range s.answers {
		c := e.peers[id]
		carries := c != nil && a.verdict.Carries && c.carrier
		ports := c != nil && a.verdict.Reachable && e.portsDo(p, c) && !(carries && p.portsDoNot(e.now))
		if !ports && !carries || e.now-a.at > answerLife || e.now < p.avoid[id] || !e.couldHelp(c) {
			continue
		}
		loss, _ := c.small.loss(e.now)
		loss += float64(a.verdict.LossPermille) / 1000
		full := a.verdict.FullSize && !fullDown(c.full, e.now)
		if clean && (loss > cleanShare || !full) {
			continue
		}
		way := c.small.srtt + time.Duration(a.verdict.RTTMicroseconds)*time.Microsecond
		cost := way + time.Duration(loss*float64(2*time.Second))
		if !full {
			cost += 10 * time.Second
		}
		at := Carried(c.ID, p.ID)
		if ports {
			at = e.relayTo(c, p.ID)
		} else {
			cost += carryCost
		}
		if ports && p.portsDoNot(e.now) {
			cost += 2 * carryCost
		}
		if !ok || cost < least || cost == least && id < best.relay.ID {
			best, least, ok = relayed{c, at, way}, cost, true
		}
	}
	return best, ok
}

// Answer hands in what a relay said.
func (e *Engine) Answer(now time.Duration, relay, target uint16, sequence uint32, v probe.Verdict) {
	e.advance(now)
	p := e.peers[target]
	if p == nil || p.search == nil || p.search.asked[relay] != sequence || sequence == 0 {
		return
	}
	e.heardOf(e.peers[relay])
	s := p.search
	if _, twice := s.answers[relay]; twice {
		return
	}
	s.answers[relay] = answer{now, v}
	s.open--
	s.port = s.port || v.Reachable
	if (v.Reachable || v.Carries) && s.first == 0 {
		s.first = now
	}
	e.touch(p)
}

// heardOf notes that a relay answers.
func (e *Engine) heardOf(relay *peer) {
	if relay == nil || len(e.answered) > 0 && e.answered[0] == relay {
		return
	}
	e.answered = slices.DeleteFunc(e.answered, func(other *peer) bool { return other == relay })
	e.answered = slices.Insert(e.answered, 0, relay)
	e.answered = e.answered[:min(len(e.answered), latelyAnswered)]
}

// ReadsLists notes whether a peer's agent takes questions with many targets.
func (e *Engine) ReadsLists(id uint16, lists bool) {
	if p := e.peers[id]; p != nil {
		p.lists = lists
	}
}
