package inventory

import (
	"context"
	"errors"
	"net/netip"
	"sort"
	"strings"
	"sync"
	"time"
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
		if h.lookup != "" {
			c.takeAddress(h, results[h.lookup])
			h.EndpointName = publicName(h.lookup)
		}
		if h.address.IsValid() && h.port != 0 {
			h.setEndpoint()
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

// setEndpoint makes the endpoint of what was read.
func (h *host) setEndpoint() {
	port := h.port
	if h.endpointPort != 0 && h.endpointPort != h.port {
		port, h.WireGuardPort = h.endpointPort, h.port
	}
	h.Endpoint = netip.AddrPortFrom(h.address, port)
}

// takeAddress chooses the host's address among those of its name: the smallest,
// so that the choice does not depend on the order of the answer.
func (c *compilation) takeAddress(h *host, r lookupResult) {
	var four []netip.Addr
	for _, a := range r.addresses {
		if a = a.Unmap(); a.Is4() {
			four = append(four, a)
		}
	}
	sort.Slice(four, func(i, j int) bool { return four[i].Less(four[j]) })
	switch {
	case len(four) > 0:
		h.address = four[0]
		if four[0] != four[len(four)-1] {
			c.warn(h.Name, "endpoint %s has %d addresses; %s is used", h.lookup, len(four), four[0])
		}
	case len(r.addresses) > 0:
		c.report(h.Name, "endpoint", shown(h.lookup)+", which has IPv6 addresses only", "an IPv4 address (IPv6 is not carried yet)")
	default:
		found := shown(h.lookup) + ", which does not resolve"
		if r.err != nil {
			found += " (" + r.err.Error() + ")"
		}
		c.report(h.Name, "endpoint", found, "an IPv4 address or a name that has one (set endpoint; ansible_host is for SSH alone)")
	}
}

type lookupResult struct {
	addresses []netip.Addr
	err       error
}

var errNoResolver = errors.New("there is no resolver")

// lookUp asks for the names of all hosts, each once and many at a time.
func lookUp(ctx context.Context, resolver Resolver, hosts []*host) map[string]lookupResult {
	results := map[string]lookupResult{}
	for _, h := range hosts {
		if h.lookup != "" {
			results[h.lookup] = lookupResult{err: errNoResolver}
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
	addresses, err := resolver.LookupNetIP(ctx, "ip", name)
	return lookupResult{addresses, err}
}
