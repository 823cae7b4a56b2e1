package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/store"
)

// relayingOf is by what a host relays in tests.
type relayingOf struct {
	stale   atomic.Bool
	looks   atomic.Int64
	outside atomic.Value // as it was asked with
	unable  string
}

func (r *relayingOf) Stale(d *plan.Doorway) (bool, error) {
	r.looks.Add(1)
	r.outside.Store(strings.Join(d.Outside, " "))
	return r.stale.Load(), nil
}

func (r *relayingOf) Unable() string { return r.unable }

// TestRelayingFollowsRoutes: however many routes change, the ways are looked at now and
// then, and a repair is started only if one of them is another; on the real kernel.
func TestRelayingFollowsRoutes(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, plan.Namespace)
	var repairs atomic.Int64
	relaying := &relayingOf{}
	facts := &plan.Facts{Shared: &plan.Shared{Outside: []string{"eth0"}}}
	a := &Agent{
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		Facts: func() (*plan.Facts, error) { return facts, nil }, Relaying: relaying,
		Repair: func(context.Context) error { repairs.Add(1); relaying.stale.Store(false); return nil },
	}
	r := newRepairer(a)
	r.first = compareInterval
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	self := plantest.Host(1)
	self.SharedUplink = true
	r.follow(&store.Change{HostID: 1, Document: plantest.Document(self, plantest.Host(2))})
	defer r.follow(nil)
	facts = &plan.Facts{Shared: &plan.Shared{Outside: []string{"eth0", "wlan0"}}} // as a repair notes it
	go r.run(ctx)
	for end := time.Now().Add(10 * time.Second); repairs.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("where names are found was not looked at")
		}
	}
	repairs.Store(0)

	began := time.Now()
	for round := 0; time.Since(began) < 3*waysInterval; round++ {
		batch(t, 1000, func(i int) string {
			return fmt.Sprintf("route replace 198.18.%d.%d/32 dev lo proto bgp metric %d", i>>8, i&0xff, 20+round)
		})
	}
	if n, most := relaying.looks.Load(), waysBurst+1+int64(time.Since(began)/waysInterval); n < 2 || n > most || repairs.Load() != 0 {
		t.Errorf("found %d looks and %d repairs, wanted 2..%d and none", n, repairs.Load(), most)
	}
	if got := relaying.outside.Load(); got != "eth0 wlan0" {
		t.Errorf("looked by %q", got)
	}
	time.Sleep(2 * waysInterval)
	before := relaying.looks.Load()
	time.Sleep(2 * waysInterval)
	if n := relaying.looks.Load(); n != before {
		t.Errorf("looked %d times where nothing changed", n-before)
	}
	relaying.stale.Store(true)
	changed := time.Now()
	batch(t, 1, func(int) string { return "route add 198.19.0.0/16 dev lo" })
	for repairs.Load() == 0 {
		if time.Since(changed) > 2*waysInterval+3*time.Second {
			t.Fatal("a way is another one, and nobody noticed")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestWhoCannotRelaySaysSo: a host that keeps its NIC and cannot send on says so when it
// is asked, until it can.
func TestWhoCannotRelaySaysSo(t *testing.T) {
	n := still(t, 3)
	one, three := n.healers[1], n.healers[3]
	relaying, file := &relayingOf{}, t.TempDir()+"/relays.json"
	at := relaysAt{path: file}
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
	for i, c := range []struct {
		what, unable string
		shared       bool
		refuses      bool
	}{
		{"a host whose NIC has moved", "an old reason", false, false},
		{"one that keeps it and can", "", true, false},
		{"one that cannot", "no fwd statement", true, true},
		{"one that can again", "", true, false},
	} {
		one.mu.Lock()
		one.self.SharedUplink = c.shared
		one.mu.Unlock()
		relaying.unable = c.unable
		if err := os.WriteFile(file, []byte(c.what), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(int64(i), 0)
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
		one.setUnable(at.look(relaying))
		if refused := ask(); refused != c.refuses {
			t.Errorf("%s: refused at once: %v, wanted %v", c.what, refused, c.refuses)
		}
	}
}
