package links

import (
	"fmt"
	"net/netip"
	"sort"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/spec"
)

// baseline notes what has to be put back, and what cannot be.
func (u *uplinkView) baseline() *spec.Baseline {
	b := &spec.Baseline{}
	var mine []foundAddress
	var v6 []spec.Address
	for _, a := range u.addresses {
		if a.index != u.link.Index || !u.keeps(a) {
			continue
		}
		if mine = append(mine, a); a.Prefix.Addr().Is4() {
			b.Addresses = append(b.Addresses, a.Address)
		} else { // the kernel puts a new one in front
			v6 = append([]spec.Address{a.Address}, v6...)
		}
	}
	if len(b.Addresses) == 0 {
		u.found("no IPv4 address", "at least one")
	}
	b.Addresses = append(b.Addresses, v6...)
	u.inOrder(mine)
	made := u.madeByKernel(mine)
	u.others()
	b.Routes, b.Absent = u.ipv4Routes(made)
	b.Routes = append(b.Routes, u.ipv6Routes(made)...)
	u.reachable(b.Routes, made)
	b.DefaultMetric = u.defaultMetric()
	return b
}

// keeps tells whether an address of the uplink has to be put back: IPv6 ones that
// the kernel makes and those that routers advertise come by themselves.
func (u *uplinkView) keeps(a foundAddress) bool {
	if a.Prefix.Addr().Is6() && (!a.permanent || u.linkLocal(a)) {
		return false
	}
	switch {
	case !a.permanent:
		u.found(fmt.Sprintf("address %s from DHCP (it has a lifetime)", a.Prefix), "a static one")
	case a.Prefix.Addr().Is6() && a.Peer.IsValid():
		u.lost("address %s with a peer", a.Prefix)
	}
	for _, what := range a.odd {
		if a.permanent {
			u.lost("address %s with %s", a.Prefix, what)
		}
	}
	return true
}

// linkLocal tells the address that the kernel gives each interface: by its protocol
// since Linux 5.18, before by what it is made of.
func (u *uplinkView) linkLocal(a foundAddress) bool {
	ip := a.Prefix.Addr()
	if !ip.IsLinkLocalUnicast() || a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
		return false
	}
	const kernelLinkLocal = 3 // IFAPROT_KERNEL_LL
	return a.Protocol == kernelLinkLocal || a.Protocol == 0 && (isEUI64(ip.AsSlice(), u.link.HardwareAddr) || a.stable)
}

// inOrder holds that the IPv4 addresses, given again in their order, stand in it
// again and are secondary as before (inet_insert_ifa in the kernel).
func (u *uplinkView) inOrder(all []foundAddress) {
	var list []foundAddress
	for _, a := range all {
		if a.Prefix.Addr().Is6() {
			continue
		}
		at, secondary := 0, false
		for i, before := range list {
			if !before.secondary && scopeNumber(a.Scope, 0) <= scopeNumber(before.Scope, 0) {
				at = i + 1
			}
			if networkOf(before.Address) == networkOf(a.Address) {
				secondary = true
				if before.Scope != a.Scope {
					u.lost("address %s with another scope than %s", a.Prefix, before.Prefix)
				}
			}
		}
		if secondary {
			at = len(list)
		}
		if secondary != a.secondary || at != len(list) {
			u.lost("address %s out of order", a.Prefix)
		}
		list = append(list, a)
	}
}

// ipv6Metric is that of routes which the kernel makes (IP6_RT_PRIO_ADDRCONF).
const ipv6Metric = 256

// networkOf is what the kernel's own route for an address leads to.
func networkOf(a spec.Address) netip.Prefix {
	if a.Peer.IsValid() {
		return a.Peer.Masked()
	}
	return a.Prefix.Masked()
}

// madeByKernel are the routes of the main table that the kernel makes for addresses,
// in the order in which it does.
func (u *uplinkView) madeByKernel(all []foundAddress) (made []spec.Route) {
	for _, a := range all {
		if r, ok := madeFor(a.Address, a.secondary); ok {
			made = append(made, r)
		}
	}
	return made
}

// madeFor is the route that the kernel makes for an address (fib_add_ifaddr,
// addrconf_prefix_route).
func madeFor(a spec.Address, secondary bool) (r spec.Route, ok bool) {
	r = spec.Route{NS: a.NS, To: networkOf(a), Link: a.Link, Metric: a.Metric, Protocol: protocolKernel}
	if a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
		return r, false
	}
	if r.To.Addr().Is6() {
		if r.Metric == 0 {
			r.Metric = ipv6Metric
		}
		return r, true
	}
	r.Source = a.Prefix.Addr()
	return r, !secondary && (r.To.Bits() < 32 || a.Peer.IsValid())
}

