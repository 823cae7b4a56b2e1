package paths

import (
	"slices"
	"time"

	"mobula/helper/internal/probe"
)

const (
	// perRound is how many relays are asked at once.
	perRound = 4
	// A round lasts roundTime, later rounds of the same search lateRoundTime.
	roundTime     = 150 * time.Millisecond
	lateRoundTime = 2 * time.Second
	quickRounds   = 5
	// choiceTime is how long the engine waits for a better answer than the first.
	choiceTime = 40 * time.Millisecond
	// answerLife is how long an answer counts.
	answerLife = 2 * time.Second
	// askTime is how long a relay may take to find out.
	askTime = 350 * time.Millisecond
	// shortestWait is how soon a search begins again that found nobody to ask.
	shortestWait = 50 * time.Millisecond
	// mostAskers bounds who waits for an answer about one peer.
	mostAskers = 64
)

// search is one attempt to find a relay for a peer.
type search struct {
	begun, next time.Duration
	lastAsked   time.Duration
	rounds      int
	asked       map[uint16]uint32 // relay → sequence number
	open        int               // without an answer yet
	first       time.Duration     // the first good answer
	answers     map[uint16]answer
}

type answer struct {
	at      time.Duration
	verdict probe.Verdict
}

// ask goes on with the search and returns false when everybody was asked and
// had time to answer.
func (e *Engine) ask(p *peer) bool {
	if p.search == nil {
		p.search = &search{begun: e.now, asked: map[uint16]uint32{}, answers: map[uint16]answer{}}
	}
	s := p.search
	if e.now < s.next {
		return true
	}
	chosen := e.candidates(p)
	if len(chosen) == 0 {
		return len(s.asked) > 0 && e.now-s.lastAsked < askTime+100*time.Millisecond
	}
	for _, c := range chosen {
		if !e.queries.take(e.now, 0) {
			break
		}
		e.query++
		s.asked[c.ID] = e.query
		s.open++
		s.lastAsked = e.now
		e.out.Queries = append(e.out.Queries, Query{Relay: c.ID, Target: p.ID, Sequence: e.query})
	}
	s.rounds++
	s.next = e.now + roundTime
	if s.rounds > quickRounds {
		s.next = e.now + lateRoundTime
	}
	return true
}

// candidates returns a few hosts that this one reaches well and directly: the
// nearest ones and others by chance, so that not everybody asks the same.
func (e *Engine) candidates(p *peer) []*peer {
	var all []*peer
	for _, c := range e.helping() {
		if _, asked := p.search.asked[c.ID]; !asked && c != p && e.now >= p.avoid[c.ID] {
			all = append(all, c)
		}
	}
	for i := 0; i < perRound && i < len(all); i++ {
		pick := i + e.random.Intn(len(all)-i)
		if i < perRound/2 {
			for j := i; j < len(all); j++ {
				if all[j].small.srtt < all[pick].small.srtt {
					pick = j
				}
			}
		}
		all[i], all[pick] = all[pick], all[i]
	}
	if len(all) > perRound {
		all = all[:perRound]
	}
	return all
}

// helping returns the peers that could relay, as of a moment ago: when thousands
// look for a way at once, looking for each anew would be too much.
func (e *Engine) helping() []*peer {
	if e.helpers == nil || e.now-e.helpersAt > activeInterval {
		e.helpers, e.helpersAt = make([]*peer, 0, len(e.order)), e.now
		for _, c := range e.order {
			if e.couldRelay(c) {
				e.helpers = append(e.helpers, c)
			}
		}
	}
	return e.helpers
}

func (e *Engine) couldRelay(c *peer) bool {
	misses, _ := c.small.misses(e.now)
	return !c.NoRelay && c.phase == up && c.via == 0 && c.expected() && misses < 3 && c.small.lastAnswer > 0 && e.now-c.small.lastAnswer < e.fresh(c)
}

// best returns the relay with the shortest way, once there was time to compare.
// Only a good one will do if clean.
func (e *Engine) best(p *peer, clean bool) (relay uint16, rtt time.Duration, ok bool) {
	s := p.search
	if s == nil || s.first == 0 || s.open > 0 && e.now-s.first < choiceTime {
		return 0, 0, false
	}
	var least time.Duration
	for _, c := range e.order { // in a fixed order
		a, answered := s.answers[c.ID]
		if !answered || !a.verdict.Reachable || e.now-a.at > answerLife || e.now < p.avoid[c.ID] || !e.couldRelay(c) {
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
		if !ok || cost < least {
			relay, rtt, least, ok = c.ID, way, cost, true
		}
	}
	return relay, rtt, ok
}

// Answer hands in what a relay said.
func (e *Engine) Answer(now time.Duration, relay, target uint16, sequence uint32, v probe.Verdict) {
	e.advance(now)
	p := e.peers[target]
	if p == nil || p.search == nil || p.search.asked[relay] != sequence || sequence == 0 {
		return
	}
	s := p.search
	if _, twice := s.answers[relay]; twice {
		return
	}
	s.answers[relay] = answer{now, v}
	s.open--
	if v.Reachable && s.first == 0 {
		s.first = now
	}
	e.touch(p)
}

// asker is a host that waits for an answer about a peer.
type asker struct {
	id       uint16
	sequence uint32
	until    time.Duration
}

// Asked hands in another host's question whether this one can relay to target. One that
// asks more than an agent does leaves the others their answers.
func (e *Engine) Asked(now time.Duration, from, target uint16, sequence uint32) {
	e.advance(now)
	asking := e.peers[from]
	if asking == nil || from == target || !asking.questions.take(now, 0) || !e.replies.take(now, 0) {
		return
	}
	p := e.peers[target]
	if p == nil || !e.config.Relays[target] || p.via != 0 && p.elsewhere() {
		e.reply(asker{id: from, sequence: sequence}, target, probe.Verdict{})
		return
	}
	a := asker{from, sequence, now + askTime}
	if l := e.vouched(p); l != nil {
		e.reply(a, target, e.verdict(p, l))
		return
	}
	if i := slices.IndexFunc(p.askers, func(other asker) bool { return other.id == from }); i >= 0 {
		p.askers[i] = a // its agent waits for no earlier answer any more
		return
	}
	if len(p.askers) >= mostAskers {
		return
	}
	if !e.watchesDirect(p) {
		p.nextDirect = now
		if p.directSmall != nil {
			p.directSmall.restart(now, 0)
		}
	}
	p.askers = append(p.askers, a)
	e.touch(p)
}

// vouched returns the line that proves that the direct path works just now.
func (e *Engine) vouched(p *peer) *line {
	if p.via == 0 && p.phase == up && !p.elsewhere() && p.small.alive(e.now, answerAge) {
		return p.small
	}
	if p.directSmall != nil && p.directSmall.alive(e.now, answerAge) {
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
	return probe.Verdict{Reachable: true, FullSize: !fullDown(full, e.now),
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
			e.reply(a, p.ID, probe.Verdict{})
		}
	}
	p.askers = kept
}

func (e *Engine) reply(a asker, target uint16, v probe.Verdict) {
	e.out.Replies = append(e.out.Replies, Reply{To: a.id, Target: target, Sequence: a.sequence, Verdict: v})
}
