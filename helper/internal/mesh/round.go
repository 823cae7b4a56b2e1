package mesh

import (
	"slices"
	"sort"
	"time"

	"mobula/helper/internal/report"
)

// Target is a host that is asked.
type Target struct {
	ID   uint16
	Name string
	// Way is how the asking host reaches it.
	Way report.Way
	// OtherGeneration and SameGeneration are what is known of its generation anyway.
	OtherGeneration, SameGeneration bool
}

const (
	// sendInterval is between two messages of one round, so 1,000 a second at most, of
	// which burst may go at once.
	sendInterval = time.Millisecond
	burst        = 5
	// maxOpen bounds the hosts that are waited for at a time.
	maxOpen = 256
	// A question that gets no answer is asked tries times, one to a host that seems to be
	// down anyway twice. firstWait is how long the first one has, at least, the others half
	// as much more each.
	tries     = 3
	triesDown = 2
	firstWait = 300 * time.Millisecond
	maxWait   = time.Second
	// A long answer ends after maxPages, and what all hosts tell after maxWays.
	maxPages = 8
	maxWays  = 100_000
	// maxClientPages are asked for because of clients alone: hosts have to answer in time,
	// however many clients all of them heard.
	maxClientPages = 500
	// Deadline is when a round ends, whoever has not answered.
	Deadline = 10 * time.Second
	// DetailedHosts is up to how many hosts all ways are asked for.
	DetailedHosts = 128
)

// round asks all hosts once. It is pure: the time, measured from its beginning, and answers
// come in, and questions go out.
type round struct {
	exceptions bool
	nonce      uint64 // of the first host; the next ones follow
	hosts      []*asked
	index      map[uint16]*asked
	next       int      // of hosts: the first that was not asked
	open       []*asked // asked, and not done
	nextSend   time.Duration
	ways       int // that were told
	clients    entries
	more       int // pages that were asked for because of clients
	over       bool
}

// asked is one host in a round.
type asked struct {
	Target
	nonce    uint64
	answer   report.Host
	after    uint16
	tries    int
	due      time.Duration // when it is asked again, or given up
	pages    int
	expected int // exceptions that the host has
	done     bool
	// afterClient is for clients what after is for ways. Of heard clients that the host has it
	// told that many; tells: it is of a version that does, up to now.
	afterClient uint16
	heard, told int
	tells       bool
}

// outgoing is a message to a host.
type outgoing struct {
	to   uint16
	data []byte
}

// newRound asks the targets in the order of their IDs, first those that seem to be up.
func newRound(targets []Target, exceptions bool, nonce uint64) *round {
	r := &round{exceptions: exceptions, nonce: nonce, index: map[uint16]*asked{}, clients: entries{}}
	for i, t := range targets {
		a := &asked{Target: t, nonce: nonce + uint64(i), answer: report.Host{HostID: t.ID, Name: t.Name, Answer: report.NotInTime}}
		r.hosts = append(r.hosts, a)
		r.index[t.ID] = a
	}
	sort.SliceStable(r.hosts, func(a, b int) bool {
		return r.hosts[a].Way.State != report.Down && r.hosts[b].Way.State == report.Down
	})
	return r
}

// tick returns what is to be sent now, and when it has to be called again.
func (r *round) tick(now time.Duration) (out []outgoing, again time.Duration) {
	if now >= Deadline {
		r.finish()
		return nil, now
	}
	r.nextSend = max(r.nextSend, now-(burst-1)*sendInterval)
	again = Deadline
	still := r.open[:0]
	for _, a := range r.open {
		switch {
		case a.done:
			continue
		case a.due > now:
			again = min(again, a.due)
		case a.tries >= a.maxTries():
			r.giveUp(a)
			continue
		case r.nextSend <= now:
			out = append(out, r.ask(a, now))
		}
		still = append(still, a)
	}
	clear(r.open[len(still):])
	r.open = still
	for r.next < len(r.hosts) && len(r.open) < maxOpen && r.nextSend <= now {
		a := r.hosts[r.next]
		r.next++
		r.open = append(r.open, a)
		out = append(out, r.ask(a, now))
	}
	for _, a := range r.open {
		again = min(again, max(a.due, r.nextSend))
	}
	if r.next < len(r.hosts) && len(r.open) < maxOpen {
		again = min(again, r.nextSend)
	}
	if r.next == len(r.hosts) && len(r.open) == 0 {
		r.finish()
	}
	return out, again
}

