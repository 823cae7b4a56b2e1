package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// batch has ip(8) carry out n commands.
func batch(t *testing.T, n int, command func(i int) string) {
	t.Helper()
	file := t.TempDir() + "/batch"
	var lines strings.Builder
	for i := 0; i < n; i++ {
		lines.WriteString(command(i) + "\n")
	}
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	netnstest.Run(t, "", "ip", "-batch", file)
}

// TestOthersChangesStartNoRepair: beside Mobula there are containers that come and
// go and routing daemons, on the real kernel.
func TestOthersChangesStartNoRepair(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, spec.Namespace)
	var repairs atomic.Int64
	c := Config{
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
		Facts:  func() (*spec.Facts, error) { return plantest.Facts(), nil },
		Repair: func(context.Context) error { repairs.Add(1); return nil },
	}
	r := New(c)
	r.first = compareInterval
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	self := plantest.Host(1)
	self.ManualAccess = true // what resolv.conf says is its own business
	r.Follow(&store.Change{HostID: 1, Document: plantest.Document(self, plantest.Host(2))})
	defer r.Follow(nil)
	go r.Run(ctx)

	const foreign = 10_000
	began := processorTime(t)
	batch(t, foreign, func(i int) string {
		return fmt.Sprintf("route add 198.18.%d.%d/32 dev lo proto bgp metric 20", i>>8&0xff, i&0xff)
	})
	batch(t, foreign, func(i int) string {
		return fmt.Sprintf("route del 198.18.%d.%d/32 dev lo proto bgp metric 20", i>>8&0xff, i&0xff)
	})
	for _, c := range []string{"rule add priority %d from 198.18.0.0/16 table 9%[1]d", "rule del priority %d from 198.18.0.0/16 table 9%[1]d",
		"addr add 172.17.0.%d/32 dev lo", "addr del 172.17.0.%d/32 dev lo", "link add docker%d type veth", "link set docker%d up", "link set docker%d down", "link del docker%d"} {
		batch(t, 100, func(i int) string { return fmt.Sprintf(c, i+1) })
	}
	cost := processorTime(t) - began
	time.Sleep(5 * debounce)
	t.Logf("%d changes took %v of the agent's processor time", 2*foreign+800, cost)
	// A processor that is shared and the race detector take their part.
	if n := repairs.Load(); n != 0 || cost > 4*time.Second {
		t.Errorf("found %d repairs and %v, wanted none and less than 4 s", n, cost)
	}

	// What is Mobula's is noticed, and no more often than the bound says.
	lose := func() {
		batch(t, 2, func(i int) string {
			return []string{"rule add priority 1031 to 10.30.0.0/16 table 1030", "rule del priority 1031 to 10.30.0.0/16 table 1030"}[i]
		})
	}
	lose()
	for end := time.Now().Add(5 * time.Second); repairs.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a rule was lost, and nobody noticed")
		}
	}
	lost := time.Now()
	for time.Since(lost) < 3*time.Second {
		lose()
	}
	if n := repairs.Load(); n < 2 || n > 2*repairBurst { // each may have an echo
		t.Errorf("found %d repairs in 3 s of losses, wanted 2..%d", n, 2*repairBurst)
	}
}

func TestPause(t *testing.T) {
	r := New(Config{})
	now := time.Unix(1_700_000_000, 0)
	for i := 0; i < repairBurst; i++ {
		if got := r.pace.pause(now); got != debounce {
			t.Errorf("repair %d: found a pause of %v, wanted %v", i, got, debounce)
		}
	}
	if got := r.pace.pause(now); got != repairInterval {
		t.Errorf("after the burst: found a pause of %v, wanted %v", got, repairInterval)
	}
	now = now.Add(3 * repairInterval)
	for i, want := range []time.Duration{debounce, debounce, repairInterval} {
		if got := r.pace.pause(now); got != want {
			t.Errorf("later %d: found a pause of %v, wanted %v", i, got, want)
		}
	}
}

// TestDifferencesAreCounted: what a repair finds is counted, though the comparison that follows
// it, for what it did was told as well, finds nothing.
func TestDifferencesAreCounted(t *testing.T) {
	var last atomic.Pointer[Comparison]
	last.Store(&Comparison{time.Unix(1_700_000_000, 0), 7}) // of the agent before
	var broken atomic.Bool
	var r *Repairer
	c := Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Changing: func() bool { return false }, Compared: func() Comparison { return *last.Load() }}
	c.Repair = func(context.Context) error {
		found := Comparison{Ended: time.Now()}
		if broken.CompareAndSwap(true, false) {
			found.Differences = 3
			r.because("a rule came")
		}
		last.Store(&found)
		return nil
	}
	r = New(c)
	r.first, r.enabled = compareInterval, true
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for n := uint64(1); n <= 2; n++ {
		broken.Store(true)
		r.because("a rule went")
		for end := time.Now().Add(10 * time.Second); r.counts.succeeded.Load() < 2*n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nobody compares")
			}
		}
		for end := time.Now().Add(time.Second); r.Counted().Found < 3*n && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		if found := r.Counted(); found.Found != 3*n || found.Differences != 0 {
			t.Errorf("found %+v, wanted %d that were found, and none of the last comparison", found, 3*n)
		}
	}
}

// TestFailingRepairs: those that fail several times in a row are told, and not those that wait
// for a change.
func TestFailingRepairs(t *testing.T) {
	changing := true
	r := New(Config{Changing: func() bool { return changing }})
	failing := func(times int) bool {
		for i := 0; i < times; i++ {
			r.note(errors.New("no"))
		}
		return r.Failing()
	}
	if failing(5) {
		t.Error("while the host is changed: found that repairs fail")
	}
	changing = false
	if failing(2) {
		t.Error("after two failures: found that repairs fail")
	}
	if !failing(1) {
		t.Error("after three failures: wanted that it is told")
	}
	r.note(nil)
	if failing(2) {
		t.Error("after a repair that succeeded: found that repairs fail")
	}
	if found := r.Counted(); found.Succeeded != 1 || found.Failed != 5 || found.Deferred != 5 {
		t.Errorf("found %+v", found)
	}
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
