package paths

import (
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// TestALossyRelayIsShunned: a relay that was left because it loses packets is not taken
// again for ten minutes, however well it speaks of itself; it is afterwards.
func TestALossyRelayIsShunned(t *testing.T) {
	var relay uint16
	c := relayedBy(&relay)
	e, p := c.engine, c.engine.peers[1]
	// answers are what relays say when a search asks them, the nearest first.
	answers := func(relays ...uint16) {
		p.search = &search{first: e.now - time.Second, asked: map[uint16]uint32{}, answers: map[uint16]answer{}}
		for i, id := range relays {
			helper := e.peers[id]
			helper.phase, helper.via, helper.small.lastAnswer = up, 0, e.now
			helper.small.forgive()
			p.search.answers[id] = answer{e.now, probe.Verdict{Reachable: true, FullSize: true, RTTMicroseconds: uint32(1000 * (i + 1))}}
		}
	}
	p.via, p.phase, p.nextMove, p.full = 2, up, 0, nil
	p.small.recent, p.small.period, p.small.since = [2]tally{{sent: 100, answered: 50}}, e.now, e.now-time.Minute
	if e.poor(p) == "" {
		t.Fatal("half of the probes get lost, and the way is good")
	}
	answers(3)
	e.improve(p)
	if p.via != 3 {
		t.Fatalf("found the way by %d, wanted it by the relay that loses nothing", p.via)
	}
	left := e.now
	for _, c := range []struct {
		after time.Duration
		want  uint16
	}{{time.Second, 3}, {avoidFor + time.Second, 3}, {mostHold - time.Second, 3}, {mostHold + time.Second, 2}} {
		e.now = left + c.after
		answers(2, 3)
		if found, ok := e.best(p, true); !ok || found.relay.ID != c.want {
			t.Errorf("%v after it was left: found %+v, wanted %d", c.after, found, c.want)
		}
	}
}