func (r *round) ask(a *asked, now time.Duration) outgoing {
	r.nextSend += sendInterval
	wait := min(max(firstWait, time.Duration(4*a.Way.RTT*float64(time.Millisecond))), maxWait)
	for i := 0; i < a.tries; i++ {
		wait += wait / 2
	}
	a.tries++
	a.due = now + wait
	return outgoing{a.ID, question{r.exceptions, true, a.after, a.afterClient, a.nonce}.append(nil)}
}

func (a *asked) maxTries() int {
	if a.Way.State == report.Down {
		return triesDown
	}
	return tries
}

func (r *round) giveUp(a *asked) {
	a.done = true
	switch {
	case a.pages > 0:
		a.answer.Answer = report.InPart
	case a.Way.State == report.Up:
		a.answer.Answer = report.Silent
	default:
		a.answer.Answer = report.Unreachable
	}
	if a.pages == 0 {
		a.answer.OtherGeneration = a.OtherGeneration
	}
}

// take takes a message that came from a host, and reports whether the round has to be ticked.
func (r *round) take(now time.Duration, from uint16, b []byte) bool {
	a := r.index[from]
	if a == nil || a.done || a.tries == 0 || r.over {
		return false
	}
	p, err := parsePage(b)
	if err != nil || p.nonce != a.nonce || p.after != a.after || p.afterClient != a.afterClient {
		return false
	}
	if p.head != nil {
		id, name := a.answer.HostID, a.answer.Name
		a.answer, a.expected = *p.head, p.exceptions
		a.answer.HostID, a.answer.Name = id, name
		a.heard, a.tells = p.heard, p.tells
	}
	a.pages++
	r.clients.take(from, p.clients, now)
	a.told += len(p.clients)
	if room := maxWays - r.ways; len(p.ways) > room {
		p.ways = p.ways[:room]
	}
	r.ways += len(p.ways)
	a.answer.Ways = append(a.answer.Ways, p.ways...)
	onlyClients := p.more && len(p.clients) > 0
	if onlyClients {
		r.more++
	}
	if !p.more || a.pages == maxPages || r.ways == maxWays || onlyClients && r.more > maxClientPages {
		a.done = true
		a.answer.UntoldWays = max(0, a.expected-a.exceptions())
		return true
	}
	if n := len(p.ways); n > 0 {
		a.after = p.ways[n-1].To
	}
	if n := len(p.clients); n > 0 {
		a.afterClient = p.clients[n-1].Number
	}
	a.tries, a.due = 0, 0
	return true
}

// toldClients reports that it is known of all clients whether the host heard them.
func (a *asked) toldClients() bool { return a.done && a.tells && a.told >= a.heard }

// unknownAt are the hosts of which that is not known, by their IDs.
func (r *round) unknownAt() (ids []uint16) {
	for _, a := range r.hosts {
		if !a.toldClients() {
			ids = append(ids, a.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (a *asked) exceptions() (n int) {
	for _, w := range a.answer.Ways {
		if w.Exception() {
			n++
		}
	}
	return n
}

// finish ends the round, whoever is still to answer.
func (r *round) finish() {
	r.over = true
	for _, a := range r.hosts {
		if !a.done && a.pages > 0 {
			a.answer.Answer = report.InPart
		}
	}
	r.open, r.next = nil, len(r.hosts)
}

// learn takes what is known of the hosts now: one that did not answer may be known to be down
// by now.
func (r *round) learn(targets []Target) {
	for _, t := range targets {
		a := r.index[t.ID]
		if a == nil || a.pages > 0 {
			continue
		}
		a.Target = t
		if a.done {
			r.giveUp(a)
		}
	}
}

// answers returns what all hosts said, by their IDs.
func (r *round) answers(generation string) []report.Host {
	all := make([]report.Host, 0, len(r.hosts))
	for _, a := range r.hosts {
		if a.pages == 0 && a.SameGeneration {
			a.answer.Generation = generation
		}
		all = append(all, a.answer)
	}
	sort.Slice(all, func(a, b int) bool { return all[a].HostID < all[b].HostID })
	return all
}
