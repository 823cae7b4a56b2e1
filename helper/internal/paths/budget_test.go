package paths

import (
	"container/heap"
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// crowd is one engine among many peers, which answer after 2 ms unless they are
// dead.
type crowd struct {
	engine *Engine
	events eventQueue
	number int
	now    time.Duration
	dead   func(peer uint16) bool
	lost   func(Probe) bool // of living peers; nil: nothing
	active int              // peers from 1 on that have traffic
	sent   int              // probes
	vain   int              // of these, to the dead
	other  int              // queries and replies
	most   int              // probes in the busiest second
	sets   int
	// mostOther are the queries and replies of the busiest second.
	mostOther int
	routes    []Route
	queries   []Query
	replies   []Reply
	// verdict is what relays say of a target; nil: that they do not reach it.
	verdict func(relay, target uint16) probe.Verdict
	// kernel changes what WireGuard says; nil: nothing.
	kernel func(*Kernel)
}

func newCrowd(n int) *crowd {
	c := &crowd{engine: New(Config{}, 1), dead: func(uint16) bool { return false }}
	config := Config{Self: uint16(n + 1), Relays: map[uint16]bool{}}
	var peers []Peer
	for id := uint16(1); int(id) <= n; id++ {
		peers = append(peers, Peer{ID: id, Endpoint: underlay(id)})
		config.Relays[id] = true
	}
	c.engine.SetPeers(0, config, peers)
	return c
}

func (c *crowd) at(t time.Duration, do func()) {
	c.number++
	heap.Push(&c.events, simEvent{t, c.number, do})
}

// run lets the crowd live for a while.
func (c *crowd) run(d time.Duration) {
	end := c.now + d
	for second := c.now; second < end; second += time.Second {
		before, otherBefore := c.sent-c.vain/2, c.other
		c.observe(second)
		for c.now < second+time.Second {
			next := c.engine.Next()
			if next < c.now+5*time.Millisecond {
				next = c.now + 5*time.Millisecond // as the agent does
			}
			for len(c.events) > 0 && c.events[0].at <= next {
				c.next()
			}
			if next > second+time.Second {
				next = second + time.Second
			}
			c.now = next
			c.engine.Tick(next)
			c.carryOut()
		}
		c.most = max(c.most, c.sent-c.vain/2-before) // without an echo it is half of the packets
		c.mostOther = max(c.mostOther, c.other-otherBefore)
	}
}

func (c *crowd) next() { heap.Pop(&c.events).(simEvent).do() }

func (c *crowd) observe(now time.Duration) {
	all := make([]Kernel, 0, len(c.engine.order))
	for _, p := range c.engine.order {
		k := Kernel{Peer: p.ID, Endpoint: p.kernel}
		if !k.Endpoint.IsValid() {
			k.Endpoint = p.Endpoint
		}
		if int(p.ID) <= c.active {
			k.ReceiveBytes = int64(now/time.Millisecond) * 100
		}
		if c.kernel != nil {
			c.kernel(&k)
		}
		all = append(all, k)
	}
	c.engine.Observe(now, all)
}

func (c *crowd) carryOut() {
	out := c.engine.Take()
	c.sent += len(out.Probes)
	c.other += len(out.Queries) + len(out.Replies)
	c.sets += len(out.Routes)
	c.routes = append(c.routes, out.Routes...)
	c.queries = append(c.queries, out.Queries...)
	c.replies = append(c.replies, out.Replies...)
	for _, p := range out.Probes {
		if c.dead(p.Peer) {
			c.vain++
		}
		if !c.dead(p.Peer) && (c.lost == nil || !c.lost(p)) {
			c.at(c.now+2*time.Millisecond, func() { c.engine.Echo(c.now, p.Peer, p.Plane, p.Full, p.Sequence) })
		}
	}
	for _, q := range out.Queries {
		if !c.dead(q.Relay) {
			c.at(c.now+time.Millisecond, func() {
				var v probe.Verdict
				if c.verdict != nil {
					v = c.verdict(q.Relay, q.Targets[0])
				}
				c.engine.Answer(c.now, q.Relay, q.Targets[0], q.Sequence, v)
			})
		}
	}
}

// TestBudget: probes, those of the other side, and an echo for each of both.
func TestBudget(t *testing.T) {
	const most = 3000
	for _, c := range []struct {
		name   string
		active int
		dead   func(uint16) bool
	}{
		{"all idle", 0, nil},
		{"30 with traffic", 30, nil},
		{"300 with traffic", 300, nil},
		{"1 in 20 is off", 30, func(p uint16) bool { return p%20 == 0 }},
		{"all are off", 30, func(uint16) bool { return true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newCrowd(3000)
			w.active = c.active
			w.run(20 * time.Second)
			if c.dead != nil {
				w.dead = c.dead
			}
			w.most, w.sent, w.vain, w.mostOther = 0, 0, 0, 0
			began := time.Now()
			w.run(30 * time.Second)
			t.Logf("%d probes/s, %d in the busiest second; %d queries; %.1f %% of a core", w.sent/30, w.most, w.other, time.Since(began).Seconds()/30*100)
			if packets := (4*w.sent - w.vain) / 30; packets > most {
				t.Errorf("%d packets/s, wanted at most %d", packets, most)
			}
			if w.most > probesPerSecond+probesPerSecond/4 {
				t.Errorf("%d probes in the busiest second", w.most)
			}
			if w.mostOther > 90 { // 30 a second, and 60 at once
				t.Errorf("%d queries in the busiest second", w.mostOther)
			}
			if w.sets > 0 {
				t.Errorf("%d endpoints were set", w.sets)
			}
		})
	}
}
