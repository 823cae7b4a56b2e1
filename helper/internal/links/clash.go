package links

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// What of a host clashes with the two networks is what would no longer be reached once
// Mobula is there, or keep it from reaching its members (fib_table_lookup and fib_rules of
// the kernel: the most specific route counts, and the first table that has one):
//
//   - its own address in one of them, or that of the other end of a link;
//   - a route to one of them or to a part of it, in any table that is looked at;
//   - a router in one of them: what that says itself would look as if it came from inside.
//
// A route to more than one of them, as to everything or to 10.0.0.0/8, is none: ours are
// more specific.
func (v *view) clashes(ranges network.Ranges) (problems []error) {
	problem := func(where, what string, ours network.Named) {
		problems = append(problems, fmt.Errorf("%s: found %s, %s", where, what, ours.Wanted()))
	}
	said := map[int]bool{} // interfaces whose addresses are said: their kernel's routes follow from them
	for _, a := range v.addresses {
		text := a.Prefix.String()
		ours, inside := ranges.In(a.Prefix.Addr())
		if !inside && a.Peer.IsValid() {
			ours, inside = ranges.In(a.Peer.Addr())
			text += " with the peer " + a.Peer.String()
		}
		if inside {
			said[a.index] = true
			problem("interface "+a.Link, "address "+text, ours)
		}
	}
	for _, r := range v.routes {
		if !v.looksInto(r) || r.Protocol == protocolKernel && (r.local || said[r.index]) {
			continue
		}
		if ours, inside := ranges.In(r.To.Addr()); inside && r.To.Bits() >= ours.Prefix.Bits() {
			problem(v.placeOf(r), "a route to "+r.To.String()+inTable(r), ours)
			continue
		}
		for _, via := range append(r.vias, r.Via) {
			if ours, inside := ranges.In(via); inside {
				problem(v.placeOf(r), fmt.Sprintf("a route to %s by the router %s%s", r.To, via, inTable(r)), ours)
			}
		}
	}
	return problems
}

// Clashes are those of a host in use, without what is Mobula's own. Where the operator
// gives the access address away, what is in the access network may be what it was given to.
func Clashes(ranges network.Ranges, manual bool) (problems []error, err error) {
	err = again(func() error {
		return in("", func(h *netlink.Handle) error {
			v, err := look(h)
			if err != nil {
				return err
			}
			problems = v.withoutOurs(ranges, manual).clashes(ranges)
			return nil
		})
	})
	return problems, err
}

// withoutOurs leaves out the addresses and routes that a host in use has inside.
func (v *view) withoutOurs(ranges network.Ranges, manual bool) *view {
	others := *v
	ours := func(link string, to netip.Prefix) bool {
		return link == spec.DirectHost || link == spec.AccessLink || manual && ranges.Access().Overlaps(to)
	}
	others.addresses = slices.DeleteFunc(slices.Clone(v.addresses), func(a foundAddress) bool { return ours(a.Link, a.Prefix) })
	others.routes = slices.DeleteFunc(slices.Clone(v.routes), func(r foundRoute) bool { return ours(r.Link, r.To) })
	return &others
}

// looksInto reports that a rule of the host leads to the table of a route. Those that do
// without a number lead to tables of VRFs, which are networks of their own.
func (v *view) looksInto(r foundRoute) bool {
	switch {
	case r.Table == spec.RouteTable:
		return false // said already
	case r.Table == 0 || r.local:
		return true
	}
	return slices.ContainsFunc(v.rules, func(rule foundRule) bool { return rule.table == r.Table })
}

func (v *view) placeOf(r foundRoute) string {
	for _, index := range append([]int{r.index}, r.others...) {
		if name := v.names[index]; name != "" {
			return "interface " + name
		}
	}
	return "routes"
}

func inTable(r foundRoute) string {
	if r.Table == 0 {
		return ""
	}
	return fmt.Sprintf(" in table %d", r.Table)
}
