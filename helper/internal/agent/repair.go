package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/hostnames"
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
	// What breaks is repaired at once repairBurst times, and then every
	// repairInterval: who breaks it again and again must not keep the host busy.
	repairBurst    = 5
	repairInterval = 5 * time.Second
	// switchInterval is how often the agent looks whether Open vSwitch was
	// started anew, and flowInterval how often it counts the flows; not for
	// startGrace after a start.
	switchInterval = 250 * time.Millisecond
	flowInterval   = 2 * time.Second
	startGrace     = 5 * time.Second
	// The ways outside and to other hosts are looked at as soon as something changes,
	// waysBurst times, and then every waysInterval: that is a question to the kernel for
	// each host, and routes may change all the time.
	waysBurst    = 10
	waysInterval = 2 * time.Second
	// firstRetry and lastRetry are between repairs that failed.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// repairer starts a repair when something was lost, and now and then.
type repairer struct {
	agent   *Agent
	log     *slog.Logger
	reasons chan string
	// moved: something of the host's network is another, by which packets may take other
	// ways.
	moved chan struct{}

	pace pacer // of repairs for a reason
	// first is how long after its beginning it compares: nobody told it what broke before.
	first time.Duration

	mu            sync.Mutex
	change        *store.Change         // of which ours are
	ours          map[string]*links.Own // by namespace
	doorway       *plan.Doorway         // the host's own namespace has tables of ours; nil: it has none
	names         []string              // files that change when others change where names are found
	subscribed    subscribed
	subscriptions []*netns.Subscription
	enabled       bool
}

// subscribed is what a repairer follows.
type subscribed struct {
	namespace uint64 // inode of the gateway's; 0: nothing
	doorway   bool   // also the tables of the host's own namespace
}

func newRepairer(a *Agent) *repairer {
	r := &repairer{agent: a, log: a.Log, reasons: make(chan string, 64), moved: make(chan struct{}, 1), pace: pacer{burst: repairBurst, interval: repairInterval}, first: startGrace}
	wake(r.moved) // before it looked
	return r
}

// follow subscribes to what the kernel tells of the namespaces as they are now.
func (r *repairer) follow(running *store.Change) {
	inode := namespaceInode()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enabled = running != nil && running.Document != nil
	if !r.enabled {
		inode = 0
	} else if r.change != running {
		r.change = running
		r.know(running)
	}
	now := subscribed{inode, inode != 0 && r.doorway != nil}
	if r.subscribed == now {
		return
	}
	for _, s := range r.subscriptions {
		s.Close()
	}
	r.subscriptions, r.subscribed = nil, now
	if inode == 0 {
		return
	}
	for _, ns := range []string{"", plan.Namespace} {
		ns := ns
		r.subscribe(links.Subscribe, ns, func(s *netns.Subscription) error {
			return links.Watch(s, func() *links.Own { return r.own(ns) }, r.because, func() {
				if ns == "" {
					wake(r.moved)
				}
			})
		})
	}
	tables := []string{plan.Namespace}
	if now.doorway {
		tables = append(tables, "")
	}
	for _, ns := range tables {
		r.subscribe(firewall.Subscribe, ns, func(s *netns.Subscription) error {
			return firewall.Watch(s, func() { r.because("nftables changed") })
		})
	}
}

// know computes what of the host's network is Mobula's.
func (r *repairer) know(running *store.Change) {
	facts, err := r.agent.Facts()
	if err == nil && facts != nil {
		var p *plan.Host
		if p, err = plan.Build(running.Document, running.HostID, *facts); err == nil {
			r.ours = map[string]*links.Own{"": links.NewOwn(p, ""), plan.Namespace: links.NewOwn(p, plan.Namespace)}
			r.doorway, r.names = p.Doorway, hostnames.Watched(p)
		}
	}
	if err != nil {
		r.log.Warn("planning what to watch", "error", err)
	}
}

// own returns what is Mobula's in a namespace.
func (r *repairer) own(namespace string) *links.Own {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.ours[namespace]; o != nil {
		return o
	}
	return new(links.Own) // not known yet: nothing
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
	go r.watchWays(ctx)
	go r.watchNames(ctx)
	retry := firstRetry
	wait := r.first
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
			r.log.Info("comparing the host with its plan", "because", reasons)
		}
		err := r.agent.Repair(ctx)
		// What the repair itself did is told as well, and must not use up the burst.
		echo = !echo && len(r.reasons) > 0
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

// wait returns the reasons for a repair; none when the time is over. The first of them is an
// echo if it came while the last repair was at work.
func (r *repairer) wait(ctx context.Context, most time.Duration, echo bool) []string {
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

// watchSwitch notices that flows came or went, or that ovsdb-server was started
// anew: its PID file is new then.
func (r *repairer) watchSwitch(ctx context.Context) {
	ticker := time.NewTicker(switchInterval)
	defer ticker.Stop()
	database := filepath.Join(r.agent.SwitchDir, "ovsdb-server.pid")
	bridge := filepath.Join(r.agent.SwitchDir, plan.SwitchBridge+".mgmt")
	served, started := fileAt(database), fileAt(bridge)
	var flows *vswitch.FlowCounts // nil: not counted yet
	next := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := fileAt(database); now != served && now != (file{}) {
			served = now
			r.because("ovsdb-server was started anew")
		}
		if now := fileAt(bridge); now != started {
			// The unit of ovs-vswitchd puts the flows back itself.
			started, next = now, time.Now().Add(startGrace)
		}
		if time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(flowInterval)
		now, err := r.countFlows(flows)
		if err != nil {
			continue // while the switch is away there is nothing to compare
		}
		if flows != nil && *now != *flows {
			r.because(fmt.Sprintf("flows changed from %+v to %+v", *flows, *now))
		}
		flows = now
	}
}

// countFlows counts until two counts in a row are equal, or one is as before, but
// not for ever: what the switch learns while it counts makes a count wrong.
func (r *repairer) countFlows(before *vswitch.FlowCounts) (*vswitch.FlowCounts, error) {
	last := before
	for tries := 1; ; tries++ {
		now, err := vswitch.CountFlows(r.agent.SwitchDir, plan.SwitchBridge, time.Second)
		if err != nil || last != nil && now == *last || tries == 5 {
			return &now, err
		}
		last = &now
	}
}
