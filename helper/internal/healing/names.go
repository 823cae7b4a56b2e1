package healing

import (
	"context"
	"net/netip"
	"time"

	"mobula/helper/internal/endpoints"
)

const (
	// namesInterval is how often the healer looks whether a name is due.
	namesInterval = time.Second
	// lookupTimeout bounds a question, all resolvers and tries included. Whoever takes
	// longer in spite of it keeps one of endpoints.MaxAsking places, and nothing else.
	lookupTimeout = 10 * time.Second
)

// Resolver finds the addresses of a name outside.
type Resolver interface {
	PublicAddresses(ctx context.Context, name string) ([]netip.Addr, error)
}

// followNamed takes over the names of another document. The caller holds the lock.
func (h *Healer) followNamed() {
	var named []endpoints.Peer
	for _, host := range h.change.Document.Hosts {
		r := h.peers[host.ID]
		if r == nil {
			continue
		}
		named = append(named, endpoints.Peer{Of: endpoints.Of{ID: host.ID}, Name: r.host.EndpointName, Endpoint: r.host.Endpoint})
		for i, other := range r.host.Others() {
			named = append(named, endpoints.Peer{Of: endpoints.Of{ID: host.ID, Number: i + 1}, Name: other.Name, Endpoint: other.Endpoint})
		}
	}
	now := h.now()
	h.names.Set(now, h.ranges, named)
	for id, r := range h.peers {
		r.endpoint = r.host.Endpoint
		if known, ok := h.names.Report(endpoints.Of{ID: id}); ok {
			r.endpoint = known.Endpoint
		}
		h.engine.Resolved(now, id, r.endpoint)
		r.others = r.host.OtherPlaces()
		for i := range r.others {
			if known, ok := h.names.Report(endpoints.Of{ID: id, Number: i + 1}); ok {
				r.others[i] = known.Endpoint
			}
			h.engine.OtherResolved(now, id, i, r.others[i])
		}
	}
}

// followNames looks the names of endpoints up again, each in a goroutine of its own:
// none of them is waited for, not even at the end.
func (h *Healer) followNames(ctx context.Context) {
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

func (h *Healer) dueNames() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	return h.names.Due(now, func(id uint16) bool { return h.engine.LostDirectly(now, id) })
}

func (h *Healer) lookUp(ctx context.Context, name string) {
	asking, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := h.Names.PublicAddresses(asking, name)
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil { // this healer has ended
		return
	}
	h.takeAddresses(name, addresses, err)
}

// takeAddresses hands in what a name stands for. The caller holds the lock.
func (h *Healer) takeAddresses(name string, addresses []netip.Addr, err error) {
	now := h.now()
	for _, c := range h.names.Answer(now, name, addresses, err) {
		r := h.peers[c.ID]
		is := &r.endpoint
		if c.Number > 0 {
			is = &r.others[c.Number-1]
		}
		h.Log.Info("the name of an endpoint stands for another address", "peer", r.host.Hostname, "name", name, "from", *is, "to", c.Endpoint)
		if *is = c.Endpoint; c.Number > 0 {
			h.engine.OtherResolved(now, c.ID, c.Number-1, c.Endpoint)
		} else {
			h.engine.Resolved(now, c.ID, c.Endpoint)
		}
	}
	h.flush()
	h.wakeIfDue(now)
}
