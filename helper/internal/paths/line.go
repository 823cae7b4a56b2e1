package paths

import "time"

// ringSize is how many probes a line remembers. An answer that comes after so
// many younger probes were sent is not recognized any more: at the closest
// distance of burstInterval that is 1.28 s.
const ringSize = 64

const (
	// firstTimeout is how long an answer may take as long as nothing is known,
	// and the others bound what is computed from the round trips seen.
	firstTimeout = 250 * time.Millisecond
	minTimeout   = 50 * time.Millisecond
	maxTimeout   = 2 * time.Second
	// firstAnswers are those of which the quickest counts: the others may have waited for
	// WireGuard to shake hands.
	firstAnswers = 4
)

// line is one way of reaching a peer, watched by probes of one size. Probes are
// numbered from 1. The zero line has sent none.
type line struct {
	ring [ringSize]struct {
		at       time.Duration
		sequence uint32
		answered bool
	}
	last    uint32 // sent
	reached uint32 // the youngest that was answered, or that does not count any more
	good    uint32 // answered in a row since the last one that was not; a burst counts
	answers uint32 // ever, since the line began to count
	settled uint32 // up to here, answers and misses are counted in good and recent

	lastAnswer time.Duration // when the youngest answer came; 0: never
	srtt, dev  time.Duration // as in RFC 6298
	since      time.Duration // when the line began to count
	recent     [2]tally      // the running period and the one before
	period     time.Duration // when the running period began
}

// tally counts probes.
type tally struct {
	sent, answered uint32
	quickest       time.Duration // answer; 0: none came
}

// lossPeriod is the period of line.recent: loss is judged over one to two.
const lossPeriod = 10 * time.Second

// send notes a probe and returns its number.
func (l *line) send(now time.Duration) uint32 {
	l.settle(now)
	l.last++
	slot := &l.ring[l.last%ringSize]
	slot.at, slot.sequence, slot.answered = now, l.last, false
	return l.last
}

// answer notes an echo. It returns false for one that is unknown, too late or
// came before.
func (l *line) answer(now time.Duration, sequence uint32) (rtt time.Duration, ok bool) {
	slot := &l.ring[sequence%ringSize]
	if sequence == 0 || slot.sequence != sequence || slot.answered || slot.at < l.since {
		return 0, false
	}
	slot.answered = true
	if sequence <= l.settled && l.recent[0].answered < l.recent[0].sent {
		l.recent[0].answered++ // it was counted as lost, but was only late
	}
	if sequence > l.reached {
		l.reached = sequence
	}
	l.lastAnswer = now
	if l.answers++; l.answers == 1 { // what got lost before there was a way says nothing of it
		l.recent, l.period = [2]tally{}, now
		if sequence <= l.settled {
			l.recent[0] = tally{sent: 1, answered: 1}
		}
		l.settled = max(l.settled, sequence-1)
	}
	rtt = now - slot.at
	l.recent[0].quickest = least(l.recent[0].quickest, rtt)
	if l.srtt == 0 || l.answers <= firstAnswers && rtt < l.srtt {
		l.srtt, l.dev = rtt, rtt/2
		return rtt, true
	}
	l.dev += (absolute(l.srtt-rtt) - l.dev) / 4
	l.srtt += (rtt - l.srtt) / 8
	return rtt, true
}

// least is the smaller of two times of which zero is none.
func least(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func absolute(d time.Duration) time.Duration {
	if d < 0 {
		return -d
	}
	return d
}

// timeout is how long an answer may take before the probe counts as lost.
func (l *line) timeout() time.Duration {
	if l.srtt == 0 {
		return firstTimeout
	}
	t := l.srtt + 4*l.dev + 20*time.Millisecond
	if t < minTimeout {
		return minTimeout
	}
	if t > maxTimeout {
		return maxTimeout
	}
	return t
}

// patience is how long an answer takes normally. What takes longer is late, but
// not lost yet.
func (l *line) patience() time.Duration {
	if l.srtt == 0 {
		return firstTimeout
	}
	t := l.srtt + l.dev + 15*time.Millisecond
	if most := l.timeout(); t > most {
		return most
	}
	return t
}

// misses returns how many probes in a row got no answer in time, and when the
// first of them was sent.
func (l *line) misses(now time.Duration) (n int, first time.Duration) {
	return l.unanswered(now - l.timeout())
}

// late returns how many probes in a row got no answer in the usual time, and
// when the first of them was sent.
func (l *line) late(now time.Duration) (n int, first time.Duration) {
	return l.unanswered(now - l.patience())
}

// unanswered counts the youngest probes, among those sent up to limit, back to
// the last that was answered.
func (l *line) unanswered(limit time.Duration) (n int, first time.Duration) {
	for s := l.last; s > l.reached && l.last-s < ringSize; s-- {
		if at := l.ring[s%ringSize].at; at <= limit {
			n++
			first = at
		}
	}
	return n, first
}

// settle counts what can be counted by now, in the order of sending.
func (l *line) settle(now time.Duration) {
	if now-l.period >= lossPeriod {
		l.recent[1], l.recent[0] = l.recent[0], tally{}
		if now-l.period >= 2*lossPeriod {
			l.recent[1] = tally{}
		}
		l.period = now
	}
	if l.last-l.settled > ringSize {
		l.settled = l.last - ringSize
	}
	limit := now - l.timeout()
	for l.settled < l.last {
		slot := &l.ring[(l.settled+1)%ringSize]
		if !slot.answered && slot.at > limit {
			return
		}
		l.settled++
		l.recent[0].sent++
		if slot.answered {
			l.recent[0].answered++
			l.good++
		} else {
			l.good = 0
		}
	}
}

// loss returns the share of lost probes over the last one or two periods and
// how many there were.
func (l *line) loss(now time.Duration) (share float64, of int) {
	lost := l.lost(now)
	sent := l.recent[0].sent + l.recent[1].sent
	if sent == 0 {
		return 0, 0
	}
	return float64(lost) / float64(sent), int(sent)
}

// lost returns how many probes were lost over the last one or two periods.
func (l *line) lost(now time.Duration) int {
	l.settle(now)
	return int(l.recent[0].sent + l.recent[1].sent - l.recent[0].answered - l.recent[1].answered)
}

// quickest is the shortest round trip of the last one or two periods: what the way takes,
// without what its ends had to do else. Where no answer came it is the usual one.
func (l *line) quickest() time.Duration {
	if d := least(l.recent[0].quickest, l.recent[1].quickest); d > 0 {
		return d
	}
	return l.srtt
}

// restart forgets misses and losses, because the line leads another way now.
// The round trip is kept as an estimate unless another one is given.
func (l *line) restart(now, srtt time.Duration) {
	l.reached, l.settled, l.good, l.answers, l.since = l.last, l.last, 0, 0, now
	l.recent, l.period, l.lastAnswer = [2]tally{}, now, 0
	if srtt > 0 {
		l.srtt, l.dev = srtt, srtt/2
	}
}

// clear forgets losses, but not when the last answer came.
func (l *line) clear(now time.Duration) {
	last := l.lastAnswer
	l.restart(now, 0)
	l.lastAnswer = last
}

// forgive lets the outstanding probes count no more, neither as answered nor as
// missed.
func (l *line) forgive() { l.reached, l.settled = l.last, l.last }

// alive reports whether an answer came within the given time and none is
// missing now.
func (l *line) alive(now, within time.Duration) bool {
	n, _ := l.misses(now)
	return l.lastAnswer > 0 && now-l.lastAnswer <= within && n == 0
}
