package healing

import (
	"testing"
	"time"

	"mobula/helper/internal/probe"
)

// TestWhoCannotRelaySaysSo: a host that keeps its NIC and cannot send on says so when it
// is asked, until it can.
func TestWhoCannotRelaySaysSo(t *testing.T) {
	n := still(t, 3)
	one, three := n.healers[1], n.healers[3]
	ask := func() (refused bool) {
		t.Helper()
		one.work(2 * time.Second)
		three.inside.(*testSocket).drain()
		question := probe.Traffic{Type: probe.Query, Target: 2, Sequence: 7, Session: 99}
		one.takeInside(question.Append(nil), intrawire(3))
		for _, p := range three.inside.(*testSocket).drain() {
			if answer, err := probe.ParseTraffic(p.data); err == nil && answer.Type == probe.Answer {
				refused = !answer.Verdict.Reachable
			}
		}
		return refused
	}
	for _, c := range []struct {
		what    string
		unable  bool
		shared  bool
		refuses bool
	}{
		{"a host whose NIC has moved", true, false, false},
		{"one that keeps it and can", false, true, false},
		{"one that cannot", true, true, true},
		{"one that can again", false, true, false},
	} {
		one.mu.Lock()
		one.self.SharedUplink = c.shared
		one.mu.Unlock()
		one.SetUnable(c.unable)
		if refused := ask(); refused != c.refuses {
			t.Errorf("%s: refused at once: %v, wanted %v", c.what, refused, c.refuses)
		}
	}
}
