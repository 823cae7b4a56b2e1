// Package agent is what runs on a host all the time: it answers DNS for private
// names, has package healing keep a working path to every peer and package watch
// notice what something else broke, and shows how all of that is.
package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"mobula/helper/internal/healing"
	"mobula/helper/internal/metrics"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/watch"
)

// Host is what the agent needs of the host it runs on.
type Host interface {
	// Running returns the change the host has now; nil: none.
	Running() (*store.Change, error)
	// Changing reports that a change is being carried out.
	Changing() bool
}

// Agent is the running agent.
type Agent struct {
	Host Host
	// PrivateKey finds the private half of the host's public key.
	PrivateKey func(public network.Key) (network.Key, error)
	// Facts are what the host was before Mobula; nil: not known.
	Facts func() (*spec.Facts, error)
	// Resolvers are the host's own now, and ResolverFiles what they are read from.
	Resolvers     func(network.Ranges) []netip.Addr
	ResolverFiles []string
	// Repair compares the host with its plan and puts right what differs. It
	// runs outside the agent, which lacks the privileges.
	Repair func(ctx context.Context) error
	// Relaying is by what a host that keeps its NIC relays, and RelaysPath a file that
	// changes with that; nil: it does not.
	Relaying   Relaying
	RelaysPath string
	// Ways returns the ways outside that a host with its NIC has now; nil: those of Facts.
	Ways func() (spec.Shared, error)
	// Superseded reports that systemd would start another program as the agent now.
	Superseded func() bool
	// AppliedPath is a file that changes whenever Running does.
	AppliedPath string
	// SwitchDir holds the sockets of Open vSwitch, and StatePath is the socket
	// on which the agent tells its state, MeshPath that on which it tells what all hosts say.
	SwitchDir, StatePath, MeshPath string
	// MetricsPath is the socket on which it answers Prometheus, "": none. Of what that tells,
	// Pending says whether a change waits for confirmation, Compared what the last comparison
	// of the host with its plan found, Counters what its rules counted, which are others where
	// the NIC stays with the host; nil: nobody knows.
	MetricsPath string
	Pending     func() bool
	Compared    func() watch.Comparison
	Counters    func(sharedUplink bool) (*metrics.Gateway, error)
	// Version is that of this program, Problems what is wrong with this host, in sentences.
	Version  string
	Problems func() []string
	Log      *slog.Logger

	failing func() bool // repairs fail; nil: there was none
}

// watchInterval is how often the agent looks for another document.
const watchInterval = 250 * time.Millisecond

// Run works until the context ends.
func (a *Agent) Run(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	parts := a.parts()
	defer parts.stop()
	if err := parts.teller.Start(ctx, a.StatePath); err != nil {
		a.Log.Warn("serving the state", "error", err)
	}
	if err := parts.teller.StartMesh(ctx, a.MeshPath); err != nil {
		a.Log.Warn("serving what all hosts say", "error", err)
	}
	if err := parts.metrics.start(ctx, a.MetricsPath); err != nil {
		a.Log.Warn("serving metrics", "error", err)
	}
	go parts.repair.Run(ctx)
	var running *store.Change
	var read watch.File
	for {
		if now := watch.FileAt(a.AppliedPath); now != read || running == nil {
			running, read = a.running(running), now
			if running != nil && a.Superseded() && !a.Host.Changing() {
				a.Log.Info("another version of the program is in force: it takes over")
				return nil
			}
		}
		a.follow(ctx, parts, running)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// parts are what the agent does.
type parts struct {
	dns     *dnsService
	names   *publicNames
	heal    *healing.Healer
	teller  *healing.Teller
	healing healing.Config
	repair  *watch.Repairer
	relays  relaysAt
	metrics *metricsServer
	page    *pageServer
}

func (a *Agent) parts() *parts {
	p := &parts{names: &publicNames{}, teller: &healing.Teller{Log: a.Log}, repair: a.repairer(), relays: relaysAt{path: a.RelaysPath}}
	p.healing = healing.Config{Log: a.Log, PrivateKey: a.PrivateKey, Names: p.names, About: a.about}
	p.page = newPageServer(a.Log, p.teller.Mesh, p.teller.Ways)
	p.metrics = newMetricsServer(a, p.teller.Metrics, p.repair.Counted)
	p.metrics.callsRefused, p.metrics.pageRefused = p.teller.Refused, p.page.refused.Load
	a.failing = p.repair.Failing
	return p
}

func (a *Agent) repairer() *watch.Repairer {
	c := watch.Config{Facts: a.Facts, Repair: a.Repair, Changing: a.Host.Changing, Compared: a.Compared, SwitchDir: a.SwitchDir, Ways: a.Ways, Log: a.Log}
	if a.Relaying != nil {
		c.Stale = a.Relaying.Stale
	}
	return watch.New(c)
}

// follow has all parts follow what runs. It is called often: what depends on the
// document is computed when there is another one.
func (a *Agent) follow(ctx context.Context, p *parts, running *store.Change) {
	p.dns = a.serveDNS(ctx, p.dns, running)
	p.names.follow(p.dns)
	p.heal = healing.Serve(ctx, p.healing, p.heal, running)
	p.heal.SetUnable(p.relays.look(a.Relaying))
	p.teller.Set(p.heal)
	p.page.follow(ctx, running)
	p.repair.Follow(running)
	p.metrics.follow(ctx, p, running)
}

func (p *parts) stop() {
	p.metrics.inside.stop()
	p.page.stop()
	p.heal.Stop()
	p.dns.stop()
}

// running returns what the host has now. While it is changed that is still what
// it had: the agent works on.
func (a *Agent) running(before *store.Change) *store.Change {
	running, err := a.Host.Running()
	if err != nil {
		a.Log.Warn("reading what runs", "error", err)
	}
	if running == nil && a.Host.Changing() {
		return before
	}
	if running != nil && before != nil && running.Same(before) {
		return before // the file is new, the network is not
	}
	return running
}

// about is what this host says of itself besides its ways.
func (a *Agent) about() (version string, problems []string) {
	if a.Problems != nil {
		problems = a.Problems()
	}
	if a.failing != nil && a.failing() {
		problems = append(problems, "what differs from its plan cannot be repaired; on it, journalctl -u "+spec.UnitRepair+" says why")
	}
	return a.Version, problems
}