// others names routes of other interfaces and other tables that the uplink's going
// would take along.
func (u *uplinkView) others() {
	elsewhere, here := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, a := range u.addresses {
		if a.index == u.link.Index {
			here[a.Prefix.Addr()] = true
		} else {
			elsewhere[a.Prefix.Addr()] = true
		}
	}
	for _, r := range u.routes {
		over := r.index == u.link.Index
		for _, index := range r.others {
			over = over || index == u.link.Index
		}
		switch {
		case over && r.Table != 0 && !(r.local && r.Protocol == protocolKernel):
			u.lost("%s", routeName(r.Route))
		case over && r.index != u.link.Index:
			u.lost("%s with several next hops", routeName(r.Route))
		case !over && here[r.Source] && !elsewhere[r.Source]:
			u.lost("%s on %s from its address %s", routeName(r.Route), u.nameOf(r.index), r.Source)
		}
	}
}

// carries names what of a route of the uplink cannot be put back.
func (u *uplinkView) carries(r foundRoute) {
	for _, what := range r.odd {
		u.lost("%s with %s", routeName(r.Route), what)
	}
	switch {
	case r.Protocol == unix.RTPROT_DHCP:
		u.found("a route from DHCP", "static configuration")
	case r.Via.IsValid() && r.Scope != "", r.Scope != "" && r.Scope != "global":
		u.lost("%s with scope %s", routeName(r.Route), r.Scope)
	case r.Via.IsValid() && r.Via.BitLen() != r.To.Addr().BitLen():
		u.lost("%s with a gateway of another family", routeName(r.Route))
	case r.To.Addr().Is6() && r.Source.IsValid():
		u.lost("%s with source %s", routeName(r.Route), r.Source)
	}
}

// ipv4Routes returns the uplink's routes of the main table in the order in which
// they are put back: a gateway's own network first. Routes of one key keep theirs.
func (u *uplinkView) ipv4Routes(made []spec.Route) (all, absent []spec.Route) {
	stacks := map[RouteKey][]foundRoute{}
	var mine []foundRoute
	kernels := map[spec.Route]bool{}
	for _, r := range made {
		kernels[r] = true
	}
	there := map[spec.Route]bool{}
	for _, r := range u.routes {
		if r.Table != 0 || r.To.Addr().Is6() {
			continue
		}
		key := KeyOf(r.Route)
		stacks[key] = append(stacks[key], r)
		switch {
		case r.index != u.link.Index:
		case kernels[r.Route]:
			there[r.Route] = true
		default:
			u.carries(r)
			mine = append(mine, r)
		}
	}
	for _, r := range made {
		if r.To.Addr().Is4() && !there[r] {
			absent = append(absent, r)
		}
	}
	sort.SliceStable(mine, func(i, j int) bool { return !mine[i].Via.IsValid() && mine[j].Via.IsValid() })
	all = u.restack(mine, made, stacks)
	return all, absent
}

// restack finds how each of the routes is added so that all of one key stand as
// they stood: the kernel adds its own at the end, and what is elsewhere stays.
func (u *uplinkView) restack(mine []foundRoute, made []spec.Route, stacks map[RouteKey][]foundRoute) (all []spec.Route) {
	for i := range mine { // from the last to the first of those that go to the front
		mine[i].Behind = u.follows(mine[i], stacks, made)
	}
	byPlace := append([]foundRoute{}, mine...)
	sort.SliceStable(byPlace, func(i, j int) bool {
		a, b := byPlace[i], byPlace[j]
		if KeyOf(a.Route) != KeyOf(b.Route) || a.Behind != b.Behind || a.Via.IsValid() != b.Via.IsValid() {
			return false
		}
		return !a.Behind && place(stacks, a.Route) > place(stacks, b.Route)
	})
	for _, r := range byPlace {
		all = append(all, r.Route)
	}
	for key, stack := range stacks {
		if !u.sameStack(key, stack, made, all) {
			u.lost("%s at its place among others to there", routeName(stack[0].Route))
		}
	}
	return all
}

func place(stacks map[RouteKey][]foundRoute, r spec.Route) int {
	for i, one := range stacks[KeyOf(r)] {
		if asFound(one.Route) == asFound(r) {
			return i
		}
	}
	return -1
}

