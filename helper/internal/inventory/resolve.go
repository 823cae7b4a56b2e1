package inventory

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mobula/helper/internal/network"
)

// Bounds of name resolution.
const (
	lookupTimeout  = 10 * time.Second // of one name
	lookupsTimeout = 30 * time.Second // of all names together
	lookupWorkers  = 32
)

// resolveEndpoints gives the hosts their endpoints.
func (c *compilation) resolveEndpoints(ctx context.Context, resolver Resolver, hosts []*host) {
	results := lookUp(ctx, resolver, hosts)
	for _, h := range hosts {
		for i := range h.places {
			if p := &h.places[i]; p.lookup != "" {
				c.takeAddress(h, p, results[p.lookup])
			}
		}
		if (h.unreached || len(h.places) > 0) && h.port != 0 {
			h.setEndpoints()
		}
	}
}

// publicName returns a name as any host can ask for it. One without a dot is known on the
// deployer alone, from its search list or its /etc/hosts: "".
func publicName(name string) string {
	if name = strings.TrimSuffix(name, "."); !strings.Contains(name, ".") {
		return ""
	}
	return name
}

// setEndpoints makes the endpoints of what was read and found, which may be none.
func (h *host) setEndpoints() {
	h.WireGuardPort = h.port
	for _, p := range h.places {
		port := p.port
		if port == 0 {
			port = h.port
		}
		other := network.OtherEndpoint{Endpoint: netip.AddrPortFrom(p.address, port), Name: publicName(p.lookup)}
		switch {
		case p.address.Is4() && !h.Endpoint.IsValid():
			if h.Endpoint, h.EndpointName = other.Endpoint, other.Name; port == h.port {
				h.WireGuardPort = 0
			}
		case p.address.Is4():
			h.OtherEndpoints = append(h.OtherEndpoints, other)
		case p.address.Is6():
			h.IPv6Endpoints = append(h.IPv6Endpoints, other)
		}
	}
}

// takeAddress chooses the address of an endpoint among those of its name, which are of one
// family: the smallest, so that the choice does not depend on the order of the answer.
func (c *compilation) takeAddress(h *host, p *reach, r lookupResult) {
	var all []netip.Addr
	for _, a := range r.addresses {
		all = append(all, a.Unmap())
	}
	slices.SortFunc(all, netip.Addr.Compare)
	switch field := h.endpointField(); {
	case len(all) > 0:
		p.address = all[0]
		if all[0] != all[len(all)-1] {
			c.warn(h.Name, "%s %s has %d addresses; %s is used", field, p.lookup, len(all), all[0])
		}
	default:
		found := shown(p.lookup) + ", which does not resolve"
		if r.err != nil {
			found += " (" + r.err.Error() + ")"
		}
		c.report(h.Name, field, found, "an IPv4 address or a name that has one (set endpoint; ansible_host is for SSH alone)")
	}
}

// lookupResult has the IPv4 addresses of a name, or those of IPv6 if it has no others.
type lookupResult struct {
	addresses []netip.Addr
	err       error
}

// hasNone reports that a name has no address of the kind that was asked for.
func hasNone(err error) bool {
	var dns *net.DNSError
	var unsuitable *net.AddrError
	return errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &unsuitable)
}

var errNoResolver = errors.New("there is no resolver")

// lookUp asks for the names of all hosts, each once and many at a time.
func lookUp(ctx context.Context, resolver Resolver, hosts []*host) map[string]lookupResult {
	results := map[string]lookupResult{}
	for _, h := range hosts {
		for _, p := range h.places {
			if p.lookup != "" {
				results[p.lookup] = lookupResult{err: errNoResolver}
			}
		}
	}
	if len(results) == 0 || resolver == nil {
		return results
	}
	names := make(chan string, len(results))
	for name := range results {
		names <- name
	}
	close(names)

	ctx, cancel := context.WithTimeout(ctx, lookupsTimeout)
	defer cancel()
	var mutex sync.Mutex // guards results
	var workers sync.WaitGroup
	for i := min(lookupWorkers, len(results)); i > 0; i-- {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for name := range names {
				r := lookUpOne(ctx, resolver, name)
				mutex.Lock()
				results[name] = r
				mutex.Unlock()
			}
		}()
	}
	workers.Wait()
	return results
}

func lookUpOne(ctx context.Context, resolver Resolver, name string) lookupResult {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := resolver.LookupNetIP(ctx, "ip4", name)
	if !hasNone(err) { // an error of the moment does not make it a name of IPv6
		return lookupResult{addresses, err}
	}
	if six, err6 := resolver.LookupNetIP(ctx, "ip6", name); err6 == nil {
		return lookupResult{six, nil}
	}
	return lookupResult{nil, err}
}
