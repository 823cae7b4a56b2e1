// Package links compares and changes what rtnetlink(7) holds: network
// namespaces, interfaces, addresses, routes, rules, and their sysctl settings.
package links

import (
	"net/netip"

	"mobula/helper/internal/spec"
)

// State is what a host has.
type State struct {
	Namespaces map[string]bool // false: only the file that a half made or half deleted one leaves
	Links      map[LinkKey]Link
	Addresses  map[spec.Address]bool // Uplink is never set here
	// Routes are in the kernel's order, those that it made itself among them.
	Routes []spec.Route
	// Neighbors are the permanent ones on the access network's links.
	Neighbors map[spec.Neighbor]bool
	Rules     map[spec.Rule]bool
	// Catcher is the priority of the first rule of somebody else's that may take any
	// packet and comes before Mobula's, where they are at home; 0: none.
	Catcher  int
	Settings map[SettingKey]string
	// IPv6Off: an interface that comes into the host's own namespace takes no IPv6.
	IPv6Off bool
}

// LinkKey identifies an interface.
type LinkKey struct{ NS, Name string }

// SettingKey identifies a sysctl(8) setting.
type SettingKey struct{ NS, Key string }

// Link is an interface as it is.
type Link struct {
	spec.Link
	Up bool
}

// RouteKey is what routes have in common of which only the first counts.
type RouteKey struct {
	NS     string
	Table  int // 0: the main table
	To     netip.Prefix
	Metric int
}

// KeyOf returns the key of a route.
func KeyOf(r spec.Route) RouteKey { return RouteKey{r.NS, r.Table, r.To, r.Metric} }

// Kernel is what the comparison needs of a kernel. Every change is idempotent.
type Kernel interface {
	// Observe returns what the host has in its own and the given namespaces:
	// all links, their IPv4 addresses, the routes of the main table and the
	// given one, the rules that lead to it, and Mobula's that lead to specific
	// routes of the main table; of IPv6 what the host's own namespace has of
	// permanent addresses and of routes that stay. Of the settings, those of
	// interfaces that are nowhere or elsewhere are left out.
	Observe(namespaces []string, table int, settings []spec.Setting) (*State, error)
	AddNamespace(name string) error
	DeleteNamespace(name string) error
	// AddLink makes a link, or both ends of a veth pair. What it was interrupted at
	// is found to be another link than the wanted one.
	AddLink(link spec.Link, peer *spec.Link) error
	// SetLink moves an existing link into its namespace and gives it its
	// master, MAC address, MTU and state.
	SetLink(link spec.Link) error
	// RenameLink takes the link down, as kernels before 6.3 want it.
	RenameLink(key LinkKey, name string) error
	DeleteLink(key LinkKey) error
	AddAddress(spec.Address) error
	DeleteAddress(spec.Address) error
	// AddRoute puts the route in front of those with the same key, or behind them.
	// The error for a gateway that is not on the link is unix.ENETUNREACH.
	AddRoute(spec.Route) error
	// DeleteRoute deletes the route with exactly these attributes.
	DeleteRoute(spec.Route) error
	// SetNeighbors deletes neighbors of a link, and makes others permanent.
	SetNeighbors(link LinkKey, come, leave []spec.Neighbor) error
	AddRule(spec.Rule) error
	DeleteRule(spec.Rule) error
	Set(spec.Setting) error
}