// follows reports that a route stands behind one that the kernel made or that is
// another interface's.
func (u *uplinkView) follows(r foundRoute, stacks map[RouteKey][]foundRoute, made []spec.Route) bool {
	for _, before := range stacks[KeyOf(r.Route)] {
		if before.index == r.index && asFound(before.Route) == asFound(r.Route) {
			return false
		}
		foreign := before.index != u.link.Index
		for _, k := range made {
			foreign = foreign || k == before.Route
		}
		if foreign {
			return true
		}
	}
	return false
}

// sameStack puts the uplink's routes of one key back, in thought, and compares.
func (u *uplinkView) sameStack(key RouteKey, was []foundRoute, made, all []spec.Route) bool {
	var is, want []spec.Route
	there := map[spec.Route]bool{}
	mine := false
	for _, r := range was {
		want = append(want, asFound(r.Route))
		there[asFound(r.Route)] = true
		if r.index != u.link.Index {
			is = append(is, asFound(r.Route))
		} else {
			mine = true
		}
	}
	for _, r := range made {
		if KeyOf(r) == key && there[asFound(r)] {
			is = append(is, asFound(r))
		}
	}
	for _, r := range all {
		if KeyOf(r) != key {
			continue
		}
		if r.Behind {
			is = append(is, asFound(r))
		} else {
			is = append([]spec.Route{asFound(r)}, is...)
		}
	}
	return !mine || fmt.Sprint(is) == fmt.Sprint(want)
}

// ipv6Routes returns those of the main table that do not come by themselves.
func (u *uplinkView) ipv6Routes(made []spec.Route) (all []spec.Route) {
	own := map[netip.Prefix]bool{netip.MustParsePrefix("fe80::/64"): true, netip.MustParsePrefix("ff00::/8"): true}
	for _, a := range u.addresses {
		if a.index == u.link.Index && a.Prefix.Addr().Is6() && !a.permanent {
			own[a.Prefix.Masked()] = true
		}
	}
	missing := map[spec.Route]bool{}
	for _, r := range made {
		missing[r] = r.To.Addr().Is6()
	}
	for _, r := range u.routes {
		switch kernel := r.Protocol == protocolKernel; {
		case r.index != u.link.Index || r.Table != 0 || r.To.Addr().Is4():
		case kernel && missing[r.Route]:
			missing[r.Route] = false
		case kernel && own[r.To] && r.Metric == ipv6Metric && !r.Via.IsValid(), r.Protocol == unix.RTPROT_RA, r.Protocol == unix.RTPROT_REDIRECT:
		default:
			u.carries(r)
			u.onlyOne(r)
			all = append(all, r.Route)
		}
	}
	for r, gone := range missing {
		if gone {
			u.lost("no route of the kernel to %s", r.To)
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return !all[i].Via.IsValid() && all[j].Via.IsValid() })
	return all
}

// onlyOne names an IPv6 route that stands beside another interface's: they would
// be one route with two next hops, or change places.
func (u *uplinkView) onlyOne(r foundRoute) {
	for _, other := range u.routes {
		if other.index != r.index && KeyOf(other.Route) == KeyOf(r.Route) && other.Protocol != protocolKernel {
			u.lost("%s with the metric of one on %s", routeName(r.Route), u.nameOf(other.index))
		}
	}
}

// reachable names routes whose gateways could not be set again: what they were
// reached by is gone.
func (u *uplinkView) reachable(all, made []spec.Route) {
	for _, r := range all {
		ok := !r.Via.IsValid() || r.OnLink || r.Via.IsLinkLocalUnicast() && r.Via.Is6()
		for _, way := range append(append([]spec.Route{}, all...), made...) {
			ok = ok || !way.Via.IsValid() && way.Scope == "" && way.To.Contains(r.Via)
		}
		if !ok {
			u.lost("%s via %s, to which no route is left,", routeName(r), r.Via)
		}
	}
}

// defaultMetric is where our own default route goes among those of other
// interfaces: behind those that the uplink's stood behind.
func (u *uplinkView) defaultMetric() int {
	best, has := 0, false
	for _, r := range u.routes {
		if r.Table == 0 && r.To == everywhere && r.index == u.link.Index && (!has || r.Metric < best) {
			best, has = r.Metric, true
		}
	}
	metric, taken := 0, map[int]bool{}
	for _, r := range u.routes {
		if r.Table == 0 && r.To == everywhere && r.index != u.link.Index && (r.unicast || has) {
			taken[r.Metric] = true
			if (!has || r.Metric <= best) && metric <= r.Metric {
				metric = r.Metric + 1
			}
		}
	}
	for taken[metric] {
		metric++
	}
	return metric
}
