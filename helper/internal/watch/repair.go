// Package watch notices what something else broke on a host, such as a route, a rule or a flow
// of Mobula's that went, and has the host compared with its plan and repaired.
package watch

import (
	"context"
	"log/slog"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"

	"mobula/helper/internal/links"
	"mobula/helper/internal/metrics"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

const (
	// compareInterval is how often the whole host is compared without a reason.
	compareInterval = 60 * time.Second
	// debounce lets a change come to its end before the host is compared.
	debounce = 100 * time.Millisecond
	// What breaks is repaired at once repairBurst times, and then every
	// repairInterval: who breaks it again and again must not keep the host busy.
	repairBurst    = 5
	repairInterval = 5 * time.Second
	// firstRetry and lastRetry are between repairs that failed.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Config is what a Repairer needs of the host.
type Config struct {
	// Facts are what the host was before Mobula; nil: not known.
	Facts func() (*spec.Facts, error)
	// Repair compares the host with its plan and repairs what differs.
	Repair func(ctx context.Context) error
	// Changing reports that a change is being carried out.
	Changing func() bool
	// Compared is the last comparison that a repair noted; nil: none is.
	Compared func() Comparison
	// SwitchDir holds the sockets of Open vSwitch.
	SwitchDir string
	// Ways returns the ways outside that a host with its NIC has now; nil: those of Facts.
	Ways func() (spec.Shared, error)
	// Stale reports that a host that keeps its NIC would send to others in other ways than
	// relayed packets take; false on hosts that do not relay so. nil: nobody knows.
	Stale func(*spec.Doorway) (bool, error)
	Log   *slog.Logger
}

// Comparison is one of the host with its plan.
type Comparison struct {
	// Ended is zero if there was none since the host booted.
	Ended time.Time `json:"ended"`
	// Differences is how many were found.
	Differences int `json:"differences"`
}

// Repairer starts a repair when something was lost, and now and then.
type Repairer struct {
	Config
	reasons chan string
	// moved: something of the host's network is another, by which packets may take other
	// ways.
	moved chan struct{}

	pace pacer // of repairs for a reason
	// first is how long after its beginning it compares: nobody told it what broke before.
	first    time.Duration
	failures int // of repairs in a row
	failing  atomic.Bool
	counts   struct{ succeeded, failed, deferred, differences atomic.Uint64 }
	lastEnd  time.Time // the comparison of which differences were counted last

	mu            sync.Mutex
	change        *store.Change         // of which ours are
	ours          map[string]*links.Own // by namespace
	doorway       *spec.Doorway         // the host's own namespace has tables of ours; nil: it has none
	names         []string              // files that change when others change where names are found
	subscribed    subscribed
	subscriptions []*netns.Subscription
	enabled       bool
}

// New returns a Repairer that does not run yet.
func New(c Config) *Repairer {
	r := &Repairer{Config: c, reasons: make(chan string, 64), moved: make(chan struct{}, 1), pace: pacer{burst: repairBurst, interval: repairInterval}, first: startGrace}
	r.move() // before it looked
	return r
}

// because asks for a repair.
func (r *Repairer) because(reason string) {
	select {
	case r.reasons <- reason:
	default: // there are reasons enough
	}
}

// Run repairs one at a time, until the context ends.
func (r *Repairer) Run(ctx context.Context) {
	go r.watchSwitch(ctx)
	go r.watchWays(ctx)
	go r.watchNames(ctx)
	retry := firstRetry
	wait := r.first
	r.lastEnd = r.compared().Ended // who was before has counted it
	echo := false
	for {
		reasons := r.wait(ctx, wait, echo)
		if ctx.Err() != nil {
			return
		}
		wait = compareInterval - compareInterval/10 + time.Duration(rand.Int63n(int64(compareInterval/5)))
		r.mu.Lock()
		enabled := r.enabled
		r.mu.Unlock()
		if !enabled {
			continue
		}
		if len(reasons) > 0 {
			r.Log.Info("comparing the host with its plan", "because", reasons)
		}
		err := r.Repair(ctx)
		r.note(err)
		r.countDifferences()
		// What the repair itself did is told as well, and must not use up the burst.
		echo = !echo && len(r.reasons) > 0
		if err != nil && ctx.Err() == nil {
			r.Log.Warn("the repair did not succeed", "error", err, "again_in", retry)
			wait = retry
			if retry *= 2; retry > lastRetry {
				retry = lastRetry
			}
			continue
		}
		retry = firstRetry
	}
}

// note counts how a repair ended. That one waits for a change is no failure.
func (r *Repairer) note(err error) {
	const several = 3
	switch {
	case err == nil:
		r.failures = 0
		r.counts.succeeded.Add(1)
	case !r.Changing():
		r.failures++
		r.counts.failed.Add(1)
	default:
		r.counts.deferred.Add(1)
	}
	r.failing.Store(r.failures >= several)
}

// Failing reports that the last repairs failed, several in a row.
func (r *Repairer) Failing() bool { return r.failing.Load() }

// countDifferences adds what the last repair found: the next one, which looks at what that one
// did, finds nothing, and follows it before anybody asks.
func (r *Repairer) countDifferences() {
	if last := r.compared(); !last.Ended.Equal(r.lastEnd) {
		r.lastEnd = last.Ended
		r.counts.differences.Add(uint64(last.Differences))
	}
}

// compared returns the last comparison that a repair noted.
func (r *Repairer) compared() Comparison {
	if r.Compared == nil {
		return Comparison{}
	}
	return r.Compared()
}

// Counted says how the repairs ended, and the last comparison.
func (r *Repairer) Counted() metrics.Repairs {
	last := r.compared()
	return metrics.Repairs{Succeeded: r.counts.succeeded.Load(), Failed: r.counts.failed.Load(), Deferred: r.counts.deferred.Load(),
		Found: r.counts.differences.Load(), Last: last.Ended, Differences: last.Differences}
}

// wait returns the reasons for a repair; none when the time is over. The first of them is an
// echo if it came while the last repair was at work.
func (r *Repairer) wait(ctx context.Context, most time.Duration, echo bool) []string {
	timer := time.NewTimer(most)
	defer timer.Stop()
	var reasons []string
	select {
	case <-ctx.Done():
		return nil
	case <-timer.C:
		return nil
	case reason := <-r.reasons:
		reasons = append(reasons, reason)
	}
	pause := debounce
	if !echo {
		pause = r.pace.pause(time.Now())
	}
	quiet := time.NewTimer(pause)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case reason := <-r.reasons:
			if len(reasons) < 8 && !contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		case <-quiet.C:
			return reasons
		}
	}
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}
