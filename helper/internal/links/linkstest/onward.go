package linkstest

import (
	"cmp"
	"net/netip"
	"slices"

	"mobula/helper/internal/spec"
)

// Devices returns the links of a namespace, each with a value that is another one when it
// was made anew or has been elsewhere: who left a namespace is a new one there
// (dev_change_net_namespace of the kernel: NETDEV_UNREGISTER).
func (k *Kernel) Devices(ns string) map[string]any {
	type identity struct {
		*device
		moves int
	}
	all := map[string]any{}
	for _, d := range k.in(ns) {
		all[d.Name] = identity{d, d.moves}
	}
	return all
}

// Onward is links.Onward by the main table of the host's own namespace.
func (k *Kernel) Onward(d *spec.Doorway) (*spec.Onward, error) {
	onward, leads := &spec.Onward{}, map[string]bool{}
	var own []netip.Addr
	for _, l := range k.in("") {
		leads[l.Name] = slices.Contains(d.Outside, l.Name)
		for _, a := range l.addresses {
			if ip := a.Prefix.Addr(); ip == d.Endpoint || leads[l.Name] && ip.Is4() && a.Scope == "" {
				own = append(own, ip)
			}
		}
	}
	if slices.Contains(own, d.Endpoint) {
		own = []netip.Addr{d.Endpoint}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	for _, from := range slices.Compact(own) {
		for _, to := range d.Targets() {
			best := k.lookup(to)
			if best == nil || best.Link == d.Direct || best.Link == d.Access || best.Link == "lo" {
				continue
			}
			w := spec.Way{From: from, To: to, Hop: to, Link: best.Link}
			if best.Via.IsValid() {
				w.Hop = best.Via
			}
			leads[w.Link] = true
			onward.Ways = append(onward.Ways, w)
		}
	}
	for _, l := range k.in("") {
		if leads[l.Name] {
			onward.Links = append(onward.Links, spec.OnwardLink{Name: l.Name, Index: 2 + l.moves, MTU: l.MTU})
		}
	}
	slices.SortFunc(onward.Links, func(a, b spec.OnwardLink) int { return cmp.Compare(a.Name, b.Name) })
	return onward, nil
}

// lookup finds the longest prefix with the lowest metric; nil: none.
func (k *Kernel) lookup(to netip.Addr) (best *spec.Route) {
	for i, r := range k.routes {
		if r.NS == "" && r.Table == 0 && r.To.Contains(to) &&
			(best == nil || r.To.Bits() > best.To.Bits() || r.To.Bits() == best.To.Bits() && r.Metric < best.Metric) {
			best = &k.routes[i]
		}
	}
	return best
}
