package agent

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"mobula/helper/internal/endpoints"
	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/network"
)

const (
	// namesInterval is how often the healer looks whether a name is due.
	namesInterval = time.Second
	// lookupTimeout bounds a question, all resolvers and tries included. Whoever takes
	// longer in spite of it keeps one of endpoints.MaxAsking places, and nothing else.
	lookupTimeout = 10 * time.Second
)

// resolver finds the addresses of a name outside.
type resolver interface {
	PublicAddresses(ctx context.Context, name string) ([]netip.Addr, error)
}

// publicNames asks the resolvers that the nameserver forwards to, as it does: by the
// gateway's way outside. The nameserver may be replaced.
type publicNames struct {
	server atomic.Pointer[nameserver.Server]
}

func (p *publicNames) follow(d *dnsService) {
	if d == nil {
		p.server.Store(nil)
		return
	}
	p.server.Store(d.server)
}

func (p *publicNames) PublicAddresses(ctx context.Context, name string) ([]netip.Addr, error) {
	server := p.server.Load()
	if server == nil {
		return nil, errors.New("the nameserver does not run")
	}
	return server.PublicAddresses(ctx, name)
}

// followNamed takes over the names of another document. The caller holds the lock.
func (h *healer) followNamed(hosts []network.Host) {
	var named []endpoints.Peer
	for _, host := range hosts {
		if h.peers[host.ID] != nil {
			named = append(named, endpoints.Peer{ID: host.ID, Name: host.EndpointName, Endpoint: host.Endpoint})
		}
	}
	now := h.now()
	h.names.Set(now, h.ranges, named)
	for id, r := range h.peers {
		r.endpoint = r.host.Endpoint
		if known, ok := h.names.Report(id); ok {
			r.endpoint = known.Endpoint
		}
		h.engine.Resolved(now, id, r.endpoint)
	}
}

// followNames looks the names of endpoints up again, each in a goroutine of its own:
// none of them is waited for, not even at the end.
func (h *healer) followNames(ctx context.Context) {
	defer h.ended.Done()
	tick := time.NewTicker(namesInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, name := range h.dueNames() {
			go h.lookUp(ctx, name)
		}
	}
}

func (h *healer) dueNames() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	return h.names.Due(now, func(id uint16) bool { return h.engine.LostDirectly(now, id) })
}

func (h *healer) lookUp(ctx context.Context, name string) {
	asking, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := h.resolver.PublicAddresses(asking, name)
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil { // this healer has ended
		return
	}
	h.takeAddresses(name, addresses, err)
}

// takeAddresses hands in what a name stands for. The caller holds the lock.
func (h *healer) takeAddresses(name string, addresses []netip.Addr, err error) {
	now := h.now()
	for _, c := range h.names.Answer(now, name, addresses, err) {
		r := h.peers[c.ID]
		h.log.Info("the name of an endpoint stands for another address", "peer", r.host.Hostname, "name", name, "from", r.endpoint, "to", c.Endpoint)
		r.endpoint = c.Endpoint
		h.engine.Resolved(now, c.ID, c.Endpoint)
	}
	h.flush()
	h.wakeIfDue(now)
}
