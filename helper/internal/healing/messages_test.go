package healing

import (
	"net/netip"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/spec"
)

// still returns a network of healers that do nothing by themselves any more.
func still(t *testing.T, hosts uint16) *testNet {
	t.Helper()
	n := newTestNet(t, hosts)
	n.hush()
	return n
}

// hush stops the healers, and gives them sockets that nobody reads.
func (n *testNet) hush() {
	for _, h := range n.healers {
		h.Stop()
	}
	for _, h := range n.healers {
		h.inside, h.below = &testSocket{newTestQueue(), h, true}, &testSocket{newTestQueue(), h, false}
	}
}

// renew gives a host an engine that has sent and heard nothing, and has it work
// once.
func (h *testHost) renew(t *testing.T) {
	t.Helper()
	h.engine = paths.New(paths.Config{}, 1)
	change := *h.change
	h.change = nil
	if err := h.Follow(&change); err != nil {
		t.Fatal(err)
	}
}

// work has the engine do what is due within the time given.
func (h *testHost) work(within time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.began = h.began.Add(-within)
	h.engine.Tick(h.now())
	h.flush()
}

func intrawire(id uint16) netip.AddrPort {
	return netip.AddrPortFrom(network.Ranges{}.IntrawireAddress(id), spec.ProbeUDPPort)
}

// TestEchoesOfAnotherSession: what an agent asked before it began anew says nothing
// to the one that numbers its probes from 1 again.
func TestEchoesOfAnotherSession(t *testing.T) {
	n := still(t, 2)
	one, two := n.healers[1], n.healers[2]
	one.renew(t)
	one.work(5 * time.Second)
	asked := two.inside.(*testSocket).drain()
	if len(asked) == 0 {
		t.Fatal("nothing was asked")
	}
	m, err := probe.ParseTraffic(asked[0].data)
	if err != nil || m.Type != probe.Request || m.Session != one.session {
		t.Fatalf("found %+v, %v, wanted a request of session %d", m, err, one.session)
	}
	m.Type = probe.Echo
	for _, c := range []struct {
		session uint64
		want    string
	}{{m.Session - 1, paths.StateUnknown}, {m.Session + 1, paths.StateUnknown}, {m.Session, paths.StateUp}} {
		m.Session = c.session
		one.takeInside(m.Append(nil), intrawire(2))
		if got := one.state().Peers[0].State; got != c.want {
			t.Errorf("after an echo of session %d, the own one is %d: found %s, wanted %s", c.session, one.session, got, c.want)
		}
	}
}

// TestDirectEchoesOfAnotherSession is the same between the underlay addresses,
// where anybody can replay them. Host 3 asks, so that host 1 tests its path to 2.
func TestDirectEchoesOfAnotherSession(t *testing.T) {
	n := still(t, 3)
	one, two, three := n.healers[1], n.healers[2], n.healers[3]
	one.renew(t)
	question := probe.Traffic{Type: probe.Query, Target: 2, Sequence: 7, Session: 99}
	one.takeInside(question.Append(nil), intrawire(3))
	one.work(100 * time.Millisecond)
	three.inside.(*testSocket).drain()
	asked := two.below.(*testSocket).drain()
	if len(asked) == 0 {
		t.Fatal("nothing was asked")
	}
	m, err := probe.ParseDirect(asked[0].data, 2, two.secrets)
	if err != nil || m.Type != probe.Request || m.Session != one.session {
		t.Fatalf("found %+v, %v, wanted a request of session %d", m, err, one.session)
	}
	m.Type, m.From, m.To = probe.Echo, 2, 1
	for _, c := range []struct {
		session uint64
		want    int
	}{{m.Session - 1, 0}, {m.Session + 1, 0}, {m.Session, 1}} {
		m.Session = c.session
		one.takeBelow(one.below, m.Append(nil, &two.secrets(1)[0]), underlay(2))
		var verdicts []probe.Traffic
		for _, p := range three.inside.(*testSocket).drain() {
			if answer, err := probe.ParseTraffic(p.data); err == nil && answer.Type == probe.Answer {
				verdicts = append(verdicts, answer)
			}
		}
		if len(verdicts) != c.want || c.want > 0 && (!verdicts[0].Verdict.Reachable || verdicts[0].Session != 99 || verdicts[0].Sequence != 7) {
			t.Errorf("after an echo of session %d, the own one is %d: found %+v, wanted %d", c.session, one.session, verdicts, c.want)
		}
	}
}

// TestAQuestionWithManyTargets is answered in one message, and as the one that was asked.
func TestAQuestionWithManyTargets(t *testing.T) {
	n := still(t, 3)
	one, three := n.healers[1], n.healers[3]
	question := probe.Traffic{Type: probe.Query, Target: 900, Sequence: 7, Session: 99, Lists: true}
	one.takeInside(question.AppendMore(nil, []probe.Entry{{Target: 901}, {Target: 902}}), intrawire(3))
	answers := three.inside.(*testSocket).drain()
	if len(answers) != 1 {
		t.Fatalf("found %d messages, wanted one: nobody has these IDs, so all is known at once", len(answers))
	}
	m, err := probe.ParseTraffic(answers[0].data)
	more := probe.More(answers[0].data)
	if err != nil || m.Type != probe.Answer || m.Target != 900 || m.Sequence != 7 || m.Session != 99 || !m.Lists || m.Verdict.Reachable {
		t.Errorf("found %+v, %v, wanted that 900 is not reached", m, err)
	}
	if len(more) != 2 || more[0] != (probe.Entry{Target: 901}) || more[1] != (probe.Entry{Target: 902}) {
		t.Errorf("found the further targets %+v, wanted 901 and 902", more)
	}
	if len(one.askers) > 0 {
		t.Errorf("%d askers are kept", len(one.askers))
	}
}

