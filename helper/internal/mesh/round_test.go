package mesh

import (
	"container/heap"
	"math/rand"
	"testing"
	"time"

	"mobula/helper/internal/report"
)

// simulation is a round over hosts in virtual time.
type simulation struct {
	*round
	hosts  map[uint16]*simulated
	random *rand.Rand
	loss   float64 // of each message
	now    time.Duration
	events events

	sent, most int // messages, and hosts that were waited for at a time
	lastSent   []time.Duration
}

type simulated struct {
	snapshot *Snapshot
	rtt      time.Duration
	silent   bool
	before   bool // of the version that knows no clients
	first    bool // page alone it answers
}

// event is an answer that arrives.
type event struct {
	at   time.Duration
	from uint16
	data []byte
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(a, b int) bool { return e[a].at < e[b].at }
func (e events) Swap(a, b int)      { e[a], e[b] = e[b], e[a] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

// newSimulation has n hosts beside the one that asks, each with that many ways.
func newSimulation(n, ways int, rtt time.Duration) *simulation {
	s := &simulation{hosts: map[uint16]*simulated{}, random: rand.New(rand.NewSource(1))}
	snapshot := NewSnapshot(someHost(), someWays(ways), nil)
	for id := uint16(2); int(id) < n+2; id++ {
		s.hosts[id] = &simulated{snapshot: snapshot, rtt: rtt}
	}
	return s
}

// run lets the round take its course and returns how long that takes.
func (s *simulation) run(t *testing.T, state func(id uint16) string) time.Duration {
	t.Helper()
	var targets []Target
	for id := uint16(2); int(id) < len(s.hosts)+2; id++ {
		targets = append(targets, Target{ID: id, Way: report.Way{To: id, State: state(id)}})
	}
	s.round = newRound(targets, len(targets) >= DetailedHosts, 1000)
	for turns := 0; ; turns++ {
		if turns > 1_000_000 {
			t.Fatal("the round does not end")
		}
		out, again := s.tick(s.now)
		for _, m := range out {
			s.carry(t, m)
		}
		s.most = max(s.most, len(s.open))
		if s.over {
			return s.now
		}
		if again <= s.now {
			t.Fatalf("after %v: wants to be called at %v", s.now, again)
		}
		if len(s.events) > 0 && s.events[0].at <= again {
			e := heap.Pop(&s.events).(event)
			s.now = max(s.now, e.at)
			s.take(s.now, e.from, e.data)
			continue
		}
		s.now = again
	}
}

func (s *simulation) carry(t *testing.T, m outgoing) {
	t.Helper()
	s.sent++
	s.lastSent = append(s.lastSent, s.now)
	if n := len(s.lastSent); n > 110 && s.now-s.lastSent[n-110] < 100*time.Millisecond {
		t.Fatalf("after %v: more than 110 messages within 100 ms", s.now)
	}
	h := s.hosts[m.to]
	q, err := parseQuestion(m.data)
	if err != nil {
		t.Fatal(err)
	}
	if h.before {
		q.clients, q.afterClient = false, 0
	}
	if h.first && q.after+q.afterClient > 0 {
		return
	}
	if !h.silent && s.random.Float64() >= s.loss && s.random.Float64() >= s.loss {
		heap.Push(&s.events, event{s.now + h.rtt, m.to, h.snapshot.page(q)})
	}
}

func (s *simulation) count() map[string]int {
	n := map[string]int{}
	for _, h := range s.answers("") {
		n[h.Answer]++
	}
	return n
}

// TestRounds: who is asked answers, whatever the network does, in bounded time, over a
// bounded number of open questions, and with a bounded number of messages a second.
func TestRounds(t *testing.T) {
	up := func(uint16) string { return report.Up }
	for _, c := range []struct {
		what   string
		hosts  int
		rtt    time.Duration
		loss   float64
		down   func(id uint16) bool
		state  func(id uint16) string // as the asking host knows
		most   time.Duration
		answer map[string]int
	}{
		{what: "few", hosts: 2, rtt: time.Millisecond, most: 10 * time.Millisecond, answer: map[string]int{report.Answered: 2}},
		{what: "a hundred, ten of them down", hosts: 99, rtt: 80 * time.Millisecond, down: func(id uint16) bool { return id%10 == 0 }, most: 2 * time.Second,
			answer: map[string]int{report.Answered: 89, report.Unreachable: 10}, state: func(id uint16) string {
				if id%10 == 0 {
					return report.Down
				}
				return report.Up
			}},
		{what: "a hundred, ten of an older version", hosts: 99, rtt: 80 * time.Millisecond, down: func(id uint16) bool { return id%10 == 0 }, most: 2 * time.Second,
			answer: map[string]int{report.Answered: 89, report.Silent: 10}, state: up},
		{what: "lossy", hosts: 99, rtt: 50 * time.Millisecond, loss: 0.05, most: 3 * time.Second, answer: map[string]int{report.Answered: 99}},
		{what: "3,000", hosts: 2999, rtt: 200 * time.Millisecond, most: Deadline / 2, answer: map[string]int{report.Answered: 2999}},
		{what: "3,000, half of them down", hosts: 2999, rtt: 200 * time.Millisecond, down: func(id uint16) bool { return id%2 == 0 }, most: Deadline,
			answer: map[string]int{report.Answered: 1499, report.Unreachable: 1500}, state: func(id uint16) string {
				if id%2 == 0 {
					return report.Down
				}
				return report.Up
			}},
		{what: "3,000, all of them down", hosts: 2999, down: func(uint16) bool { return true }, most: Deadline,
			answer: map[string]int{report.Unreachable: 2999}, state: func(uint16) string { return report.Down }},
	} {
		s := newSimulation(c.hosts, c.hosts, c.rtt)
		s.loss = c.loss
		for id, h := range s.hosts {
			h.silent = c.down != nil && c.down(id)
		}
		state := c.state
		if state == nil {
			state = up
		}
		took := s.run(t, state)
		if took > c.most {
			t.Errorf("%s: it took %v, wanted %v at most", c.what, took, c.most)
		}
		if s.most > maxOpen || c.hosts > maxOpen && s.most < maxOpen/2 {
			t.Errorf("%s: %d questions were open at a time, wanted %d at most", c.what, s.most, maxOpen)
		}
		found := s.count()
		if len(found) != len(c.answer) {
			t.Errorf("%s: found %v, wanted %v", c.what, found, c.answer)
		}
		for answer, n := range c.answer {
			if found[answer] != n {
				t.Errorf("%s: found %v, wanted %v", c.what, found, c.answer)
			}
		}
		t.Logf("%s: %v, %d messages", c.what, took, s.sent)
	}
}

// TestRoundDeadline: hosts for which there was no time are told so, and the round ends.
func TestRoundDeadline(t *testing.T) {
	s := newSimulation(20_000, 0, 10*time.Millisecond)
	took := s.run(t, func(uint16) string { return report.Up })
	n := s.count()
	if took != Deadline || n[report.NotInTime] == 0 || n[report.Answered]+n[report.NotInTime] != 20_000 {
		t.Errorf("it took %v: %v, wanted an end after %v with some that were not asked", took, n, Deadline)
	}
}

// TestRoundInPart: of a host whose later pages get lost the first ones count.
func TestRoundInPart(t *testing.T) {
	r := newRound([]Target{{ID: 2, Way: report.Way{State: report.Up}}}, false, 1)
	snapshot := NewSnapshot(someHost(), someWays(100), nil)
	out, again := r.tick(0)
	r.take(0, 2, snapshot.page(question{nonce: 1}))
	for now := again; !r.over; {
		out, now = r.tick(now)
	}
	h := r.answers("")[0]
	if h.Answer != report.InPart || len(h.Ways) == 0 || len(h.Ways) == 100 || h.Version != someHost().Version || len(out) != 0 {
		t.Errorf("found %+v", h)
	}
}

// TestRoundTakesNothingElse: only the host that was asked answers, to what it was asked.
func TestRoundTakesNothingElse(t *testing.T) {
	r := newRound([]Target{{ID: 2, Way: report.Way{State: report.Up}}, {ID: 3, Way: report.Way{State: report.Up}}}, false, 1)
	snapshot := NewSnapshot(someHost(), someWays(1), nil)
	if r.take(0, 2, snapshot.page(question{nonce: 1})) {
		t.Error("an answer before the question was taken")
	}
	r.tick(0)
	for what, c := range map[string]struct {
		from uint16
		data []byte
	}{
		"another nonce":   {2, snapshot.page(question{nonce: 2})},
		"a stranger":      {4, snapshot.page(question{nonce: 1})},
		"another page":    {2, snapshot.page(question{nonce: 1, after: 9})},
		"no answer":       {2, []byte("hello")},
		"another's nonce": {3, snapshot.page(question{nonce: 1})},
	} {
		if r.take(0, c.from, c.data) {
			t.Errorf("%s was taken", what)
		}
	}
	answer := snapshot.page(question{nonce: 1})
	if !r.take(0, 2, answer) || r.take(0, 2, answer) {
		t.Error("the answer is not taken, or taken twice")
	}
}

// TestRoundEndless: a host that has more and more to say is cut off, and what it did not
// tell is counted.
func TestRoundEndless(t *testing.T) {
	s := newSimulation(1, 30_000, time.Millisecond)
	s.run(t, func(uint16) string { return report.Up })
	h := s.answers("")[0]
	if h.Answer != report.Answered || len(h.Ways) > maxPages*MaxPage/waySize || h.UntoldWays < 2900 {
		t.Errorf("found %d ways, %d untold, of 3,000 exceptions", len(h.Ways), h.UntoldWays)
	}
}
