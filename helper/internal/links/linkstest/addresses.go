package linkstest

import (
	"net/netip"
	"syscall"

	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
)

// protocolKernel marks what the kernel makes (RTPROT_KERNEL).
const protocolKernel = 2

const noPrefixRoute = 0x200 // IFA_F_NOPREFIXROUTE

// remote is what the kernel keeps as an address's network (ifa_address).
func remote(a spec.Address) netip.Prefix {
	if a.Peer.IsValid() {
		return a.Peer.Masked()
	}
	return a.Prefix.Masked()
}

// AddAddress implements links.Kernel, IPv4 as inet_insert_ifa does.
func (k *Kernel) AddAddress(a spec.Address) error {
	d, err := k.device(links.LinkKey{NS: a.NS, Name: a.Link})
	switch {
	case err != nil:
		return err
	case a.NS == "" && a.Prefix.Addr().Is6() && k.settings[ipv6Off] == "1":
		return syscall.EACCES
	}
	a.Uplink = false
	added, at := address{Address: a}, 0
	for i, old := range d.addresses {
		if old.Prefix.Addr().Is6() || a.Prefix.Addr().Is6() {
			if old.Prefix == a.Prefix {
				return nil // EEXIST
			}
			at = i + 1
			continue
		}
		if !old.secondary && rank(a.Scope) <= rank(old.Scope) {
			at = i + 1
		}
		if remote(old.Address) != remote(a) {
			continue
		}
		switch {
		case old.Prefix.Addr() == a.Prefix.Addr():
			return nil // EEXIST
		case old.Scope != a.Scope:
			return syscall.EINVAL
		}
		added.secondary = true
	}
	if added.secondary {
		at = len(d.addresses)
	}
	k.Changes++
	d.addresses = append(d.addresses[:at:at], append([]address{added}, d.addresses[at:]...)...)
	if d.up {
		k.addPrefixRoute(d, added)
	}
	return nil
}

// rank is the scope as a number (rtm_scope).
func rank(s spec.Scope) int { return map[spec.Scope]int{"site": 200, "link": 253, "host": 254}[s] }

// addPrefixRoute makes the route of an address (fib_add_ifaddr,
// addrconf_prefix_route): behind those of its key that are there.
func (k *Kernel) addPrefixRoute(d *device, a address) {
	if r, ok := prefixRoute(d, a); ok {
		k.insert(r, true)
	}
}

func prefixRoute(d *device, a address) (spec.Route, bool) {
	r := spec.Route{NS: d.NS, To: remote(a.Address), Link: d.Name, Metric: a.Metric, Protocol: protocolKernel}
	if r.To.Addr().Is6() {
		if r.Metric == 0 {
			r.Metric = 256
		}
	} else {
		r.Source = a.Prefix.Addr()
		if a.secondary || r.To.Bits() == 32 && !a.Peer.IsValid() {
			return r, false
		}
	}
	return r, a.Flags&noPrefixRoute == 0 && d.Kind != spec.Loopback
}

// insert puts a route into its place; false: it is there already.
func (k *Kernel) insert(r spec.Route, behind bool) bool {
	first, last := len(k.routes), len(k.routes)
	for i, old := range k.routes {
		if links.KeyOf(old) != links.KeyOf(r) {
			continue
		}
		if old == r || r.To.Addr().Is6() && old.Link == r.Link && old.Via == r.Via {
			return false
		}
		if first == len(k.routes) {
			first = i
		}
		last = i + 1
	}
	at := first
	if behind || r.To.Addr().Is6() {
		at = last
	}
	k.routes = append(k.routes[:at:at], append([]spec.Route{r}, k.routes[at:]...)...)
	return true
}

// DeleteAddress implements links.Kernel. The secondary ones of the same network go
// along, as where promote_secondaries is off (inet_del_ifa).
func (k *Kernel) DeleteAddress(a spec.Address) error {
	d := k.devices[links.LinkKey{NS: a.NS, Name: a.Link}]
	if d == nil {
		return nil
	}
	var kept, gone []address
	primary := false
	for _, old := range d.addresses {
		if old.Same(a) && a.Prefix.Addr().Is4() {
			primary = !old.secondary
		}
	}
	for _, old := range d.addresses {
		if old.Same(a) || primary && old.secondary && remote(old.Address) == remote(a) {
			gone = append(gone, old)
		} else {
			kept = append(kept, old)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	k.Changes++
	d.addresses = kept
	for _, old := range gone {
		if r, ok := prefixRoute(d, old); ok {
			k.deleteRoutes(func(have spec.Route) bool { return have == r })
		}
	}
	if !d.hasIPv4() { // it ends on the link
		k.flush(d)
	}
	k.forgetSource(a.NS, gone)
	return nil
}

// forgetSources is forgetSource for a link that goes away.
func (k *Kernel) forgetSources(d *device) {
	gone := d.addresses
	d.addresses = nil
	k.forgetSource(d.NS, gone)
}

// forgetSource removes the routes that prefer an address which is no more
// (fib_sync_down_addr).
func (k *Kernel) forgetSource(ns string, gone []address) {
	for _, old := range gone {
		if !k.local(ns, old.Prefix.Addr()) {
			k.deleteRoutes(func(r spec.Route) bool { return r.NS == ns && r.Table == 0 && r.Source == old.Prefix.Addr() })
		}
	}
}

func (d *device) hasIPv4() bool {
	for _, a := range d.addresses {
		if a.Prefix.Addr().Is4() {
			return true
		}
	}
	return false
}

// local reports that an address is one of the namespace.
func (k *Kernel) local(ns string, ip netip.Addr) bool {
	for _, d := range k.in(ns) {
		for _, a := range d.addresses {
			if a.Prefix.Addr() == ip {
				return true
			}
		}
	}
	return false
}

// AddRoute implements links.Kernel (fib_table_insert, fib_check_nh).
func (k *Kernel) AddRoute(r spec.Route) error {
	d, err := k.device(links.LinkKey{NS: r.NS, Name: r.Link})
	switch {
	case err != nil:
		return err
	case !d.up:
		return syscall.ENETDOWN
	case r.Via.IsValid() && !r.OnLink && !k.onLink(d, r.Via):
		return syscall.ENETUNREACH
	case r.Source.IsValid() && !k.local(r.NS, r.Source):
		return syscall.EINVAL
	}
	behind := r.Behind
	if k.insert(asFound(r), behind) {
		k.Changes++
	}
	return nil
}

// asFound is a route as Observe tells it.
func asFound(r spec.Route) spec.Route {
	r.Uplink, r.Behind = false, false
	if r.Protocol == 0 {
		r.Protocol = 4
	}
	return r
}

// onLink reports that a next hop is reached over the link by a route of scope link.
func (k *Kernel) onLink(d *device, via netip.Addr) bool {
	if via.Is6() && via.IsLinkLocalUnicast() {
		return true
	}
	for _, r := range k.routes {
		if r.NS == d.NS && r.Link == d.Name && r.Table == 0 && !r.Via.IsValid() && r.Scope == "" && r.To.Contains(via) {
			return true
		}
	}
	return false
}

// DeleteRoute implements links.Kernel.
func (k *Kernel) DeleteRoute(r spec.Route) error {
	r = asFound(r)
	if k.deleteRoutes(func(have spec.Route) bool { return have == r }) > 0 {
		k.Changes++
	}
	return nil
}
