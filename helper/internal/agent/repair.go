package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/links"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/store"
	"mobula/helper/internal/vswitch"
)

const (
	// compareInterval is how often the whole host is compared without a reason.
	compareInterval = 60 * time.Second
	// debounce lets a change come to its end before the host is compared.
	debounce = 100 * time.Millisecond
	// switchInterval is how often the agent looks whether Open vSwitch was
	// started anew, and flowInterval how often it counts the flows.
	switchInterval = 250 * time.Millisecond
	flowInterval   = 2 * time.Second
	// firstRetry and lastRetry are between repairs that failed.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// repairer starts a repair when something was lost, and now and then.
type repairer struct {
	agent   *Agent
	log     *slog.Logger
	reasons chan string

	mu            sync.Mutex
	subscribed    uint64 // namespace
	subscriptions []*netns.Subscription
	enabled       bool
	repairs       atomic.Int64 // that ended
}

func newRepairer(a *Agent) *repairer {
	return &repairer{agent: a, log: a.Log, reasons: make(chan string, 64)}
}

// follow subscribes to what the kernel tells of the namespaces as they are now.
func (r *repairer) follow(running *store.Change) {
	inode := namespaceInode()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enabled = running != nil && running.Document != nil
	if !r.enabled {
		inode = 0
	}
	if r.subscribed == inode {
		return
	}
	for _, s := range r.subscriptions {
		s.Close()
	}
	r.subscriptions, r.subscribed = nil, inode
	if inode == 0 {
		return
	}
	r.subscribe(links.Subscribe, "", func(s *netns.Subscription) error { return links.Watch(s, r.because) })
	r.subscribe(links.Subscribe, plan.Namespace, func(s *netns.Subscription) error { return links.Watch(s, r.because) })
	r.subscribe(firewall.Subscribe, plan.Namespace, func(s *netns.Subscription) error {
		return firewall.Watch(s, func() { r.because("nftables changed") })
	})
}

func (r *repairer) subscribe(open func(string) (*netns.Subscription, error), namespace string, watch func(*netns.Subscription) error) {
	s, err := open(namespace)
	if err != nil {
		r.log.Warn("following the kernel", "namespace", namespace, "error", err)
		return
	}
	r.subscriptions = append(r.subscriptions, s)
	go func() { _ = watch(s) }() // until it is closed
}

// because asks for a repair.
func (r *repairer) because(reason string) {
	select {
	case r.reasons <- reason:
	default: // there are reasons enough
	}
}

// run repairs one at a time.
func (r *repairer) run(ctx context.Context) {
	go r.watchSwitch(ctx)
	retry := firstRetry
	wait := compareInterval
	for {
		reasons := r.wait(ctx, wait)
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
			r.log.Info("comparing the host with its plan", "because", reasons)
		}
		err := r.agent.Repair(ctx)
		r.repairs.Add(1)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("the repair did not succeed", "error", err, "again_in", retry)
			wait = retry
			if retry *= 2; retry > lastRetry {
				retry = lastRetry
			}
			continue
		}
		retry = firstRetry
	}
}

// wait returns the reasons for a repair; none when the time is over.
func (r *repairer) wait(ctx context.Context, most time.Duration) []string {
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
	quiet := time.NewTimer(debounce)
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

// file identifies a file that a daemon makes anew when it starts.
type file struct {
	inode    uint64
	modified time.Time
}

func fileAt(path string) file {
	info, err := os.Stat(path)
	if err != nil {
		return file{}
	}
	return file{info.Sys().(*syscall.Stat_t).Ino, info.ModTime()}
}

// watchSwitch notices that one of Open vSwitch's daemons was started anew: the
// flows are gone then. Its sockets and PID files are new then, too. The bridge's
// socket is there when flows can be put back.
func (r *repairer) watchSwitch(ctx context.Context) {
	ticker := time.NewTicker(switchInterval)
	defer ticker.Stop()
	paths := map[string]string{
		filepath.Join(r.agent.SwitchDir, plan.SwitchBridge+".mgmt"): "ovs-vswitchd was started anew",
		filepath.Join(r.agent.SwitchDir, "ovsdb-server.pid"):        "ovsdb-server was started anew",
	}
	seen := map[string]file{}
	for path := range paths {
		seen[path] = fileAt(path)
	}
	var flows vswitch.FlowCounts
	var counted time.Time
	known := int64(-1) // repairs there had been when flows was counted
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for path, reason := range paths {
			if now := fileAt(path); now != seen[path] && now != (file{}) {
				seen[path] = now
				r.because(reason)
			}
		}
		if time.Since(counted) < flowInterval {
			continue
		}
		counted = time.Now()
		// While the switch is away there is nothing to compare.
		if now, err := vswitch.CountFlows(r.agent.SwitchDir, plan.SwitchBridge, time.Second); err == nil {
			if repairs := r.repairs.Load(); repairs != known {
				flows, known = now, repairs // a repair puts flows back, and apply changes them
			} else if now != flows {
				r.because(fmt.Sprintf("flows changed from %+v to %+v", flows, now))
				flows = now
			}
		}
	}
}
