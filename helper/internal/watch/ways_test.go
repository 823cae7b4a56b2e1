package watch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// relayingOf is by what a host relays in tests.
type relayingOf struct {
	isStale atomic.Bool
	looks   atomic.Int64
	outside atomic.Value // as it was asked with
}

func (r *relayingOf) stale(d *spec.Doorway) (bool, error) {
	r.looks.Add(1)
	r.outside.Store(strings.Join(d.Outside, " "))
	return r.isStale.Load(), nil
}

// TestRelayingFollowsRoutes: however many routes change, the ways are looked at now and
// then, and a repair is started only if one of them is another; on the real kernel.
func TestRelayingFollowsRoutes(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, spec.Namespace)
	var repairs atomic.Int64
	relaying := &relayingOf{}
	facts := &spec.Facts{Shared: &spec.Shared{Outside: []string{"eth0"}}}
	c := Config{
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		Facts: func() (*spec.Facts, error) { return facts, nil }, Stale: relaying.stale,
		Repair: func(context.Context) error { repairs.Add(1); relaying.isStale.Store(false); return nil },
	}
	r := New(c)
	r.first = compareInterval
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	self := plantest.Host(1)
	self.SharedUplink = true
	r.Follow(&store.Change{HostID: 1, Document: plantest.Document(self, plantest.Host(2))})
	defer r.Follow(nil)
	facts = &spec.Facts{Shared: &spec.Shared{Outside: []string{"eth0", "wlan0"}}} // as a repair notes it
	go r.Run(ctx)
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
	relaying.isStale.Store(true)
	changed := time.Now()
	batch(t, 1, func(int) string { return "route add 198.19.0.0/16 dev lo" })
	for repairs.Load() == 0 {
		if time.Since(changed) > 2*waysInterval+3*time.Second {
			t.Fatal("a way is another one, and nobody noticed")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
