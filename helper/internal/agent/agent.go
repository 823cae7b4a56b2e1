// Package agent is what runs on a host all the time: it answers DNS for private
// names, keeps a working path to every peer, and notices what something else
// broke. It decides with pure code (package paths) and acts through the hands.
package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/store"
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
	Facts func() (*plan.Facts, error)
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
	Ways func() (plan.Shared, error)
	// Superseded reports that systemd would start another program as the agent now.
	Superseded func() bool
	// AppliedPath is a file that changes whenever Running does.
	AppliedPath string
	// SwitchDir holds the sockets of Open vSwitch, and StatePath is the socket
	// on which the agent tells its state.
	SwitchDir, StatePath string
	Log                  *slog.Logger
}

// watchInterval is how often the agent looks for another document.
const watchInterval = 250 * time.Millisecond

// Run works until the context ends.
func (a *Agent) Run(ctx context.Context) error {
	watch := time.NewTicker(watchInterval)
	defer watch.Stop()
	parts := a.parts()
	defer parts.stop()
	if err := parts.state.start(ctx); err != nil {
		a.Log.Warn("serving the state", "error", err)
	}
	go parts.repair.run(ctx)
	var running *store.Change
	var read file
	for {
		if now := fileAt(a.AppliedPath); now != read || running == nil {
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
		case <-watch.C:
		}
	}
}

// parts are what the agent does.
type parts struct {
	dns    *dnsService
	names  *publicNames
	heal   *healer
	state  *stateServer
	repair *repairer
	relays relaysAt
}

func (a *Agent) parts() *parts {
	return &parts{names: &publicNames{}, state: &stateServer{path: a.StatePath, log: a.Log}, repair: newRepairer(a), relays: relaysAt{path: a.RelaysPath}}
}

// follow has all parts follow what runs. It is called often: what depends on the
// document is computed when there is another one.
func (a *Agent) follow(ctx context.Context, p *parts, running *store.Change) {
	p.dns = a.serveDNS(ctx, p.dns, running)
	p.names.follow(p.dns)
	p.heal = a.serveHealing(ctx, p.heal, running, p.names)
	p.heal.setUnable(p.relays.look(a.Relaying))
	p.state.set(p.heal)
	p.repair.follow(running)
}

func (p *parts) stop() {
	p.heal.stop()
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