// TestAnswersOfAnotherSession: so with what relays say. Host 3 could relay to 2,
// which is silent.
func TestAnswersOfAnotherSession(t *testing.T) {
	n := still(t, 3)
	one, two, three := n.healers[1], n.healers[2], n.healers[3]
	one.renew(t)
	one.look()
	one.work(5 * time.Second)
	relayed := netip.AddrPortFrom(underlay(3).Addr(), 32768+2)
	for _, c := range []struct {
		session uint64
		want    netip.AddrPort
	}{{one.session - 1, underlay(2)}, {one.session + 1, underlay(2)}, {one.session, relayed}} {
		answered, after := 0, 0
		for i := 0; i < 3000 && after < 100; i++ { // it asks ever more seldom
			if answered > 0 {
				after++
			}
			one.work(20 * time.Millisecond)
			for _, p := range three.inside.(*testSocket).drain() {
				m, err := probe.ParseTraffic(p.data)
				switch {
				case err == nil && m.Type == probe.Request:
					m.Type = probe.Echo
				case err == nil && m.Type == probe.Query:
					m.Type, m.Session, m.Verdict = probe.Answer, c.session, probe.Verdict{Reachable: true, FullSize: true, RTTMicroseconds: 1000}
					answered++
				}
				one.takeInside(m.Append(nil), intrawire(3))
			}
		}
		if got := one.endpoints[two.self.PublicKey]; got != c.want || answered == 0 {
			t.Errorf("after %d answers of session %d, the own one is %d: the path leads to %v, wanted %v", answered, c.session, one.session, got, c.want)
		}
	}
}

// TestSessionsOfAPeer: a host whose clock was set back has a lower session than
// before. Inside WireGuard, where nobody can replay it, it says so.
func TestSessionsOfAPeer(t *testing.T) {
	for name, kind := range map[string]probe.Type{"request": probe.Request, "query": probe.Query} {
		t.Run(name, func(t *testing.T) {
			n := still(t, 2)
			one, two := n.healers[1], n.healers[2]
			one.peers[2].window = probe.Window{}
			sequence := uint32(0)
			answers := func(session uint64) int {
				sequence++
				request := probe.Direct{Type: probe.Request, From: 2, To: 1, Sequence: sequence, Session: session}
				return n.below(request.Append(nil, &two.secrets(1)[0]))
			}
			if got := answers(9); got != 1 {
				t.Errorf("the first session: %d answers, wanted 1", got)
			}
			if got := answers(5); got != 0 {
				t.Errorf("a lower session, as if replayed: %d answers, wanted none", got)
			}
			named := probe.Traffic{Type: kind, Sequence: 1, Session: 5}
			if kind == probe.Query {
				named.Target = 1
			}
			one.takeInside(named.Append(nil), intrawire(2))
			if got := answers(5); got != 1 {
				t.Errorf("the lower session that the host named itself: %d answers, wanted 1", got)
			}
		})
	}
}

// TestQuestionsAreForgotten: who asks without end takes no memory without end.
func TestQuestionsAreForgotten(t *testing.T) {
	n := still(t, 3)
	one := n.healers[1]
	one.mu.Lock()
	defer one.mu.Unlock()
	for i := uint32(0); i < 20_000; i++ {
		one.remember(2, probe.Traffic{Target: 3, Sequence: i, Session: 1})
		if len(one.askers) > 4096 {
			t.Fatalf("%d questions are remembered, wanted at most 4096", len(one.askers))
		}
	}
	one.remember(3, probe.Traffic{Target: 2, Sequence: 1, Session: 77})
	if got := one.askers[asked{3, 2, 1}]; got != 77 {
		t.Errorf("the youngest question: found session %d, wanted 77", got)
	}
}

// TestAGoodbyeIsHeard: an agent that ends in peace breaks no path, for a while.
func TestAGoodbyeIsHeard(t *testing.T) {
	n := newTestNet(t, 2)
	n.peer(1, 2, "a direct path", func(p PeerState) bool { return p.State == paths.StateUp })
	one, two := n.healers[1], n.healers[2]
	one.mu.Lock()
	one.began = one.began.Add(-5 * time.Second) // what holds for agents that have just begun is over
	one.mu.Unlock()
	n.peer(1, 2, "an answer since", func(p PeerState) bool { return time.Since(*p.LastHeard) < 200*time.Millisecond })
	two.Stop()
	for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(20 * time.Millisecond) {
		if got := one.state().Peers[0].State; got != paths.StateUp {
			t.Fatalf("%v after a goodbye: found %s, wanted %s", time.Since(began), got, paths.StateUp)
		}
	}
	n.peer(1, 2, "no path any more", func(p PeerState) bool { return p.State == paths.StateDown })
}
