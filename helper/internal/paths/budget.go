package paths

import (
	"time"

	"mobula/helper/internal/bucket"
)

// count notes whether a peer is in trouble: its answers are late, or it has just fallen.
func (e *Engine) count(p *peer, trouble bool) {
	switch {
	case trouble && !p.trouble:
		e.troubles++
	case !trouble && p.trouble:
		e.troubles--
	}
	p.trouble = trouble
}

// needed is how many probes in a row must be late for a path to be down. Fewer do for
// a peer without traffic among many, of which all hosts together must not ask too much
// when it is dead, and when so many are late that there is no time for more.
func (e *Engine) needed(p *peer) int {
	if p.stray > strayShare || e.stray > strayShare {
		return downMisses
	}
	if p.rumored() {
		return toldMisses
	}
	n := probesPerSecond / 2 / max(e.troubles, 1)
	switch {
	case e.now >= p.activeUntil:
		n = min(n, silentPerSecond/len(e.peers))
	case e.crowded(p):
		n = min(n, busyPerSecond/p.busy)
	}
	return min(max(n, fewMisses), downMisses)
}

// strayed notes how many probes were lost before one that was answered.
func (e *Engine) strayed(p *peer, lost uint32) {
	share := float64(lost) / float64(lost+1)
	p.stray += (share - p.stray) / 20
	e.stray += (share - e.stray) / 200
}

// searchesAt is how many late probes in a row have relays be asked, in case it gets worse:
// whoever then says that it reaches the peer proves that the peer was not just slow. It is
// half of those that are needed, but not one alone, as a relay may vouch with what it heard
// just before.
func (e *Engine) searchesAt(p *peer) int { return max((e.needed(p)+1)/2, 2) }

// mayTry bounds what is sent to a peer that does not answer.
func (e *Engine) mayTry(p *peer) bool {
	rate := float64(time.Second) / float64(e.perTry(p))
	p.tries.perSecond, p.tries.most = rate, max(rate, float64(e.needed(p)))
	return p.tries.take(e.now, 0)
}

// perSilent is the mean distance of what one host sends to one that does not answer.
func (e *Engine) perSilent() time.Duration { return share(len(e.peers), silentPerSecond) }

// perTry is perSilent for a peer as it is: one that carries traffic of many is tried more
// often by these.
func (e *Engine) perTry(p *peer) time.Duration {
	if e.crowded(p) {
		return min(share(p.busy, busyPerSecond), e.perSilent())
	}
	return e.perSilent()
}

// limit bounds a rate, in the engine's own time.
type limit struct {
	perSecond, most float64
	bucket          bucket.Bucket
}

// take returns whether one more is allowed while at least spare stay left.
func (l *limit) take(now time.Duration, spare float64) bool {
	return l.bucket.TakeSparing(moment(now), l.perSecond, l.most, spare)
}

// has returns whether take would.
func (l *limit) has(now time.Duration, spare float64) bool {
	return l.bucket.Has(moment(now), l.perSecond, l.most, spare)
}

// exhaust has everything be used up.
func (l *limit) exhaust(now time.Duration) { l.bucket.Empty(moment(now)) }

func moment(now time.Duration) time.Time { return time.Time{}.Add(now) }
