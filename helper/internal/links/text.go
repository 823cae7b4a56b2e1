package links

import (
	"fmt"
	"strings"

	"mobula/helper/internal/spec"
)

// asFound is the route as the kernel tells it: without how it came there.
func asFound(r spec.Route) spec.Route {
	r.Protocol, r.Uplink, r.Behind = protocolOf(r), false, false
	return r
}

// whatItDoes is the route without who made it and when.
func whatItDoes(r spec.Route) spec.Route {
	r = asFound(r)
	r.Protocol = 0
	return r
}

// addressName names an address for the reader.
func addressName(a spec.Address) string {
	name := "address " + a.Prefix.String()
	if a.Peer.IsValid() {
		name += " to " + a.Peer.String()
	}
	return name
}

func routeName(r spec.Route) string {
	name := "route " + r.To.String()
	if r.To.Bits() == 0 {
		name = "default route"
		if r.To.Addr().Is6() {
			name = "default route of IPv6"
		}
	}
	if r.Table != 0 {
		name += fmt.Sprintf(" of table %d", r.Table)
	}
	if r.NS != "" {
		name += " in " + namespaceName(r.NS)
	}
	return name
}

func describeRoute(r spec.Route) string {
	var parts []string
	if r.Via.IsValid() {
		parts = append(parts, "via "+r.Via.String())
	}
	parts = append(parts, "on "+r.Link)
	if r.Source.IsValid() {
		parts = append(parts, "from "+r.Source.String())
	}
	if r.Metrics != "" {
		parts = append(parts, r.Metrics)
	}
	return strings.Join(parts, " ")
}

func describeRule(r spec.Rule) string {
	table := fmt.Sprintf("table %d", r.Table)
	if r.Specific {
		table = "the main table's specific routes"
	}
	if r.From.IsValid() {
		return fmt.Sprintf("from %s to %s", r.From, table)
	}
	return fmt.Sprintf("to %s to %s", r.To, table)
}

func namespaceName(ns string) string {
	if ns == "" {
		return "the host"
	}
	return "namespace " + ns
}

func orNone(name string) string {
	if name == "" {
		return "no bridge"
	}
	return name
}
