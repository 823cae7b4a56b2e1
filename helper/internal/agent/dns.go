package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/watch"
)

// listensAt are the gateway's addresses at which it answers: guests and other hosts ask
// the first. The second is the host's business, which reaches it whatever else it has.
func listensAt(change *store.Change) []netip.Addr {
	return []netip.Addr{change.Document.GatewayAddress(change.HostID), change.Document.DirectGateway()}
}

// dnsService is a nameserver for one address.
type dnsService struct {
	server    *nameserver.Server
	change    *store.Change // of which the names are
	address   netip.Addr
	namespace uint64       // inode: sockets stay in the namespace they were made in
	resolvers []watch.File // of the host, as they were read
	cancel    context.CancelFunc
	ended     chan struct{}
}

func (d *dnsService) stop() {
	if d != nil {
		d.cancel()
		<-d.ended
	}
}

func (d *dnsService) dead() bool {
	select {
	case <-d.ended:
		return true
	default:
		return false
	}
}

// serveDNS makes the nameserver follow what runs.
func (a *Agent) serveDNS(ctx context.Context, current *dnsService, running *store.Change) *dnsService {
	if running == nil || running.Document == nil {
		current.stop()
		return nil
	}
	address := running.Document.GatewayAddress(running.HostID)
	if current != nil && !current.dead() && current.address == address && current.namespace == netns.Inode(spec.Namespace) {
		resolvers := a.resolverFiles(running)
		if current.change != running {
			current.server.SetZone(running.Document)
		}
		if current.change != running || !slices.Equal(resolvers, current.resolvers) {
			current.server.SetUpstreams(a.upstreams(running))
			current.change, current.resolvers = running, resolvers
		}
		return current
	}
	current.stop()
	started, err := a.startDNS(ctx, running, address)
	if err != nil {
		a.Log.Warn("starting the nameserver", "error", err)
		return nil
	}
	a.Log.Info("answering DNS", "address", address, "generation", running.Generation())
	return started
}

func (a *Agent) startDNS(ctx context.Context, running *store.Change, address netip.Addr) (*dnsService, error) {
	resolvers := a.resolverFiles(running)
	cfg := nameserver.Config{Upstreams: a.upstreams(running), Dial: dialInNamespace, Allowed: []netip.Prefix{running.Document.Wire(), running.Document.Access()}, Favored: favored(running)}
	if err := netns.Do(spec.Namespace, func() error { return openSockets(&cfg, listensAt(running)) }); err != nil {
		return nil, err
	}
	server := nameserver.New(cfg, a.Log)
	server.SetZone(running.Document)
	ctx, cancel := context.WithCancel(ctx)
	d := &dnsService{server: server, change: running, resolvers: resolvers, address: address, namespace: netns.Inode(spec.Namespace), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		if err := server.Serve(ctx); err != nil && !errors.Is(err, context.Canceled) {
			a.Log.Warn("the nameserver ended", "error", err)
		}
	}()
	return d, nil
}

// openSockets opens those of the nameserver, all or none.
func openSockets(cfg *nameserver.Config, at []netip.Addr) (err error) {
	defer func() {
		if err != nil {
			for _, c := range cfg.PacketConns {
				c.Close()
			}
			for _, l := range cfg.Listeners {
				l.Close()
			}
		}
	}()
	for _, address := range at {
		at := netip.AddrPortFrom(address, 53).String()
		packets, err := net.ListenPacket("udp4", at)
		if err != nil {
			return err
		}
		cfg.PacketConns = append(cfg.PacketConns, packets)
		listener, err := net.Listen("tcp4", at)
		if err != nil {
			return err
		}
		cfg.Listeners = append(cfg.Listeners, listener)
	}
	return nil
}

// favored are whom guests cannot keep from names: hosts and clients, which the firewall
// lets come by WireGuard and the direct link only, and the host itself. Of the host's
// address on the access network its own guests may have a part, as any one source.
func favored(running *store.Change) []netip.Prefix {
	own := running.Document.AccessAddress(running.HostID)
	return []netip.Prefix{running.Document.Wire(), netip.PrefixFrom(own, own.BitLen())}
}

func dialInNamespace(ctx context.Context, network, address string) (net.Conn, error) {
	return netns.Dial(ctx, spec.Namespace, network, address)
}

// resolverFiles tells of the files with the resolvers of a host that keeps them, which
// change with its network.
func (a *Agent) resolverFiles(running *store.Change) (all []watch.File) {
	if self, _ := running.Self(); self.SharedUplink {
		for _, path := range a.ResolverFiles {
			all = append(all, watch.FileAt(path))
		}
	}
	return all
}

// upstreams returns the resolvers that the document names for this host, those that a
// host which keeps its own has now, or those it had before.
func (a *Agent) upstreams(running *store.Change) []netip.AddrPort {
	self, _ := running.Self()
	if len(self.UpstreamDNS) > 0 {
		return nameserver.Port53(self.UpstreamDNS)
	}
	if self.SharedUplink {
		if now := a.Resolvers(running.Document.Ranges); len(now) > 0 {
			return nameserver.Port53(now)
		}
	}
	facts, err := a.Facts()
	if err != nil {
		a.Log.Warn("reading the host's own resolvers", "error", err)
	}
	if facts == nil {
		return nil
	}
	return nameserver.Port53(facts.Resolvers)
}
