package spec

import (
	"net/netip"
	"slices"
	"strings"
)

// Shared are the facts of a host with which the NIC stays: nothing of it changes but
// what is noted here.
type Shared struct {
	// Outside are the interfaces with a default route, and Opened those of them that did
	// not forward IPv4; Bridges are those of Opened that are bridges.
	Outside []string `json:"outside"`
	Opened  []string `json:"opened"`
	Bridges []string `json:"bridges,omitempty"`
	// Router: the host forwards for others now, whatever Mobula needs.
	Router bool `json:"-"`
	// NewForward: new interfaces of the host forward IPv4.
	NewForward bool `json:"-"`
}

// WithWays returns the facts with the ways outside that the host has now. Those that it
// had stay: they may come back.
func (f *Facts) WithWays(now Shared) (next *Facts, changed bool) {
	add := func(some, more []string) []string {
		for _, name := range more {
			if !slices.Contains(some, name) {
				some, changed = append(some[:len(some):len(some)], name), true
			}
		}
		return some
	}
	with, s := *f, *f.Shared
	s.Outside, s.Opened, s.Bridges, s.Router = add(s.Outside, now.Outside), add(s.Opened, now.Opened), add(s.Bridges, now.Bridges), now.Router
	with.Shared = &s
	return &with, changed
}

// WithResolver returns the facts with the /etc/resolv.conf that the host has now and the
// resolvers in it, if that is its own: whoever writes it, as for a new lease, wants it
// there when Mobula's is gone. One that is away or without a resolver is on its way.
func (f *Facts) WithResolver(now File, resolvers []netip.Addr) (next *Facts, changed bool) {
	if now.IsOurs() || now == f.ResolvConf || now.Target == "" && !strings.Contains(now.Content, "nameserver") {
		return f, false
	}
	with := *f
	if with.ResolvConf = now; len(resolvers) > 0 {
		with.Resolvers = resolvers
	}
	return &with, true
}

// IsShared reports that the NIC stays with the host.
func (f *Facts) IsShared() bool { return f.Shared != nil }
